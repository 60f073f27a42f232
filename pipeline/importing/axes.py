"""Which axis of imported arrays counts rows: judged over all files of a family, never over one.

Releases have rows first, (n, D) and (n, crops, D); crops or a batch of one first, (crops, n, D) and
(1, n, D); or rows last, (D, n) and (crops, D, n). One shape can often be read in several ways. What
is the same in all files is the width and the number of crops; rows follow the length of each video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...extractors.clips import SEGMENTS
from ...extractors.footage.video import ProbeRow
from .files import FeatureFile, FeatureFileError, listing

CROPS = (1, 5, 10)  # published: centre; corners and centre; the same and their mirror images
WIDTHS = (256, 512, 768, 1024, 1408, 2048, 3072, 4096)  # of published networks, for questions only
LISTED_ROWS = (
    "0 of (n, D) and (n, crops, D), 1 of (D, n), (crops, n, D) and (1, n, D), 2 of (crops, D, n)"
)

Grid = tuple[int, int]


@dataclass(frozen=True)
class AxisReading:
    """One way to read a shape.

    Attributes:
        axis: the one that counts rows, without a first axis of 1 of four.
        rows: snippets or segments.
        positions: crops or patches.
        width: D.
    """

    axis: int
    rows: int
    positions: int
    width: int

    @property
    def kept(self) -> tuple[int, int]:
        """What all files of a family have in common."""
        return self.positions, self.width


@dataclass(frozen=True)
class OpenedFile:
    """The features of one video in one family; their headers have been read.

    Attributes:
        video_ids: the records that they belong to; several where these are parts of one file.
        split: of the first of them.
        row: the video.
        grid: of the patches; None for the full frame.
        files: one, or one for each crop.
        shape: of each file, without a first axis of 1 of four.
        dtype: as imported: float16 or float32.
    """

    video_ids: tuple[str, ...]
    split: str
    row: ProbeRow
    grid: Grid | None
    files: tuple[FeatureFile, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def label(self) -> str:
        """For messages: the name of the first file, and how many more there are."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return self.files[0].label + more

    @property
    def role(self) -> str:
        """What a detector asks for."""
        return "snippet" if self.grid is None else f"patch/{self.grid[0]}x{self.grid[1]}"

    def readings(self) -> dict[int, AxisReading]:
        """All ways to read the shape, by the axis of the rows."""
        shape = self.shape
        if len(shape) == 2 and self.grid is None:
            (a, b), n = shape, len(self.files)
            return {0: AxisReading(0, a, n, b), 1: AxisReading(1, b, n, a)}
        if len(shape) != 3 or len(self.files) > 1:
            return {}
        wanted = CROPS if self.grid is None else (self.grid[0] * self.grid[1],)
        a, b, c = shape
        found = {0: AxisReading(0, a, b, c)} if b in wanted else {}
        if a in wanted:
            found |= {1: AxisReading(1, b, a, c), 2: AxisReading(2, c, a, b)}
        return found


def snippet_counts(n_frames: int, snippet_frames: int) -> tuple[int, int]:
    """Snippets of a video: with the tail dropped, and with the tail covered."""
    return n_frames // snippet_frames, -(-n_frames // snippet_frames)


def read_axes(
    opened: Sequence[OpenedFile], row_axis: int | None, snippet_frames: int
) -> list[AxisReading | None]:
    """How each array is to be read; None where no reading is possible.

    Args:
        opened:
            All files of an import.
        row_axis:
            The axis of the rows, where the user has said it; then nothing is judged.
        snippet_frames:
            Frames a snippet.

    Raises:
        FeatureFileError: nothing decides between two readings, or most files do not fit their
            videos in any.
    """
    if row_axis is not None:
        return [file.readings().get(row_axis) for file in opened]
    groups: dict[tuple[str, str], _Family] = {}
    for file in opened:
        key = (file.role, file.split)
        groups.setdefault(key, _Family(snippet_frames)).files.append(file)
    verdicts = {key: family.verdict() for key, family in groups.items()}
    for key, family in groups.items():
        if verdicts[key] is None:  # the other splits of the role may say what the width is
            others = {
                each.usual(axis)
                for k, each in groups.items()
                if k[0] == key[0] and (axis := verdicts[k]) is not None
            }
            verdicts[key] = family.settled_by(others)
    return [groups[f.role, f.split].reading(f, verdicts[f.role, f.split]) for f in opened]


