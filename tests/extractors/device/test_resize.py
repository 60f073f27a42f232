"""Resizing: Pillow's pictures to one grey level, and the same bits by both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vadpipe.extractors.device.resize import (
    Interpolation,
    resize_exactly,
    resize_frames,
    short_side,
)

SIDES = st.integers(1, 70)


def pixels(height: int, width: int, seed: int = 0, count: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((576, 768), (256, 341)), ((768, 576), (341, 256)), ((100, 100), (256, 256))],
)
def test_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert short_side(*size, 256) == expected


@pytest.mark.parametrize("size", [(20, 30), (64, 96), (37, 41), (100, 31)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_resize_is_pillow_s(size: tuple[int, int], kind: Interpolation) -> None:
    frames = pixels(48, 64)
    resized = resize_frames(frames, size, kind).numpy()
    assert resized.shape == (2, *size, 3) and resized.dtype == np.uint8
    method = Image.Resampling[kind.upper()]
    for frame, found in zip(frames.numpy(), resized, strict=True):
        image = Image.fromarray(frame).resize(size[::-1], method)
        assert np.abs(found.astype(int) - np.asarray(image)).max() <= 1


def test_resize_to_the_same_size_changes_nothing() -> None:
    frames = pixels(48, 64)
    assert resize_frames(frames, (48, 64)) is frames
    assert torch.equal(resize_exactly(frames, (48, 64)), frames)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["bilinear", "bicubic"]), st.integers(0, 9))
@example(576, 768, 256, 341, "bilinear", 0)
@example(1080, 1920, 256, 455, "bilinear", 1)
@example(480, 856, 224, 224, "bicubic", 2)
@example(64, 96, 480, 840, "bilinear", 3)
def test_both_ways_give_the_same_bits(
    height: int, width: int, h: int, w: int, kind: Interpolation, seed: int
) -> None:
    """What runs on other devices is torch's kernel of the CPU, written out."""
    frames = pixels(height, width, seed, count=1)
    assert torch.equal(resize_frames(frames, (h, w), kind), resize_exactly(frames, (h, w), kind))


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_flat_pictures_stay_flat(kind: Interpolation) -> None:
    for shade in (0, 1, 127, 254, 255):
        flat = torch.full((1, 33, 47, 3), shade, dtype=torch.uint8)
        for size in ((7, 9), (80, 100), (33, 5)):
            assert (resize_exactly(flat, size, kind) == shade).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_pixels_are_the_same_on_a_gpu(kind: Interpolation) -> None:
    frames = pixels(576, 768)
    for size in ((256, 341), (480, 840), (224, 224)):
        there = resize_frames(frames.cuda(), size, kind)
        assert torch.equal(there.cpu(), resize_frames(frames, size, kind))


def test_a_single_picture_lies_in_memory_as_many_do() -> None:
    """numpy's new axis has no stride: torch took such a picture for one of other channels."""
    picture = pixels(48, 64, count=1).numpy()[0]
    alone = resize_frames(torch.from_numpy(picture[None]), (20, 30))
    assert alone.is_contiguous(), "else copying it takes as long as resizing it"
    together = resize_frames(torch.from_numpy(np.stack([picture] * 3)), (20, 30))
    assert torch.equal(alone[0], together[1])
