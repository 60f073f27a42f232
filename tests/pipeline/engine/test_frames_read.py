"""How far tasks are, frame by frame: sums that are right whatever is read again."""

from __future__ import annotations

from vadpipe.pipeline.engine.frames_read import EVERY_SECONDS, FramesRead, Teller, following


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += EVERY_SECONDS
        return self.now


def test_what_a_task_has_told_is_not_counted_again_at_its_end() -> None:
    steps: list[float] = []
    progress = FramesRead(steps.append)
    progress.read("a", 30)
    progress.read("b", 5)
    progress.read("a", 70)
    progress.ended("a", 100)
    progress.ended("b", 5)
    assert steps == [30, 5, 40, 30]


def test_another_attempt_waits_until_it_is_further_than_the_first() -> None:
    steps: list[float] = []
    progress = FramesRead(steps.append)
    for read in (60, 10, 50, 80):
        progress.read("a", read)
    progress.ended("a", 100)
    assert steps == [60, 20, 20]


def test_frames_that_are_read_again_are_taken_back() -> None:
    steps: list[float] = []
    progress = FramesRead(steps.append)
    progress.ended("a", 100)
    progress.again(100)
    progress.ended("a", 100)
    assert sum(steps) == 100 and min(steps) == -100


def test_a_task_tells_its_place_and_never_more_than_its_frames() -> None:
    steps: list[float] = []
    with following("run", steps.append):
        teller = Teller("run", "a", 1000, 50, Clock())
        for index in (990, 1009, 1029, 1200):  # context before the span; a file longer than said
            teller.read(index)
    assert steps == [10, 20, 20]


def test_a_task_tells_at_intervals_only() -> None:
    steps: list[float] = []
    with following("run", steps.append):
        teller = Teller("run", "a", 0, 50, lambda: 7.0)
        teller.read(20)
    assert steps == []


def test_without_a_run_that_is_followed_nothing_is_told() -> None:
    with following("other", lambda step: 1 / 0):
        Teller("run", "a", 0, 50, Clock()).read(20)
