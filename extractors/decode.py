"""Probe a container, decode spans of frames, cut them into clips.

Files are untrusted: formats and protocols are whitelisted, the decoder is believed over the header,
frames are addressed by number and presentation time. Clip and tail arithmetic lives only here.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import EINVAL
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, cast, get_args

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps

HashMode = Literal["sampled", "full"]
Tail = Literal["loop", "drop"]

# What a video file may be. No playlists (concat, hls, dash), no picture sequences, no devices.
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,ivf,mjpeg,flv,asf,ogg,"
    "gif,yuv4mpegpipe,mxf,dv,dhav,nut"
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")

LEAD = 3  # key frames that decoding starts ahead of the key frame in front of the target
FAR_LEAD = 6  # the same for the reference of the seek check
RUN_FRAMES = 8  # frames compared at each point of the seek check
SHORT = 16  # a video with fewer frames does not fill one clip
EARLY_FRAMES = 16  # decoded by every probe, for their size, orientation and order
DEFAULT_FPS = 25.0  # where neither the packets nor the header know a rate

MIB = 1 << 20
BLOCK, BLOCKS = 64 << 10, 16
NO_TIME = -(1 << 63)  # FFmpeg's AV_NOPTS_VALUE, as int64
UNTIMED = frozenset({"no_timestamps", "odd_timestamps"})  # flags: times are frame number / fps
TS_PACKET = 188
# A tag in another encoding is no reason to refuse a file; PyAV 19 copes by itself.
METADATA: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof")
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
PLAYLISTS = (
    b"ffconcat",
    b"#EXTM3U",
    b"<MPD",
    b"<?xml",
    b"<SmoothStreaming",
    b"<smil",
    b"[playlist",
)
EXIF_ORIENTATION = 0x0112


class DecodeError(RuntimeError):
    """A file cannot be used as a video; the message says why and what to do next."""


class MissingFile(DecodeError):
    """The path does not exist or may not be read."""


class EmptyFile(DecodeError):
    """The file has no bytes."""


class NotAVideo(DecodeError):
    """The content is no video container, whatever the name says."""


class BrokenContainer(DecodeError):
    """It was a video container once, but the part that describes the frames is missing."""


class ForbiddenFormat(DecodeError):
    """A playlist, a picture or another format that is not opened as a video."""


class NoVideoStream(DecodeError):
    """The container holds no video stream (cover pictures do not count)."""


class NoDecoder(DecodeError):
    """There is no decoder for the codec."""


class NoFrames(DecodeError):
    """There is a video stream (or a folder), but not one frame comes out of it."""


class UnreadableImage(DecodeError):
    """A file of an image folder cannot be read as a picture."""


class UnsafeLink(DecodeError):
    """An image is a link that leads out of its folder."""


class MixedSizes(DecodeError):
    """The images of a folder differ in size."""


class NoFootage(DecodeError):
    """Only features of the video are at hand: there is nothing to decode."""


class SeekMismatch(DecodeError):
    """Frames after a seek are not those of the probe's table; decode `in_order(row)` instead."""


class FrameOrderError(DecodeError):
    """Frames were pushed out of order, with holes, or after the end."""


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
        flags: what is wrong or unusual, sorted.
        key_frames: None for images and for files that have to be decoded in order.
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

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1 or self.before < 0 or self.after < 0:
            raise ValueError(f"length and stride start at 1, before and after at 0: {self}")
        if self.tail not in get_args(Tail):
            raise ValueError(f"tail is one of {get_args(Tail)}, not {self.tail!r}")


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


# ------------------------------------------------------------------------------------ identity


