"""Which frames the rows of imported files belong to, and which axes are crops and patches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.memory import check_memory
from ...detectors.base import grid_of
from ...extractors.base import ArraySpec
from ...extractors.clips import SEGMENTS, segment_frames
from ...extractors.footage.video import ProbeRow
from ..store.failures import Failure, describe_failure
from .axes import (
    CROPS,
    LISTED_ROWS,
    AxisReading,
    Grid,
    OpenedFile,
    read_axes,
    snippet_counts,
)
from .files import FeatureFile, FeatureFileError, listing

RowLayout = Literal["snippets", "segments"]


@dataclass(frozen=True)
class VideoFile(OpenedFile):
    """An array whose axes are known.

    Attributes:
        reading: what its axes are.
        published_segments: it is one of (crops, 32, D) or (patches, 32, D) among such files only.
    """

    reading: AxisReading
    published_segments: bool

    @property
    def rows(self) -> int:
        """Snippets or segments."""
        return self.reading.rows

    @property
    def positions(self) -> int:
        """Crops or patches."""
        return self.reading.positions

    @property
    def width(self) -> int:
        """D."""
        return self.reading.width

    def spec(self, dtype: str) -> ArraySpec:
        """How it is stored: (D,) or (crops, D) a row, or (patches, D) with the grid."""
        if self.grid is not None:
            name, dims = f"grid_{self.grid[0]}x{self.grid[1]}", ("snippet", "patch", "feature")
            shape = (self.positions, self.width)
            return ArraySpec(name, dtype, dims, shape, role=self.role, grid=self.grid)
        if self.positions == 1:
            return ArraySpec("features", dtype, ("snippet", "feature"), (self.width,), self.role)
        shape, dims = (self.positions, self.width), ("snippet", "crop", "feature")
        return ArraySpec("features", dtype, dims, shape, self.role)

    def read(self) -> NDArray[Any]:
        """(rows, D), (rows, crops, D) or (rows, patches, D).

        Raises:
            FeatureFileError: a file cannot be read, or has NaN or infinite values.
            OutOfMemory: the files together need more memory than there is.
        """
        count = self.rows * self.positions * self.width
        if len(self.files) > 1 or self.reading.axis:  # put together, or turned
            item = np.dtype(self.dtype).itemsize
            check_memory(2 * count * item, self.label, "import it on a machine with more memory")
        arrays = [
            np.ascontiguousarray(np.moveaxis(file.read().reshape(self.shape), self.reading.axis, 0))
            for file in self.files
        ]
        values = np.stack(arrays, axis=1) if len(arrays) > 1 else arrays[0]
        return values.reshape(self.rows, *self.spec(self.dtype).shape)


@dataclass(frozen=True)
class Placed:
    """A file whose rows cover known frames, [frame_start, frame_stop) each."""

    file: VideoFile
    layout: RowLayout
    n_frames: int
    flags: tuple[str, ...]
    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]

    def describe(self) -> str:
        """In words, for the log and the shard."""
        f = self.file
        alone = f.grid is None and f.positions == 1
        n = str(SEGMENTS) if f.published_segments else "n"
        axes = [str(size) for size in f.shape]
        axes[f.reading.axis] = n
        if alone and f.reading.axis == 0:
            axes = [n, str(f.width)]
        one = ", one file a crop" if len(f.files) > 1 else ""
        return f"({', '.join(axes)}){one} {f.dtype}: {self.layout}"


def parse_grid(text: str) -> Grid:
    """(rows, columns) of "2x3".

    Raises:
        FeatureFileError: it is not of this form.
    """
    try:
        return grid_of(text)
    except ValueError as error:
        raise FeatureFileError(f"a grid is ROWSxCOLUMNS, such as 2x3, not {text!r}") from error


# ------------------------------------------------------------------------------------ shapes


def open_files(
    ids: tuple[str, ...],
    split: str,
    row: ProbeRow,
    grid: Grid | None,
    pieces: Sequence[tuple[FeatureFile, int | None]],
) -> OpenedFile:
    """The headers of a video's files.

    Raises:
        FeatureFileError: files are missing or there twice, or their shapes fit no layout.
    """
    pieces = sorted(pieces, key=lambda piece: -1 if piece[1] is None else piece[1])
    files = tuple(file for file, _ in pieces)
    crops = [crop for _, crop in pieces]
    names = listing([file.label for file in files])
    if len(crops) > 1 and set(crops) == {None} and _equal(files):
        files, crops = files[:1], crops[:1]  # copies: some releases have a video in two folders
    if len(set(crops)) < len(crops) or (None in crops and len(crops) > 1):
        raise FeatureFileError(f"{names}: several files of one video: remove all but one")
    headers = {file: file.header() for file in files}
    shape = headers[files[0]].shape
    if len({h.shape for h in headers.values()}) > 1:
        said = ", ".join(f"{file.label} {h.shape}" for file, h in headers.items())
        raise FeatureFileError(f"crops of different shapes: {said}")
    if crops[0] is not None:
        if grid is not None or len(shape) != 2:
            raise FeatureFileError(
                f"{names}: one file a crop has to be (n, D) of the full frame, not {shape}"
            )
        size = next((c for c in CROPS if c > max(c for c in crops if c is not None)), CROPS[-1])
        lacking = sorted(set(range(size)) - set(crops))
        if lacking:
            raise FeatureFileError(
                f"{names}: of {size} crops the files {', '.join(map(str, lacking))} are missing"
            )
    elif len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]  # a batch of one video
    small = all(h.dtype.itemsize == 2 for h in headers.values())
    opened = OpenedFile(ids, split, row, grid, files, shape, "float16" if small else "float32")
    _check_axes(opened, headers[files[0]].shape)
    return opened


def video_files(
    opened: Sequence[OpenedFile],
    row_axis: int | None,
    snippet_frames: int,
    failures: list[Failure],
) -> Iterator[VideoFile]:
    """The arrays with their axes, which are judged over all of them.

    Raises:
        FeatureFileError: as `read_axes` raises it.
    """
    readings = read_axes(opened, row_axis, snippet_frames)
    second: dict[tuple[str, str], set[int]] = {}  # numbers of rows of a family on axis 1 of 3
    for file, reading in zip(opened, readings, strict=True):
        if reading is not None and reading.axis == 1 and len(file.shape) == 3:
            second.setdefault((file.role, file.split), set()).add(reading.rows)
    for file, reading in zip(opened, readings, strict=True):
        if reading is None:
            error = FeatureFileError(
                f"{file.label}: {file.shape} cannot have its rows on axis {row_axis}: {LISTED_ROWS}"
            )
            failures += [describe_failure(v, "import", error) for v in file.video_ids]
            continue
        on_second = reading.axis == 1 and len(file.shape) == 3
        segments = on_second and second[file.role, file.split] == {SEGMENTS}
        yield VideoFile(**vars(file), reading=reading, published_segments=segments)


def _equal(files: Sequence[FeatureFile]) -> bool:
    headers = {file.header().shape for file in files}
    return len(headers) == 1 and all(
        np.array_equal(files[0].read(), file.read()) for file in files[1:]
    )


def _check_axes(file: OpenedFile, shape: tuple[int, ...]) -> None:
    """Refuse a shape that has no reading.

    Raises:
        FeatureFileError: no known layout, or both axes of 32 could be the patches.
    """
    if file.grid is None:
        if not file.readings():
            crops = ", ".join(map(str, CROPS))
            raise FeatureFileError(
                f"{file.label}: {shape} is neither (n, D), nor (n, crops, D) or (crops, n, D) "
                f"with {crops} crops; for patches say --grid ROWSxCOLUMNS"
            )
        return
    patches = file.grid[0] * file.grid[1]
    wanted = f"a grid of {file.grid[0]}x{file.grid[1]} has {patches} patches"
    if len(shape) == 3 and shape[:2] == (patches, patches) == (SEGMENTS, SEGMENTS):
        raise FeatureFileError(
            f"{file.label}: {shape}: {wanted}, and both axes could be the patches"
        )
    if not file.readings():
        raise FeatureFileError(
            f"{file.label}: {wanted}, but {shape} is neither (n, {patches}, D) nor "
            f"({patches}, n, D)"
        )


def alike(family: Sequence[Placed], failures: list[Failure]) -> Iterator[Placed]:
    """The files with the most common number of crops and width; others become failures."""
    shapes = Counter((p.file.positions, p.file.width) for p in family)
    (usual, _), *_ = shapes.most_common(1)
    for p in family:
        found = (p.file.positions, p.file.width)
        if found == usual:
            yield p
            continue
        kind = "patches" if p.file.grid else "crops"
        error = FeatureFileError(
            f"{p.file.label}: has {found[0]} {kind} of {found[1]} numbers, most others have "
            f"{usual[0]} of {usual[1]}: import it under another name"
        )
        failures += [describe_failure(v, "import", error) for v in p.file.video_ids]


# ------------------------------------------------------------------------------------ time


def place(
    found: Sequence[VideoFile],
    layout: RowLayout | None,
    snippet_frames: int,
    failures: list[Failure],
) -> Iterator[Placed]:
    """Decide what rows are, and which frames they cover.

    Raises:
        FeatureFileError: files of 32 rows may be segments or snippets.
    """
    peers = _Peers(found, snippet_frames)
    settled = [(file, _layout(file, peers, layout)) for file in found]
    undecided = [file.label for file, likely in settled if likely is None]
    if undecided:
        raise FeatureFileError(
            f"{len(undecided)} files have exactly {SEGMENTS} rows, and the manifest does not say "
            f"how long their videos are ({listing(undecided)}): {SEGMENTS} segments of the whole "
            f"video, or {SEGMENTS} snippets of {snippet_frames} frames? Say --layout segments or "
            "--layout snippets"
        )
    for file, likely in settled:
        assert likely is not None
        try:
            if layout is None and peers.odd_one(file):
                raise FeatureFileError(
                    f"{file.label}: has {file.rows} rows, but most files of its split have "
                    f"{SEGMENTS}: get it again, or say --layout segments to take it as {file.rows} "
                    "equal parts of its video (--layout snippets if all are snippets)"
                )
            yield _placed(file, likely, snippet_frames)
        except FeatureFileError as error:
            failures += [describe_failure(v, "import", error) for v in file.video_ids]


class _Peers:
    """What files of one role have in common: in one split, or (None) in all of them."""

    def __init__(self, found: Sequence[VideoFile], snippet_frames: int) -> None:
        self._snippet_frames = snippet_frames
        total: Counter[tuple[str, str | None]] = Counter()
        with_32: Counter[tuple[str, str | None]] = Counter()
        self._segments: set[tuple[str, str | None]] = set()
        for file in found:
            if not file.published_segments:
                keys = ((file.role, file.split), (file.role, None))
                total.update(keys)
                if file.rows == SEGMENTS:
                    with_32.update(keys)
                    if file.files[0].is_text or self.by_length(file) == "segments":
                        self._segments.update(keys)
        # Videos differ in length. If most files have 32 rows, they were resampled to that.
        self.alike = {key for key in total if 2 * with_32[key] > total[key]}

    def by_length(self, file: VideoFile) -> RowLayout | None:
        """What the rows are by the length of the video, where it is known."""
        n = file.row.n_frames
        if n == 0:
            return None
        return "snippets" if file.rows in snippet_counts(n, self._snippet_frames) else "segments"

    def are_segments(self, file: VideoFile) -> bool:
        """Most files of the split have 32 rows, and some, here or elsewhere, are no snippets."""
        here, everywhere = (file.role, file.split), (file.role, None)
        if here not in self.alike:
            return False
        return here in self._segments or {everywhere} <= self.alike & self._segments

    def are_snippets(self, file: VideoFile) -> bool:
        """Most files of the split have other numbers of rows, and none is known as segments."""
        key = (file.role, file.split)
        return key not in self.alike and key not in self._segments

    def odd_one(self, file: VideoFile) -> bool:
        """True for other than 32 rows, of unknown meaning, among files of 32."""
        unknown = self.by_length(file) is None
        return file.rows != SEGMENTS and unknown and (file.role, file.split) in self.alike


def _layout(file: VideoFile, peers: _Peers, layout: RowLayout | None) -> RowLayout | None:
    """What the rows of a file are; None where nothing decides it.

    32 rows can be segments. (crops, 32, D) and texts of 32 lines are published as segments.
    For others the length of the video decides, or else what most files of its split are.
    """
    if file.rows != SEGMENTS:
        return "segments" if layout == "segments" and peers.odd_one(file) else "snippets"
    if layout is not None:
        return layout
    if file.published_segments or file.files[0].is_text:
        return "segments"
    likely = peers.by_length(file)
    if likely == "segments" or peers.are_segments(file):
        return "segments"
    return "snippets" if peers.are_snippets(file) else likely


def _placed(file: VideoFile, layout: RowLayout, snippet_frames: int) -> Placed:
    n_frames, flags = file.row.n_frames, ["segments"] if layout == "segments" else []
    if n_frames == 0:
        n_frames = file.rows * snippet_frames
        flags.append("length_unknown")
    if layout == "segments":
        starts, stops = segment_frames(n_frames, file.rows)
    else:
        floor, ceil = snippet_counts(n_frames, snippet_frames)
        if file.rows not in (floor, ceil):
            more = file.rows - (ceil if file.rows > ceil else floor)
            raise FeatureFileError(
                f"{file.label}: has {file.rows} snippets, but {n_frames} frames are {floor} or "
                f"{ceil} of {snippet_frames} ({more:+d}): features or manifest are of another video"
            )
        starts = np.arange(file.rows, dtype=np.int64) * snippet_frames
        stops = np.minimum(starts + snippet_frames, n_frames)
    return Placed(file, layout, n_frames, tuple(sorted(flags)), starts, stops)
