"""Probe a video file or a folder of images: what it really is, without decoding all of it."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .decode import (
    LEAD,
    NO_TIME,
    decode_packet,
    drain,
    opened,
    packets,
    time_base,
    video_frames,
    video_streams,
)
from .ends import claims_more, goes_on, swallowed
from .errors import BrokenContainer, NoFrames, SeekMismatch
from .file_checks import DENSE, FileChecks
from .identity import HashMode, identify
from .image_folder import probe_images
from .stamp import check_stamp
from .video import SHORT, UNTIMED, Frame, Hooks, KeyFrames, ProbeRow, Reading, in_order

KEY_FRAMES, KEY_STEP = 10_000, 16  # of more key frames, one in 16 frames is kept
FAR_LEAD = 6  # key frames of lead for the reference of the seek check
RUN_FRAMES = 8  # frames compared at each point of the seek check
EARLY_FRAMES = 16  # decoded by every probe, for their size, orientation and order
PLAUSIBLE_FPS = 0.01, 1000.0
DEFAULT_FPS = 25.0  # where neither the packets nor the header state a rate


def probe_video(
    path: Path,
    *,
    hash_mode: HashMode = "sampled",
    decode: bool = False,
    image_fps: float = 25.0,
    limits: FileChecks | None = None,
) -> ProbeRow:
    """Probe one video file or folder of images; docs/probe.md explains the flags.

    The container is opened once and its packets are read without decoding them. Only the first 16
    frames are decoded, for their size, orientation and order. The seek check decodes a few short
    runs.

    Args:
        path: the file or folder.
        hash_mode: see `content_id`.
        decode: decode everything: an exact frame count, and the flags that need the pixels.
        image_fps: nominal frames per second of image folders.
        limits: what is refused; None takes the defaults.

    Raises:
        DecodeError: a subclass that names what is wrong with the file.
    """
    from .limits import DecodeLimits  # pydantic: the decoding process does without

    path, limits = Path(path).absolute(), limits or DecodeLimits()
    limits.check_file(path)
    identity = identify(path, hash_mode, limits)
    row = probe_content(
        path,
        identity.content_id,
        stamp=identity.stamp,
        decode=decode,
        image_fps=image_fps,
        limits=limits,
        hooks=Hooks(),
    )
    return replace(row, whole_id=identity.whole_id, stamp=identity.stamp)


def probe_content(
    path: Path,
    identity: str,
    *,
    stamp: str,
    decode: bool,
    image_fps: float,
    limits: FileChecks,
    hooks: Hooks,
) -> ProbeRow:
    """Probe a file or folder whose content id is known; see `probe_video`.

    Raises:
        DecodeError: a subclass that names what is wrong with the file.
        TouchedFile: it has another stamp than when its content was read.
    """
    limits.check_file(path)
    if path.is_dir():
        row = probe_images(path, identity, decode, image_fps, limits, hooks)
    else:
        row = _probe_file(path, identity, stamp, decode, limits, hooks)
    check_stamp(path, stamp)
    limits.check(row)
    return row


def _probe_file(
    path: Path,
    identity: str,
    stamp: str,
    decode: bool,
    limits: FileChecks,
    hooks: Hooks,
) -> ProbeRow:
    # One thread: with more, what FFmpeg makes of damaged frames is not reproducible.
    with opened(path, threads=1, stamp=stamp) as (container, stream):
        _check_header(path, container, stream, limits)
        survey = _survey(path, container, stream, decode, limits, hooks)
    if swallowed(path, survey.last):
        raise BrokenContainer(f"{path}: another recording follows in the same IVF file: split it")
    picture = survey.picture
    shown = survey.shown_pts()
    if picture is None or not len(shown):
        raise NoFrames(
            f"{path}: no frame comes out of its {len(survey.pts)} packets of {survey.codec} video ("
            f"{survey.reading.failed_packets} refused by the decoder); the file is damaged, drop it"
        )

    timing = set(_timing_flags(survey, shown))
    timed = timing.isdisjoint(UNTIMED)
    flags = timing.union(_content_flags(survey, shown), _orientation_flags(picture))
    n_frames = len(survey.decoded_pts) if decode else len(shown)
    fps = _average_rate(survey, shown, timed)
    flags.update(_length_flags(n_frames, fps))
    seconds = float(int(shown[-1] - shown[0]) * survey.time_base) + 1 / fps if timed else None
    if claims_more(path) or _declares_more(survey, seconds):
        flags.add("truncated")
    if survey.video_streams > 1:
        flags.add("more_video_streams")
    if goes_on(path, survey.end):
        flags.add("unread_bytes")
    swapped = picture.rotation in (90, 270)
    row = ProbeRow(
        path=str(path),
        content_id=identity,
        kind="video",
        n_frames=n_frames,
        decoded=decode,
        fps=fps,
        height=picture.width if swapped else picture.height,
        width=picture.height if swapped else picture.width,
        rotation=picture.rotation,
        duration=n_frames / fps if seconds is None else seconds,
        codec=survey.codec,
        container=survey.container,
        damaged=survey.damaged + survey.reading.failed_packets,
        flags=tuple(sorted(flags)),
        stamp=stamp,
    )
    if not timed or (decode and not np.array_equal(survey.decoded_pts, shown)):
        return in_order(row)
    keys = _key_frames(survey, shown)
    if keys is None:
        return in_order(row)
    seekable = replace(row, key_frames=keys)
    return seekable if _seeking_works(seekable, shown, survey.time_base, hooks) else in_order(row)


def _check_header(
    path: Path, container: InputContainer, stream: VideoStream, limits: FileChecks
) -> None:
    """Refuse a file by what its header states, before its packets are read.

    Raises:
        OverLimit: its frames are too large, or too many or too dense.
    """
    context = stream.codec_context
    limits.check_picture(path, context.height, context.width)
    if container.format.name.startswith("mov"):  # the header lists every frame
        limits.check_count(path, stream.frames)
        limits.check_rate(path, stream.frames, float(stream.average_rate or 0))


@dataclass(frozen=True)
class _Picture:
    """Stored size and orientation of the first decoded frame."""

    height: int
    width: int
    rotation: int
    mirrored: bool


KEY, SHOWN, CORRUPT = 1, 2, 4  # marks of a packet


@dataclass
class _Survey:
    """One pass over the packets of a stream: flat arrays, 17 bytes a packet."""

    codec: str
    container: str
    time_base: Fraction
    header_rate: float | None
    header_frames: int
    header_duration: int | None
    decode: bool
    reading: Reading
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    marks: bytearray = field(default_factory=bytearray)
    picture: _Picture | None = None
    decoded_pts: array[int] = field(default_factory=lambda: array("q"))
    damaged: int = 0
    video_streams: int = 1  # without cover pictures
    end: int = 0  # of the last packet in the file, in bytes; 0 where the demuxer states none
    last: int = 0  # where the last packet begins in the file
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def marked(self, mark: int) -> NDArray[np.bool_]:
        """(packets,): which packets carry the mark."""
        return np.asarray(np.frombuffer(self.marks, np.uint8) & mark, np.bool_)

    def rate_at_most(self) -> float:
        """Frames a second so far, if the file lasts as long as it says, or longer; 0 if unknown."""
        seen = np.frombuffer(self.pts, np.int64)
        timed = seen[seen != NO_TIME]
        # Times may start again: a camera restarts, recordings are joined.
        span = int(timed.max()) - int(timed.min()) if len(timed) else 0
        ticks = max(self.header_duration or 0, span)
        return len(seen) / float(ticks * self.time_base) if ticks > 0 else 0.0

    def shown_pts(self) -> NDArray[np.int64]:
        """(n,) sorted times of the packets that are shown: the frame number is the position."""
        return np.sort(np.frombuffer(self.pts, np.int64)[self.marked(SHOWN)])


def _survey(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    decode: bool,
    limits: FileChecks,
    hooks: Hooks,
) -> _Survey:
    rate = stream.average_rate or stream.guessed_rate
    survey = _Survey(
        codec=stream.codec_context.name,
        container=container.format.name,
        time_base=time_base(stream),
        header_rate=rate.numerator / rate.denominator if rate else None,
        header_frames=stream.frames,
        header_duration=stream.duration,
        decode=decode,
        reading=Reading(hooks),
    )
    for packet in packets(container, stream, survey.reading):
        survey.pts.append(NO_TIME if packet.pts is None else packet.pts)
        survey.last = packet.pos or 0
        survey.end = max(survey.end, survey.last + packet.size)
        survey.dts.append(NO_TIME if packet.dts is None else packet.dts)
        survey.marks.append(
            KEY * packet.is_keyframe + SHOWN * (not packet.is_discard) + CORRUPT * packet.is_corrupt
        )
        limits.check_count(path, max(len(survey.pts), len(survey.decoded_pts)))
        if len(survey.pts) % (DENSE + 1) == 0:  # again after each million
            limits.check_rate(path, len(survey.pts), survey.rate_at_most())
        if decode or len(survey.decoded_pts) < EARLY_FRAMES:
            _note_frames(survey, decode_packet(stream, packet, survey.reading))
    if decode or len(survey.decoded_pts) < EARLY_FRAMES:
        _note_frames(survey, drain(stream, survey.reading))
    survey.video_streams = len(video_streams(container))  # in MPEG-TS some appear on the way
    return survey


def _note_frames(survey: _Survey, frames: Iterable[av.VideoFrame]) -> None:
    for frame in frames:
        if survey.picture is None:
            survey.picture = _Picture(frame.height, frame.width, *_orientation(frame))
        survey.decoded_pts.append(NO_TIME if frame.pts is None else frame.pts)
        survey.damaged += bool(frame.is_corrupt)
        survey.sizes.add((frame.height, frame.width))


def _orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Clockwise degrees (to the nearest quarter turn) and mirroring of the display matrix.

    The matrix is nine native 32-bit fixed-point numbers (libavutil/display.h); they are read here
    because `VideoFrame.rotation` drops the sign of the determinant.
    """
    matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is None:
        return 0, False
    a, b, _, c, d = struct.unpack("=9i", bytes(matrix))[:5]
    mirrored = a * d - b * c < 0
    return round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360, mirrored


