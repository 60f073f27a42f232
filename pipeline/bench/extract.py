"""End to end: footage to shards, and how much of the time the device waited."""

from __future__ import annotations

import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ...data_manifests import footage as footage_dataset
from ...data_manifests.record import Manifest
from ...data_manifests.synthetic import write_scene
from ...extractors.base import PrecisionRequest
from ...extractors.footage.guarded import guarded_frames
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from ..engine.planning import estimate, plan_videos
from ..engine.settings import Engine
from ..extract import extract_features
from ..probe import probe_files
from ..store.probe_table import Probed
from .race import Rate, hardware, heading, matmul, race

FRAME = (240, 420)
PATCHES = ((120, 140), (80, 84), (60, 60))  # SSRL's three grids at half its size
DRAWN_FRAMES = 400  # of each of four videos


def bench_extract(
    footage: Path | None = None,
    *,
    repeats: int = 1,
    device: str = "cpu",
    precision: PrecisionRequest = "auto",
) -> tuple[dict[str, Any], list[str]]:
    """Extract real footage with the whole frame and with patch cubes, in turn.

    What counts for patch cubes is the time for a FLOP against that of the whole frame of the same
    size: 1.0 means that cutting costs nothing. Weights are random: speed does not depend on them.

    Args:
        footage:
            A video or a folder of videos; None draws some.
        repeats:
            Turns of each.
        device:
            Where networks run.
        precision:
            As for `extract`.

    Returns:
        Values for machines, and lines for people.
    """
    engine = Engine(device=device)
    with manifest_of(footage) as (manifest, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that random weights mean nothing
        probed = probe_files(manifest, folder)
        specs = _specs(precision, engine)
        few = Probed(dict(list(probed.rows.items())[:1]))
        for spec in specs.values():  # batch sizes are tried out, libraries loaded
            _once(manifest, few, spec, folder / "warm", engine)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in specs}
        peak = matmul(specs["whole frame"].precision, engine.devices()[0])
        peaks: list[Rate] = []
        for turn in range(repeats):
            for name, spec in specs.items():
                runs[name].append(_once(manifest, probed, spec, folder / f"{name}{turn}", engine))
                peaks.append(race([peak], 3, engine.devices()[0])[peak.name])
        decode = _decode_rate(probed)
    gflops = max(rate.best for rate in peaks)
    best = {name: min(each, key=lambda run: run["seconds"]) for name, each in runs.items()}
    for run in best.values():
        run["of_matmul"] = run["gflop"] / run["seconds"] / gflops
        run["of_decode"] = run["frames"] / run["seconds"] / decode
    whole, cubes = best["whole frame"], best["patch cubes"]
    ratio = (cubes["seconds"] / cubes["gflop"]) / (whole["seconds"] / whole["gflop"])
    values = {
        "hardware": hardware(engine.devices()[0]),
        "precision": specs["whole frame"].precision,
        "matmul_gflops": gflops,
        "decode_frames_per_second": decode,
        "runs": runs,
        "best": best,
        "patch_cubes_cost_a_flop": ratio,
    }
    lines = heading(
        engine.devices()[0],
        f"{len(probed.rows)} videos, {whole['frames']:,} frames, {values['precision']}; matmul "
        f"{gflops:,.0f} GFLOP/s, decoding alone {decode:,.0f} frames/s",
    )
    lines += [_line(name, run) for name, run in best.items()]
    lines.append(f"a FLOP of patch cubes takes {ratio:.2f} x the time of one of the whole frame")
    return values, lines


def _specs(precision: PrecisionRequest, engine: Engine) -> dict[str, ExtractorSpec]:
    """The whole frame and its patches, through the same network."""
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "whole frame": ("inception_i3d", {"resize": FRAME}),
        "patch cubes": ("patch_cubes", {"frame_size": FRAME, "patch_sizes": PATCHES}),
    }
    return {
        name: resolve_extractor(
            extractor, settings, weights="random:0", precision=precision, engine=engine
        )
        for name, (extractor, settings) in made.items()
    }


def _line(name: str, run: dict[str, Any]) -> str:
    parts = (
        f"{name:12} {run['seconds']:7.1f} s",
        f"{run['frames'] / run['seconds']:8,.0f} frames/s",
        f"{run['clips'] / run['seconds']:7.2f} clips/s",
        f"device waited {100 * run['waited']:.1f} %",
        f"{100 * run['of_matmul']:.0f} % of matmul",
        f"{100 * run['of_decode']:.0f} % of decoding",
        f"peak {run['peak_bytes'] / 2**30:.2f} GiB",
    )
    return "  ".join(parts)


def _once(
    manifest: Manifest, probed: Probed, spec: ExtractorSpec, place: Path, engine: Engine
) -> dict[str, Any]:
    """Extract into a folder of its own; the batch sizes that were found are common to all."""
    cost = estimate(plan_videos(probed, stores_of([spec], place), engine.span_frames), [spec])
    cache = place.parent
    with watched_memory() as peak:
        done = extract_features(manifest, probed, [spec], cache, engine=engine, store_root=place)
    if done.failures:
        raise RuntimeError(f"{done.failures[0].video_id}: {done.failures[0].message}")
    return {
        "seconds": done.seconds,
        "frames": cost.frames,
        "clips": cost.rows,
        "gflop": cost.flops / 1e9,
        "waited": done.waited or 0.0,
        "peak_bytes": peak(),
    }


def _decode_rate(probed: Probed) -> float:
    """Frames a second of the same footage, decoded and dropped."""
    begin, frames = time.perf_counter(), 0
    for row in probed.rows.values():
        frames += sum(1 for _ in guarded_frames(row))
    return frames / (time.perf_counter() - begin)


@contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """Most bytes held by this process and its children; shared pages count once.

    Resident sizes: reading the exact share of each page would slow down what is measured.
    """
    most, ended = 0, threading.Event()
    me = psutil.Process()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.1):
            alone, shared = 0, 0
            for process in (me, *me.children(recursive=True)):
                try:
                    memory = process.memory_info()
                except psutil.Error:
                    continue
                common = getattr(memory, "shared", 0)
                alone, shared = alone + memory.rss - common, max(shared, common)
            most = max(most, alone + shared)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield lambda: most
    finally:
        ended.set()
        watching.join()


@contextmanager
def manifest_of(
    footage: Path | None, drawn_frames: int = DRAWN_FRAMES
) -> Iterator[tuple[Manifest, Path]]:
    """The manifest of footage, of a drawn scene if there is none, and a folder for a cache."""
    with tempfile.TemporaryDirectory() as folder:
        root = footage or write_scene(
            Path(folder) / "scene", n_train=1, n_test=3, frames=drawn_frames
        )
        yield footage_dataset.build(root), Path(folder) / "cache"
