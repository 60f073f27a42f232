"""Pool videos of any length to a fixed number of segments, and keep them in a bank for batches.

A weakly supervised detector trains on T = 32 segments a video; a segment is a mean over snippets.
Segments are pooled once and kept where there is room: on the training device, in memory, or in a
file. The place does not change the numbers of a batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import Bag, BagSource, DetectorError, Track

Resampling = Literal["rtfm", "sultani"]
Place = Literal["device", "memory", "disk"]

BLOCK_BYTES = 256 << 20  # a longer video is read segment by segment
SHARE = 0.5  # share of the free memory that a bank may take without a given budget
LISTED = 20  # videos named in one error


def segment_edges(n: int, segments: int = 32) -> NDArray[np.int64]:
    """Divide [0, n] evenly and round down: the first row of each segment, and n.

    With fewer rows than segments, rows repeat. Source: reference code of RTFM and SSRL.

    Returns:
        (segments + 1,) int64; segment i is the rows [edge i, edge i + 1), or row edge i alone if
        that range is empty.
    """
    return np.linspace(0, n, segments + 1).astype(np.int64)


def sultani_edges(n: int, segments: int = 32) -> NDArray[np.int64]:
    """Divide [1, n] evenly and round, as Sultani et al.; the result counts rows from 0.

    The last edge is row n - 1 and a segment ends before the next edge, so only very short videos
    use their last row.

    Returns:
        (segments + 1,) int64, as in `segment_edges`.
    """
    exact = np.linspace(1, n, segments + 1)
    return np.floor(exact + 0.5).astype(np.int64) - 1  # MATLAB rounds halves up


_EDGES: dict[Resampling, Callable[[int, int], NDArray[np.int64]]] = {
    "rtfm": segment_edges,
    "sultani": sultani_edges,
}


def pool_segments(
    rows: Track | NDArray[Any], segments: int = 32, resampling: Resampling = "rtfm"
) -> NDArray[np.float32]:
    """Compute the mean of the rows of each segment.

    Args:
        rows:
            (n, ...) array, or a track that is read in parts.
        segments:
            T.
        resampling:
            How the edges are placed: see `segment_edges` and `sultani_edges`.

    Returns:
        (segments, ...) float32; sums are taken in float64.
    """
    n = len(rows)
    edges = _EDGES[resampling](n, segments)
    stops = np.maximum(edges[1:], edges[:-1] + 1)

    def read(start: int, stop: int) -> NDArray[Any]:
        return rows.rows(start, stop) if isinstance(rows, Track) else rows[start:stop]

    first = read(0, 1)
    fetch = read
    if n * first.nbytes <= BLOCK_BYTES:
        whole = read(0, n)
        fetch = lambda start, stop: whole[start:stop]  # noqa: E731
    pooled = np.empty((segments, *first.shape[1:]), np.float32)
    for i, (start, stop) in enumerate(zip(edges[:-1].tolist(), stops.tolist(), strict=True)):
        pooled[i] = fetch(start, stop).mean(axis=0, dtype=np.float64)
    return pooled


def to_segments(
    rows: Track | NDArray[Any], segments: int = 32, resampling: Resampling = "rtfm"
) -> NDArray[np.float32]:
    """Return rows that are as many as the segments as they are; pool any other number of rows.

    Published features often are segments already. `sultani_edges` would cut them once more: of 32
    rows it takes one twice and the last never. The authors read such files as they are.

    Args:
        rows:
            As in `pool_segments`.
        segments:
            T.
        resampling:
            See `pool_segments`.

    Returns:
        (segments, ...) float32.
    """
    if len(rows) != segments:
        return pool_segments(rows, segments, resampling)
    whole = rows.rows() if isinstance(rows, Track) else rows
    return np.array(whole, np.float32)


def narrow(rows: NDArray[Any], width: int | None) -> NDArray[Any]:
    """Average groups of neighbouring columns down to `width`; None leaves them as they are.

    Raises:
        DetectorError: the width does not divide the number of columns.
    """
    if width is None or rows.shape[-1] == width:
        return rows
    if rows.shape[-1] % width:
        raise DetectorError(f"{rows.shape[-1]} columns cannot be averaged down to {width}")
    groups = rows.reshape(*rows.shape[:-1], width, -1)
    averaged: NDArray[Any] = groups.mean(axis=-1, dtype=np.float32)
    return averaged


def l2_normalised(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Divide every row (last axis) by its L2 norm; zero rows stay zero."""
    values = np.asarray(rows, np.float32)
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.where(norm > 0, norm, 1), np.float32)


