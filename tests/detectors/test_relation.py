"""The relation network: attention against loops, its two ways to multiply, ablations, counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors.mil import count_parameters
from vadpipe.detectors.relation import NonLocal, RelationNetwork, initialise


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Double precision, and no parameter or statistic left at its start."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                low = 0.5 if name.endswith(("running_var", "norm.weight")) else -0.5
                value.copy_(low + torch.rand(value.shape, generator=generator, dtype=value.dtype))
    return module


@pytest.mark.parametrize("attention", ["scaled", "softmax"])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_non_local_against_loops(attention: str, length: int) -> None:
    block = randomised(NonLocal(4, attention))  # type: ignore[arg-type]
    assert isinstance(block, NonLocal)
    x = drawn(2, length, 4)
    theta, phi, g = block.theta(x), block.phi(x), block.g(x)
    expected = torch.zeros_like(g)
    for b, i in itertools.product(range(2), range(length)):
        dots = torch.stack([theta[b, i] @ phi[b, j] for j in range(length)])
        weights = dots / length if attention == "scaled" else torch.softmax(dots, 0)
        for j in range(length):
            expected[b, i] += weights[j] * g[b, j]
    assert torch.allclose(block(x), block.out(expected) + x, atol=1e-12)
    map_ = block.weights(x)
    assert torch.allclose(map_.sum(-1), torch.ones(2, length, dtype=torch.float64))
    if attention == "softmax":  # what is shown is what is used
        assert torch.allclose(torch.einsum("bij,bjc->bic", map_, g), expected, atol=1e-12)


def test_long_and_short_sequences_are_multiplied_from_two_sides() -> None:
    """The product changes sides at length = channels; padding the channels must change nothing."""
    block = randomised(NonLocal(8, "scaled"))
    assert isinstance(block, NonLocal)
    for length in (4, 5):  # 4 channels inside
        x = drawn(1, length, 8)
        theta, phi, g = block.theta(x), block.phi(x), block.g(x)
        attention = theta @ phi.mT / length
        expected = block.out(attention @ g) + x
        assert torch.allclose(block(x), expected, atol=1e-12)


def test_it_starts_with_an_idle_non_local_block() -> None:
    torch.manual_seed(0)
    network = RelationNetwork(64)
    initialise(network)
    assert network.non_local is not None
    x = torch.randn(2, 6, 16)
    assert torch.equal(network.non_local.eval()(x), x)
    for part in network.modules():
        if isinstance(part, nn.Conv1d):
            bound = (6 / (part.kernel_size[0] * (part.in_channels + part.out_channels))) ** 0.5
            assert part.weight.abs().max() <= bound
            assert part.weight.abs().max() > 0.8 * bound
            assert part.bias is None or not part.bias.any()


@pytest.mark.parametrize(("dilated", "non_local"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("fusion", [True, False])
def test_ablations_keep_the_shape_and_the_residual(
    dilated: bool, non_local: bool, fusion: bool
) -> None:
    network = RelationNetwork(16, fusion=fusion, dilated=dilated, non_local=non_local)
    randomised(network)
    x = drawn(3, 5, 16)
    difference = network(x) - x
    assert difference.shape == (3, 5, 16)
    assert difference.abs().max() > 0
    if not fusion:  # what is left out leaves the residual alone
        assert bool((difference[..., :12] == 0).all()) == (not dilated)
        assert bool((difference[..., 12:] == 0).all()) == (not non_local)
    assert (network.attention_columns(x) is None) == (not non_local)


def test_receptive_fields_are_those_of_the_dilations() -> None:
    network = randomised(RelationNetwork(8, fusion=False, non_local=False))
    x = drawn(1, 21, 8)
    moved = x.clone()
    moved[0, 10] += 1
    changed = (network(moved) - network(x)).abs().amax(dim=-1)[0] > 1e-9
    assert changed.nonzero()[:, 0].tolist() == [6, 8, 9, 10, 11, 12, 14]


def test_attention_columns_sum_to_the_length() -> None:
    network = randomised(RelationNetwork(16))
    assert isinstance(network, RelationNetwork)
    columns = network.attention_columns(drawn(3, 6, 16))
    assert columns is not None
    assert columns.shape == (3, 6)
    assert torch.allclose(columns.sum(dim=1), torch.full((3,), 6.0, dtype=torch.float64))


def test_parameters_at_full_width() -> None:
    with torch.device("meta"):
        assert count_parameters(RelationNetwork(2048)) == 23_603_968
