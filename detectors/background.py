"""Background: how far a frame is from the mean frame of normal footage; a trivial baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from .base import (
    Bag,
    BagSource,
    Config,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Scores,
    State,
    Supervision,
)
from .cells import blocks, cell_means, pictures
from .scenes import learned_of, scene_of
from .state import stored_array


class BackgroundConfig(Config):
    """Settings of `background`."""

    spread: bool = Field(
        default=False, description="divide each distance by the standard deviation of its pixel"
    )
    floor: float = Field(
        default=1.0, gt=0, description="smallest standard deviation, in grey values"
    )
    per_scene: bool = Field(
        default=True, description="a mean frame for each camera that the manifest names"
    )
    cells: tuple[PositiveInt, PositiveInt] = Field(
        default=(24, 36), description="(rows, columns) of the map"
    )


@dataclass(frozen=True)
class Sums:
    """Exact sums over frames, so that their order and their division into videos do not matter.

    Attributes:
        count: number of frames.
        values: (H, W, 3) int64, sums of the values.
        squares: (H, W, 3) int64, sums of their squares.
    """

    count: int
    values: NDArray[np.int64]
    squares: NDArray[np.int64]

    def plus(self, other: Sums, sign: int = 1) -> Sums:
        """Add sums, or take them away."""
        return Sums(
            self.count + sign * other.count,
            self.values + sign * other.values,
            self.squares + sign * other.squares,
        )

    def mean_and_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each value, (H, W, 3) each."""
        mean = self.values / self.count
        return mean, np.sqrt(np.maximum(self.squares / self.count - mean * mean, 0.0))


class Background(Detector[BackgroundConfig]):
    """The mean squared distance from the mean training frame, plain or by its spread."""

    name: ClassVar[str] = "background"
    version: ClassVar[int] = 1
    words: ClassVar[str] = "the picture differs from the usual background of this camera"
    Config: ClassVar[type[Config]] = BackgroundConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    train_options: ClassVar[frozenset[str]] = frozenset({"holdout"})  # where a scene has one video

    def __init__(self, config: BackgroundConfig) -> None:
        super().__init__(config)
        self._sums: dict[str, Sums] = {}  # by scene

    @property
    def needs(self) -> tuple[str, ...]:
        """Pictures; small ones do, and not every frame is needed."""
        return ("pixels",)

    @property
    def maps(self) -> tuple[str, ...]:
        """The mean squared distance of each cell."""
        return ("distance",)

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Add up the training frames of each scene.

        Raises:
            DetectorError: there are no training videos, or their pictures differ in size.
        """
        self._sums = self._sums_of(source)
        frames = sum(sums.count for sums in self._sums.values())
        return FitLog(summary={"videos": len(source), "frames": frames, "scenes": len(self._sums)})

    def draws(self, source: BagSource) -> bool:
        """Tell that nothing is drawn at random."""
        return False

    def score(self, bag: Bag) -> Scores:
        """Score each row.

        Raises:
            DetectorError: the detector is not fitted, or the bag is of another scene or size.
        """
        if not self._sums:
            raise DetectorError("background is not fitted")
        return self._scored(bag, self._sums)

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores] | None:
        """Score each training video against the other ones of its scene.

        None where a scene has a single training video: it cannot be left out.
        """
        sums = self._sums_of(source)
        scenes = [self._scene(bag) for bag in source]
        if any(scenes.count(scene) == 1 for scene in scenes):
            return None
        scored = []
        for bag, scene in zip(source, scenes, strict=True):
            others = sums[scene].plus(self._added(bag), -1)
            scored.append(self._scored(bag, {scene: others}))
        return scored

    def _scene(self, bag: Bag) -> str:
        return scene_of(bag, per_scene=self.config.per_scene)

    def _sums_of(self, source: BagSource) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        shape: tuple[int, ...] | None = None
        for bag in source:
            sums, scene = self._added(bag), self._scene(bag)
            if shape not in (None, sums.values.shape):
                raise DetectorError(
                    f"video {bag.video_id!r}: pictures are {sums.values.shape}, those of videos "
                    f"before it {shape}"
                )
            shape = sums.values.shape
            found[scene] = found[scene].plus(sums) if scene in found else sums
        if not found:
            raise DetectorError("there are no training videos")
        return found

    def _added(self, bag: Bag) -> Sums:
        """The sums of one video."""
        track = pictures(bag, "pixels", 3)
        total = Sums(0, *(np.zeros(track.array.shape[1:], np.int64) for _ in range(2)))
        for _, block in blocks(track):
            wide = block.astype(np.uint32)
            squares = (wide * wide).sum(0, dtype=np.int64)
            total = total.plus(Sums(len(block), wide.sum(0, dtype=np.int64), squares))
        return total

    def _scored(self, bag: Bag, known: Mapping[str, Sums]) -> Scores:
        track = pictures(bag, "pixels", 3)
        mean, std = learned_of(known, bag, per_scene=self.config.per_scene).mean_and_std()
        if track.array.shape[1:] != mean.shape:
            raise DetectorError(
                f"video {bag.video_id!r}: pictures are {track.array.shape[1:]}, the model has "
                f"{mean.shape}"
            )
        weight = 1 / np.maximum(std, self.config.floor) ** 2 if self.config.spread else 1.0
        score, maps = np.zeros(len(track)), []
        for first, block in blocks(track):
            distance = ((block - mean) ** 2 * weight).mean(-1)  # (n, H, W)
            score[first : first + len(block)] = distance.mean((1, 2))
            maps.append(cell_means(distance, self.config.cells).astype(np.float32))
        return Scores(
            track.frame_start,
            track.frame_stop,
            {"score": score},
            {"distance": np.concatenate(maps)},
        )

    def state_dict(self) -> State:
        """Return the sums of each scene: SCENE/count, SCENE/values, SCENE/squares."""
        state: dict[str, NDArray[Any]] = {}
        for scene, sums in self._sums.items():
            state[f"{scene}/count"] = np.array([sums.count], np.int64)
            state[f"{scene}/values"], state[f"{scene}/squares"] = sums.values, sums.squares
        return state

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are no sums.
        """
        scenes = [name.removesuffix("/count") for name in state if name.endswith("/count")]
        self._sums = {
            scene: Sums(
                int(stored_array(state, f"{scene}/count", "int64", (1,))[0]),
                *(
                    stored_array(state, f"{scene}/{name}", "int64", (None, None, 3))
                    for name in ("values", "squares")
                ),
            )
            for scene in scenes
        }
