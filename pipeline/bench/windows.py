"""Random windows of pixels: as version 0.1 read them, mapped, read ahead by threads, resident."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...data_manifests.record import VideoRecord
from ...detectors.base import FitOptions
from ...detectors.row_memory import THREADS, RowMemory
from ...detectors.segments import ahead
from ...detectors.windows import WindowSource
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from ..store.video_rows import StoreRows
from .race import Contestant, as_values, hardware, heading, race

OLD = "version 0.1"
COPY = "copied in memory"  # as many bytes: the limit
CHUNK_BYTES = 1 << 18  # of version 0.1


@dataclass(frozen=True)
class WindowProblem:
    """What is read; the defaults are those of MSMG.

    Attributes:
        length: rows of a window.
        size: height and width of a row.
        frames: rows of a video.
        batch: windows of a batch.
        batches: batches of a turn; version 0.1 reads one.
    """

    length: int = 12
    size: tuple[int, int] = (256, 256)
    frames: int = 128
    batch: int = 8
    batches: int = 16


def bench_windows(
    *,
    videos: int = 32,
    repeats: int = 5,
    device: str = "cpu",
    problem: WindowProblem | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Draw and read windows, uniform over all videos, in turn from each of the places.

    The files have just been written, so they are in the memory of the system: what is measured is
    the way to them, not the disk.

    Args:
        videos:
            How many.
        repeats:
            Turns of each.
        device:
            Where batches go.
        problem:
            Sizes.

    Returns:
        Values for machines, and lines for people.
    """
    problem = problem or WindowProblem()
    with tempfile.TemporaryDirectory(prefix="vadpipe-bench-") as folder:
        old, rows = _write(Path(folder), videos, problem)
        with _sources(rows, device, problem) as sources:
            contestants = [Contestant(OLD, "windows/s", problem.batch, _OldWay(old, problem))]
            contestants += [
                Contestant(name, "windows/s", problem.batch * problem.batches, _NewWay(w, problem))
                for name, w in sources.items()
            ]
            copied = problem.batch * problem.batches
            contestants.append(Contestant(COPY, "windows/s", copied, _Copy(problem)))
            _check_equal(old, sources, problem)
            rates = race(contestants, repeats, device)
    to_old = {n: rate.median / rates[OLD].median for n, rate in rates.items() if n != COPY}
    of_copying = {name: rates[name].median / rates[COPY].median for name in to_old}
    values = {
        "hardware": hardware(device),
        "videos": videos,
        "problem": vars(problem),
        "threads": THREADS,
        "rates": as_values(rates),
        "to_version_0_1": to_old,
        "of_copying": of_copying,
    }
    height, width = problem.size
    lines = heading(
        device,
        f"windows of {problem.length} x {height} x {width} x 3 uint8 out of {videos} videos of "
        f"{problem.frames} frames; best / median",
    )
    lines += [
        f"{name:26}{rates[name]}{ratio:9.1f} x, {100 * of_copying[name]:.0f} % of copying"
        for name, ratio in to_old.items()
    ]
    return values, [*lines, f"{COPY:26}{rates[COPY]}   the limit"]


class _Copy:
    """The windows of a turn, from pixels in memory into the memory of a batch."""

    def __init__(self, problem: WindowProblem) -> None:
        shape = (problem.length, *problem.size, 3)
        self._pixels = np.random.default_rng(0).integers(0, 256, (problem.batch, *shape), np.uint8)
        self._batches = problem.batches

    def __call__(self) -> None:
        for _ in range(self._batches):
            np.empty_like(self._pixels)[:] = self._pixels


class _OldWay:
    """Version 0.1: every bag is opened for each draw, and slices come through HDF5."""

    def __init__(self, paths: Sequence[Path], problem: WindowProblem) -> None:
        self._paths = paths
        self._problem = problem
        self._random = np.random.default_rng(0)

    def __call__(self) -> NDArray[np.uint8]:
        counts = [_open_bag(path) for path in self._paths]
        places = np.array([max(0, n - self._problem.length + 1) for n in counts])
        ends = np.cumsum(places)
        drawn = self._random.integers(0, ends[-1], size=self._problem.batch)
        which = np.searchsorted(ends, drawn, side="right")
        starts = drawn - (ends[which] - places[which])
        return np.stack(
            [
                _old_slice(self._paths[v], start, self._problem.length)
                for v, start in zip(which.tolist(), starts.tolist(), strict=True)
            ]
        )


