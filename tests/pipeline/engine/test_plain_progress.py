"""Progress without a terminal: done, rate and time left, by a clock that the test turns."""

from __future__ import annotations

import threading

import pytest

from vadpipe.pipeline.engine.plain_progress import PlainProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shown() -> tuple[PlainProgress, Clock, list[str]]:
    lines: list[str] = []
    clock = Clock()
    return PlainProgress(lines.append, clock), clock, lines


def test_a_line_says_done_rate_and_time_left(shown) -> None:
    progress, clock, lines = shown
    bar = progress.add_task("extract", 400)
    clock.now += 30
    progress.tell()
    progress.advance(bar, 120)
    progress.tell()
    assert lines == [
        "extract: 0 of 400, after 0:30",
        "extract: 120 of 400 (30 %), 4 a second, 1:10 left",
    ]


def test_slow_steps_have_a_rate_a_minute_and_hours(shown) -> None:
    progress, clock, lines = shown
    bar = progress.add_task("score", 10)
    progress.advance(bar, 1)
    clock.now += 1200
    progress.tell()
    assert lines == ["score: 1 of 10 (10 %), 0.05 a minute, 3:00:00 left"]


def test_what_is_finished_or_removed_says_nothing(shown) -> None:
    progress, clock, lines = shown
    done, gone = progress.add_task("done", 2), progress.add_task("gone", 5)
    progress.advance(done, 2)
    progress.remove_task(gone)
    clock.now += 30
    progress.tell()
    progress.refresh()
    assert lines == []


def test_lines_come_by_themselves_until_the_end() -> None:
    said = threading.Event()
    progress = PlainProgress(lambda line: said.set())
    progress.add_task("extract", 3)
    with progress.telling(every=0.001):
        assert said.wait(30)
    assert not [t for t in threading.enumerate() if t.name == "progress"]
