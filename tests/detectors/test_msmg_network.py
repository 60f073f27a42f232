"""The network of MSMG: pooling, heads that see time, statistics of single frames, decoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors.msmg_network import (
    TASKS,
    FrameDecoder,
    MSMGNetwork,
    PlaceHead,
    doublings,
    network_input,
    with_motion,
)
from vadpipe.extractors.networks.video_encoder import Cnn3dEncoder, EncoderOptions, VideoEncoder

T = 6
NO_SCENE = torch.zeros(2, dtype=torch.int64)


class Plain(VideoEncoder):
    """One convolution of single frames, and a batch norm."""

    channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)

    def forward(self, clips: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(clips))
        return found


def network(**options: object) -> MSMGNetwork:
    torch.manual_seed(0)
    return MSMGNetwork(Plain(), TASKS, T, **options)  # type: ignore[arg-type]


def test_heads_have_the_sizes_of_their_tasks_at_any_length() -> None:
    ours = network().eval()
    for frames in (1, 5, 6):
        rows = ours.clips(torch.rand(2, 3, frames, 4, 4), NO_SCENE)
        assert rows.shape == (2, 4, frames)
        sizes = {task: tuple(ours.head(task, rows).shape) for task in TASKS}
        assert sizes == {"continuity": (2, 2), "localisation": (2, T - 2), "estimation": (2, 128)}


def test_what_moves_is_enlarged_around_the_mean_of_a_clip() -> None:
    clip = torch.tensor([0.2, 0.4, 0.9]).reshape(1, 1, 3, 1, 1).expand(2, 3, 3, 4, 4)
    assert with_motion(clip, 1) is clip
    assert with_motion(clip, 3)[0, 0, :, 0, 0].tolist() == pytest.approx([-0.4, 0.2, 1.7])
    still = torch.rand(2, 3, 1, 4, 4)
    assert torch.equal(with_motion(still, 30), still)
    assert torch.allclose(with_motion(still.expand(-1, -1, 5, -1, -1), 30), still)
    plain, enlarged = network().eval(), network(motion_gain=3).eval()
    rows = plain.clips(with_motion(clip, 3), NO_SCENE)
    assert torch.equal(enlarged.clips(clip, NO_SCENE), rows)


def test_only_trained_tasks_have_a_head() -> None:
    assert list(MSMGNetwork(Plain(), ("localisation",), T).heads) == ["localisation"]


def test_after_a_pool_over_time_the_order_of_frames_is_lost_unless_the_head_sees_it() -> None:
    """With an encoder of single frames, nothing but the head can know a place."""
    clip = torch.rand(2, 3, T - 1, 4, 4)
    for position, blind in (("pooled", True), ("time_channel", False), ("unpooled", False)):
        ours = network(position=position).eval()
        there, back = (
            ours.head("localisation", ours.clips(each, NO_SCENE)) for each in (clip, clip.flip(2))
        )
        assert torch.allclose(there, back, atol=1e-6) == blind, position


def test_the_time_of_a_channel_goes_from_0_to_1() -> None:
    head = PlaceHead(1, T - 2, "time_channel")
    head.eval()
    with torch.no_grad():
        head.first.weight.zero_()
        head.first.weight[0, 1] = 1
        head.first.bias.zero_()
        head.last.weight.zero_()
        head.last.weight[:, 0] = 1
        head.last.bias.zero_()
    assert head(torch.rand(2, 1, 5)).tolist() == [[0.5] * (T - 2)] * 2  # mean of 0, 1/4, ... 1


def test_an_encoder_with_a_stride_in_time_is_stretched() -> None:
    head = PlaceHead(4, T - 2, "unpooled")
    assert head(torch.rand(2, 4, 2)).shape == (2, T - 2)


def test_statistics_of_frames_and_of_clips_are_apart() -> None:
    ours = network().train()
    for _ in range(200):
        ours.clips(torch.zeros(2, 3, 5, 4, 4), NO_SCENE)
        ours.frames(torch.ones(2, 3, 1, 4, 4), NO_SCENE)
    conv, norm = ours.encoder.conv, ours.encoder.norm
    dark = conv.bias.detach()
    bright = dark + conv.weight.detach().sum((1, 2, 3, 4))
    assert torch.allclose(norm.running_mean, dark, atol=1e-4)
    with ours.frame_statistics():
        assert torch.allclose(norm.running_mean, bright, atol=1e-4)
    assert torch.allclose(norm.running_mean, dark, atol=1e-4)
    ours.eval()
    with ours.frame_statistics():  # values at their own mean
        flat = ours.clips(torch.ones(1, 3, 1, 4, 4), NO_SCENE[:1])
    assert torch.allclose(flat[0, :, 0], norm.bias, atol=1e-2)
    kept = {name for name in ours.state_dict() if name.startswith("statistics.")}
    assert len(kept) == 4  # of the encoder and of the head of task 3, mean and variance


def test_a_frozen_encoder_has_one_set_of_statistics() -> None:
    encoder = Plain()
    encoder.freeze()
    ours = MSMGNetwork(encoder, TASKS, T)
    with ours.frame_statistics():
        assert not encoder.norm.running_mean.any()
    assert len(list(ours.statistics.buffers())) == 2  # type: ignore[union-attr]


def test_shared_statistics_are_those_of_the_encoder() -> None:
    ours = network(own_norms=False)
    with ours.frame_statistics():
        ours.frames(torch.ones(2, 3, 1, 4, 4), NO_SCENE)
    assert ours.statistics is None and ours.encoder.norm.running_mean.abs().sum() > 0


def test_the_heads_read_the_embedding_of_the_scene() -> None:
    ours = network(scenes=3, embedding=2).eval()
    assert ours.scenes is not None
    rows = ours.clips(torch.rand(4, 3, 2, 4, 4), torch.tensor([0, 1, 2, -1]))
    assert rows.shape == (4, 6, 2)
    weight = ours.scenes.weight
    wanted = torch.cat([weight, weight.mean(0, keepdim=True)])  # -1: an unknown scene
    assert torch.allclose(rows[:, 4:], wanted[:, :, None].expand(-1, -1, 2))
    assert ours.head("estimation", rows).shape == (4, 128)


def test_frames_are_scaled_and_resized() -> None:
    frames = torch.randint(256, (2, 3, 8, 6, 3), dtype=torch.uint8)
    found = network_input(frames, None)
    assert found.shape == (2, 3, 3, 8, 6)
    assert torch.equal(found, frames.permute(0, 4, 1, 2, 3) / 255)
    small = network_input(frames, 4)
    assert small.shape == (2, 3, 3, 4, 4)
    one = torch.nn.functional.interpolate(
        found[1, :, 2][None], (4, 4), mode="bilinear", antialias=True
    )
    assert torch.allclose(small[1, :, 2], one[0], atol=1e-6)
    assert small.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_the_decoder_returns_pictures_of_the_size_of_the_input(size: tuple[int, int]) -> None:
    encoder = Cnn3dEncoder(EncoderOptions(architecture="shallow+narrow"))
    ups = doublings(encoder, 5, size)
    assert ups == 3 and encoder.training
    decoder = FrameDecoder(encoder.channels, ups)
    maps = encoder(torch.rand(2, 3, 5, *size))
    assert decoder(maps, size).shape == (2, 3, *size)
    decoder(maps, size).mean().backward()
    assert all(p.grad is not None for p in decoder.parameters())
