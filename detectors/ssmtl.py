"""SSMTL: self-supervised and multi-task learning on objects (Georgescu et al., CVPR 2021).

A small 3-D CNN learns four proxy tasks on the crops of normal objects. An object on which it fails
is odd. See docs/papers/ssmtl.md for what the paper leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..extractors.networks.cnn3d import Architecture, folded
from .base import (
    ADDED_LATER,
    Bag,
    BagSource,
    Config,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Row,
    Scores,
    State,
    Supervision,
)
from .checkpoint import Checkpoint, discard_checkpoint
from .fitting import Fit
from .msmg_monitors import chance_warnings, collapse_warnings
from .msmg_samples import NegativesBy
from .object_maps import ObjectMapConfig
from .precision import Precision, bfloat16, check_bfloat16
from .randomness import private_random
from .row_memory import RowMemory, row_memories
from .ssmtl_losses import Contrast, answers, losses, trivial_errors, validated
from .ssmtl_network import ALL_TASKS, CONTINUITY_TASKS, TASKS, SSMTLNetwork, Task
from .ssmtl_pairs import negative_groups
from .ssmtl_samples import (
    STEPS,
    CropSequences,
    FrameSequences,
    Places,
    Samples,
    check_pairs,
    check_places,
    paired_places,
    split_places,
)
from .ssmtl_scores import score_frames_alone, score_objects
from .ssmtl_tracks import Level, PictureLayout, layout_of, placed_frames, teacher_roles
from .state import load_network, network_arrays
from .validation import Validation

BATCHES: dict[Architecture, int] = {  # Sect. 4.2
    "shallow+narrow": 256,
    "shallow+wide": 128,
    "deep+narrow": 128,
    "deep+wide": 64,
}
VALIDATED_AT_ONCE = 32  # objects


class SSMTLConfig(ObjectMapConfig):
    """Settings of `ssmtl`."""

    level: Level = Field(
        default="object", description="object: crops of objects; frame: whole frames (Sect. 3.5)"
    )
    tasks: tuple[Task, ...] | None = Field(
        default=None,
        min_length=1,
        description="proxy tasks (Table 4), and continuity, localisation and estimation of MSMG; "
        "None: the paper's four, or without distillation at the level of frames",
    )
    weights: tuple[float, ...] | None = Field(
        default=None, description="of each of the tasks in the score of an object; None: equal"
    )
    architecture: Architecture = Field(default="deep+wide", description="of the network (Table 1)")
    deep_pools: Literal[3, 4] = Field(
        default=4, description="pools of the deep architectures: 4 as printed in Table 1"
    )
    t: int = Field(default=3, ge=1, le=4, description="frames before and after (Sect. 4.2)")
    imagenet_teacher: bool = Field(
        default=True, description="distill the classifier of objects too, not only the detector"
    )
    distillation_weight: float = Field(
        default=0.2, gt=0, le=1, description="lambda of eq. 5; the paper's for UCSD Ped2 is 0.5"
    )
    gamma: Annotated[float, ADDED_LATER] = Field(
        default=0.2, gt=0, le=2, description="margin of the triplet of estimation (MSMG, eq. 4)"
    )
    omega: Annotated[float, ADDED_LATER] = Field(
        default=0.5, ge=0, le=1, description="weight of that triplet (MSMG, eq. 7)"
    )
    tau: Annotated[float, ADDED_LATER] = Field(
        default=0.1, gt=0, description="temperature of the contrast of estimation (MSMG, eq. 5)"
    )
    negatives: Annotated[NegativesBy, ADDED_LATER] = Field(
        default="scene",
        description="what negatives of estimation differ in: scene (video where there is one "
        "scene), video, or none",
    )
    epochs: int = Field(default=30, ge=1, description="of training (Sect. 4.2)")
    steps: int | None = Field(default=None, ge=1, description="batches; None: `epochs`")
    batch_size: int | None = Field(
        default=None, ge=1, description="objects; None: that of the architecture (Sect. 4.2)"
    )
    lr: float = Field(default=1e-3, gt=0, description="of Adam, constant (Sect. 4.2)")
    precision: Precision = Field(
        default="fp32", description="bf16: forward in bfloat16, losses, norms and weights in fp32"
    )
    score_precision: Annotated[Precision, ADDED_LATER] = Field(
        default="fp32", description="of scoring; bf16 only on devices that have it"
    )
    validation: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="last share of the frames of each training video, which choose the kept "
        "weights (Sect. 4.2); 0: the last weights are kept",
    )
    validate_every: int | None = Field(
        default=None, ge=1, description="batches between two validations; None: an epoch"
    )
    validation_objects: int = Field(
        default=2048, ge=1, description="that a validation looks at, evenly spread"
    )
    fill: bool = Field(
        default=True,
        description="boxes in the frames between rows too, where features have a stride",
    )
    mean_filter: int = Field(
        default=5,
        ge=1,
        description="side of the mean filter over rows of time and blocks, odd; 1 leaves it out",
    )
    smooth: float = Field(
        default=21.0,
        ge=0,
        description="standard deviation of the Gaussian over frame scores, in frames; 0: none",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> SSMTLConfig:
        tasks = self.chosen
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task is named twice")
        if self.level == "frame" and "distillation" in tasks:
            raise ValueError("whole frames have no teachers: leave distillation out of the tasks")
        if self.t == 1 and "localisation" in tasks:
            raise ValueError("localisation needs a t of 2 or more: 3 frames have one inner frame")
        if self.weights is not None:
            if len(self.weights) != len(tasks):
                raise ValueError(f"weights has {len(self.weights)} values for {len(tasks)} tasks")
            if min(self.weights) < 0 or not sum(self.weights):
                raise ValueError("weights are 0 or more, and not all 0")
        return self

    @property
    def chosen(self) -> tuple[Task, ...]:
        """The tasks, as they are named or by default."""
        if self.tasks is not None:
            return self.tasks
        return TASKS if self.level == "object" else TASKS[:3]

    @property
    def in_order(self) -> tuple[Task, ...]:
        """The tasks in the order in which they are trained."""
        return tuple(task for task in ALL_TASKS if task in self.chosen)

    @property
    def weight_of(self) -> dict[Task, float]:
        """Task -> its weight in the score."""
        weights = self.weights or (1.0,) * len(self.chosen)
        return dict(zip(self.chosen, weights, strict=True))

    @property
    def room(self) -> int:
        """Frames that a training sequence needs before and after, at least."""
        return self.t * (STEPS[0] if "irregularity" in self.chosen else 1)

    @property
    def context(self) -> int:
        """Frames before and after that crops have to hold for training."""
        return self.t * (STEPS[1] if "irregularity" in self.chosen else 1)

    @property
    def pairs(self) -> bool:
        """Whether a task of MSMG needs pairs of clips."""
        return bool(set(CONTINUITY_TASKS) & set(self.chosen))

    @property
    def contrast(self) -> Contrast:
        """Constants of estimation."""
        return Contrast(self.gamma, self.omega, self.tau)


class SSMTL(Detector[SSMTLConfig]):
    """Objects whose motion and appearance a network that has seen normal ones gets wrong."""

    name: ClassVar[str] = "ssmtl"
    version: ClassVar[int] = 1
    words: ClassVar[str] = "something moves or looks in an unusual way"
    Config: ClassVar[type[Config]] = SSMTLConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY

    def __init__(self, config: SSMTLConfig) -> None:
        super().__init__(config)
        self.network: SSMTLNetwork | None = None
        self._layout: PictureLayout | None = None
        self._folded: SSMTLNetwork | None = None  # what scores; made of `network` when needed

    @property
    def needs(self) -> tuple[str, ...]:
        """Objects with crops, or pictures of all frames."""
        return ("object",) if self.config.level == "object" else ("pixels",)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the highest value of each task in the frame, which is not smoothed."""
        return ("score", *self.config.in_order)

    @property
    def regions(self) -> bool:
        """Boxes are those of objects; of whole frames there are none, so their map has to do."""
        return self.config.level == "object"

    @property
    def maps(self) -> tuple[str, ...]:
        """Scores of objects on blocks, or the error of the middle frame on cells."""
        if self.config.level == "object":
            return ("objects",)
        return ("error",) if "middle" in self.config.chosen else ()

    # -- training ------------------------------------------------------------------------------

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train the tasks; keep the weights with the lowest validation loss.

        Raises:
            DetectorError: there are no training videos, an array is missing or does not fit, or no
                object has enough frames around it.
        """
        if not len(source):
            raise DetectorError("there are no training videos")
        self._check_device(device)
        options = options or FitOptions()
        config = self.config
        layout = layout_of(source, config.level, config.context, self._teachers)
        training, validating = split_places(
            *placed_frames(source, config.level), config.validation, config.room
        )
        check_places(training, validating, config.validation, config.room)
        validating = validating.spread(config.validation_objects)
        if config.pairs:
            training = paired_places(training, config.t)
            validating = paired_places(validating, config.t)
            check_pairs(training, validating, config.validation, config.t)
        roles = (layout.role, *self._teachers)
        with row_memories(source, roles, device=device, options=options) as memories:
            samples = self._samples(memories, seed)
            with private_random(device):
                fit = self._trained(samples, layout, training, validating, device, seed, options)
            trivial = self._trivial(samples, training, validating)
        discard_checkpoint(options.folder)
        self._layout, self._folded = layout, None
        return self._log(fit, training, validating, trivial)

    @property
    def _teachers(self) -> tuple[str, ...]:
        """Roles of what the teachers say."""
        return teacher_roles(self.config.imagenet_teacher) if self._distills else ()

    @property
    def _distills(self) -> bool:
        return "distillation" in self.config.chosen

    @property
    def _batch_size(self) -> int:
        return self.config.batch_size or BATCHES[self.config.architecture]

    def _samples(self, memories: Sequence[RowMemory], seed: int) -> Samples:
        """What batches are read from: pictures, and what each teacher says of them."""
        sequences = CropSequences if self.config.level == "object" else FrameSequences
        return Samples(
            sequences(memories[0]),
            list(memories[1:]),
            self.config.t,
            "irregularity" in self.config.chosen,
            seed,
            self._groups(memories[0]),
        )

    def _groups(self, memory: RowMemory) -> NDArray[np.int64] | None:
        """Group of each video, for the tasks that have negatives."""
        if not self.config.pairs:
            return None
        rows = memory.rows
        return negative_groups(rows.scenes, rows.video_ids, self.config.negatives)

    def _trained(
        self,
        samples: Samples,
        layout: PictureLayout,
        training: Places,
        validating: Places,
        device: str,
        seed: int,
        options: FitOptions,
    ) -> Fit[Any, Any]:
        config, size = self.config, self._batch_size
        epoch = math.ceil(len(training) / size)
        torch.manual_seed(seed)
        network = self._made(layout).to(device).train()
        weight = config.distillation_weight

        def measured(_: int) -> dict[str, float]:
            batches = samples.in_order(validating, VALIDATED_AT_ONCE)
            return validated(network, batches, weight, config.contrast)

        fit = Fit(
            name=self.name,
            steps=config.steps or math.ceil(config.epochs * len(training) / size),
            module=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=config.lr, fused=True),
            batch=lambda draw: samples.drawn(training, size, draw),
            forward=lambda batch: answers(network, batch),
            losses=lambda found: losses(found, weight, config.contrast),
            prefetch=samples.sequences.memory.prefetch,
            precision=config.precision,
            validation=Validation(
                measure=measured, every=config.validate_every or epoch, best="loss"
            )
            if config.validation
            else None,
        )
        fit.run(seed=seed, options=options, resumed=Checkpoint.load(options.folder))
        self.network = network.eval()
        return fit

    def _made(self, layout: PictureLayout) -> SSMTLNetwork:
        config = self.config
        return SSMTLNetwork(
            *(config.architecture, config.deep_pools, config.in_order),
            *(layout.side, layout.targets, config.t),
        )

    def _trivial(self, samples: Samples, training: Places, validating: Places) -> dict[str, float]:
        """What tasks 3 and 4 reach on validation objects without a network."""
        if not len(validating):
            return {}
        some = training.spread(self.config.validation_objects)
        targets = samples.targets(some)
        means = None if targets is None else targets.mean(0)
        batches = samples.in_order(validating, VALIDATED_AT_ONCE)
        return trivial_errors(batches, means, self.config.in_order)

    def _log(
        self,
        fit: Fit[Any, Any],
        training: Places,
        validating: Places,
        trivial: dict[str, float],
    ) -> FitLog:
        assert self.network is not None
        kept = fit.rows[fit.kept_step - 1]
        summary: Row = {
            "objects": len(training),
            "validation_objects": len(validating),
            "batch_size": self._batch_size,
            "steps": fit.steps,
            "object_steps": fit.steps * self._batch_size,
            "kept_step": fit.kept_step,
            "precision": self.config.precision,
            "parameters": sum(each.numel() for each in self.network.parameters()),
            **{name: value for name, value in kept.items() if name.startswith("validation/")},
            **{f"trivial/{name}": value for name, value in trivial.items()},
            "loss": float(fit.rows[-1]["total"]),
            "seconds": round(sum(float(row["seconds"]) for row in fit.rows), 1),
        }
        return FitLog(fit.rows, summary, self._warnings(kept, fit, len(validating)))

    def _warnings(self, kept: Row, fit: Fit[Any, Any], validating: int) -> tuple[str, ...]:
        found = []
        if validating and fit.kept_step == fit.steps:
            found.append(
                "the validation loss was lowest after the last batch, so it may fall further: "
                "train with more epochs or steps"
            )
        name = "validation/"
        measured = {k.removeprefix(name): float(v) for k, v in kept.items() if k.startswith(name)}
        found += collapse_warnings(measured)
        for task, classes, each in (
            ("continuity", 2, 2),
            ("localisation", 2 * self.config.t - 1, 1),
        ):
            accuracy = measured.get(f"accuracy/{task}")
            found += chance_warnings(task, accuracy, classes, each * max(validating, 1))
        return tuple(found)

    # -- scoring -------------------------------------------------------------------------------

    def to(self, device: str) -> None:
        """Move the network to the device that scores.

        Raises:
            DetectorError: scores are to be computed in bf16, which the device does not have.
        """
        self._check_device(device)
        if self.network is not None:
            self.network.to(device)
            self._folded = None

    def _check_device(self, device: str) -> None:
        if self.config.score_precision == "bf16":
            check_bfloat16(device)

    def score(self, bag: Bag) -> Scores:
        """Score the objects of a video and its frames by them, or its frames alone.

        Raises:
            DetectorError: the detector is not fitted, or the bag lacks an array or does not fit.
        """
        if self._layout is None:
            raise DetectorError(f"{self.name} is not fitted")
        config = self.config
        given = bag, self.folded, self._layout, config.t, config.weight_of, config
        device = next(self.folded.parameters()).device
        lowered = bfloat16(self.folded, device) if self._fast else nullcontext()
        with torch.inference_mode(), lowered:
            if config.level == "frame":
                return score_frames_alone(*given)
            return score_objects(*given, fill=config.fill)

    @property
    def folded(self) -> SSMTLNetwork:
        """The network that scores, whose batch norms are parts of its convolutions.

        Raises:
            DetectorError: the detector is not fitted.
        """
        if self.network is None:
            raise DetectorError(f"{self.name} is not fitted")
        if self._folded is None:
            dtype = torch.bfloat16 if self._fast else torch.float32
            self._folded = folded(self.network, dtype)
        return self._folded

    @property
    def _fast(self) -> bool:
        return self.config.score_precision == "bf16"

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Return weights and statistics of the network, and the sizes of what it reads."""
        if self.network is None or self._layout is None:
            raise DetectorError(f"{self.name} is not fitted")
        sizes = np.array([self._layout.side, self._layout.targets], np.int64)
        return {"sizes": sizes, **network_arrays(self.network)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are not the weights of this detector.
        """
        try:
            side, targets = (int(value) for value in state["sizes"])
            layout = PictureLayout.of_level(self.config.level, side, targets)
            with private_random("cpu"):
                network = self._made(layout)
            load_network(network, state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DetectorError(f"these are not weights of {self.name}: {error}") from error
        self.network, self._layout, self._folded = network.eval(), layout, None
