"""Spans, clips and tails: all arithmetic that decides which frames become which row."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .footage.errors import FrameOrderError
from .footage.video import Frame
from .frame_memory import FrameMemory

Tail = Literal["loop", "drop"]


@dataclass(frozen=True)
class Span:
    """A run of frames [frame_start, frame_stop) of one video, the unit of work.

    The last span of a video (`last`) goes on to the frame where the decoder ends.
    """

    content_id: str
    frame_start: int
    frame_stop: int
    last: bool


@dataclass(frozen=True)
class ClipRule:
    """How a video is cut into clips.

    Clips start at 0, stride, 2 * stride, ... A clip belongs to the span that holds its first frame,
    so the size of the spans does not change the clips.

    Attributes:
        length: frames of a clip, without context.
        stride: frames between the starts of two clips.
        tail: "loop" makes clips until every frame is covered, and fills the last one by repeating
            its frames cyclically; "drop" makes whole clips only.
        before: context frames before a clip, over span borders; the first frame of a video is
            repeated where there are none.
        after: context frames after a clip, over span borders; the last frame of a video is
            repeated where there are none.

    Raises:
        ValueError: a number is too small, or the tail is unknown.
    """

    length: int = 16
    stride: int = 16
    tail: Tail = "loop"
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1 or self.before < 0 or self.after < 0:
            raise ValueError(f"length and stride start at 1, before and after at 0: {self}")
        if self.tail not in get_args(Tail):
            raise ValueError(f"tail is one of {get_args(Tail)}, not {self.tail!r}")


@dataclass(frozen=True)
class Clip:
    """Decoded frames with their places in time.

    Attributes:
        frames: (before + length + after, H, W, 3) uint8 RGB; read-only where other clips or the
            decoder share the memory.
        index: (n,) int64, the number of each frame in the video.
        pts: (n,) float64, the time of each frame in seconds.
        frame_start: first frame of the clip proper, without context.
        frame_stop: one past the last real frame of the clip (not counting repeated tail frames).
        damaged: number of frames that the decoder marked as damaged; a repeated frame counts once.
        video: path of the footage, for what was made from it elsewhere; "" where it is not known.
        content: content id of the video, for what is drawn for each of its frames; "" where it is
            not known.
    """

    frames: NDArray[np.uint8]
    index: NDArray[np.int64]
    pts: NDArray[np.float64]
    frame_start: int
    frame_stop: int
    damaged: int = 0
    video: str = ""
    content: str = ""


def plan_spans(content_id: str, n_frames: int, span_frames: int) -> list[Span]:
    """Cut a video at the multiples of `span_frames`; a shorter video is one span.

    Raises:
        ValueError: `span_frames` is not positive.
    """
    if span_frames < 1:
        raise ValueError(f"a span has at least one frame, not {span_frames}")
    starts = range(0, max(n_frames, 1), span_frames)
    return [
        Span(content_id, start, min(start + span_frames, n_frames), last=start == starts[-1])
        for start in starts
    ]


def clip_count(n_frames: int, rule: ClipRule) -> int:
    """Compute the number of clips of a video with `n_frames` frames."""
    if rule.tail == "drop":
        return max(0, (n_frames - rule.length) // rule.stride + 1)
    if n_frames < 1:
        return 0
    # The clip at s > 0 needs frame s, and a frame that the clip before it does not cover.
    overlap = max(0, rule.length - rule.stride)
    return max(1, -(-(n_frames - overlap) // rule.stride))


def run_length(rules: Sequence[ClipRule]) -> int:
    """How many of the frames that are read make one clip; 0 if frames are shared."""
    if len(set(rules)) > 1 or not rules:
        return 0
    width = rules[0].before + rules[0].length + rules[0].after
    return width if width <= rules[0].stride and not rules[0].before else 0


class ClipAssembler:
    """Cuts a stream of frames into the clips that belong to a span; see docs/probe.md.

    Push the frames from `first_frame` on, in order, until `done`; those that lie in no clip and no
    context may be left out. If the video ends before that, call `finish`. The assembler holds the
    frames of one clip and its context.

    Args:
        rule:
            How the video is cut.
        span:
            Whose clips are made.
        video:
            Path of the footage, which clips state.
    """

    def __init__(self, rule: ClipRule, span: Span, video: str = "") -> None:
        self._rule = rule
        self._video = video
        self._content = span.content_id
        self._stop = None if span.last else span.frame_stop
        self._start = -(-span.frame_start // rule.stride) * rule.stride
        self._first = max(0, self._start - rule.before)
        self._next = self._first
        self._buffer: deque[Frame] = deque()
        self._memory = FrameMemory(overlaps=rule.before + rule.length + rule.after > rule.stride)
        self._finished = False

    @property
    def first_frame(self) -> int:
        """The first frame that this span's clips need."""
        return self._first

    @property
    def done(self) -> bool:
        """True when no further frame can complete a clip of this span."""
        return self._finished or (self._stop is not None and self._start >= self._stop)

    def push(self, frame: Frame) -> list[Clip]:
        """Add the next frame and return the clips that it completes.

        Raises:
            FrameOrderError: a frame before it is missing, or `finish` has been called.
        """
        if self._finished:
            raise FrameOrderError(f"frame {frame.index} comes after the end of the video")
        latest = max(self._next, self._start - self._rule.before)  # what a clip needs next
        if frame.index < self._next or (frame.index > latest and not self.done):
            raise FrameOrderError(f"frame {frame.index} comes where {latest} belongs")
        self._next = frame.index + 1
        if self.done:
            return []
        self._buffer.append(frame)
        clips = []
        while not self.done and self._next >= self._start + self._rule.length + self._rule.after:
            clips.append(self._clip(self._next))
        self._forget()
        return clips

    def finish(self, n_frames: int | None = None) -> list[Clip]:
        """Signal the end of the video; pads or drops the tail. A second call returns no clips.

        Args:
            n_frames:
                Of the video; None if its last frame was pushed.

        Raises:
            FrameOrderError: frames of a clip are missing.
        """
        clips = []
        total = max(self._next, n_frames or 0)
        while not self.done and self._owned_at_end(total):
            if self._next < min(total, self._start + self._rule.length + self._rule.after):
                raise FrameOrderError(f"the video ends where frame {self._next} belongs")
            clips.append(self._clip(total))
        self._finished = True
        self._buffer.clear()
        return clips

    def _owned_at_end(self, total: int) -> bool:
        """Tell whether a video of `total` frames has the clip at `_start`."""
        if self._rule.tail == "drop":
            return self._start + self._rule.length <= total
        uncovered = self._start - self._rule.stride + self._rule.length
        return max(self._start, uncovered if self._start else 0) < total

    def _clip(self, total: int) -> Clip:
        """Make the clip at `_start` from the frames before `total`, and move on to the next."""
        rule, start = self._rule, self._start
        stop = min(start + rule.length, total)
        core = [start + i % (stop - start) for i in range(rule.length)]
        before = [max(0, i) for i in range(start - rule.before, start)]
        end = start + rule.length
        after = [min(i, total - 1) for i in range(end, end + rule.after)]
        oldest = self._buffer[0].index
        frames = [self._buffer[i - oldest] for i in [*before, *core, *after]]
        self._start += rule.stride
        return Clip(
            frames=self._memory.pictures(frames),
            index=np.array([frame.index for frame in frames], np.int64),
            pts=np.array([frame.pts for frame in frames], np.float64),
            frame_start=start,
            frame_stop=stop,
            damaged=len({frame.index for frame in frames if frame.corrupt}),
            video=self._video,
            content=self._content,
        )

    def _forget(self) -> None:
        """Drop the frames that no later clip needs."""
        oldest = self._start - self._rule.before
        while self._buffer and (self.done or self._buffer[0].index < oldest):
            self._buffer.popleft()


SEGMENTS = 32  # RTFM, SSRL and Sultani et al. train on 32 segments a video
SNIPPET_FRAMES = 16


def segment_frames(
    n_frames: int, segments: int = SEGMENTS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide [0, n] evenly and round down: the frames of each segment of a video.

    An empty segment becomes the one frame at its edge. Source: `process_feat` of RTFM and SSRL,
    which divides snippets in this way.

    Returns:
        (segments,) first frames, (segments,) one past the last.
    """
    edges = np.arange(segments + 1, dtype=np.int64) * n_frames // segments
    return edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
