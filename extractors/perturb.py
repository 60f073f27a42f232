"""Extractor `perturb`: spatial pseudo-anomalies, frames of which a part is in-painted.

A frame is resized, a mask is drawn, and what the mask covers is filled by an in-painter. Everything
that is drawn depends on the seed, the content of the video and the number of the frame. Pixels
outside of the mask are those of the resized frame, bit by bit. See docs/extractors/perturb.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from .base import ArraySpec, Config, Extractor, Precision, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule
from .detection.runs import decode_masks
from .device.pixels import tensor_of
from .device.resize import Size, resize_frames
from .draws import Draws
from .footage.resizing import Resize
from .inpainting.choices import CHOICES, InPainterName
from .inpainting.contract import painted
from .inpainting.masks import (
    LIMITS,
    SMALLEST,
    MaskPreset,
    ShapeLimits,
    moved_shape,
    random_mask,
    resized_mask,
)
from .networks import latent_inpainting
from .networks.latent_inpainting import MissingExtra
from .objects import DETECTOR, Objects, ObjectsConfig
from .weights.cards import ResolvedWeights
from .weights.slots import Slots

INPAINTER, SHAPES = "inpainter", "shapes"  # slots of weights
LAMA_SCORE = 0.5  # of an object whose shape is taken (LaMa, confidence_threshold)

# What finds the shapes of objects: settings of the extractor `objects`.
SHAPE_MAKERS: dict[str, dict[str, Any]] = {
    "motion": {"detector": "motion", "masks": "motion"},
    "maskrcnn": {"detector": "maskrcnn", "masks": "detector", "score": LAMA_SCORE},
}


class PerturbConfig(Config):
    """Settings of `perturb`.

    Attributes:
        inpainter: "latent_diffusion" (suppl. Sect. 2.1) is a network. "autoencoder" is a part of
            it, which paints nothing new: normal frames with the traces of the network. "telea",
            "navier_stokes" and "patch_mix" need no weights, and are not what the paper does.
        size: (height, width) that frames are resized to first, without regard to their aspect.
        stride: frames from one row to the next.
        random_masks: "medium_256" is LaMa's setting of this name, "class_default" what its
            generators draw without settings; the paper does not say which (suppl. Sect. 2.1).
        shapes: what finds objects whose shapes become masks at another place, "motion" or
            "maskrcnn" of the extractor `objects`; a picture without a shape takes a random mask
            (suppl. Sect. 2.1). Without a value all masks are random.
        least_mask: smallest share of the picture that a moved shape covers (LaMa: 0.02); a
            pedestrian of UCSD Ped2 covers 0.002.
        hold: so many frames in a row, counted from frame 0, draw the same random mask.
        steps: of the diffusion (suppl. Sect. 2.1: 50).
        keep_mask: keep the masks too.
        seed: of everything that is drawn.
    """

    inpainter: InPainterName = "latent_diffusion"
    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    stride: PositiveInt = 1
    random_masks: MaskPreset = "medium_256"
    shapes: Literal["motion", "maskrcnn"] | None = None
    least_mask: float = Field(default=LIMITS.least_mask, ge=0, lt=0.5)
    hold: PositiveInt = 1
    steps: int = Field(default=50, ge=1, le=500)
    keep_mask: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _size_suits_the_inpainter(self) -> Self:
        multiple = CHOICES[self.inpainter].multiple
        if min(self.size) < SMALLEST or any(side % multiple for side in self.size):
            also = f" that are multiples of {multiple}" if multiple > 1 else ""
            raise ValueError(
                f"{self.inpainter} takes sizes from {SMALLEST} on{also}, not {self.size}"
            )
        return self


class Perturb(Extractor[PerturbConfig]):
    """One picture a row, (height, width, 3) uint8 RGB, of which a part is in-painted."""

    name: ClassVar[str] = "perturb"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = PerturbConfig
    networks: ClassVar[Slots] = {
        INPAINTER: tuple({c.name: c for each in CHOICES.values() for c in each.cards}.values()),
        SHAPES: Objects.networks_for(ObjectsConfig(**SHAPE_MAKERS["maskrcnn"]))[DETECTOR],
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "telea": {"inpainter": "telea"},
        "patch_mix": {"inpainter": "patch_mix"},
        "shapes": {"shapes": "maskrcnn"},  # what the figures of the paper show
    }
    keeps_pixels: ClassVar[bool] = True
    pixel_array: ClassVar[str | None] = "perturbed"
    batch_size: ClassVar[int] = 8
    gpu_batch_size: ClassVar[int] = 16

    def __init__(
        self,
        config: PerturbConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        # Fifty steps of rounding add up, and a mask of another precision is another mask.
        super().__init__(config, weights=weights, precision="fp32")
        self._painter = CHOICES[config.inpainter].build(self.weights.get(INPAINTER), config.steps)
        self._objects: Objects | None = None
        if config.shapes is not None:
            given = {DETECTOR: self.weights[SHAPES]} if SHAPES in self.weights else {}
            self._objects = Objects(_shape_config(config.shapes), weights=given)
        self._limits = ShapeLimits(least_mask=config.least_mask)

    @classmethod
    def networks_for(cls, config: PerturbConfig) -> Slots:
        """The cards of the in-painter, and of what finds shapes, where they have networks."""
        slots = {INPAINTER: CHOICES[config.inpainter].cards}
        if config.shapes is not None:
            found = Objects.networks_for(_shape_config(config.shapes))
            slots[SHAPES] = found.get(DETECTOR, ())
        return {slot: cards for slot, cards in slots.items() if cards}

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The pictures, and on request the masks and whether a mask is a moved shape."""
        pixels = ("frame", "row", "column", "channel")
        specs = [ArraySpec("perturbed", "uint8", pixels, (*self.config.size, 3), role="pixels")]
        if self.config.keep_mask:
            specs.append(ArraySpec("mask", "uint8", pixels[:3], self.config.size))
        if self._objects is not None:
            specs.append(ArraySpec("shaped", "uint8", ("frame",), (), role="frame/shaped"))
        return tuple(specs)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames, with the context that shapes are found in."""
        reach = 0 if self._objects is None else self._objects.reach
        return ClipRule(1, self.config.stride, before=reach, after=reach)

    def resize_first(self, height: int, width: int) -> Resize | None:
        """The size of the rows; shapes are found in the pictures as they are."""
        return Resize(*self.config.size) if self._objects is None else None

    def computed_on(self, device: str) -> frozenset[str]:
        """Where the networks compute: the in-painter, and what finds shapes."""
        found = {device} if INPAINTER in self.weights else set()
        if SHAPES in self.weights and self._objects is not None:
            found |= self._objects.computed_on(device)
        return frozenset(found or {"cpu"})

    def load(self, runtime: Runtime) -> None:
        """Load the networks, if there are any.

        Raises:
            WeightsError: weights are damaged.
            MissingExtra: an optional package is not installed.
        """
        self._painter.load(runtime)
        if self._objects is not None:
            self._objects.load(runtime)

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Perturb the frame of each clip.

        Raises:
            ExtractorError: `load` was not called, or a network refuses the pictures.
            InPaintingError: the in-painter returned no pictures of this size.
        """
        at = self.clip_rule.before
        frames = _resized([clip.frames[at] for clip in clips], self.config.size)
        found = [self._mask(clip, int(clip.index[at])) for clip in clips]
        masks = np.stack([mask for mask, _ in found])
        seed = self.config.seed
        draws = [Draws("fill", seed, clip.content, int(clip.index[at])) for clip in clips]
        arrays: dict[str, NDArray[Any]] = {
            "perturbed": painted(self._painter, frames, masks, draws)
        }
        if self.config.keep_mask:
            arrays["mask"] = masks.astype(np.uint8)
        if self._objects is not None:
            arrays["shaped"] = np.array([shaped for _, shaped in found], np.uint8)
        return {"frame": one_row_each(clips, arrays)}

    def _mask(self, clip: Clip, index: int) -> tuple[NDArray[np.bool_], bool]:
        """The mask of a frame, and whether it is the shape of an object."""
        config = self.config
        held = index // config.hold
        if self._objects is not None:
            draws = Draws("shape", config.seed, clip.content, held)
            moved = moved_shape(self._shapes(self._objects, clip), draws, self._limits)
            if moved is not None:
                return moved, True
        draws = Draws("mask", config.seed, clip.content, held)
        return random_mask(draws, *config.size, config.random_masks), False

    def _shapes(self, objects: Objects, clip: Clip) -> NDArray[np.bool_]:
        """The objects of a frame at its new size, (n, height, width)."""
        rows = objects.extract([clip])
        count = int(rows["frame"].arrays["objects"][0])
        runs = rows["run"].arrays["mask_runs"]
        return resized_mask(decode_masks(runs, count, *clip.frames.shape[1:3]), *self.config.size)

    def flops(self, height: int, width: int) -> float:
        """Work of the networks for one frame; without the optional package it is not counted."""
        found = 0.0 if self._objects is None else self._objects.flops(height, width)
        if CHOICES[self.config.inpainter].cards:
            steps = self.config.steps if self.config.inpainter == "latent_diffusion" else 0
            with suppress(MissingExtra):
                found += latent_inpainting.flops(*self.config.size, steps)
        return found

    def recipe(self) -> dict[str, Any]:
        """Add what happens to the pixels, and all settings of what finds shapes."""
        recipe = {
            **super().recipe(),
            "pixels": {"colour": "RGB", "resize": "bilinear, antialias, uint8"},
        }
        if self._objects is not None:
            recipe["shapes"] = self._objects.recipe()
        return recipe


def _shape_config(maker: str) -> ObjectsConfig:
    return ObjectsConfig.model_validate(SHAPE_MAKERS[maker])


def _resized(frames: Sequence[NDArray[np.uint8]], size: Size) -> NDArray[np.uint8]:
    """Resize as the extractor `frames` does, so that the two differ in what is painted only."""
    found = [resize_frames(tensor_of(frame[None]), size).numpy() for frame in frames]
    return np.concatenate(found)
