"""Video encoders: any length, any side that they name, frozen norms, repeated frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vadpipe.extractors.networks.cnn3d import Cnn3d, layers_of
from vadpipe.extractors.networks.encoders import ENCODERS, EncoderName, build_encoder
from vadpipe.extractors.networks.video_encoder import (
    Cnn3dEncoder,
    EncoderOptions,
    I3dR50Encoder,
    InceptionEncoder,
    VideoEncoder,
    repeated,
)

SMALL = EncoderOptions(architecture="shallow+narrow")


@pytest.fixture(params=ENCODERS, scope="module")
def on_meta(request: pytest.FixtureRequest) -> VideoEncoder:
    name: EncoderName = request.param
    with torch.device("meta"):
        return build_encoder(name, SMALL).eval()


@pytest.mark.parametrize("frames", [1, 2, 11])
def test_any_length_becomes_maps(on_meta: VideoEncoder, frames: int) -> None:
    side = -(-64 // on_meta.multiple) * on_meta.multiple
    assert on_meta.misfit(side, side) is None
    found = on_meta(torch.empty(2, 3, frames, side, side, device="meta"))
    assert found.dim() == 5
    assert found.shape[:2] == (2, on_meta.channels)
    assert min(found.shape[2:]) > 0


def test_the_smallest_side_is_enough(on_meta: VideoEncoder) -> None:
    side = -(-on_meta.smallest // on_meta.multiple) * on_meta.multiple
    assert min(on_meta(torch.empty(1, 3, 11, side, side, device="meta")).shape) > 0


def test_sides_that_do_not_fit_are_named() -> None:
    encoder = Cnn3dEncoder(SMALL)
    assert encoder.misfit(8, 8) is None
    assert "8 pixels high and wide, not 7x9" in str(encoder.misfit(7, 9))
    encoder.multiple = 4
    assert "multiples of 4, not 16x18" in str(encoder.misfit(16, 18))


def test_cnn3d_is_that_of_ssmtl_before_its_pool_over_time() -> None:
    torch.manual_seed(0)
    encoder = Cnn3dEncoder(SMALL).eval()
    pooled = Cnn3d(layers_of("shallow+narrow")).eval()
    pooled.load_state_dict(encoder.network.state_dict())
    x = torch.rand(2, 3, 5, 16, 24)
    with torch.no_grad():
        maps = encoder(x)
        assert maps.shape == (2, 32, 5, 2, 3)
        assert torch.equal(maps.amax(2), pooled(x))


def test_single_frames_and_short_clips_are_repeated() -> None:
    frame = torch.rand(2, 3, 1, 4, 4)
    assert torch.equal(repeated(frame, 3), frame.expand(-1, -1, 3, -1, -1))
    assert repeated(frame, 1) is frame
    clip = torch.rand(2, 3, 4, 4, 4)
    assert repeated(clip, 3) is clip
    longer = repeated(clip, 12, 7)
    assert torch.equal(longer[:, :, :4], clip)
    assert torch.equal(longer[:, :, 4:], clip[:, :, 3:].expand(-1, -1, 3, -1, -1))


def test_a_repeated_frame_is_a_clip_of_it() -> None:
    encoder = Cnn3dEncoder(EncoderOptions(architecture="shallow+narrow", frame_repeat=4)).eval()
    frame = torch.rand(1, 3, 1, 8, 8)
    assert torch.equal(encoder(frame), encoder(frame.expand(-1, -1, 4, -1, -1)))


class Seen(nn.Module):
    """In place of a network: what it is given."""

    def last_map(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(InceptionEncoder, -1.0, 1.0), (I3dR50Encoder, -0.45 / 0.225, 0.55 / 0.225)],
)
def test_values_are_mapped_to_what_the_weights_need(
    kind: type[InceptionEncoder | I3dR50Encoder], low: float, high: float
) -> None:
    with torch.device("meta"):
        encoder = kind(EncoderOptions())
    encoder.network = Seen()  # type: ignore[assignment]
    clip = torch.stack([torch.zeros(3, 8, 2, 2), torch.ones(3, 8, 2, 2)])
    found = encoder(clip)
    assert found.shape == clip.shape
    assert torch.allclose(found[0], torch.tensor(low)) and torch.allclose(
        found[1], torch.tensor(high)
    )


def test_frozen_norms_stay_in_training() -> None:
    encoder = Cnn3dEncoder(SMALL)
    encoder.freeze()
    encoder.train()
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm3d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    encoder(torch.rand(2, 3, 2, 8, 8)).sum().backward()
    assert encoder.training and not any(norm.training for norm in norms)
    assert all(p.grad is None for norm in norms for p in norm.parameters())
    after = [norm.running_mean for norm in norms if norm.running_mean is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) and before


def test_options_freeze_the_norms_of_pretrained_encoders() -> None:
    with torch.device("meta"):
        for name in ("inception_i3d", "i3d_r50"):
            encoder = build_encoder(name, EncoderOptions(norms="frozen"))
            norms = [part for part in encoder.train().modules() if isinstance(part, nn.BatchNorm3d)]
            assert norms and not any(norm.training for norm in norms)


def test_pretrained_weights_fit_without_their_classifier() -> None:
    for kind in ENCODERS.values():
        if kind.pretrained is None:
            continue
        with torch.device("meta"):
            own = kind.build(SMALL).get_submodule("network").state_dict()
        arrays = {name: np.empty(0) for name in kind.pretrained.reference()}
        kept = kind.pretrained.kept(arrays)
        assert kept.keys() == own.keys() and len(kept) < len(arrays)
        assert kind.pretrained.cards


def test_gradients_reach_the_first_layer() -> None:
    encoder = Cnn3dEncoder(SMALL)
    encoder(torch.rand(1, 3, 3, 8, 8)).square().mean().backward()
    first = next(encoder.parameters()).grad
    assert first is not None and first.abs().sum() > 0
