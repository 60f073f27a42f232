"""How much an untrusted file may cost: what is refused, and when decoding is given up."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ...data_manifests.settings import Settings
from .errors import MissingFile, OverLimit
from .video import ProbeRow

# What happens to clips with damaged frames: "keep" uses and flags them, "skip" leaves their rows
# out, "fail" refuses the video.
CorruptPolicy = Literal["keep", "skip", "fail"]


class DecodeLimits(Settings):
    """Limits for one file; none of them changes a value.

    Attributes:
        pixels: height x width of a frame.
        hours: of footage in one file.
        bytes: of the file.
        seconds: without a packet or a picture, after which the decoder is killed as hung.
        memory: bytes of the decoding process (on Linux).
    """

    pixels: int = Field(default=1 << 26, ge=1)  # 8192 x 8192
    hours: float = Field(default=24.0 * 31, gt=0)
    bytes: int = Field(default=1 << 40, ge=1)
    seconds: float = Field(default=60.0, gt=0)
    memory: int = Field(default=4 << 30, ge=1 << 28)

    def check_file(self, path: Path) -> None:
        """Refuse a file by its size, before it is opened.

        Raises:
            OverLimit: it is too large.
            MissingFile: its size cannot be read.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error
        if path.is_file() and size > self.bytes:
            raise _over(path, f"{size:,} bytes", "bytes", self.bytes)

    def check_picture(self, path: Path, height: int, width: int) -> None:
        """Refuse frames by their size.

        Raises:
            OverLimit: they are too large.
        """
        if height * width > self.pixels:
            raise _over(path, f"frames of {width} x {height} pixels", "pixels", self.pixels)

    def check(self, row: ProbeRow) -> None:
        """Refuse a probed video.

        Raises:
            OverLimit: its frames are too large or it is too long.
        """
        self.check_picture(Path(row.path), row.height, row.width)
        hours = max(row.duration, row.n_frames / row.fps) / 3600
        if hours > self.hours:
            raise _over(Path(row.path), f"{hours:,.1f} hours", "hours", self.hours)


def _over(path: Path, what: str, name: str, limit: float) -> OverLimit:
    return OverLimit(
        f"{path}: {what}, more than the limit of {limit:,}; if that is right, raise the limit: "
        f"--limit {name}=N"
    )
