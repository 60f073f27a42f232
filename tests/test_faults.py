"""What may happen to an extraction, and that nothing of it loses or doubles anything.

After every fault a further run completes, `cache verify` is clean, and all arrays are bit-equal to
an undisturbed run. `VADPIPE_SOAK=1` takes the long form (`make soak`).
"""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import torch

from tests.dask_cluster import cluster
from tests.footage import moving_picture, repeat_video, write_coding, write_video
from vadpipe.data_manifests import atomic, footage
from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.data_manifests.record import Manifest
from vadpipe.data_manifests.table import write_manifest
from vadpipe.extractors.device.inference import VideoNetwork
from vadpipe.extractors.footage.errors import DecoderCrash
from vadpipe.pipeline.engine import coordinator, journal, quarantine, span_task
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor
from vadpipe.pipeline.engine.journal import read_runs
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.engine.span_task import SpanJob, SpanResult, run_job
from vadpipe.pipeline.extract import Extracted, extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store import feature_store as store
from vadpipe.pipeline.store.feature_sets import list_stores
from vadpipe.pipeline.train import train_detector

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("VADPIPE_SOAK") == "1"
NULL = resolve_extractor("null")
SPANS = Engine(span_frames=4)  # 10 to 15 shards a video
Arrays = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three videos that are a task a span, and one that is a task as a whole."""
    root = tmp_path_factory.mktemp("scene")
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:open-gop=0"}
    for seed, name in enumerate("abc"):
        pictures = (moving_picture(i, seed=seed) for i in range(60))
        write_video(root / f"{name}.mp4", frames=pictures, options=options)
    write_coding("mpeg2-ps", root, 40)
    return footage.build(root)


@pytest.fixture(scope="module")
def expected(scene: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """The arrays of an undisturbed run."""
    cache = tmp_path_factory.mktemp("undisturbed")
    assert not run(scene, cache).failures
    return arrays(cache)


def run(
    scene: Manifest, cache: Path, engine: Engine = SPANS, specs: tuple[ExtractorSpec, ...] = (NULL,)
) -> Extracted:
    return extract_features(scene, probe_files(scene, cache), specs, cache, engine=engine)


def arrays(cache: Path) -> Arrays:
    """All arrays of all shards, by relative path."""
    found = {}
    for path in sorted(cache.rglob("*.h5")):
        with h5py.File(path) as file:
            held = {
                f"{axis}/{name}": dataset[:]
                for axis, group in file.items()
                for name, dataset in group.items()
            }
        found[str(path.relative_to(cache))] = held
    return found


def check(scene: Manifest, cache: Path, expected: Arrays, engine: Engine = SPANS) -> None:
    """A further run completes; then the cache is what an undisturbed run leaves."""
    done = run(scene, cache, engine)
    assert not done.failures and len(done.rows) == len(scene)
    check_cache(cache, expected)


def check_cache(cache: Path, expected: Arrays) -> None:
    found = arrays(cache)
    assert found.keys() == expected.keys()
    for path, wanted in expected.items():
        assert found[path].keys() == wanted.keys()
        assert all(np.array_equal(found[path][name], wanted[name]) for name in wanted), path
    for each in list_stores(cache):
        assert each.verify() == []


def command(path: Path, cache: Path, *options: str) -> list[str]:
    """`vadpipe extract` as typed."""
    given = ["extract", str(path), "-e", "null", "--span-frames", "4", "--cache", str(cache)]
    return [sys.executable, "-m", "vadpipe.pipeline.cli.main", *given, *options]


def descendants(pid: int) -> list[psutil.Process]:
    """A process with all that it has started; decoders have process groups of their own."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process], seconds: float = 300) -> bool:
    """Whether all of them end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


# ------------------------------------------------------------------------------------- sigkill


def kill_when(line: list[str], moment: Callable[[], bool], delay: float) -> bool:
    """Run the command and kill it a little after a moment; False if it was over by then."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(line, start_new_session=True, **quiet)
    while not moment():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    time.sleep(delay)
    whole = descendants(process.pid)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert gone(whole), "a process outlived the run"
    return not ended


def check_kills(
    tmp_path: Path,
    line: Callable[[Path], list[str]],
    expected: Arrays,
    finish: Callable[[Path], object],
    *,
    caches: int,
    kills: int,
) -> None:
    """Each cache sees several kills at random moments, then an undisturbed run.

    The long form also kills processes that have only started.
    """
    rng = random.Random(caches)
    killed = 0
    for i in range(caches):
        cache = tmp_path / f"killed{i}"
        for _ in range(kills):
            # before the first shard (long form), between two, in the middle of one, after the last
            there, least = shards(cache), 0 if SOAK else 1
            wanted = there + rng.randrange(least, max(least + 1, len(expected) - there))
            delay = rng.uniform(0, 0.05)
            killed += kill_when(line(cache), lambda n=wanted, c=cache: shards(c) >= n, delay)
        finish(cache)
        check_cache(cache, expected)
    assert killed >= caches, "the runs ended before they could be killed"


