"""Recorded networks: which shapes are recorded, and what is done where a replay is not the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.device.graphs import (
    RUNS_BEFORE,
    WARM_UPS,
    CudaRecorder,
    Graphs,
    Recording,
    disagreement,
)
from vadpipe.extractors.device.inference import VideoNetwork, load_video_network
from vadpipe.extractors.networks.inception_i3d import CARDS, InceptionI3d
from vadpipe.extractors.weights.cards import ResolvedWeights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Recorder:
    """Records as CUDA does: the memory is fixed, and nothing is computed before a replay.

    Args:
        change: what a replay does to the right result.
    """

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda found: found) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0
        self._change = change

    def __call__(self, network: Callable[[Tensor], Tensor], like: Tensor) -> Recording:
        self.shapes.append(tuple(like.shape))
        given = torch.zeros(like.shape, dtype=like.dtype)
        found = torch.full_like(network(given), torch.nan)

        def replay() -> None:
            self.replays += 1
            found.copy_(self._change(network(given)))

        return Recording(given, found, replay)


class Counting:
    """Sums of the items of a batch; notes how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.double().sum(1, keepdim=True).float()


def batch(count: int, seed: int = 0) -> Tensor:
    """(count, 5) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 5), dtype=torch.uint8, generator=generator)


def graphs(network: Callable[[Tensor], Tensor], record: Recorder, **more: int) -> Graphs:
    return Graphs(network, "fp32", record, **more)


def test_a_shape_that_comes_back_is_replayed_with_new_pixels() -> None:
    record = Recorder()
    run = graphs(Counting(), record)
    results = []
    for seed in range(RUNS_BEFORE + 4):
        x = batch(4, seed)
        results.append((run(x), x.sum(1, keepdim=True).float()))
        assert record.shapes == ([(4, 5)] if seed >= RUNS_BEFORE else [])
    assert record.replays == 4, "one to check it, and three"
    assert run.shapes == [(4, 5)] and run.why_not is None
    for found, expected in results:  # after all replays: no result was overwritten by another
        assert torch.equal(found, expected)


def test_pixels_that_lie_apart_are_replayed_too() -> None:
    run = graphs(Counting(), Recorder())
    large = batch(16)
    for _ in range(RUNS_BEFORE + 2):
        found = run(large[::2])
    assert run.shapes and torch.equal(found, large[::2].sum(1, keepdim=True).float())


def test_rare_shapes_and_those_beyond_the_limit_run_as_they_are() -> None:
    record, network = Recorder(), Counting()
    run = graphs(network, record, most=2)
    for count in (4, 3, 2, 1):
        for seed in range(RUNS_BEFORE if count == 1 else RUNS_BEFORE + 3):
            x = batch(count, seed)
            assert torch.equal(run(x), x.sum(1, keepdim=True).float())
    assert record.shapes == [(4, 5), (3, 5)] == run.shapes


def test_types_are_told_apart() -> None:
    record = Recorder()
    run = graphs(Counting(), record)
    for _ in range(RUNS_BEFORE + 1):
        assert run(batch(2).float()).dtype == torch.float32
        run(batch(2))
    assert len(record.shapes) == 2 and run.why_not is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found * (1 + 1e-4), "differs from the network itself: by "),
        (lambda found: found[:1].expand_as(found), "differs from the network itself"),
        (lambda found: torch.zeros_like(found), "differs from the network itself"),
        (lambda found: found * torch.nan, "numbers that are not finite"),
    ],
)
def test_a_replay_that_differs_is_not_used(change: Callable[[Tensor], Tensor], why: str) -> None:
    """An input that was baked in, say: the result of zeros for every batch."""
    record = Recorder(change)
    run = graphs(Counting(), record)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in range(3 * RUNS_BEFORE):
            x = batch(4, seed)
            assert torch.equal(run(x), x.sum(1, keepdim=True).float())
    assert len(said) == 1 and why in str(said[0].message)
    assert len(record.shapes) == 1 and not run.shapes and why in (run.why_not or "")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_what_cannot_be_recorded_runs_as_it_is(error: Exception) -> None:
    tried = []

    def refuse(network: Callable[[Tensor], Tensor], like: Tensor) -> Recording:
        tried.append(like.shape)
        raise error

    run = Graphs(Counting(), "fp32", refuse)
    with pytest.warns(UserWarning, match="CUDA graphs are off") as said:
        for _ in range(2 * RUNS_BEFORE):
            found = run(batch(4))
    assert torch.equal(found, batch(4).sum(1, keepdim=True).float()) and len(tried) == 1
    assert len(said) == 1 and "\n" not in str(said[0].message)
    assert str(error).partition("\n")[0] in (run.why_not or "")


def test_errors_of_the_network_itself_are_the_callers() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("a mistake in the network")

    run = Graphs(broken, "fp32", Recorder())
    for _ in range(RUNS_BEFORE + 2):
        with pytest.raises(RuntimeError, match="a mistake in the network"):
            run(batch(4))
    assert run.why_not is None


class Greedy(nn.Module):
    """A network whose device runs out of memory while graphs hold some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.full: Callable[[], bool] = lambda: False
        self.batches: list[int] = []

    def forward(self, videos: Tensor) -> Tensor:
        if self.full():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.batches.append(len(videos))
        return videos.float().mean((2, 3, 4))


