"""Boxes a frame: what an object detector finds in footage, compared with what it found in training.

An object detector whose threshold does not suit some footage finds far more or fewer boxes there
than in training. All scores that follow are then about the detector, not about the scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from ...data_manifests.plain_text import counted
from ...detectors.base import Bag

ROLE = "frame/objects"  # an array with the number of objects of each frame
NOTE = "boxes_a_frame"  # in the card of a model, and in the facts of a scored video
SCENES = "boxes_a_frame_of_scenes"  # in the card of a model of several cameras
RUN = "boxes"  # in run.json
FAR = 3.0  # times as many boxes a frame as in training, or as few
FEW = 0.5  # boxes a frame that are added to both before they are compared: 0.1 and 0.4 are alike
MOST_NAMED = 10


def boxes_a_frame(bag: Bag) -> float | None:
    """Mean number of boxes of the frames that were looked at; None where features have no boxes."""
    track = bag.tracks.get(ROLE)
    return None if track is None or not len(track) else float(np.mean(track.rows()))


def noted(count: float | None) -> dict[str, float]:
    """A count as facts have it; empty where there is none."""
    return {} if count is None else {NOTE: count}


def noted_mean(bags: Iterable[Bag]) -> dict[str, Any]:
    """The mean over videos, as the card of a model has it; empty where features have no boxes.

    Of several cameras it has their means too: what is usual at one may be far from another.
    """
    known: list[tuple[str | None, float]] = []
    for bag in bags:
        if ROLE not in bag.tracks:
            return {}
        if (count := boxes_a_frame(bag)) is not None:
            known.append((bag.scene, count))
    if not known:
        return {}
    scenes = {scene for scene, _ in known if scene is not None}
    means = {
        scene: float(np.mean([n for other, n in known if other == scene]))
        for scene in sorted(scenes)
    }
    noted_scenes = {SCENES: means} if len(means) > 1 else {}
    return {**noted(float(np.mean([count for _, count in known]))), **noted_scenes}


def count_in(facts: Mapping[str, Any]) -> float | None:
    """The count that facts state; None where they state none, or no number that one can be."""
    return _count(facts.get(NOTE))


def usual_in(facts: Mapping[str, Any], scenes: Mapping[str, str | None]) -> dict[str, float]:
    """What training had at the camera of each video, as far as facts state it.

    Args:
        facts:
            Of the card of a model.
        scenes:
            Video -> its camera.
    """
    stated = facts.get(SCENES)
    if not isinstance(stated, Mapping):
        return {}
    counts = {video: _count(stated.get(scene)) for video, scene in scenes.items()}
    return {video: count for video, count in counts.items() if count is not None}


def _count(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < math.inf else None


def far_from(
    training: float, counts: Mapping[str, float], usual: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The videos with three times as many boxes as in training, or as few, the farthest first.

    Args:
        training:
            Mean of all that trained.
        counts:
            Video -> boxes a frame.
        usual:
            Video -> what training had at its camera; others are compared with `training`.
    """
    known = usual or {}
    ratio = {v: (n + FEW) / (known.get(v, training) + FEW) for v, n in counts.items()}
    far = [video for video, times in ratio.items() if not 1 / FAR <= times <= FAR]
    return {v: counts[v] for v in sorted(far, key=lambda video: -abs(math.log(ratio[video])))}


def far_warning(far: Mapping[str, float]) -> str:
    """Why these videos deserve no trust, and what to do."""
    named = ", ".join(f"{video} {count:.1f}" for video, count in list(far.items())[:MOST_NAMED])
    videos = counted(len(far), "video")
    return (
        f"boxes a frame are far from training in {videos} ({named}): look at them, and "
        "choose the threshold on training footage"
    )


class BoxCounts(BaseModel):
    """Boxes a frame of the scored videos, as run.json has it.

    Attributes:
        training: mean over the training videos; None where the model does not state it.
        mean: over the scored videos.
        lowest: of a video.
        highest: of a video.
        videos: how many were counted; those that an earlier version has scored are not.
        warning: about videos that are far from training; "" where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    training: NonNegativeFloat | None
    mean: NonNegativeFloat
    lowest: NonNegativeFloat
    highest: NonNegativeFloat
    videos: int = Field(ge=1)
    warning: str = ""

    @classmethod
    def of(
        cls,
        training: float | None,
        counts: Mapping[str, float],
        usual: Mapping[str, float] | None = None,
    ) -> Self | None:
        """Compare the counts of videos with training; None where there are no counts.

        Args:
            training:
                See `far_from`.
            counts:
                Video -> boxes a frame.
            usual:
                See `far_from`.
        """
        if not counts:
            return None
        far = {} if training is None else far_from(training, counts, usual)
        values = list(counts.values())
        return cls(
            training=training,
            mean=float(np.mean(values)),
            lowest=min(values),
            highest=max(values),
            videos=len(values),
            warning=far_warning(far) if far else "",
        )

    @classmethod
    def of_run(cls, run: Mapping[str, Any]) -> Self | None:
        """What run.json states; None where it states none.

        Raises:
            ValueError: it states what no run does.
        """
        if run.get(RUN) is None:
            return None
        try:
            return cls.model_validate(run[RUN])
        except ValidationError:
            raise ValueError(f"{RUN} is not a count of boxes") from None

    def about(self) -> str:
        """In words, what the mean is compared with."""
        training = "" if self.training is None else f"training {self.training:.1f}, "
        return f"{training}{self.lowest:.1f} to {self.highest:.1f} by video"

    def lines(self) -> list[str]:
        """What is printed."""
        lines = [f"boxes a frame: {self.mean:.1f} ({self.about()})"]
        return [*lines, f"warning: {self.warning}"] if self.warning else lines
