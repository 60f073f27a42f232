"""Flow of a shifted or turned texture is its motion, by every method, size and thread."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest

from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.flow_colours import flow_colours
from vadpipe.extractors.optical_flow import Method, flow_between, grey_frames, scaled

METHODS = get_args(Method)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture that repeats at its borders, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-80 * (rows**2 + columns**2))).real
    grey = np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def moved(down: int, right: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Two frames: a texture, and the same moved."""
    first = texture(*size)
    return np.stack([first, np.roll(first, (down, right), (0, 1))])


def inner(flow: np.ndarray) -> np.ndarray:
    """Median of (right, down) off the borders, where the texture comes round."""
    return np.asarray(np.median(flow[8:-8, 8:-8], axis=(0, 1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("down", "right"), [(0, 2), (1, -2), (-2, 0)])
def test_the_flow_of_a_shift_is_the_shift(method: Method, down: int, right: int) -> None:
    (flow,) = flow_between(moved(down, right), method)
    assert flow.shape == (48, 64, 2) and flow.dtype == np.float32
    assert np.abs(inner(flow) - (right, down)).max() < 0.15


@pytest.mark.parametrize("method", METHODS)
def test_still_frames_have_no_flow(method: Method) -> None:
    (flow,) = flow_between(moved(0, 0), method)
    assert np.abs(inner(flow)).max() < 0.01


def test_every_frame_is_compared_with_the_next_one() -> None:
    first, second = moved(0, 2)
    there, back, still = flow_between(np.stack([first, second, first, first]))
    assert inner(there)[0] == pytest.approx(2, abs=0.15)
    assert inner(back)[0] == pytest.approx(-2, abs=0.15)
    assert np.abs(still).max() < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_rotation_has_the_flow_of_a_rotation_and_every_colour_at_its_place(
    method: Method,
) -> None:
    """A turn by 3 degrees clockwise: to the right above the centre, down on the right of it."""
    side, degrees = 64, 3.0
    first, centre = texture(side, side), (side - 1) / 2
    turn = cv2.getRotationMatrix2D((centre, centre), -degrees, 1.0)
    second = cv2.warpAffine(first, turn, (side, side), borderMode=cv2.BORDER_REFLECT)
    (flow,) = flow_between(np.stack([first, second]), method)
    y, x = np.mgrid[:side, :side] - centre
    angle = np.radians(degrees)
    cos, sin = np.cos(angle) - 1, np.sin(angle)
    expected = np.stack([cos * x - sin * y, sin * x + cos * y], -1)
    ring = (np.hypot(y, x) > 8) & (np.hypot(y, x) < 26)
    assert np.median(np.abs(flow - expected)[ring]) < 0.1
    drawn = flow_colours(flow, 2.0).astype(int)
    at = {"above": (12, 32), "right": (32, 52), "below": (52, 32), "left": (32, 12)}
    shown = {name: drawn[r - 2 : r + 3, c - 2 : c + 3].mean((0, 1)) for name, (r, c) in at.items()}
    reference = flow_colours(expected, 2.0).astype(int)
    for name, (r, c) in at.items():
        assert np.abs(shown[name] - reference[r, c]).max() < 30, name
    assert shown["above"].argmax() == 0 and shown["left"].argmin() == 1, "red; violet"


@pytest.mark.parametrize("method", METHODS)
def test_flow_of_every_method_is_scaled_with_the_size(method: Method) -> None:
    """Half as high and twice as wide: the same motion, so 2 x 2 and 2 / 2 pixels."""
    frames = moved(2, 2, (32, 48))
    (flow,) = flow_between(frames, method, size=(16, 96), scale=2.0)
    assert flow.shape == (16, 96, 2)
    assert np.abs(np.median(flow, axis=(0, 1)) - (4, 1)).max() < 0.4


@pytest.mark.parametrize("scale", [1.0, 1.5, 0.75])
def test_flow_is_in_pixels_of_the_size(scale: float) -> None:
    """Twice as high and three times as wide: the same motion, so 2 x 1 and 3 x 2 pixels."""
    (flow,) = flow_between(moved(1, 2), size=(96, 192), scale=scale)
    assert flow.shape == (96, 192, 2)
    assert np.abs(inner(flow) - (6, 2)).max() < 0.5


def test_threads_of_opencv_change_no_bit() -> None:
    found = []
    for threads in (1, 4):
        cv2.setNumThreads(threads)
        found.append(flow_between(moved(1, 2)))
    assert np.array_equal(*found)
    assert cv2.getNumThreads() == 1


def test_grey_is_that_of_rgb() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (3, 16, 16, 3))  # cannot be written
    grey = grey_frames(frames, (16, 16))
    assert grey[:, 0, 0].tolist() == [76, 150, 29]  # 0.299, 0.587 and 0.114 of 255


def test_what_cannot_be_computed_is_an_error() -> None:
    with pytest.raises(ExtractorError, match="two frames or more, not 1"):
        flow_between(moved(0, 0)[:1])
    with pytest.raises(ExtractorError, match="16 x 16 pixels or more, not 15 x 64"):
        flow_between(moved(0, 0, (15, 64)))
    with pytest.raises(ExtractorError, match="enlarge size or scale"):
        scaled((24, 32), 0.5)
    with pytest.raises(ExtractorError, match="no flow method 'lucas'; there are: dis, tvl1"):
        flow_between(moved(0, 0), "lucas")  # type: ignore[arg-type]
