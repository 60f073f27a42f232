"""MemAE: addressing, shrinkage and entropy by hand; any length and side."""

from __future__ import annotations

import math

import pytest
import torch

from vadpipe.extractors.networks.memae import MemAe, SparseMemory, entropy, grey, hard_shrunk
from vadpipe.extractors.networks.video_encoder import EncoderOptions


def small() -> MemAe:
    torch.manual_seed(0)
    return MemAe(EncoderOptions(width=3), items=6)


def test_shrinkage_in_closed_form() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    assert torch.allclose(hard_shrunk(weights, 0.2), torch.tensor([[0.625, 0.375, 0.0, 0.0]]))
    assert torch.equal(hard_shrunk(weights, 0.6), torch.zeros(1, 4)), "all of them are too small"
    assert torch.allclose(hard_shrunk(weights, 0.0), weights)


def test_addressing_by_hand() -> None:
    torch.manual_seed(1)
    memory = SparseMemory(3, 5).double()
    queries = torch.randn(4, 3).double()
    with torch.no_grad():
        read, weights = memory(queries)
    for k in range(4):
        q, cosines = queries[k].tolist(), []
        for item in memory.items.tolist():
            dot = sum(a * b for a, b in zip(q, item, strict=True))
            cosines.append(dot / math.hypot(*q) / math.hypot(*item))
        total = sum(math.exp(c) for c in cosines)
        w = [math.exp(c) / total for c in cosines]
        kept = [max(v - 1 / 5, 0) * v / (abs(v - 1 / 5) + 1e-12) for v in w]
        kept = [v / sum(kept) for v in kept]
        assert weights[k].tolist() == pytest.approx(kept)
        mixed = [sum(v * memory.items[n, c].item() for n, v in enumerate(kept)) for c in range(3)]
        assert read[k].tolist() == pytest.approx(mixed)


def test_entropy_of_one_item_and_of_all() -> None:
    assert float(entropy(torch.eye(4))) == pytest.approx(0, abs=1e-6)
    assert float(entropy(torch.full((3, 4), 0.25))) == pytest.approx(math.log(4))


def test_default_threshold_leaves_weights_at_the_start() -> None:
    torch.manual_seed(0)
    memory = SparseMemory(16, 200)
    with torch.no_grad():
        kept = memory.address(torch.randn(50, 16)) > 0
    assert kept.any(1).all() and not kept.all(1).any()


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        network = MemAe(EncoderOptions())
        code = network(torch.empty(1, 3, 16, 256, 256))
    assert code.shape == (1, 256, 2, 16, 16)
    assert network.memory.items.shape == (2000, 256)
    assert (network.channels, network.length, network.scored) == (256, 16, 8)


@pytest.mark.parametrize(("frames", "height", "width"), [(16, 16, 32), (11, 17, 20), (1, 16, 16)])
def test_encodes_and_reconstructs_any_length_and_side(frames: int, height: int, width: int) -> None:
    network, clips = small().eval(), torch.rand(2, 3, frames, height, width)
    with torch.no_grad():
        code, (found, weights) = network(clips), network.reconstruct(clips)
    size = (-(-frames // 8), -(-height // 16), -(-width // 16))
    assert code.shape == (2, network.channels, *size)
    assert found.shape == (2, 1, frames, height, width)
    assert weights.shape == (2 * math.prod(size), 6)
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)))


def test_each_place_reads_for_itself() -> None:
    """The weights are those of the code's places, in the order of (video, time, row, column)."""
    network, clips = small().eval(), torch.rand(2, 3, 9, 32, 16)
    with torch.no_grad():
        code, (_, weights) = network(clips), network.reconstruct(clips)
        one = network.memory.address(code[1, :, 1, 0, 0][None])
    assert torch.allclose(weights.view(2, 2, 2, 1, 6)[1, 1, 0, 0], one[0], atol=1e-6)


def test_objective_and_errors_are_of_grey_values() -> None:
    network, windows = small(), torch.rand(2, 3, 16, 16, 16)
    network.eval()
    terms = network.objective(windows)
    found, weights = network.reconstruct(windows)
    wanted = (windows * torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]).sum(1)
    by_hand = (found[:, 0] - (wanted * 2 - 1)).square().mean() + 2e-4 * entropy(weights)
    assert float(terms["total"].detach()) == pytest.approx(float(by_hand.detach()))
    squared = network.estimate(windows).squared
    by_hand = ((found[:, 0, 8] + 1) / 2 - wanted[:, 8]).square()
    assert torch.allclose(squared, by_hand, atol=1e-6)
    assert torch.allclose(grey(torch.ones(1, 3, 1, 1, 1)), torch.ones(1))


def test_gradients_reach_memory_encoder_and_decoder() -> None:
    network = small()
    network.objective(torch.rand(2, 3, 16, 32, 32))["total"].backward()  # type: ignore[no-untyped-call]
    grads = {name: p.grad for name, p in network.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    for name in ("memory.items", "encoder.0.weight", "decoder.0.weight"):
        assert grads[name].abs().sum() > 0, name  # type: ignore[union-attr]


def test_width_is_a_multiple_of_3() -> None:
    with pytest.raises(ValueError, match="multiple of 3"):
        MemAe(EncoderOptions(width=4))
