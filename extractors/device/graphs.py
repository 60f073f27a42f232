"""CUDA graphs: the kernels of a network are recorded once for a shape, and replayed by one call.

A network of a hundred layers starts several hundred kernels; where they are short, starting them
takes longer than running them. A graph starts them all at once. It is bound to its memory, so
pixels are copied into the place that was recorded, and the result is copied out.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base import Precision

Network = Callable[[Tensor], Tensor]

RUNS_BEFORE = 3  # of a shape: the last batch of a video may have a size that hardly returns
MOST_GRAPHS = 8  # of a network: full batches, the two sizes of split ones, a few sizes of frames
WARM_UPS = 3  # before a recording: libraries choose their algorithms and make their workspaces
# What two ways to the same numbers may differ by: docs/architecture.md, "Equality".
FP32_OF_RMS = 1e-5
LOW_COSINE = 0.9999


@dataclass(frozen=True)
class Recording:
    """One recorded run.

    Attributes:
        given: where the input lies; it is overwritten before each replay.
        found: where a replay leaves the result.
        replay: runs what was recorded; the call may return before the device has done it.
    """

    given: Tensor
    found: Tensor
    replay: Callable[[], object]


Record = Callable[[Network, Tensor], Recording]


class Graphs:
    """A network that is recorded for each shape that comes back, and replayed from then on.

    After `RUNS_BEFORE` runs of a shape it is recorded, on an input of zeros, and replayed on the
    batch; what comes out is compared with the network run as it is. If it differs by more than
    other ways to the same numbers do, or if the network cannot be recorded, one warning says so and
    everything runs as it is from then on. Shapes beyond `most` are not recorded, and none is
    dropped for another: shapes that take turns would be recorded again and again.

    To be called by one thread, the lane of the device.

    Args:
        network:
            (B, ...) -> (B, ...) floats; the same operations for each input of a shape.
        precision:
            Of the network: what its results may differ by.
        record:
            Records a run on an input like the given one.
        most:
            Graphs at most.
    """

    def __init__(
        self, network: Network, precision: Precision, record: Record, most: int = MOST_GRAPHS
    ) -> None:
        self._network = network
        self._precision = precision
        self._record = record
        self._most = most
        self._runs: Counter[tuple[Any, ...]] = Counter()
        self._recorded: dict[tuple[Any, ...], Recording] = {}
        self._why_not: str | None = None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes that are replayed."""
        return [shape for shape, _ in self._recorded]

    @property
    def why_not(self) -> str | None:
        """Why nothing is replayed any more; None while graphs are in use."""
        return self._why_not

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network; the result is the caller's own."""
        key = (tuple(x.shape), x.dtype)
        if recording := self._recorded.get(key):
            return _replayed(recording, x)
        if self._why_not is not None or len(self._recorded) >= self._most:
            return self._network(x)
        self._runs[key] += 1
        found = self._network(x)  # first, and outside: its errors are not those of a recording
        if self._runs[key] > RUNS_BEFORE:
            self._try(key, x, found)
        return found

    def give_up(self) -> bool:
        """Free the memory of all graphs, because there is none left for anything else.

        Returns:
            Whether there was something to free.
        """
        had = bool(self._recorded)
        if had:
            self._stop("the device has no memory left beside them")
        return had

    def _try(self, key: tuple[Any, ...], x: Tensor, expected: Tensor) -> None:
        try:
            recording = self._record(self._network, x)
            found = _replayed(recording, x)
            difference = disagreement(found, expected, self._precision)
        except (RuntimeError, MemoryError) as error:  # of CUDA, and of its allocator
            self._stop(f"it cannot be recorded ({str(error).partition(chr(10))[0]})")
            return
        if difference is not None:
            self._stop(f"a replay differs from the network itself: {difference}")
            return
        self._recorded[key] = recording

    def _stop(self, why: str) -> None:
        self._recorded.clear()
        self._runs.clear()
        self._why_not = why
        warnings.warn(
            f"CUDA graphs are off for a network, which runs without them from here on: {why}",
            stacklevel=2,
        )


def _replayed(recording: Recording, x: Tensor) -> Tensor:
    recording.given.copy_(x)
    recording.replay()
    return recording.found.clone()  # the next replay overwrites it


def disagreement(found: Tensor, expected: Tensor, precision: Precision) -> str | None:
    """Say how two results differ by more than two ways to the same numbers may.

    Args:
        found:
            (B, ...) floats.
        expected:
            The same shape.
        precision:
            That of the network: "fp32" may differ by 1e-5 of the root mean square, others by a
            cosine of 0.9999, both over the whole batch.

    Returns:
        None if they agree. Numbers that are not finite have to be equal.
    """
    if found.shape != expected.shape:
        return f"its shape is {tuple(found.shape)}, not {tuple(expected.shape)}"
    if torch.equal(found, expected):
        return None
    a, b = found.double().flatten(), expected.double().flatten()
    same = (a == b) | (a.isnan() & b.isnan())
    if not bool((same | (a.isfinite() & b.isfinite())).all()):
        return "numbers that are not finite"
    a, b = a[a.isfinite() & b.isfinite()], b[a.isfinite() & b.isfinite()]
    if not a.numel():
        return None
    if precision == "fp32":
        most, rms = float((a - b).abs().max()), float(b.square().mean().sqrt())
        return None if most <= FP32_OF_RMS * rms else f"by {most:.3g}, at a rms of {rms:.3g}"
    cosine = float(torch.nn.functional.cosine_similarity(a, b, 0))
    return None if cosine >= LOW_COSINE else f"a cosine of {cosine:.6f}"


class CudaRecorder:
    """Records runs on a CUDA device; all graphs of one recorder share their working memory.

    That is safe because they run one after the other in one stream, none reads what another left
    behind, and every result is copied out before the next replay.

    Args:
        device:
            "cuda:0", ...
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._pool: Any = None
        self._stream: Any = None  # one for all: freed memory of a pool belongs to its stream

    def __call__(self, network: Network, like: Tensor) -> Recording:
        """Record a run on zeros of the shape and type of `like`.

        Raises:
            RuntimeError: the network does what cannot be recorded, as waiting for a result.
        """
        with torch.cuda.device(self._device):
            given = torch.zeros(like.shape, dtype=like.dtype, device=self._device)
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            side = self._stream
            here = torch.cuda.current_stream(self._device)
            side.wait_stream(here)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    network(given)
            here.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads bring pixels to the device meanwhile: they allocate memory, which would
            # end a recording that watches the whole process.
            try:
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=side, capture_error_mode="thread_local"
                ):
                    found = network(given)
            finally:
                torch.cuda.set_stream(here)  # torch stays in the stream of a recording that failed
            self._pool = graph.pool()
        return Recording(given, found, graph.replay)