def shards(cache: Path) -> int:
    return sum(1 for _ in cache.glob("features/*/shards/*/*/*.h5"))


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["in process", "two workers"])
def test_sigkill_at_any_moment_loses_nothing(
    options: tuple[str, ...], scene: Manifest, expected: Arrays, tmp_path: Path
) -> None:
    path = write_manifest(scene, tmp_path / "m.parquet")
    caches, kills = (25, 4) if SOAK else (1, 2 if options else 3)  # long: 100 moments, each way
    check_kills(
        tmp_path,
        lambda cache: command(path, cache, *options),
        expected,
        lambda cache: check(scene, cache, expected),
        caches=caches,
        kills=kills,
    )


@pytest.mark.weights
def test_sigkill_with_the_real_network(scene: Manifest, tmp_path: Path, real_weights: str) -> None:
    """Batch and threads are told: then the arrays are equal in every bit."""
    few = scene.model_copy(update={"records": scene.records[:1]})
    path = write_manifest(few, tmp_path / "m.parquet")
    spec = resolve_extractor("inception_i3d:native", weights=real_weights, precision="fp32")
    engine = Engine(batch_size=1, threads=1, span_frames=16)
    options = ["-e", "inception_i3d:native", "--weights", real_weights, "--precision", "fp32"]
    options += ["--batch-size", "1", "--threads", "1", "--span-frames", "16"]

    def line(cache: Path) -> list[str]:
        given = ["extract", str(path), *options, "--cache", str(cache)]
        return [sys.executable, "-m", "vadpipe.pipeline.cli.main", *given]

    assert not run(few, tmp_path / "whole", engine, (spec,)).failures
    check_kills(
        tmp_path,
        line,
        arrays(tmp_path / "whole"),
        lambda cache: run(few, cache, engine, (spec,)),
        caches=3 if SOAK else 1,
        kills=5 if SOAK else 1,
    )


# --------------------------------------------------------------------------- ctrl-C and SIGTERM


# `vadpipe extract` with a video that takes half a minute: the signal always comes before the end.
UNHURRIED = """
import signal, sys
from tests.test_faults import unhurried_job
from vadpipe.pipeline.cli.main import main
from vadpipe.pipeline.engine import coordinator

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    coordinator.run_job = unhurried_job
    sys.exit(main())
"""


