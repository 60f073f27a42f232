"""A look for objects in normal footage: a few frames of several videos, not a measurement.

The frames are spread over the videos of a camera, as a car park may be empty for its first hour.
Nothing is kept: the looks are cheap, and the features of a recipe are taken in one pass later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data_manifests.errors import VadpipeError
from ...data_manifests.record import VideoRecord
from ...extractors.base import Extractor
from ...extractors.clips import Clip
from ...extractors.footage.errors import SeekMismatch
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.limits import DecodeLimits
from ...extractors.footage.video import Frame, ProbeRow, in_order
from ..engine.extractor_spec import resolve_extractor
from ..engine.settings import Engine
from ..engine.span_task import prepared
from ..scores.box_counts import ROLE

FRAMES = 40  # of a camera
MOST_VIDEOS = 8  # of a camera, spread over all that train
IN_ORDER = 500  # frames: as far as a file without exact seeks is read
Advance = Callable[[float], None]


def shares_with_objects(
    samples: Mapping[str, Sequence[VideoRecord]],
    rows: Mapping[str, ProbeRow],
    cache: Path,
    engine: Engine,
    advance: Advance = lambda step: None,
) -> dict[str, float]:
    """Camera -> share of the frames that were looked at which have an object.

    The objects are those that `objects` finds by yolov3_tiny with its usual threshold. Videos that
    cannot be read are left out; a camera of which no frame could be read has 0.

    Args:
        samples:
            Camera -> videos to look at, see `spread`.
        rows:
            video_id -> its file.
        cache:
            Root of the cache, with the weights.
        engine:
            How networks run here, and what a file may cost; a cluster is not used.
        advance:
            Called with the number of frames that were looked at, or could not be.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    spec = resolve_extractor("objects", {"detector": "yolov3_tiny"}, cache=cache)
    runtime = engine.model_copy(update={"scheduler": None, "workers": 0}).runtime()
    extractor = prepared(spec, runtime)
    shares = {}
    for camera, records in samples.items():
        each = -(-FRAMES // len(records))
        found: list[bool] = []
        for record in records:
            places = places_in(record, rows[record.video_id], each)
            seen = 0
            try:
                for frame in _frames(rows[record.video_id], places, engine.limits):
                    found.append(_has_object(extractor, frame))
                    seen += 1
                    advance(1)
            except VadpipeError:
                pass  # the extraction will say what is wrong with the file
            advance(each - seen)
        shares[camera] = float(np.mean(found)) if found else 0.0
    return shares


def spread(records: Sequence[VideoRecord], most: int = MOST_VIDEOS) -> list[VideoRecord]:
    """At most so many of the videos, at even distances."""
    if len(records) <= most:
        return list(records)
    return [records[i] for i in np.linspace(0, len(records) - 1, most).round().astype(int)]


def places_in(record: VideoRecord, row: ProbeRow, count: int) -> list[int]:
    """Numbers of frames to look at: spread over the part of a file that a record names.

    A key frame close before is taken instead: one picture is decoded then, not all since that.
    """
    start, stop = (round(edge * row.n_frames) for edge in record.part)
    if row.sequential_only:
        stop = min(stop, start + IN_ORDER)
    wanted = start + (np.arange(count) + 0.5) * max(stop - start, 1) / count
    places = wanted.astype(np.int64)
    if row.key_frames is not None:
        keys = row.key_frames.index
        before = keys[np.maximum(np.searchsorted(keys, places, side="right") - 1, 0)]
        near = (before >= start) & (places - before < max(stop - start, 1) / count)
        places = np.where(near, before, places)
    return [int(place) for place in np.unique(places) if place < max(row.n_frames, 1)]


def _frames(row: ProbeRow, places: Sequence[int], limits: DecodeLimits) -> Iterator[Frame]:
    """The frames of these numbers; those of a file that cannot be seeked in are read in order."""
    if row.sequential_only:
        yield from _in_order(row, places, limits)
        return
    for number, place in enumerate(places):
        try:
            with guarded_frames(row, place, place + 1, threads=1, limits=limits) as reader:
                yield from reader
        except SeekMismatch:
            reached = [each for each in places[number:] if each < places[0] + IN_ORDER]
            yield from _in_order(in_order(row), reached, limits)
            return


def _in_order(row: ProbeRow, places: Sequence[int], limits: DecodeLimits) -> Iterator[Frame]:
    if not places:
        return
    with guarded_frames(row, places[0], places[-1] + 1, threads=1, limits=limits) as reader:
        yield from (frame for frame in reader if frame.index in set(places))


def _has_object(extractor: Extractor[Any], frame: Frame) -> bool:
    """Whether the extractor `objects` finds one."""
    image = np.ascontiguousarray(frame.image)[np.newaxis]
    numbers, times = np.array([frame.index]), np.array([frame.pts])
    clip = Clip(image, numbers, times, frame.index, frame.index + 1)
    (name,) = (spec.name for spec in extractor.arrays if spec.role == ROLE)
    return bool(extractor.extract([clip])["frame"].arrays[name][0] > 0)
