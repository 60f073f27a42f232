"""Video Swin: torchvision's own network, its weights, and the extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.video import Swin3D_B_Weights, Swin3D_S_Weights, Swin3D_T_Weights, swin3d_t

from tests.rows import arrays_of
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import load_video_network
from vadpipe.extractors.networks.video_swin import (
    BACKBONES,
    INDEX,
    Variant,
    VideoSwin,
    from_torchvision,
)
from vadpipe.extractors.video_swin import VideoSwinConfig, VideoSwinFeatures
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve
from vadpipe.extractors.weights.slots import NETWORK

pytestmark = pytest.mark.filterwarnings("ignore:.*not trained")
PUBLISHED = {
    "tiny": [Swin3D_T_Weights.KINETICS400_V1],
    "small": [Swin3D_S_Weights.KINETICS400_V1],
    "base": [Swin3D_B_Weights.KINETICS400_V1, Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1],
}
variants = pytest.mark.parametrize("variant", BACKBONES)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)


def on_meta(variant: Variant) -> VideoSwin:
    with torch.device("meta"):
        return VideoSwin(variant).eval()


def moving_clip(length: int, height: int, width: int) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (length, height, width, 3))
    index = np.arange(length)
    return Clip(frames.astype(np.uint8), index, index / 25.0, 0, length)


def random_state() -> dict[str, Tensor]:
    """A state dict of torchvision's network whose tensors all differ."""
    rng = torch.Generator().manual_seed(0)
    return {
        name: value
        if "index" in name
        else torch.randn(value.shape, generator=rng) * (1.0 if value.ndim == 1 else 0.05)
        for name, value in swin3d_t().state_dict().items()
    }


# ------------------------------------------------------------------------- network and cards


@variants
def test_size_as_published(variant: Variant) -> None:
    """Parameters and multiply-adds that torchvision states for 16 x 224 x 224."""
    meta = PUBLISHED[variant][0].meta
    assert sum(p.numel() for p in on_meta(variant).parameters()) == meta["num_params"]
    assert BACKBONES[variant].flops(16, 224, 224) / 2e9 == pytest.approx(meta["_ops"], rel=1e-3)


@variants
def test_cards_are_those_of_torchvision(variant: Variant) -> None:
    cards = BACKBONES[variant].cards
    assert len(cards) == len(PUBLISHED[variant])
    for card, weights in zip(cards, PUBLISHED[variant], strict=True):
        assert [source.url for source in card.sources] == [weights.url]  # type: ignore[union-attr]
        assert weights.url.endswith(card.file)
        top1 = weights.meta["_metrics"]["Kinetics-400"]["acc@1"]
        assert f"{top1:.1f} % top-1" in card.origin
        pixels = weights.transforms()
        np.testing.assert_allclose(card.mean, 255 * np.array(pixels.mean))
        np.testing.assert_allclose(card.std, 255 * np.array(pixels.std))
    assert BACKBONES[variant].features == on_meta(variant).classifier.in_features


@pytest.mark.parametrize(
    ("video", "last"),
    [
        ((16, 224, 224), (8, 7, 7)),
        ((32, 224, 224), (16, 7, 7)),
        ((7, 100, 130), (4, 4, 5)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
@torch.no_grad()
def test_last_map(video: tuple[int, ...], last: tuple[int, ...]) -> None:
    found = on_meta("tiny").last_map(torch.empty(1, 3, *video, device="meta"))
    assert tuple(found.shape) == (1, 768, *last)


@torch.no_grad()
def test_logits_are_those_of_torchvision() -> None:
    network, reference = VideoSwin("tiny").eval(), swin3d_t().eval()
    state = random_state()
    reference.load_state_dict(state)
    arrays = {name: value.numpy() for name, value in state.items()}
    ours = {name: torch.from_numpy(value) for name, value in from_torchvision(arrays).items()}
    network.load_state_dict(ours)
    videos = torch.randn(2, 3, 6, 40, 70, generator=torch.Generator().manual_seed(1))
    expected = reference(videos)
    torch.testing.assert_close(network.classify(network(videos)), expected, rtol=1e-4, atol=1e-4)
    assert float(expected.std()) > 0.01


# --------------------------------------------------------------------------------- extractor


def rows_of(
    config: VideoSwinConfig, weights: ResolvedWeights, clip: Clip
) -> dict[str, NDArray[Any]]:
    made = VideoSwinFeatures(config, weights={NETWORK: weights})
    made.load(Runtime(batch_size=2))
    return dict(arrays_of(made, [clip, clip]))


def test_a_file_of_the_published_layout(tmp_path: Path) -> None:
    state = random_state()
    torch.save(state, tmp_path / "swin3d_t-7615ae03.pth")
    config = VideoSwinConfig(clip_length=6, stride=6, resize=48, crop_size=40, logits=True)
    weights = resolve(
        VideoSwinFeatures.networks_for(config)[NETWORK], str(tmp_path / "swin3d_t-7615ae03.pth")
    )
    clip = moving_clip(6, 48, 64)
    rows = rows_of(config, weights, clip)
    assert rows["features"].shape == (2, 1, 768) and rows["logits"].shape == (2, 1, 400)
    reference = swin3d_t().eval()
    reference.load_state_dict(state)
    crop = torch.from_numpy(clip.frames[:, 4:44, 12:52].copy()).float()
    mean, std = (255 * torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = reference(((crop - mean) / std).permute(3, 0, 1, 2)[None])
    np.testing.assert_allclose(rows["logits"][0], expected.numpy(), rtol=2e-3, atol=2e-3)


def test_no_file_decides_where_biases_lie(tmp_path: Path) -> None:
    state = random_state()
    wrong = {n: torch.zeros_like(v) if n.endswith(INDEX) else v for n, v in state.items()}
    clip = moving_clip(6, 48, 64)
    config = VideoSwinConfig(clip_length=6, stride=6, resize=48, crop_size=40)
    rows = []
    for name, values in (("right", state), ("wrong", wrong)):
        torch.save(values, tmp_path / f"{name}.pth")
        weights = resolve(BACKBONES["tiny"].cards, str(tmp_path / f"{name}.pth"))
        rows.append(rows_of(config, weights, clip)["features"])
    np.testing.assert_array_equal(*rows)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="patch_embed"):
        from_torchvision({"conv1.weight": np.zeros(3, np.float32)})
    state = {name: value for name, value in random_state().items() if "head" not in name}
    torch.save(state, tmp_path / "swin3d_t-7615ae03.pth")
    with pytest.raises(WeightsError):
        file = resolve(BACKBONES["tiny"].cards, str(tmp_path / "swin3d_t-7615ae03.pth"))
        load_video_network(BACKBONES["tiny"].build, file, "fp32", Runtime(batch_size=1))


@variants
def test_settings_choose_the_network(variant: Variant) -> None:
    config = VideoSwinConfig(variant=variant)
    cards = VideoSwinFeatures.networks_for(config)[NETWORK]
    assert cards == BACKBONES[variant].cards
    made = VideoSwinFeatures(config, weights={NETWORK: ResolvedWeights(cards[0], "random:0", None)})
    assert made.arrays[0].shape == (1, BACKBONES[variant].features)
    assert made.flops(480, 640) == BACKBONES[variant].flops(16, 224, 224)
    assert all(card in VideoSwinFeatures.networks[NETWORK] for card in cards)
