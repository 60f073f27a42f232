"""overlap: order, errors of one item, bounds on what is in memory, and an early end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from vadpipe.pipeline.engine.overlap import overlapped, overlapped_groups

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


# ---------------------------------------------------------------------------------------- groups


def test_items_of_a_group_are_computed_together() -> None:
    together: list[list[int]] = []
    written: dict[int, int] = {}

    def compute(reads: list[int]) -> list[int]:
        together.append(reads)
        return [10 * each for each in reads]

    groups = [[0, 1, 2], [3], [4, 5]]
    ends = list(overlapped_groups(groups, lambda i: i + 1, compute, written.__setitem__))
    assert ends == [(i, None) for i in range(6)]
    assert together == [[1, 2, 3], [4], [5, 6]]
    assert written == {i: 10 * (i + 1) for i in range(6)}


def test_an_error_costs_one_item_of_a_group() -> None:
    """Wherever it is raised; the others of its group are computed one by one."""
    written: dict[int, int] = {}

    def failing(at: int) -> Callable[..., Any]:
        def step(item: int, *_: Any) -> int:
            if item == at:
                raise ValueError(f"item {item}")
            return item

        return step

    def compute(reads: list[int]) -> list[int]:
        if 3 in reads:
            raise KeyError("item 3")
        return reads

    def write(item: int, result: int) -> None:
        failing(5)(item)
        written[item] = result

    groups = [[0, 1, 2], [3, 4, 5], [6]]
    ends = dict(overlapped_groups(groups, failing(1), compute, write))
    assert list(ends) == list(range(7)) and written.keys() == {0, 2, 4, 6}
    assert {i: str(error) for i, error in ends.items() if error} == {
        1: "item 1",
        3: "'item 3'",
        5: "item 5",
    }


def test_a_group_of_which_nothing_can_be_read() -> None:
    def read(item: int) -> int:
        raise OSError(f"item {item}")

    ends = list(overlapped_groups([[0, 1]], read, lambda reads: [*reads], lambda *_: None))
    assert [(item, str(error)) for item, error in ends] == [(0, "item 0"), (1, "item 1")]


def test_a_large_result_of_a_group_is_written_before_the_next_is_computed() -> None:
    events: list[str] = []

    def compute(reads: list[int]) -> list[int]:
        events.append(f"compute {reads}")
        return reads

    list(
        overlapped_groups(
            [[0, 1], [2]],
            lambda i: i,
            compute,
            lambda i, _: events.append(f"write {i}"),
            alone=lambda result: result == 1,
        )
    )
    assert events == ["compute [0, 1]", "write 0", "write 1", "compute [2]", "write 2"]
