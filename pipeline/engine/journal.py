"""What a run is doing, for `vadpipe status`, while it runs and after."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

import psutil
from pydantic import TypeAdapter

from ...data_manifests.atomic import CannotWrite, write_text
from ...data_manifests.plain_text import counted
from ...data_manifests.stored import DamagedFile, leave_out, read_json
from ...extractors.device.lane import Usage
from ..store.failures import Failure

EVERY_SECONDS = 1.0  # at most one update of the file
SILENT_SECONDS = 120.0  # without an update, a run on another host counts as lost
CLOCK_SECONDS = 60.0  # by which the times of processes may move when a clock is set
KEPT = 100  # files of earlier runs
SHOWN = 20  # failures and running videos in the file

_FAILURE = {"video_id", "stage", "error", "message"}

State = Literal["running", "done", "failed", "stopped"]


@dataclass(frozen=True)
class RunState:
    """One run as its file says.

    Attributes:
        name: of the file, without its ending.
        command: as typed.
        host: where the coordinator runs.
        pid: its process.
        started: UTC, ISO 8601.
        updated: UTC, ISO 8601.
        state: "running" until the run ends.
        videos: with something to do.
        spans: to be decoded.
        frames: to be decoded.
        videos_done: finished or failed.
        spans_done: of finished or failed tasks.
        frames_done: of finished or failed tasks.
        shards: written.
        failed: videos.
        seconds: since the start, by a clock that never goes back.
        waited: share of the time that devices had nothing to do, where networks run.
        running: videos at work.
        failures: the latest.
    """

    name: str
    command: str
    host: str
    pid: int
    started: str
    updated: str
    state: State
    videos: int
    spans: int
    frames: int
    videos_done: int = 0
    spans_done: int = 0
    frames_done: int = 0
    shards: int = 0
    failed: int = 0
    seconds: float = 0.0
    waited: float | None = None
    running: tuple[str, ...] = ()
    failures: tuple[dict[str, str], ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Decoded frames per second so far."""
        return self.frames_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None where nothing is done yet or nothing is left."""
        left = self.frames - self.frames_done
        if self.state != "running" or left <= 0 or self.frames_per_second <= 0:
            return None
        return left / self.frames_per_second

    def lost(self) -> bool:
        """Whether the file says "running" but the process is gone."""
        if self.state != "running":
            return False
        if self.host == socket.gethostname():
            return not self._has_its_process()
        silent = datetime.now(UTC) - datetime.fromisoformat(self.updated)
        return silent.total_seconds() > SILENT_SECONDS

    def _has_its_process(self) -> bool:
        """Whether the process is there; another one may have its number by now."""
        try:
            began: float = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True  # it is there, and may not be looked at
        return began <= datetime.fromisoformat(self.started).timestamp() + CLOCK_SECONDS

    def lines(self) -> list[str]:
        """For people."""
        state = "lost (its process is gone; run it again)" if self.lost() else self.state
        lines = [
            f"{self.name}  {state}  {self.command}",
            f"  {self.videos_done:,} of {counted(self.videos, 'video')}, {self.spans_done:,} of "
            f"{counted(self.spans, 'span')}, {counted(self.shards, 'shard')} written, "
            f"{counted(self.failed, 'video')} failed",
            f"  {elapsed(self.seconds)}, {self.frames_per_second:,.0f} frames/s"
            + ("" if self.waited is None else f", devices waited {100 * self.waited:.0f} % of it")
            + ("" if self.seconds_left is None else f", about {elapsed(self.seconds_left)} left"),
        ]
        if self.running and state == "running":
            lines.append(f"  running: {', '.join(self.running)}")
        lines += [f"  failed: {f['video_id']}: {f['error']}: {f['message']}" for f in self.failures]
        return lines


@dataclass
class Journal:
    """Keeps the file of a run up to date. If it cannot be written, the run goes on."""

    cache: Path
    state: RunState
    _begin: float = field(default_factory=time.monotonic)
    _written: float = -EVERY_SECONDS
    _usage: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)

    def note_usage(self, before: Usage, after: Usage) -> None:
        """Take in what a device had done when a task began, and when it ended."""
        first, last = self._usage.get(after.process, (before, after))
        self._usage[after.process] = (
            min(first, before, key=lambda usage: usage.busy),
            max(last, after, key=lambda usage: usage.busy + usage.waited),
        )

    def waited(self) -> float | None:
        """Share of the time that devices had nothing to do; None where none has computed."""
        busy = sum(last.busy - first.busy for first, last in self._usage.values())
        waited = sum(last.waited - first.waited for first, last in self._usage.values())
        return waited / (busy + waited) if busy else None

    def update(self, *, now: bool = False, **changes: object) -> None:
        """Change fields; the file is written once a second at most, or `now`."""
        seconds = time.monotonic() - self._begin
        self.state = replace(
            self.state,
            seconds=seconds,
            waited=self.waited(),
            updated=_utc(),
            **changes,  # type: ignore[arg-type]
        )
        if now or seconds - self._written >= EVERY_SECONDS:
            self._written = seconds
            _write(self.cache, self.state)

    def fail(self, failure: Failure) -> None:
        """Add a failure."""
        rows = (*self.state.failures, {k: str(v) for k, v in asdict(failure).items()})
        self.update(failed=self.state.failed + 1, failures=rows[-SHOWN:])


@contextmanager
def journal(
    cache: Path, command: str, totals: Mapping[str, int], failed: Sequence[Failure] = ()
) -> Iterator[Journal]:
    """The journal of a run. At the end its file says how the run ended.

    Args:
        cache:
            Root of the cache.
        command:
            As typed.
        totals:
            `videos`, `spans` and `frames` to do.
        failed:
            Videos that are known to fail when the run begins.
    """
    now = _utc()
    # To the microsecond: names are in the order of the runs.
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{socket.gethostname()}-{os.getpid()}"
    name += f"-{uuid4().hex[:4]}"
    state = RunState(
        name,
        command,
        socket.gethostname(),
        os.getpid(),
        now,
        now,
        "running",
        videos=totals["videos"],
        spans=totals["spans"],
        frames=totals["frames"],
    )
    kept = Journal(cache, state)
    _forget_old(cache)
    kept.update(now=True)
    for failure in failed:
        kept.fail(failure)
    try:
        yield kept
    except (KeyboardInterrupt, GeneratorExit):
        kept.update(now=True, state="stopped", running=())
        raise
    except BaseException:
        kept.update(now=True, state="failed", running=())
        raise
    kept.update(now=True, state="done", running=())


def read_runs(cache: Path, most: int = KEPT) -> list[RunState]:
    """The runs of a cache, the latest last; files that cannot be read are left out and named."""
    found = []
    for path in sorted((cache / "runs").glob("*.json"))[-most:]:
        try:
            found.append(read_run(path))
        except FileNotFoundError:
            continue  # a run that begins has just forgotten it
        except (OSError, DamagedFile) as error:
            leave_out(path, error, "vadpipe cache repair deletes it")
    return found


def read_run(path: Path) -> RunState:
    """The run that a file describes.

    Raises:
        DamagedFile: a value is missing, unknown or not what a run writes.
        OSError: the file cannot be read.
    """
    values = read_json(path)
    try:
        if set(values) - set(RunState.__dataclass_fields__) or not {"running", "failures"} <= {
            *values
        }:
            raise ValueError("its names are not those of a run")
        state: RunState = TypeAdapter(RunState).validate_python(values)
        sums = ("videos", "spans", "frames", "videos_done", "spans_done", "frames_done")
        numbers = [getattr(state, name) for name in (*sums, "shards", "failed", "seconds")]
        if not all(0 <= n < float(1 << 63) for n in numbers) or not 0 < state.pid < 1 << 31:
            raise ValueError("a number is none that a run counts")
        if any(set(failure) != _FAILURE for failure in state.failures):
            raise ValueError("a failure is not what a run writes")
        for time_of in (state.started, state.updated):
            if datetime.fromisoformat(time_of).tzinfo is None:
                raise ValueError("a time has no zone")
    except (ValueError, OverflowError) as error:
        raise DamagedFile(f"{path} is damaged ({' '.join(str(error).split())})") from error
    return state


def elapsed(seconds: float) -> str:
    """A length of time on the clock, such as `2 d 03:04:05`."""
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def _write(cache: Path, state: RunState) -> None:
    path = cache / "runs" / f"{state.name}.json"
    with suppress(OSError, CannotWrite):  # what stops the run says so where it writes shards
        write_text(path, json.dumps(asdict(state)))


def _forget_old(cache: Path) -> None:
    for path in sorted((cache / "runs").glob("*.json"))[:-KEPT]:
        with suppress(OSError):
            path.unlink()


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
