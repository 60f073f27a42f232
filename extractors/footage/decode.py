"""Open containers and decode spans of frames.

Files are untrusted: formats and protocols are whitelisted, and what the decoder returns counts more
than what the header states. Frames are addressed by number and presentation time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from errno import EINVAL, ENOMEM
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from ...data_manifests.containers import CONTAINERS
from .convert import PictureConverter
from .errors import (
    BrokenContainer,
    DecodeError,
    ForbiddenFormat,
    MissingFile,
    NoDecoder,
    NotAVideo,
    NoVideoStream,
    SeekMismatch,
)
from .image_folder import image_frames
from .resizing import Resize
from .sparse import SINGLE, CannotSkip, Skipping, Wanted, may_skip
from .stamp import check_stamp, same_file
from .video import UNTIMED, Frame, KeyFrames, ProbeRow, Reading, has_room

FORMATS = ",".join(CONTAINERS)  # what a video file may be
LEAD = 3  # decoding starts this many key frames before the key frame at or before the target
NO_TIME = -(1 << 63)  # FFmpeg's AV_NOPTS_VALUE, as int64
# A tag in another encoding is no reason to refuse a file; PyAV 19 ignores it by itself.
METADATA: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof")
PLAYLISTS = (
    b"ffconcat",
    b"#EXTM3U",
    b"<MPD",
    b"<?xml",
    b"<SmoothStreaming",
    b"<smil",
    b"[playlist",
)


@contextmanager
def opened(
    path: Path, threads: int = 0, stamp: str = ""
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a container with the whitelists; yields it with its best video stream.

    Args:
        path: the file.
        threads: of the decoder; 0 lets FFmpeg choose.
        stamp: that the file has to have, see `stamp`; "" takes any.

    Raises:
        DecodeError: the file cannot be used as a video, or has another stamp.
    """
    try:
        with same_file(path, stamp):
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
        if not (streams := video_streams(container)):
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


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams of a container. A cover picture is one to FFmpeg, but not here."""
    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]


def time_base(stream: VideoStream) -> Fraction:
    """Seconds a tick, whatever rational type this version of PyAV has."""
    assert stream.time_base is not None  # every demuxer sets it
    return Fraction(stream.time_base.numerator, stream.time_base.denominator)


def _refusal(path: Path, error: FFmpegError) -> DecodeError:
    """Why FFmpeg does not open a file, and what to do about it."""
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


def packets(
    container: InputContainer, stream: VideoStream, reading: Reading
) -> Iterator[av.Packet[VideoStream]]:
    """The stream's packets. A part that cannot be demuxed ends the file: `reading.cut_off`."""
    most = container.size  # a packet has a byte at least: with more, the demuxer goes in circles
    try:
        for number, packet in enumerate(container.demux(stream)):
            reading.hooks.beat()
            if number > most > 0:
                reading.cut_off = True
                return
            if packet.size or packet.dts is not None:  # else it is PyAV's own flush packet
                yield packet
    except FFmpegError as error:
        _not_memory(error, most)  # no packet is larger than its file
        reading.cut_off = True
    except IndexError:
        # PyAV ends with an empty packet for each stream, and fails here where a stream appeared
        # while it was reading (MPEG-TS). All packets have been read by then.
        return


def decode_packet(
    stream: VideoStream, packet: av.Packet[VideoStream] | None, reading: Reading
) -> list[av.VideoFrame]:
    """The frames that come out of a packet; a refused packet has none and is counted."""
    try:
        return stream.decode(packet)
    except FFmpegError as error:
        _not_memory(error)
        reading.failed_packets += 1
        reading.after_refused = True
        return []


def _not_memory(error: FFmpegError, most: int | None = None) -> None:
    """Return if an error is damage of the file, raise if memory ran out.

    What comes after a lack of memory would be lost silently if it passed for damage. FFmpeg reports
    the same error for sizes beyond all reason, which are damage.

    Args:
        error: of FFmpeg.
        most: bytes that a sound file may ask for; None where that is not known. While the system
            has that many, the error is damage.

    Raises:
        MemoryError: memory ran out.
    """
    if error.errno == ENOMEM and (most is None or not has_room(most)):
        raise MemoryError(f"decoding: {error.strerror}") from error


