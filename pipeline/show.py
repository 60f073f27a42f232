"""Stage `show`: a contact sheet of what a feature set holds, so that a person can look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from ..extractors.footage.video import ProbeRow
from ..extractors.networks.coco import COCO
from .engine.settings import ProbeOptions
from .probe import probe_files
from .sheets.boxes import Boxes, boxed, frames_of
from .sheets.layout import tiled
from .store.errors import StoreError
from .store.feature_sets import store_like
from .store.feature_store import FeatureStore, VideoFeatures

Kind = Literal["picture", "crop", "flow", "mask", "boxes"]
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # of a sheet, and its format
QUALITY = 80  # of a JPEG
_BOXES = ("boxes", "scores")  # arrays that are drawn


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
    """The arrays of a feature set that can be drawn, and how; pixels of its own come first."""
    found: dict[str, Kind] = {}
    for spec in store.array_specs():
        kind = _kind(spec)
        if kind is not None:
            found[spec["name"]] = kind
    return dict(sorted(found.items(), key=lambda item: item[1] == "boxes"))


def _kind(spec: Mapping[str, Any]) -> Kind | None:
    dims, shape, dtype = tuple(spec["dims"][1:]), tuple(spec["shape"]), spec["dtype"]
    if spec["role"] == "object/boxes":
        return "boxes"
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
    video: ProbeRow,
    *,
    frames: Sequence[int] = (),
    array: str | None = None,
    tiles: int = 24,
    width: int = 160,
    columns: int = 6,
) -> Sheet:
    """Draw rows of a video, evenly spaced from the first to the last.

    Args:
        store:
            The feature set.
        video:
            Its file; it is opened for boxes only, which are drawn on its frames.
        frames:
            Frames to draw; none takes evenly spaced rows.
        array:
            What to draw; None takes the first array that can be drawn.
        tiles:
            Rows that are drawn at most.
        width:
            Of a tile in pixels; its height follows from the shape of the rows.
        columns:
            Tiles side by side at most.

    Raises:
        StoreError: nothing can be drawn, a frame has no row, or the features are not there, not
            whole or damaged.
        DecodeError: the footage cannot be read.
    """
    kinds = drawable(store)
    if not kinds:
        raise StoreError(
            f"{store.name} keeps no pixels: pictures, flow, masks, crops and boxes can be drawn "
            "(extractors frames, perturb, flow, objects)"
        )
    name = next(iter(kinds)) if array is None else array
    if name not in kinds:
        raise StoreError(f"{store.name} cannot draw {name!r}; it has: {choices(kinds, name)}")
    features = store.read(video.content_id)
    axis = next(s["dims"][0] for s in store.array_specs() if s["name"] == name)
    if kinds[name] == "boxes":
        axis = next(s["dims"][0] for s in store.array_specs() if s["role"] == "frame/objects")
    start = features.times[axis].frame_start
    if not len(start):
        raise StoreError(f"{store.name} has no rows of {name} in this video: nothing was found")
    places = _places(start, frames, min(tiles, len(start)))
    drawn = tuple(int(start[i]) for i in places)
    full: float | None = None
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
    if kinds[name] == "boxes":
        pictures = _with_boxes(video, features, drawn, width)
    else:
        rows = np.concatenate([_row(features, name, int(i)) for i in places])
        pictures, full = _pictures(rows, kinds[name])
    sheet = tiled(pictures, [str(frame) for frame in drawn], width, columns)
    return Sheet(sheet, name, drawn, len(start), full)


def _places(start: NDArray[np.int64], frames: Sequence[int], count: int) -> NDArray[np.int64]:
    """The rows that are drawn: those of some frames, or evenly spaced ones."""
    if not frames:
        return np.unique(np.linspace(0, len(start) - 1, count).round().astype(np.int64))
    if missing := sorted(set(frames) - set(start.tolist())):
        some = ", ".join(str(frame) for frame in start[:3].tolist())
        raise StoreError(f"there is no row of frame {missing[0]}; there are rows of {some}, ...")
    return np.flatnonzero(np.isin(start, np.array(frames)))


def _with_boxes(
    video: ProbeRow, features: VideoFeatures, frames: Sequence[int], width: int
) -> list[NDArray[np.uint8]]:
    """Frames of the footage with the boxes of a feature set."""
    if video.kind == "features":
        raise StoreError(f"{video.path or 'this video'} has no footage to draw boxes on")
    pictures = frames_of(video, frames)
    if missing := [frame for frame in frames if frame not in pictures]:
        raise StoreError(f"{video.path} has no frame {missing[0]}: it has changed since")
    starts = features.times["object"].frame_start
    drawn = []
    for frame in frames:
        first, stop = np.searchsorted(starts, [frame, frame + 1]).tolist()
        here = {name: np.asarray(features.arrays[name][first:stop]) for name in _BOXES}
        labels = [f"{score:.2f}" for score in here["scores"]]
        if "classes" in features.arrays:
            classes = np.asarray(features.arrays["classes"][first:stop]).reshape(-1, len(COCO))
            best = [COCO[row.argmax()] if row.any() else "" for row in classes]
            labels = [f"{name} {score}".strip() for name, score in zip(best, labels, strict=True)]
        drawn.append(boxed(pictures[frame], Boxes(here["boxes"], labels), width))
    return drawn


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
    """Write a contact sheet of a video as PNG or JPEG.

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
            The file, .png or .jpg; None takes FEATURES-VIDEO.png in the working folder, with _ for
            slashes in the name of the video.
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
    path = out or Path(f"{store.name}-{video.replace('/', '_')}.png")
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise StoreError(f"{path}: a sheet is written as {', '.join(SUFFIXES)}")
    sheet = contact_sheet(store, probed.rows[video], **layout)
    picture = Image.fromarray(sheet.picture)
    write_atomically(path, lambda temporary: picture.save(temporary, kind, quality=QUALITY))
    return sheet, path
