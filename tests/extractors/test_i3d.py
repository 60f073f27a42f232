"""What the I3D extractors share: crops, settings, the way of the pixels. The network is a toy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from tests.rows import arrays_of
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.i3d import CROP_ORDER, I3DConfig, I3DFeatures, centre_of, ten_crop
from vadpipe.extractors.networks.i3d import Backbone, I3d, from_state_dict
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights, Weights
from vadpipe.extractors.weights.slots import NETWORK

pytestmark = pytest.mark.filterwarnings("ignore:.*not trained")

CARD = Weights(
    name="toy.random",
    file="toy.pt",
    sha256=None,
    sources=(),
    layout="own",
    licence="none",
    origin="nowhere",
    mean=(10.0, 20.0, 30.0),
    std=(2.0, 4.0, 8.0),
)
RANDOM = ResolvedWeights(CARD, "random:0", None)


class Toy(I3d):
    """One convolution that tells left from right, a norm, a classifier."""

    norm_of: ClassVar[dict[str, str]] = {"conv": "norm"}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 5, (1, 2, 3), bias=False)
        self.norm = nn.BatchNorm3d(5)
        self.fc = nn.Linear(5, 400)

    def last_map(self, videos: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(videos)).relu()
        return result

    @property
    def classifier(self) -> nn.Linear:
        return self.fc


class ToyFeatures(I3DFeatures):
    name = "toy"
    version = 1
    networks = {NETWORK: (CARD,)}  # noqa: RUF012
    backbone = Backbone("toy", Toy, 5, (CARD,), min_frames=2, min_side=3)


def extractor(**config: Any) -> ToyFeatures:
    made = ToyFeatures(
        I3DConfig(**{"clip_length": 4, "resize": None, **config}), weights={NETWORK: RANDOM}
    )
    made.load(Runtime(batch_size=8))
    return made


def moving_clip(height: int, width: int, seed: int = 0) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    return as_clip(frames)


def as_clip(frames: NDArray[np.uint8]) -> Clip:
    index = np.arange(len(frames))
    return Clip(np.ascontiguousarray(frames), index, index / 25.0, 0, len(frames))


# ------------------------------------------------------------------------------------- crops

sides = st.integers(1, 9)


@settings(max_examples=80, deadline=None)
@given(crop=st.tuples(sides, sides), more=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_ten_crops_are_torchvision_s(crop: tuple[int, int], more: tuple[int, int]) -> None:
    height, width = crop[0] + more[0], crop[1] + more[1]
    video = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    expected = vision.ten_crop(video.permute(0, 3, 1, 2), list(crop))
    found = ten_crop(video, crop)
    assert len(found) == 10
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.permute(0, 3, 1, 2), theirs)


def test_crops_are_views() -> None:
    video = torch.zeros(2, 8, 9, 3, dtype=torch.uint8)
    crops = ten_crop(video, (4, 4))
    assert {crop.untyped_storage().data_ptr() for crop in crops[:5]} == {
        video.untyped_storage().data_ptr()
    }
    assert len({crop.untyped_storage().data_ptr() for crop in crops[5:]}) == 1


def test_halves_go_to_the_even_number() -> None:
    assert centre_of((13, 15), (8, 8)) == (2, 4)  # 2.5 and 3.5
    with pytest.raises(ExtractorError, match=r"a crop of 8 x 9 does not fit into 8 x 8 pixels"):
        centre_of((8, 8), (8, 9))


# -------------------------------------------------------------------------------- extractor


def by_hand(picture: Tensor) -> tuple[Tensor, Tensor]:
    """(T, H, W, 3) -> features and logits, with the network as it is."""
    from vadpipe.extractors.weights.load import load_tensors

    network = Toy().eval()
    tensors = load_tensors(RANDOM, network.state_dict())
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    video = (picture.float() - torch.tensor(CARD.mean)) / torch.tensor(CARD.std)
    features = network(video.permute(3, 0, 1, 2)[None])
    return features[0], network.fc(features)[0]


@torch.no_grad()
def test_a_row_of_ten_crops_is_the_network_on_each_of_them() -> None:
    clips = [moving_clip(11, 14, seed) for seed in range(2)]
    made = extractor(crops=10, crop_size=6, logits=True)
    rows = arrays_of(made, clips)
    for spec in made.arrays:
        assert spec.dims[:2] == ("snippet", "crop") and dict(spec.attrs)["crop_order"] == CROP_ORDER
        assert rows[spec.name].shape == (2, *spec.shape) and rows[spec.name].dtype == np.float32
    assert made.arrays[0].shape == (10, 5)
    for i, clip in enumerate(clips):
        pictures = vision.ten_crop(torch.from_numpy(clip.frames).permute(0, 3, 1, 2), [6, 6])
        for k, picture in enumerate(pictures):
            features, logits = by_hand(picture.permute(0, 2, 3, 1))
            np.testing.assert_allclose(rows["features"][i, k], features, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(rows["logits"][i, k], logits, rtol=1e-4, atol=1e-3)


def test_a_mirrored_video_swaps_the_halves_of_the_crops() -> None:
    frames = moving_clip(11, 14).frames
    made = extractor(crops=10, crop_size=6)
    straight = arrays_of(made, [as_clip(frames)])["features"][0]
    mirrored = arrays_of(made, [as_clip(frames[:, :, ::-1])])["features"][0]
    np.testing.assert_array_equal(mirrored, np.concatenate([straight[5:], straight[:5]]))
    assert np.abs(straight[0] - straight[5]).max() > 0


def test_one_crop_is_the_centre_or_the_whole_frame() -> None:
    clip = moving_clip(11, 14)
    ten = arrays_of(extractor(crops=10, crop_size=6), [clip])["features"]
    one = extractor(crop_size=6)
    assert one.arrays[0].attrs == ()
    np.testing.assert_allclose(arrays_of(one, [clip])["features"], ten[:, 4:5], rtol=1e-5)
    whole = arrays_of(extractor(), [clip])["features"]
    features, _ = by_hand(torch.from_numpy(clip.frames))
    np.testing.assert_allclose(whole[0, 0], features.detach(), rtol=1e-4, atol=1e-5)


def test_crops_are_cut_after_the_resize() -> None:
    clip = moving_clip(24, 32)
    found = arrays_of(extractor(resize=12, crops=10, crop_size=8), [clip])["features"]
    small = torch.nn.functional.interpolate(
        torch.from_numpy(clip.frames).permute(0, 3, 1, 2), (12, 16), mode="bilinear", antialias=True
    )
    pixels = as_clip(small.permute(0, 2, 3, 1).numpy())
    expected = arrays_of(extractor(crops=10, crop_size=8), [pixels])["features"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crops": 10}, "10 crops need a crop_size"),
        ({"crops": 5, "crop_size": 8}, "1 or 10"),
        ({"crops": 10, "crop_size": 257}, "crop_size 257 is larger than resize 256"),
        ({"crop_size": 225, "resize": (256, 224)}, r"larger than resize \(256, 224\)"),
    ],
)
def test_bad_settings(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        I3DConfig(**config)


def test_what_the_network_does_not_take() -> None:
    limits = "toy takes clips of 2 frames and of 3 x 3 pixels at least, not"
    with pytest.raises(ExtractorError, match=f"{limits} 1 frames of 3 x 3"):
        extractor(clip_length=1)
    with pytest.raises(ExtractorError, match=f"{limits} 4 frames of 2 x 2"):
        extractor(crop_size=2)
    with pytest.raises(ExtractorError, match=f"{limits} 4 frames of 2 x 9"):
        extractor().extract([moving_clip(2, 9)])
    assert extractor().flops(2, 9) == 0  # an estimate goes on


def test_flops_count_every_crop() -> None:
    one = 2 * 5 * 3 * 6 * (4 * 5 * 4)  # kernels of 3 x 1 x 2 x 3 at 4 x 5 x 4 places
    assert extractor(crop_size=6).flops(100, 200) == one
    assert extractor(crop_size=6, crops=10).flops(100, 200) == 10 * one
    assert extractor().flops(6, 6) == one
    assert extractor(resize=(6, 6)).flops(100, 200) == one


def test_state_dicts_inside_dicts() -> None:
    value = np.zeros(2, np.float32)
    found = from_state_dict({"state_dict/module.fc.bias": value}, "fc.bias")
    assert found["fc.bias"] is value
    with pytest.raises(LayoutError, match=r"it has no 'fc.weight'"):
        from_state_dict({"fc.bias": value}, "fc.weight")
