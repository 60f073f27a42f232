"""Stage `choose`: settings ranked by training footage alone, against faster copies of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ..data_manifests.record import Manifest, VideoRecord
from ..detectors.base import Bag, Detector, DetectorError
from ..detectors.object_maps import ObjectMapConfig, gaussian, read_objects
from .bags import StoreBags, UsableVideos, usable_videos
from .choosing.candidates import check_candidates, check_strides, check_thresholds
from .choosing.copy_sources import CopySource, check_copy, read_sources
from .choosing.fast_copies import MARK, training_clips
from .choosing.one_window import Windows, by_window, event_frames, mixed
from .choosing.thinned import HeldBags, thinned
from .engine.progress import tell
from .models import make_detector
from .scores.frames import expand_to_frames
from .store.errors import StoreError
from .store.keys import differing_fields
from .store.probe_table import Probed

PARTS = 20  # parts of the training clips at most that are left out in turn
SMOOTH = "smooth"  # the setting that needs no other fit
CHANCE = 50.0  # percent: the AUC of scores that say nothing


@dataclass(frozen=True)
class Ranked:
    """One combination of settings.

    Attributes:
        threshold: smallest score of a box.
        stride: frames from one row to the next.
        settings: of the detector, those of the grid only.
        auc: micro AUC of frames in percent, clips in which one window plays fast.
    """

    threshold: float
    stride: int
    settings: dict[str, Any]
    auc: float

    def line(self) -> str:
        """As `99.12  threshold 0.1, stride 1, smooth 4`."""
        named = {"threshold": self.threshold, "stride": self.stride, **self.settings}
        return f"{self.auc:.2f}  " + ", ".join(f"{key} {value}" for key, value in named.items())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return vars(self).copy()


@dataclass(frozen=True)
class _Clip:
    """A training clip and its copies, as bags; the frames [start, stop) of the file that it is."""

    frames: tuple[int, int]
    normal: Bag
    fast: tuple[Bag, ...]


def rank_settings(
    detector_name: str,
    manifest: Manifest,
    probed: Probed,
    copies: Manifest,
    copies_probed: Probed,
    cache: Path,
    *,
    features: str | None = None,
    copy_features: str | None = None,
    settings: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    thresholds: Sequence[float] = (0.0,),
    strides: Sequence[int] = (1,),
    windows: tuple[int, int] = (4, 6),
    seed: int = 0,
    on_cell: Callable[[int, int], None] | None = None,
) -> list[Ranked]:
    """Rank settings of a detector that scores boxes; no test clip is read.

    Each training clip is left out of a fit in turn (of more than 20, a twentieth), and scored by it
    as it is and as it plays faster. From both come clips in which one window plays fast for a
    while: its boxes are those of the copy, all others those of the clip. The frames of that while
    are abnormal. All windows, clips and speeds are taken, none is chosen. The order is that of the
    micro AUC of all these frames, raw, in percent to two decimals; of equal ones, larger strides,
    then higher thresholds, then settings as they are by default come first.

    Args:
        detector_name:
            Registry name.
        manifest:
            The data set; only records of split "train" are looked at.
        probed:
            Their files.
        copies:
            What `write_fast_copies` returned for it.
        copies_probed:
            Their files.
        cache:
            Root of the cache.
        features:
            Feature set of the objects of the training clips, where several fit: of every frame,
            with the lowest of the thresholds.
        copy_features:
            That of the copies, where it is another one; without a value both were made with the
            same settings.
        settings:
            Of the detector, where they differ from the defaults.
        grid:
            Setting of the detector -> its values; every combination is a candidate.
        thresholds:
            Smallest scores of a box.
        strides:
            Frames from one row to the next.
        windows:
            Rows and columns that the picture is cut into.
        seed:
            Of the detector.
        on_cell:
            Called with (candidates ranked, candidates in all).

    Raises:
        DetectorError: the detector scores no boxes or filters its map, there are fewer than two
            training clips, a clip has no copies, there are no candidates, a stride leaves too few
            rows, or scores are not finite.
        ManifestError: there are no training clips, or the copies are not of these clips.
        StoreError: features are missing or ambiguous, the copies' were made in another way and not
            named, or a threshold is below that of the feature set.
        pydantic.ValidationError: a setting has a wrong value.
    """
    check_candidates(settings or {}, grid or {}, thresholds, strides, windows)
    cells = _cells(settings or {}, grid or {})
    made = [_detector(detector_name, cell) for cell in cells]
    trained, sources = training_clips(manifest), read_sources(copies)
    clips_found = _found(made[0], trained, probed, cache, features)
    copies_found = _found(made[0], copies.records, copies_probed, cache, copy_features or features)
    if copy_features is None:
        _check_alike(clips_found, copies_found)
    check_thresholds(thresholds, [*clips_found.stores.values(), *copies_found.stores.values()])
    clips = _paired(clips_found, _bags(copies_found), sources)
    step = math.lcm(*strides)
    for clip in clips:
        for copy in clip.fast:
            check_strides(copy.video_id, clip.frames, copy.n_frames, strides)
    found: list[Ranked] = []
    total = len(cells) * len(thresholds) * len(strides)
    for least, every in itertools.product(thresholds, strides):
        thin = [
            _Clip(
                c.frames,
                thinned(c.normal, least, every),
                tuple(thinned(f, least, every) for f in c.fast),
            )
            for c in clips
        ]
        for own, alike in _fits(made, cells):
            pairs = _left_out(detector_name, own, thin, windows, seed)
            for cell, detector in alike:
                auc = _auc(pairs, detector.config.smooth, step)
                named = {key: cell[key] for key in grid or {}}
                found.append(Ranked(least, every, named, 100 * auc))
                if on_cell is not None:
                    on_cell(len(found), total)
    default = type(made[0].config)()
    if (best := max(each.auc for each in found)) <= CHANCE:
        tell(
            f"the best AUC is {best:.2f}, and {CHANCE:.0f} is chance: this order says nothing; "
            "look whether boxes are found, and whether the attributes see speed",
            style="yellow",
        )
    return sorted(found, key=lambda each: _order(each, default))


def _order(each: Ranked, default: ObjectMapConfig) -> tuple[float, ...]:
    changed = sum(getattr(default, name) != value for name, value in each.settings.items())
    return (-round(each.auc, 2), -each.stride, -each.threshold, changed)


def _cells(settings: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All settings of each candidate."""
    combined = itertools.product(*grid.values())
    return [{**settings, **dict(zip(grid, values, strict=True))} for values in combined]


