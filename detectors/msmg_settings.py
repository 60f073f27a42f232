"""Settings of MSMG; what the paper states is the default, docs/papers/msmg.md has the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ..extractors.networks.cnn3d import Architecture
from ..extractors.networks.conv3d_coder import layer_widths
from ..extractors.networks.encoders import ENCODERS, EncoderName
from ..extractors.networks.frame_estimation import FrameEstimator
from ..extractors.networks.video_encoder import EncoderOptions, NormRule
from .base import ADDED_LATER, Config
from .msmg_network import TASKS, Position, Task
from .msmg_placing import Placement
from .msmg_samples import NegativesBy
from .precision import Precision

Reading = Literal["feature", "rgb", "task", "own"]
DecoderRule = Literal["none", "frozen", "finetuned"]


class MSMGConfig(Config):
    """Settings of `msmg`."""

    length: int = Field(default=12, ge=4, description="T, frames of a clip (Sect. 4.2)")
    weights: tuple[float, float, float] = Field(
        default=(1.0, 1.0, 1.0),
        description="of the tasks continuity, localisation and estimation in the loss (eq. 8); a "
        "task with weight 0 is left out",
    )
    encoder: EncoderName = Field(
        default="cnn3d",
        description="F: cnn3d is light; inception_i3d is the paper's I3D; i3d_r50; unet, memae, "
        "mnad and multipath_gru predict or reconstruct frames (supplement, Table 2)",
    )
    own_weight: Annotated[float, ADDED_LATER] = Field(
        default=0.0,
        ge=0,
        description="of the objective that the encoder was published with, next to those of the "
        "tasks; of unet, memae, mnad and multipath_gru",
    )
    architecture: Architecture = Field(
        default="deep+narrow", description="of the encoder cnn3d (Table 1 of SSMTL)"
    )
    encoder_width: int | None = Field(
        default=None,
        ge=3,
        description="of the encoders that predict frames; None: the published one",
    )
    start: Literal["scratch", "kinetics"] = Field(
        default="scratch",
        description="first weights of the encoder; kinetics: from a weights card or --weights",
    )
    norms: NormRule = Field(
        default="trained",
        description="batch norms of the I3D encoders; frozen: for pretrained weights",
    )
    frame_norms: Literal["own", "shared"] = Field(
        default="own",
        description="running statistics of single frames: apart from those of clips, or shared",
    )
    frame_repeat: int | None = Field(
        default=None,
        ge=1,
        description="times that a single frame is repeated; None: as the encoder needs, once or 12",
    )
    side: int | None = Field(
        default=None, ge=8, description="pixels that stored frames are resized to; None: as stored"
    )
    position: Position = Field(
        default="pooled",
        description="how the head of localisation reads maps: pooled, time_channel or unpooled",
    )
    motion_gain: Annotated[float, ADDED_LATER] = Field(
        default=1.0,
        ge=1,
        description="times that the differences of a clip from its mean picture are enlarged "
        "before the encoder; 1: not at all (the paper). With a fixed camera the places of "
        "localisation are learnt with 10 or more",
    )
    scene_embedding: int = Field(
        default=0, ge=0, description="numbers of a learnt embedding of the scene; 0: none (Table 5)"
    )
    equal_length: bool = Field(
        default=True,
        description="leave out a frame of the continuous clip too: the number of frames does not "
        "tell the classes of the first task apart",
    )
    negatives: NegativesBy = Field(
        default="scene",
        description="what negatives of estimation differ in: scene (video where there is one "
        "scene), video, or none",
    )
    gap: int | None = Field(
        default=None, ge=0, description="most frames between the two clips; None: any number"
    )
    gamma: float = Field(default=0.2, gt=0, le=2, description="margin of the triplet (eq. 4)")
    omega: float = Field(default=0.5, ge=0, le=1, description="weight of the triplet (eq. 7)")
    tau: float = Field(default=0.1, gt=0, description="temperature of the contrast (eq. 5)")
    epochs: int = Field(default=60, ge=1, description="of clips without a frame in common")
    steps: int | None = Field(default=None, ge=1, description="batches; None: `epochs`")
    batch_size: int = Field(default=8, ge=2, description="N, pairs of clips")
    lr: float = Field(default=3e-4, gt=0, description="of AdamW, falling to 0 along half a cosine")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    precision: Precision = Field(
        default="fp32", description="bf16: forward in bfloat16, losses, norms and weights in fp32"
    )
    validation_pairs: int = Field(
        default=128, ge=1, description="pairs of clips on which accuracies are measured"
    )
    validate_every: int | None = Field(
        default=None, ge=1, description="batches between two measurements; None: 10 in all"
    )
    decoder: DecoderRule = Field(
        default="none",
        description="train a decoder of the missing frame after the tasks, with the encoder as it "
        "is, or finetuned",
    )
    decoder_steps: int | None = Field(
        default=None, ge=1, description="batches of the decoder; None: as many as of the tasks"
    )
    reading: Reading | None = Field(
        default=None,
        description="the column score: feature (error of the embedding), rgb (error of the "
        "decoded frame), task (tasks 1 and 2) or own (error of the frame that the encoder "
        "estimates itself); None: the first that can be computed. The others are columns too",
    )
    stride: PositiveInt = Field(
        default=1, description="frames between two clips that score; between them is interpolated"
    )
    placement: Placement = Field(
        default="centre",
        description="frame that a clip scores: centre, worst (the one with the largest error), or "
        "cover (all of them; the highest counts)",
    )
    cells: tuple[PositiveInt, PositiveInt] = Field(
        default=(16, 16), description="(rows, columns) of the maps"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> MSMGConfig:
        if min(self.weights) < 0:
            raise ValueError(f"weights {self.weights}: a weight is 0 or more")
        self._check_encoder()
        if not self.tasks and not self.own_weight and self.decoder != "finetuned":
            own = "" if self._estimator is None else ", own_weight for its own objective"
            raise ValueError(
                f"all weights are 0: give a task a weight{own}, or set decoder = finetuned, which "
                "trains the encoder by frame prediction"
            )
        if self.stride > self.length:
            raise ValueError(
                f"stride {self.stride}: frames between two clips of {self.length} have no score"
            )
        if self.reading is not None and self.reading not in self.readings:
            raise ValueError(
                f"reading {self.reading} needs a decoder or a task that has no weight here; there "
                f"are: {', '.join(self.readings)}"
            )
        return self

    def _check_encoder(self) -> None:
        """Refuse what this encoder does not have.

        Raises:
            ValueError: its message says what to set.
        """
        name = self.encoder
        if ENCODERS[name].pretrained is None:
            if self.start == "kinetics":
                raise ValueError(f"{name} has no pretrained weights: set start = scratch")
            if self.norms == "frozen":
                raise ValueError(
                    f"norms = frozen keeps statistics of pretrained weights, and {name} has none"
                )
        elif self.norms == "frozen" and self.start == "scratch":
            raise ValueError(
                "norms = frozen keeps statistics of pretrained weights, and start = scratch has "
                "none: set start = kinetics, or norms = trained"
            )
        estimates = self._estimator is not None
        if self.own_weight and not estimates:
            raise ValueError(f"{name} has no objective of its own: set own_weight = 0")
        if self.encoder_width is not None and not estimates:
            raise ValueError(f"{name} has no free width: leave encoder_width out")
        if self.encoder_width is not None and name == "memae":
            layer_widths(self.encoder_width)

    @property
    def _estimator(self) -> type[FrameEstimator] | None:
        """The class of the encoder, if it has an objective of its own."""
        build = ENCODERS[self.encoder].build
        return build if isinstance(build, type) and issubclass(build, FrameEstimator) else None

    @property
    def distance_weight(self) -> float:
        """Weight of the distance from the encoder's memory in its own score; 0: it has none."""
        estimator = self._estimator
        return 0.0 if estimator is None else estimator.distance_weight

    @property
    def weight_of(self) -> dict[Task, float]:
        """Task -> weight, of the tasks that are trained."""
        return {task: w for task, w in zip(TASKS, self.weights, strict=True) if w > 0}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that are trained."""
        return tuple(self.weight_of)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What can be computed, the default of the column score first."""
        found: list[Reading] = []
        if "estimation" in self.tasks:
            found.append("feature")
        if self.decoder != "none":
            found.append("rgb")
        if {"continuity", "localisation"} & set(self.tasks):
            found.append("task")
        if self.own_weight:
            found.append("own")
        return tuple(found)

    @property
    def scored(self) -> Reading:
        """The reading of the column score."""
        return self.reading or self.readings[0]

    @property
    def encoder_options(self) -> EncoderOptions:
        """Settings of the encoder."""
        return EncoderOptions(
            architecture=self.architecture,
            width=self.encoder_width,
            norms=self.norms,
            frame_repeat=self.frame_repeat,
        )
