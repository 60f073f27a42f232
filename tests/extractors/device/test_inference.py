"""Inference: precision, folding, normalisation, batches that fit."""

from __future__ import annotations

import copy
import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from vadpipe.extractors.base import Precision, PrecisionRequest, Runtime
from vadpipe.extractors.device import inference
from vadpipe.extractors.device.inference import (
    COMPILED_FOLDER,
    COMPILED_SHAPES,
    VideoNetwork,
    fold_batch_norms,
    keep_compiled_code_private,
    prepare,
    resolve_precision,
)
from vadpipe.extractors.device.micro_batch import MicroBatches
from vadpipe.extractors.device.tuning import processor
from vadpipe.extractors.errors import ExtractorError

SOAK = os.environ.get("VADPIPE_SOAK") == "1"

# --------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("has_bf16", "request_", "expected"),
    [
        (True, "auto", "bf16"),
        (False, "auto", "fp32"),
        (True, "fp32", "fp32"),
        (False, "fp32", "fp32"),
        (True, "bf16", "bf16"),
    ],
)
def test_precision_on_a_cpu(
    has_bf16: bool,
    request_: PrecisionRequest,
    expected: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "_cpu_has_bf16", lambda: has_bf16)
    assert resolve_precision(request_, "cpu") == expected


@pytest.mark.parametrize(
    ("has_bf16", "request_", "alternatives"),
    [(False, "bf16", "fp32"), (True, "fp16", "bf16, fp32"), (False, "fp16", "fp32")],
)
def test_precision_that_a_cpu_lacks(
    has_bf16: bool,
    request_: PrecisionRequest,
    alternatives: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "_cpu_has_bf16", lambda: has_bf16)
    with pytest.raises(ExtractorError, match=f"does not do {request_}; it does {alternatives} "):
        resolve_precision(request_, "cpu")


def test_bf16_is_not_offered_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert resolve_precision("auto", "cpu") == "fp32"


@pytest.mark.parametrize(
    ("has_bf16", "expected"), [(True, ("bf16", "fp16", "fp32")), (False, ("fp16", "fp32"))]
)
def test_precision_on_cuda(
    has_bf16: bool, expected: tuple[Precision, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    assert resolve_precision("auto", "cuda:0") == expected[0]
    for precision in expected:
        assert resolve_precision(precision, "cuda") == precision
    with pytest.raises(ExtractorError, match=r"no device 'cuda:1' \(1 CUDA devices"):
        resolve_precision("auto", "cuda:1")


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_device_that_does_not_exist(device: str) -> None:
    with pytest.raises(ExtractorError, match=device):
        resolve_precision("auto", device)


# --------------------------------------------------------------------------------- preparing


class Block(nn.Module):
    """Convolution and norm side by side, a sequence of them, and a norm after something else."""

    norm_of: ClassVar[dict[str, str]] = {"conv": "norm", "0": "1"}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm3d(4, eps=1e-3)
        self.down = nn.Sequential(nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4))
        self.act = nn.ReLU()
        self.last = nn.BatchNorm3d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.act(self.down(self.norm(self.conv(x)))))
        return result


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    block = Block().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm3d):
            for values in (module.weight.data, module.running_var, module.running_mean):
                assert values is not None
                values.uniform_(0.5, 1.5)
    return block


@torch.inference_mode()
def test_folding_keeps_the_numbers(block: Block) -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    before = block(x)
    fold_batch_norms(block, block.norm_of)
    kinds = [type(module).__name__ for module in block.modules()]
    assert kinds.count("BatchNorm3d") == 1  # the one after the ReLU stays
    torch.testing.assert_close(block(x), before, rtol=1e-5, atol=1e-6)


class Misleading(nn.Module):
    """The norm registered right after `first` normalises something else."""

    norm_of: ClassVar[dict[str, str]] = {"second": "norm"}

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 3, 1)
        self.norm = nn.BatchNorm3d(3)
        self.second = nn.Conv3d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.second(self.first(x).relu()))
        return result


@torch.inference_mode()
def test_only_what_the_network_names_is_folded() -> None:
    torch.manual_seed(0)
    network = Misleading().eval()
    for values in (network.norm.weight.data, network.norm.running_mean, network.norm.running_var):
        assert values is not None
        values.uniform_(0.5, 1.5)
    x = torch.randn(1, 3, 2, 3, 4)
    before = network(x)
    silent = prepare(copy.deepcopy(network), "fp32", "cpu")
    torch.testing.assert_close(silent(x), before, rtol=1e-5, atol=1e-6)
    network.norm_of = {}  # type: ignore[misc]
    unfolded = prepare(network, "fp32", "cpu")
    torch.testing.assert_close(unfolded(x), before, rtol=1e-5, atol=1e-6)
    assert isinstance(silent.norm, nn.Identity) and isinstance(unfolded.norm, nn.BatchNorm3d)
    with pytest.raises(ExtractorError, match=r"Misleading has no batch norm 'bn' beside .* 'conv'"):
        fold_batch_norms(network, {"conv": "bn"})


