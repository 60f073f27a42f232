"""Import stage: features that others have extracted -> feature sets, with where they came from.

A file is matched to a video by its name, its layout is told by its shape, and every video becomes
one shard of the feature set of its family: the full frame, or one grid of patches.

Layouts (n snippets, D numbers each; 32 segments are means over equal parts of a video):

    X.npy, X_i3d.npy          (n, D), (n, crops, D), (crops, 32, D); crops: 1, 5 or 10
    X__0.npy ... X__9.npy     (n, D) each, one file a crop (or X_0 ... X_4)
    X_patch23_i3d.npy         (n, 6, D), (6, 32, D): a grid of 2 x 3 patches, row-major
    X.txt                     one line of D numbers a row (C3D of Sultani et al.: 32 segments)
    *.npz                     one array a video, named like the files above
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data_manifests import xd_violence
from ..data_manifests.record import ID_PATTERN, Manifest, VideoRecord
from ..detectors.base import grid_of
from ..extractors.base import ArraySpec
from ..extractors.clips import Span
from ..extractors.footage.video import ProbeRow
from .engine.progress import progress_bar
from .importing.files import FeatureFile, FeatureFileError, Header, find_files, listing
from .probe import Probed
from .store.failures import Failure, describe_failure
from .store.feature_store import FeatureStore, ShardRow, VideoFacts

IMPORT_VERSION = 1
SEGMENTS = 32  # RTFM, SSRL and Sultani et al. train on 32 segments a video
SNIPPET_FRAMES = 16
CROPS = (1, 5, 10)  # published: centre; corners and centre; the same and their mirror images

Layout = Literal["snippets", "segments"]
Grid = tuple[int, int]

_SUFFIX = re.compile(r"_(?:i3d|c3d|clip|rgb)$", re.IGNORECASE)
_PATCH = re.compile(r"_patch([1-9])([1-9])$")
_CROP = re.compile(r"__?([0-9])$")


@dataclass(frozen=True)
class VideoFile:
    """The features of one video in one family, still in their file (or one file a crop).

    Attributes:
        video_ids: the records that they belong to; several where these are parts of one file.
        split: of the first of them.
        row: the video.
        grid: of the patches; None for the full frame.
        files: one, or one for each crop.
        rows: snippets or segments.
        positions: crops or patches.
        width: D.
        dtype: as imported: float16 or float32.
        rows_first: False for (crops, 32, D) and (patches, 32, D).
    """

    video_ids: tuple[str, ...]
    split: str
    row: ProbeRow
    grid: Grid | None
    files: tuple[FeatureFile, ...]
    rows: int
    positions: int
    width: int
    dtype: str
    rows_first: bool

    @property
    def label(self) -> str:
        """For messages: the file's name."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return self.files[0].label + more

    @property
    def role(self) -> str:
        """What a detector asks for."""
        return "snippet" if self.grid is None else f"patch/{self.grid[0]}x{self.grid[1]}"

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
        """
        arrays = [file.read() for file in self.files]
        values = np.stack(arrays, axis=1) if len(arrays) > 1 else arrays[0]
        if not self.rows_first:
            values = np.ascontiguousarray(values.transpose(1, 0, 2))
        return values.reshape(self.rows, *self.spec(self.dtype).shape)


@dataclass
class Matched:
    """What the names and headers of files say.

    Attributes:
        found: one entry a video and family, in the order of the manifest.
        failures: files that cannot be used, and why.
        unmatched: files that no video of the manifest is called like.
    """

    found: list[VideoFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    """A file whose rows have their place in time: frames [frame_start, frame_stop) each."""

    file: VideoFile
    layout: Layout
    n_frames: int
    flags: tuple[str, ...]
    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]

    def describe(self) -> str:
        """In words, for the log and the shard."""
        f = self.file
        one = "" if f.grid is None and f.positions == 1 else f"{f.positions}, "
        if len(f.files) > 1:
            shape = f"(n, {f.width}), one file a crop"
        else:
            shape = f"(n, {one}{f.width})" if f.rows_first else f"({one}{SEGMENTS}, {f.width})"
        return f"{shape} {f.dtype}: {self.layout}"


@dataclass
class Imported:
    """What an import did.

    Attributes:
        stores: one for each family.
        videos: ids of which every file is in the cache now.
        written: shards written by this run.
        layouts: role and layout in words -> number of videos.
        missing: ids of the manifest for which there was no file that could be opened.
        failures: files and videos that failed.
        unmatched: files that no video is called like; also in `failures`, but for texts that were
            found by searching a folder.
        bytes: of the arrays of this import.
    """

    stores: list[FeatureStore] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    written: int = 0
    layouts: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    bytes: int = 0


def import_features(
    manifest: Manifest,
    probed: Probed,
    sources: Sequence[Path],
    cache: Path,
    *,
    name: str,
    origin: str | None = None,
    layout: Layout | None = None,
    grid: Grid | None = None,
    snippet_frames: int = SNIPPET_FRAMES,
    fps: float | None = None,
    dry_run: bool = False,
) -> Imported:
    """Put features from files into the cache; what is there already is not written again.

    All files of a family go into one feature set: give the training and the test files together.
    float16 and float32 are kept as they are (float32 where a family has both); float64 becomes
    float32.

    Args:
        manifest:
            The videos.
        probed:
            Their files, or what the manifest says of videos without footage (see `probe`).
        sources:
            Files and folders.
        cache:
            Root of the cache.
        name:
            Of the import, such as "rtfm_i3d"; part of the key.
        origin:
            Where the features are from, in words; part of the key.
        layout:
            What files with exactly 32 rows are, where neither shapes nor lengths tell. "segments"
            also takes odd files among them (33 rows) as that many equal parts of their video.
        grid:
            (rows, columns): axis 1 of all files without a `_patchRC` tag is this grid of patches.
        snippet_frames:
            Frames a snippet.
        fps:
            Frames per second of videos without footage; None takes the probe's nominal rate.
        dry_run:
            Look at names and headers only; write nothing.

    Raises:
        FeatureFileError: no file fits any video, files of 32 rows may be segments or snippets, or
            the name cannot be one.
    """
    if not ID_PATTERN.fullmatch(name):
        raise FeatureFileError(f"the name {name!r} may only have letters, digits, '.', '_', '-'")
    if snippet_frames < 1 or (fps is not None and not fps > 0):
        raise FeatureFileError("frames a snippet and frames per second have to be above 0")
    matched = match_files(manifest, probed, sources, grid=grid)
    if not matched.found:
        why = f"; {matched.failures[0].message}" if matched.failures else ""
        raise FeatureFileError(
            f"no file fits a video of {manifest.dataset} (such as "
            f"{listing([r.video_id for r in manifest.records])}){why}"
        )
    done = Imported(failures=matched.failures, unmatched=matched.unmatched)
    placed = list(_place(matched.found, layout, snippet_frames, done.failures))
    with_files = {video_id for file in matched.found for video_id in file.video_ids}
    done.missing = [r.video_id for r in manifest.records if r.video_id not in with_files]
    with progress_bar("import", len(placed)) as advance:
        for role in sorted({p.file.role for p in placed}):
            family = [p for p in placed if p.file.role == role]
            family = list(_alike(family, done.failures))
            dtype = "float16" if {p.file.dtype for p in family} == {"float16"} else "float32"
            spec = family[0].file.spec(dtype)
            store = FeatureStore(cache, _recipe(spec, name, origin, snippet_frames))
            done.stores.append(store)
            done.bytes += sum(
                p.file.rows * math.prod(spec.shape) * np.dtype(dtype).itemsize for p in family
            )
            counts = Counter(f"{role} {p.describe()}" for p in family)
            done.layouts |= dict(counts)
            if not dry_run:
                _write_family(store, spec, family, fps, done, advance)
    failed = {f.video_id for f in done.failures}
    done.videos = [
        r.video_id
        for r in manifest.records
        if r.video_id in with_files and r.video_id not in failed
    ]
    return done


def match_files(
    manifest: Manifest, probed: Probed, sources: Sequence[Path], *, grid: Grid | None = None
) -> Matched:
    """Find the video of every file by its name, and look at the headers.

    A file is called like a video if its name, with known endings (`_i3d`, `_c3d`, `_clip`, `_rgb`,
    `_patchRC`, the number of a crop) taken off, is the video's id or the name of its footage.
    Folders count for nothing. Characters that no id can have stand for "_"; names of XD-Violence
    become ids as in its manifest.

    Args:
        manifest:
            The videos.
        probed:
            What they are.
        sources:
            Files and folders.
        grid:
            As in `import_features`.

    Raises:
        FeatureFileError: a source does not exist or has another suffix.
    """
    files, broken = find_files(sources)
    matched = Matched()
    matched.failures += [describe_failure(p.name, "import", e) for p, e in broken.items()]
    index = _Names(manifest, probed)
    choices = {file: list(index.choices(file, grid)) for file in files}
    with_first = {(c.content, c.grid) for cs in choices.values() for c in cs if c.crop == 0}
    groups: dict[tuple[str, Grid | None], list[tuple[FeatureFile, int | None]]] = {}
    for file, found in choices.items():
        if len(found) > 1:  # "cam_1" is crop 1 of "cam" only if there is a crop 0
            found = [c for c in found if c.crop is None or (c.content, c.grid) in with_first]
        try:
            choice = index.only(file, found)
        except FeatureFileError as error:
            matched.failures.append(describe_failure(file.label, "import", error))
            continue
        if choice is not None:
            groups.setdefault((choice.content, choice.grid), []).append((file, choice.crop))
            continue
        matched.unmatched.append(file.label)
        if not file.is_text or file.path in sources:  # a folder may have a README.txt
            unknown = f"{file.label}: no video of {manifest.dataset} is called like that"
            matched.failures.append(Failure(file.label, "import", "UnknownVideo", unknown))
    for (content, patches), pieces in groups.items():
        records = index.records[content]
        ids = tuple(r.video_id for r in records)
        try:
            found_file = _open(ids, records[0].split, index.rows[content], patches, pieces)
            matched.found.append(found_file)
        except (FeatureFileError, OSError) as error:
            matched.failures += [describe_failure(video_id, "import", error) for video_id in ids]
    order = {r.video_id: i for i, r in enumerate(manifest.records)}
    matched.found.sort(key=lambda f: (order[f.video_ids[0]], f.role))
    return matched


def parse_grid(text: str) -> Grid:
    """(rows, columns) of "2x3".

    Raises:
        FeatureFileError: it is not of this form.
    """
    try:
        return grid_of(text)
    except ValueError as error:
        raise FeatureFileError(f"a grid is ROWSxCOLUMNS, such as 2x3, not {text!r}") from error


def segment_frames(
    n_frames: int, segments: int = SEGMENTS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of the segments of a video: an even division of [0, n], integers cut off.

    An empty segment is the one frame at its edge. Source: `process_feat` of RTFM and SSRL, which
    divides snippets like that.

    Returns:
        (segments,) first frames, (segments,) one past the last.
    """
    edges = np.arange(segments + 1, dtype=np.int64) * n_frames // segments
    return edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)


