"""Probe a container, decode spans of frames, cut them into clips.

Files are untrusted: formats and protocols are whitelisted, the decoder is believed over the header,
frames are addressed by number and presentation time. Clip and tail arithmetic lives only here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HashMode = Literal["sampled", "full"]
Tail = Literal["loop", "drop"]


class DecodeError(RuntimeError):
    """A file cannot be used as a video; the message says why and what to do next."""


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
        path: absolute path of a video file or of a folder of images.
        content_id: `s1-` / `f1-` + 40 hex digits (sampled / full hash of the content).
        kind: "video" or "images".
        n_frames: frames by the packets (video; by decoding if `decoded`) or files (images).
        decoded: True where n_frames was counted by decoding.
        fps: average frames per second (the nominal rate for images).
        height: rows, after rotation.
        width: columns, after rotation.
        rotation: clockwise degrees applied to the stored picture: 0, 90, 180 or 270.
        duration: seconds.
        codec: FFmpeg's codec name, or the images' format.
        container: FFmpeg's format name, or "images".
        flags: what is wrong or unusual, sorted.
        key_frames: None for images and for files that have to be decoded in order.
    """

    path: str
    content_id: str
    kind: Literal["video", "images"]
    n_frames: int
    decoded: bool
    fps: float
    height: int
    width: int
    rotation: int
    duration: float
    codec: str
    container: str
    flags: tuple[str, ...] = ()
    key_frames: KeyFrames | None = None

    @property
    def sequential_only(self) -> bool:
        """True where seeking cannot be trusted and spans have to be decoded in order."""
        return "sequential_only" in self.flags


@dataclass(frozen=True)
class Span:
    """A bounded run of frames [frame_start, frame_stop) of one video; the last span of a video
    goes on to wherever the decoder ends (`last`)."""

    content_id: str
    frame_start: int
    frame_stop: int
    last: bool


@dataclass(frozen=True)
class Frame:
    """One decoded picture: number, seconds since the first frame, (H, W, 3) uint8 RGB."""

    index: int
    pts: float
    image: NDArray[np.uint8]
    corrupt: bool = False


@dataclass(frozen=True)
class ClipRule:
    """How a video is cut into clips.

    Clips start at 0, stride, 2 * stride, ...; a clip belongs to the span that holds its first
    frame, so the size of a span changes nothing.

    Attributes:
        length: frames a clip.
        stride: frames between the starts of two clips.
        tail: "loop" emits clips until every frame is covered (ceil(N / 16) for 16 / 16) and repeats
            the frames that are left cyclically; "drop" emits whole clips only (floor).
        before: context frames in front of a clip, over span borders; the first frame of a video is
            repeated where there are none.
        after: context frames behind a clip, likewise.
    """

    length: int = 16
    stride: int = 16
    tail: Tail = "loop"
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Clip:
    """Decoded pixels with their place in time.

    Attributes:
        frames: (before + length + after, H, W, 3) uint8 RGB.
        index: the source frame number of each, int64.
        pts: seconds of each, float64.
        frame_start: first frame of the clip proper, without context.
        frame_stop: one past the last real frame of the clip (not counting repeated tail frames).
    """

    frames: NDArray[np.uint8]
    index: NDArray[np.int64]
    pts: NDArray[np.float64]
    frame_start: int
    frame_stop: int


def probe_video(path: Path, *, hash_mode: HashMode = "sampled", decode: bool = False) -> ProbeRow:
    """Probe one file or image folder."""
    raise NotImplementedError


def read_frames(row: ProbeRow, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Decode frames [start, stop)."""
    raise NotImplementedError


class ClipAssembler:
    """Cuts a stream of frames into the clips that a span owns."""

    def __init__(self, rule: ClipRule, span: Span) -> None:
        raise NotImplementedError

    @property
    def first_frame(self) -> int:
        """The first frame that this span's clips need."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """True once no further frame can add a clip."""
        raise NotImplementedError

    def push(self, frame: Frame) -> list[Clip]:
        """Take the next frame, give the clips that it completes."""
        raise NotImplementedError

    def finish(self) -> list[Clip]:
        """Tell that the video has ended: pads or drops the tail."""
        raise NotImplementedError