def with_crops(rows: NDArray[Any]) -> NDArray[Any]:
    """Return (n, D) as (n, 1, D), one crop; return (n, C, D) unchanged."""
    return rows[:, None] if rows.ndim == 2 else rows


@dataclass(frozen=True)
class FeatureLayout:
    """What the bags of a source have in common.

    Attributes:
        width: D, after narrowing.
        positions: role -> number of crops or patches in a row.
        grids: role -> (rows, columns); patch roles only.
    """

    width: int
    positions: Mapping[str, int]
    grids: Mapping[str, tuple[int, int]]


def layout_of(source: BagSource, roles: Sequence[str], width: int | None = None) -> FeatureLayout:
    """Compare the shapes of all bags, without reading their arrays.

    Args:
        source:
            The training bags.
        roles:
            Roles; all variants of a role are used ("patch": "patch/2x3", ...).
        width:
            See `narrow`.

    Raises:
        DetectorError: there are no bags, or some differ from the first; the message names them.
    """
    expected: dict[str, tuple[tuple[int, ...], tuple[int, int] | None]] | None = None
    first_id, wrong = "", []
    for bag in source:
        found = {name: _shape(track) for role in roles for name, track in bag.role(role).items()}
        empty = [name for role in roles for name, track in bag.role(role).items() if not len(track)]
        if empty:
            wrong.append(f"{bag.video_id}: no rows of {', '.join(empty)}")
        elif expected is None:
            expected, first_id = found, bag.video_id
        elif found != expected:
            lines = [
                f"{name} {_said(found.get(name))} instead of {_said(expected.get(name))}"
                for name in sorted({*found, *expected})
                if found.get(name) != expected.get(name)
            ]
            wrong.append(f"{bag.video_id}: {', '.join(lines)}")
    if wrong:
        raise DetectorError(
            f"features of {len(wrong)} videos do not fit those of {first_id or 'the others'}:",
            *_listing(wrong),
        )
    if expected is None:
        raise DetectorError("there are no training videos")
    widths = {shape[-1] for shape, _ in expected.values()}
    if len(widths) > 1:
        said = ", ".join(f"{name} {_said(value)}" for name, value in expected.items())
        raise DetectorError(
            f"all features of a video must have the same width, but they are: {said}"
        )
    columns = widths.pop()
    if width is not None and columns % width:
        raise DetectorError(f"{columns} columns cannot be averaged down to {width}")
    return FeatureLayout(
        width or columns,
        {name: shape[0] if len(shape) == 2 else 1 for name, (shape, _) in expected.items()},
        {name: grid for name, (_, grid) in expected.items() if grid is not None},
    )


def _shape(track: Track) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    return tuple(track.array.shape[1:]), track.grid


def _said(value: tuple[tuple[int, ...], tuple[int, int] | None] | None) -> str:
    return "absent" if value is None else " x ".join(map(str, value[0]))