def unhurried_job(job: SpanJob) -> SpanResult:
    if "c.mp4" in job.row.path:
        time.sleep(4)
    return run_job(job)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["in process", "two workers"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly(
    number: signal.Signals,
    options: tuple[str, ...],
    scene: Manifest,
    expected: Arrays,
    tmp_path: Path,
) -> None:
    """In the middle of a run: code 130, a word, no process left, no shard lost."""
    path = write_manifest(scene, tmp_path / "m.parquet")
    cache = tmp_path / "cache"
    (tmp_path / "unhurried.py").write_text(UNHURRIED)
    line = [sys.executable, str(tmp_path / "unhurried.py"), *command(path, cache, *options)[3:]]
    process = subprocess.Popen(
        line,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(cache.rglob("*.h5")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    whole = descendants(process.pid)
    # A terminal sends ctrl-C to the whole group; a batch system SIGTERM to the first process.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "run the same command again" in errors
    assert "Traceback" not in errors, errors
    assert gone(whole)
    (state,) = read_runs(cache)
    assert state.state == "stopped" and state.spans_done < state.spans
    check(scene, cache, expected)


# --------------------------------------------------------------------------------- dead workers


def children_named(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(text in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def at_work(cache: Path, text: str) -> list[psutil.Process]:
    """Processes of a run, once it has written something: those that start are not meant."""
    return children_named(text) if list(cache.rglob("*.h5")) else []


def killing(pick: Callable[[], list[psutil.Process]], times: int) -> threading.Thread:
    """A thread that kills one of some processes, again and again."""

    def kill() -> None:
        for _ in range(times):
            time.sleep(0.25)
            for process in pick()[:1]:
                try:
                    process.kill()
                except psutil.Error:
                    continue

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def slow_job(job: SpanJob) -> SpanResult:
    """A job that can be caught at work."""
    time.sleep(0.05)
    return run_job(job)


def test_killed_workers_lose_nothing(
    scene: Manifest, expected: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight kills at most: a task whose workers die again and again is given up, and rightly so."""
    monkeypatch.setattr(coordinator, "run_job", slow_job)
    for i in range(6 if SOAK else 1):
        cache = tmp_path / str(i)
        killer = killing(partial(at_work, cache, "spawn_main"), times=8)
        done = run(scene, cache, Engine(span_frames=4, workers=2))
        killer.join()
        assert not done.failures, "tasks of a dead worker are done by another"
        check(scene, cache, expected)


def test_a_worker_killed_on_a_cluster(
    scene: Manifest, expected: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "run_job", slow_job)
    with cluster() as address:
        engine = Engine(span_frames=4, scheduler=address, insecure_loopback=True)
        killer = killing(lambda: at_work(tmp_path, "spawn_main"), times=8)
        done = run(scene, tmp_path, engine)
        killer.join()
        assert not done.failures
        check(scene, tmp_path, expected, engine)


def test_decoders_that_are_killed_are_replaced(
    scene: Manifest, expected: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does for want of memory: their spans are tried again, no video is blamed."""
    monkeypatch.setattr(coordinator, "run_job", slow_job)
    killer = killing(lambda: children_named("decode_worker"), times=12 if SOAK else 4)
    done = run(scene, tmp_path)
    killer.join()
    assert not quarantine.entries(tmp_path)
    assert not done.failures or {f.error for f in done.failures} == {"DecoderKilled"}
    check(scene, tmp_path, expected)


def deadly_job(job: SpanJob) -> SpanResult:
    """One video takes its worker down, whoever opens it."""
    if "b.mp4" in job.row.path:
        os._exit(1)
    return run_job(job)


def crashing_frames(row: Any, *args: Any, **options: Any) -> Any:
    if "b.mp4" in row.path:
        raise DecoderCrash(f"{row.path}: the decoding process died (signal 11)")
    return REAL_FRAMES(row, *args, **options)


REAL_FRAMES = span_task.guarded_frames


@pytest.mark.parametrize("how", ["worker", "decoder"])
def test_a_poisoned_video_goes_to_quarantine_and_no_other(
    how: str,
    scene: Manifest,
    expected: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = SPANS
    with monkeypatch.context() as poison:
        if how == "worker":
            engine = Engine(span_frames=4, workers=2)
            poison.setattr(coordinator, "run_job", deadly_job)
        else:
            poison.setattr(span_task, "guarded_frames", crashing_frames)
        done = run(scene, tmp_path, engine)
    (failure,) = done.failures
    wanted = {"worker": "KilledWorker", "decoder": "DecoderCrash"}[how]
    assert (failure.video_id, failure.error) == ("b.mp4", wanted)
    assert len(done.rows) == len(scene) - 1, "no other video has paid for it"
    (entry,) = quarantine.entries(tmp_path).values()
    assert entry.error == wanted and entry.path.endswith("b.mp4")
    # it is not opened again ...
    again = run(scene, tmp_path)
    assert [(f.video_id, f.error) for f in again.failures] == [("b.mp4", "Quarantined")]
    assert again.written == 0
    # ... until the user releases it, and then stays free
    check(scene, tmp_path, expected, Engine(span_frames=4, retry_quarantined=True))
    assert not quarantine.entries(tmp_path)
    check(scene, tmp_path, expected)


# ------------------------------------------------------------------------------------- the disk


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A small disk; only root may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_costs_nothing(
    scene: Manifest, expected: Arrays, tmp_path: Path
) -> None:
    path = write_manifest(scene, tmp_path / "m.parquet")
    with tmpfs(tmp_path / "small", "300k") as cache:
        result = subprocess.run(command(path, cache), capture_output=True, text=True, check=False)
        assert result.returncode == 1, result.stderr
        assert "No space left on device" in result.stderr and "Make room" in result.stderr
        assert "Traceback" not in result.stderr
        some = arrays(cache)
        assert 0 < len(some) < len(expected), "what was finished is kept"
        grow = ["mount", "-o", "remount,size=50m", str(cache)]
        subprocess.run(grow, check=True)
        check(scene, cache, expected)


def test_files_over_the_allowed_size_end_the_run(scene: Manifest, tmp_path: Path) -> None:
    """RLIMIT_FSIZE, which needs no root; it holds for the decoder's shared memory as well, so the
    shards are large ones."""
    few = scene.model_copy(update={"records": scene.records[:2]})
    path = write_manifest(few, tmp_path / "m.parquet")
    cache = tmp_path / "cache"
    line = [sys.executable, "-m", "vadpipe.pipeline.cli.main", "extract", str(path), "-e", "frames"]
    line += ["--max-bytes", "1000000000", "--cache", str(cache)]  # shards of 7.9 MB

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    result = subprocess.run(line, capture_output=True, text=True, check=False, preexec_fn=small)
    assert result.returncode == 1 and "File too large" in result.stderr, result.stderr
    assert not arrays(cache)
    spec = resolve_extractor("frames")
    probed = probe_files(few, cache)
    assert not extract_features(few, probed, [spec], cache, max_bytes=10**9).failures
    assert len(arrays(cache)) == 2 and list_stores(cache)[0].verify() == []


def test_a_read_only_cache_ends_the_run(scene: Manifest, expected: Arrays, tmp_path: Path) -> None:
    path = write_manifest(scene, tmp_path / "m.parquet")
    with tmpfs(tmp_path / "disk", "50m") as cache:
        run(scene.model_copy(update={"records": scene.records[:2]}), cache)
        probe_files(scene, cache)
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        result = subprocess.run(command(path, cache), capture_output=True, text=True, check=False)
        assert result.returncode == 1 and "Read-only file system" in result.stderr
        assert "Traceback" not in result.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(cache)], check=True)
        check(scene, cache, expected)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_no_further_span_is_tried_when_the_disk_refuses(
    number: int,
    scene: Manifest,
    expected: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Injected, so that it is seen on every machine: from the seventh shard on."""
    written = 0
    real = store.verify_shard

    def refusing(path: Path) -> dict[str, Any]:
        nonlocal written
        written += 1
        if written > 6:
            raise OSError(number, os.strerror(number))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "verify_shard", refusing)
        with pytest.raises(CannotWrite, match="run the same command again"):
            run(scene, tmp_path)
    assert written < len(expected), "it has stopped"
    assert len(arrays(tmp_path)) == 6
    assert [state.state for state in read_runs(tmp_path)] == ["failed"]
    check(scene, tmp_path, expected)


def test_a_file_server_that_blinks_is_asked_again(
    scene: Manifest, expected: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = store.verify_shard, 0

    def blinking(path: Path) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls in (3, 20):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(store, "verify_shard", blinking)
    done = run(scene, tmp_path)
    assert not done.failures
    monkeypatch.undo()
    check(scene, tmp_path, expected)


# --------------------------------------------------------------------------------------- memory


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One item at a time from the beginning, or after two failures: the same bits."""
    few = scene.model_copy(update={"records": scene.records[:2]})
    settings = {"resize": 64, "clip_length": 8, "stride": 8}
    spec = resolve_extractor("inception_i3d", settings, weights="random:0", precision="fp32")

    def engine(batch_size: int) -> Engine:
        return Engine(batch_size=batch_size, threads=1)

    one = run(few, tmp_path / "one", engine(1), (spec,))
    real, refused = VideoNetwork._forward, []

    def greedy(self: VideoNetwork, videos: torch.Tensor, size: int) -> torch.Tensor:
        if len(videos) > 1:
            refused.append(len(videos))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, videos, size)

    monkeypatch.setattr(VideoNetwork, "_forward", greedy)
    # other threads: a network of its own, which does not know yet
    monkeypatch.setattr(span_task, "_prepared", {})
    four = run(few, tmp_path / "four", engine(4), (spec,))
    assert not one.failures and not four.failures
    assert refused == [4, 2], "it is remembered: only the first batch was too large"
    check_cache(tmp_path / "four", arrays(tmp_path / "one"))


# ---------------------------------------------------------------------------- others and clocks


def test_two_runs_at_once_leave_one_cache(
    scene: Manifest, expected: Arrays, tmp_path: Path
) -> None:
    path = write_manifest(scene, tmp_path / "m.parquet")
    for i in range(5 if SOAK else 1):
        cache = tmp_path / f"cache{i}"
        lines = [command(path, cache), command(path, cache, "--workers", "2")]
        lines += [command(path, cache)] if SOAK else []
        runs = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in lines]
        for each in runs:
            _, errors = each.communicate(timeout=500)
            assert each.returncode == 0, errors
        check_cache(cache, expected)
        check(scene, cache, expected)
        assert run(scene, cache).written == 0


def test_a_clock_that_goes_backwards(
    scene: Manifest, expected: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back at every look: nothing that is at work is taken for old, no time is negative."""
    now = [datetime(2026, 3, 1, tzinfo=UTC)]

    def utc() -> str:
        now[0] -= timedelta(hours=1)
        return now[0].isoformat(timespec="milliseconds")

    class Clock:
        @staticmethod
        def time() -> float:
            now[0] -= timedelta(hours=1)
            return now[0].timestamp()

    monkeypatch.setattr(journal, "_utc", utc)
    monkeypatch.setattr(atomic, "time", Clock)
    done = run(scene, tmp_path)
    assert not done.failures and done.seconds > 0
    (state,) = read_runs(tmp_path)
    assert state.state == "done" and state.seconds >= 0 and state.frames_per_second > 0
    assert not state.lost()
    check(scene, tmp_path, expected)


def test_shards_that_are_damaged_or_gone_are_made_again(
    scene: Manifest, expected: Arrays, tmp_path: Path
) -> None:
    run(scene, tmp_path)
    first, second, *_ = sorted(tmp_path.rglob("*.h5"))
    first.unlink()
    second.write_bytes(b"")
    (feature_set,) = list_stores(tmp_path)
    for part in (feature_set.root / "index").iterdir():  # who knows the shard does not open it
        part.unlink()
    check(scene, tmp_path, expected)


# ------------------------------------------------------------------------- memory over time


def own_bytes(pid: int) -> int:
    """What a process holds, what it shares with others in parts; without the files that it maps.

    Pages of libraries are shared with whatever else runs: they would grow when that ends.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    if "Pss_Anon" not in found:  # Linux before 5.4
        return found["Pss"]
    return found["Pss_Anon"] + found["Pss_Shmem"]


def peak_memory(line: list[str]) -> int:
    """Most bytes that a command and all that it starts hold at a time."""
    most = 0
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        while run.poll() is None:
            held = 0
            for process in descendants(run.pid):
                try:
                    held += own_bytes(process.pid)
                except OSError:  # it has ended
                    continue
            most = max(most, held)
            time.sleep(0.05)  # to look costs some milliseconds of system time
        assert run.stdout is not None
        assert run.returncode == 0, run.stdout.read()
    return most


@pytest.mark.parametrize("how", ["extract", "score"])
def test_memory_does_not_grow_with_the_length_of_a_video(how: str, tmp_path: Path) -> None:
    """Two minutes against two hours (four minutes in the short form) at 320 x 240.

    Spans are short, so that as many are at work in the short video as in the long one. Its frames
    are enough to fill the queues of the decoders, as they do where the reader gets less time.
    """
    settings = {"stride": 200, "before": 0, "after": 0}
    few, cache = resolve_extractor("null", settings), tmp_path / "cache"
    piece = write_video(
        tmp_path / "piece.mp4", frames=pictures(500), options={"g": "50", "bf": "0"}
    )
    manifests = {}
    lengths_of = {"short": (2,), "long": (120 if SOAK else 4,)}
    # Other lengths than what is scored: features of an equal file would be there already.
    lengths_of |= {"train": (1, 3)} if how == "score" else {}
    for name, lengths in lengths_of.items():
        (tmp_path / name).mkdir()
        for minutes in lengths:
            path = tmp_path / name / f"{minutes}.mp4"
            repeat_video(piece, path, times=minutes * 60 * 25 // 500)
        manifests[name] = footage.build(
            tmp_path / name, split="train" if name == "train" else "test"
        )
        rows = probe_files(manifests[name], cache).rows.values()
        assert [row.n_frames for row in rows] == [minutes * 60 * 25 for minutes in lengths]
        write_manifest(manifests[name], tmp_path / f"{name}.parquet")
    given = ["extract", "-e", "null", *(f"--set={k}={v}" for k, v in settings.items())]
    if how == "score":
        probed = probe_files(manifests["train"], cache)
        extract_features(manifests["train"], probed, [few], cache, engine=Engine(span_frames=1000))
        model = train_detector("knn", manifests["train"], probed, cache).folder
        given = ["score", str(model), "--discard-features"]
    used = {}
    for name in ("short", "long"):
        line = [sys.executable, "-m", "vadpipe.pipeline.cli.main", *given]
        line += ["--span-frames", "1000", "--cache", str(cache)]
        if how == "score":
            line += ["-o", str(tmp_path / f"out-{name}"), str(tmp_path / name)]
        else:
            line += [str(tmp_path / f"{name}.parquet")]
        used[name] = peak_memory(line)
    assert used["long"] - used["short"] < 100 << 20, used
    if how == "score":
        assert not list(tmp_path.glob("out-*/**/*.h5")) and shards(cache) == 7, "of the training"


def pictures(count: int) -> Iterator[Any]:
    """Frames of 320 x 240 in which everything moves."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    for i in range(count):
        yield np.roll(ground, 3 * i, axis=1)