def _detector(name: str, settings: Mapping[str, Any]) -> Detector[ObjectMapConfig]:
    """A detector whose frames have the score of their highest box, smoothed over time."""
    detector = make_detector(name, settings)
    if not (detector.regions and isinstance(detector.config, ObjectMapConfig)):
        raise DetectorError(
            "choose ranks detectors whose frames have the score of their highest box, smoothed "
            f"over time; {name} is not one of them: take attribute_density"
        )
    if detector.config.mean_filter != 1:
        raise DetectorError(
            "choose takes the highest box of each frame, and mean_filter averages blocks: leave it "
            "at 1"
        )
    return detector


def _found(
    detector: Detector[Any],
    records: Sequence[VideoRecord],
    probed: Probed,
    cache: Path,
    features: str | None,
) -> UsableVideos:
    """The features of training clips, or of copies."""
    named = None if features is None else dict.fromkeys(detector.needs, features)
    return usable_videos(detector, list(records), probed, cache, named, 0.0)


def _bags(found: UsableVideos) -> StoreBags:
    return StoreBags(found.records, found.rows, found.stores, labels=False)


def _check_alike(clips: UsableVideos, copies: UsableVideos) -> None:
    """Refuse copies whose features were made in another way, unless they were named.

    Raises:
        StoreError: they were; the message lists the settings.
    """
    for role, store in clips.stores.items():
        other = copies.stores[role]
        if differing := differing_fields(store.recipe, other.recipe):
            raise StoreError(
                f"the copies were extracted in another way than the clips ({store.name}, then "
                f"{other.name}):",
                *(f"  {line}" for line in differing),
                "extract them with the same settings, or name their set with --copy-features",
            )


