"""How much an untrusted file may cost: what is refused, and when decoding is given up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...data_manifests.settings import Settings
from .file_checks import FileChecks

# What happens to clips with damaged frames: "keep" uses and flags them, "skip" leaves their rows
# out, "fail" refuses the video.
CorruptPolicy = Literal["keep", "skip", "fail"]


class DecodeLimits(Settings, FileChecks):
    """Limits for one file; none of them changes a value.

    Attributes:
        pixels: height x width of a frame.
        hours: of footage in one file.
        bytes: of the file.
        seconds: without a packet or a picture, after which the decoder is killed as hung.
        memory: bytes of the decoding process (on Linux).
        frames: in one file.
        rate: frames a second of a file with more than a million frames.
        decode_hours: of decoding one file or span of it, without waiting for who reads it.
        clip_memory: bytes that the clips of one stream take, see `clip_bytes`.
        holes: bytes of a file that were never written (sparse files).
        hash_hours: of reading a file, or the images of a folder, for the content id.
    """

    pixels: int = Field(default=1 << 26, ge=1)  # 8192 x 8192
    hours: float = Field(default=24.0 * 31, gt=0)
    bytes: int = Field(default=1 << 40, ge=1)
    seconds: float = Field(default=60.0, gt=0)
    memory: int = Field(default=4 << 30, ge=1 << 28)
    frames: int = Field(default=200_000_000, ge=1)  # 744 hours at 74 frames a second
    rate: float = Field(default=1000.0, gt=0)
    decode_hours: float = Field(default=48.0, gt=0)
    clip_memory: int = Field(default=8 << 30, ge=1 << 20)
    holes: int = Field(default=1 << 34, ge=0)
    hash_hours: float = Field(default=12.0, gt=0)
