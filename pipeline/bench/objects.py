"""Objects end to end: boxes, crops and flow, against what the object detector alone allows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...extractors.base import Runtime
from ...extractors.clips import Clip, ClipAssembler, Span
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.video import ProbeRow
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor
from ..engine.settings import Engine, cpu_count
from ..extract import extract_features
from ..probe import probe_files
from ..store.probe_table import Probed
from .extract import manifest_of
from .race import hardware, heading

DRAWN_FRAMES = 100  # of each of four videos
ALONE = 40  # frames that the object detector alone gets
CASES: dict[str, dict[str, Any]] = {
    "boxes": {},
    "crops": {"crop_context": 3},
    "crops and flow": {"crop_context": 3, "flow": "dis"},
}


def bench_objects(
    footage: Path | None = None,
    *,
    repeats: int = 1,
    device: str = "cpu",
    detector: str = "yolox",
) -> tuple[dict[str, Any], list[str]]:
    """Extract objects, and let the object detector alone run on frames in memory, in turn.

    Args:
        footage:
            A video or a folder of videos; None draws some.
        repeats:
            Turns of each.
        device:
            Where networks run.
        detector:
            Of `objects`; its weights have to be there.

    Returns:
        Values for machines, and lines for people.

    Raises:
        WeightsError: the weights of the detector are missing; the message says how to get them.
    """
    engine = Engine(device=device)
    specs = {
        name: resolve_extractor("objects", {"detector": detector, **settings}, engine=engine)
        for name, settings in CASES.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in ("detector alone", *specs)}
    writing: dict[str, list[float]] = {name: [] for name in specs}
    objects = 0.0
    with manifest_of(footage, DRAWN_FRAMES) as (manifest, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probed = probe_files(manifest, folder)
        frames = sum(row.n_frames for row in probed.rows.values())
        for turn in range(repeats):
            rates["detector alone"].append(_alone(specs["boxes"], probed, engine))
            for name, spec in specs.items():
                place = folder / f"{name}{turn}"
                done = extract_features(
                    *(manifest, probed, [spec], folder),
                    engine=engine,
                    store_root=place,
                    max_bytes=1 << 50,
                )
                if done.failures:
                    raise RuntimeError(f"{done.failures[0].video_id}: {done.failures[0].message}")
                rates[name].append(frames / done.seconds)
                writing[name].append(done.write_seconds / done.task_seconds)
                objects = _objects_a_frame(done.stores[0], probed)
    best = {name: max(each) for name, each in rates.items()}
    shares = {name: best[name] / best["detector alone"] for name in specs}
    values = {
        "hardware": hardware(engine.devices()[0]),
        "detector": detector,
        "objects_a_frame": objects,
        "frames_per_second": best,
        "share_of_the_detector": shares,
        "share_of_writing": {name: min(each) for name, each in writing.items()},
        "runs": rates,
    }
    what = (
        f"{len(probed.rows)} videos, {frames:,} frames, {detector}, {objects:.1f} objects a frame"
    )
    lines = heading(engine.devices()[0], what)
    lines.append(f"{'detector alone':16} {best['detector alone']:8,.1f} frames/s")
    lines += [
        f"{name:16} {best[name]:8,.1f} frames/s  {100 * share:3.0f} % of the detector alone, "
        f"writing {100 * min(writing[name]):.0f} % of the time"
        for name, share in shares.items()
    ]
    return values, lines


def _objects_a_frame(store: Any, probed: Probed) -> float:
    counts = [store.read(row.content_id).arrays["objects"][:] for row in probed.rows.values()]
    return float(np.mean(np.concatenate(counts)))


def _alone(spec: ExtractorSpec, probed: Probed, engine: Engine) -> float:
    """Frames a second of the object detector, on clips that are in memory."""
    extractor: Any = spec.make()
    extractor.load(Runtime(device=engine.devices()[0], threads=cpu_count()))
    row = next(iter(probed.rows.values()))
    clips = list(islice(_clips(row, extractor), ALONE))
    extractor.find(clips[0])  # libraries are loaded, and caches filled
    begin = time.perf_counter()
    for clip in clips:
        extractor.find(clip)
    return len(clips) / (time.perf_counter() - begin)


def _clips(row: ProbeRow, extractor: Any) -> Iterator[Clip]:
    span = Span(row.content_id, 0, row.n_frames, last=True)
    assembler = ClipAssembler(extractor.clip_rule, span, row.path)
    for frame in guarded_frames(row):
        yield from assembler.push(frame)
    yield from assembler.finish()
