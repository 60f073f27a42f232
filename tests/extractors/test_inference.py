"""Inference: precision, folding, resizing, normalisation, micro-batches."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional

from vadpipe.extractors import inference
from vadpipe.extractors.base import ExtractorError, Precision, PrecisionRequest
from vadpipe.extractors.inference import (
    CPU_PIXELS,
    VideoNetwork,
    fold_batch_norms,
    prepare,
    resize_frames,
    resolve_precision,
    short_side,
)

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
    """Convolution and norm side by side, a sequence of them, and a norm behind something else."""

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
    assert kinds.count("BatchNorm3d") == 1  # the one behind the ReLU stays
    torch.testing.assert_close(block(x), before, rtol=1e-5, atol=1e-6)


class Misleading(nn.Module):
    """The norm registered right behind `first` normalises something else."""

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


# ------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize(
    ("size", "expected"),
    [((576, 768), (256, 341)), ((768, 576), (341, 256)), ((100, 100), (256, 256))],
)
def test_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert short_side(*size, 256) == expected


@pytest.mark.parametrize("size", [(20, 30), (64, 96), (37, 41), (100, 31)])
def test_resize_is_pillow_s(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    resized = resize_frames(frames, size).numpy()
    assert resized.shape == (2, *size, 3) and resized.dtype == np.uint8
    for frame, found in zip(frames, resized, strict=True):
        image = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
        assert np.abs(found.astype(int) - np.asarray(image)).max() <= 1


def test_resize_to_the_same_size_changes_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    frames.flags.writeable = False  # as decoders may hand them over
    np.testing.assert_array_equal(resize_frames(frames, (48, 64)).numpy(), frames)


class Mean(nn.Module):
    """A network that gives the mean of each channel, and notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        assert videos.is_contiguous(memory_format=torch.channels_last_3d)
        self.batches.append(len(videos))
        return videos.mean((2, 3, 4))


def test_normalisation_and_layout() -> None:
    network = VideoNetwork(Mean(), (0.0, 127.5, 255.0), (1.0, 127.5, 255.0), "fp32", "cpu")
    videos = torch.zeros(2, 3, 4, 5, 3, dtype=torch.uint8)
    videos[1] = 255
    expected = [[0.0, -1.0, -1.0], [255.0, 1.0, 0.0]]
    torch.testing.assert_close(network(videos), torch.tensor(expected))
    assert videos[1].min() == 255  # the caller's pixels are left alone


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 9), side=st.sampled_from([16, 224, 317, 500]))
def test_micro_batches_cover_the_batch_in_order(count: int, side: int) -> None:
    mean = Mean()
    network = VideoNetwork(mean, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "fp32", "cpu")
    shade = torch.arange(count, dtype=torch.uint8).reshape(count, 1, 1, 1, 1)
    videos = shade.expand(count, 16, side, side, 3)  # no memory
    parts = [len(part) for part in network.parts(videos)]
    assert sum(parts) == count
    assert all(part == 1 or part * 16 * side * side <= CPU_PIXELS for part in parts)
    small = network(videos[:, :1, :2, :2].contiguous())
    torch.testing.assert_close(small[:, 0], torch.arange(count, dtype=torch.float32))


@torch.inference_mode()
def test_convolutions_agree_in_both_layouts() -> None:
    """What channels last rests on: the layout in memory does not change a convolution."""
    x, weight = torch.randn(1, 3, 4, 6, 6), torch.randn(5, 3, 3, 3, 3)
    last = torch.channels_last_3d
    a = functional.conv3d(x, weight)
    b = functional.conv3d(x.contiguous(memory_format=last), weight.contiguous(memory_format=last))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