# ------------------------------------------------------------------------------------ names


@dataclass(frozen=True)
class _Choice:
    """What a file may be: the features of a content, of a grid, of one crop."""

    content: str
    grid: Grid | None
    crop: int | None


class _Names:
    """The videos of a manifest by the names that files may give them."""

    def __init__(self, manifest: Manifest, probed: Probed) -> None:
        self._id_of = _ID_OF.get(manifest.dataset, _plain)
        self.rows = {row.content_id: row for row in probed.rows.values()}
        self.records: dict[str, list[VideoRecord]] = {}
        self._contents: dict[str, set[str]] = {}  # id -> content
        self._footage: dict[str, set[str]] = {}  # name of the footage -> contents
        self._lost: dict[str, str] = {}
        for record in manifest.records:
            stem = None if record.path is None else PurePosixPath(record.path).stem
            row = probed.rows.get(record.video_id)
            if row is None:
                self._lost |= {name: record.video_id for name in (record.video_id, stem) if name}
                continue
            self.records.setdefault(row.content_id, []).append(record)
            self._contents.setdefault(record.video_id, set()).add(row.content_id)
            if stem:
                self._footage.setdefault(stem, set()).add(row.content_id)

    def choices(self, file: FeatureFile, grid: Grid | None) -> Iterator[_Choice]:
        """All that the name may mean, each once."""
        seen = set()
        for stem, tagged, crop in _readings(file.name):
            contents = self._contents.get(self._id_of(stem)) or self._footage.get(stem) or ()
            for content in sorted(contents):
                choice = _Choice(content, tagged or grid, crop)
                if choice not in seen:
                    seen.add(choice)
                    yield choice

    def only(self, file: FeatureFile, found: Sequence[_Choice]) -> _Choice | None:
        """The one choice, or None.

        Raises:
            FeatureFileError: there are several, or the video's footage cannot be read.
        """
        if len(found) > 1:
            said = listing([self._said(choice) for choice in found])
            raise FeatureFileError(f"{file.label}: may be {said}: rename it to the video's id")
        if found:
            return found[0]
        for stem, _, _ in _readings(file.name):
            lost = self._lost.get(self._id_of(stem)) or self._lost.get(stem)
            if lost is not None:
                raise FeatureFileError(
                    f"{file.label}: the footage of {lost} cannot be read (see vadpipe "
                    "probe): mend it, or build the manifest without footage"
                )
        return None

    def _said(self, choice: _Choice) -> str:
        name = self.records[choice.content][0].video_id
        return name if choice.crop is None else f"crop {choice.crop} of {name}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


