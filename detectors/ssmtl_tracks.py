"""What SSMTL reads of videos: crops of objects or whole frames, and what the teachers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .base import Bag, BagSource, DetectorError, Track
from .object_maps import array_of
from .ssmtl_network import DETECTED

Level = Literal["object", "frame"]

CROPS, PIXELS, FRAMES = "object/crops", "pixels", "frame/objects"
CLASSES, TEACHER = "object/classes", "object/teacher"
HOW = {
    CROPS: "extract objects with crops, vadpipe extract -e objects:training_crops",
    FRAMES: "extract objects, vadpipe extract -e objects:training_crops",
    PIXELS: "extract small frames, vadpipe extract -e frames --set size=[64,64]",
    CLASSES: "extract objects with a detector that knows classes, as --set detector=yolox, or "
    "leave distillation out of the tasks",
    TEACHER: "extract objects with --set teacher=resnet50 or teacher=efficientnet_lite0, or take "
    "imagenet_teacher=false",
}


@dataclass(frozen=True)
class PictureLayout:
    """The sizes of what the network reads.

    Attributes:
        role: of the pictures.
        side: S, in pixels.
        targets: values of the teachers.
    """

    role: str
    side: int
    targets: int

    @classmethod
    def of_level(cls, level: Level, side: int, targets: int) -> PictureLayout:
        """The layout of crops or of frames."""
        return cls(CROPS if level == "object" else PIXELS, side, targets)


def teacher_roles(imagenet: bool) -> tuple[str, ...]:
    """Roles of what the teachers say, the object detector last (Sect. 3.3, task 4)."""
    return (TEACHER, CLASSES) if imagenet else (CLASSES,)


def pictures_of(bag: Bag, layout: PictureLayout, context: int) -> Track:
    """Return the crops or the frames of a video.

    Args:
        bag:
            The video.
        layout:
            What they have to be.
        context:
            Frames before and after that crops have to hold.

    Raises:
        DetectorError: they are missing or of another size, or frames are left out.
    """
    track = array_of(bag, layout.role, HOW[layout.role])
    shape, side = track.array.shape[1:], layout.side
    if layout.role == PIXELS:
        if shape != (side, side, 3):
            raise DetectorError(
                f"video {bag.video_id!r}: frames are {shape}, not {side} x {side} in colour; "
                f"extract them with --set size=[{side},{side}]"
            )
        if (np.diff(track.frame_start) != 1).any():
            raise DetectorError(
                f"video {bag.video_id!r}: frames are left out; extract all of them, with stride 1"
            )
        return track
    if len(shape) != 4 or shape[1:] != (side, side, 3):
        raise DetectorError(
            f"video {bag.video_id!r}: crops are {shape}, not (frames, {side}, {side}, 3)"
        )
    if shape[0] < 2 * context + 1:
        raise DetectorError(
            f"video {bag.video_id!r}: crops hold {shape[0] // 2} frames before and after, but "
            f"{context} are needed; extract objects with --set crop_context={context}, or leave "
            "irregularity out of the tasks"
        )
    return track


def layout_of(
    source: BagSource, level: Level, context: int, teachers: Sequence[str]
) -> PictureLayout:
    """Find out the sizes from the first video, and check all of them.

    Raises:
        DetectorError: see `pictures_of`; or what a teacher says is missing.
    """
    layout: PictureLayout | None = None
    for bag in source:
        if layout is None:
            role = PictureLayout.of_level(level, 0, 0).role
            side = array_of(bag, role, HOW[role]).array.shape[-2]
            said = [array_of(bag, each, HOW[each]).array.shape for each in teachers]
            layout = PictureLayout(role, side, sum(shape[-1] for shape in said))
        pictures_of(bag, layout, context)
    assert layout is not None  # a fit has refused an empty source
    return layout


def placed_frames(
    source: BagSource, level: Level
) -> tuple[list[NDArray[np.int64]], list[tuple[int, int]]]:
    """Find the frame of each row, and the frames [first, stop) that were looked at, by video."""
    frames, bounds = [], []
    for bag in source:
        role = CROPS if level == "object" else PIXELS
        looked = array_of(bag, FRAMES, HOW[FRAMES]) if level == "object" else bag.tracks[PIXELS]
        frames.append(np.asarray(bag.tracks[role].frame_start, np.int64))
        inside = (int(looked.frame_start[0]), int(looked.frame_stop[-1])) if len(looked) else (0, 0)
        bounds.append(inside)
    return frames, bounds


def classes_of(bag: Bag) -> Track:
    """Return what the object detector says of each object.

    Raises:
        DetectorError: it is missing, or not of 80 classes.
    """
    track = array_of(bag, CLASSES, HOW[CLASSES])
    if track.array.shape[1:] != (DETECTED,):
        raise DetectorError(
            f"video {bag.video_id!r}: classes are {track.array.shape[1:]}, not ({DETECTED},)"
        )
    return track
