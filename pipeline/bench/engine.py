"""What the engine itself costs: scheduling of a span, and a large index."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ...data_manifests import footage as footage_dataset
from ...data_manifests.atomic import write_table
from ..engine.extractor_spec import resolve_extractor
from ..engine.settings import Engine
from ..extract import extract_features
from ..probe import probe_files
from ..store.feature_store import FeatureStore
from .race import hardware, heading

PICTURES = 16  # of 16 x 16 pixels, in a folder of which each video is one link
SIDE = 16
PLAIN_READ = "read by pyarrow"  # the same files, and nothing looked at


def bench_engine(*, spans: int = 10_000) -> tuple[dict[str, Any], list[str]]:
    """Spans of almost no footage through the null extractor, one after another.

    Scheduling is what a span costs besides its task: planning, submitting, the way to the worker
    and back, the index, the journal. One stream a process, so that tasks do not hide it.

    Args:
        spans:
            How many.

    Returns:
        Values for machines, and lines for people.
    """
    ways = {"in process": Engine(streams=1), "2 processes": Engine(streams=1, workers=2)}
    rows = {name: _spans(spans, engine) for name, engine in ways.items()}
    values = {"hardware": hardware(), "spans": spans, "ways": rows}
    lines = heading("cpu", f"{spans:,} spans of {PICTURES} frames of {SIDE} x {SIDE}")
    for name, row in rows.items():
        lines.append(
            f"{name:12} {row['scheduling_ms']:.2f} ms of scheduling a span; a span takes "
            f"{row['task_ms']:.2f} ms in its task ({100 * _in_task(row):.0f} % of its time), "
            f"{row['write_ms']:.2f} of them the durable "
            f"write ({100 * _writing(row):.0f} %); the coordinator grew by "
            f"{row['grown_mib']:.0f} MiB, of which "
            f"{row['grown_second_half_mib']:.0f} in the second half"
        )
    return values, lines


def _in_task(row: dict[str, float]) -> float:
    return row["task_ms"] / (row["task_ms"] + row["scheduling_ms"])


def _writing(row: dict[str, float]) -> float:
    return row["write_ms"] / (row["task_ms"] + row["scheduling_ms"])


def _spans(count: int, engine: Engine) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "footage", Path(folder) / "cache"
        rng = np.random.default_rng(0)
        for number in range(count):  # every video differs in one picture: no content comes twice
            video = root / f"{number // 1000:03d}" / f"{number:06d}"
            video.mkdir(parents=True)
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(video / "00.png", compress_level=0)
            for i in range(1, PICTURES):
                (video / f"{i:02d}.png").hardlink_to(video / "00.png")
        manifest = footage_dataset.build(root)
        probed = probe_files(manifest, cache)
        memory = [psutil.Process().memory_info().rss]
        ended = itertools.count(1)

        def note(_: str) -> None:
            if next(ended) == -(-count // 2):
                memory.append(psutil.Process().memory_info().rss)

        spec = resolve_extractor("null", {"before": 0, "after": 0})
        done = extract_features(manifest, probed, [spec], cache, engine=engine, when_done=note)
        memory.append(psutil.Process().memory_info().rss)
    if done.failures or done.written != count:
        raise RuntimeError(f"{done.written} of {count} spans: {done.failures[:1]}")
    streams = max(1, engine.workers)
    return {
        "scheduling_ms": 1e3 * (done.seconds * streams - done.task_seconds) / count,
        "task_ms": 1e3 * done.task_seconds / count,
        "write_ms": 1e3 * done.write_seconds / count,
        "seconds": done.seconds,
        "grown_mib": (memory[-1] - memory[0]) / 2**20,
        "grown_second_half_mib": (memory[-1] - memory[1]) / 2**20,
    }


def bench_index(*, shards: int = 1_000_000) -> tuple[dict[str, Any], list[str]]:
    """Open and filter an index of many shards, in parts as the runs over an archive leave them.

    Args:
        shards:
            How many, ten a video.

    Returns:
        Values for machines, and lines for people.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), {"extractor": "bench", "arrays": []})
        contents = [f"s1-{i:040x}" for i in range(shards // 10)]
        for first in range(0, len(contents), 10_000):
            _write_part(store, contents[first : first + 10_000])
        times: dict[str, float] = {}
        with _timed(times, PLAIN_READ):
            plain = pq.ParquetDataset(store.root / "index").read()
        with _timed(times, "open"):
            index = store.index()
        with _timed(times, "filter 1,000 videos"):
            found = store.index(contents[::-1][:1000])
        with _timed(times, "sizes and counts"):
            total = pc.sum(index["size"]).as_py()
            videos = pc.count_distinct(index["content_id"]).as_py()
        with _timed(times, "fold into one part"):
            store.fold_index(most=0)
        with _timed(times, "open the folded one"):
            store.index()
    counts = (len(plain), len(index), len(found), videos, total > 0)
    if counts != (shards, shards, 10_000, shards // 10, True):
        raise RuntimeError("the index does not say what was written")
    values = {"hardware": hardware(), "shards": shards, "seconds": times}
    lines = heading("cpu", f"{shards:,} shards of {videos:,} videos")
    least = times[PLAIN_READ]
    lines += [
        f"{name:22}{seconds:8.2f} s{seconds / least:8.2f} x" for name, seconds in times.items()
    ]
    return values, lines


def _write_part(store: FeatureStore, contents: list[str]) -> None:
    count = 10 * len(contents)
    starts = np.tile(np.arange(10, dtype=np.int64) * 16_384, len(contents))
    table = pa.table(
        {
            "content_id": np.repeat(contents, 10),
            "frame_start": starts,
            "frame_stop": starts + 16_384,
            "rows": np.full(count, 1024, np.int64),
            "size": np.full(count, 2 << 20, np.int64),
            "checksum": [f"{i:064x}" for i in range(count)],
            "last": starts == 9 * 16_384,
        }
    )
    write_table(store.root / "index" / f"{contents[0]}.parquet", table)


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    times[name] = time.perf_counter() - begin