_ID_OF: Mapping[str, Callable[[str], str]] = {"xd_violence": xd_violence.video_id}


def _readings(name: str) -> list[tuple[str, Grid | None, int | None]]:
    """All ways to take known endings off a name: (stem, grid, crop)."""
    found: list[tuple[str, Grid | None, int | None]] = [(name, None, None)]
    for stem, grid, crop in found:  # grows while endings are left
        if m := _SUFFIX.search(stem):
            found.append((stem[: m.start()], grid, crop))
        if grid is None and (m := _PATCH.search(stem)):
            found.append((stem[: m.start()], (int(m[1]), int(m[2])), crop))
        if crop is None and (m := _CROP.search(stem)):
            found.append((stem[: m.start()], grid, int(m[1])))
    return [reading for reading in found if reading[0]]


# ------------------------------------------------------------------------------------ shapes


def _open(
    ids: tuple[str, ...],
    split: str,
    row: ProbeRow,
    grid: Grid | None,
    pieces: Sequence[tuple[FeatureFile, int | None]],
) -> VideoFile:
    """The headers of a video's files as one array.

    Raises:
        FeatureFileError: files are missing, twice there, or of shapes that fit no layout.
    """
    pieces = sorted(pieces, key=lambda piece: -1 if piece[1] is None else piece[1])
    files = tuple(file for file, _ in pieces)
    crops = [crop for _, crop in pieces]
    names = listing([file.label for file in files])
    if len(crops) > 1 and set(crops) == {None} and _equal(files):
        files, crops = files[:1], crops[:1]  # copies: releases list some videos in two folders
    if len(set(crops)) < len(crops) or (None in crops and len(crops) > 1):
        raise FeatureFileError(f"{names}: several files of one video: take away all but one")
    headers = {file: file.header() for file in files}
    header = headers[files[0]]
    if len({h.shape for h in headers.values()}) > 1:
        said = ", ".join(f"{file.label} {h.shape}" for file, h in headers.items())
        raise FeatureFileError(f"crops of different shapes: {said}")
    if crops[0] is None:
        rows, positions, width, rows_first = _axes(files[0], header, grid)
    else:
        if grid is not None or len(header.shape) != 2:
            raise FeatureFileError(
                f"{names}: one file a crop has to be (n, D) of the full frame, not {header.shape}"
            )
        size = next((c for c in CROPS if c > max(c for c in crops if c is not None)), CROPS[-1])
        lacking = sorted(set(range(size)) - set(crops))
        if lacking:
            raise FeatureFileError(
                f"{names}: of {size} crops the files {', '.join(map(str, lacking))} are missing"
            )
        (rows, width), positions, rows_first = header.shape, size, True
    small = all(h.dtype.itemsize == 2 for h in headers.values())
    dtype = "float16" if small else "float32"
    return VideoFile(ids, split, row, grid, files, rows, positions, width, dtype, rows_first)


