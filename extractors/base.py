"""The contract of an extractor: a fixed computation that turns clips into arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.settings import Settings
from .clips import Clip, ClipRule
from .errors import ExtractorError
from .footage.resizing import Resize
from .weights.cards import ResolvedWeights
from .weights.slots import Slots, misfit, recorded

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionRequest = Literal["auto", "fp32", "bf16", "fp16"]
TUNING = "tuning.json"  # the file of batch sizes in the root of a cache


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs; no setting changes more than the last bits of a result.

    Attributes:
        device: "cpu", "cuda", "cuda:1", ...
        threads: threads of a network on a CPU; None keeps torch's own number.
        batch_size: clips that go through the network at once; None finds the fastest number.
        compile: True optimises the network with torch.compile first.
        cuda_graphs: True replays recorded CUDA graphs; without effect on a CPU.
        tuning: file of the batch sizes that were found; None takes that of the default cache.
    """

    device: str = "cpu"
    threads: int | None = None
    batch_size: int | None = None
    compile: bool = False
    cuda_graphs: bool = False
    tuning: Path | None = None


class Config(Settings):
    """Base of all extractor configs: frozen, and an unknown key is an error."""


@dataclass(frozen=True)
class ArraySpec:
    """The description of one array that an extractor computes.

    Attributes:
        name: data set name in the shard.
        dtype: numpy dtype in storage.
        dims: names of the axes; the first one names the row axis ("snippet", "frame", "object").
        shape: sizes of the axes after the first one.
        role: what a detector may ask for ("snippet", "patch/2x3", ...); None for extras.
        grid: (rows, columns) of a patch axis, row-major from the top left.
        attrs: further facts that are stored with the array.
        ragged: a clip may have any number of rows, none included; else it has exactly one.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    role: str | None = None
    grid: tuple[int, int] | None = None
    attrs: tuple[tuple[str, Any], ...] = ()
    ragged: bool = False

    @property
    def axis(self) -> str:
        """The row axis."""
        return self.dims[0]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, for recipes."""
        facts = {
            "name": self.name,
            "dtype": self.dtype,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "role": self.role,
            "grid": None if self.grid is None else list(self.grid),
            "attrs": dict(self.attrs),
        }
        return facts | ({"ragged": True} if self.ragged else {})


@dataclass(frozen=True)
class Rows:
    """Rows of one axis: what an extractor makes of a batch of clips, and what a shard keeps.

    Attributes:
        frame_start: (n,) int64, the first frame of each row; never decreases.
        frame_stop: (n,) int64, one past the last frame; never decreases.
        arrays: name -> (n, ...); all arrays of one axis have the same n.
        clip_start: (n,) int64, the first frame of the clip that each row is from; never decreases.
            None where every clip has exactly one row, whose frames are those of the clip.
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    clip_start: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.frame_start)


def one_row_each(clips: Sequence[Clip], arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Rows where each clip has exactly one: its frames are those of the clip."""
    return Rows(
        np.array([clip.frame_start for clip in clips], np.int64),
        np.array([clip.frame_stop for clip in clips], np.int64),
        arrays,
    )


ConfigT = TypeVar("ConfigT", bound=Config)


