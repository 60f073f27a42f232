"""Objects end to end: boxes, crops and flow, against what the networks alone allow."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...extractors.base import Runtime
from ...extractors.clips import Clip, ClipAssembler, Span
from ...extractors.detection.choices import CHOICES
from ...extractors.device.lane import lane_of
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.video import ProbeRow
from ...extractors.objects import TEACHER, Objects
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor
from ..engine.settings import Engine, cpu_count
from ..extract import Extracted, extract_features
from ..probe import probe_files
from ..store.probe_table import Probed
from .extract import manifest_of
from .race import hardware, heading

DRAWN_FRAMES = 100  # of each of the drawn videos
ALONE = 40  # frames that the networks alone get, spread over all videos
ASKED = (
    80  # % of the rate of the networks alone; flow is work of its own, so nothing is asked of it
)
SOURCE_RATE = 24.0  # frames of footage a second that `attribute_density` should keep up with


@dataclass(frozen=True)
class Case:
    """What is extracted.

    Attributes:
        settings: of `objects`, beside the detector.
        target: frames of footage a second that are asked for; None: none are.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    target: float | None = None

    @property
    def of_networks(self) -> dict[str, Any]:
        """The settings that decide what networks do in a frame."""
        ours = ("tile_scale", "score", "min_height", "teacher")
        return {name: value for name, value in self.settings.items() if name in ours}


_TILES = {"tile_scale": 3.0, "score": 0.1, "min_height": 12.0, "stride": 3}  # preset ped2
CASES: dict[str, Case] = {
    "boxes": Case(),
    "boxes, stride 3": Case({"stride": 3}, SOURCE_RATE),
    "tiles, stride 3": Case(_TILES, SOURCE_RATE),
    "tiles and flow, stride 3": Case({**_TILES, "flow": "dis", "flow_scale": 1.5}, SOURCE_RATE),
    "crops": Case({"crop_context": 3}),
    "crops and flow": Case({"crop_context": 3, "flow": "dis"}),
    "crops and teacher": Case({"crop_context": 15, "teacher": "efficientnet_lite0"}),
}


@dataclass(frozen=True)
class Turn:
    """What one turn of a case reached, in frames of footage a second.

    Attributes:
        rate: end to end.
        alone: the detector, with its pictures made and its boxes chosen, and the teacher, one frame
            after the other on frames in memory.
        networks: the same without what the device has no part in; None without a network.
        writing: share of the tasks' time.
        objects: a frame.
    """

    rate: float
    alone: float
    networks: float | None
    writing: float
    objects: float