class _Family:
    """The files of one role and split."""

    def __init__(self, snippet_frames: int) -> None:
        self.files: list[OpenedFile] = []
        self._snippet_frames = snippet_frames
        self._tied: list[int] = []

    def usual(self, axis: int) -> tuple[int, int] | None:
        """The most common (positions, width), with rows on an axis."""
        found = Counter(r[axis].kept for f in self.files if axis in (r := f.readings()))
        return found.most_common(1)[0][0] if found else None

    def verdict(self) -> int | None:
        """The axis of the rows; None where several fit equally well.

        Raises:
            FeatureFileError: most files do not fit their videos in any reading.
        """
        axes = sorted({axis for file in self.files for axis in file.readings()})
        if len(axes) < 2:
            return axes[0]
        known = [file for file in self.files if file.row.n_frames > 0]
        if known:
            fits = {axis: self._fits(known, axis) for axis in axes}
            if sum(max(fits.values(), key=sum)) or len(known) > 1:
                return self._by_length(len(known), fits)
        return self._by_width(axes)

    def _fits(self, known: Sequence[OpenedFile], axis: int) -> tuple[int, int]:
        """Files that have the snippets of their video, and others of 32 segments."""
        usual, strong, weak = self.usual(axis), 0, 0
        for file in known:
            reading = file.readings().get(axis)
            if reading is not None and reading.kept == usual:
                exact = self._is_exact(file, reading)
                strong += exact
                weak += reading.rows == SEGMENTS and not exact
        return strong, weak

    def _is_exact(self, file: OpenedFile, reading: AxisReading) -> bool:
        return reading.rows in snippet_counts(file.row.n_frames, self._snippet_frames)

    def _by_length(self, known: int, fits: Mapping[int, tuple[int, int]]) -> int | None:
        most = max(sum(fit) for fit in fits.values())
        if 2 * most < known:
            raise FeatureFileError(
                f"{known - most} of {known} files could not be used, so nothing was written: with "
                f"rows on any axis, their numbers of rows are not those of their videos "
                f"({self._shapes()}). Features or manifest are of other videos, or a snippet has "
                f"other than {self._snippet_frames} frames (--snippet-frames). If single files "
                f"fit by right, say --row-axis: {LISTED_ROWS}"
            )
        self._tied = [axis for axis, fit in fits.items() if sum(fit) == most]
        first, *others = self._tied
        # 32 rows fit any video as segments, so they count less than the snippets of a video.
        if all(fits[first][0] > fits[axis][0] for axis in others):
            return first
        return None

    def _by_width(self, axes: Sequence[int]) -> int | None:
        counts = {
            axis: sum(
                axis in (r := file.readings()) and r[axis].kept == self.usual(axis)
                for file in self.files
            )
            for axis in axes
        }
        most = max(counts.values())
        self._tied = [axis for axis in axes if counts[axis] == most]
        first = axes[0]
        if counts[first] == most:
            asked = [axis for axis in self._tied[1:] if self._is_as_likely(first, axis)]
            self._tied = [first, *asked]
            return None if asked else first
        if len(self._tied) == 1 and 2 * counts[first] < len(self.files):
            return self._tied[0]
        self._tied = [first, *self._tied]
        return None

    def _is_as_likely(self, first: int, other: int) -> bool:
        """Whether another reading of equal shapes is as good as the usual one."""
        both = [f for f in self.files if {first, other} <= f.readings().keys()]
        if not both:  # each shape has one of the readings, so there is no choice
            return False
        one, two = (self.usual(axis) for axis in (first, other))
        assert one is not None and two is not None
        if one == two or ({first, other} == {0, 1} and any(len(f.shape) == 3 for f in both)):
            return True
        if two[1] in WIDTHS and one[1] not in WIDTHS:
            return True
        rows = [{f.readings()[axis].rows for f in both} for axis in (first, other)]
        return len(both) > 1 and rows[1] == {SEGMENTS} and rows[0] != {SEGMENTS}

    def settled_by(self, others: set[tuple[int, int] | None]) -> int:
        """The axis that the width of other families decides.

        Raises:
            FeatureFileError: it decides nothing.
        """
        fitting = [axis for axis in self._tied if self.usual(axis) in others]
        if len(fitting) == 1:
            return fitting[0]
        lengths = (
            ""
            if any(f.row.n_frames for f in self.files)
            else ", or state the lengths of the videos in the manifest (expected_frames)"
        )
        raise FeatureFileError(
            f"the axes of {len(self.files)} files are not certain ({self._shapes()}): is "
            f"{self._ways()}? Nothing was written. Say --row-axis{lengths}"
        )

    def _ways(self) -> str:
        """The tied readings in words, of one file if one has them all."""
        said, before = [], ""
        for axis in self._tied:
            having = [f for f in self.files if axis in f.readings()]
            file = max(having, key=lambda f: len(f.readings().keys() & set(self._tied)))
            way, label = file.readings()[axis], "" if file.label == before else f"{file.label} "
            each = f"{'' if way.positions == 1 else f'{way.positions} x '}{way.width} numbers"
            said.append(f"{label}{way.rows} rows of {each} (--row-axis {axis})")
            before = file.label
        return " or ".join(said)

    def _shapes(self) -> str:
        return listing([f"{file.label} {file.shape}" for file in self.files])

    def reading(self, file: OpenedFile, axis: int | None) -> AxisReading | None:
        """How one file is read, once the axis of its family is known.

        Another axis is taken only where positions and width are those of the family.
        """
        assert axis is not None
        usual, found = self.usual(axis), file.readings()
        if axis in found and found[axis].kept == usual:
            return found[axis]
        same = [r for r in found.values() if r.kept == usual]
        if len(same) == 1:
            known = file.row.n_frames > 0
            if self._is_exact(file, same[0]) if known else same[0].positions > 1:
                return same[0]
            if same[0].rows == SEGMENTS and same[0].positions > 1:
                return same[0]
        return found.get(axis) or next(iter(found.values()))
