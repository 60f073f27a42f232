"""The lane of a device: one thread, one piece of work at a time, and how busy it was."""

from __future__ import annotations

import threading
import time

import pytest

from vadpipe.extractors.device.lane import Lane, lane_of


def test_work_is_done_in_one_thread_and_comes_back() -> None:
    lane = Lane("test")
    idents = {lane.run(threading.get_ident) for _ in range(5)}
    assert len(idents) == 1 and threading.get_ident() not in idents
    assert lane.run(lambda: lane.run(lambda: 3)) == 3, "a turn inside a turn"
    with pytest.raises(ZeroDivisionError):
        lane.run(lambda: 1 / 0)
    assert lane.run(lambda: 4) == 4


def test_usage_counts_work_and_the_waiting_of_those_who_have_some() -> None:
    lane = Lane("test")
    time.sleep(0.05)  # no work wants the lane
    assert (lane.usage().busy, lane.usage().waited) == (0.0, 0.0)
    with lane.wanted():
        lane.run(lambda: time.sleep(0.05))
        time.sleep(0.1)
        with lane.wanted():  # by two: the same time counts once
            time.sleep(0.1)
            lane.run(lambda: time.sleep(0.05))
    time.sleep(0.05)
    usage = lane.usage()
    assert usage.busy == pytest.approx(0.1, abs=0.04)
    assert usage.waited == pytest.approx(0.2, abs=0.04)
    assert usage.process.endswith("-test")


def test_a_device_has_one_lane() -> None:
    assert lane_of("cpu") is lane_of("cpu") is not lane_of("other")