def _equal(files: Sequence[FeatureFile]) -> bool:
    headers = {file.header().shape for file in files}
    return len(headers) == 1 and all(
        np.array_equal(files[0].read(), file.read()) for file in files[1:]
    )


def _axes(file: FeatureFile, header: Header, grid: Grid | None) -> tuple[int, int, int, bool]:
    """(rows, positions, width, rows first) of one array.

    Raises:
        FeatureFileError: no known layout.
    """
    shape = header.shape
    if grid is None:
        if len(shape) == 2:
            return shape[0], 1, shape[1], True
        if len(shape) == 3 and shape[1] in CROPS:
            return shape[0], shape[1], shape[2], True
        if len(shape) == 3 and shape[0] in CROPS and shape[1] == SEGMENTS:
            return shape[1], shape[0], shape[2], False
        raise FeatureFileError(
            f"{file.label}: {shape} is neither (n, D), nor (n, crops, D) or (crops, {SEGMENTS}, D) "
            f"with {', '.join(map(str, CROPS))} crops; for patches say --grid ROWSxCOLUMNS"
        )
    patches = grid[0] * grid[1]
    wanted = f"a grid of {grid[0]}x{grid[1]} has {patches} patches"
    if len(shape) == 3 and shape[:2] == (patches, patches) == (SEGMENTS, SEGMENTS):
        raise FeatureFileError(
            f"{file.label}: {shape}: {wanted}, and which axis they are cannot be told"
        )
    if len(shape) == 3 and shape[1] == patches:
        return shape[0], patches, shape[2], True
    if len(shape) == 3 and shape[:2] == (patches, SEGMENTS):
        return SEGMENTS, patches, shape[2], False
    raise FeatureFileError(
        f"{file.label}: {wanted}, but {shape} is neither (n, {patches}, D) nor "
        f"({patches}, {SEGMENTS}, D)"
    )