def test_graphs_give_their_memory_back_before_batches_shrink() -> None:
    network = Greedy()
    runtime = Runtime(batch_size=4)
    held = VideoNetwork(network, (0.0,) * 3, (1.0,) * 3, "fp32", runtime)
    held.use_graphs(Recorder())
    assert held.graphs is not None
    videos = torch.randint(0, 256, (4, 2, 8, 8, 3), dtype=torch.uint8)
    expected = videos.float().mean((1, 2, 3))
    for _ in range(RUNS_BEFORE + 2):
        torch.testing.assert_close(held(videos), expected)
    assert held.graphs.shapes == [(4, 2, 8, 8, 3)]
    used = held.graphs
    network.full = lambda: bool(used.shapes)  # another shape finds no room beside them
    network.batches.clear()
    with pytest.warns(UserWarning, match="no memory left beside them"):
        more = held(videos[:3])
    torch.testing.assert_close(more, expected[:3])
    assert network.batches == [3] and not held.graphs.shapes, "the batch is as large as before"


def test_a_cpu_has_no_graphs() -> None:
    runtime = Runtime(batch_size=4, cuda_graphs=True)
    assert VideoNetwork(Greedy(), (0.0,) * 3, (1.0,) * 3, "fp32", runtime).graphs is None


@pytest.mark.parametrize(
    ("precision", "error", "fine"),
    [
        ("fp32", 0.0, True),
        ("fp32", 3e-6, True),
        ("fp32", 3e-5, False),
        ("bf16", 1e-3, True),
        ("bf16", 5e-2, False),
        ("fp16", 1e-3, True),
    ],
)
def test_tolerances_are_those_between_ways(precision: Precision, error: float, fine: bool) -> None:
    expected = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    assert (disagreement(expected + error * noise, expected, precision) is None) is fine


def test_numbers_that_are_not_finite_have_to_be_equal() -> None:
    odd = torch.tensor([[1.0, torch.inf, -torch.inf, torch.nan]])
    assert disagreement(odd.clone(), odd, "fp16") is None
    assert disagreement(odd * torch.tensor([1.0, 1.0, -1.0, 1.0]), odd, "fp16") is not None
    assert disagreement(torch.ones(1, 4), odd, "fp16") is not None
    assert disagreement(torch.ones(2, 4), torch.ones(1, 4), "fp32") is not None
    nothing = torch.full((1, 4), torch.nan)
    assert disagreement(nothing.clone(), nothing, "fp32") is None


# ---------------------------------------------------------------------------- order of CUDA's calls


