"""Pictures with their times as a film: H.264 or what there is in MP4, VP9 in WebM, chapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...data_manifests.errors import VadpipeError

TICK = Fraction(1, 90_000)  # seconds: the clock of MPEG, finer than any frame rate
KEY_SECONDS = 1.0  # a player can jump to each key frame
# By the end of the name: container, and codecs in the order in which they are tried.
FORMATS = {
    ".mp4": ("mp4", ("libx264", "libopenh264", "mpeg4")),
    ".webm": ("webm", ("libvpx-vp9",)),
}
_OPTIONS = {
    "libx264": {"crf": "23", "preset": "veryfast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "32", "b:v": "0"},
    "mpeg4": {"qscale": "4"},
}
NAMES = {
    "libx264": "H.264",
    "libopenh264": "H.264",
    "mpeg4": "MPEG-4 Part 2, as this build of FFmpeg has no H.264",
    "libvpx-vp9": "VP9",
}


class FilmError(VadpipeError, ValueError):
    """A film that cannot be written; the message says what to do."""


@dataclass(frozen=True)
class Chapter:
    """A named stretch of a film.

    Attributes:
        start: in seconds.
        stop: in seconds.
        title: what players show.
    """

    start: float
    stop: float
    title: str


def codec_for(path: Path) -> str:
    """The codec of a film, by its name and what this build has.

    Raises:
        FilmError: the name ends otherwise, or there is no codec.
    """
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        raise FilmError(f"{path.name}: a film ends in {' or '.join(FORMATS)}")
    there = [name for name in known[1] if name in av.codecs_available]
    if not there:
        raise FilmError(
            f"this build of PyAV can write none of {', '.join(known[1])}: name a file that ends in "
            f"{' or '.join(end for end in FORMATS if end != path.suffix.lower())}"
        )
    return there[0]


class Film:
    """A film that is being written; see `writing`."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._last = -1
        self.frames = 0

    def add(self, picture: NDArray[np.uint8], seconds: float) -> float:
        """Add a picture that is shown from then on; returns its time in the film.

        Args:
            picture:
                (H, W, 3) uint8 RGB, both sides even.
            seconds:
                Since the first one. Times that do not grow are moved on by one tick.
        """
        at = max(round(seconds / TICK), self._last + 1)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = at, TICK
        self._container.mux(self._stream.encode(frame))
        self._last = at
        self.frames += 1
        return float(at * TICK)

    def end(self, chapters: Sequence[Chapter]) -> None:
        """Write what the encoder holds back, and the chapters."""
        self._container.mux(self._stream.encode(None))
        if chapters:
            self._container.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(1000 * chapter.start),
                        "end": max(round(1000 * chapter.stop), round(1000 * chapter.start) + 1),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": chapter.title},
                    }
                    for number, chapter in enumerate(chapters, start=1)
                ]
            )


@contextmanager
def writing(
    place: Path, codec: str, container: str, size: tuple[int, int], rate: float
) -> Iterator[Film]:
    """Open a film; `Film.end` has to be called before it is closed.

    Args:
        place:
            The file; its name does not matter.
        codec:
            See `codec_for`.
        container:
            "mp4" or "webm".
        size:
            (height, width), both even.
        rate:
            Nominal frames per second; the times of the frames count.

    Raises:
        FilmError: the encoder refuses.
    """
    try:
        with av.open(str(place), "w", format=container) as out:
            nominal = Fraction(rate).limit_denominator(1001)
            stream: Any = out.add_stream(codec, rate=nominal, options=_OPTIONS.get(codec, {}))
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = TICK if codec != "mpeg4" else 1 / nominal
            stream.codec_context.thread_count = 1
            stream.gop_size = max(1, round(rate * KEY_SECONDS))
            yield Film(out, stream)
    except av.FFmpegError as error:
        raise FilmError(f"the film cannot be written by {codec}: {error}") from error
