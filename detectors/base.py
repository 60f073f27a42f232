"""The contract of a detector, and the types that it exchanges with the stages."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data_manifests.choices import choices
from ..data_manifests.errors import VadpipeError
from ..data_manifests.settings import Settings
from ..extractors.weights.cards import ResolvedWeights
from ..extractors.weights.slots import Slots, misfit
from .plain_words import USUAL
from .samples import Sample


class DetectorError(VadpipeError, ValueError):
    """Input that a detector cannot work with; the message names the videos or values at fault."""


def grid_of(scale: str) -> tuple[int, int]:
    """Convert "2x3" to (2, 3): rows, columns.

    Raises:
        ValueError: the text is not ROWSxCOLUMNS.
    """
    match = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)", scale)
    if match is None:
        raise ValueError(f"scale {scale!r} is not a grid: write ROWSxCOLUMNS, for example 2x3")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class AddedLater:
    """Marks an option that is newer than trained models: `Annotated[type, ADDED_LATER]`."""


ADDED_LATER = AddedLater()


class Config(Settings):
    """Base of all detector configs: frozen, and an unknown key is an error."""

    def for_key(self) -> dict[str, Any]:
        """Return the settings that are part of a model's key, as JSON values.

        Options marked `ADDED_LATER` are left out at their default, so that a model which was
        trained before they came keeps its key. The default of such an option must never change.
        """
        left_out = {
            name
            for name, info in type(self).model_fields.items()
            if ADDED_LATER in info.metadata and getattr(self, name) == info.default
        }
        return self.model_dump(mode="json", exclude=left_out)


class Supervision(Enum):
    """Which labels a detector may see while it trains."""

    NORMAL_ONLY = "normal_only"
    """Normal videos only, no labels."""
    WEAK = "weak"
    """Normal and abnormal videos, with one label for each video."""


class ArrayLike(Protocol):
    """An array on disk or in memory: a shape, and slices along the first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        ...

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read rows."""
        ...


@dataclass(frozen=True)
class Track:
    """One array of a video at its own rate.

    Attributes:
        array: (n, ...), sliced along the first axis without loading the whole video; n may be 0
            where rows are ragged (frames without objects).
        frame_start: (n,) int64, the first frame of each row.
        frame_stop: (n,) int64, one past the last frame of each row.
        grid: (rows, columns) if axis 1 is a row-major grid of patches, else None.
    """

    array: ArrayLike
    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    grid: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.frame_start)

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read rows [start, stop) into memory."""
        return np.asarray(self.array[slice(start, len(self) if stop is None else stop)])


@dataclass(frozen=True)
class Bag:
    """What a detector sees of a video, or of the part of it that a record names.

    Attributes:
        video_id: as in the manifest.
        label: 1 abnormal, 0 normal, None if it is unknown or hidden from the detector.
        n_frames: frames of the whole video, by the decoder.
        fps: frames per second.
        tracks: role -> Track; roles may have a variant after a slash ("patch/2x3").
        scene: the camera, where the manifest says so.
    """

    video_id: str
    label: int | None
    n_frames: int
    fps: float
    tracks: Mapping[str, Track]
    scene: str | None = None

    def role(self, role: str) -> dict[str, Track]:
        """The tracks of a role and its variants, in order of their names.

        Raises:
            DetectorError: there are none.
        """
        found = {
            name: track
            for name, track in sorted(self.tracks.items())
            if name == role or name.startswith(f"{role}/")
        }
        if not found:
            raise DetectorError(
                f"video {self.video_id!r} has no {role!r} features; it has: "
                f"{choices(sorted(self.tracks), role)}"
            )
        return found


