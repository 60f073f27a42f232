"""Import stage for tracks: boxes with ids that others have found -> a feature set of objects.

The set has the arrays of the extractor `objects` without classes, and two more: the track of each
box and how it moves. So detectors of objects run where only tracks can be had.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..data_manifests.natural_order import path_key
from ..data_manifests.plain_text import one_line
from ..data_manifests.record import ID_PATTERN, Manifest
from ..extractors.base import Rows
from ..extractors.clips import Span
from ..extractors.footage.video import ProbeRow
from ..extractors.weights.kept import file_sha256
from .import_features import IMPORT_VERSION, Imported
from .importing.files import FeatureFileError, listing
from .importing.missing import OTHERWISE, Found, check_rate, write_missing
from .importing.mot import SPECS, read_mot
from .store.failures import Failure, describe_failure
from .store.feature_store import FeatureStore
from .store.probe_table import Probed
from .store.shard import ShardRow, VideoFacts

Size = tuple[int, int]
MOST_FRAMES = 10_000_000  # of a video of unknown length: one digit too many would fill the memory
INSIDE = ("gt", "det")  # in the MOT Challenge the video is the folder around gt/gt.txt


def import_tracks(
    manifest: Manifest,
    probed: Probed,
    sources: Sequence[Path],
    cache: Path,
    *,
    name: str,
    origin: str | None = None,
    frame_size: Size | None = None,
    fps: float | None = None,
    dry_run: bool = False,
) -> Imported:
    """Put tracks from MOT text into the cache; equal ones that are there are not written again.

    A file belongs to the video whose id, or whose footage, has its name. Files `gt.txt` and
    `det.txt` take the name of the folder around their own, as the MOT Challenge lays them out.

    Args:
        manifest:
            The videos.
        probed:
            Their files, or what the manifest says of videos without footage.
        sources:
            Files, and folders of `.txt` files.
        cache:
            Root of the cache.
        name:
            Of the import; part of the key.
        origin:
            Where the tracks are from, in words; part of the key.
        frame_size:
            (height, width) of videos without footage.
        fps:
            Frames per second of videos without footage.
        dry_run:
            Read all files, but write nothing.

    Raises:
        FeatureFileError: no file fits any video, a source does not exist, or the name cannot be
            one.
    """
    if not ID_PATTERN.fullmatch(name):
        raise FeatureFileError(f"the name {name!r} may only have letters, digits, '.', '_', '-'")
    if fps is not None and not fps > 0:
        raise FeatureFileError("frames per second have to be above 0")
    done = Imported()
    files = _by_content(manifest, probed, _texts(sources), done)
    if not files:
        why = f"; {done.failures[0].message}" if done.failures else ""
        raise FeatureFileError(
            f"no file fits a video of {manifest.dataset} (such as "
            f"{listing([r.video_id for r in manifest.records])}){why}"
        )
    store = FeatureStore(cache, _recipe(name, origin))
    done.stores.append(store)
    read: list[_Video] = []
    for row, ids, path in files:
        try:
            read.append(_read(path, row, frame_size, fps))
        except (FeatureFileError, OSError, MemoryError) as error:
            done.failures += [describe_failure(v, "import", error) for v in ids]
    done.bytes = sum(video.bytes() for video in read)
    done.layouts = {"object boxes with tracks of MOT text": len(read)} if read else {}
    ids_of = {row.content_id: ids for row, ids, _ in files}
    if not dry_run:
        found = [Found(v.content_id, ids_of[v.content_id], partial(_write, store, v)) for v in read]
        done.written = write_missing(store, found, done.failures)
    failed = {failure.video_id for failure in done.failures}
    good = {v for video in read for v in ids_of[video.content_id]} - failed
    done.videos = [r.video_id for r in manifest.records if r.video_id in good]
    named = {v for ids in ids_of.values() for v in ids}
    done.missing = [r.video_id for r in manifest.records if r.video_id not in named]
    return done


def parse_size(text: str) -> Size:
    """(height, width) of "480x856".

    Raises:
        FeatureFileError: it is not of this form.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if match is None:
        raise FeatureFileError(f"a size is HEIGHTxWIDTH in pixels, such as 480x856, not {text!r}")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class _Video:
    """The tracks of one video, ready to be written."""

    content_id: str
    path: Path
    arrays: Mapping[str, Rows]
    facts: VideoFacts
    fps: float | None  # that was asked for

    def bytes(self) -> int:
        return sum(v.nbytes for rows in self.arrays.values() for v in rows.arrays.values())


def _texts(sources: Sequence[Path]) -> list[Path]:
    """The text files; folders are searched with all below them, except hidden files."""
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = [p for p in source.rglob("*.txt") if p.is_file()]
            shown = [p for p in inside if not any(map(_is_hidden, p.relative_to(source).parts))]
            found += sorted(shown, key=lambda p: path_key(p.as_posix()))
        elif source.is_file():
            found.append(source)
        else:
            raise FeatureFileError(f"{source} does not exist")
    return list(dict.fromkeys(found))


