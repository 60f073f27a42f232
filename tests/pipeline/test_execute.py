"""The engine's client: outcomes one by one, and no open doors."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from vadpipe.pipeline.execute import (
    Failure,
    describe_failure,
    open_client,
    run_tasks,
    write_failures,
)


def halve(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def die_if_odd(n: int) -> int:
    if n % 2:
        os._exit(1)
    return n


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
    with open_client(workers=1) as client:
        outcomes = {o.task: o for o in run_tasks(client, die_if_odd, [0, 1, 2])}
    assert outcomes[0].value == 0 and outcomes[2].value == 2
    assert type(outcomes[1].error).__name__ == "KilledWorker"


def test_nothing_listens_beyond_loopback() -> None:
    for workers in (0, 1):
        with open_client(workers=workers) as client:
            assert next(iter(run_tasks(client, halve, [4]))).value == 2
            me = psutil.Process()
            listening = [
                connection.laddr.ip
                for process in (me, *me.children(recursive=True))
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            ]
        assert set(listening) <= {"127.0.0.1", "::1"}


def test_failures_are_written_even_when_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "failures.parquet"
    write_failures(path, [])
    assert pq.read_table(path).num_rows == 0
    failure = describe_failure("a", "probe", ValueError("no"))
    assert failure == Failure("a", "probe", "ValueError", "no")
    write_failures(path, [failure])
    assert pq.read_table(path).to_pylist() == [vars(failure)]