def content_id(path: Path, hash_mode: HashMode = "sampled") -> str:
    """Name a file, or a folder of images, by its content.

    Args:
        path: a file or a folder of images.
        hash_mode: "sampled" hashes the size, the first and last MiB and 16 blocks of 64 KiB spread
            evenly (every byte of a file of up to 3 MiB); "full" hashes every byte.

    Returns:
        `s1-` or `f1-` and the first 40 hex digits of a sha256. A folder is the hash of the ids of
        its images in their natural order; their names count only for that order.

    Raises:
        MissingFile: there is no such file, or it may not be read.
        EmptyFile: it has no bytes.
        NoFrames: the folder holds no images.
    """
    path = Path(path)
    prefix = {"sampled": "s1-", "full": "f1-"}[hash_mode]
    if path.is_dir():
        ids = "\n".join(content_id(image, hash_mode) for image in list_images(path))
        return prefix + hashlib.sha256(ids.encode()).hexdigest()[:40]
    if not path.is_file():  # nor a pipe: opening one would wait for ever
        raise MissingFile(f"{path}: there is no such file; check the path in the manifest")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise EmptyFile(f"{path}: the file is empty; copy it again or drop it")
            if hash_mode == "full":
                return prefix + hashlib.file_digest(file, "sha256").hexdigest()[:40]
            return prefix + _sampled_digest(file, size)[:40]
    except OSError as error:
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error