def _is_hidden(part: str) -> bool:
    return part.startswith(".")


def _by_content(
    manifest: Manifest, probed: Probed, paths: Sequence[Path], done: Imported
) -> list[tuple[ProbeRow, tuple[str, ...], Path]]:
    """File, video ids and text of each content, in the order of the manifest."""
    rows: dict[str, ProbeRow] = {}
    ids: dict[str, list[str]] = {}
    contents: dict[str, set[str]] = {}  # name of a file -> contents
    for record in manifest.records:
        if (row := probed.rows.get(record.video_id)) is None:
            continue
        rows[row.content_id] = row
        ids.setdefault(row.content_id, []).append(record.video_id)
        for name in (record.video_id, PurePosixPath(record.path or record.video_id).stem):
            contents.setdefault(name, set()).add(row.content_id)
    texts: dict[str, Path] = {}
    # Of one sequence of the MOT Challenge, gt has the tracks; boxes of det have no ids.
    truths = {path.parent.parent for path in paths if path.stem == "gt"}
    for path in paths:
        if path.stem == "det" and path.parent.name == "det" and path.parent.parent in truths:
            continue
        name = path.stem
        if name in INSIDE and len(path.parts) > 2:
            name = path.parent.parent.name
        fitting = contents.get(name, set())
        if len(fitting) == 1 and (content := next(iter(fitting))) not in texts:
            texts[content] = path
            continue
        label = one_line(str(path))
        done.unmatched.append(label)
        why = (
            f"no video of {manifest.dataset} is called {name!r}"
            if not fitting
            else f"{name!r} may be {listing(sorted(v for c in fitting for v in ids[c]))}"
            if len(fitting) > 1
            else f"{texts[content]} is about the same video"
        )
        done.failures.append(Failure(label, "import", "UnknownVideo", f"{label}: {why}"))
    return [(row, tuple(ids[c]), texts[c]) for c, row in rows.items() if c in texts]


def _read(path: Path, row: ProbeRow, frame_size: Size | None, fps: float | None) -> _Video:
    boxes = read_mot(path)
    last = int(boxes.frame.max(initial=-1)) + 1
    if not row.n_frames and last > MOST_FRAMES:
        raise FeatureFileError(
            f"{path.name} has a box in frame {last:,}, and the length of its video is unknown: if "
            "the number is right, state expected_frames in the manifest"
        )
    n_frames, flags = (row.n_frames, ()) if row.n_frames else (last, ("length_unknown",))
    if not n_frames:
        raise FeatureFileError(f"{path.name} has no boxes, and the length of its video is unknown")
    if last > n_frames:
        raise FeatureFileError(
            f"{path.name} has a box in frame {last}, but the video has {n_frames} frames: it "
            "belongs to another video, or is not counted from 1"
        )
    size = (row.height, row.width) if row.height and row.width else frame_size
    if size is None:
        raise FeatureFileError(
            f"{path.name}: the size of the frames is unknown without footage: give --frame-size HxW"
        )
    arrays = boxes.rows(n_frames, size)
    asked = fps if row.kind == "features" else None
    facts = VideoFacts(asked or row.fps, n_frames, flags)
    return _Video(row.content_id, path, arrays, facts, asked)


def _write(store: FeatureStore, video: _Video, there: bool) -> ShardRow | None:
    """Write the shard of a video; None if the store has the same tracks.

    Raises:
        FeatureFileError: the store holds other tracks of the video.
    """
    if there:
        _check_same(store, video)
        return None
    origin = {
        "vadpipe": version("vadpipe"),
        "numpy": version("numpy"),
        "source": one_line(video.path.name),
        "source_sha256": file_sha256(video.path),
        "layout": "boxes with tracks of MOT text",
    }
    span = Span(video.content_id, 0, video.facts.n_frames or 0, last=True)
    return store.write(span, video.arrays, SPECS, video.facts, origin)


def _check_same(store: FeatureStore, video: _Video) -> None:
    """Refuse other tracks of a video than those that are there."""
    kept = store.read(video.content_id)
    if kept.n_frames != video.facts.n_frames or not all(
        np.array_equal(kept.times[axis].frame_start, rows.frame_start)
        and np.array_equal(kept.times[axis].frame_stop, rows.frame_stop)
        and all(np.array_equal(kept.arrays[n][:], values) for n, values in rows.arrays.items())
        for axis, rows in video.arrays.items()
    ):
        raise FeatureFileError(
            f"{video.path.name}: {store.name} holds other tracks of this video: {OTHERWISE}"
        )
    check_rate(video.path.name, store, kept, video.fps)


def _recipe(name: str, origin: str | None) -> dict[str, Any]:
    """What the key is made of: nothing that differs between videos."""
    return {
        "extractor": "imported",
        "version": IMPORT_VERSION,
        "config": {"name": name, "origin": origin, "format": "mot"},
        "clips": {"length": 1, "stride": 1},
        "weights": None,
        "precision": None,
        "arrays": [spec.to_json() for spec in SPECS],
    }