class FakeCuda:
    """What `CudaRecorder` calls of torch.cuda; like it, a failed recording keeps its stream."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.default = self.stream = "default"
        self.calls: list[tuple[str, Any]] = []
        self.made = 0
        names = ("Stream", "current_stream", "set_stream", "CUDAGraph", "graph")
        for name in names:
            patch.setattr(torch.cuda, name, getattr(self, f"_{name}"))
        patch.setattr(torch.cuda, "stream", self._in_stream)
        patch.setattr(torch.cuda, "device", lambda _: nullcontext())

    def _Stream(self, device: Any) -> Any:
        self.made += 1
        return FakeStream(f"side {self.made}")

    def _current_stream(self, device: Any = None) -> Any:
        return FakeStream(self.stream)

    def _set_stream(self, stream: Any) -> None:
        self.stream = stream.name

    @contextmanager
    def _in_stream(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream.name
        yield
        self.stream = before

    def _CUDAGraph(self) -> Any:
        return SimpleNamespace(
            pool=lambda: "pool", replay=lambda: self.calls.append(("replay", self.stream))
        )

    @contextmanager
    def _graph(self, graph: Any, **options: Any) -> Iterator[None]:
        self.calls.append(("record", {**options, "stream": options["stream"].name}))
        self.stream = options["stream"].name
        yield
        self.stream = self.default


@dataclass(frozen=True)
class FakeStream:
    name: str

    def wait_stream(self, other: FakeStream) -> None:
        assert other.name != self.name


def test_a_recording_warms_up_aside_and_leaves_other_threads_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, inputs = FakeCuda(monkeypatch), []

    def network(x: Tensor) -> Tensor:
        inputs.append((cuda.stream, int(x.sum())))
        return x.float()

    record = CudaRecorder("cpu")
    for pool in (None, "pool"):
        inputs.clear()
        recording = record(network, batch(3))
        assert inputs == [("side 1", 0)] * (WARM_UPS + 1), "on zeros, beside the stream of networks"
        options = {"pool": pool, "stream": "side 1", "capture_error_mode": "thread_local"}
        assert cuda.calls[-1] == ("record", options) and cuda.stream == "default"
        recording.replay()
        assert cuda.calls[-1] == ("replay", "default")
        assert recording.given.shape == (3, 5) and recording.given.dtype == torch.uint8


def test_a_recording_that_fails_leaves_the_stream_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)

    def network(x: Tensor) -> Tensor:
        if cuda.calls:
            raise RuntimeError("operation not permitted when stream is capturing")
        return x.float()

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder("cpu")(network, batch(3))
    assert cuda.calls and cuda.stream == "default"


# ------------------------------------------------------------------------------------- on a GPU


RANDOM = ResolvedWeights(CARDS[0], "random:0", None)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore:random weights")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_replays_on_a_gpu_are_the_network(precision: Precision) -> None:
    plain = load_video_network(InceptionI3d, RANDOM, precision, Runtime("cuda:0", batch_size=8))
    runtime = Runtime("cuda:0", batch_size=8, cuda_graphs=True)
    replayed = load_video_network(InceptionI3d, RANDOM, precision, runtime)
    assert replayed.graphs is not None
    generator = torch.Generator().manual_seed(0)
    for _ in range(RUNS_BEFORE + 3):
        for count in (2, 3):
            shape = (count, 16, 64, 64, 3)
            videos = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).cuda()
            found, expected = replayed(videos), plain(videos)
            assert disagreement(found, expected, precision) is None
    assert replayed.graphs.why_not is None and len(replayed.graphs.shapes) == 2


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_refuses_to_record_what_waits_for_it() -> None:
    """And goes on working afterwards."""

    def waits(x: Tensor) -> Tensor:
        return x.float() * float(x.float().mean())

    run = Graphs(waits, "fp32", CudaRecorder("cuda:0"))
    x = torch.ones(4, 5, device="cuda:0")
    stream = torch.cuda.current_stream()
    with pytest.warns(UserWarning, match="CUDA graphs are off"):
        for _ in range(RUNS_BEFORE + 2):
            assert torch.equal(run(x), x)
    assert torch.cuda.current_stream() == stream
    assert torch.equal((x + 1).cpu(), torch.full((4, 5), 2.0))
