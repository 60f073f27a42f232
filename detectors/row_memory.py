"""Where the rows of many videos are while a detector trains: on its device, or mapped from disk.

Rows that fit the allowed memory are loaded once. Others stay in their shards, and threads copy them
into buffers that are used again. The place does not change the values of a batch.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import BagSource, DetectorError, FitOptions, VideoRows
from .segments import room_on

THREADS = min(4, os.cpu_count() or 1)  # copy the windows of a batch from mapped files
BLOCK_BYTES = 64 << 20  # of rows that are loaded onto another device at once


class Buffers:
    """Memory for batches. A buffer is used again when no array or tensor refers to it any more.

    Args:
        pinned: True makes buffers that a GPU reads faster.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._lock = threading.Lock()
        self._free: dict[int, list[Tensor]] = {}
        self.made = 0

    def take(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with any content."""
        size = int(np.prod(shape)) * dtype.itemsize
        with self._lock:
            free = self._free.setdefault(size, [])
            raw = free.pop() if free else self._new(size)
        # Views and tensors of this array keep it alive: numpy follows bases up to the last array,
        # and the base of this one is a tensor.
        array = raw.numpy()
        weakref.finalize(array, free.append, raw).atexit = False
        return array.view(dtype).reshape(tuple(shape))

    def _new(self, size: int) -> Tensor:
        self.made += 1
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)


class RowMemory:
    """The rows of one role, ready to be read in any order; see the module.

    Args:
        rows:
            Of all videos.
        device:
            Torch's name of the training device.
        options:
            `memory`: bytes that the rows may take on the device; `prefetch`; `on_load`.
        threads:
            That copy the windows of a batch side by side if the rows are on disk.

    Raises:
        DetectorError: the values are of a type that torch does not have.
    """

    def __init__(
        self,
        rows: VideoRows,
        *,
        device: str = "cpu",
        options: FitOptions | None = None,
        threads: int = THREADS,
    ) -> None:
        options = options or FitOptions()
        self.rows = rows
        self.device = torch.device(device)
        self._offsets = np.concatenate([[0], np.cumsum(rows.counts)]).astype(np.int64)
        try:
            self._dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype
        except TypeError:
            raise DetectorError(
                f"{rows.role!r} features are {rows.dtype}: a network cannot read them"
            ) from None
        self._buffers = Buffers(pinned=self.device.type == "cuda")
        self._pool: ThreadPoolExecutor | None = None
        self._resident: Tensor | None = None
        size = int(self._offsets[-1]) * rows.dtype.itemsize * int(np.prod(rows.shape))
        if size <= room_on(device, options.memory):
            self._resident = self._load(options)
        elif threads > 1:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rows")
        self.prefetch = 0 if self.resident else options.prefetch
        """Batches to load ahead, for `Fit`: 0 if the rows are on the device."""

    @property
    def resident(self) -> bool:
        """True if all rows are on the device."""
        return self._resident is not None

    @property
    def resident_bytes(self) -> int:
        """Bytes that the rows take on the device; 0 if they are on disk."""
        return 0 if self._resident is None else self._resident.nbytes

    @property
    def buffers_made(self) -> int:
        """Number of buffers that batches have needed so far."""
        return self._buffers.made

    def read(
        self, video: NDArray[np.int64], start: NDArray[np.int64], length: int, step: int = 1
    ) -> Tensor:
        """Read windows: rows start, start + step, ... of videos.

        Args:
            video:
                (B,) indices of videos.
            start:
                (B,) first row of each window, within its video.
            length:
                T, rows of a window.
            step:
                From one row of a window to the next.

        Returns:
            (B, T, ...) on the device, as stored.

        Raises:
            DetectorError: a window reaches over the end of its video.
        """
        over = start + (length - 1) * step >= self.rows.counts[video]
        if (wrong := over | (start < 0)).any():
            i = int(np.argmax(wrong))
            raise DetectorError(
                f"{length} rows with step {step} from row {start[i]} are not in video "
                f"{self.rows.video_ids[video[i]]!r}: it has {self.rows.counts[video[i]]} rows of "
                f"{self.rows.role!r}"
            )
        shape = (len(video), length, *self.rows.shape)
        if self._resident is not None and self.device.type != "cpu":
            at = (self._offsets[video] + start)[:, None] + np.arange(length) * step
            index = torch.from_numpy(at.reshape(-1)).to(self.device)
            return self._resident.index_select(0, index).reshape(shape)
        batch = self._buffers.take(shape, self.rows.dtype)
        places = range(len(video))
        copy = partial(self._copy, batch, video, start, step)
        copied = map(copy, places) if self._pool is None else self._pool.map(copy, places)
        deque(copied, maxlen=0)  # waits, and raises what a thread has raised
        # Waits for the copy to another device: the buffer is free after it.
        return torch.from_numpy(batch).to(self.device)

    def _copy(
        self,
        batch: NDArray[Any],
        video: NDArray[np.int64],
        start: NDArray[np.int64],
        step: int,
        i: int,
    ) -> None:
        """Fill the i-th window of a batch."""
        out, v, first = batch[i], int(video[i]), int(start[i])
        if self._resident is not None:
            # One copy a window; torch's index_select, row by row, takes twice the time.
            at = int(self._offsets[v]) + first
            out[...] = self._resident.numpy()[at : at + (len(out) - 1) * step + 1 : step]
        elif step == 1:
            self.rows.read_into(out, v, first)
        else:
            for t in range(len(out)):
                self.rows.read_into(out[t : t + 1], v, first + t * step)

    def _load(self, options: FitOptions) -> Tensor:
        """Copy all rows to the device, one video after the other."""
        counts = self.rows.counts.tolist()
        total = int(self._offsets[-1])
        resident = torch.empty((total, *self.rows.shape), dtype=self._dtype, device=self.device)
        row_bytes = max(1, self.rows.dtype.itemsize * int(np.prod(self.rows.shape)))
        block = max(1, BLOCK_BYTES // row_bytes)
        for video, count in enumerate(counts):
            at = int(self._offsets[video])
            if self.device.type == "cpu":
                self.rows.read_into(resident[at : at + count].numpy(), video, 0)
            else:
                for first in range(0, count, block):
                    size = min(block, count - first)
                    part = self._buffers.take((size, *self.rows.shape), self.rows.dtype)
                    self.rows.read_into(part, video, first)
                    resident[at + first : at + first + size] = torch.from_numpy(part)
            if options.on_load is not None:
                options.on_load(video + 1, len(counts))
        return resident

    def close(self) -> None:
        """Free the memory and end the threads."""
        self._resident = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


@contextmanager
def row_memories(
    source: BagSource, roles: Iterable[str], *, device: str, options: FitOptions
) -> Iterator[list[RowMemory]]:
    """The rows of several roles within one limit, until the end of the block.

    Args:
        source:
            The bags.
        roles:
            The largest first: each may take what those before it have left of the memory. The
            loading of the first one is reported.
        device:
            Torch's name of the training device.
        options:
            As in `RowMemory`.

    Raises:
        DetectorError: a role is not there, or its values are of a type that torch does not have.
    """
    opened: list[RowMemory] = []
    try:
        for role in roles:
            memory = RowMemory(source.video_rows(role), device=device, options=options)
            opened.append(memory)
            left = None if options.memory is None else options.memory - memory.resident_bytes
            options = replace(options, memory=left, on_load=None)
        yield opened
    finally:
        for memory in opened:
            memory.close()