class VideoRows(Protocol):
    """The rows of one role in all videos of a source, for detectors that draw them at random.

    Rows are counted from the index of the cache, so that no file is opened before one is read.
    """

    @property
    def role(self) -> str:
        """The role."""
        ...

    @property
    def video_ids(self) -> Sequence[str]:
        """(V,) the videos, in manifest order."""
        ...

    @property
    def scenes(self) -> Sequence[str | None]:
        """(V,) the camera of each video, where the manifest names it."""
        ...

    @property
    def labels(self) -> Sequence[int | None]:
        """(V,) the label of each video; None if it is unknown or hidden from the detector."""
        ...

    @property
    def counts(self) -> NDArray[np.int64]:
        """(V,) the number of rows of each video; 0 is allowed where rows are ragged."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of one row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        ...

    def read_into(self, out: NDArray[Any], video: int, start: int) -> None:
        """Copy the rows [start, start + len(out)) of a video; several threads may call it."""
        ...


class BagSource(Protocol):
    """The bags of one split."""

    def __len__(self) -> int:
        """Number of bags."""
        ...

    def __getitem__(self, i: int) -> Bag:
        """The i-th bag; arrays are opened, not read."""
        ...

    def __iter__(self) -> Iterator[Bag]:
        """All bags in manifest order."""
        ...

    def subset(self, indices: Sequence[int]) -> BagSource:
        """The source of these bags only."""
        ...

    def video_rows(self, role: str) -> VideoRows:
        """The rows of exactly this role in all videos; no bag is opened.

        Raises:
            DetectorError: the videos have no features of this role.
        """
        ...


@dataclass(frozen=True)
class Scores:
    """The scores of a video at the rate of its features; higher = more anomalous.

    Attributes:
        frame_start: (n,) int64, the first frame of each row; never decreases.
        frame_stop: (n,) int64, one past the last frame of each row; never decreases.
        columns: name -> (n,) float64, finite; "score" is required: the raw score, comparable
            across videos.
        maps: name -> (n, rows, columns) float32 over the frame, optional.
        regions: boxes with frame, x0, y0, x1, y1 (pixels of the video), score, and optionally
            track_id, label, explain (why, in numbers), words (why, for everyone); optional.

    Raises:
        DetectorError: "score" is missing, the lengths differ, or a column is not finite numbers.
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    regions: pa.Table | None = None

    def __post_init__(self) -> None:
        n = len(self.frame_start)
        if "score" not in self.columns:
            raise DetectorError("scores need a column named 'score'")
        lengths = {
            "frame_stop": len(self.frame_stop),
            **{name: len(column) for name, column in self.columns.items()},
            **{name: len(values) for name, values in self.maps.items()},
        }
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise DetectorError(f"scores have {n} rows, but: {wrong}")
        for name, column in self.columns.items():
            values = np.asarray(column)
            if values.ndim != 1 or values.dtype.kind not in "biuf":
                what = f"{values.shape} {values.dtype}"
                raise DetectorError(f"score column {name!r} has to be (n,) numbers, not {what}")
            if not np.isfinite(values).all():
                raise DetectorError(f"score column {name!r} is not finite")


Row = dict[str, float | int | str]


@dataclass(frozen=True)
class FitOptions:
    """How a fit runs; no option changes its result.

    Attributes:
        folder: where an unfinished fit keeps its state and scratch files; None keeps nothing.
        memory: bytes that training data may take on the device; None: half of what is free.
        checkpoint_seconds: seconds between two checkpoints.
        prefetch: batches that are loaded ahead if the data are not on the device.
        on_step: called with the log row of every step ("stage", "step", "steps", ...).
        on_load: called with (videos read, videos in all) while the data are read.
        on_sample: called with pictures of training windows, if the detector makes any.
    """

    folder: Path | None = None
    memory: int | None = None
    checkpoint_seconds: float = 300.0
    prefetch: int = 2
    on_step: Callable[[Mapping[str, float | int | str]], None] | None = None
    on_load: Callable[[int, int], None] | None = None
    on_sample: Callable[[Sample], None] | None = None


@dataclass(frozen=True)
class FitLog:
    """What happened in training.

    Attributes:
        rows: one a step.
        summary: a few totals.
        warnings: sentences about what may have gone wrong.
    """

    rows: list[Row] = field(default_factory=list)
    summary: Row = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


ConfigT = TypeVar("ConfigT", bound=Config)
State = dict[str, NDArray[Any]]


# device: `fit` computes there. holdout: normal videos are held back to calibrate, because
# `held_out_scores` returns None. memory, tensorboard: it reads these parts of `FitOptions`. Those
# that start from a fitted model add init.
TRAIN_OPTIONS = frozenset({"device", "holdout", "memory", "tensorboard"})


