"""Attribute density: objects whose speed, direction, place, size, class, ... normal ones lack.

Every attribute has a limit from training footage. Evidence above it is log1p of the excess, scaled
by the spread of training frames. The attributes with evidence say in words why an object is odd.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from .attribute_models import ATTRIBUTES, Attribute, Density, Name, checked_learned
from .base import (
    Bag,
    BagSource,
    Config,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Row,
    Scores,
    State,
    Supervision,
)
from .object_links import fill_between
from .object_maps import ObjectMapConfig, Objects, read_objects, score_frames
from .object_measures import Floats, Measures, MotionSource, joined, measure
from .object_reasons import Judged, object_regions
from .scenes import ANYWHERE, learned_of, scene_of
from .state import stored_array

FOLDS = 10  # parts of the training footage that are left out in turn for the limits
HELD_OUT = 20  # parts of it that are left out in turn to calibrate
THREADS = 1  # of BLAS: with more of them, searches took more than ten times as long under load
FRAME, LIMIT = "frame", "limit"  # parts of the names of stored arrays
FEW = 5  # blocks of time of a single video


class AttributeDensityConfig(ObjectMapConfig):
    """Settings of `attribute_density`."""

    attributes: tuple[Name, ...] = Field(
        default=("speed", "direction", "place", "size", "class", "stay"),
        min_length=1,
        description="what of an object is compared with normal objects",
    )
    combine: Literal["sum", "max"] = Field(
        default="sum", description="over the evidence of the attributes of an object"
    )
    per_scene: bool = Field(
        default=True, description="learn each scene apart, where the manifest names scenes"
    )
    motion: MotionSource = Field(
        default="objects",
        description="objects: what objects measured with flow; flow: median of dense flow in the "
        "box; velocity: of imported tracks",
    )
    density: Literal["knn", "gmm"] = Field(
        default="knn",
        description="nearest neighbours, or a mixture of Gaussians, for place, size, direction, "
        "deep, pose and reid",
    )
    limit: float = Field(
        default=0.99,
        gt=0.5,
        le=1,
        description="quantile of the maxima of training frames that is the limit of an attribute",
    )
    k: int = Field(default=3, ge=1, description="mean over this many nearest neighbours")
    context: int = Field(
        default=30, ge=1, description="nearest places that size and direction are compared with"
    )
    components: int = Field(default=5, ge=1, description="Gaussians of a mixture")
    perspective: bool | None = Field(
        default=None,
        description="divide speeds by the height of the box; without a value: if the median "
        "heights of near and far objects differ by more than 1.5 in training (thirds by feet)",
    )
    moving: float = Field(
        default=0.5, gt=0, description="share of the median training speed that is motion"
    )
    max_frames: int = Field(
        default=5000, ge=2, description="training frames that are used, evenly spread"
    )
    max_rows: int = Field(
        default=5000, ge=1, description="objects that vectors and mixtures are kept of"
    )
    fill: bool = Field(
        default=True,
        description="boxes in the frames between rows too, where features have a stride",
    )

    @field_validator("attributes")
    @classmethod
    def _once(cls, names: tuple[Name, ...]) -> tuple[Name, ...]:
        if len(set(names)) < len(names):
            raise ValueError("an attribute is named twice")
        return names


@dataclass(frozen=True)
class Limit:
    """When an attribute is evidence.

    Attributes:
        limit: quantile of the maxima of training frames.
        floor: evidence is 0 up to here.
        scale: excess over the floor that is an evidence of log 2.
    """

    limit: float
    floor: float
    scale: float

    def evidence(self, values: Floats) -> Floats:
        """log1p of the excess over the floor: (n,)."""
        return np.asarray(np.log1p(np.maximum(values - self.floor, 0.0) / self.scale))


@dataclass(frozen=True)
class Learned:
    """One attribute of one scene."""

    state: State
    limit: Limit


class AttributeDensity(Detector[AttributeDensityConfig]):
    """Evidence of each attribute of each object, with a reason in words."""

    name: ClassVar[str] = "attribute_density"
    version: ClassVar[int] = 2
    words: ClassVar[str] = "something is unusual for this place"
    Config: ClassVar[type[Config]] = AttributeDensityConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    regions: ClassVar[bool] = True
    train_options: ClassVar[frozenset[str]] = frozenset()  # every video is left out in turn

    def __init__(self, config: AttributeDensityConfig) -> None:
        super().__init__(config)
        self._seed = 0
        self._scenes: dict[str, dict[Name, Learned]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # of the frames of a scene

    @property
    def needs(self) -> tuple[str, ...]:
        """Objects, and dense flow where motion comes from it."""
        moves = {"speed", "direction"} & set(self.config.attributes)
        return ("object", "flow") if moves and self.config.motion == "flow" else ("object",)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the highest evidence of each attribute, which is not smoothed."""
        return ("score", *self.config.attributes)

    @property
    def maps(self) -> tuple[str, ...]:
        """Scores of objects on blocks."""
        return ("objects",)

    def draws(self, source: BagSource) -> bool:
        """Only mixtures of Gaussians start at random."""
        return self.config.density == "gmm"

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Learn normal objects of each scene, and the limits of their attributes.

        Of a scene that has objects in fewer than two frames nothing is learned, with a warning.

        Raises:
            DetectorError: there are no training videos, no scene has objects in two frames, or an
                array is missing.
        """
        if not len(source):
            raise DetectorError("there are no training videos")
        self._seed = seed
        self._scenes, self._sizes = {}, {}
        with threadpool_limits(THREADS):
            parts, frames = self._measured(source, options or FitOptions())
            normal = {scene: joined(measured) for scene, measured in parts.items()}
            enough = [scene for scene, part in normal.items() if _frames(part).max(initial=0) > 0]
            for scene in enough or normal:
                self._scenes[scene] = self._learned(scene, normal[scene])
        objects = sum(len(part) for measured in parts.values() for part in measured)
        summary: Row = {"videos": len(source), "frames": frames, "objects": objects}
        for scene, learned in self._scenes.items():
            for name, one in learned.items():
                summary[f"limit of {name}, scene {scene}"] = one.limit.limit
        few = [scene for scene in normal if scene not in self._scenes]
        return FitLog(summary=summary, warnings=tuple(map(_too_few, few)))

    def score(self, bag: Bag) -> Scores:
        """Score the objects of a video, and its frames by them.

        Raises:
            DetectorError: the detector is not fitted, or the bag is of another scene or size, or
                lacks an array.
        """
        if not self._scenes:
            raise DetectorError(f"{self.name} is not fitted")
        learned = learned_of(self._scenes, bag, per_scene=self.config.per_scene)
        scene, objects = self._scene(bag), read_objects(bag)
        self._check_size(bag, objects, self._sizes[scene])
        with threadpool_limits(THREADS):
            measures = self._measures_of(bag, objects)
            values = self._values(learned, measures)
        table = _evidence(learned, values)
        total = self._total(table)
        judged = [
            Judged(attribute, learned[name].state, learned[name].limit.limit, values[name], found)
            for (name, attribute), found in zip(self._attributes().items(), table, strict=True)
        ]
        regions = object_regions(objects, total, measures, judged)
        if self.config.fill:
            regions = fill_between(regions, objects.frame_start, bag.n_frames)
        return self._scored(objects, table, regions)

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores]:
        """Score each training video by a fit without it; of many videos, without its twentieth.

        The only video of a scene is left out in fifths of its time. It has no rows if its other
        fifths cannot be learned from.

        Raises:
            DetectorError: nothing can be left out, or as `fit`.
        """
        self._seed = seed
        scored: dict[int, Scores] = {}
        with threadpool_limits(THREADS):
            parts, frames = self._measured(source, FitOptions())
            every = frames == int(source.video_rows("frame/objects").counts.sum())
            for scene, measured in parts.items():
                normal = joined(measured)
                fold = _folds(normal.owner, normal.row, HELD_OUT)
                ways = {}
                for one in np.unique(fold).tolist():
                    if _frames(rest := normal.take(fold != one)).max(initial=0) > 0:
                        ways[one] = self._learned(scene, rest)
                for part in measured:
                    number = int(part.owner[0]) if len(part) else -1
                    of_it = normal.owner == number
                    spans = normal.row[of_it], fold[of_it]
                    if len(part) and ways.keys() >= set(spans[1].tolist()):
                        known = part if every else None
                        scored[number] = self._left_out(source[number], ways, *spans, known)
        if not scored:
            raise DetectorError(
                "the training footage is too short to leave parts of it out: train on more footage"
            )
        return [scored.get(i) or self._without(source[i]) for i in range(len(source))]

    def _without(self, bag: Bag) -> Scores:
        """Scores of a video without objects; no rows for one that cannot be left out."""
        objects = read_objects(bag)
        if not len(objects):
            return self._scored(objects, np.zeros((len(self.config.attributes), 0)), None)
        none = np.zeros(0, np.int64)
        return Scores(none, none, {name: np.zeros(0) for name in self.columns})

    def _left_out(
        self,
        bag: Bag,
        ways: Mapping[int, Mapping[Name, Learned]],
        rows: NDArray[np.int64],
        fold: NDArray[np.int64],
        known: Measures | None,
    ) -> Scores:
        """Score a video, the objects of each part of it by what was learned without that part.

        `known` is what is measured of all its objects, where no frame was left out for training.
        """
        objects = read_objects(bag)
        measures = self._measures_of(bag, objects) if known is None else known
        nearest = np.minimum(np.searchsorted(rows, objects.row), len(rows) - 1)
        table = np.zeros((len(self.config.attributes), len(objects)))
        for one in np.unique(fold).tolist():
            here = fold[nearest] == one
            table[:, here] = _evidence(ways[one], self._values(ways[one], measures.take(here)))
        return self._scored(objects, table, None)

    def _measures_of(self, bag: Bag, objects: Objects) -> Measures:
        """The measures of all objects of a video."""
        rows = np.arange(len(objects.frame_start))
        return measure(bag, objects, self.config.attributes, self.config.motion, rows)

    def _values(self, learned: Mapping[Name, Learned], measures: Measures) -> dict[Name, Floats]:
        """How unusual each object is, by each attribute."""
        return {
            name: attribute.values(learned[name].state, measures)
            for name, attribute in self._attributes().items()
        }

    def _total(self, table: Floats) -> Floats:
        """Score of each object, from the evidence of its attributes: (attributes, n) -> (n,)."""
        return np.asarray(table.sum(0) if self.config.combine == "sum" else table.max(0))

    def _scored(self, objects: Objects, table: Floats, regions: pa.Table | None) -> Scores:
        """Scores of frames, from the evidence (attributes, n) of objects."""
        score, maps = score_frames(objects, self._total(table), self.config)
        columns = {"score": score}
        for name, evidence in zip(self.config.attributes, table, strict=True):
            columns[name] = objects.maxima(evidence)
        return Scores(objects.frame_start, objects.frame_stop, columns, {"objects": maps}, regions)

    def state_dict(self) -> State:
        """Return what every attribute of every scene has learned, and the limits."""
        state: State = {}
        for scene, learned in self._scenes.items():
            state[f"{FRAME}/size/{scene}"] = np.array(self._sizes[scene], np.int64)
            for name, one in learned.items():
                limit = np.array([one.limit.limit, one.limit.floor, one.limit.scale])
                state[f"{name}/{LIMIT}/{scene}"] = limit
                state |= {f"{name}/{what}/{scene}": value for what, value in one.state.items()}
        return state

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are not what attributes learn.
        """
        self._sizes, self._scenes = {}, {}
        for key in state:
            kind, _, scene = key.split("/", 2)  # the name of a scene may have slashes
            if kind == FRAME:
                height, width = stored_array(state, key, "int64", (2,)).tolist()
                self._sizes[scene] = (height, width)
        for scene in self._sizes:
            self._scenes[scene] = {
                name: Learned(
                    checked_learned(
                        {
                            what: value
                            for key, value in state.items()
                            for kind, what, where in [key.split("/", 2)]
                            if (kind, where) == (name, scene) and what != LIMIT
                        }
                    ),
                    Limit(
                        *stored_array(state, f"{name}/{LIMIT}/{scene}", "float64", (3,)).tolist()
                    ),
                )
                for name in self.config.attributes
            }

    def _attributes(self) -> dict[Name, Attribute]:
        config = self.config
        density = Density(
            *(config.density, config.k, config.context, config.components, config.max_rows),
            *(config.moving, config.perspective, self._seed),
        )
        return {name: ATTRIBUTES[name](density) for name in config.attributes}

    def _scene(self, bag: Bag) -> str:
        return scene_of(bag, per_scene=self.config.per_scene)

    @staticmethod
    def _check_size(bag: Bag, objects: Objects, size: tuple[int, int]) -> None:
        if objects.size != size:
            raise DetectorError(
                f"video {bag.video_id!r} has frames of {objects.size}, other videos of its scene "
                f"{size}: name the scenes in the manifest, or resize the footage"
            )

    def _measured(
        self, source: BagSource, options: FitOptions
    ) -> tuple[dict[str, list[Measures]], int]:
        """Scene -> what is measured of the objects of each video; and the number of frames."""
        counts = source.video_rows("frame/objects").counts
        step = max(1, -(-int(counts.sum()) // self.config.max_frames))
        found: dict[str, list[Measures]] = {}
        frames = 0
        for number, bag in enumerate(source):
            scene, objects = self._scene(bag), read_objects(bag)
            self._check_size(bag, objects, self._sizes.setdefault(scene, objects.size))
            rows = np.arange(0, len(objects.frame_start), step)
            frames += len(rows)
            names, motion = self.config.attributes, self.config.motion
            measured = measure(bag, objects, names, motion, rows, number)
            found.setdefault(scene, []).append(measured)
            if options.on_load is not None:
                options.on_load(number + 1, len(source))
        return found, frames

    def _learned(self, scene: str, normal: Measures) -> dict[Name, Learned]:
        frames = _frames(normal)
        if frames.max(initial=0) < 1:
            raise DetectorError(_too_few(scene))
        fold = _folds(normal.owner, normal.row, FOLDS)
        found: dict[Name, Learned] = {}
        for name, attribute in self._attributes().items():
            state = attribute.fit(normal)
            found[name] = Learned(state, self._limit(attribute, state, normal, frames, fold))
        return found

    def _limit(
        self,
        attribute: Attribute,
        state: State,
        normal: Measures,
        frames: NDArray[np.int64],
        fold: NDArray[np.int64],
    ) -> Limit:
        """The limit of an attribute, from objects that it has not learned from."""
        if attribute.name == "class":  # its values start at the training maximum, and end at 1
            return Limit(0.0, 0.0, 1.0)
        values = np.zeros(len(normal))
        if attribute.learns:
            read = normal.only(attribute.reads)  # classes are most of what is measured
            for one in np.unique(fold):
                out = fold == one
                others = attribute.fit(read.take(~out))
                values[out] = attribute.values(others, read.take(out))
        else:
            values = attribute.values(state, normal)
        maxima = np.full(int(frames.max()) + 1, -np.inf)
        np.maximum.at(maxima, frames, values)
        middle, limit = (float(v) for v in np.quantile(maxima, [0.5, self.config.limit]))
        scale = max(limit - middle, attribute.smallest)
        return Limit(limit, middle if attribute.from_median else limit, scale)


def _too_few(scene: str) -> str:
    """Why nothing can be learned of a scene, and what to do."""
    where = "" if scene == ANYWHERE else f" of scene {scene!r}"
    return (
        f"the training videos{where} have objects in fewer than two frames, so none can be scored: "
        "train on more footage, or extract objects with another detector or a lower score"
    )


def _frames(normal: Measures) -> NDArray[np.int64]:
    """Number of the frame of each object, counted over all videos."""
    places = np.stack([normal.owner, normal.row])
    return np.asarray(np.unique(places, axis=1, return_inverse=True)[1].reshape(-1), np.int64)


def _folds(owner: NDArray[np.int64], row: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Part of each object: videos are left out whole, a single video in blocks of time."""
    videos, group = np.unique(owner, return_inverse=True)
    if len(videos) == 1:
        return np.asarray(row * FEW // (int(row.max()) + 1), np.int64)
    return np.asarray(group.reshape(-1) * min(most, len(videos)) // len(videos), np.int64)


def _evidence(learned: Mapping[Name, Learned], values: Mapping[Name, Floats]) -> Floats:
    """Evidence of each attribute: (attributes, n)."""
    return np.stack([learned[name].limit.evidence(found) for name, found in values.items()])
