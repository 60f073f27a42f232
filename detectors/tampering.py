"""Tampering: the camera is covered, moved, blurred or dark, its picture stands, or something stays.

Each check compares a row with normal footage of the same camera and is 1 at the limit that training
has reached, so that the checks can be compared and the largest is the score. Nothing is learnt but
these limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from .base import (
    Bag,
    BagSource,
    Config,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Scores,
    State,
    Supervision,
)
from .scene_model import (
    MOVED_FLOOR,
    Floats,
    Measured,
    SceneModel,
    Summary,
    Watched,
    deviations,
    watch,
)
from .scenes import learned_of, scene_of
from .state import stored_array

Check = Literal["dark", "covered", "blurred", "moved", "frozen", "left"]
CHECKS: tuple[Check, ...] = get_args(Check)
FOLDS = 16  # at most, of the videos of a camera that are left out in turn


class TamperingConfig(Config):
    """Settings of `tampering`."""

    checks: tuple[Check, ...] = Field(
        default=CHECKS, min_length=1, description="which of them the score is the largest of"
    )
    frozen_seconds: float = Field(
        default=5.0, gt=0, allow_inf_nan=False, description="a still picture is normal as long"
    )
    left_seconds: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="new foreground may stay as long"
    )
    per_scene: bool = Field(
        default=True, description="limits for each camera that the manifest names"
    )


@dataclass(frozen=True)
class _Fitted:
    """What a pass over the training videos keeps, video by video.

    Attributes:
        scenes: (V,) the scene of each.
        summaries: (V,) for backgrounds and limits.
        ends: (V,) what each reaches of the limits of `Watched`, (3,).
    """

    scenes: list[str]
    summaries: list[Summary]
    ends: list[Floats]

    @property
    def members(self) -> dict[str, list[int]]:
        """Scene -> its videos."""
        return _members(self.scenes)


class Tampering(Detector[TamperingConfig]):
    """Checks of the camera itself, each against the limits of its normal footage."""

    name: ClassVar[str] = "tampering"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = TamperingConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    train_options: ClassVar[frozenset[str]] = frozenset({"holdout"})  # where a scene has one video

    def __init__(self, config: TamperingConfig) -> None:
        super().__init__(config)
        self._scenes: dict[str, SceneModel] = {}

    @property
    def needs(self) -> tuple[str, ...]:
        """Both arrays of `scene_checks`."""
        return ("checks", "thumbnail")

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and every check, also those that the score leaves out."""
        return ("score", *CHECKS)

    @property
    def maps(self) -> tuple[str, ...]:
        """How long each part of the picture has been new and still, over its limit."""
        return ("left",)

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Take the limits of each scene.

        Raises:
            DetectorError: there are no training videos, or one has no rows.
        """
        found = self._fitted(source)
        self._scenes = {
            scene: self._model(found, videos) for scene, videos in found.members.items()
        }
        rows = sum(len(summary.numbers) for summary in found.summaries)
        return FitLog(
            summary={"videos": len(found.scenes), "rows": rows, "scenes": len(self._scenes)}
        )

    def draws(self, source: BagSource) -> bool:
        """Tell that nothing is drawn at random."""
        return False

    def score(self, bag: Bag) -> Scores:
        """Score each row.

        Raises:
            DetectorError: the detector is not fitted, or the bag is of another scene.
        """
        if not self._scenes:
            raise DetectorError("tampering is not fitted")
        return self._scored(bag, learned_of(self._scenes, bag, per_scene=self.config.per_scene))

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores] | None:
        """Score each training video by the limits of the other ones of its scene.

        None where a scene has a single training video: it cannot be left out.
        """
        found = self._fitted(source)
        groups = list(found.members.values())
        if any(len(members) == 1 for members in groups):
            return None
        scored: list[Scores | None] = [None] * len(found.scenes)
        for members in groups:
            for fold in range(min(FOLDS, len(members))):
                left_out = members[fold::FOLDS]
                model = self._model(found, sorted(set(members) - set(left_out)))
                for i in left_out:
                    scored[i] = self._scored(source[i], model)
        return [each for each in scored if each is not None]

    def _fitted(self, source: BagSource) -> _Fitted:
        """Read the videos twice: the limits of dwell need the background of all of them."""
        scenes, summaries = [], []
        for bag in source:
            scenes.append(scene_of(bag, per_scene=self.config.per_scene))
            summaries.append(Summary.of(_measured(bag)))
        if not scenes:
            raise DetectorError("there are no training videos")
        models = {
            scene: SceneModel.of([summaries[i] for i in videos], self._least())
            for scene, videos in _members(scenes).items()
        }
        ends = [
            watch(_measured(bag), models[scene]).most()
            for bag, scene in zip(source, scenes, strict=True)
        ]
        return _Fitted(scenes, summaries, ends)

    def _model(self, found: _Fitted, videos: Sequence[int]) -> SceneModel:
        model = SceneModel.of([found.summaries[i] for i in videos], self._least())
        return model.reaching([found.ends[i] for i in videos])

    def _least(self) -> Floats:
        """The smallest limits of `Watched`."""
        return np.array([MOVED_FLOOR, self.config.frozen_seconds, self.config.left_seconds])

    def _scored(self, bag: Bag, model: SceneModel) -> Scores:
        measured = _measured(bag)
        watched = watch(measured, model)
        columns = _columns(measured, watched, model)
        columns["score"] = np.max([columns[check] for check in self.config.checks], axis=0)
        track = bag.tracks["checks"]
        left = watched.stay / np.float32(model.ends[2])
        return Scores(track.frame_start, track.frame_stop, columns, {"left": left})

    def state_dict(self) -> State:
        """Return the limits of each scene: SCENE/NAME."""
        return {
            f"{scene}/{name}": values
            for scene, model in self._scenes.items()
            for name, values in model.arrays().items()
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are no limits.
        """
        scenes = [
            name.removesuffix("/background") for name in state if name.endswith("/background")
        ]
        self._scenes = {
            scene: SceneModel(
                **{
                    name: stored_array(state, f"{scene}/{name}", "float64", shape)
                    for name, shape in SceneModel.SHAPES.items()
                }
            )
            for scene in scenes
        }