def _paired(found: UsableVideos, fast: StoreBags, sources: Mapping[str, CopySource]) -> list[_Clip]:
    """Each clip with its copies.

    Raises:
        DetectorError: there are fewer than two clips, or one has no copies.
        ManifestError: a copy is not of its clip.
    """
    copies: dict[str, list[Bag]] = {}
    for bag in fast:
        copies.setdefault(bag.video_id.rpartition(MARK)[0], []).append(bag)
    clips = [
        _Clip(record.frame_range(bag.n_frames), bag, tuple(copies.get(bag.video_id, ())))
        for record, bag in zip(found.records, _bags(found), strict=True)
    ]
    if lacking := [clip.normal.video_id for clip in clips if not clip.fast]:
        raise DetectorError(
            f"{len(lacking)} training clips have no fast copies: {', '.join(lacking[:10])}; make "
            "them of this manifest, vadpipe choose copies"
        )
    if len(clips) < 2:
        raise DetectorError("one training clip cannot be left out: choose needs two or more")
    for clip in clips:
        content = found.rows[clip.normal.video_id].content_id
        for copy in clip.fast:
            check_copy(copy, sources, content, clip.normal, clip.frames)
    return clips


def _fits(
    made: Sequence[Detector[ObjectMapConfig]], cells: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], list[tuple[dict[str, Any], Detector[ObjectMapConfig]]]]]:
    """Candidates that differ in `smooth` only share their fits."""
    groups: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for cell, detector in zip(cells, made, strict=True):
        key = repr(sorted(detector.config.model_dump(exclude={SMOOTH}).items()))
        groups.setdefault(key, (cell, []))[1].append((cell, detector))
    return list(groups.values())


@dataclass(frozen=True)
class _Pair:
    """A clip and one of its copies, scored by a fit without the clip.

    Attributes:
        name: id of the copy.
        frames: the frames [start, stop) of the file that are the clip.
        fast_frames: of the copy.
        clip: scores of the clip.
        fast: scores of the copy.
    """

    name: str
    frames: tuple[int, int]
    fast_frames: int
    clip: Windows
    fast: Windows


def _left_out(
    name: str, settings: dict[str, Any], clips: Sequence[_Clip], grid: tuple[int, int], seed: int
) -> list[_Pair]:
    source = HeldBags(tuple(clip.normal for clip in clips))
    parts = min(PARTS, len(clips))
    part = np.arange(len(clips)) * parts // len(clips)
    pairs = []
    for one in range(parts):
        detector = _detector(name, settings)
        detector.fit(source.subset(np.flatnonzero(part != one).tolist()), device="cpu", seed=seed)
        for number in np.flatnonzero(part == one).tolist():
            clip = clips[number]
            size = read_objects(clip.normal).size
            normal = by_window(detector.score(clip.normal), size, grid)
            for copy in clip.fast:
                fast = by_window(detector.score(copy), size, grid)
                pairs.append(_Pair(copy.video_id, clip.frames, copy.n_frames, normal, fast))
    return pairs


def _auc(pairs: Sequence[_Pair], smooth: float, step: int) -> float:
    """Micro AUC of the frames of all clips in which one window plays fast.

    Raises:
        DetectorError: scores are not finite.
    """
    scores: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.bool_]] = []
    for pair in pairs:
        start, stop = event_frames(pair.frames, pair.fast_frames, step)
        frames = np.arange(*pair.frames)
        label = (frames >= start) & (frames < stop)
        for rows in mixed(pair.clip, pair.fast, start):
            if not np.isfinite(rows).all():
                raise DetectorError(
                    f"scores of {pair.name} or its clip are not finite, so nothing can be ranked: "
                    "their features hold values that are not numbers; extract them again"
                )
            smoothed = gaussian(rows, pair.clip.frame_start, smooth)
            times = pair.clip.frame_start, pair.clip.frame_stop
            scores.append(expand_to_frames(*times, smoothed, *pair.frames))
            labels.append(label)
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))
