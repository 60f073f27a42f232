"""The in-painters by name: their cards, the sizes that they take, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2

from ..networks import latent_inpainting
from ..weights.cards import ResolvedWeights, Weights
from .contract import InPainter
from .diffusion import DiffusionPainter
from .opencv import OpenCvPainter
from .patch_mix import PatchMix

InPainterName = Literal["latent_diffusion", "autoencoder", "telea", "navier_stokes", "patch_mix"]


@dataclass(frozen=True)
class InPainterChoice:
    """An in-painter by name.

    Attributes:
        build: makes it, from its weights (None where it takes none) and the number of steps.
        cards: what its slot takes; empty where it has no weights.
        multiple: height and width of a picture are multiples of this.
    """

    build: Callable[[ResolvedWeights | None, int], InPainter]
    cards: tuple[Weights, ...] = ()
    multiple: int = 1


def _opencv(method: int, weights: ResolvedWeights | None, steps: int) -> InPainter:
    return OpenCvPainter(method)


def _patch_mix(weights: ResolvedWeights | None, steps: int) -> InPainter:
    return PatchMix()


def _diffusion(weights: ResolvedWeights | None, steps: int) -> InPainter:
    assert weights is not None  # slots were checked when the extractor was made
    return DiffusionPainter(weights, steps)


def _autoencoder(weights: ResolvedWeights | None, steps: int) -> InPainter:
    assert weights is not None  # as above
    return DiffusionPainter(weights, None)


CHOICES: dict[InPainterName, InPainterChoice] = {
    "latent_diffusion": InPainterChoice(
        _diffusion, latent_inpainting.CARDS, latent_inpainting.PUBLISHED.multiple
    ),
    "autoencoder": InPainterChoice(
        _autoencoder, latent_inpainting.CARDS, latent_inpainting.PUBLISHED.multiple
    ),
    "telea": InPainterChoice(partial(_opencv, cv2.INPAINT_TELEA)),
    "navier_stokes": InPainterChoice(partial(_opencv, cv2.INPAINT_NS)),
    "patch_mix": InPainterChoice(_patch_mix),
}
