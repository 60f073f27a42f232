"""The scene (camera) of a video, for detectors that learn something of each scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..data_manifests.choices import choices
from .base import Bag, DetectorError

ANYWHERE = "-"  # stands for the scene where the manifest names none

T = TypeVar("T")


def scene_of(bag: Bag, *, per_scene: bool) -> str:
    """Name the scene of a video; all are one where scenes are not told apart."""
    return (bag.scene if per_scene else None) or ANYWHERE


def learned_of(known: Mapping[str, T], bag: Bag, *, per_scene: bool) -> T:
    """Return what was learned of the scene of a video.

    Raises:
        DetectorError: the scene has no training video.
    """
    scene = scene_of(bag, per_scene=per_scene)
    if scene not in known:
        raise DetectorError(
            f"video {bag.video_id!r} is of scene {scene!r}, which has no training video that could "
            f"be used; there are: {choices(known, scene)}; train on normal footage of it, or set "
            "per_scene=false"
        )
    return known[scene]
