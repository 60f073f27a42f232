"""The lane of a device: one thread, one piece of work at a time, and how busy it was."""

from __future__ import annotations

import threading

import pytest

from vadpipe.extractors.device import lane as lane_module
from vadpipe.extractors.device.lane import Lane, lane_of


def test_work_is_done_in_one_thread_and_comes_back() -> None:
    lane = Lane("test")
    idents = {lane.run(threading.get_ident) for _ in range(5)}
    assert len(idents) == 1 and threading.get_ident() not in idents
    assert lane.run(lambda: lane.run(lambda: 3)) == 3, "a turn inside a turn"
    with pytest.raises(ZeroDivisionError):
        lane.run(lambda: 1 / 0)
    assert lane.run(lambda: 4) == 4


class Clock:
    """Stands for the module `time`; goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += seconds


def test_usage_counts_work_and_the_waiting_of_those_who_have_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(lane_module, "time", clock)
    lane = Lane("test")
    clock.go(1)  # no work wants the lane
    assert (lane.usage().busy, lane.usage().waited) == (0.0, 0.0)
    with lane.wanted():
        lane.run(lambda: clock.go(2))
        clock.go(4)
        with lane.wanted():  # by two: the same time counts once
            clock.go(8)
            lane.run(lambda: clock.go(16))
    clock.go(32)
    usage = lane.usage()
    assert (usage.busy, usage.waited) == (2 + 16, 4 + 8)
    assert usage.process.endswith("-test")


def test_a_device_has_one_lane() -> None:
    assert lane_of("cpu") is lane_of("cpu") is not lane_of("other")
