"""What the bytes of a container say of its end: it is cut off, or more follows that is not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...data_manifests.containers import HEAD, format_of
from .decode import MP4_BOXES

TS_PACKET = 188
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
TAIL = 16 << 20  # bytes after the last packet that are looked through; an index is smaller

# How a recording begins in the middle of a file: long enough to be no chance among `TAIL` bytes.
_BEGINNINGS = {
    "mp4": rb"\0\0\0[\x08-\xff]ftyp",
    "matroska": rb"\x1a\x45\xdf\xa3.{4,60}(?:matroska|webm)",
    "avi": rb"RIFF.{4}AVI ",
    "flv": rb"FLV\x01[\x01\x05]\0\0\0\x09",
    "asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "ogg": rb"OggS\0\x02",
    "mpegts": rb"(?:\x47.{187}){5}\x47",
    "ivf": rb"DKIF\0\0\x20\0",
    "gif": rb"GIF8[79]a",
    "yuv4mpegpipe": rb"YUV4MPEG2 ",
    "mxf": rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",
    "nut": rb"nut/multimedia container\0",
}
# In these the demuxer reads on where the next recording of the same format begins.
_READS_ON = {"ogg", "mpegts", "gif", "mxf"}
# The end of these is known to the byte; in others sound and indices may follow the last packet.
_EXACT = {"avi", "flv", "ivf", "matroska", "mp4", "nut", "yuv4mpegpipe"}
SLACK = 64  # bytes between the end of a recording and what `format_of` knows
NUT_ID = b"nut/multimedia container\0"


def goes_on(path: Path, read_to: int) -> bool:
    """Whether another recording begins after the last packet that the demuxer has returned.

    Args:
        path:
            The file.
        read_to:
            Where that packet ends, in bytes; 0 where it is not known: then nothing is said.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        if head.startswith(NUT_ID) and _again(file, NUT_ID):
            return True  # the demuxer takes it for a packet
        if not 0 < read_to < size:
            return False
        if head[4:8] in MP4_BOXES:
            seen, packets_end = set(), read_to
            for kind, start, end in _boxes(file, size):
                if kind in seen and start >= packets_end:
                    return True
                if kind in (b"ftyp", b"moov"):  # a recording has one of each
                    seen.add(kind)
                if end <= size:  # else it is cut off, or no box at all
                    read_to = max(read_to, end)  # a long index is no recording
        own_end = read_to
        if head[:4] == b"RIFF":
            own_end = _riff_end(file, size)  # an index comes after the packets
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            own_end = _matroska_end(file, size, foreign=False)
        file.seek(read_to)
        tail = file.read(TAIL)
        file.seek(max(own_end, read_to))
        next_bytes = file.read(HEAD + SLACK) if own_end >= read_to else b""  # it is not known
        return _begins(tail, next_bytes, format_of(head))


def _begins(tail: bytes, next_bytes: bytes, own: str | None) -> bool:
    """Whether a recording begins after the packets, or right after the end, of a format `own`."""
    reads_on = {own} & _READS_ON
    if any(
        re.search(pattern, tail, re.DOTALL)
        for name, pattern in _BEGINNINGS.items()
        if name not in reads_on
    ):
        return True
    if own not in _EXACT:
        return False
    # Short marks, which are found by chance elsewhere.
    found = {format_of(next_bytes[at:]) for at in range(min(SLACK, len(next_bytes)))}
    return bool(found - {None} - reads_on)


def _again(file: BinaryIO, mark: bytes) -> bool:
    """Whether a mark that a file begins with stands there again."""
    file.seek(0)
    before = file.read(len(mark))[1:]
    while part := file.read(TAIL):
        if mark in before + part:
            return True
        before = part[1 - len(mark) :]
    return False


def swallowed(path: Path, last: int) -> bool:
    """Whether the last packet of an IVF file is another recording, whose head passes for a frame's.

    Args:
        path:
            The file.
        last:
            Where that packet begins with the head of its frame, in bytes.
    """
    with path.open("rb") as file:
        if format_of(file.read(HEAD)) != "ivf":
            return False
        file.seek(last)
        return _begins(b"", file.read(HEAD), "ivf")


def claims_more(path: Path) -> bool:
    """Whether the container's own sizes reach beyond the end of the file."""
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
            return size + 1  # the length is filled in at the end of a recording, and this had none
        position += 8 + length
    return position


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and stated end of the top-level boxes of an mp4 (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0 means up to the end of the file; 2 to 7 are no sizes
            break
        yield head[4:8], position, position + length
        position += length


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box says that it ends."""
    return max((end for _, _, end in _boxes(file, size)), default=0)


def _matroska_end(file: BinaryIO, size: int, *, foreign: bool = True) -> int:
    """Where the segment, or its last element of known size, ends (RFC 8794, RFC 9559).

    Args:
        file:
            The file.
        size:
            Of the file, in bytes.
        foreign:
            Go on over elements that do not stand at the top of a Matroska file.
    """
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(12)
        id_length = _vint_length(head, 0)
        size_length = _vint_length(head, id_length)
        if not id_length or not size_length or len(head) < id_length + size_length:
            break
        if not foreign and id_length < 4 and head[:1] not in (b"\xec", b"\xbf"):  # void, checksum
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
    """Bytes of the variable-length number at a place: its leading zero bits plus one; 0 if none."""
    return 9 - head[at].bit_length() if at < len(head) and head[at] else 0
