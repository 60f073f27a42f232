"""The contract of a detector: arrays in, scores out, and a model folder that keeps both honest."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..data_manifests.errors import VadpipeError


class DetectorError(VadpipeError, ValueError):
    """Input that a detector cannot work with; the message names the culprits."""


def grid_of(scale: str) -> tuple[int, int]:
    """ "2x3" -> (2, 3).

    Raises:
        ValueError: it is no grid.
    """
    match = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)", scale)
    if match is None:
        raise ValueError(f"scale {scale!r} is no grid: write ROWSxCOLUMNS, for example 2x3")
    return int(match[1]), int(match[2])


class Config(BaseModel):
    """Base of all detector configs: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Supervision(Enum):
    """Which labels a detector may see while it trains."""

    NORMAL_ONLY = "normal_only"
    """Normal videos only, no labels."""
    WEAK = "weak"
    """Normal and abnormal videos with one label a video."""


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
        array: (n, ...) sliced along the first axis without loading the video; for ragged data a
            `pyarrow.Table`.
        frame_start: (n,) int64, the first frame of each row.
        frame_stop: (n,) int64, one past the last.
        grid: (rows, columns) where axis 1 is a row-major grid of patches.
    """

    array: ArrayLike | pa.Table
    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    grid: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.frame_start)

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows [start, stop) as an array in memory.

        Raises:
            TypeError: the track is a table.
        """
        if isinstance(self.array, pa.Table):
            raise TypeError("this track is a table: use its columns")
        return np.asarray(self.array[slice(start, len(self) if stop is None else stop)])


@dataclass(frozen=True)
class Bag:
    """All that a detector sees of a video (or of the part of it that a record names).

    Attributes:
        video_id: as in the manifest.
        label: 1 abnormal, 0 normal, None where the detector may not know.
        n_frames: frames of the whole video, by the decoder.
        fps: frames per second.
        tracks: role -> Track; roles may have a variant behind a slash ("patch/2x3").
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
                f"{', '.join(sorted(self.tracks)) or 'none'}"
            )
        return found


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


@dataclass(frozen=True)
class Scores:
    """What a detector says of a video, at its own rate; higher = more anomalous.

    Attributes:
        frame_start: (n,) int64.
        frame_stop: (n,) int64.
        columns: name -> (n,) float64; "score" is the raw score, comparable across videos.
        maps: name -> (n, rows, columns) float32 over the frame, optional.
        regions: table with frame_start, frame_stop, x0, y0, x1, y1 (pixels), score; optional.
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
            if not np.isfinite(column).all():
                raise DetectorError(f"score column {name!r} is not finite")


Row = dict[str, float | int | str]


@dataclass(frozen=True)
class FitOptions:
    """How a fit runs; nothing here changes what comes out of it.

    Attributes:
        folder: where an unfinished fit keeps its state, and scratch files; None keeps nothing.
        memory: bytes that training data may take on the device; None: half of what is free.
        checkpoint_seconds: between two checkpoints.
        prefetch: batches that are made ready beforehand where the data are not on the device.
        on_step: called with the log row of every step ("stage", "step", "steps", ...).
        on_load: called with (videos read, videos in all) while the data are read.
    """

    folder: Path | None = None
    memory: int | None = None
    checkpoint_seconds: float = 300.0
    prefetch: int = 2
    on_step: Callable[[Mapping[str, float | int | str]], None] | None = None
    on_load: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class FitLog:
    """What happened in training: one row a step, and a few totals."""

    rows: list[Row] = field(default_factory=list)
    summary: Row = field(default_factory=dict)


ConfigT = TypeVar("ConfigT", bound=Config)
State = dict[str, NDArray[Any]]


class Detector(ABC, Generic[ConfigT]):
    """A trainable scorer. `__init__` stores the config: no I/O, no device.

    Class attributes:
        name: registry name.
        version: raised whenever the same settings give other numbers; part of the key.
        Config: the pydantic config.
        supervision: which labels training may see.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    Config: ClassVar[type[Config]]
    supervision: ClassVar[Supervision]

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Roles (not extractors) that a bag must have: "snippet", "patch", "frame", "object"."""

    @abstractmethod
    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train from nothing: a second fit forgets the first.

        A fit that was killed goes on where `options.folder` has kept its state.

        Raises:
            DetectorError: the source cannot be trained on.
        """

    @abstractmethod
    def score(self, bag: Bag) -> Scores:
        """Score one video."""

    def to(self, device: str) -> None:
        """Score on this device from now on; does nothing where there is no network."""
        return None

    @abstractmethod
    def state_dict(self) -> State:
        """All that was learned, as arrays."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave; scores are then bit-equal."""

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores] | None:
        """Scores of the training videos, each as if it had not been trained on.

        For detectors that can leave one out cheaply; None (the default) makes `train` hold back
        some normal videos instead.
        """
        return None
