"""A context that several users share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vadpipe.pipeline.engine.shared_context import SharedContext


def test_the_first_user_begins_it_and_the_last_one_ends_it() -> None:
    seen: list[str] = []

    @contextmanager
    def context() -> Iterator[int]:
        seen.append("begin")
        yield len(seen)
        seen.append("end")

    shared = SharedContext(context)
    assert (shared.enter(), shared.enter()) == (1, 1)
    assert not shared.leave() and seen == ["begin"]
    assert shared.leave() and seen == ["begin", "end"]
    assert shared.enter() == 3
    assert shared.leave() and seen == ["begin", "end"] * 2


def test_users_in_threads_never_see_it_ended() -> None:
    alive = 0

    @contextmanager
    def context() -> Iterator[list[bool]]:
        nonlocal alive
        alive += 1
        state = [True]
        yield state
        state[0] = False
        alive -= 1

    shared = SharedContext(context)
    wrong: list[str] = []
    gate = threading.Barrier(8)

    def use() -> None:
        gate.wait()
        for _ in range(300):
            with shared.used() as state:
                if not state[0] or alive != 1:
                    wrong.append("ended while it was used")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and alive == 0


def test_a_context_that_cannot_begin_is_tried_again() -> None:
    tries: list[int] = []

    @contextmanager
    def context() -> Iterator[str]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not now")
        yield "value"

    shared = SharedContext(context)
    with pytest.raises(OSError, match="not now"):
        shared.enter()
    assert shared.enter() == "value"
    assert shared.leave()
