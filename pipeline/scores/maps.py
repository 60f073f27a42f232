"""Score maps: where in the frame a detector saw something, one HDF5 file for each video.

A file has `frame_start` and `frame_stop` (n,) and one data set `map:<name>` (n, rows, columns)
for each map; the name is percent-encoded, so a slash in it makes no group. Rows are those of the
video's scores. The file carries the stamp of the scores that it belongs to.

Values are compressed float16, to be multiplied with the attribute `scale`, a power of two that puts
the largest stored value between 2^14 and 2^15. So a value is rounded by at most 1/2048 of itself;
one below 2^-28 of the largest by at most 2^-39 of the largest. Files of version 0.1 hold float32
without a scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import h5py
import numpy as np
from numpy.typing import NDArray

from ...data_manifests.atomic import write_atomically
from ...data_manifests.choices import choices
from ...data_manifests.stored import check_file
from ...detectors.base import Scores
from ..store.errors import StoreError
from ..store.shard import checked_dataset
from .part import check_content

PREFIX = "map:"
LEAST_EXPONENT = -100  # of a scale: a map of smaller numbers than 2^-86 loses digits
GZIP_AT_MOST = 1100  # gzip packs at most 1032 bytes into one
MOST_BYTES = 1 << 26  # of one chunk, and of one row
CHUNK_BYTES = 1 << 18
MOST_STORED = np.float32(2**15 - 16)  # the largest float16 below 2^15: its value is never infinite

Share = tuple[float, float]


@dataclass(frozen=True)
class StoredMap:
    """One map of a video, still on disk.

    Attributes:
        shape: (n, rows, columns).
        covered: (height, width) of what the grid covers, from the top left, as shares of the frame.
    """

    shape: tuple[int, int, int]
    covered: Share


@dataclass(frozen=True)
class ScoreMaps:
    """The maps of one video; values are read when they are asked for.

    Attributes:
        path: the file.
        maps: name -> what is stored, in the detector's order.
    """

    path: Path
    maps: Mapping[str, StoredMap]

    def frames(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frame of each row, and one past its last: (n,) each.

        Raises:
            StoreError: the file is damaged.
        """
        with _opened(self.path) as file:
            return _checked_frames(file, "frame_start")[:], _checked_frames(file, "frame_stop")[:]

    def read(
        self, name: str, start: int = 0, stop: int | None = None, step: int = 1
    ) -> NDArray[np.float32]:
        """Rows [start, stop) of a map, every `step`-th: (k, rows, columns) float32.

        Raises:
            StoreError: there is no such map, or the file is damaged.
        """
        with _opened(self.path) as file:
            dataset = _checked_map(file, name)
            values = np.asarray(dataset[slice(start, stop, step)], dtype=np.float32)
            return values * np.float32(_checked_scale(dataset))

    def at(self, name: str, frame: int) -> NDArray[np.float32]:
        """A map at one frame, (rows, columns): the mean over the rows that cover it.

        Where no row does, the nearest one counts: scores are expanded to frames the same way.

        Raises:
            StoreError: there is no such map, it has no rows, or the file is damaged.
        """
        first, stop = self.frames()
        if not len(first):
            raise StoreError(f"{self.path}: the maps have no rows: run score again")
        distance = np.maximum(np.maximum(first - frame, frame - stop + 1), 0)  # (n,)
        rows = np.flatnonzero(distance == 0)
        if not len(rows):
            rows = np.array([distance.argmin()])
        values = self.read(name, int(rows[0]), int(rows[-1]) + 1)
        return np.asarray(values[rows - rows[0]].mean(axis=0), dtype=np.float32)


def write_maps(
    path: Path, scores: Scores, stamp: str, covered: Mapping[tuple[int, int], Share]
) -> None:
    """Write the maps of a video; scores without maps leave no file.

    Args:
        path:
            The file, named after the video.
        scores:
            What the detector returned.
        stamp:
            What the scores were made of.
        covered:
            (rows, columns) of a grid -> the share of the frame that it covers, see
            `covered_by_grids`; other grids cover all of it.

    Raises:
        StoreError: a map is not (n, rows, columns).
    """
    if not scores.maps:
        path.unlink(missing_ok=True)
        return
    for name, values in scores.maps.items():
        if values.ndim != 3 or 0 in values.shape[1:]:
            raise StoreError(
                f"video {path.stem!r}: map {name!r} is {values.shape}, not (n, rows, columns)"
            )

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w", track_order=True) as file:
            file.attrs["stamp"] = stamp
            file.attrs["video_id"] = path.stem
            file["frame_start"] = np.asarray(scores.frame_start, np.int64)
            file["frame_stop"] = np.asarray(scores.frame_stop, np.int64)
            for name, values in scores.maps.items():
                share = covered.get(values.shape[1:], (1.0, 1.0))
                _write_map(file, name, values, share)

    write_atomically(path, write)