def _orientation_flags(picture: _Picture) -> Iterator[str]:
    if picture.rotation:
        yield "rotated"
    if picture.mirrored:
        yield "mirrored"


def _timing_flags(survey: _Survey, shown: NDArray[np.int64]) -> Iterator[str]:
    """What the packet times say: missing, out of order, of a variable rate."""
    if shown[0] == NO_TIME:
        yield "no_timestamps"
        return
    steps = np.diff(shown)
    dts = np.frombuffer(survey.dts, np.int64)
    decoded = np.frombuffer(survey.decoded_pts, np.int64)
    # AVI stores no presentation times: FFmpeg's guesses for H.264 come out of the decoder unsorted.
    unsorted = (np.diff(decoded) <= 0).any()
    if unsorted or (steps <= 0).any() or (np.diff(dts[dts != NO_TIME]) < 0).any():
        yield "odd_timestamps"
    elif len(steps):
        # One tick either way is rounding: Matroska counts in milliseconds.
        usual = float(np.median(steps))
        if (np.abs(steps - usual) > max(1.0, 0.1 * usual)).any():
            yield "variable_rate"


def _content_flags(survey: _Survey, shown: NDArray[np.int64]) -> Iterator[str]:
    """Where the header, the packets and (with `decode`) the frames contradict each other."""
    corrupt = survey.marked(CORRUPT)
    if survey.reading.cut_off or corrupt[-1]:
        yield "truncated"  # the file ends inside the last packet
    if survey.header_frames and survey.header_frames != len(survey.pts):
        yield "header_mismatch"
    if survey.damaged or survey.reading.failed_packets or corrupt.any():
        yield "corrupt_frames"
    if survey.decode and len(survey.decoded_pts) != len(shown):
        yield "header_mismatch"
    if len(survey.sizes) > 1:
        yield "size_changes"


