"""The U-Net that predicts frames: sizes of the paper, shortcuts, losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vadpipe.extractors.networks.frame_estimation import gradient_loss, intensity_loss
from vadpipe.extractors.networks.unet_prediction import UnetEncoder, UnetPrediction
from vadpipe.extractors.networks.video_encoder import EncoderOptions


def small() -> UnetPrediction:
    torch.manual_seed(0)
    return UnetPrediction(EncoderOptions(width=4))


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        network = UnetPrediction(EncoderOptions())
        levels = network.encoder(torch.empty(1, 12, 256, 256))
        picture = network.predict(torch.empty(1, 3, 5, 256, 256))
    assert [tuple(each.shape[1:]) for each in levels] == [
        (64, 256, 256),
        (128, 128, 128),
        (256, 64, 64),
        (512, 32, 32),
    ]
    assert picture.shape == (1, 3, 256, 256)
    assert (network.channels, network.length, network.scored) == (512, 5, 4)


def test_layers_are_two_convolutions_a_level_with_a_pool_between_levels() -> None:
    torch.manual_seed(0)
    encoder = UnetEncoder(3, 2)
    x = picture = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        found = encoder(picture)
        for i, level in enumerate(encoder.levels):
            x = functional.max_pool2d(x, 2) if i else x
            for layer in (level[0], level[2]):
                x = torch.relu(functional.conv2d(x, layer.weight, layer.bias, padding=1))
            assert torch.allclose(found[i], x, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_encodes_clips_of_any_length(frames: int) -> None:
    network, clips = small().eval(), torch.rand(2, 3, frames, 16, 24)
    with torch.no_grad():
        found = network(clips)
        assert found.shape == (2, network.channels, frames, 2, 3)
        alone = network(clips[:, :, : max(1, frames - 1)])
    assert torch.allclose(found[:, :, 0], alone[:, :, 0], atol=1e-6), "no frame sees a later one"


def test_prediction_reads_only_the_frames_before() -> None:
    network, windows = small().eval(), torch.rand(1, 3, 5, 16, 16)
    other = windows.clone()
    other[:, :, 4] = 0
    with torch.no_grad():
        found = network.predict(windows)
        assert torch.equal(found, network.predict(other))
        other[:, :, 0] = 0
        assert not torch.equal(found, network.predict(other))
    assert found.abs().max() <= 1


def test_objective_and_errors() -> None:
    network, windows = small(), torch.rand(2, 3, 5, 16, 16)
    found, wanted = network.predict(windows), windows[:, :, 4] * 2 - 1
    terms = network.objective(windows)
    by_hand = intensity_loss(found, wanted) + gradient_loss(found, wanted)
    assert terms["total"].item() == pytest.approx(by_hand.item())
    squared = network.estimate(windows).squared
    by_hand = ((found + 1) / 2 - windows[:, :, 4]).square().mean(1)
    assert torch.allclose(squared, by_hand, atol=1e-6)
    terms["total"].backward()  # type: ignore[no-untyped-call]
    grads = {name: p.grad for name, p in network.named_parameters() if p.ndim > 1}
    silent = [name for name, grad in grads.items() if grad is None or not grad.any()]
    assert not silent
