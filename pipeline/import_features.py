"""Import stage: features that others have extracted -> feature sets, with their origin.

The name of a file says which video it belongs to, its shape says which layout it has. Every video
becomes one shard of the feature set of its family: the full frame, or one grid of patches.

Layouts (n snippets, D numbers each; 32 segments are means over equal parts of a video):

    X.npy, X_i3d.npy          (n, D), (n, crops, D), (crops, 32, D); crops: 1, 5 or 10;
                              also (D, n), (1, n, D), (crops, n, D), (crops, D, n): `axes`
    X__0.npy ... X__9.npy     (n, D) each, one file a crop (or X_0 ... X_4)
    X_patch23_i3d.npy         (n, 6, D), (6, 32, D): a grid of 2 x 3 patches, row-major
    X.txt                     one line of D numbers a row (C3D of Sultani et al.: 32 segments)
    *.npz                     one array a video, named like the files above
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..data_manifests.record import ID_PATTERN, Manifest
from ..extractors.base import ArraySpec, Rows
from ..extractors.clips import SNIPPET_FRAMES, Span
from .engine.progress import progress_bar
from .importing.axes import Grid
from .importing.files import FeatureFileError, listing
from .importing.layouts import Placed, RowLayout, alike, place
from .importing.missing import OTHERWISE, Found, check_rate, write_missing
from .importing.names import match_files
from .store.failures import Failure
from .store.feature_store import FeatureStore
from .store.probe_table import Probed
from .store.shard import ShardRow, VideoFacts

IMPORT_VERSION = 1


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
        unmatched: files without a video of their name; also in `failures`, except text files that
            were found in a folder.
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
    layout: RowLayout | None = None,
    grid: Grid | None = None,
    row_axis: int | None = None,
    snippet_frames: int = SNIPPET_FRAMES,
    fps: float | None = None,
    dry_run: bool = False,
) -> Imported:
    """Put features from files into the cache; equal features that are there are not written again.

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
            What files with exactly 32 rows are, where neither shapes nor lengths decide. With
            "segments", odd files among them (33 rows) are that many equal parts of their video.
        grid:
            (rows, columns): axis 1 of all files without a `_patchRC` tag is this grid of patches.
        row_axis:
            The axis that counts rows, in all files: 0 of (n, D) and (n, crops, D), 1 of (D, n),
            (crops, n, D) and (1, n, D), 2 of (crops, D, n). None judges it over all files of a
            role and split.
        snippet_frames:
            Frames a snippet.
        fps:
            Frames per second of videos without footage; None takes the probe's nominal rate.
        dry_run:
            Look at names and headers only; write nothing.

    Raises:
        FeatureFileError: no file fits any video or can be used, files of 32 rows may be segments
            or snippets, nothing decides which axis counts rows, or the name cannot be one.
    """
    if not ID_PATTERN.fullmatch(name):
        raise FeatureFileError(f"the name {name!r} may only have letters, digits, '.', '_', '-'")
    if snippet_frames < 1 or (fps is not None and not fps > 0):
        raise FeatureFileError("frames a snippet and frames per second have to be above 0")
    matched = match_files(
        manifest, probed, sources, grid=grid, row_axis=row_axis, snippet_frames=snippet_frames
    )
    if not matched.found:
        unusable = [f for f in matched.failures if f.error != "UnknownVideo"]
        if unusable:
            raise FeatureFileError(
                f"{len(unusable)} files could not be used, and no other file fits a video of "
                f"{manifest.dataset}: {unusable[0].message}"
            )
        why = f"; {matched.failures[0].message}" if matched.failures else ""
        raise FeatureFileError(
            f"no file fits a video of {manifest.dataset} (such as "
            f"{listing([r.video_id for r in manifest.records])}){why}"
        )
    done = Imported(failures=matched.failures, unmatched=matched.unmatched)
    placed = list(place(matched.found, layout, snippet_frames, done.failures))
    with_files = {video_id for file in matched.found for video_id in file.video_ids}
    done.missing = [r.video_id for r in manifest.records if r.video_id not in with_files]
    with progress_bar("import", len(placed)) as advance:
        for role in sorted({p.file.role for p in placed}):
            family = [p for p in placed if p.file.role == role]
            family = list(alike(family, done.failures))
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


# ------------------------------------------------------------------------------------ writing


def _recipe(spec: ArraySpec, name: str, origin: str | None, snippet_frames: int) -> dict[str, Any]:
    """What the key is made of: nothing that differs between videos (files, layout, length)."""
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
    hashes: dict[Path, str] = {}
    found = [
        Found(
            placed.file.row.content_id,
            placed.file.video_ids,
            partial(_write, store, spec, placed, fps, hashes),
        )
        for placed in family
    ]
    done.written += write_missing(store, found, done.failures, advance)


def _write(
    store: FeatureStore,
    spec: ArraySpec,
    placed: Placed,
    fps: float | None,
    hashes: dict[Path, str],
    there: bool,
) -> ShardRow | None:
    """Write the shard of a video; None if the store has the same features.

    Raises:
        FeatureFileError: the file cannot be read, or the store holds other features of the video.
    """
    file, row = placed.file, placed.file.row
    values = file.read().astype(spec.dtype, copy=False)
    if there:
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
                f"for {kept.n_frames} frames; the file: {file.rows} for {placed.n_frames}): "
                f"{OTHERWISE}"
            )
        check_rate(file.label, store, kept, fps if row.kind == "features" else None)
        return None
    for part in file.files:
        if part.path not in hashes:
            hashes[part.path] = part.sha256()
    return store.write(
        Span(row.content_id, 0, placed.n_frames, last=True),
        {spec.axis: Rows(placed.frame_start, placed.frame_stop, {spec.name: values})},
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
