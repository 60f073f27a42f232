"""scene_checks: closed forms of its numbers, and the same numbers at every resolution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.extractors.clips import Clip
from vadpipe.extractors.scene_checks import SceneChecks, SceneChecksConfig


def rows_of(frames: NDArray[np.uint8], index: list[int]) -> dict[str, NDArray[np.generic]]:
    at = np.array(index)
    clip = Clip(frames, at, at / 25, index[1], index[1] + 1)
    rows = SceneChecks(SceneChecksConfig()).extract([clip])["frame"]
    return {name: values[0] for name, values in rows.arrays.items()}


def plain(*greys: int) -> NDArray[np.uint8]:
    frames = [np.full((60, 80, 3), grey, np.uint8) for grey in greys]
    return np.stack(frames)


def test_a_plain_picture_has_its_grey_and_nothing_else() -> None:
    found = rows_of(plain(90, 100, 130), [4, 5, 6])
    assert found["checks"].tolist() == [100, 0, 0, 10]
    assert found["thumbnail"].shape == (24, 32)
    assert (found["thumbnail"] == 100).all()


def test_the_first_frame_is_compared_with_the_second() -> None:
    assert rows_of(plain(100, 100, 130), [0, 0, 1])["checks"][3] == 30


def test_a_video_of_one_frame_has_no_change() -> None:
    assert rows_of(plain(100, 100, 100), [0, 0, 0])["checks"][3] == 0


def test_contrast_is_that_of_two_halves() -> None:
    frames = plain(50, 50, 50)
    frames[:, :, 40:] = 150
    mean, spread = rows_of(frames, [4, 5, 6])["checks"][:2]
    assert mean == pytest.approx(100, abs=1)
    assert spread == pytest.approx(50, rel=0.02)


def test_a_blurred_picture_is_less_sharp_at_every_resolution() -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (15, 20)).astype(np.uint8)
    sharp = {}
    for scale in (32, 64):
        picture = np.kron(coarse, np.ones((scale, scale), np.uint8))
        frames = np.repeat(picture[None, :, :, None], 3, axis=3)
        found = rows_of(np.repeat(frames, 3, axis=0), [4, 5, 6])
        sharp[scale] = float(found["checks"][2])
        means = np.cumsum(np.cumsum(picture.astype(np.float64), 0), 1)
        k = scale // 2
        soft = (means[k:, k:] - means[:-k, k:] - means[k:, :-k] + means[:-k, :-k]) / k**2
        blurred = np.repeat(soft.astype(np.uint8)[None, :, :, None], 3, axis=3)
        lower = rows_of(np.repeat(blurred, 3, axis=0), [4, 5, 6])["checks"][2]
        assert lower < sharp[scale] - 0.5
    assert sharp[32] == pytest.approx(sharp[64], abs=0.1)


def test_a_very_wide_picture_still_has_a_thumbnail() -> None:
    frames = np.full((3, 4, 3000, 3), 77, np.uint8)
    assert (rows_of(frames, [4, 5, 6])["thumbnail"] == 77).all()
