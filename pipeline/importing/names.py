"""Which file belongs to which video of a manifest, by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...data_manifests import xd_violence
from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.clips import SNIPPET_FRAMES
from ..store.failures import Failure, describe_failure
from ..store.probe_table import Probed
from .axes import Grid, OpenedFile
from .files import FeatureFile, FeatureFileError, find_files, listing
from .layouts import VideoFile, open_files, video_files

_SUFFIX = re.compile(r"_(?:i3d|c3d|clip|rgb)$", re.IGNORECASE)
_PATCH = re.compile(r"_patch([1-9])([1-9])$")
_CROP = re.compile(r"__?([0-9])$")


@dataclass
class Matched:
    """What the names and headers of files say.

    Attributes:
        found: one entry a video and family, in the order of the manifest.
        failures: files that cannot be used, and why.
        unmatched: files without a video of their name in the manifest.
    """

    found: list[VideoFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


def match_files(
    manifest: Manifest,
    probed: Probed,
    sources: Sequence[Path],
    *,
    grid: Grid | None = None,
    row_axis: int | None = None,
    snippet_frames: int = SNIPPET_FRAMES,
) -> Matched:
    """Find the video of every file by its name, and look at the headers.

    A file belongs to a video if its name without known endings (`_i3d`, `_c3d`, `_clip`, `_rgb`,
    `_patchRC`, the number of a crop) is the video's id or the name of its footage. Folders do not
    count. Characters that an id cannot have become "_"; names of XD-Violence become ids as in its
    manifest.

    Args:
        manifest:
            The videos.
        probed:
            Their files.
        sources:
            Files and folders.
        grid:
            As in `import_features`.
        row_axis:
            As in `import_features`.
        snippet_frames:
            As in `import_features`.

    Raises:
        FeatureFileError: a source does not exist or has another suffix, or nothing decides which
            axis counts the rows.
    """
    files, broken = find_files(sources)
    matched = Matched()
    matched.failures += [describe_failure(p.name, "import", e) for p, e in broken.items()]
    index = _Names(manifest, probed)
    choices = {file: list(index.choices(file, grid)) for file in files}
    with_first = {(c.content, c.grid) for cs in choices.values() for c in cs if c.crop == 0}
    groups: dict[tuple[str, Grid | None], list[tuple[FeatureFile, int | None]]] = {}
    for file, found in choices.items():
        # "cam_1" may be a video, or crop 1 of "cam"; it is a crop only if there is a crop 0.
        if len(found) > 1:
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
            unknown = f"{file.label}: no video of {manifest.dataset} has that name"
            matched.failures.append(Failure(file.label, "import", "UnknownVideo", unknown))
    opened: list[OpenedFile] = []
    for (content, patches), pieces in groups.items():
        records = index.records[content]
        ids = tuple(r.video_id for r in records)
        try:
            row = index.rows[content]
            opened.append(open_files(ids, records[0].split, row, patches, pieces))
        except (FeatureFileError, OSError, MemoryError) as error:
            matched.failures += [describe_failure(video_id, "import", error) for video_id in ids]
    matched.found += video_files(opened, row_axis, snippet_frames, matched.failures)
    order = {r.video_id: i for i, r in enumerate(manifest.records)}
    matched.found.sort(key=lambda f: (order[f.video_ids[0]], f.role))
    return matched


@dataclass(frozen=True)
class _Choice:
    """One meaning of a file name: features of a content, of a grid, of one crop."""

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
        """All meanings of a file name, each once."""
        seen = set()
        for stem, tagged, crop in _readings(file.name):
            contents = self._contents.get(self._id_of(stem)) or self._footage.get(stem) or ()
            for content in sorted(contents):
                choice = _Choice(content, tagged or grid, crop)
                if choice not in seen:
                    seen.add(choice)
                    yield choice

    def only(self, file: FeatureFile, found: Sequence[_Choice]) -> _Choice | None:
        """The one meaning, or None.

        Raises:
            FeatureFileError: there are several, or the footage of the video cannot be read.
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
                    "probe): repair it, or build the manifest without footage"
                )
        return None

    def _said(self, choice: _Choice) -> str:
        name = self.records[choice.content][0].video_id
        return name if choice.crop is None else f"crop {choice.crop} of {name}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


_ID_OF: Mapping[str, Callable[[str], str]] = {"xd_violence": xd_violence.video_id}


def _readings(name: str) -> list[tuple[str, Grid | None, int | None]]:
    """All ways to remove known endings from a name: (stem, grid, crop)."""
    found: list[tuple[str, Grid | None, int | None]] = [(name, None, None)]
    for stem, grid, crop in found:  # grows while endings are left
        if m := _SUFFIX.search(stem):
            found.append((stem[: m.start()], grid, crop))
        if grid is None and (m := _PATCH.search(stem)):
            found.append((stem[: m.start()], (int(m[1]), int(m[2])), crop))
        if crop is None and (m := _CROP.search(stem)):
            found.append((stem[: m.start()], grid, int(m[1])))
    return [reading for reading in found if reading[0]]
