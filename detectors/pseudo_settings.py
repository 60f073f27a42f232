"""Settings of the pseudo-anomaly system; the defaults are the published ones."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ..extractors.networks.conv3d_coder import WIDTH, layer_widths
from .autoencoder import TIME_MULTIPLE
from .base import Config
from .flow_mixup import FlowMixup
from .indicators import ETA, PARTS, Eta, Norm, Part, Preset
from .precision import Precision
from .pseudo_clips import Partner, SpatialKind
from .reconstruction import Border, Measure, Reduction


class PseudoAnomalyConfig(Config):
    """Settings of `pseudo_anomaly`."""

    eta: Preset | Eta = Field(
        default="ucsd_ped2",
        description="weights of the three indicators (eq. 4), or the data set whose weights are "
        "taken; a part with weight 0 is not trained and needs no features",
    )
    learn_eta: bool = Field(
        default=False,
        description="learn the weights that are not 0 on held-out normal footage and its "
        "pseudo-anomalies",
    )
    spatial: tuple[SpatialKind, ...] = Field(
        default=("perturbed",),
        min_length=1,
        description="pseudo-anomalies of frames: perturbed (in-painted frames of a twin), patch "
        "and skip_frames (LNTRA)",
    )
    p_s: float = Field(
        default=0.4, ge=0, le=1, description="share of clips replaced by pseudo-anomalies"
    )
    p_t: float = Field(default=0.5, ge=0, le=1, description="the same share of flow windows")
    partner: Partner = Field(
        default="same_video", description="where the flow that is mixed in comes from"
    )
    patches: FlowMixup = Field(
        default=FlowMixup(), description="sizes, movement and mixing of patches, in stored pixels"
    )
    length: int = Field(
        default=16, ge=8, multiple_of=TIME_MULTIPLE, description="frames of a window"
    )
    channels: Literal[1, 3] = Field(default=3, description="of frames; 1: grey (LNTRA)")
    flow_channels: Literal[2, 3] = Field(
        default=3, description="3: both directions and the magnitude; 2: without magnitude"
    )
    flow_limit: float = Field(
        default=20.0,
        gt=0,
        description="pixels a frame, of the stored size, that are scaled to 1; faster is cut off",
    )
    width: int = Field(
        default=WIDTH, ge=3, description="channels of the first layer; 96 is the published one"
    )
    epochs: int = Field(default=60, ge=1, description="of both autoencoders (LNTRA)")
    steps: int | None = Field(
        default=None, ge=1, description="batches of each autoencoder; None: `epochs`"
    )
    batch_size: int = Field(default=4, ge=1, description="windows (LNTRA)")
    lr: float = Field(default=1e-4, gt=0, description="of Adam, constant")
    features: Literal["frame", "snippet"] = Field(
        default="frame", description="role of the features that the discriminator reads"
    )
    semantic_epochs: int = Field(default=20, ge=1, description="of the discriminator")
    semantic_steps: int | None = Field(
        default=None, ge=1, description="batches of the discriminator; None: `semantic_epochs`"
    )
    semantic_batch: int = Field(
        default=256, ge=2, multiple_of=2, description="features; half of them are perturbed"
    )
    precision: Precision = Field(
        default="fp32",
        description="bf16: layers of the autoencoders run in bfloat16, in training and in scoring; "
        "losses and weights are fp32, and so are norms in training; the discriminator is trained "
        "like that and scores in fp32",
    )
    checkpointing: bool = Field(
        default=False, description="compute inner layers twice to save memory; equal results"
    )
    scored_frame: int = Field(
        default=8, ge=0, description="frame of a window that the window scores, from 0 (LNTRA)"
    )
    stride: PositiveInt = Field(
        default=1, description="frames between two windows that score; 4 scores the middle four"
    )
    border: Border = Field(
        default="drop",
        description="drop: frames before and after all scored ones have no row (LNTRA); "
        "replicate: the first and the last frame are repeated",
    )
    w2_norm: Norm = Field(
        default="minmax", description="scale of the flow error in the column paper; literal: eq. 3"
    )
    reduction: Reduction = Field(
        default="mean", description="of the squared errors of a frame: mean, max (pixel) or block"
    )
    block: PositiveInt = Field(default=8, description="side of a block, for reduction block")
    cells: tuple[PositiveInt, PositiveInt] = Field(
        default=(32, 32), description="(rows, columns) of the error maps"
    )

    @field_validator("eta")
    @classmethod
    def _weights(cls, value: Preset | Eta) -> Preset | Eta:
        # No sum of 1 is asked for: a part that is left out is not made up for (Sect. 3).
        if not isinstance(value, str) and (min(value) < 0 or not 0 < sum(value) < math.inf):
            raise ValueError(f"eta {value}: weights are 0 or more, and not all 0")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> PseudoAnomalyConfig:
        layer_widths(self.width)
        if self.scored_frame >= self.length:
            raise ValueError(
                f"scored_frame {self.scored_frame} is not in a window of {self.length}: 0 to "
                f"{self.length - 1}"
            )
        first = self.scored_frame - self.stride // 2
        if first < 0 or first + self.stride > self.length:
            raise ValueError(
                f"stride {self.stride}: the frames around scored_frame {self.scored_frame} do not "
                f"lie in a window of {self.length}"
            )
        if len(set(self.spatial)) < len(self.spatial):
            raise ValueError("a kind of spatial pseudo-anomalies is named twice")
        if self.learn_eta and self.features != "frame":
            raise ValueError("learn_eta needs a feature of every frame: features = frame")
        if self.learn_eta and len(self.parts) < 2:
            raise ValueError("learn_eta weighs two or three parts: only one has a weight")
        return self

    @property
    def weights(self) -> dict[Part, float]:
        """Part -> eta, of the parts that have a weight."""
        eta = ETA[self.eta] if isinstance(self.eta, str) else self.eta
        return {part: weight for part, weight in zip(PARTS, eta, strict=True) if weight > 0}

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are trained."""
        return tuple(self.weights)

    @property
    def measure(self) -> Measure:
        """How errors become numbers and maps."""
        return Measure(reduction=self.reduction, block=self.block, cells=self.cells)