def _open_bag(path: Path) -> int:
    """What opening a bag of one shard read; the number of its rows."""
    with h5py.File(path, "r") as file:
        begin, end = file["frame_start"][:], file["frame_stop"][:]
        facts = [file.attrs[name] for name in ("fps", "flags", "last", "n_frames")]
    with h5py.File(path, "r") as file:  # the array looked up its shape and type by itself
        shape = file["frames"].shape
    assert len(begin) == len(end) == shape[0] and len(facts) == 4
    return len(begin)


def _old_slice(path: Path, start: int, length: int) -> NDArray[np.uint8]:
    with h5py.File(path, "r") as file:
        dataset = file["frames"]
        pieces = [np.empty((0, *dataset.shape[1:]), np.uint8), dataset[start : start + length]]
        return np.concatenate(pieces)


class _NewWay:
    """A few batches of a source, read ahead if its memory says so."""

    def __init__(self, windows: WindowSource, problem: WindowProblem) -> None:
        self._windows = windows
        self._problem = problem
        self._turn = 0

    def __call__(self) -> None:
        turns = range(self._turn, self._turn + self._problem.batches)
        self._turn += self._problem.batches
        for _ in ahead(self._load, turns, self._windows.memory.prefetch):
            pass

    def _load(self, turn: int) -> Tensor:
        return self._windows.read(self._windows.draw(self._problem.batch, turn))


@contextmanager
def _sources(
    rows: StoreRows, device: str, problem: WindowProblem
) -> Iterator[dict[str, WindowSource]]:
    mapped, ahead_of_use = FitOptions(memory=0, prefetch=0), FitOptions(memory=0, prefetch=2)
    size = int(rows.counts.sum() * np.prod(rows.shape))
    memories = {
        "mapped": RowMemory(rows, device=device, options=mapped, threads=1),
        "mapped, prefetch threads": RowMemory(rows, device=device, options=ahead_of_use),
        "resident": RowMemory(rows, device=device, options=FitOptions(memory=size)),
    }
    try:
        yield {name: WindowSource(each, problem.length) for name, each in memories.items()}
    finally:
        for each in memories.values():
            each.close()


def _check_equal(
    old: Sequence[Path], sources: dict[str, WindowSource], problem: WindowProblem
) -> None:
    """Compare one batch of every source with the chunked shards.

    Raises:
        RuntimeError: they differ; the rates would mean nothing.
    """
    for name, windows in sources.items():
        picks = windows.draw(problem.batch, 0)
        batch = windows.read(picks).cpu().numpy()
        for i, (video, start) in enumerate(zip(picks.video, picks.start, strict=True)):
            if not np.array_equal(batch[i], _old_slice(old[video], int(start), problem.length)):
                raise RuntimeError(f"{name} reads other pixels than version 0.1")


def _write(folder: Path, videos: int, problem: WindowProblem) -> tuple[list[Path], StoreRows]:
    """The same videos as chunked shards of version 0.1, and as a feature set of today."""
    shape = (*problem.size, 3)
    dims = ("frame", "row", "column", "channel")
    spec = ArraySpec("frames", "uint8", dims, shape, role="pixels")
    store = FeatureStore(folder, {"extractor": "bench", "arrays": [spec.to_json()]})
    store.create()
    noise = np.random.default_rng(0).integers(0, 256, (problem.frames, *shape), np.uint8)
    start = np.arange(problem.frames)
    chunk = min(problem.frames, max(1, CHUNK_BYTES // int(np.prod(shape))))
    paths, records, contents = [], [], []
    for number in range(videos):
        frames = noise + np.uint8(number % 256)
        content = f"s1-{number:040x}"
        path = folder / f"{content}.h5"
        with h5py.File(path, "w") as file:
            file.attrs.update({"fps": 25.0, "flags": "", "last": True, "n_frames": problem.frames})
            file.create_dataset("frames", data=frames, chunks=(chunk, *shape))
            file.create_dataset("frame_start", data=start, chunks=(problem.frames,))
            file.create_dataset("frame_stop", data=start + 1, chunks=(problem.frames,))
        rows = {"frame": Rows(start, start + 1, {"frames": frames})}
        span = Span(content, 0, problem.frames, True)
        facts = VideoFacts(25.0, problem.frames)
        store.add_index_part([store.write(span, rows, [spec], facts, {})])
        paths.append(path)
        contents.append(content)
        records.append(VideoRecord(video_id=f"v{number}", path=f"{number}.mp4", split="train"))
    return paths, StoreRows(store, spec.to_json(), records, contents, labels=False)
