"""Running tasks: outcomes one by one, retries, and tasks that take their worker down."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from distributed import KilledWorker

from vadpipe.pipeline.engine import execute, retries
from vadpipe.pipeline.engine.cluster import ClusterError, open_client
from vadpipe.pipeline.engine.execute import TaskQueue, run_tasks
from vadpipe.pipeline.engine.retries import may_pass
from vadpipe.pipeline.engine.settings import Engine


def halve(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def die_if_odd(n: int) -> int:
    if n % 2:
        os._exit(1)
    return n


def fail_twice(path: str) -> int:
    """Fails until it was called twice; says how often it was."""
    calls = Path(path)
    count = len(calls.read_text()) if calls.exists() else 0
    calls.write_text("x" * (count + 1))
    if count < 2:
        raise OSError(errno.EIO, "the file server blinked")
    return count + 1


# --------------------------------------------------------------------------------------- tasks


def test_each_task_gives_one_outcome_and_errors_cost_only_themselves() -> None:
    with open_client(threads=2) as client:
        outcomes = list(run_tasks(client, halve, range(30)))
    assert sorted(o.task for o in outcomes) == list(range(30))
    for outcome in outcomes:
        if outcome.task % 2:
            assert str(outcome.error) == f"{outcome.task} is odd"
        else:
            assert outcome.value == outcome.task // 2 and outcome.error is None


def test_a_task_that_kills_its_worker_is_given_up() -> None:
    with open_client(Engine(workers=1)) as client:
        outcomes = {o.task: o for o in run_tasks(client, die_if_odd, [0, 1, 2])}
    assert outcomes[0].value == 0 and outcomes[2].value == 2
    assert type(outcomes[1].error).__name__ == "KilledWorker"


def test_what_may_pass_is_tried_again_and_nothing_else(tmp_path: Path) -> None:
    with open_client() as client:
        (outcome,) = run_tasks(client, fail_twice, [str(tmp_path / "calls")])
        assert outcome.value == 3
        (tmp_path / "calls").unlink()
        # two attempts of three are gone when the third succeeds: one more failure would be final
        assert retries.ATTEMPTS == 3
    passing = [
        OSError(errno.ESTALE, ""),
        TimeoutError(),
        ConnectionResetError(errno.ECONNRESET, ""),
    ]
    lasting = [OSError(errno.ENOSPC, ""), ValueError(""), MemoryError(), OSError("no number")]
    assert all(map(may_pass, passing)) and not any(map(may_pass, lasting))


def test_tasks_are_made_when_they_are_wanted() -> None:
    """An archive has more spans than fit into memory."""
    made: list[int] = []

    def tasks() -> Iterator[int]:
        for i in range(0, 400, 2):
            made.append(i)
            yield i

    most = 0
    with open_client(threads=2) as client:
        for done, _ in enumerate(run_tasks(client, halve, tasks())):
            most = max(most, len(made) - done)
    assert len(made) == 200 and most <= 2 * execute.AHEAD + 2


def test_tasks_may_be_added_while_others_run() -> None:
    queue: TaskQueue[int] = TaskQueue([2, 4])
    seen = []
    with open_client() as client:
        for outcome in run_tasks(client, halve, queue):
            seen.append(outcome.task)
            if outcome.task <= 8:
                queue.add(outcome.task * 10)
    assert sorted(seen) == [2, 4, 20, 40]


def test_stopping_early_cancels_what_has_not_begun(tmp_path: Path) -> None:
    def touch(n: int) -> int:
        time.sleep(0.05)
        (tmp_path / str(n)).touch()
        return n

    with open_client(threads=1) as client:
        outcomes = run_tasks(client, touch, range(100))
        next(outcomes)
        outcomes.close()
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) < 10


def test_tasks_of_a_group_share_the_fate_of_one_that_kills(tmp_path: Path) -> None:
    """Thirty deadly tasks cost a few workers, not sixty; other groups lose nothing."""
    tasks = [(n, str(tmp_path)) for n in range(40)]
    with open_client(Engine(workers=2)) as client:
        outcomes = {
            o.task[0]: o for o in run_tasks(client, die_below_30, tasks, group=lambda t: t[0] < 30)
        }
    assert len(outcomes) == 40
    for n, outcome in outcomes.items():
        assert isinstance(outcome.error, KilledWorker) == (n < 30)
        assert outcome.value == (None if n < 30 else n)
    deaths = len(list(tmp_path.iterdir()))
    assert deaths <= 12, f"{deaths} workers were killed"


def test_innocent_tasks_of_a_suspected_group_are_done(tmp_path: Path) -> None:
    """One task of the group dies with its worker once, as for want of memory: all are done."""
    tasks = [(n, str(tmp_path)) for n in range(6)]
    with open_client(Engine(workers=1)) as client:
        outcomes = list(run_tasks(client, die_twice, tasks, group=lambda t: "one"))
    assert sorted(o.value for o in outcomes) == list(range(6))


def die_below_30(task: tuple[int, str]) -> int:
    number, folder = task
    if number < 30:
        (Path(folder) / f"{time.monotonic_ns()}-{os.getpid()}").touch()
        os._exit(1)
    return number


def die_twice(task: tuple[int, str]) -> int:
    """The first task that is run kills its worker, and the next one too: then it is a suspect."""
    number, folder = task
    calls = len(list(Path(folder).iterdir()))
    if calls < 2:
        (Path(folder) / str(calls)).touch()
        os._exit(1)
    return number


def test_tasks_that_are_added_while_suspects_run_are_done(tmp_path: Path) -> None:
    """What becomes of a suspect may ask for more, when all others have long ended."""
    queue = TaskQueue([(0, str(tmp_path))])
    seen: list[int] = []
    with open_client(Engine(workers=1)) as client:
        for outcome in run_tasks(client, die_twice, queue, group=lambda t: "one"):
            assert outcome.error is None
            seen.append(outcome.task[0])
            if outcome.task[0] < 2:
                queue.add((outcome.task[0] + 1, str(tmp_path)))
    assert seen == [0, 1, 2]


def test_a_task_that_may_pass_is_not_tried_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server needs a moment; others go on meanwhile."""
    monkeypatch.setattr(retries, "PAUSE_SECONDS", 0.2)
    begin = time.monotonic()
    with open_client() as client:
        (outcome,) = run_tasks(client, fail_twice, [str(tmp_path / "calls")])
    assert outcome.value == 3 and time.monotonic() - begin >= 0.2 + 0.4


def test_a_lost_connection_is_no_fault_of_the_tasks() -> None:
    """Those at work are submitted again; once the client gives up, the run ends and says why."""
    assert may_pass(CancelledError())
    with open_client() as client:
        outcomes = run_tasks(client, halve, [2, 4, 6, 8, 10, 12])
        next(outcomes)
        client.status = "closed"
        with pytest.raises(ClusterError, match="run the same command again"):
            list(outcomes)
        client.status = "running"
