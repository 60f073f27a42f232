"""Stage `show`: a contact sheet of the pixels of a feature set, so that a person can look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data_manifests.atomic import write_atomically
from ..data_manifests.choices import choices
from ..data_manifests.record import Manifest, ManifestError
from ..extractors.flow_colours import flow_colours, full_length
from .engine.settings import ProbeOptions
from .probe import probe_files
from .sheets.layout import tiled
from .store.errors import StoreError
from .store.feature_sets import store_like
from .store.feature_store import FeatureStore, VideoFeatures

Kind = Literal["picture", "crop", "flow", "mask"]


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        array: name of what is drawn.
        frames: number of the frame of each tile.
        rows: of the array in the video.
        full: pixels that the strongest colour of flow stands for; None for other pixels.
    """

    picture: NDArray[np.uint8]
    array: str
    frames: tuple[int, ...]
    rows: int
    full: float | None = None

    def lines(self, path: Path) -> list[str]:
        """What is told about the sheet at a path."""
        told = [f"{path}: {len(self.frames)} of {self.rows} rows of {self.array}"]
        if self.full is not None:
            told.append(f"the strongest colour is {self.full:.3g} pixels a frame; longer is darker")
        return told


def drawable(store: FeatureStore) -> dict[str, Kind]:
    """The arrays of a feature set that can be drawn, and how."""
    found: dict[str, Kind] = {}
    for spec in store.array_specs():
        kind = _kind(spec)
        if kind is not None:
            found[spec["name"]] = kind
    return found


def _kind(spec: Mapping[str, Any]) -> Kind | None:
    dims, shape, dtype = tuple(spec["dims"][1:]), tuple(spec["shape"]), spec["dtype"]
    if dims == ("row", "column", "channel") and dtype == "uint8" and shape[2] == 3:
        return "picture"
    if dims == ("time", "row", "column", "channel") and dtype == "uint8" and shape[3] == 3:
        return "crop"
    if dims == ("row", "column", "direction") and shape[2] == 2:
        return "flow"
    if dims == ("row", "column") and dtype in ("uint8", "bool"):
        return "mask"
    return None


def contact_sheet(
    store: FeatureStore,
    content_id: str,
    *,
    array: str | None = None,
    tiles: int = 24,
    width: int = 160,
    columns: int = 6,
) -> Sheet:
    """Draw rows of a video, evenly spaced from the first to the last.

    Args:
        store:
            The feature set.
        content_id:
            Of the video.
        array:
            What to draw; None takes the first array that can be drawn.
        tiles:
            Rows that are drawn at most.
        width:
            Of a tile in pixels; its height follows from the shape of the rows.
        columns:
            Tiles side by side at most.

    Raises:
        StoreError: nothing can be drawn, or the features are not there, not whole or damaged.
    """
    kinds = drawable(store)
    if not kinds:
        raise StoreError(
            f"{store.name} keeps no pixels: pictures, flow, masks and crops can be drawn "
            "(extractors frames, perturb, flow, objects with crops)"
        )
    name = next(iter(kinds)) if array is None else array
    if name not in kinds:
        raise StoreError(f"{store.name} cannot draw {name!r}; it has: {choices(kinds, name)}")
    features = store.read(content_id)
    axis = next(s["dims"][0] for s in store.array_specs() if s["name"] == name)
    n = len(features.times[axis].frame_start)
    if n == 0:
        raise StoreError(f"{store.name} has no rows of {name} in this video: nothing was found")
    places = np.unique(np.linspace(0, n - 1, min(tiles, n)).round().astype(np.int64))
    rows = np.concatenate([_row(features, name, int(i)) for i in places])
    pictures, full = _pictures(rows, kinds[name])
    frames = tuple(int(features.times[axis].frame_start[i]) for i in places)
    sheet = tiled(pictures, [str(frame) for frame in frames], width, columns)
    return Sheet(sheet, name, frames, n, full)


def _row(features: VideoFeatures, name: str, number: int) -> NDArray[Any]:
    return np.asarray(features.arrays[name][number : number + 1])


def _pictures(rows: NDArray[Any], kind: Kind) -> tuple[NDArray[np.uint8], float | None]:
    """(n, H, W, 3) uint8 of rows, and the length that has the full colour."""
    if kind == "crop":
        return rows[:, rows.shape[1] // 2], None
    if kind == "mask":
        return np.repeat((rows > 0).astype(np.uint8)[..., None] * 255, 3, axis=-1), None
    if kind == "flow":
        full = full_length(rows)
        return flow_colours(rows, full), full
    return rows, None


def show_features(
    cache: Path,
    features: str,
    manifest: Manifest,
    video: str,
    out: Path | None = None,
    options: ProbeOptions | None = None,
    **layout: Any,
) -> tuple[Sheet, Path]:
    """Write a contact sheet of a video as PNG.

    Args:
        cache:
            Root of the cache.
        features:
            Name of the feature set, or its first letters.
        manifest:
            That has the video.
        video:
            Its id.
        out:
            The file; None takes FEATURES-VIDEO.png in the working folder, with _ for slashes in the
            name of the video.
        options:
            How the file of the video is opened.
        **layout:
            Of `contact_sheet`.

    Returns:
        The sheet, and where it was written.

    Raises:
        ManifestError: the manifest has no such video.
        StoreError: see `contact_sheet`; also where the file of the video cannot be used.
        CannotWrite: the disk is full or read-only.
    """
    store = store_like(cache, features)
    records = tuple(record for record in manifest.records if record.video_id == video)
    if not records:
        known = choices([record.video_id for record in manifest.records], video)
        raise ManifestError(f"there is no video {video!r}; there are: {known}")
    one = manifest.model_copy(update={"records": records, "unread": ()})
    probed = probe_files(one, cache, options)
    if probed.failures:
        raise StoreError(f"{video}: {probed.failures[0].message}")
    sheet = contact_sheet(store, probed.rows[video].content_id, **layout)
    path = out or Path(f"{store.name}-{video.replace('/', '_')}.png")
    picture = Image.fromarray(sheet.picture)
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
    return sheet, path
