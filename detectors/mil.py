"""The base of all detectors that learn from video-level labels.

They share bags of segments, batches of normal and abnormal videos, training in stages, and the
scoring of every snippet.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

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
    Track,
)
from .checkpoint import Checkpoint, discard_checkpoint
from .fitting import Fit, first_losses, loss_jumps
from .labelled import labelled
from .precision import Precision, bfloat16, check_bfloat16
from .randomness import private_random
from .schedule import Schedule, ScheduleName
from .segments import (
    FeatureLayout,
    Resampling,
    SegmentBank,
    build_bank,
    layout_of,
    narrow,
    same_times,
    with_crops,
)
from .state import load_network, network_arrays
from .together import ROWS_TOGETHER, ScoresTogether, filled

Terms = dict[str, Tensor]
OptimizerName = Literal["adam", "adagrad"]


class MILConfig(Config):
    """Settings that all detectors trained from video-level labels share."""

    segments: int = Field(default=32, ge=2, description="T of a training video")
    batch_size: int = Field(default=32, ge=1, description="normal videos, and as many abnormal")
    steps: int = Field(default=1000, ge=1, description="batches; the last weights are kept")
    lr: float = Field(default=1e-3, gt=0, description="learning rate")
    weight_decay: float = Field(default=0.005, ge=0, description="L2 of the weights")
    width: int | None = Field(
        default=None, ge=8, description="average neighbouring feature columns down to this many"
    )
    schedule: Annotated[ScheduleName, ADDED_LATER] = Field(
        default="constant", description="of the learning rate in each stage: constant, cosine"
    )
    warmup: Annotated[int, ADDED_LATER] = Field(
        default=0, ge=0, description="steps of each stage over which the rate rises linearly"
    )
    precision: Annotated[Precision, ADDED_LATER] = Field(
        default="fp32", description="bf16: forward in bfloat16, losses, norms and weights in fp32"
    )
    score_precision: Annotated[Precision, ADDED_LATER] = Field(
        default="fp32", description="of scoring; bf16 only on devices that have it"
    )
    accumulate: Annotated[int, ADDED_LATER] = Field(
        default=1, ge=1, description="batches whose gradients a step averages"
    )
    clip: Annotated[float | None, ADDED_LATER] = Field(
        default=None, gt=0, allow_inf_nan=False, description="largest L2 norm of the gradients"
    )


@dataclass(frozen=True)
class TrainingStage:
    """One stage of a fit.

    Attributes:
        name: name in the log.
        steps: batches to train.
        lr: learning rate.
        scales: patch grids whose branches join the network in this stage.
    """

    name: str
    steps: int
    lr: float
    scales: tuple[str, ...] = ()


class PairSampler:
    """Chooses the videos of each batch, without replacement in each class.

    Each class is shuffled and cut into whole batches; the rest is left out. Then the class is
    shuffled again, as by the two loaders of RTFM's code. The choice depends on (seed, stage, step)
    and on the ids of the videos, not on their order.

    Args:
        ids:
            Ids of the videos.
        labels:
            Their labels, 0 or 1.
        batch_size:
            Videos of each class in a batch; reduced to the size of the smaller class.
        seed:
            Seed of the draws.
    """

    def __init__(
        self, ids: Sequence[str], labels: Sequence[int], batch_size: int, seed: int
    ) -> None:
        order = np.array(sorted(range(len(ids)), key=lambda i: ids[i]), np.int64)
        marks = np.array([labels[i] for i in order])
        self.classes = (order[marks == 0], order[marks == 1])
        self.size = min(batch_size, *(len(members) for members in self.classes))
        self._seed = seed

    def __call__(self, stage: int, step: int) -> NDArray[np.int64]:
        """Draw the (2 B,) indices of the videos of a batch: B normal ones, then B abnormal ones."""
        drawn = []
        for label, members in enumerate(self.classes):
            batches = len(members) // self.size
            turn, place = divmod(step, batches)
            rng = np.random.default_rng([self._seed, stage, label, turn])
            shuffled = rng.permutation(members)
            drawn.append(shuffled[place * self.size : (place + 1) * self.size])
        return np.concatenate(drawn)


ConfigT = TypeVar("ConfigT", bound=MILConfig)
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class _Prepared:
    """A video as the network takes it.

    Attributes:
        track: the frames of its rows.
        features: role -> (n, C, D).
    """

    track: Track
    features: dict[str, Tensor]


class MILDetector(Detector[ConfigT], ScoresTogether, Generic[ConfigT, NetworkT]):
    """A network trained on normal and abnormal videos with one label each.

    A subclass defines the network, the loss of a batch, and the scores of a video.
    """

    supervision: ClassVar[Supervision] = Supervision.WEAK
    reads_whole: ClassVar[bool] = True
    words: ClassVar[str] = "it looks like what was labelled unusual in training"
    jump_advice: ClassVar[str] = "lower the learning rate, or warm it up"
    resampling: Resampling = "rtfm"

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.network: NetworkT | None = None
        self.layout: FeatureLayout | None = None

    @abstractmethod
    def make_network(self, layout: FeatureLayout) -> NetworkT:
        """Make the network for features of this layout, initialised with torch's generator."""

    @abstractmethod
    def forward(self, network: NetworkT, batch: Mapping[str, Tensor]) -> Any:
        """Run the network on a batch.

        Args:
            network:
                The network in training.
            batch:
                Role -> (2 B, T, C, D), normal videos first.

        Returns:
            A tensor, or a mapping, sequence or dataclass of tensors: the input of `losses`.
        """

    @abstractmethod
    def losses(self, network: NetworkT, outputs: Any) -> Terms:
        """Compute the named terms of the loss in fp32; "total" is minimised.

        Args:
            network:
                The network in training.
            outputs:
                What `forward` returned.
        """

    @abstractmethod
    def score_rows(
        self, network: NetworkT, features: Mapping[str, Tensor], lengths: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Score videos whose rows lie one after the other.

        Args:
            network:
                In evaluation mode.
            features:
                Role -> (n, C, D), rows of all videos.
            lengths:
                Rows of each video.

        Returns:
            Columns (n,) and maps (n, rows, columns) by name.
        """

    def prepare_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Convert features (..., C, D) to what the network takes, (..., C, width)."""
        return narrow(np.asarray(rows, np.float32), self.config.width)

    def stages(self, layout: FeatureLayout) -> list[TrainingStage]:
        """Plan the stages of a fit; one by default."""
        return [TrainingStage(self.name, self.config.steps, self.config.lr)]

    def roles(self, layout: FeatureLayout, stage: TrainingStage) -> list[str]:
        """Name the tracks in a batch of a stage."""
        return list(layout.positions)

    def begin_stage(
        self, network: NetworkT, stages: Sequence[TrainingStage], at: int
    ) -> list[nn.Parameter]:
        """Prepare the network for a stage and return the parameters that learn in it."""
        network.train()
        return list(network.parameters())

    def end_stage(
        self, network: NetworkT, stages: Sequence[TrainingStage], at: int, bank: SegmentBank
    ) -> None:
        """Compute once what later stages would compute for each batch; nothing by default."""

    def make_optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Make the optimizer: Adam with a constant rate and betas of (0.9, 0.999).

        Fused: one pass over weights, gradients and moments in place of ten, the same formula.
        """
        decay = self.config.weight_decay
        return torch.optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)

    @property
    def schedule(self) -> Schedule:
        """Schedule of the learning rate in each stage."""
        return Schedule(name=self.config.schedule, warmup=self.config.warmup)

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train from scratch, stage by stage; each starts from the last weights of the one before.

        Raises:
            DetectorError: there is one class only, or features differ in shape or are not finite;
                the message names every such video.
        """
        options = options or FitOptions()
        self._check_device(device)
        ids, labels = labelled(source)
        layout = layout_of(source, self.needs, self.config.width)
        stages = self.stages(layout)
        for stage in stages:  # before the first one is trained
            self.schedule.check(stage.steps, stage.name)
        bank = build_bank(
            source,
            layout,
            segments=self.config.segments,
            resampling=self.resampling,
            prepare=self.prepare_rows,
            device=device,
            memory=options.memory,
            scratch=options.folder,
            advance=options.on_load,
        )
        try:
            with private_random(device):
                rows = self._fit_stages(bank, layout, stages, ids, labels, device, seed, options)
        finally:
            place = bank.place
            bank.close()
        discard_checkpoint(options.folder)
        assert self.network is not None
        last = rows[-1]
        return FitLog(
            rows,
            {
                "videos": len(ids),
                "abnormal": sum(labels),
                "batch_size": PairSampler(ids, labels, self.config.batch_size, seed).size,
                "steps": sum(stage.steps for stage in stages),
                "precision": self.config.precision,  # a device without bf16 was refused
                "parameters": count_parameters(self.network),
                **{f"first_loss/{name}": loss for name, loss in first_losses(rows).items()},
                "loss": float(last["total"]),
                "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
                "data_on": place,
            },
            tuple(loss_jumps(rows, self.jump_advice)),
        )

    def _fit_stages(
        self,
        bank: SegmentBank,
        layout: FeatureLayout,
        stages: Sequence[TrainingStage],
        ids: Sequence[str],
        labels: Sequence[int],
        device: str,
        seed: int,
        options: FitOptions,
    ) -> list[Row]:
        torch.manual_seed(seed)
        network = self.make_network(layout).to(device)
        resumed = Checkpoint.load(options.folder)
        if resumed is not None:
            resumed.restore(network)
        sampler = PairSampler(ids, labels, self.config.batch_size, seed)
        rows: list[Row] = [] if resumed is None else list(resumed.rows)
        for at, stage in enumerate(stages):
            if resumed is None or at >= resumed.stage:
                parameters = self.begin_stage(network, stages, at)
                roles = self.roles(layout, stage)
                fit = Fit(
                    stage=at,
                    name=stage.name,
                    steps=stage.steps,
                    module=network,
                    optimizer=self.make_optimizer(parameters, stage.lr),
                    batch=lambda draw, at=at, roles=roles: bank.gather(roles, sampler(at, draw)),  # type: ignore[misc]
                    forward=lambda batch: self.forward(network, batch),
                    losses=lambda outputs: self.losses(network, outputs),
                    prefetch=0 if bank.place == "device" else options.prefetch,
                    schedule=self.schedule,
                    precision=self.config.precision,
                    accumulate=self.config.accumulate,
                    clip=self.config.clip,
                    rows=rows,
                )
                rows = fit.run(
                    seed=seed,
                    options=options,
                    resumed=resumed if resumed and at == resumed.stage else None,
                )
            self.end_stage(network, stages, at, bank)
        self.network, self.layout = network.eval(), layout
        return rows

    def to(self, device: str) -> None:
        """Move the network to the device that scores.

        Raises:
            DetectorError: scores are to be computed in bf16, which the device does not have.
        """
        self._check_device(device)
        if self.network is not None:
            self.network.to(device)

    def _check_device(self, device: str) -> None:
        if self.config.score_precision == "bf16":
            check_bfloat16(device)

    def score(self, bag: Bag) -> Scores:
        """Score every snippet of a video of any length.

        Raises:
            DetectorError: the detector is not fitted, or the features of the video do not fit the
                model, are not finite or have no rows.
        """
        return self.score_together([bag])[0]

    def score_together(self, bags: Sequence[Bag]) -> list[Scores]:
        """Score videos of any length; see `ScoresTogether`.

        Raises:
            DetectorError: as for `score`, of any of them.
        """
        if self.network is None or self.layout is None:
            raise DetectorError(f"{self.name} is not fitted")
        device = next(self.network.parameters()).device
        videos = [self._prepared(bag, self.layout, device) for bag in bags]
        crops = self.layout.positions.get("snippet", 1)
        rows = [crops * len(video.track) for video in videos]
        fast = self.config.score_precision == "bf16"
        lowered = bfloat16(self.network, device) if fast else nullcontext()
        with torch.inference_mode(), lowered:
            network = self.network.eval()
            batches = filled(videos, rows, ROWS_TOGETHER)
            return [scores for batch in batches for scores in self._scored(network, batch)]

    def _prepared(self, bag: Bag, layout: FeatureLayout, device: torch.device) -> _Prepared:
        tracks = self._tracks(bag, layout)
        times = same_times(bag, tracks)
        if not len(times):
            raise DetectorError(f"{bag.video_id}: there are no rows to score")
        features = {}
        for role, track in tracks.items():
            rows = self.prepare_rows(with_crops(track.rows()))
            if not np.isfinite(rows).all():
                raise DetectorError(f"{bag.video_id}: {role} is not finite")
            features[role] = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
        return _Prepared(times, features)

    def _scored(self, network: NetworkT, videos: Sequence[_Prepared]) -> list[Scores]:
        lengths = [len(video.track) for video in videos]
        features = videos[0].features
        if len(videos) > 1:
            features = {
                role: torch.cat([video.features[role] for video in videos]) for role in features
            }
        columns, maps = self.score_rows(network, features, lengths)
        stops = np.cumsum(lengths)
        scored = {name: values.double().cpu().numpy() for name, values in columns.items()}
        drawn = {name: values.float().cpu().numpy() for name, values in maps.items()}
        return [
            Scores(
                video.track.frame_start,
                video.track.frame_stop,
                {name: values[stop - length : stop] for name, values in scored.items()},
                {name: values[stop - length : stop] for name, values in drawn.items()},
            )
            for video, length, stop in zip(videos, lengths, stops, strict=True)
        ]

    def _tracks(self, bag: Bag, layout: FeatureLayout) -> dict[str, Track]:
        found = {name: t for role in self.needs for name, t in bag.role(role).items()}
        missing = sorted(set(layout.positions) - set(found))
        if missing:
            raise DetectorError(f"{bag.video_id} has no {', '.join(missing)}; the model needs them")
        tracks = {role: found[role] for role in layout.positions}
        for role, track in tracks.items():
            shape = track.array.shape
            width = self.config.width or layout.width
            wrong_width = shape[-1] != width and (self.config.width is None or shape[-1] % width)
            if wrong_width or track.grid != layout.grids.get(role):
                raise DetectorError(
                    f"{bag.video_id}: {role} is {' x '.join(map(str, shape[1:]))}, the model was "
                    f"trained on {layout.positions[role]} x {layout.width}"
                )
        return tracks

    def state_dict(self) -> State:
        """Return weights and statistics of the network, and the layout of its features."""
        if self.network is None or self.layout is None:
            raise DetectorError(f"{self.name} is not fitted")
        state = network_arrays(self.network)
        state["layout.width"] = np.array(self.layout.width, np.int64)
        for role, count in self.layout.positions.items():
            grid = self.layout.grids.get(role, (0, 0))
            state[f"layout.role.{role}"] = np.array([count, *grid], np.int64)
        return state

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are not the weights of this detector.
        """
        try:
            roles = {
                name.removeprefix("layout.role."): [int(v) for v in value]
                for name, value in state.items()
                if name.startswith("layout.role.")
            }
            layout = FeatureLayout(
                int(state["layout.width"]),
                {role: count for role, (count, _, _) in roles.items()},
                {role: (rows, columns) for role, (_, rows, columns) in roles.items() if rows},
            )
            with private_random("cpu"):
                network = self.make_network(layout)
            load_network(network, state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DetectorError(f"these are not weights of {self.name}: {error}") from error
        self.network, self.layout = network.eval(), layout


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a network (SSRL Table 6); shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())