def _alike(family: Sequence[Placed], failures: list[Failure]) -> Iterator[Placed]:
    """Those of the most common number of crops and width; others fail."""
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


def _place(
    found: Sequence[VideoFile],
    layout: Layout | None,
    snippet_frames: int,
    failures: list[Failure],
) -> Iterator[Placed]:
    """Settle what rows are, and which frames they cover.

    Raises:
        FeatureFileError: files of 32 rows that may be either.
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
            if file.rows_first:
                keys = ((file.role, file.split), (file.role, None))
                total.update(keys)
                if file.rows == SEGMENTS:
                    with_32.update(keys)
                    if file.files[0].is_text or self.by_length(file) == "segments":
                        self._segments.update(keys)
        # Videos differ in length: if most have 32 rows, these were made so (or all are equal).
        self._alike = {key for key in total if 2 * with_32[key] > total[key]}

    def by_length(self, file: VideoFile) -> Layout | None:
        """What the rows are by the length of the video, where it is known."""
        n = file.row.n_frames
        if n == 0:
            return None
        return "snippets" if file.rows in _counts(n, self._snippet_frames) else "segments"

    def are_segments(self, file: VideoFile) -> bool:
        """Most files of the split have 32 rows, and some, here or elsewhere, are no snippets."""
        here, everywhere = (file.role, file.split), (file.role, None)
        if here not in self._alike:
            return False
        return here in self._segments or {everywhere} <= self._alike & self._segments

    def are_snippets(self, file: VideoFile) -> bool:
        """Most files of the split have other numbers of rows, and none is known as segments."""
        key = (file.role, file.split)
        return key not in self._alike and key not in self._segments

    def odd_one(self, file: VideoFile) -> bool:
        """True for other than 32 rows, of unknown meaning, among files of 32."""
        unknown = self.by_length(file) is None
        return file.rows != SEGMENTS and unknown and (file.role, file.split) in self._alike


def _layout(file: VideoFile, peers: _Peers, layout: Layout | None) -> Layout | None:
    """What the rows of a file are; None where that cannot be told.

    32 rows can be segments. (crops, 32, D) and texts of 32 lines are published as segments. Else
    the length of the video tells, or what most files of its split look like.
    """
    if file.rows != SEGMENTS:
        return "segments" if layout == "segments" and peers.odd_one(file) else "snippets"
    if layout is not None:
        return layout
    if not file.rows_first or file.files[0].is_text:
        return "segments"
    likely = peers.by_length(file)
    if likely == "segments" or peers.are_segments(file):
        return "segments"
    return "snippets" if peers.are_snippets(file) else likely


def _counts(n_frames: int, snippet_frames: int) -> tuple[int, int]:
    """Snippets of a video: the tail dropped, or covered."""
    return n_frames // snippet_frames, -(-n_frames // snippet_frames)


def _placed(file: VideoFile, layout: Layout, snippet_frames: int) -> Placed:
    n_frames, flags = file.row.n_frames, ["segments"] if layout == "segments" else []
    if n_frames == 0:
        n_frames = file.rows * snippet_frames
        flags.append("length_unknown")
    if layout == "segments":
        starts, stops = segment_frames(n_frames, file.rows)
    else:
        floor, ceil = _counts(n_frames, snippet_frames)
        if file.rows not in (floor, ceil):
            more = file.rows - (ceil if file.rows > ceil else floor)
            raise FeatureFileError(
                f"{file.label}: has {file.rows} snippets, but {n_frames} frames are {floor} or "
                f"{ceil} of {snippet_frames} ({more:+d}): features or manifest are of another video"
            )
        starts = np.arange(file.rows, dtype=np.int64) * snippet_frames
        stops = np.minimum(starts + snippet_frames, n_frames)
    return Placed(file, layout, n_frames, tuple(sorted(flags)), starts, stops)


# ------------------------------------------------------------------------------------ writing


def _recipe(spec: ArraySpec, name: str, origin: str | None, snippet_frames: int) -> dict[str, Any]:
    """What makes the key. Not in it: what differs from video to video (files, layout, length)."""
    crops = spec.shape[0] if len(spec.shape) > 1 else 1
    positions = {"crops": crops} if spec.grid is None else {"grid": list(spec.grid)}
    return {
        "extractor": "imported",
        "version": IMPORT_VERSION,
        "config": {
            "name": name,
            "origin": origin,
            "snippet_frames": snippet_frames,
            "width": spec.shape[-1],
            **positions,
        },
        "clips": {"length": snippet_frames, "stride": snippet_frames},
        "weights": None,
        "precision": None,
        "arrays": [spec.to_json()],
    }


def _write_family(
    store: FeatureStore,
    spec: ArraySpec,
    family: Sequence[Placed],
    fps: float | None,
    done: Imported,
    advance: Callable[[float], None],
) -> None:
    store.create()
    written: list[ShardRow] = []
    hashes: dict[Path, str] = {}
    try:
        for placed in family:
            try:
                shard = _write(store, spec, placed, fps, hashes)
                if shard is not None:
                    written.append(shard)
            except Exception as error:  # one bad file never stops a run
                done.failures += [
                    describe_failure(v, "import", error) for v in placed.file.video_ids
                ]
            advance(1)
    finally:
        store.add_index_part(written)
        done.written += len(written)


def _write(
    store: FeatureStore,
    spec: ArraySpec,
    placed: Placed,
    fps: float | None,
    hashes: dict[Path, str],
) -> ShardRow | None:
    """Write the shard of a video; None if the same is there.

    Raises:
        FeatureFileError: the file cannot be read, or the store holds other features of the video.
    """
    file, row = placed.file, placed.file.row
    values = file.read().astype(spec.dtype, copy=False)
    if store.complete(row.content_id):
        kept = store.read(row.content_id)
        array = kept.arrays[spec.name]
        if not (
            kept.n_frames == placed.n_frames
            and np.array_equal(kept.frame_start, placed.frame_start)
            and np.array_equal(kept.frame_stop, placed.frame_stop)
            and np.array_equal(array[:], values)
        ):
            raise FeatureFileError(
                f"{file.label}: {store.name} holds other features of this video ({len(array)} rows "
                f"for {kept.n_frames} frames; the file: {file.rows} for {placed.n_frames}): import "
                "under another --name, or delete that set with vadpipe cache rm"
            )
        return None
    for part in file.files:
        if part.path not in hashes:
            hashes[part.path] = part.sha256()
    return store.write(
        Span(row.content_id, 0, placed.n_frames, last=True),
        {spec.name: values},
        placed.frame_start,
        placed.frame_stop,
        [spec],
        VideoFacts(
            fps if fps and row.kind == "features" else row.fps, placed.n_frames, placed.flags
        ),
        {
            "vadpipe": version("vadpipe"),
            "numpy": version("numpy"),
            "source": "\n".join(part.label for part in file.files),
            "source_sha256": "\n".join(dict.fromkeys(hashes[part.path] for part in file.files)),
            "layout": placed.describe(),
        },
    )
