from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from vadpipe.detectors import autoencoder
from vadpipe.detectors.autoencoder import Autoencoder, Discriminator, folded
from vadpipe.detectors.reconstruction import scaled_flow, scaled_frames


@pytest.mark.parametrize("shape", [(1, 3, 16, 32, 48), (2, 1, 8, 16, 16)])
def test_output_has_the_shape_of_the_input_and_the_range_of_tanh(shape: tuple[int, ...]) -> None:
    network = Autoencoder(shape[1], 3).eval()
    windows = torch.randn(shape)
    with torch.no_grad():
        code, out = network.encoder(windows), network(windows)
    assert code.shape == (shape[0], 8, shape[2] // 8, shape[3] // 16, shape[4] // 16)
    assert out.shape == windows.shape and out.abs().max() <= 1


def test_checkpointing_changes_no_gradient_and_no_statistic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again: list[object] = []
    checkpoint = autoencoder.checkpoint

    def counted(run: Any, x: torch.Tensor, **options: Any) -> Any:
        again.append(run)
        return checkpoint(run, x, **options)

    monkeypatch.setattr(autoencoder, "checkpoint", counted)
    torch.manual_seed(0)
    plain = Autoencoder(1, 3).train()
    saving = copy.deepcopy(plain)
    saving.checkpointing = True
    windows = torch.randn(2, 1, 8, 16, 16)
    for network in (plain, saving):
        network(windows).square().mean().backward()
    assert len(again) == 8, "every layer of one of them"
    for (name, ours), (_, theirs) in zip(
        plain.named_parameters(), saving.named_parameters(), strict=True
    ):
        assert torch.equal(ours.grad, theirs.grad), name  # type: ignore[arg-type]
    for (name, ours), (_, theirs) in zip(
        plain.named_buffers(), saving.named_buffers(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert all(
        layer.momentum == 0.1 for layer in saving.modules() if hasattr(layer, "running_mean")
    )


def test_the_discriminator_is_that_of_the_table() -> None:
    network = Discriminator()
    assert [tuple(p.shape) for p in network.parameters()] == [(128, 512), (128,), (1, 128), (1,)]
    assert network(torch.zeros(5, 512)).shape == (5,)


def test_folding_keeps_the_values_and_leaves_the_network_as_it_is() -> None:
    torch.manual_seed(0)
    network = Autoencoder(2, 3).train()
    windows = torch.randn(2, 2, 8, 16, 16)
    with torch.no_grad():
        network(windows)  # moves the statistics
        network.eval()
        before = network(windows)
        found = folded(network)(windows)
        assert torch.allclose(found, before, atol=1e-5) and torch.equal(network(windows), before)
    assert not any(isinstance(part, torch.nn.BatchNorm3d) for part in folded(network).modules())


@pytest.mark.usefixtures("one_thread")
def test_a_training_keeps_colours_innermost() -> None:
    """As windows are stored, without a copy: convolutions of a CPU take less time so."""
    network = Autoencoder(3, 6).train()
    seen: list[bool] = []

    def look(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        layout = torch.channels_last_3d
        seen.extend(each.is_contiguous(memory_format=layout) for each in (*given, out))

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            layer.register_forward_hook(look)
    frames = torch.randint(0, 256, (2, 8, 32, 32, 3), dtype=torch.uint8)
    network(scaled_frames(frames, 3))
    network(scaled_flow(torch.randn(2, 8, 32, 32, 2), 3, 1.0))
    assert len(seen) == 2 * 8 * 2 and all(seen)
