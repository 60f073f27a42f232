"""The multi-path ConvGRU: gates by hand, any length, the loss that tolerates noise."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vadpipe.extractors.networks.multipath_gru import ConvGru, MultipathGru
from vadpipe.extractors.networks.video_encoder import EncoderOptions


def small() -> MultipathGru:
    torch.manual_seed(0)
    return MultipathGru(EncoderOptions(width=2))


def test_gates_by_hand() -> None:
    torch.manual_seed(0)
    cell = ConvGru(2)
    x = torch.randn(3, 4, 2, 5, 6)
    w, b = cell.inputs.weight, cell.inputs.bias
    assert b is not None
    u = torch.cat([cell.gates.weight, cell.state.weight])

    def part(i: int, frame: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        own = slice(2 * i, 2 * i + 2)
        given = functional.conv2d(frame, w[own], b[own], padding=1)
        return given + functional.conv2d(state, u[own], padding=1)

    with torch.no_grad():
        found, h = cell(x), torch.zeros(3, 2, 5, 6)
        for t in range(4):
            z = torch.sigmoid(part(0, x[:, t], h))
            r = torch.sigmoid(part(1, x[:, t], h))
            n = torch.tanh(part(2, x[:, t], r * h))
            h = (1 - z) * h + z * n
            assert torch.allclose(found[:, t], h, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_encodes_clips_of_any_length(frames: int) -> None:
    network, clips = small().eval(), torch.rand(2, 3, frames, 32, 16)
    with torch.no_grad():
        found = network(clips)
        shorter = network(clips[:, :, : max(1, frames - 1)])
    assert found.shape == (2, network.channels, frames, 2, 1)
    assert network.channels == 14
    first = slice(0, shorter.shape[2])
    assert torch.allclose(found[:, :, first], shorter, atol=1e-6), "no frame sees a later one"


def test_a_state_remembers_all_frames_before() -> None:
    network, clips = small().eval(), torch.rand(1, 3, 6, 16, 16)
    other = clips.clone()
    other[:, :, 0] = 0
    with torch.no_grad():
        assert not torch.equal(network(clips)[:, :, 5], network(other)[:, :, 5])


def test_paths_have_three_resolutions() -> None:
    with torch.device("meta"):
        network = MultipathGru(EncoderOptions())
        states = network._states(torch.empty(1, 3, 2, 256, 256))
        picture = network.predict(torch.empty(1, 3, 5, 256, 256))
    assert [tuple(each.shape[2:]) for each in states] == [
        (64, 64, 64),
        (128, 32, 32),
        (256, 16, 16),
    ]
    assert picture.shape == (1, 3, 256, 256)


def test_small_errors_cost_nothing_and_large_ones_their_excess() -> None:
    network, windows = small(), torch.rand(2, 3, 5, 16, 16)
    with torch.no_grad():
        found = (network.predict(windows) + 1) / 2
        near = windows.clone()
        near[:, :, 4] = found + 0.019
        assert float(network.objective(near)["total"]) == 0
        near[:, :, 4] = found - 0.12
        assert float(network.objective(near)["total"]) == pytest.approx(0.01, rel=1e-3)
        assert torch.allclose(network.estimate(near).squared, torch.tensor(0.0144), atol=1e-5)


def test_gradients_reach_every_weight() -> None:
    network = small()
    network.objective(torch.rand(2, 3, 5, 32, 32))["total"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
