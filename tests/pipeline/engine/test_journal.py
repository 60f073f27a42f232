"""The journal: what a run's file says while it runs, when it ends, and when its process is gone."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from vadpipe.extractors.device.lane import Usage
from vadpipe.pipeline.engine import journal as journal_module
from vadpipe.pipeline.engine.journal import (
    CLOCK_SECONDS,
    KEPT,
    SHOWN,
    SILENT_SECONDS,
    Journal,
    RunState,
    elapsed,
    journal,
    read_runs,
)
from vadpipe.pipeline.store.failures import Failure

TOTALS = {"videos": 3, "spans": 8, "frames": 1000}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(journal_module, "time", clock)
    return clock


def state(**changes: Any) -> RunState:
    now = datetime.now(UTC).isoformat()
    host = socket.gethostname()
    made = RunState("name", "vadpipe", host, os.getpid(), now, now, "running", 3, 8, 1000)
    return replace(made, **changes)


def kept_at(clock: Clock, cache: Path, **changes: Any) -> Journal:
    return Journal(cache, state(**changes), _begin=clock.now)


def the_run(cache: Path) -> RunState:
    (found,) = read_runs(cache)
    return found


# --------------------------------------------------------------------------------------- states


def test_a_run_goes_from_running_to_done(tmp_path: Path) -> None:
    with journal(tmp_path, "vadpipe extract m.parquet", TOTALS) as kept:
        begun = the_run(tmp_path)
        assert (begun.state, begun.command) == ("running", "vadpipe extract m.parquet")
        assert (begun.videos, begun.spans, begun.frames) == (3, 8, 1000)
        assert (begun.host, begun.pid) == (socket.gethostname(), os.getpid())
        assert not begun.lost()
        kept.update(frames_done=700, running=("a.mp4",), now=True)
        assert the_run(tmp_path).running == ("a.mp4",)
        kept.update(frames_done=1000)
    ended = the_run(tmp_path)
    assert (ended.state, ended.frames_done, ended.running) == ("done", 1000, ())
    assert ended.name == begun.name and not ended.lost()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyboardInterrupt, "stopped"),
        (GeneratorExit, "stopped"),
        (OSError, "failed"),
        (SystemExit, "failed"),
    ],
)
def test_what_ends_a_run_is_what_its_file_says(
    tmp_path: Path, error: type[BaseException], says: str
) -> None:
    with pytest.raises(error), journal(tmp_path, "", TOTALS) as kept:
        kept.update(spans_done=5, running=("a.mp4",))
        raise error
    ended = the_run(tmp_path)
    assert (ended.state, ended.spans_done, ended.running) == (says, 5, ())
    assert ended.seconds_left is None


def test_runs_are_listed_by_their_start_the_latest_last(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    names = [f"2026{month:02}01T120000-host-1-0000" for month in range(1, 8)]
    for name in random.Random(0).sample(names, len(names)):
        (folder / f"{name}.json").write_text(json.dumps(asdict(state(name=name))))
    assert [run.name for run in read_runs(tmp_path)] == names
    assert [run.name for run in read_runs(tmp_path, 2)] == names[-2:]
    assert read_runs(tmp_path / "nothing") == []


def test_runs_of_one_second_are_in_order_too(tmp_path: Path) -> None:
    for number in range(20):
        with journal(tmp_path, f"{number}", TOTALS):
            pass
    assert [run.command for run in read_runs(tmp_path)] == [str(n) for n in range(20)]


def test_only_the_last_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT", 3)
    folder = tmp_path / "runs"
    folder.mkdir()
    names = [f"202601{day:02}T120000-host-1-0000" for day in range(1, 10)]
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(asdict(state(name=name))))
    with journal(tmp_path, "", TOTALS) as kept:
        assert [run.name for run in read_runs(tmp_path)] == [*names[-3:], kept.state.name]
    assert KEPT == 100 and len(list(folder.iterdir())) == 4


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff\xfe",
        b"{}",
        json.dumps({**asdict(state()), "colour": "red"}).encode(),
        json.dumps({k: v for k, v in asdict(state()).items() if k != "failures"}).encode(),
        json.dumps({**asdict(state()), "running": None}).encode(),
    ],
)
def test_damaged_files_are_left_out(tmp_path: Path, damage: bytes) -> None:
    with journal(tmp_path, "", TOTALS):
        pass
    good = the_run(tmp_path)
    (tmp_path / "runs" / "2999.json").write_bytes(damage)
    assert read_runs(tmp_path) == [good]


# --------------------------------------------------------------------------------------- writing


def test_the_file_follows_once_a_second_at_most(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    monkeypatch.setattr(journal_module, "_write", lambda *_: written.append(clock.now))
    kept = kept_at(clock, tmp_path)
    for tick in range(0, 500):
        clock.now = tick / 100
        kept.update(frames_done=tick)
    assert written == [0, 1, 2, 3, 4]
    kept.update(now=True)
    assert written[-1] == clock.now == 4.99
    assert kept.state.frames_done == 499, "what is known does not wait for the file"
    monkeypatch.setattr(journal_module, "EVERY_SECONDS", 0.0)
    kept.update()
    kept.update()
    assert len(written) == 8


def test_a_cache_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder belongs")
    with journal(tmp_path, "", TOTALS) as kept:
        kept.update(now=True, frames_done=10)
        kept.fail(Failure("01", "extract", "NoFrames", "none"))
    assert (kept.state.state, kept.state.frames_done, kept.state.failed) == ("done", 10, 1)
    assert read_runs(tmp_path) == []


def test_whoever_reads_meanwhile_sees_a_whole_file(tmp_path: Path) -> None:
    with journal(tmp_path, "", TOTALS) as kept:
        for i in range(50):
            kept.update(now=True, running=tuple(f"{i}.mp4" for _ in range(i)))
            assert len(the_run(tmp_path).running) == i
    assert [path.suffix for path in (tmp_path / "runs").iterdir()] == [".json"]


def test_the_latest_failures_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    with journal(tmp_path, "", TOTALS) as kept:
        for i in range(SHOWN + 5):
            kept.fail(Failure(f"{i}", "extract", "NoFrames", "no frame comes out"))
    ended = the_run(tmp_path)
    assert ended.failed == SHOWN + 5
    assert [f["video_id"] for f in ended.failures] == [str(i) for i in range(5, SHOWN + 5)]
    assert ended.lines()[-1] == f"  failed: {SHOWN + 4}: NoFrames: no frame comes out"


# --------------------------------------------------------------------------------------- rates


def test_rate_and_time_left(tmp_path: Path, clock: Clock) -> None:
    kept = kept_at(clock, tmp_path)
    clock.now = 4.0
    kept.update()
    assert kept.state.frames_per_second == 0 and kept.state.seconds_left is None
    kept.update(frames_done=200)
    assert kept.state.frames_per_second == 50
    assert kept.state.seconds_left == 16
    clock.now = 20.0
    kept.update(frames_done=1000)
    assert kept.state.seconds_left is None
    assert state().frames_per_second == 0, "no time has passed"


@pytest.mark.parametrize("ended", ["done", "failed", "stopped"])
def test_what_has_ended_has_no_time_left(ended: Any) -> None:
    half = state(frames_done=500, seconds=5.0)
    assert half.seconds_left == 5 and replace(half, state=ended).seconds_left is None


def test_a_clock_on_the_wall_that_goes_back_changes_no_rate(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_at(clock, tmp_path)
    clock.now = 10.0
    past = SimpleNamespace(
        now=lambda _: datetime(1999, 12, 31, tzinfo=UTC), fromisoformat=datetime.fromisoformat
    )
    monkeypatch.setattr(journal_module, "datetime", past)
    kept.update(now=True, frames_done=100)
    assert kept.state.updated.startswith("1999-12-31")
    assert (kept.state.seconds, kept.state.frames_per_second) == (10.0, 10.0)
    assert kept.state.seconds_left == 90
    assert the_run(tmp_path) == kept.state


def usage(process: str, busy: float, waited: float) -> Usage:
    return Usage(process, busy, waited)


def test_the_share_of_waiting_is_that_of_all_processes_together(tmp_path: Path) -> None:
    """Tasks overlap and come back in any order; what was before the run does not count."""
    reports = [
        # 3 busy and 1 waited in this run, after 100 and 50 before it
        ("a", (100.0, 50.0), (101.0, 50.0)),
        ("a", (100.5, 50.0), (102.5, 51.0)),
        ("a", (102.0, 50.5), (103.0, 51.0)),
        ("b", (0.0, 0.0), (5.0, 1.0)),  # another has 5 and 7
        ("b", (2.0, 0.5), (5.0, 7.0)),
    ]
    for seed in range(10):
        kept = Journal(tmp_path, state())
        for process, before, after in random.Random(seed).sample(reports, len(reports)):
            kept.note_usage(usage(process, *before), usage(process, *after))
        assert kept.waited() == pytest.approx((1 + 7) / (3 + 5 + 1 + 7))
    kept.update()
    assert kept.state.waited == kept.waited()


def test_without_a_network_there_is_no_waiting_time(tmp_path: Path) -> None:
    kept = Journal(tmp_path, state())
    assert kept.waited() is None
    kept.note_usage(usage("a", 0.0, 1.0), usage("a", 0.0, 5.0))
    assert kept.waited() is None


# --------------------------------------------------------------------------------------- lost runs


def test_a_run_whose_number_another_process_has_is_lost() -> None:
    """After a restart the numbers of processes begin again."""
    began = datetime.fromtimestamp(psutil.Process().create_time(), UTC)

    def started(seconds: float) -> RunState:
        return state(pid=os.getpid(), started=(began + timedelta(seconds=seconds)).isoformat())

    assert not started(1).lost() and not started(-CLOCK_SECONDS / 2).lost()
    assert started(-2 * CLOCK_SECONDS).lost()


def test_a_run_whose_process_is_gone_is_lost() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    gone = state(pid=process.pid)
    assert gone.lost() and "lost (its process is gone; run it again)" in gone.lines()[0]
    assert not state().lost() and "running" in state().lines()[0]
    for ended in ("done", "failed", "stopped"):
        assert not replace(gone, state=ended).lost()  # type: ignore[arg-type]


def test_a_run_on_another_host_is_lost_when_it_has_been_silent_for_long() -> None:
    def heard(seconds: float) -> RunState:
        moment = datetime.now(UTC) - timedelta(seconds=seconds)
        return state(host="elsewhere", pid=1, updated=moment.isoformat(timespec="milliseconds"))

    assert not heard(SILENT_SECONDS - 10).lost()
    assert heard(SILENT_SECONDS + 10).lost()
    assert not replace(heard(1e6), state="done").lost()


# --------------------------------------------------------------------------------------- people


def test_lines_for_people() -> None:
    half = state(
        command="vadpipe extract m.parquet",
        videos_done=1,
        spans_done=4,
        frames_done=500,
        shards=1234,
        failed=1,
        seconds=5.0,
        waited=0.0412,
        running=("a.mp4", "b.mp4"),
        failures=({"video_id": "c", "error": "NoFrames", "message": "none"},),
    )
    assert half.lines() == [
        "name  running  vadpipe extract m.parquet",
        "  1 of 3 videos, 4 of 8 spans, 1,234 shards written, 1 video failed",
        "  00:00:05, 100 frames/s, devices waited 4 % of it, about 00:00:05 left",
        "  running: a.mp4, b.mp4",
        "  failed: c: NoFrames: none",
    ]
    assert state().lines()[2] == "  00:00:00, 0 frames/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00"),
        (59.99, "00:00:59"),
        (3_599, "00:59:59"),
        (3_600, "01:00:00"),
        (86_399, "23:59:59"),
        (86_400, "1 d 00:00:00"),
        (2 * 86_400 + 3 * 3_600 + 4 * 60 + 5, "2 d 03:04:05"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