def drain(stream: VideoStream, reading: Reading) -> Iterator[av.VideoFrame]:
    """The frames that the decoder still holds at the end of the file."""
    yield from decode_packet(stream, None, reading)
    reading.at_end = True


def _pictures(
    container: InputContainer, stream: VideoStream, reading: Reading
) -> Iterator[av.VideoFrame]:
    """Every frame from here to the end, in presentation order."""
    for packet in packets(container, stream, reading):
        yield from decode_packet(stream, packet, reading)
    yield from drain(stream, reading)


class FrameReader(Iterator[Frame]):
    """An iterator of frames that holds a file open: exhaust it, `close` it or use `with`.

    Attributes:
        row: what is read.
    """

    def __init__(self, row: ProbeRow, frames: Generator[Frame, None, None], reading: Reading):
        self.row = row
        self._frames = frames
        self._reading = reading

    @property
    def failed_packets(self) -> int:
        """Packets refused by the decoder so far; the frame after one is marked `corrupt`."""
        return self._reading.failed_packets

    @property
    def at_end(self) -> bool:
        """True once the decoder has returned its last frame: the video ends here."""
        return self._reading.at_end

    @property
    def cut_off(self) -> bool:
        """True where the container could not be read up to its end."""
        return self._reading.cut_off

    @property
    def passed(self) -> int:
        """Frames of the video up to here, also those that are not wanted."""
        return self._reading.passed

    def __next__(self) -> Frame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; no more frames come."""
        self._frames.close()


def read_frames(
    row: ProbeRow,
    start: int = 0,
    stop: int | None = None,
    *,
    threads: int = 0,
    reading: Reading | None = None,
    wanted: Wanted | None = None,
    resizes: Sequence[Resize] = (),
) -> FrameReader:
    """Decode frames [start, stop), in order, in constant memory.

    Decoding starts at least `LEAD` key frames earlier. Every key frame on the way is compared with
    the probe's table. A row without `key_frames` is decoded from its start and not compared. Frames
    are numbered in the order in which the decoder returns them.

    Args:
        row: from `probe_video`.
        start: first frame.
        stop: one past the last frame; None reads up to the decoder's end, which may differ from
            `row.n_frames`.
        threads: of the decoder; 0 lets FFmpeg choose. They change speed only. A damaged file would
            be an exception, so one that is flagged `corrupt_frames` is decoded by one thread.
        reading: filled while frames are read.
        wanted: the frames that are returned; None returns all. Damaged ones that the decoder sees
            are returned too. Others are not decoded where the codec allows.
        resizes: what is returned of each picture, in place of the picture itself; see `Frame.at`.

    Returns:
        Frames of (row.height, row.width, 3) uint8 RGB, or as resized, upright, `pts` in seconds
        since the first frame. Where fewer than `stop - start` come, `at_end` is True.

    Raises:
        SeekMismatch: while reading; read the whole video again with `in_order(row)`.
        DecodeError: while reading: the file is gone, or an image cannot be read.
        TouchedFile: the file does not have the stamp of the row.
        ValueError: `start` is negative or `stop` lies before it.
    """
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(f"no frames are [{start}, {stop})")
    reading = reading or Reading()
    if row.kind == "images":
        check_stamp(Path(row.path), row.stamp)
        images = image_frames(row, start, stop, reading, wanted, resizes)
        return FrameReader(row, images, reading)
    if "corrupt_frames" in row.flags:
        threads = 1
    frames = video_frames(row, start, stop, threads, LEAD, reading, wanted, resizes)
    return FrameReader(row, frames, reading)


def row_for_span(row: ProbeRow, start: int, stop: int) -> ProbeRow:
    """The row with only those key frames that reading [start, stop) looks at.

    A day of footage has 100,000 key frames: too many to send to another process for each span.
    """
    if row.key_frames is None:
        return row
    index = row.key_frames.index
    first = max(1, int(np.searchsorted(index, start, side="right")) - 1 - LEAD)
    last = int(np.searchsorted(index, stop, side="right"))
    kept = np.r_[0, first:last]  # the first of all, as times count from it
    keys = KeyFrames(*(a[kept] for a in vars(row.key_frames).values()))
    return replace(row, key_frames=keys)


def video_frames(
    row: ProbeRow,
    start: int,
    stop: int | None,
    threads: int,
    lead: int,
    reading: Reading,
    wanted: Wanted | None = None,
    resizes: Sequence[Resize] = (),
) -> Generator[Frame, None, None]:
    """Frames of a video file, decoded from `lead` key frames back; see `read_frames`."""
    if start == stop:
        return
    how = (threads, lead, reading, wanted, resizes)
    if wanted is not None and may_skip(row):
        try:
            for frame in _decoded(row, start, stop, *how, skip=True):
                yield frame
                start = frame.index + 1
            return
        except CannotSkip:  # the rest is decoded like any other file
            reading.failed_packets, reading.cut_off, reading.after_refused = 0, False, False
            if stop is not None and start >= stop:
                return
    yield from _decoded(row, start, stop, *how, skip=False)


def _decoded(
    row: ProbeRow,
    start: int,
    stop: int | None,
    threads: int,
    lead: int,
    reading: Reading,
    wanted: Wanted | None,
    resizes: Sequence[Resize],
    *,
    skip: bool,
) -> Generator[Frame, None, None]:
    """One pass over the file; where `skip` is set, pictures that others do not need are left out.

    Raises:
        CannotSkip: `skip` is set, and leads to something else than decoding everything.
    """
    with opened(Path(row.path), threads, row.stamp) as (container, stream):
        pictures = _pictures(container, stream, reading)
        if row.key_frames is None:
            numbered: Iterator[tuple[int, av.VideoFrame]] = enumerate(pictures)
        else:
            keys = row.key_frames
            first = int(np.searchsorted(keys.index, start, side="right")) - 1 - lead
            if first > 0:
                _seek(row, container, stream, int(keys.dts[first]))
            if skip and wanted is not None:
                plan: Skipping[av.Packet[VideoStream]]
                plan = Skipping(keys, max(first, 0), wanted, start, stop)
                numbered = _sparse_pictures(row, container, stream, reading, plan)
            else:
                numbered = _checked_numbers(row, keys, max(first, 0), pictures)
        convert = PictureConverter(row, reading.hooks.room, resizes)
        clock = _Clock(row, time_base(stream))
        for number, picture in numbered:
            if stop is not None and number >= stop:  # numbers before it may be left out
                reading.passed = max(reading.passed, stop)
                return
            seconds = clock.seconds(number, picture.pts)
            corrupt = bool(picture.is_corrupt) or reading.after_refused
            reading.after_refused = False
            reading.passed = max(reading.passed, number + 1)
            if number >= start and (wanted is None or corrupt or number in wanted):
                image, *others = convert(picture)
                yield Frame(number, seconds, image, corrupt, others=tuple(others))
            if stop is not None and number + 1 >= stop:
                return


def _sparse_pictures(
    row: ProbeRow,
    container: InputContainer,
    stream: VideoStream,
    reading: Reading,
    plan: Skipping[av.Packet[VideoStream]],
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Number and picture of the frames that are decoded; what nothing needs may be missing.

    Raises:
        CannotSkip: a packet is refused, a picture is damaged, or the numbers are not right.
    """
    context = stream.codec_context

    def decoded(packet: av.Packet[VideoStream] | None) -> Iterator[tuple[int, av.VideoFrame]]:
        pictures = decode_packet(stream, packet, reading)
        if reading.failed_packets:
            raise CannotSkip
        for picture in pictures:
            if (number := plan.number(picture.pts)) is None:
                continue
            if picture.is_corrupt:
                raise CannotSkip
            yield number, picture

    def sent(ready: Iterator[tuple[av.Packet[VideoStream], bool]]) -> Iterator[Any]:
        for packet, needed in ready:
            if not needed and row.codec in SINGLE:
                continue
            context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from decoded(packet)

    for packet in packets(container, stream, reading):
        yield from sent(plan.ready(packet))
    if reading.cut_off:
        raise CannotSkip
    yield from sent(plan.rest())
    yield from decoded(None)
    plan.check_end()
    reading.passed = plan.passed
    reading.at_end = plan.passed == plan.total


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
                number = int(keys.index[at])  # known now; earlier frames may lack references
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
