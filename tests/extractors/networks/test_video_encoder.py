"""Video encoders: any length, any side that they name, frozen norms, repeated frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vadpipe.extractors.networks.cnn3d import Cnn3d, layers_of
from vadpipe.extractors.networks.encoders import ENCODERS, EncoderName, build_encoder
from vadpipe.extractors.networks.multipath_gru import beginnings
from vadpipe.extractors.networks.video_encoder import (
    Cnn3dEncoder,
    EncoderOptions,
    I3dR50Encoder,
    InceptionEncoder,
    VideoEncoder,
    clips_of,
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


def sub_clips(window: int, first: int) -> list[list[int]]:
    """The clips of a window that lack an inner frame each, and the window without its last one."""
    frames = list(range(first, first + window))
    return [frames[:m] + frames[m + 1 :] for m in range(1, window - 1)] + [frames[:-1]]


@pytest.mark.parametrize("name", ["cnn3d", "unet", "memae", "mnad", "multipath_gru"])
def test_clips_of_the_same_frames_are_encoded_as_each_by_itself(name: EncoderName) -> None:
    torch.manual_seed(0)
    wide = name in ("unet", "memae", "mnad", "multipath_gru")
    options = EncoderOptions(architecture="shallow+narrow", width=3 if wide else None)
    encoder = build_encoder(name, options).eval()
    frames = torch.rand(10, 16, 32, 3)
    # two windows that overlap, one at the end with its last frame repeated
    clips = [*sub_clips(6, 0), *sub_clips(6, 2), [7, 8, 9, 9, 9], [4, 3, 2, 1, 0]]
    index = torch.tensor(clips)
    with torch.no_grad():
        expected, found = encoder(clips_of(frames, index)), encoder.gathered(frames, index)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.flatten(1).std(0).max() > 0  # clips differ


@pytest.mark.parametrize("name", ["unet", "mnad"])
def test_every_stack_of_a_window_is_encoded_once(name: EncoderName) -> None:
    encoder = build_encoder(name, EncoderOptions(width=3)).eval()
    clips = sub_clips(12, 0)
    stacks = {
        tuple(clip[max(0, at - back)] for back in (3, 2, 1, 0))
        for clip in clips
        for at in range(len(clip))
    }
    seen: list[int] = []
    encoder.encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    with torch.no_grad():
        encoder.gathered(torch.rand(12, 8, 8, 3), torch.tensor(clips))
    assert seen == [len(stacks)] and len(stacks) < 121 / 2


def test_equal_beginnings_run_through_the_gru_once() -> None:
    clips = sub_clips(12, 0)
    places = beginnings(torch.tensor(clips))
    assert [len(place.last) for place in places] == [
        len({tuple(clip[: at + 1]) for clip in clips}) for at in range(11)
    ]
    for at, place in enumerate(places):
        assert place.last[place.of_clip].tolist() == [clip[at] for clip in clips]
        if at:
            before = places[at - 1]
            assert place.before[place.of_clip].tolist() == before.of_clip.tolist()


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