def _write_map(file: h5py.File, name: str, values: NDArray[np.float32], share: Share) -> None:
    """One data set, block by block: a converted copy of a long video would be large."""
    n, height, width = values.shape
    rows = max(1, min(n, CHUNK_BYTES // (2 * height * width)))
    blocks = range(0, n, rows)
    largest = max((_largest(values[at : at + rows]) for at in blocks), default=0.0)
    exponent = math.frexp(largest)[1] - 15 if largest else 0
    scale = 2.0 ** max(exponent, LEAST_EXPONENT)
    dataset = file.create_dataset(
        PREFIX + quote(name, safe=""),
        shape=values.shape,
        dtype=np.float16,
        chunks=(rows, height, width) if n else None,
        **({"shuffle": True, "compression": "gzip", "compression_opts": 1} if n else {}),
    )
    for at in blocks:
        block = np.asarray(values[at : at + rows], np.float32) / np.float32(scale)
        np.clip(block, -MOST_STORED, MOST_STORED, out=block, where=np.isfinite(block))
        dataset[at : at + rows] = block.astype(np.float16)
    dataset.attrs["scale"] = scale
    dataset.attrs["covered"] = share


def _largest(values: NDArray[np.float32]) -> float:
    """The largest finite magnitude; 0 where there is none."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))


def maps_stamp(path: Path) -> str | None:
    """What the maps in a file were made of; None without a file.

    "" where it is damaged, or of another video: then it is written again.
    """
    if not path.is_file():
        return None
    try:
        with _opened(path) as file:
            other = file.attrs.get("video_id", path.stem) != path.stem
            return "" if other else str(file.attrs.get("stamp", ""))
    except (StoreError, OSError):
        return ""


def open_maps(path: Path, part: Path | None = None) -> ScoreMaps | None:
    """The maps in a file; None without a file.

    Args:
        path:
            The file.
        part:
            The scores that the maps belong to; None compares nothing.

    Raises:
        StoreError: the file is damaged, is of another video, or is not what `write_maps` writes.
        ScoreFolderError: it is of other footage than the scores.
    """
    if not path.is_file():
        return None
    with _opened(path) as file:
        owner = file.attrs.get("video_id", path.stem)  # files of older versions do not say it
        if owner != path.stem:
            raise StoreError(f"{path} holds the maps of {owner!r:.200}: run score again")
        stamp = str(file.attrs.get("stamp", ""))
        lengths = {len(_checked_frames(file, name)) for name in ("frame_start", "frame_stop")}
        maps = {}
        for key in file:
            if key.startswith(PREFIX):
                name = unquote(key.removeprefix(PREFIX))
                dataset = _checked_map(file, name)
                maps[name] = StoredMap(dataset.shape, _checked_share(dataset))
                lengths.add(len(dataset))
    if len(lengths) > 1:
        raise StoreError(f"{path}: frames and maps differ in length: run score again")
    check_content(path, stamp, part)
    return ScoreMaps(path, maps)


def covered_by_grids(recipes: Iterable[Mapping[str, Any]]) -> dict[tuple[int, int], Share]:
    """What share of the frame the patch grids of feature recipes cover, where it is not all of it.

    Grids start at the top left; pixels that remain at the bottom and on the right are in no patch.

    Args:
        recipes:
            Of the feature sets; those without a fixed frame size or grids say nothing.

    Returns:
        (rows, columns) -> (height, width) as shares of the frame.
    """
    found: dict[tuple[int, int], Share] = {}
    for recipe in recipes:
        size = recipe.get("config", {}).get("frame_size")
        for spec in recipe.get("arrays", ()):
            grid, patch = spec.get("grid"), spec.get("attrs", {})
            if size is None or grid is None or "patch_height" not in patch:
                continue
            share = (
                grid[0] * patch["patch_height"] / size[0],
                grid[1] * patch["patch_width"] / size[1],
            )
            if share != (1.0, 1.0):
                found[grid[0], grid[1]] = share
    return found


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file; every error of HDF5 becomes one of ours."""
    try:
        check_file(path)
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise StoreError(f"{path} is damaged ({error}): run score again") from error
    except StoreError as error:
        asked = "it has:" in str(error) or "run score again" in str(error)
        raise StoreError(f"{error}{'' if asked else ': run score again'}") from error


def _checked_frames(file: h5py.File, name: str) -> h5py.Dataset:
    dataset = _held(checked_dataset(file, name))
    if dataset.ndim != 1 or dataset.dtype != np.int64:
        raise StoreError(f"{file.filename}: {name} is not a vector of frame numbers; refused")
    return dataset


def _checked_map(file: h5py.File, name: str) -> h5py.Dataset:
    key = PREFIX + quote(name, safe="")
    if key not in file:
        names = [unquote(k.removeprefix(PREFIX)) for k in file if k.startswith(PREFIX)]
        raise StoreError(f"{file.filename} has no map {name!r}; it has: {choices(names, name)}")
    dataset = _held(checked_dataset(file, key))
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    if dataset.ndim != 3 or dataset.dtype.kind != "f" or not 0 < row <= MOST_BYTES:
        raise StoreError(
            f"{file.filename}: {name!r} is {dataset.dtype} {dataset.shape}, not a map; refused"
        )
    return dataset


def _held(dataset: h5py.Dataset) -> h5py.Dataset:
    """Refuse what claims more values than its file can hold, or too many in one piece."""
    path = Path(dataset.file.filename)
    stored = dataset.id.get_storage_size()
    room = stored * (GZIP_AT_MOST if dataset.compression == "gzip" else 1)
    piece = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if stored > path.stat().st_size or dataset.nbytes > room or piece > MOST_BYTES:
        raise StoreError(f"{path}: {dataset.name} claims {dataset.nbytes:,} bytes; refused")
    return dataset


def _checked_scale(dataset: h5py.Dataset) -> float:
    scale = float(dataset.attrs.get("scale", 1.0))
    if not (math.isfinite(scale) and scale > 0):
        raise StoreError(f"{dataset.file.filename}: {dataset.name} has the scale {scale}; refused")
    return scale


def _checked_share(dataset: h5py.Dataset) -> Share:
    share = np.asarray(dataset.attrs["covered"], dtype=np.float64)
    if share.shape != (2,) or not ((share > 0) & (share <= 1)).all():
        raise StoreError(f"{dataset.file.filename}: covered {share} is not a share of a frame")
    return float(share[0]), float(share[1])
