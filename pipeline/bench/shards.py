"""What reading a shard costs: with its seal and its place checked, and as it was read before."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np

from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from ..store import shard
from ..store.facts import SEAL
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from .race import hardware, heading

ROWS, WIDTH = 250, 1024  # of a shard: 4,000 frames of an I3D network
SPEC = ArraySpec("features", "float16", ("snippet", "feature"), (WIDTH,), role="snippet")
BYTES = "bytes alone"  # of the sealed files: the limit
PROVENANCE = {"vadpipe": "0", "torch": "0", "ffmpeg": "0", "device": "cpu"}


def bench_shards(*, count: int = 100, repeats: int = 10) -> tuple[dict[str, Any], list[str]]:
    """CPU time to open one shard of a video and to copy its rows; all ways take turns.

    Args:
        count:
            Shards, one for each video.
        repeats:
            Turns of each way over all of them.

    Returns:
        Values for machines, and lines for people.
    """
    with tempfile.TemporaryDirectory() as folder:
        sealed = _write(Path(folder) / "sealed", count)
        plain = _write(Path(folder) / "plain", count)
        for path in plain.scan():
            with h5py.File(path, "r+") as file:
                del file.attrs[SEAL]
                file.attrs["format"] = 2
        contents = [path.parent.name for path in sealed.scan()]
        ways: dict[str, Callable[[], object]] = {
            "format 2, before": lambda: [_as_before(path) for path in plain.scan()],
            "format 2": lambda: _read(plain, contents),
            "format 3, sealed": lambda: _read(sealed, contents),
            BYTES: lambda: [path.read_bytes() for path in sealed.scan()],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(-1, repeats):
            for name, run in ways.items():
                begin = time.process_time()
                run()
                if turn >= 0:
                    seconds[name].append((time.process_time() - begin) / count)
    rates = {n: {"best": min(each), "median": median(each)} for n, each in seconds.items()}
    before, least = rates["format 2, before"]["median"], rates[BYTES]["median"]
    lines = heading("cpu", f"CPU time of a shard of {ROWS} x {WIDTH} float16, best / median")
    lines += [
        f"{name:18}{1e3 * rate['best']:7.2f} / {1e3 * rate['median']:7.2f} ms"
        f"{rate['median'] / before:8.2f} x, {rate['median'] / least:.1f} x the {BYTES}"
        for name, rate in rates.items()
    ]
    return {"hardware": hardware(), "shards": count, "seconds": rates}, lines


def _write(folder: Path, count: int) -> FeatureStore:
    store = FeatureStore(folder, {"extractor": "bench", "arrays": [SPEC.to_json()]})
    store.create()
    start = 16 * np.arange(ROWS)
    values = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float16)
    for number in range(count):
        span = Span(f"s1-{number:040x}", 0, 16 * ROWS, True)
        rows = {"snippet": Rows(start, start + 16, {"features": values})}
        whole_id = f"f1-{number:040x}"
        facts = VideoFacts(25.0, 16 * ROWS, ("variable_rate",), whole_id=whole_id)
        store.write(span, rows, [SPEC], facts, PROVENANCE)
    return store


def _read(store: FeatureStore, contents: Sequence[str]) -> None:
    for content in contents:
        assert len(store.read(content).arrays["features"][:]) == ROWS


def _as_before(path: Path) -> int:
    """What reading looked at before there was a seal; returns the number of rows."""
    with h5py.File(path, "r") as file:
        for name in ("frame_start", "frame_start", "frame_stop"):
            _place(file, name)[:]
        if "snippet/clip_start" in file:
            raise ValueError("it is no axis of objects")
        facts = [file.attrs[name] for name in ("fps", "flags", "last", "n_frames")]
        facts.append(file.attrs.get("damaged", 0))
    with h5py.File(path, "r") as file:  # the array looked up its shape and type by itself
        shape = _place(file, "features").shape
    with h5py.File(path, "r") as file:
        dataset = _place(file, "features")
        offset, dtype = dataset.id.get_offset(), dataset.dtype
    values = np.array(np.memmap(path, dtype, "r", offset, shape))
    assert len(values) == ROWS and len(facts) == 5
    return len(values)


def _place(file: h5py.File, name: str) -> h5py.Dataset:
    assert file.attrs.get("format", 1) == 2
    return shard.checked_dataset(file, f"snippet/{name}")