@torch.inference_mode()
def test_prepared_network(block: Block) -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    before = block(x)
    block.train()
    network = prepare(block, "fp32", "cpu")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert block.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(x), before, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------------- running


class Mean(nn.Module):
    """A network that gives the mean of each channel, and notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        assert videos.is_contiguous(memory_format=torch.channels_last_3d)
        self.batches.append(len(videos))
        return videos.mean((2, 3, 4))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 8, 8)])
def test_normalised_pixels_are_those_of_the_definition(
    precision: Precision, shape: tuple[int, int, int]
) -> None:
    """In every bit, also of crops, which are views of larger pictures."""
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    network = VideoNetwork(Mean(), mean, std, precision, Runtime(batch_size=4))
    large = torch.randint(0, 256, (2, *shape[:1], 9, 11, 3), dtype=torch.uint8)
    for videos in (large, large[:, :, 1 : 1 + shape[1], 2 : 2 + shape[2]], large.flip(-2)):
        values = (videos.float() - torch.tensor(mean)) / torch.tensor(std)
        expected = values.to(inference.DTYPES[precision]).permute(0, 4, 1, 2, 3)
        assert torch.equal(network.normalise(videos), expected)


def test_normalisation_and_layout() -> None:
    runtime = Runtime(batch_size=8)
    network = VideoNetwork(Mean(), (0.0, 127.5, 255.0), (1.0, 127.5, 255.0), "fp32", runtime)
    videos = torch.zeros(2, 3, 4, 5, 3, dtype=torch.uint8)
    videos[1] = 255
    expected = [[0.0, -1.0, -1.0], [255.0, 1.0, 0.0]]
    torch.testing.assert_close(network(videos), torch.tensor(expected))
    assert videos[1].min() == 255  # the caller's pixels are left alone


def mean_network(
    network: nn.Module, tmp_path: Path, batch_size: int | None = None, compile: bool = False
) -> VideoNetwork:
    """Pixels as they are through a network that keeps its batch sizes in the test's folder."""
    runtime = Runtime(batch_size=batch_size, compile=compile)
    sizes = MicroBatches(tmp_path / "tuning.json")
    return VideoNetwork(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "fp32", runtime, sizes)


def shades(count: int) -> torch.Tensor:
    """Videos (count, 2, 4, 4, 3) of one shade each."""
    shade = torch.arange(count, dtype=torch.uint8).reshape(count, 1, 1, 1, 1)
    return shade.expand(count, 2, 4, 4, 3).contiguous()


def test_a_batch_size_that_is_told_is_taken_and_not_tried_out(tmp_path: Path) -> None:
    mean = Mean()
    rows = mean_network(mean, tmp_path, batch_size=5)(shades(5))
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert mean.batches == [5] and not (tmp_path / "tuning.json").exists()


def test_the_fastest_size_is_tried_out_once_and_remembered(tmp_path: Path) -> None:
    mean = Mean()
    network = mean_network(mean, tmp_path)
    assert network(shades(7))[:, 0].tolist() == list(range(7))
    tried = list(mean.batches)
    ((key, size),) = json.loads((tmp_path / "tuning.json").read_text()).items()
    assert "Mean fp32 2x4x4" in key and size & (size - 1) == 0
    assert tried[:6] == [1, 1, 1, 2, 2, 2], "sizes are tried from the smallest on"
    other = Mean()
    assert mean_network(other, tmp_path)(shades(7))[:, 0].tolist() == list(range(7))
    assert sum(other.batches) == 7, "the next process reads it"
    longer = shades(7).repeat(1, 2, 1, 1, 1)
    network(longer)
    assert len(json.loads((tmp_path / "tuning.json").read_text())) == 2, "another shape is new"