def _members(scenes: Sequence[str]) -> dict[str, list[int]]:
    """Scene -> its videos, in their order."""
    found: dict[str, list[int]] = {}
    for i, scene in enumerate(scenes):
        found.setdefault(scene, []).append(i)
    return found


def _measured(bag: Bag) -> Measured:
    """What `scene_checks` kept of a video.

    Raises:
        DetectorError: it has no rows, or they are of another shape.
    """
    checks, thumbnails = bag.role("checks"), bag.role("thumbnail")
    if set(checks) != {"checks"} or set(thumbnails) != {"thumbnail"}:
        raise DetectorError(
            f"video {bag.video_id!r} has several feature sets with checks: name one with --features"
        )
    values, pictures = checks["checks"].rows(), thumbnails["thumbnail"].rows()
    if not len(values):
        raise DetectorError(f"video {bag.video_id!r} has no rows")
    if values.shape[1:] != (4,) or pictures.ndim != 3 or len(pictures) != len(values):
        raise DetectorError(
            f"video {bag.video_id!r}: checks are {values.shape} and thumbnails {pictures.shape}, "
            "not (n, 4) and (n, rows, columns): features of scene_checks are needed"
        )
    seconds = checks["checks"].frame_start / bag.fps
    brightness, contrast, sharpness, change = values.astype(np.float64).T
    return Measured(seconds, brightness, contrast, sharpness, change, pictures)


def _columns(measured: Measured, watched: Watched, model: SceneModel) -> dict[str, Floats]:
    """Each check of each row, 1 at its limit."""
    below = deviations(measured, model)
    return {
        "dark": below["brightness"] / model.limits[0],
        "covered": below["contrast"] / model.limits[1],
        "blurred": below["sharpness"] / model.limits[2],
        "moved": watched.moved / model.ends[0],
        "frozen": watched.still / model.ends[1],
        "left": watched.stay.max((1, 2)).astype(np.float64) / model.ends[2],
    }
