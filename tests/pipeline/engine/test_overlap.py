"""overlap: order, errors of one item, bounds on what is in memory, and an early end."""

from __future__ import annotations

import threading
import weakref
from contextlib import closing

import pytest

from vadpipe.pipeline.engine.overlap import overlapped

WAIT = 10.0  # seconds, for what happens at once


def test_items_come_in_order_with_their_results_written() -> None:
    written: list[int] = []
    ends = overlapped(
        range(20), lambda i: i * 2, lambda i, x: x + i, lambda i, r: written.append(r)
    )
    assert list(ends) == [(i, None) for i in range(20)]
    assert written == [3 * i for i in range(20)]
    assert list(overlapped([], lambda i: i, lambda i, x: x, lambda i, r: None)) == []


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_an_error_costs_one_item(step: str) -> None:
    def fails(at: str, i: int) -> None:
        if at == step and i == 3:
            raise ValueError(f"{at} of {i}")

    written = []

    def write(i: int, result: int) -> None:
        fails("write", i)
        written.append(i)

    ends = overlapped(
        range(6), lambda i: fails("read", i), lambda i, x: fails("compute", i) or i, write
    )
    found = list(ends)
    assert [i for i, _ in found] == list(range(6))
    assert [str(error) for _, error in found if error] == [f"{step} of 3"]
    assert written == [0, 1, 2, 4, 5]


def test_reading_and_writing_go_on_while_an_item_is_computed() -> None:
    read, wrote = threading.Event(), threading.Event()

    def compute(i: int, _: None) -> int:
        if i == 1:
            assert read.wait(WAIT), "2 is read while 1 is computed"
            assert wrote.wait(WAIT), "0 is written while 1 is computed"
        return i

    ends = overlapped(
        range(3),
        lambda i: read.set() if i == 2 else None,
        compute,
        lambda i, r: wrote.set() if i == 0 else None,
    )
    assert [error for _, error in ends] == [None] * 3


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_is_read_ahead_than_asked_for(ahead: int) -> None:
    read: list[int] = []
    worst: list[int] = []

    def compute(i: int, _: None) -> int:
        worst.append(len(read) - i - 1)
        return i

    list(overlapped(range(30), read.append, compute, lambda i, r: None, ahead=ahead))
    assert max(worst) <= ahead and len(read) == 30


@pytest.mark.parametrize(("alone", "most"), [(False, 2), (True, 1)])
def test_few_results_wait_to_be_written(alone: bool, most: int) -> None:
    """With `alone`, none does while the next one is computed."""
    kept: set[int] = set()
    worst = 0

    def compute(i: int, _: int) -> int:
        nonlocal worst
        worst = max(worst, len(kept) + 1)
        kept.add(i)
        return i

    def write(i: int, result: int) -> None:
        kept.discard(i)

    for _ in overlapped(range(30), lambda i: i, compute, write, alone=lambda r: alone):
        pass
    assert worst <= most


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    read: list[int] = []
    with closing(overlapped(range(1000), read.append, lambda i, x: i, lambda i, r: None)) as ends:
        next(ends)
    assert threading.active_count() == before and len(read) < 10


def test_ctrl_c_in_a_step_ends_it_all() -> None:
    def compute(i: int, _: None) -> int:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(9), lambda i: None, compute, lambda i, r: None))
    assert threading.active_count() == before


class Thing:
    """What can be seen to be gone."""


@pytest.mark.parametrize("fails", [False, True], ids=["written", "failed"])
def test_what_was_read_is_gone_once_it_is_computed(fails: bool) -> None:
    """Before its result is written, and before the next item is computed."""
    read: list[weakref.ref[Thing]] = []
    held: list[object] = []

    def compute(i: int, thing: Thing) -> int:
        held.extend(ref() for ref in read[:-1])
        read.append(weakref.ref(thing))
        if fails:
            raise ValueError
        return i

    def write(i: int, result: int) -> None:
        held.append(read[i]())

    ends = list(overlapped(range(4), lambda i: Thing(), compute, write))
    assert [type(error) for _, error in ends] == [ValueError if fails else type(None)] * 4
    assert [ref() for ref in read] == [None] * 4 and not any(held)


def test_results_are_gone_where_they_could_not_be_written() -> None:
    made: list[weakref.ref[Thing]] = []

    def compute(i: int, _: int) -> Thing:
        made.append(weakref.ref(thing := Thing()))
        return thing

    def write(i: int, result: Thing) -> None:
        raise OSError

    ends = list(overlapped(range(2), lambda i: i, compute, write))
    assert [type(error) for _, error in ends] == [OSError] * 2
    assert [ref() for ref in made] == [None] * 2
