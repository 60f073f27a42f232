"""Read some frames of a video only: which, and what the decoder may leave out between them.

A picture that no other picture refers to need not be decoded unless it is asked for itself. Frames
are then numbered by the times of their packets, as the decoder returns fewer than there are.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .video import UNTIMED, KeyFrames, ProbeRow

# Codecs in which a picture says that no other refers to it, so leaving it out changes no other.
# HEVC is not among them: what its lowest layer calls unreferenced, other layers may refer to.
REFERENCED = frozenset({"h264", "mpeg2video", "mpeg4"})
SINGLE = frozenset({"mjpeg"})  # codecs in which no picture refers to another
DOUBTFUL = UNTIMED | {"corrupt_frames", "header_mismatch", "sequential_only", "truncated"}
MOST_AHEAD = 256  # packets that wait for their number


class CannotSkip(Exception):
    """What came out of the decoder is not what the packets promised: decode everything."""


@dataclass(frozen=True)
class Wanted:
    """Frames that clips need, of a whole video.

    Attributes:
        rules: (stride, before, width): the width frames from i * stride - before on, for every i.
    """

    rules: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, rules: Iterable[tuple[int, int, int]]) -> Wanted | None:
        """The frames of all rules; None if these are all frames."""
        given = tuple(dict.fromkeys(rules))
        if any(width >= stride for stride, _, width in given):
            return None
        return cls(given)

    def __contains__(self, number: int) -> bool:
        return any((number + before) % stride < width for stride, before, width in self.rules)

    def first_from(self, number: int) -> int:
        """The first wanted frame at or after a number."""
        return min(
            number if (at := (number + before) % stride) < width else number + stride - at
            for stride, before, width in self.rules
        )


def may_skip(row: ProbeRow) -> bool:
    """Whether numbers of frames are known without decoding, and the codec allows it.

    Only a probe that has decoded everything (`vadpipe probe --decode`) knows that no picture is
    damaged. The decoder leaves out a damaged key frame as if nothing referred to it, and what it
    returns afterwards is wrong without a word.
    """
    return (
        row.kind == "video"
        and row.decoded
        and row.key_frames is not None
        and row.codec in REFERENCED | SINGLE
        and DOUBTFUL.isdisjoint(row.flags)
    )


class TimedPacket(Protocol):
    """A packet of a video stream, as PyAV has it."""

    @property
    def pts(self) -> int | None:
        """When its picture is shown."""

    @property
    def dts(self) -> int | None:
        """When it is decoded."""

    @property
    def is_discard(self) -> bool:
        """Whether its picture is not shown."""


P = TypeVar("P", bound=TimedPacket)


class Skipping(Generic[P]):
    """Numbers packets before they are decoded, and pictures after it.

    No later packet is shown before its own decoding time. So a packet has its number as soon as one
    comes whose decoding time is not before the time at which the first one is shown.

    Args:
        keys: key frames of the probe.
        first: the key frame at which numbering begins; earlier pictures are not returned.
        wanted: frames to decode in any case.
        start: first frame that is read.
        stop: one past the last frame that has to come; None for the end of the video.
    """

    def __init__(
        self,
        keys: KeyFrames,
        first: int,
        wanted: Wanted,
        start: int,
        stop: int | None = None,
    ) -> None:
        later = slice(first, None)
        self._number_of_key = dict(
            zip(keys.pts[later].tolist(), keys.index[later].tolist(), strict=True)
        )
        self._key_of_number = {number: pts for pts, number in self._number_of_key.items()}
        self._begin = int(keys.pts[first])
        self._base = int(keys.index[first])  # number of the first of `_times`
        self._wanted, self._start = wanted, start
        self._stop = sys.maxsize if stop is None else stop
        self._times: list[int] = []  # of packets from `_begin` on, sorted
        self._waiting: deque[P] = deque()
        self._numbers: dict[int, int] = {}  # time -> number, of packets that were decoded
        self._due = wanted.first_from(max(start, self._base))  # next picture that has to come
        self._total = self._base

    @property
    def total(self) -> int:
        """Frames of the video up to the last packet."""
        return self._total

    @property
    def passed(self) -> int:
        """The same, but no more than `stop`."""
        return min(self._total, self._stop)

    def ready(self, packet: P) -> Iterator[tuple[P, bool]]:
        """Packets whose number is known now, and whether their picture is needed.

        Raises:
            CannotSkip: times or key frames are not as the probe found them.
        """
        if packet.pts is None:
            raise CannotSkip
        if packet.pts >= self._begin and not packet.is_discard:
            insort(self._times, packet.pts)
            self._total += 1
        self._waiting.append(packet)
        if len(self._waiting) > MOST_AHEAD:
            raise CannotSkip
        while self._waiting and packet.dts is not None:
            pts = self._waiting[0].pts
            if pts is None or pts > packet.dts:
                break
            yield self._next()
        self._forget()

    def rest(self) -> Iterator[tuple[P, bool]]:
        """The packets that are left at the end of the file."""
        while self._waiting:
            yield self._next()

    def _next(self) -> tuple[P, bool]:
        packet = self._waiting.popleft()
        pts = packet.pts
        assert pts is not None
        if pts < self._begin or packet.is_discard:
            return packet, True  # earlier pictures are references of what follows
        number = self._base + bisect_left(self._times, pts)
        if (
            self._number_of_key.get(pts, number) != number
            or self._key_of_number.get(number, pts) != pts
            or pts in self._numbers
        ):
            raise CannotSkip
        self._numbers[pts] = number
        return packet, number >= self._start and number in self._wanted

    def number(self, pts: int | None) -> int | None:
        """The number of a picture that was decoded; None if it comes before the first key frame.

        Raises:
            CannotSkip: it is out of order, or a wanted one before it did not come.
        """
        if pts is not None and pts < self._begin:
            return None
        number = None if pts is None else self._numbers.get(pts)
        if number is None or self._due < min(number, self._stop):
            raise CannotSkip
        if number == self._due:
            self._due = self._wanted.first_from(number + 1)
        return number

    def check_end(self) -> None:
        """Check that all wanted pictures have come.

        Raises:
            CannotSkip: one has not.
        """
        if self._due < self.passed:
            raise CannotSkip

    def _forget(self) -> None:
        """Drop times that nothing asks for any more."""
        if len(self._times) < 4 * MOST_AHEAD:
            return
        oldest = min((p.pts for p in self._waiting if p.pts is not None), default=None)
        done = 0 if oldest is None else bisect_left(self._times, oldest)
        del self._times[:done]
        self._base += done
        kept = self._base - 2 * MOST_AHEAD  # decoders hold back a few pictures
        self._numbers = {pts: n for pts, n in self._numbers.items() if n >= kept}