def bench_objects(
    footage: Path | None = None,
    *,
    repeats: int = 1,
    device: str = "cpu",
    detector: str = "yolox",
) -> tuple[dict[str, Any], list[str]]:
    """Extract objects, and let the networks alone run on frames in memory, in turn.

    Args:
        footage:
            A video or a folder of videos; None draws some.
        repeats:
            Turns of each.
        device:
            Where networks run.
        detector:
            Of `objects`; its weights have to be there. The teacher has random ones.

    Returns:
        Values for machines, and lines for people.

    Raises:
        WeightsError: the weights of the detector are missing; the message says how to get them.
    """
    engine = Engine(device=device)
    tiles = CHOICES[detector].tiles
    cases = {name: c for name, c in CASES.items() if tiles or "tile_scale" not in c.settings}
    turns: dict[str, list[Turn]] = {name: [] for name in cases}
    with manifest_of(footage, DRAWN_FRAMES) as (manifest, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that random weights mean nothing
        probed = probe_files(manifest, folder)
        frames = sum(row.n_frames for row in probed.rows.values())

        def extract(case: Case, rows: Probed, place: str) -> Extracted:
            done = extract_features(
                *(manifest, rows, [_spec(detector, case.settings, engine)], folder),
                engine=engine,
                store_root=folder / place,
                max_bytes=1 << 50,
            )
            if done.failures:
                raise RuntimeError(f"{done.failures[0].video_id}: {done.failures[0].message}")
            return done

        few = Probed(dict(list(probed.rows.items())[:1]))
        for name, case in cases.items():  # networks are loaded, batch sizes tried out
            extract(case, few, f"{name} warm")
        for turn in range(repeats):
            for name, case in cases.items():
                alone, networks = _alone(_spec(detector, case.of_networks, engine), probed, engine)
                done = extract(case, probed, f"{name} {turn}")
                stride = case.settings.get("stride", 1)
                found = Turn(
                    frames / done.seconds,
                    stride * alone,
                    None if networks is None else stride * networks,
                    done.write_seconds / done.task_seconds,
                    _objects_a_frame(done.stores[0], probed),
                )
                turns[name].append(found)
    rows = {name: _row(cases[name], each) for name, each in turns.items()}
    values = {
        "hardware": hardware(engine.devices()[0]),
        "detector": detector,
        "cases": rows,
        "share_of_the_detector": {name: row["share_of_alone"] for name, row in rows.items()},
    }
    what = f"{len(probed.rows)} videos, {frames:,} frames, {detector}; frames/s of the footage"
    lines = heading(engine.devices()[0], what)
    return values, [*lines, *(_line(name, row) for name, row in rows.items())]


def _spec(detector: str, settings: Mapping[str, Any], engine: Engine) -> ExtractorSpec:
    weights = {TEACHER: "random:0"} if "teacher" in settings else None
    options = {"detector": detector, **settings}
    return resolve_extractor("objects", options, weights=weights, engine=engine)


def _row(case: Case, turns: list[Turn]) -> dict[str, Any]:
    """The best of all turns, and its shares."""
    rate, alone = max(t.rate for t in turns), max(t.alone for t in turns)
    networks = max((t.networks for t in turns if t.networks is not None), default=None)
    return {
        "frames_per_second": rate,
        "alone": alone,
        "networks": networks,
        "share_of_alone": rate / alone,
        "share_of_networks": None if networks is None else rate / networks,
        "share_of_writing": min(t.writing for t in turns),
        "objects_a_frame": turns[-1].objects,
        "target": case.target,
        "asked": None if "flow" in case.settings else ASKED,
        "runs": [t.rate for t in turns],
    }


def _line(name: str, row: Mapping[str, Any]) -> str:
    parts = [f"{name:25}{row['frames_per_second']:7.1f} frames/s"]
    if row["target"] is not None:
        parts[0] += f" (target {row['target']:.0f})"
    asked = "" if row["asked"] is None else f" (asked {row['asked']} %)"
    if row["networks"] is not None:
        share = f"{100 * row['share_of_networks']:.0f} %{asked}"
        parts.append(f"{share} of the networks alone, {row['networks']:.1f}")
        asked = ""
    parts.append(f"{100 * row['share_of_alone']:.0f} %{asked} of finding, {row['alone']:.1f}")
    parts.append(f"{row['objects_a_frame']:.1f} objects a frame")
    parts.append(f"writing {100 * row['share_of_writing']:.0f} %")
    return ", ".join(parts)


def _objects_a_frame(store: Any, probed: Probed) -> float:
    counts = [store.read(row.content_id).arrays["objects"][:] for row in probed.rows.values()]
    return float(np.mean(np.concatenate(counts)))


def _alone(spec: ExtractorSpec, probed: Probed, engine: Engine) -> tuple[float, float | None]:
    """Frames a second of an extractor on clips in memory: with its own preparation, and of the time
    in which the device worked."""
    device = engine.devices()[0]
    extractor = spec.make()
    assert isinstance(extractor, Objects)
    extractor.load(Runtime(device=device, threads=cpu_count()))
    frames = sum(row.n_frames for row in probed.rows.values())
    every = max(1, frames // ALONE)
    clips = [clip for row in probed.rows.values() for clip in _clips(row, extractor, every)]
    size = extractor.batch_size if device == "cpu" else extractor.gpu_batch_size
    batches = [clips[at : at + size] for at in range(0, len(clips), size)]
    for batch in batches[-2:]:  # libraries are loaded, caches filled, batch sizes tried out
        extractor.extract(batch)
    lane = lane_of(device)
    before, begin = lane.usage().busy, time.perf_counter()
    for batch in batches:
        extractor.extract(batch)
    seconds, busy = time.perf_counter() - begin, lane.usage().busy - before
    return len(clips) / seconds, len(clips) / busy if busy else None


def _clips(row: ProbeRow, extractor: Objects, every: int) -> Iterator[Clip]:
    """Every so many frames of a video, with their context."""
    rule = replace(extractor.clip_rule, stride=every)
    assembler = ClipAssembler(rule, Span(row.content_id, 0, row.n_frames, last=True), row.path)
    for frame in guarded_frames(row):
        yield from assembler.push(frame)
    yield from assembler.finish()