def _sampled_digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    if size <= 2 * MIB + BLOCKS * BLOCK:
        digest.update(file.read())
        return digest.hexdigest()
    room = size - 2 * MIB - BLOCK  # the blocks start somewhere in here, behind the first MiB
    parts = [(0, MIB), (size - MIB, MIB)]
    parts += [(MIB + room * i // (BLOCKS - 1), BLOCK) for i in range(BLOCKS)]
    for start, length in parts:
        file.seek(start)
        digest.update(file.read(length))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------- probing


def probe_video(
    path: Path,
    *,
    hash_mode: HashMode = "sampled",
    decode: bool = False,
    image_fps: float = 25.0,
    seek_check_frames: int = 0,
) -> ProbeRow:
    """Probe one video file or folder of images; docs/probe.md explains the flags.

    The container is opened once and its packets are read without decoding them, but for the first
    16 frames: their size, orientation and order count. The seek check decodes a few short runs.

    Args:
        path: the file or folder.
        hash_mode: see `content_id`.
        decode: decode everything: an exact frame count, and the flags that need the pixels.
        image_fps: nominal frames per second of image folders.
        seek_check_frames: nobody will seek in a video of at most this many frames (it is one span),
            so it gets no seek check and no `key_frames`, and is read from its start.

    Raises:
        DecodeError: a subclass that names what is wrong with the file.
    """
    path = Path(path).absolute()
    if path.is_dir():
        return _probe_images(path, hash_mode, decode, image_fps)
    identity = content_id(path, hash_mode)
    # One thread: with more of them, what FFmpeg makes of damaged frames is not reproducible.
    with _opened(path, threads=1) as (container, stream):
        survey = _survey(container, stream, decode)
    picture = survey.picture
    shown = survey.shown_pts()
    if picture is None or not len(shown):
        raise NoFrames(
            f"{path}: no frame comes out of its {len(survey.pts)} packets of {survey.codec} video "
            f"({survey.faults.packets} refused by the decoder); the file is damaged, drop it"
        )

    timing = set(_timing_flags(survey, shown))
    timed = timing.isdisjoint(UNTIMED)
    flags = timing.union(_content_flags(survey, shown), _orientation_flags(picture))
    n_frames = len(survey.decoded_pts) if decode else len(shown)
    if n_frames < SHORT:
        flags.add("short")
    fps = _average_rate(survey, shown, timed)
    seconds = float(int(shown[-1] - shown[0]) * survey.time_base) + 1 / fps if timed else None
    if _claims_more(path) or _declares_more(survey, seconds):
        flags.add("truncated")
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
        flags=tuple(sorted(flags)),
    )
    if not timed or (decode and not np.array_equal(survey.decoded_pts, shown)):
        return in_order(row)
    if n_frames <= seek_check_frames:
        return row
    keys = _key_frames(survey, shown)
    if keys is None or not _seeking_works(replace(row, key_frames=keys), shown, survey.time_base):
        return in_order(row)
    return replace(row, key_frames=keys)


def in_order(row: ProbeRow) -> ProbeRow:
    """The row of the same video, never to be seeked in: what to use after a `SeekMismatch`."""
    return replace(row, flags=tuple(sorted({*row.flags, "sequential_only"})), key_frames=None)


@dataclass(frozen=True)
class _Picture:
    """Stored size and orientation of the first decoded frame."""

    height: int
    width: int
    rotation: int
    mirrored: bool


@dataclass
class _Faults:
    """What went wrong while one file was read."""

    packets: int = 0  # refused by the decoder
    container: bool = False  # the demuxer gave up before the end of the file
    pending: bool = False  # the next frame follows a refused packet
    at_end: bool = False  # everything has been decoded


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
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    marks: bytearray = field(default_factory=bytearray)
    faults: _Faults = field(default_factory=_Faults)
    picture: _Picture | None = None
    decoded_pts: array[int] = field(default_factory=lambda: array("q"))
    corrupt: bool = False
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def marked(self, mark: int) -> NDArray[np.bool_]:
        """(packets,): which packets carry the mark."""
        return np.asarray(np.frombuffer(self.marks, np.uint8) & mark, np.bool_)

    def shown_pts(self) -> NDArray[np.int64]:
        """(n,) sorted times of the packets that are shown: the frame number is the position."""
        return np.sort(np.frombuffer(self.pts, np.int64)[self.marked(SHOWN)])


def _survey(container: InputContainer, stream: VideoStream, decode: bool) -> _Survey:
    rate = stream.average_rate or stream.guessed_rate
    survey = _Survey(
        codec=stream.codec_context.name,
        container=container.format.name,
        time_base=_time_base(stream),
        header_rate=rate.numerator / rate.denominator if rate else None,
        header_frames=stream.frames,
        header_duration=stream.duration,
        decode=decode,
    )
    for packet in _packets(container, stream, survey.faults):
        survey.pts.append(NO_TIME if packet.pts is None else packet.pts)
        survey.dts.append(NO_TIME if packet.dts is None else packet.dts)
        survey.marks.append(
            KEY * packet.is_keyframe + SHOWN * (not packet.is_discard) + CORRUPT * packet.is_corrupt
        )
        if decode or len(survey.decoded_pts) < EARLY_FRAMES:
            _note_frames(survey, _decode(stream, packet, survey.faults))
    if decode or len(survey.decoded_pts) < EARLY_FRAMES:
        _note_frames(survey, _drain(stream, survey.faults))
    return survey


def _note_frames(survey: _Survey, frames: Iterable[av.VideoFrame]) -> None:
    for frame in frames:
        if survey.picture is None:
            survey.picture = _Picture(frame.height, frame.width, *_orientation(frame))
        survey.decoded_pts.append(NO_TIME if frame.pts is None else frame.pts)
        survey.corrupt |= frame.is_corrupt
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
    """What the header, the packets and (with `decode`) the frames say about one another."""
    corrupt = survey.marked(CORRUPT)
    if survey.faults.container or corrupt[-1]:
        yield "truncated"  # the file ends inside the last packet
    if survey.header_frames and survey.header_frames != len(survey.pts):
        yield "header_mismatch"
    if survey.corrupt or survey.faults.packets or corrupt.any():
        yield "corrupt_frames"
    if survey.decode and len(survey.decoded_pts) != len(shown):
        yield "header_mismatch"
    if len(survey.sizes) > 1:
        yield "size_changes"


def _average_rate(survey: _Survey, shown: NDArray[np.int64], timed: bool) -> float:
    """Frames per second by the packet times; by the header where they agree or there are none."""
    header = survey.header_rate
    if not timed or len(shown) < 2:
        return header or DEFAULT_FPS
    measured = (len(shown) - 1) / float(int(shown[-1] - shown[0]) * survey.time_base)
    # The header's 30000/1001 is nicer than what millisecond time stamps average to.
    return header if header and abs(header / measured - 1) < 2e-3 else measured


def _key_frames(survey: _Survey, shown: NDArray[np.int64]) -> KeyFrames | None:
    """The table that seeking needs, or None where there is nothing to seek to or no trust."""
    chosen = survey.marked(KEY) & survey.marked(SHOWN)
    pts = np.frombuffer(survey.pts, np.int64)[chosen]
    dts = np.frombuffer(survey.dts, np.int64)[chosen]
    order = np.argsort(pts)
    pts, dts = pts[order], dts[order]
    # Nobody seeks to the first one; Matroska doesn't know its decoding time.
    dts[:1] = np.where(dts[:1] == NO_TIME, pts[:1], dts[:1])
    if len(pts) <= LEAD + 1 or pts[0] != shown[0] or (dts == NO_TIME).any():
        return None
    return KeyFrames(index=np.searchsorted(shown, pts).astype(np.int64), pts=pts, dts=dts)


def _seeking_works(row: ProbeRow, shown: NDArray[np.int64], time_base: Fraction) -> bool:
    """Compare decoding from `LEAD` key frames back with decoding from further back.

    Three points: the first key frame that a seek can serve (against the start of the file), the
    middle and the last one. A run starts at its key frame, where the lead is shortest. The times
    have to be those of the packets as well.
    """
    assert row.key_frames is not None
    last = len(row.key_frames.index) - 1
    for target in sorted({LEAD + 1, (LEAD + 1 + last) // 2, last}):
        start = int(row.key_frames.index[target])
        times = [
            float((int(pts) - int(shown[0])) * time_base) for pts in shown[start:][:RUN_FRAMES]
        ]
        near, far = (_run(row, start, lead) for lead in (LEAD, FAR_LEAD))
        if [frame.pts for frame in near] != times or [frame.pts for frame in far] != times:
            return False
        if any(not np.array_equal(a.image, b.image) for a, b in zip(near, far, strict=True)):
            return False
    return True


def _run(row: ProbeRow, start: int, lead: int) -> list[Frame]:
    """A few frames decoded from `lead` key frames back; none where the table does not fit."""
    try:
        return list(_video_frames(row, start, start + RUN_FRAMES, 0, lead, _Faults()))
    except SeekMismatch:
        return []


# ----------------------------------------------------------------------- signs of a cut-off file


def _declares_more(survey: _Survey, seconds: float | None) -> bool:
    """True where the stream's header promises over a second (and over 1 %) more than there is."""
    if seconds is None or survey.header_duration is None:
        return False
    declared = float(survey.header_duration * survey.time_base)
    return declared > seconds + max(1.0, 0.01 * seconds)


def _claims_more(path: Path) -> bool:
    """True where the container's own sizes reach beyond the end of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return _riff_end(file, size) > size
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska_end(file, size) > size
        if head[4:8] in MP4_BOXES:
            return _mp4_end(file, size) > size
        if head[:1] == b"\x47":
            file.seek(TS_PACKET)
            return file.read(1) == b"\x47" and size % TS_PACKET != 0
    return False


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI file says that it ends (several: OpenDML)."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:], "little")
        if length == 0:
            return size + 1  # filled in when a recording is finished: this one never was
        position += 8 + length
    return position


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box says that it ends (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: up to the end of the file; the rest is no size
            break
        position += length
    return position


def _matroska_end(file: BinaryIO, size: int) -> int:
    """Where the segment, or its last element of known size, ends (RFC 8794, RFC 9559)."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(12)
        id_length = _vint_length(head, 0)
        size_length = _vint_length(head, id_length)
        if not id_length or not size_length or len(head) < id_length + size_length:
            break
        value = int.from_bytes(head[id_length : id_length + size_length], "big")
        length = value & ((1 << 7 * size_length) - 1)
        unknown = length == (1 << 7 * size_length) - 1  # a live recording
        position += id_length + size_length
        if unknown and head[:id_length] != MATROSKA_SEGMENT:
            break
        if not unknown:
            position += length
    return position


def _vint_length(head: bytes, at: int) -> int:
    """Bytes of the variable-length number at that place: leading zero bits plus one; 0 if none."""
    return 9 - head[at].bit_length() if at < len(head) and head[at] else 0


# ----------------------------------------------------------------------------- opening, decoding


@contextmanager
def _opened(path: Path, threads: int = 0) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a container by the whitelist, give its best video stream, close it in any case."""
    try:
        container = av.open(
            # Absolute: FFmpeg would take `concat:x` or `http:x` for a protocol.
            str(path.absolute()),
            mode="r",
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            **METADATA,
        )
    except FFmpegError as error:
        raise _refusal(path, error) from error
    with container:
        # A cover picture is a video stream to FFmpeg.
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise NoVideoStream(f"{path}: there is no video stream in it ({container.format.name})")
        best = container.streams.best("video")
        stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
        if stream.codec_context is None:
            raise NoDecoder(
                f"{path}: this FFmpeg has no decoder for its video stream; re-encode the file"
            )
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        yield container, stream


def _time_base(stream: VideoStream) -> Fraction:
    """Seconds a tick, whatever rational type PyAV gives."""
    assert stream.time_base is not None  # every demuxer sets it
    return Fraction(stream.time_base.numerator, stream.time_base.denominator)


def _refusal(path: Path, error: FFmpegError) -> DecodeError:
    """Say why FFmpeg would not open a file, in words that help."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as reading:
        return MissingFile(f"{path}: cannot be read: {reading.strerror}")
    # FFmpeg answers "invalid argument" to a format that is not on the list.
    if error.errno == EINVAL or head.lstrip().startswith(PLAYLISTS):
        return ForbiddenFormat(
            f"{path}: a playlist, a picture, sound or another format that is not opened as a "
            "video; give the video file itself, or a folder of images"
        )
    if head[4:8] in MP4_BOXES or head[:4] in (b"RIFF", b"\x1a\x45\xdf\xa3"):
        return BrokenContainer(
            f"{path}: the container is cut off or damaged ({error.strerror}); an mp4 without its "
            "index (moov) cannot be played: record or copy it again"
        )
    return NotAVideo(f"{path}: the content is no video, whatever its name says; drop it")


def _packets(
    container: InputContainer, stream: VideoStream, faults: _Faults
) -> Iterator[av.Packet[VideoStream]]:
    """The stream's packets; a part that cannot be demuxed ends the file and is noted."""
    try:
        for packet in container.demux(stream):
            if packet.size or packet.dts is not None:  # else PyAV's own flush packet
                yield packet
    except FFmpegError:
        faults.container = True


def _decode(
    stream: VideoStream, packet: av.Packet[VideoStream] | None, faults: _Faults
) -> list[av.VideoFrame]:
    """The frames that a packet gives; a refused packet gives none and is counted."""
    try:
        return stream.decode(packet)
    except FFmpegError:
        faults.packets += 1
        faults.pending = True
        return []


def _drain(stream: VideoStream, faults: _Faults) -> Iterator[av.VideoFrame]:
    """The frames that the decoder still holds at the end of the file."""
    yield from _decode(stream, None, faults)
    faults.at_end = True


def _pictures(
    container: InputContainer, stream: VideoStream, faults: _Faults
) -> Iterator[av.VideoFrame]:
    """Every frame from here to the end, in presentation order."""
    for packet in _packets(container, stream, faults):
        yield from _decode(stream, packet, faults)
    yield from _drain(stream, faults)


class FrameReader(Iterator[Frame]):
    """An iterator of frames that holds a file open: exhaust it, `close` it or use `with`.

    Attributes:
        row: what is read.
    """

    def __init__(self, row: ProbeRow, frames: Generator[Frame, None, None], faults: _Faults):
        self.row = row
        self._frames = frames
        self._faults = faults

    @property
    def failed_packets(self) -> int:
        """Packets refused by the decoder so far; the frame behind one is marked `corrupt`."""
        return self._faults.packets

    @property
    def at_end(self) -> bool:
        """True once the decoder has given its last frame: the video ends here."""
        return self._faults.at_end

    @property
    def cut_off(self) -> bool:
        """True where the container could not be read up to its end."""
        return self._faults.container

    def __next__(self) -> Frame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; further frames are not given."""
        self._frames.close()


def read_frames(
    row: ProbeRow, start: int = 0, stop: int | None = None, *, threads: int = 0
) -> FrameReader:
    """Decode frames [start, stop), in order, in constant memory.

    Decoding starts at least `LEAD` key frames ahead and every key frame on the way is compared with
    the probe's table; a row without `key_frames` is decoded from its start and not compared. Frames
    are numbered in the order in which the decoder gives them.

    Args:
        row: from `probe_video`.
        start: first frame.
        stop: one past the last frame; None goes on to wherever the decoder ends, which need not be
            `row.n_frames`.
        threads: of the decoder; 0 lets FFmpeg choose. They change nothing but speed, except in a
            damaged file: one that is flagged `corrupt_frames` is decoded by one thread.

    Returns:
        Frames of (row.height, row.width, 3) uint8 RGB, upright, `pts` in seconds since the first
        frame. Where fewer than `stop - start` come, `at_end` is True.

    Raises:
        SeekMismatch: while reading; go on with `in_order(row)`, for all of the video.
        DecodeError: likewise: the file is gone, or an image cannot be read.
        ValueError: `start` is negative or `stop` lies before it.
    """
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(f"no frames are [{start}, {stop})")
    faults = _Faults()
    if row.kind == "images":
        return FrameReader(row, _image_frames(row, start, stop, faults), faults)
    if "corrupt_frames" in row.flags:
        threads = 1
    return FrameReader(row, _video_frames(row, start, stop, threads, LEAD, faults), faults)


def _video_frames(
    row: ProbeRow, start: int, stop: int | None, threads: int, lead: int, faults: _Faults
) -> Generator[Frame, None, None]:
    if start == stop:
        return
    with _opened(Path(row.path), threads) as (container, stream):
        pictures = _pictures(container, stream, faults)
        if row.key_frames is None:
            numbered: Iterator[tuple[int, av.VideoFrame]] = enumerate(pictures)
        else:
            first = int(np.searchsorted(row.key_frames.index, start, side="right")) - 1 - lead
            if first > 0:
                _seek(row, container, stream, int(row.key_frames.dts[first]))
            numbered = _checked_numbers(row, row.key_frames, max(first, 0), pictures)
        convert = _Converter(row)
        clock = _Clock(row, _time_base(stream))
        for number, picture in numbered:
            seconds = clock.seconds(number, picture.pts)
            corrupt = bool(picture.is_corrupt) or faults.pending
            faults.pending = False
            if number >= start:
                yield Frame(number, seconds, convert(picture), corrupt)
            if stop is not None and number + 1 >= stop:
                return


def _seek(row: ProbeRow, container: InputContainer, stream: VideoStream, dts: int) -> None:
    try:
        container.seek(dts, stream=stream)
    except FFmpegError as error:
        raise SeekMismatch(f"{row.path}: cannot seek to {dts}: {error.strerror}") from error


def _checked_numbers(
    row: ProbeRow, keys: KeyFrames, first: int, pictures: Iterator[av.VideoFrame]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Number frames from the first known key frame on and check every later one.

    Args:
        row: for messages.
        keys: the probe's table.
        first: the key frame that was seeked to; 0 for the start of the file.
        pictures: frames from somewhere at or before that key frame.

    Raises:
        SeekMismatch: no known key frame came in time, or one has another number or time.
    """
    number, at = -1, first
    for picture in pictures:
        pts = NO_TIME if picture.pts is None else picture.pts
        if number < 0:
            at = int(np.searchsorted(keys.pts, pts))
            if at < len(keys.pts) and keys.pts[at] == pts and at <= first:
                number = int(keys.index[at])  # anchored; earlier frames may lack references
            elif first and pts < keys.pts[first]:
                continue
            else:
                raise SeekMismatch(f"{row.path}: frames begin at {pts}, not at a known key frame")
        if at < len(keys.pts) and (number == keys.index[at] or pts == keys.pts[at]):
            if number != keys.index[at] or pts != keys.pts[at]:
                raise SeekMismatch(
                    f"{row.path}: frame {number} at {pts} should be key frame {keys.index[at]} at "
                    f"{keys.pts[at]}; frames are missing or the file has changed: probe it again"
                )
            at += 1
        yield number, picture
        number += 1
    if number < 0:
        raise SeekMismatch(f"{row.path}: no frames come after a seek")


class _Clock:
    """Seconds since the first frame, by presentation time or, where those are odd, by number."""

    def __init__(self, row: ProbeRow, time_base: Fraction) -> None:
        self._fps = row.fps
        self._time_base = time_base
        self._timed = UNTIMED.isdisjoint(row.flags)
        self._first = None if row.key_frames is None else int(row.key_frames.pts[0])

    def seconds(self, number: int, pts: int | None) -> float:
        if not self._timed or pts is None:
            return number / self._fps
        if self._first is None:
            self._first = pts
        return float((pts - self._first) * self._time_base)


class _Converter:
    """Decoded frames -> upright (H, W, 3) uint8 RGB of the row's size.

    The conversion is swscale's, with fixed flags: the matrix (BT.601, BT.709, ...) and the range
    are those that the stream states; FFmpeg takes BT.601 and limited range where it states none.
    """

    def __init__(self, row: ProbeRow) -> None:
        self._turns = row.rotation // 90
        swapped = self._turns % 2
        self._height = row.width if swapped else row.height
        self._width = row.height if swapped else row.width
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        rgb = self._reformatter.reformat(
            picture,
            width=self._width,
            height=self._height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
        )
        return np.ascontiguousarray(np.rot90(np.asarray(rgb.to_ndarray(), np.uint8), -self._turns))


# ------------------------------------------------------------------------------- image folders


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order (`img2` before `img10`).

    Hidden files, other files and subfolders are left out.

    Raises:
        UnsafeLink: an image is a link that leads out of the folder.
        NoFrames: there is no image.
    """
    folder = Path(folder)
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    ]
    if not images:
        raise NoFrames(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in the folder")
    root = folder.resolve()
    for path in images:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UnsafeLink(f"{path}: a link that leads out of the folder; copy the image instead")
    return sorted(images, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits by value, the rest by letters."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", name.lower())
    ]


def _has_gaps(images: list[Path]) -> bool:
    """True where the last numbers in the names do not count up by one."""
    found = [re.findall(r"[0-9]+", path.stem) for path in images]
    if not all(found):
        return False
    numbers = [int(digits[-1]) for digits in found]
    return any(after != before + 1 for before, after in pairwise(numbers))


def _probe_images(folder: Path, hash_mode: HashMode, decode: bool, fps: float) -> ProbeRow:
    if not fps > 0:
        raise ValueError(f"image_fps must be positive, not {fps}")
    images = list_images(folder)
    identity = content_id(folder, hash_mode)
    sizes, formats = [], set()
    for path in images:
        with _image(path) as image:
            formats.add(str(image.format).lower())
            quarter_turn = _exif_orientation(image) >= 5
            sizes.append((image.width, image.height) if quarter_turn else image.size[::-1])
            if decode:
                _rgb(image)
        if sizes[-1] != sizes[0]:
            raise MixedSizes(
                f"{path}: {sizes[-1][1]}x{sizes[-1][0]} pixels, but {images[0].name} has "
                f"{sizes[0][1]}x{sizes[0][0]}; a folder is one video, so scale them alike"
            )
    flags = {"gaps"} if _has_gaps(images) else set()
    if len(images) < SHORT:
        flags.add("short")
    return ProbeRow(
        path=str(folder),
        content_id=identity,
        kind="images",
        n_frames=len(images),
        decoded=decode,
        fps=fps,
        height=sizes[0][0],
        width=sizes[0][1],
        rotation=0,
        duration=len(images) / fps,
        codec="+".join(sorted(formats)),
        container="images",
        flags=tuple(sorted(flags)),
    )


def _image_frames(
    row: ProbeRow, start: int, stop: int | None, faults: _Faults
) -> Generator[Frame, None, None]:
    images = list_images(Path(row.path))
    if len(images) != row.n_frames:
        raise DecodeError(
            f"{row.path}: {len(images)} images, but {row.n_frames} when it was probed; probe again"
        )
    for number, path in enumerate(images[start:stop], start):
        with _image(path) as image:
            pixels = _rgb(image)
        if pixels.shape[:2] != (row.height, row.width):
            raise MixedSizes(f"{path}: its size has changed since the folder was probed")
        faults.at_end = number + 1 == len(images)
        yield Frame(number, number / row.fps, pixels)
    faults.at_end = stop is None or stop >= len(images)


@contextmanager
def _image(path: Path) -> Iterator[Image.Image]:
    """Open an image; whatever Pillow raises while it is in use names the file."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise UnreadableImage(f"{path}: cannot be read as an image: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{path}: too large for a frame: {error}") from error


def _exif_orientation(image: Image.Image) -> int:
    """1 to 8, from 5 on with a quarter turn; 1 where the header states none."""
    # The base class's getexif: that of PNG decodes the picture to look for EXIF data behind it.
    stated = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
    return stated if stated in range(1, 9) else 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Upright (H, W, 3) uint8: 16-bit grey by its upper byte, no alpha, palettes looked up."""
    if _exif_orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey; some Pillow versions open it as 32-bit
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("32-bit integers are no picture; convert it to 8 or 16 bits")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point values are no picture; convert it to 8 or 16 bits")
    return np.array(image.convert("RGB"))


# -------------------------------------------------------------------------- spans, clips, tails


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
    """Clips of a video of that many frames, in closed form."""
    if rule.tail == "drop":
        return max(0, (n_frames - rule.length) // rule.stride + 1)
    if n_frames < 1:
        return 0
    # The clip at s > 0 needs frame s, and a frame that the clip before it does not cover.
    overlap = max(0, rule.length - rule.stride)
    return max(1, -(-(n_frames - overlap) // rule.stride))


class ClipAssembler:
    """Cuts a stream of frames into the clips that a span owns: see docs/probe.md.

    Push the frames from `first_frame` on, one after the other, until `done`; where the video ends
    before that, call `finish`. It holds the frames of one clip and its context.
    """

    def __init__(self, rule: ClipRule, span: Span) -> None:
        self._rule = rule
        self._stop = None if span.last else span.frame_stop
        self._start = -(-span.frame_start // rule.stride) * rule.stride
        self._first = max(0, self._start - rule.before)
        self._next = self._first
        self._buffer: deque[Frame] = deque()
        self._finished = False

    @property
    def first_frame(self) -> int:
        """The first frame that this span's clips need."""
        return self._first

    @property
    def done(self) -> bool:
        """True once no further frame can add a clip."""
        return self._finished or (self._stop is not None and self._start >= self._stop)

    def push(self, frame: Frame) -> list[Clip]:
        """Take the next frame, give the clips that it completes.

        Raises:
            FrameOrderError: it is not the next frame, or the video has been finished.
        """
        if self._finished:
            raise FrameOrderError(f"frame {frame.index} comes after the end of the video")
        if frame.index != self._next:
            raise FrameOrderError(f"frame {frame.index} comes where {self._next} belongs")
        self._next += 1
        if self.done:
            return []
        self._buffer.append(frame)
        clips = []
        while not self.done and self._next >= self._start + self._rule.length + self._rule.after:
            clips.append(self._clip(self._next))
        self._forget()
        return clips

    def finish(self) -> list[Clip]:
        """Tell that the video has ended: pads or drops the tail. A second call gives nothing."""
        clips = []
        total = self._next
        while not self.done and self._owned_at_end(total):
            clips.append(self._clip(total))
        self._finished = True
        self._buffer.clear()
        return clips

    def _owned_at_end(self, total: int) -> bool:
        """Whether a video of that many frames has the clip at `_start`."""
        if self._rule.tail == "drop":
            return self._start + self._rule.length <= total
        uncovered = self._start - self._rule.stride + self._rule.length
        return max(self._start, uncovered if self._start else 0) < total

    def _clip(self, total: int) -> Clip:
        """The clip at `_start`, given that frames [.., total) are known; moves on to the next."""
        rule, start = self._rule, self._start
        stop = min(start + rule.length, total)
        core = [start + i % (stop - start) for i in range(rule.length)]
        before = [max(0, i) for i in range(start - rule.before, start)]
        behind = range(start + rule.length, start + rule.length + rule.after)
        after = [min(i, total - 1) for i in behind]
        oldest = self._buffer[0].index
        frames = [self._buffer[i - oldest] for i in [*before, *core, *after]]
        self._start += rule.stride
        return Clip(
            frames=np.stack([frame.image for frame in frames]),
            index=np.array([frame.index for frame in frames], np.int64),
            pts=np.array([frame.pts for frame in frames], np.float64),
            frame_start=start,
            frame_stop=stop,
        )

    def _forget(self) -> None:
        """Drop the frames that no later clip needs."""
        oldest = self._start - self._rule.before
        while self._buffer and (self.done or self._buffer[0].index < oldest):
            self._buffer.popleft()
