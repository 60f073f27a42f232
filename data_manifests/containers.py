"""Containers of video that may be opened: FFmpeg's names, suffixes, and how their files begin."""

from __future__ import annotations

import re

# What a video file may be: FFmpeg's name of the format -> suffixes that mean it. No playlists
# (concat, hls, dash), no picture sequences, no devices. A GIF is a picture as often as a video, so
# no suffix means it; files of other suffixes are looked at (`format_of`).
CONTAINERS: dict[str, tuple[str, ...]] = {
    "mov": (".mov", ".qt"),
    "mp4": (".mp4", ".m4v", ".3gp", ".3g2", ".f4v"),
    "matroska": (".mkv", ".mk3d"),
    "webm": (".webm",),
    "avi": (".avi", ".divx"),
    "mpeg": (".mpeg", ".mpg", ".vob", ".m2p"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t", ".tod", ".trp"),
    "mpegvideo": (".m1v", ".m2v", ".mpv"),
    "m4v": (),
    "h264": (".h264", ".264", ".avc"),
    "hevc": (".h265", ".265", ".hevc"),
    "obu": (".obu",),
    "ivf": (".ivf",),
    "mjpeg": (".mjpeg", ".mjpg"),
    "flv": (".flv",),
    "asf": (".asf", ".wmv"),
    "ogg": (".ogv", ".ogm"),
    "gif": (),
    "yuv4mpegpipe": (".y4m",),
    "mxf": (".mxf",),
    "dv": (".dv",),
    "dhav": (".dav",),
    "nut": (".nut",),
}
VIDEO_SUFFIXES = tuple(sorted({suffix for each in CONTAINERS.values() for suffix in each}))

HEAD = 1024  # bytes that `format_of` looks at

# Brands of pictures in the container of mp4: HEIF, AVIF, JPEG 2000 and a raw format of cameras.
_PHOTOS = rb"avi[fs]|hei[cmsx]|hev[cmsx]|mif1|msf1|jp2 |jpx |crx "

# How a file of a format begins. A picture, sound or a document begins with none of them.
_BEGINNINGS = (
    ("mp4", rb".{4}(ftyp(?!" + _PHOTOS + rb"|M4[AB] )|moov|mdat|moof|wide)"),
    ("matroska", rb"\x1a\x45\xdf\xa3.{4,60}(matroska|webm)"),
    ("avi", rb"RIFF.{4}AVI "),
    ("flv", rb"FLV\x01[\x01\x05]"),
    ("asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("ogg", rb"OggS.{20,80}(\x80theora|OVP80|BBCD)"),
    ("mpeg", rb"(IMKH.{36})?\0\0\x01\xba"),  # recorders put a header of their own in front
    ("mpegts", rb"(\x47.{187}){3}\x47|.{4}\x47.{191}\x47.{191}\x47"),
    ("mpegvideo", rb"\0\0\x01\xb3"),
    ("m4v", rb"\0\0\x01\xb0|\0\0\x01[\0-\x1f]\0\0\x01[\x20-\x2f]"),
    ("h264", rb"\0?\0\0\x01(\x09.{1,6}\0\0\x01)?[\x27\x47\x67][\x42\x4d\x58\x64\x6e\x7a\xf4]"),
    ("hevc", rb"\0?\0\0\x01(\x46\x01.{1,6}\0\0\x01)?\x40\x01"),
    ("ivf", rb"DKIF\0\0\x20\0"),
    ("gif", rb"GIF8[79]a"),
    ("yuv4mpegpipe", rb"YUV4MPEG2 "),
    ("mxf", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"),
    ("dv", rb"\x1f\x07\0[\x3f\xbf]"),
    ("dhav", rb"DHAV|DAHUA"),
    ("nut", rb"nut/multimedia container\0"),
)
_FORMATS = [(name, re.compile(pattern, re.DOTALL)) for name, pattern in _BEGINNINGS]


def format_of(head: bytes) -> str | None:
    """The likely container of a file by its first `HEAD` bytes; None: none that is known.

    It is a guess for files of unknown suffix; the decoder says what a file is.
    """
    return next((name for name, begins in _FORMATS if begins.match(head)), None)