class Extractor(ABC, Generic[ConfigT]):
    """A frozen network (or plain arithmetic) that turns clips into arrays.

    `__init__` does no I/O. `load` puts the network on a device. `extract` takes a batch of clips of
    one video and returns rows for every axis of `arrays`: one row a clip (`one_row_each`), or any
    number of rows where the arrays of the axis are `ragged`.

    Class attributes:
        name: registry name.
        version: raised when the same settings start to compute other numbers; part of the key.
        Config: the pydantic config.
        networks: slot -> pretrained weights that fit, the default first; empty for plain
            arithmetic. An extractor with one network calls its slot "network". If slots or weights
            depend on the config, these are all of them, and `networks_for` returns those of a
            config.
        presets: named settings, `NAME:PRESET` on the command line.
        keeps_pixels: True if the arrays are decoded pictures; they are so large that the user must
            allow them.
        pixel_array: the array of decoded RGB pictures, (n, H, W, 3) uint8, that other extractors
            can read instead of footage; None where there is none.
        batch_size: clips that `extract` gets at once on a CPU by default.
        gpu_batch_size: clips that `extract` gets at once on a GPU by default. The network itself
            decides how many of their crops or patches it computes together.
        clip_copies: bytes of memory that `extract` takes for a clip at its original size, for each
            byte of its pictures, beside the pictures. A float32 copy is 4. Videos whose clips would
            not fit are refused before they are decoded.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    Config: ClassVar[type[Config]]
    networks: ClassVar[Slots] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    keeps_pixels: ClassVar[bool] = False
    pixel_array: ClassVar[str | None] = None
    batch_size: ClassVar[int] = 8
    gpu_batch_size: ClassVar[int] = 32
    clip_copies: ClassVar[float] = 5.0

    def __init__(
        self,
        config: ConfigT,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        given = dict(weights or {})
        if wrong := misfit(self.name, self.networks_for(config), given):
            raise ExtractorError(wrong)
        self.config = config
        self.weights: Mapping[str, ResolvedWeights] = given
        self.precision: Precision = precision

    @classmethod
    def networks_for(cls, config: ConfigT) -> Slots:
        """Return the networks of a config: slot -> the cards that fit, the default first."""
        return cls.networks

    @classmethod
    def keeps_pixels_with(cls, config: ConfigT) -> bool:
        """Whether the arrays with these settings are decoded pictures, see `keeps_pixels`."""
        return cls.keeps_pixels

    @property
    @abstractmethod
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The arrays that `extract` returns."""

    @property
    @abstractmethod
    def clip_rule(self) -> ClipRule:
        """How the engine cuts the video for this extractor."""

    @abstractmethod
    def load(self, runtime: Runtime) -> None:
        """Load the network and put it on the device."""

    @abstractmethod
    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Compute the rows of a batch of clips of one video, by axis.

        Floats are float32; the engine casts them to the type of the array.
        """

    def check_end(self, video: str, n_frames: int) -> None:
        """Refuse a video that what the extractor knows of it contradicts, once its end is reached.

        Args:
            video:
                Path of the footage.
            n_frames:
                Frames that were decoded.

        Raises:
            ExtractorError: they do not belong together.
        """

    def check_videos(self, paths: Sequence[str]) -> None:
        """Refuse videos that the extractor would take for one, before any of them is opened.

        Args:
            paths:
                Of all videos of a run, one for each content.

        Raises:
            ExtractorError: there are some; the message says how to tell them apart.
        """

    @property
    def copies(self) -> float:
        """`clip_copies` with these settings."""
        return self.clip_copies

    def resize_first(self, height: int, width: int) -> Resize | None:
        """The resize that `extract` begins with, for pictures of (height, width).

        Where it names one, the pictures of clips may come resized in this way already, by the
        process that decodes them, and `extract` has to return the same: it resizes no picture that
        has the size, and asks for no other property of the pictures as they were. None: it needs
        them as they are.
        """
        return None

    def rows_a_clip(self, axis: str) -> float:
        """Rows of an axis that a clip is expected to have, for estimates."""
        return 1.0

    def computed_on(self, device: str) -> frozenset[str]:
        """Return the devices that really compute where this one is asked for.

        After `load` it is what was used, before it what this machine would use. Arithmetic without
        a network runs on the CPU, and is not named beside networks.
        """
        return frozenset({device if self.weights else "cpu"})

    def flops(self, height: int, width: int) -> float:
        """Estimate the work for one clip of a video of this size, as multiply-adds times two."""
        return 0.0

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the numbers, as plain JSON values; the key is its hash."""
        rule = self.clip_rule
        return {
            "extractor": self.name,
            "version": self.version,
            "config": self.config.model_dump(mode="json"),
            "clips": {
                "length": rule.length,
                "stride": rule.stride,
                "tail": rule.tail,
                "before": rule.before,
                "after": rule.after,
            },
            "weights": recorded(self.weights),
            "precision": self.precision if self.weights else None,
            "arrays": [spec.to_json() for spec in self.arrays],
        }


def cast_checked(values: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    """Cast values for storage; an overflow or a NaN is an error.

    Raises:
        ExtractorError: the values are not finite after the cast.
    """
    cast = values.astype(dtype, copy=False)
    if np.issubdtype(cast.dtype, np.floating) and not np.isfinite(cast).all():
        raise ExtractorError(
            f"array {name!r}: values are not finite in {dtype} "
            f"(largest magnitude {np.nanmax(np.abs(values)):.3g}); store as float32 or check the "
            "weights"
        )
    return cast