class Greedy(Mean):
    """A network whose device runs out of memory from some size on."""

    def __init__(self, most: int, error: type[BaseException] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most = most
        self.error = error

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        if len(videos) > self.most:
            raise self.error("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return super().forward(videos)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("forced", [True, False])
def test_out_of_memory_halves_the_batch_and_goes_on(
    error: type[BaseException], forced: bool, tmp_path: Path
) -> None:
    greedy = Greedy(1000, error)
    network = mean_network(greedy, tmp_path, batch_size=16 if forced else None)
    network(shades(16))  # tried out while there was enough
    for most in (7, 3, 1):
        greedy.most = most
        greedy.batches.clear()
        assert network(shades(16))[:, 0].tolist() == list(range(16)), "each row once, in order"
        assert max(greedy.batches) <= most and sum(greedy.batches) == 16
    greedy.batches.clear()
    network(shades(16))
    assert sum(greedy.batches) == 16, "it knows by now"
    greedy.most = 0
    with pytest.raises(ExtractorError, match="not enough memory for a single item of Greedy"):
        network(shades(16))


def test_other_errors_are_not_taken_for_want_of_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        mean_network(Broken(), tmp_path)(shades(4))
    with pytest.raises(RuntimeError, match="something else"):
        mean_network(Broken(), tmp_path, batch_size=4)(shades(4))


class Broken(nn.Module):
    """A network with a mistake in it."""

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")


@pytest.mark.slow
def test_compiled_networks_see_one_shape_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller last batch is filled up, and what fills it is dropped.

    The short form traces the graph and runs it as it is; the long form compiles it too.
    """
    if not SOAK:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(1)).eval().requires_grad_(False)
    (tmp_path / "tuning.json").write_text("{}")
    plain = mean_network(conv, tmp_path, batch_size=4)
    compiled = mean_network(conv, tmp_path, compile=True)
    key = f"{processor('cpu')} {compiled._what(clips(1)[0])}"
    compiled._sizes.tuning.note(key, 4, keep=False)
    for count in (4, 3, 9):
        videos = clips(count)
        expected = torch.cat([plain(videos[i : i + 4]) for i in range(0, count, 4)])
        torch.testing.assert_close(compiled(videos), expected, rtol=1e-5, atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    if SOAK:
        assert any(Path(os.environ[COMPILED_FOLDER]).iterdir()), "torch obeys the variable"


def test_compiled_code_lies_where_no_other_user_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default of torch is a folder in /tmp, and the files in it are run."""
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "vadpipe" / "compiled"
    monkeypatch.setenv(COMPILED_FOLDER, "given")
    mean_network(Mean(), tmp_path, compile=True)
    assert os.environ[COMPILED_FOLDER] == "given" and not folder.exists()
    monkeypatch.delenv(COMPILED_FOLDER)
    mean_network(Mean(), tmp_path, compile=True)
    assert os.environ[COMPILED_FOLDER] == str(folder) and folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.write_text("")
    monkeypatch.delenv(COMPILED_FOLDER)
    with pytest.raises(ExtractorError, match=COMPILED_FOLDER):
        keep_compiled_code_private()


def clips(count: int) -> torch.Tensor:
    """Random videos (count, 3, 8, 8, 3)."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, 8, 8, 3), dtype=torch.uint8, generator=generator)


def test_networks_take_turns_in_one_thread(tmp_path: Path) -> None:
    """For all callers: no two batches at once, always in the lane, with the given threads."""
    seen: list[tuple[int, int]] = []
    inside = threading.Lock()

    class Watching(Mean):
        def forward(self, videos: torch.Tensor) -> torch.Tensor:
            assert inside.acquire(blocking=False), "two batches at once"
            seen.append((threading.get_ident(), torch.get_num_threads()))
            inside.release()
            assert torch.is_inference_mode_enabled()
            return super().forward(videos)

    runtime = Runtime(threads=1, batch_size=4)
    network = VideoNetwork(Watching(), (0.0,) * 3, (1.0,) * 3, "fp32", runtime)
    callers = [threading.Thread(target=lambda: network(shades(4))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(seen) == 8 and len(set(seen)) == 1 and seen[0][1] == 1


@torch.inference_mode()
def test_convolutions_agree_in_both_layouts() -> None:
    """What channels last rests on: the layout in memory does not change a convolution."""
    x, weight = torch.randn(1, 3, 4, 6, 6), torch.randn(5, 3, 3, 3, 3)
    last = torch.channels_last_3d
    a = functional.conv3d(x, weight)
    b = functional.conv3d(x.contiguous(memory_format=last), weight.contiguous(memory_format=last))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_takes_the_batch_that_is_told(tmp_path: Path) -> None:
    """Batches are not filled up unless a size is asked for."""
    seen: list[tuple[int, ...]] = []

    class Noting(nn.Module):
        def forward(self, videos: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(videos.shape))
            return videos.mean((2, 3, 4))

    network = mean_network(Noting(), tmp_path, batch_size=4, compile=True)
    assert len(network(shades(3))) == 3
    assert {shape[0] for shape in seen} == {3}
    # an archive has frames of many sizes
    assert network.turn(lambda: torch._dynamo.config.recompile_limit) >= COMPILED_SHAPES
