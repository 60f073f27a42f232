"""What every in-painter has promised: sizes, untouched pixels, independence of its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.draws import Draws
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.inpainting.choices import CHOICES, InPainterName
from vadpipe.extractors.inpainting.contract import InPainter, InPaintingError, painted
from vadpipe.extractors.inpainting.diffusion import DiffusionPainter
from vadpipe.extractors.networks.latent_inpainting import CARDS, Layout
from vadpipe.extractors.weights.cards import ResolvedWeights

TINY = Layout(16, (1, 2), 1, 2, 8, (1, 2), 16, 8)
RANDOM = ResolvedWeights(CARDS[0], "random:0", None)
SIZE = (24, 32)


def painter_of(name: InPainterName) -> InPainter:
    made = CHOICES[name].build(RANDOM if CHOICES[name].cards else None, 2)
    if isinstance(made, DiffusionPainter):
        steps = None if name == "autoencoder" else 2
        made = DiffusionPainter(RANDOM, steps, TINY)  # 400 million weights at the published size
    with torch.random.fork_rng():
        made.load(Runtime(threads=1))
    return made


def pictures(n: int = 3) -> tuple[np.ndarray, np.ndarray, list[Draws]]:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (n, *SIZE, 3), dtype=np.uint8)
    masks = np.zeros((n, *SIZE), bool)
    for i, mask in enumerate(masks):
        mask[4 + i : 14, 6 : 20 - i] = True
    return frames, masks, [Draws(i) for i in range(n)]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.filterwarnings("ignore:.*not trained weights")
def test_pixels_outside_of_the_mask_are_bit_equal(name: InPainterName) -> None:
    frames, masks, draws = pictures()
    painter = painter_of(name)
    found = painted(painter, frames, masks, draws)
    assert found.shape == frames.shape and found.dtype == np.uint8
    assert np.array_equal(found[~masks], frames[~masks])
    assert (found[masks] != frames[masks]).mean() > 0.5, "and the others are new"
    alone = painted(painter, frames[1:2], masks[1:2], [Draws(1)])
    assert np.array_equal(alone[0], found[1]), "whatever else is in the batch"


@pytest.mark.parametrize("name", ["latent_diffusion", "patch_mix"])
@pytest.mark.filterwarnings("ignore:.*not trained weights")
def test_the_draws_decide(name: InPainterName) -> None:
    frames, masks, _ = pictures(1)
    painter = painter_of(name)
    first, again, other = (painted(painter, frames, masks, [Draws(i)]) for i in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["telea", "navier_stokes"])
def test_opencv_continues_the_border_of_a_hole(name: InPainterName) -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8)[:, None], (1, 24, 32, 3)).copy()
    mask = np.zeros((1, 24, 32), bool)
    mask[:, 8:16, 12:20] = True
    holed = np.where(mask[..., None], np.uint8(0), ramp)
    found = painted(painter_of(name), holed, mask, [Draws()])
    assert np.abs(found.astype(int) - ramp).max() <= 40, "the hole itself is not looked at"


@pytest.mark.parametrize("name", ["telea", "navier_stokes"])
def test_threads_change_nothing(name: InPainterName) -> None:
    frames, masks, draws = pictures()
    several = CHOICES[name].build(None, 0)
    several.load(Runtime(threads=2))
    found = painted(several, frames, masks, draws)
    assert np.array_equal(found, painted(painter_of(name), frames, masks, draws))


def test_a_mixed_pixel_is_half_itself_and_half_another_one() -> None:
    frames, masks, _ = pictures(1)
    masks[:] = True
    found = painted(painter_of("patch_mix"), frames, masks, [Draws(5)])[0].astype(int)
    fitting = [
        (dy, dx)
        for dy in range(SIZE[0])
        for dx in range(SIZE[1])
        if np.array_equal(
            found, (frames[0].astype(int) + np.roll(frames[0], (dy, dx), (0, 1)) + 1) // 2
        )
    ]
    assert len(fitting) == 1, "moved by one step"
    (dy, dx) = fitting[0]
    assert 6 <= dy <= 18 and 8 <= dx <= 24, "of a quarter to three quarters of the sides"


class Wrong(InPainter):
    def __init__(self, shape: Sequence[int], dtype: type) -> None:
        self.answer = np.zeros(shape, dtype)

    def load(self, runtime: Runtime) -> None: ...

    def fill(self, frames: object, masks: object, draws: object) -> np.ndarray:
        return self.answer


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 24, 31, 3), np.uint8), ((2, 24, 32, 3), np.uint8), ((3, 24, 32, 3), np.float32)],
)
def test_other_pictures_than_asked_for_are_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(InPaintingError, match=r"Wrong returned .*for uint8 \(3, 24, 32, 3\)"):
        painted(Wrong(shape, dtype), *pictures())


class Meddling(InPainter):
    """Changes what it is given, and returns a black picture."""

    def load(self, runtime: Runtime) -> None: ...

    def fill(self, frames: np.ndarray, masks: np.ndarray, draws: object) -> np.ndarray:
        frames[:], masks[:] = 0, True
        return frames


def test_an_in_painter_reaches_no_pixel_outside_of_the_mask() -> None:
    frames, masks, draws = pictures()
    before = frames.copy(), masks.copy()
    found = painted(Meddling(), frames, masks, draws)
    assert np.array_equal(frames, before[0]) and np.array_equal(masks, before[1])
    assert np.array_equal(found[~masks], frames[~masks]) and not found[masks].any()


def test_what_is_no_array_is_refused() -> None:
    wrong = Wrong((3, 24, 32, 3), np.uint8)
    wrong.answer = wrong.answer.tolist()
    with pytest.raises(InPaintingError, match="Wrong returned list, not an array of pictures"):
        painted(wrong, *pictures())


@pytest.mark.parametrize("name", ["latent_diffusion", "autoencoder"])
@pytest.mark.filterwarnings("ignore:.*not trained weights")
def test_values_that_are_not_finite_become_no_picture(name: InPainterName) -> None:
    painter = painter_of(name)
    assert isinstance(painter, DiffusionPainter) and painter._network is not None
    with torch.no_grad():
        painter._network.vq.post_quant_conv.bias.fill_(1e38)  # finite, as a file may have it
        painter._network.vq.decoder.conv_in.weight.mul_(1e30)
    with pytest.raises(InPaintingError, match="inpainting_big returned values that are not finite"):
        painted(painter, *pictures(1))


def test_a_network_must_be_loaded_first() -> None:
    with pytest.raises(ExtractorError, match="call load"):
        painted(DiffusionPainter(RANDOM, 2, TINY), *pictures())