def _length_flags(n_frames: int, fps: float) -> Iterator[str]:
    if n_frames < SHORT:
        yield "short"
    if not PLAUSIBLE_FPS[0] <= fps <= PLAUSIBLE_FPS[1]:
        yield "implausible_rate"


def _average_rate(survey: _Survey, shown: NDArray[np.int64], timed: bool) -> float:
    """Frames per second by the packet times; by the header where they agree or there are none."""
    header = survey.header_rate
    if not timed or len(shown) < 2:
        return header or DEFAULT_FPS
    measured = (len(shown) - 1) / float(int(shown[-1] - shown[0]) * survey.time_base)
    # The header's 30000/1001 is more exact than the average of millisecond time stamps.
    return header if header and abs(header / measured - 1) < 2e-3 else measured


def _key_frames(survey: _Survey, shown: NDArray[np.int64]) -> KeyFrames | None:
    """The table that seeks need; None where there is nothing to seek to, or times are missing."""
    chosen = survey.marked(KEY) & survey.marked(SHOWN)
    pts = np.frombuffer(survey.pts, np.int64)[chosen]
    dts = np.frombuffer(survey.dts, np.int64)[chosen]
    order = np.argsort(pts)
    pts, dts = pts[order], dts[order]
    # No seek goes to the first one, and Matroska does not state its decoding time.
    dts[:1] = np.where(dts[:1] == NO_TIME, pts[:1], dts[:1])
    if len(pts) <= LEAD + 1 or pts[0] != shown[0] or (dts == NO_TIME).any():
        return None
    index = np.searchsorted(shown, pts).astype(np.int64)
    if len(index) > KEY_FRAMES:  # a day of MJPEG has two million
        kept = np.unique(index // KEY_STEP, return_index=True)[1]
        index, pts, dts = index[kept], pts[kept], dts[kept]
    return KeyFrames(index=index, pts=pts, dts=dts)


def _seeking_works(
    row: ProbeRow, shown: NDArray[np.int64], time_base: Fraction, hooks: Hooks
) -> bool:
    """Compare decoding from `LEAD` key frames back with decoding from further back.

    Three key frames are tried: the first that a seek can serve (against the start of the file), the
    middle and the last one. Runs start at a key frame, where the lead is shortest. Their times have
    to be those of the packets too.
    """
    assert row.key_frames is not None
    last = len(row.key_frames.index) - 1
    for target in sorted({LEAD + 1, (LEAD + 1 + last) // 2, last}):
        start = int(row.key_frames.index[target])
        times = [
            float((int(pts) - int(shown[0])) * time_base) for pts in shown[start:][:RUN_FRAMES]
        ]
        near, far = (_run(row, start, lead, hooks) for lead in (LEAD, FAR_LEAD))
        if [frame.pts for frame in near] != times or [frame.pts for frame in far] != times:
            return False
        if any(not np.array_equal(a.image, b.image) for a, b in zip(near, far, strict=True)):
            return False
    return True


def _run(row: ProbeRow, start: int, lead: int, hooks: Hooks) -> list[Frame]:
    """`RUN_FRAMES` frames decoded from `lead` key frames back; none where the table is wrong."""
    try:
        return list(video_frames(row, start, start + RUN_FRAMES, 0, lead, Reading(hooks)))
    except SeekMismatch:
        return []


def _declares_more(survey: _Survey, seconds: float | None) -> bool:
    """True where the stream's header states over a second (and over 1 %) more than there is."""
    if seconds is None or survey.header_duration is None:
        return False
    declared = float(survey.header_duration * survey.time_base)
    return declared > seconds + max(1.0, 0.01 * seconds)
