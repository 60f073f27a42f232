"""How files of video begin, and what does not begin so."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from PIL import Image

from vadpipe.data_manifests.containers import CONTAINERS, VIDEO_SUFFIXES, format_of

BEGINNINGS = {
    "mp4": b"\0\0\0\x20ftypisom",
    "matroska": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
    "avi": b"RIFF\x10\0\0\0AVI LIST",
    "flv": b"FLV\x01\x05\0\0\0\x09",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "ogg": b"OggS\0\2" + bytes(22) + b"\x80theora",
    "mpeg": b"IMKH" + bytes(36) + b"\0\0\x01\xba",
    "mpegts": (b"\x47" + bytes(187)) * 4,
    "mpegvideo": b"\0\0\x01\xb3\x12",
    "m4v": b"\0\0\x01\xb0\x01",
    "h264": b"\0\0\0\x01\x09\xf0\0\0\0\x01\x67\x64\0\x1f",
    "hevc": b"\0\0\0\x01\x40\x01\x0c",
    "ivf": b"DKIF\0\0\x20\0VP80",
    "gif": b"GIF89a",
    "yuv4mpegpipe": b"YUV4MPEG2 W64",
    "mxf": bytes.fromhex("060e2b34020501010d0102010102"),
    "dv": b"\x1f\x07\0\x3f",
    "dhav": b"DHAV\xfd",
    "nut": b"nut/multimedia container\0",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_beginnings(name: str) -> None:
    assert name in CONTAINERS and format_of(BEGINNINGS[name] + bytes(200)) == name


def test_bare_streams_without_a_delimiter() -> None:
    assert format_of(b"\0\0\x01\x67\x42\xc0") == "h264"
    assert format_of(bytes(4) + BEGINNINGS["mpegts"][4:] + b"\x47" + bytes(190)) is None
    assert format_of((bytes(4) + b"\x47" + bytes(187)) * 3) == "mpegts"  # with a time stamp each


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(100))
    return file.getvalue()


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(1024),
        b"\xff" * 1024,
        b"text, and more text" * 20,
        b"OggS\0\2" + bytes(22) + b"\x01vorbis",
        b"\0\0\0\x20ftypM4A ",
        *(b"\0\0\0\x18ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"crx ", b"jp2 ")),
        b"PK\x03\x04",
        b"\x7fELF",
        sound(),
        *map(picture, ("PNG", "JPEG", "BMP", "TIFF", "WEBP")),
        struct.pack("<64f", *range(64)),
    ],
)
def test_other_files_begin_otherwise(content: bytes) -> None:
    assert format_of(content) is None


def test_suffixes_are_those_of_what_may_be_opened() -> None:
    assert {".mp4", ".dav", ".264", ".h265", ".dv", ".mkv", ".y4m"} <= set(VIDEO_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in VIDEO_SUFFIXES)
    assert ".gif" not in VIDEO_SUFFIXES, "a picture beside frames would hide them"
