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
    holes: int
    hash_hours: float

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
        if path.is_file():
            self.check_bytes(path, size)

    def check_bytes(self, path: Path, size: int) -> None:
        """Refuse a file, or a folder of images, by its bytes.

        Raises:
            OverLimit: there are too many.
        """
        if size > self.bytes:
            raise _over(path, f"{size:,} bytes", "bytes", self.bytes)

    def check_holes(self, path: Path, holes: int) -> None:
        """Refuse what was never written for the most part: its zeros take hours to read.

        Raises:
            OverLimit: more bytes have never been written than the limit.
        """
        if holes > self.holes:
            what = f"{holes:,} bytes or more were never written (a sparse file)"
            raise _over(path, what, "holes", self.holes)

    def check_hashing(self, path: Path, in_time: bool) -> None:
        """Refuse a file whose content takes too long to read.

        Raises:
            OverLimit: it is not read in time.
        """
        if not in_time:
            what = f"reading it for its content id takes more than {self.hash_hours:g} hours"
            raise _over(path, what, "hash_hours", self.hash_hours)

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

    def check_rate(self, path: Path, frames: int, fps: float) -> None:
        """Refuse a file with more than a million frames by their number a second.

        Raises:
            OverLimit: they are too dense.
        """
        if frames > DENSE and fps > self.rate:
            raise _over(path, f"{frames:,} frames at {fps:,.0f} a second", "rate", self.rate)

    def check(self, row: ProbeRow) -> None:
        """Refuse a probed video.

        Raises:
            OverLimit: its frames are too large, too many or too dense, or it is too long.
        """
        self.check_picture(Path(row.path), row.height, row.width)
        self.check_count(Path(row.path), row.n_frames)
        self.check_rate(Path(row.path), row.n_frames, row.fps)
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
    holes: int
    hash_hours: float


def _over(path: Path, what: str, name: str, limit: float) -> OverLimit:
    return OverLimit(
        f"{path}: {what}, more than the limit of {limit:,}; if that is right, raise the limit: "
        f"--limit {name}=N"
    )
