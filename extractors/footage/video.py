"""What a video is to the library: a probed file, its frames, and the state of reading them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

UNTIMED = frozenset({"no_timestamps", "odd_timestamps"})  # flags: times are frame number / fps
SHORT = 16  # a video with fewer frames does not fill one clip


@dataclass(frozen=True)
class KeyFrames:
    """Where decoding may start: one row a key frame, in presentation order.

    Attributes:
        index: (k,) int64, frame number in presentation order.
        pts: (k,) int64, in the stream's time base.
        dts: (k,) int64, in the stream's time base.
    """

    index: NDArray[np.int64]
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]


@dataclass(frozen=True)
class ProbeRow:
    """One file as it really is.

    Attributes:
        path: absolute path of a video file or of a folder of images; "" without footage.
        content_id: `s1-` / `f1-` + 40 hex digits (sampled / full hash of the content); `m1-` and
            a hash of data set and video id without footage.
        kind: "video", "images", or "features" where there is no footage.
        n_frames: frames by the packets (video; by decoding if `decoded`) or files (images); as the
            manifest states them, or 0, without footage.
        decoded: True where n_frames was counted by decoding.
        fps: average frames per second (the nominal rate for images).
        height: rows, after rotation.
        width: columns, after rotation.
        rotation: clockwise degrees applied to the stored picture: 0, 90, 180 or 270.
        duration: seconds.
        codec: FFmpeg's codec name, or the images' format.
        container: FFmpeg's format name, or "images".
        damaged: frames that the decoder marked or refused, of those decoded (all if `decoded`).
        flags: what is wrong or unusual, sorted.
        key_frames: None for images and for files that have to be decoded in order.
        whole_id: an id that covers every byte: `content_id` where it does, else `f1-` and a full
            hash; "" without footage.
        stamp: size, times of change and inode of the file as it was probed, see `stamp`; "" skips
            the comparison.
    """

    path: str
    content_id: str
    kind: Literal["video", "images", "features"]
    n_frames: int
    decoded: bool
    fps: float
    height: int
    width: int
    rotation: int
    duration: float
    codec: str
    container: str
    damaged: int = 0
    flags: tuple[str, ...] = ()
    key_frames: KeyFrames | None = None
    whole_id: str = ""
    stamp: str = ""

    @property
    def sequential_only(self) -> bool:
        """True where seeks are not exact, so that spans have to be decoded in order."""
        return "sequential_only" in self.flags

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; key frames become three lists."""
        keys = self.key_frames
        return {
            **vars(self),
            "flags": list(self.flags),
            "key_frames": None if keys is None else [a.tolist() for a in vars(keys).values()],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ProbeRow:
        """The row that `to_json` returned these values for."""
        keys = values["key_frames"]
        return cls(
            **{
                **values,
                "flags": tuple(values["flags"]),
                "key_frames": None
                if keys is None
                else KeyFrames(*(np.asarray(a, np.int64) for a in keys)),
            }
        )


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    Attributes:
        index: its number.
        pts: seconds since the first frame.
        image: (H, W, 3) uint8 RGB; it may be read-only.
        corrupt: the decoder marked it as damaged.
        memory_scarce: the decoder needs its memory soon, so what is kept of it should be a copy.
        others: the same picture at further sizes, where several were asked for.
    """

    index: int
    pts: float
    image: NDArray[np.uint8]
    corrupt: bool = False
    memory_scarce: bool = False
    others: tuple[NDArray[np.uint8], ...] = ()

    def at(self, size: int) -> Frame:
        """The frame with its picture of one size only, by its place among those asked for."""
        if not self.others:
            return self
        return replace(self, image=(self.image, *self.others)[size], others=())


def in_order(row: ProbeRow) -> ProbeRow:
    """The same video, marked as one without seeks: what to read after a `SeekMismatch`."""
    return replace(row, flags=tuple(sorted({*row.flags, "sequential_only"})), key_frames=None)


# Returns the arrays (H, W, 3) uint8 that the next frame is written to, one for each size.
Room = Callable[[], tuple[NDArray[np.uint8], ...]]


def has_room(size: int) -> bool:
    """Whether the system would hand out `size` bytes of memory now; none of them is touched.

    If it would, and memory has still run out, a damaged file stated a size beyond all reason.
    """
    try:
        mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


def _no_beat() -> None:
    """For a reader without a deadline."""


@dataclass(frozen=True)
class Hooks:
    """What a reader of a file calls while it reads.

    Attributes:
        beat: called at every packet and picture, so that a deadline can be restarted.
        room: returns the arrays that the next frame is written to; None makes new ones.
    """

    beat: Callable[[], None] = _no_beat
    room: Room | None = None


@dataclass
class Reading:
    """The state of one pass over a file, filled while it is read.

    Attributes:
        hooks: what is called on the way.
        failed_packets: how many packets the decoder has refused.
        cut_off: the container could not be read up to its end.
        after_refused: a packet was refused since the last frame; the next frame counts as damaged.
        at_end: the decoder has returned its last frame.
        passed: number of the last frame that was read or left out, plus one.
    """

    hooks: Hooks = Hooks()
    failed_packets: int = 0
    cut_off: bool = False
    after_refused: bool = False
    at_end: bool = False
    passed: int = 0