def _listing(lines: Sequence[str]) -> list[str]:
    more = [f"... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"  {line}" for line in [*lines[:LISTED], *more]]


def same_times(bag: Bag, tracks: Mapping[str, Track]) -> Track:
    """Check that all tracks have the same rows, and return the first.

    Raises:
        DetectorError: they differ; the message names the tracks.
    """
    names = list(tracks)
    first = tracks[names[0]]
    for name in names[1:]:
        other = tracks[name]
        if not (
            np.array_equal(first.frame_start, other.frame_start)
            and np.array_equal(first.frame_stop, other.frame_stop)
        ):
            raise DetectorError(
                f"{bag.video_id}: {names[0]} has {len(first)} rows and {name} {len(other)}, or "
                "they lie at other frames: extract both with the same clip length and stride"
            )
    return first


class SegmentBank:
    """Pooled features of all V bags, role -> (V, T, C, D) float32, in the place that has room.

    Args:
        arrays:
            role -> (V, T, C, D) tensors.
        place:
            Where the tensors are.
        device:
            The device of batches.
        scratch:
            The folder of the files, if there are files; `close` deletes it.
    """

    def __init__(
        self,
        arrays: dict[str, Tensor],
        place: Place,
        device: torch.device,
        scratch: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.arrays = arrays
        self.place = place
        self.device = device
        self._scratch = scratch

    def gather(self, roles: Sequence[str], videos: NDArray[np.int64]) -> dict[str, Tensor]:
        """Collect a batch: role -> (len(videos), T, C, D) on the training device."""
        index = torch.from_numpy(videos)
        if self.place == "device":
            index = index.to(self.device)
        found = {role: self.arrays[role].index_select(0, index) for role in roles}
        return {role: values.to(self.device, non_blocking=True) for role, values in found.items()}

    def close(self) -> None:
        """Free the memory and delete the files."""
        self.arrays = {}
        if self._scratch is not None:
            self._scratch.cleanup()


def build_bank(
    source: BagSource,
    layout: FeatureLayout,
    *,
    segments: int,
    resampling: Resampling,
    prepare: Callable[[NDArray[Any]], NDArray[Any]],
    device: str,
    memory: int | None,
    scratch: Path | None,
    advance: Callable[[int, int], None] | None = None,
) -> SegmentBank:
    """Pool every bag once, and keep the segments where there is room.

    Args:
        source:
            The training bags.
        layout:
            Their shapes.
        segments:
            T.
        resampling:
            See `pool_segments`; videos with T rows are taken as they are.
        prepare:
            Applied to the pooled rows, (T, C, D) -> (T, C, width).
        device:
            The training device.
        memory:
            Bytes that the bank may take on the device; None: half of what is free there.
        scratch:
            Folder for the files, used if neither the device nor memory has room; None: the
            system's folder for temporary files.
        advance:
            Called with (videos done, videos in all).

    Raises:
        DetectorError: features are not finite, or the tracks of a video have different rows; the
            message names every such video.
    """
    shapes = {
        role: (len(source), segments, count, layout.width)
        for role, count in layout.positions.items()
    }
    size = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    place = _place(size, device, memory)
    folder = None
    if place == "disk":
        where = None if scratch is None else str(scratch)
        folder = tempfile.TemporaryDirectory(prefix=".segments-", dir=where)
    arrays = {
        role: _allocate(shape, Path(folder.name) / f"{i}.f32" if folder else None)
        for i, (role, shape) in enumerate(shapes.items())
    }
    wrong: list[str] = []
    for v, bag in enumerate(source):
        tracks = {role: bag.tracks[role] for role in layout.positions}
        try:
            same_times(bag, tracks)
        except DetectorError as error:
            wrong.append(str(error))
            continue
        for role, track in tracks.items():
            pooled = to_segments(track, segments, resampling)
            if not np.isfinite(pooled).all():
                rows = _not_finite(track)
                wrong.append(f"{bag.video_id}: {role} is not finite in {rows} of {len(track)} rows")
                break
            arrays[role][v] = prepare(with_crops(pooled))
        if advance is not None:
            advance(v + 1, len(source))
    if wrong:
        if folder is not None:
            folder.cleanup()
        raise DetectorError(f"{len(wrong)} videos cannot be trained on:", *_listing(wrong))
    target = torch.device(device)
    tensors = {role: torch.from_numpy(values) for role, values in arrays.items()}
    if place == "device":
        tensors = {role: values.to(target) for role, values in tensors.items()}
    return SegmentBank(tensors, place, target, folder)


def _not_finite(track: Track) -> int:
    flat = track.rows().reshape(len(track), -1)
    return int((~np.isfinite(flat).all(axis=1)).sum())


def _allocate(shape: tuple[int, ...], path: Path | None) -> NDArray[np.float32]:
    if path is None:
        return np.empty(shape, np.float32)
    return np.memmap(path, np.float32, "w+", shape=shape)


def room_on(device: str, memory: int | None) -> float:
    """Compute how many bytes training data may take on a device.

    Args:
        device:
            Torch's name of it.
        memory:
            The number that the user allows; None: half of what is free there.
    """
    if memory is not None:
        return memory
    if torch.device(device).type == "cuda":
        return SHARE * float(torch.cuda.mem_get_info(torch.device(device))[0])
    return SHARE * float(psutil.virtual_memory().available)


def _place(size: int, device: str, memory: int | None) -> Place:
    if size <= room_on(device, memory):
        return "device"
    elsewhere = torch.device(device).type == "cuda"
    return "memory" if elsewhere and size <= room_on("cpu", None) else "disk"


def ahead(
    load: Callable[[int], Any], steps: Iterable[int], depth: int
) -> Generator[Any, None, None]:
    """Yield `load(step)` for every step in order; a thread loads `depth` of them ahead.

    With depth 0, each is loaded when it is needed.
    """
    if depth == 0:
        yield from map(load, steps)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: list[Future[Any]] = []
        try:
            for step in steps:
                waiting.append(pool.submit(load, step))
                if len(waiting) > depth:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
