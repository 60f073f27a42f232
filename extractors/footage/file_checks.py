"""What a file may cost, checked: plain Python, as the decoding process imports it at each start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import MissingFile, OverLimit
from .video import ProbeRow

DENSE = 1_000_000  # frames of high-speed footage that any rate is believed of


class FileChecks:
    """The checks of `DecodeLimits`, which says what the limits mean."""

    pixels: int
    hours: float
    bytes: int
    frames: int
    rate: float

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

    def check_count(self, path: Path, frames: int) -> None:
        """Refuse a file by its number of frames, also while they are counted.

        Raises:
            OverLimit: there are too many.
        """
        if frames > self.frames:
            raise _over(path, f"{frames:,} frames", "frames", self.frames)

    def check(self, row: ProbeRow) -> None:
        """Refuse a probed video.

        Raises:
            OverLimit: its frames are too large, too many or too dense, or it is too long.
        """
        self.check_picture(Path(row.path), row.height, row.width)
        self.check_count(Path(row.path), row.n_frames)
        if row.n_frames > DENSE and row.fps > self.rate:
            dense = f"{row.n_frames:,} frames at {row.fps:,.0f} a second"
            raise _over(Path(row.path), dense, "rate", self.rate)
        hours = max(row.duration, row.n_frames / row.fps) / 3600
        if hours > self.hours:
            raise _over(Path(row.path), f"{hours:,.1f} hours", "hours", self.hours)


@dataclass(frozen=True)
class SentLimits(FileChecks):
    """`DecodeLimits` as the decoding process gets them: its parent has validated the values."""

    pixels: int
    hours: float
    bytes: int
    seconds: float
    memory: int
    frames: int
    rate: float
    decode_hours: float
    clip_memory: int


def _over(path: Path, what: str, name: str, limit: float) -> OverLimit:
    return OverLimit(
        f"{path}: {what}, more than the limit of {limit:,}; if that is right, raise the limit: "
        f"--limit {name}=N"
    )