class Detector(ABC, Generic[ConfigT]):
    """A trainable scorer. `__init__` stores the config: no I/O, no device.

    Class attributes:
        name: registry name.
        version: raised when the same settings start to compute other numbers; part of the key.
        loads: earlier versions whose models score the same: only training has changed since.
        Config: the pydantic config.
        supervision: which labels training may see.
        reads_whole: whether `score` reads all rows of the roles in `needs`: they are read ahead.
        networks: slot -> pretrained weights that a part of the network can start from, the default
            first; empty if everything is trained from scratch. If slots or weights depend on the
            config, these are all of them, and `networks_for` returns those of a config.
        train_options: which options of a training it makes use of; `train` refuses the others.
        words: what a high score means, in words of a guard, where no box says more.

    Attributes:
        weights: slot -> pretrained weights, what `take_weights` got. A model that was loaded has
            none: its state holds all that it learned.
        start: state of a fitted model that `fit` starts from; empty: from scratch.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    loads: ClassVar[tuple[int, ...]] = ()
    Config: ClassVar[type[Config]]
    supervision: ClassVar[Supervision]
    reads_whole: ClassVar[bool] = False
    networks: ClassVar[Slots] = {}
    train_options: ClassVar[frozenset[str]] = TRAIN_OPTIONS
    words: ClassVar[str] = USUAL

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.weights: Mapping[str, ResolvedWeights] = {}
        self.start: State = {}

    @classmethod
    def networks_for(cls, config: ConfigT) -> Slots:
        """Return the networks of a config: slot -> the cards that fit, the default first."""
        return cls.networks

    def take_weights(self, weights: Mapping[str, ResolvedWeights]) -> None:
        """Keep the pretrained weights that `fit` starts from; nothing is read yet.

        Args:
            weights:
                One for each slot of `networks_for(config)`.

        Raises:
            DetectorError: a slot has no weights, or weights that do not fit.
        """
        if wrong := misfit(self.name, self.networks_for(self.config), weights):
            raise DetectorError(wrong)
        self.weights = dict(weights)

    def pretrained(self, slot: str) -> ResolvedWeights:
        """Return the weights of a slot, for `fit`.

        Raises:
            DetectorError: `take_weights` was not called.
        """
        if slot not in self.weights:
            raise DetectorError(f"{self.name} needs weights for {slot}: call take_weights first")
        return self.weights[slot]

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Roles (not extractors) that a bag must have: "snippet", "patch", "frame", "object"."""

    @property
    def twins(self) -> Mapping[str, str]:
        """Features of perturbed footage that `fit` reads next to `needs`: name in a bag -> role.

        The features of a twin have the same role as those of the footage itself, but another name
        in the bag. `score` gets bags without them.
        """
        return {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `Scores`, "score" among them; asked after a fit."""
        return ("score",)

    @property
    def regions(self) -> bool:
        """Whether `score` returns boxes; it then does for every video, maybe without rows."""
        return False

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that `Scores` may have; asked after a fit."""
        return ()

    @abstractmethod
    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train from scratch, or from `start`: a second fit forgets the first.

        A fit that was killed resumes from the state in `options.folder`.

        Args:
            source:
                The training bags.
            device:
                Torch's name of the training device.
            seed:
                Decides everything that is drawn at random.
            options:
                How the fit runs; None takes the defaults.

        Raises:
            DetectorError: the source cannot be trained on.
        """

    def draws(self, source: BagSource) -> bool:
        """Tell whether a fit to these bags draws random numbers; the default is True.

        If not, and if no videos are held back, every seed has the same model, and `train --seeds`
        trains one.
        """
        return True

    def refuse_options(self, given: Collection[str]) -> None:
        """Check options of a training that the user has given.

        Raises:
            DetectorError: the detector would ignore some of them.
        """
        if ignored := sorted(set(given) - self.train_options):
            raise DetectorError(
                f"{self.name} would ignore {' and '.join(ignored)}: leave "
                f"{'it' if len(ignored) == 1 else 'them'} out"
            )

    @abstractmethod
    def score(self, bag: Bag) -> Scores:
        """Score one video.

        Raises:
            DetectorError: the detector is not fitted, or the bag does not fit the model.
        """

    def to(self, device: str) -> None:
        """Score on this device from now on; does nothing for a detector without a network."""
        return None

    @abstractmethod
    def state_dict(self) -> State:
        """Return everything that was learned, as arrays."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned; scores are then bit-equal."""

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores] | None:
        """Score the training videos, each as if it had not been used in training.

        The default returns None: `train` then holds back some normal videos. Of a video that is the
        only one of its scene, parts are left out in turn: its camera would be new.

        Args:
            source:
                The training bags, without copies.
            seed:
                As of the fit.

        Returns:
            One entry for each bag, in order. Rows may be missing, and an entry without rows means
            that the video is too short.
        """
        return None
