"""MSMG: multi-scale features by three proxy tasks on clips (Zhang et al., CVPR 2024).

A video encoder learns on normal footage whether a frame of a clip is missing, which one, and its
embedding. A clip whose missing frames it estimates badly is odd. See docs/papers/msmg.md for what
the paper leaves open.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..extractors.networks.encoders import ENCODERS
from ..extractors.weights.slots import NETWORK, Slots
from .base import (
    TRAIN_OPTIONS,
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
from .cells import pictures
from .checkpoint import discard_checkpoint
from .msmg_network import colours_innermost
from .msmg_own import OWN_ERROR
from .msmg_placing import Floats, Placing, window_starts
from .msmg_scores import RGB_ERROR, SALIENCE, Scorer, WindowErrors, negative_psnr
from .msmg_settings import MSMGConfig, Reading
from .msmg_training import ROLE, Sizes, Trained, Training, last_measured, make_networks
from .randomness import private_random
from .reconstruction import min_max
from .state import load_network, network_arrays, stored_array

SCENE = "scene/"  # how the arrays of scenes begin; the name follows
MAPS: dict[Reading, str] = {"feature": SALIENCE, "rgb": RGB_ERROR, "own": OWN_ERROR}
DISTANCE = "own_distance"


class MSMG(Detector[MSMGConfig]):
    """Continuity judgment, discontinuity localisation and missing frame estimation."""

    name: ClassVar[str] = "msmg"
    version: ClassVar[int] = 2
    words: ClassVar[str] = "something moves or looks in an unusual way"
    loads: ClassVar[tuple[int, ...]] = (1,)
    Config: ClassVar[type[Config]] = MSMGConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    train_options: ClassVar[frozenset[str]] = TRAIN_OPTIONS | {"init"}
    networks: ClassVar[Slots] = {
        NETWORK: tuple(
            card
            for kind in ENCODERS.values()
            if kind.pretrained is not None
            for card in kind.pretrained.cards
        )
    }

    def __init__(self, config: MSMGConfig) -> None:
        super().__init__(config)
        self.trained: nn.ModuleDict | None = None
        self._sizes = Sizes((0, 0), 0)
        self._scenes: dict[str, int] = {}  # name -> number, where scenes have an embedding
        self._scorer: Scorer | None = None  # made of `trained` when needed

    @classmethod
    def networks_for(cls, config: MSMGConfig) -> Slots:
        """The encoder, if it starts from pretrained weights."""
        pretrained = ENCODERS[config.encoder].pretrained
        if config.start == "scratch" or pretrained is None:
            return {}
        return {NETWORK: pretrained.cards}

    @property
    def needs(self) -> tuple[str, ...]:
        """Pictures of all frames."""
        return (ROLE,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw score, the paper's score of a video, and both of every reading."""
        readings = [name for each in self.config.readings for name in (each, f"{each}_paper")]
        tasks = [task for task in self.config.tasks if task != "estimation"]
        distance = (
            [DISTANCE] if "own" in self.config.readings and self.config.distance_weight else []
        )
        return ("score", "paper", *readings, *tasks, *distance)

    @property
    def maps(self) -> tuple[str, ...]:
        """Where the error of the embedding comes from, and errors of estimated frames."""
        return tuple(MAPS[each] for each in self.config.readings if each in MAPS)

    # -- training ------------------------------------------------------------------------------

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train the tasks together, then the decoder; the last weights are kept.

        Raises:
            DetectorError: there are no training videos, none is as long as two clips, or pictures
                do not fit the encoder.
        """
        if not len(source):
            raise DetectorError("there are no training videos")
        options = options or FitOptions()
        sizes = self._measured(source)
        weights = self.pretrained(NETWORK) if self.networks_for(self.config) else None
        training = Training(self.config, weights, self.start, device, seed, options)
        with private_random(device):
            trained = training.run(source, sizes)
        discard_checkpoint(options.folder)
        self.trained, self._sizes, self._scorer = trained.networks.eval(), sizes, None
        return self._log(trained)

    def _measured(self, source: BagSource) -> Sizes:
        """Sizes of what is read; keeps the names of scenes.

        Raises:
            DetectorError: rows are not pictures, or scenes have no names.
        """
        rows = source.video_rows(ROLE)
        shape = tuple(rows.shape)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or rows.dtype != np.uint8:
            raise DetectorError(f"{ROLE} are {rows.dtype} {shape}, not uint8 (height, width, 3)")
        self._scenes = {}
        if self.config.scene_embedding:
            names = list(dict.fromkeys(rows.scenes))
            if None in names:
                raise DetectorError(
                    "scene_embedding needs a manifest that names the scene of every training "
                    "video: set scene_embedding = 0"
                )
            self._scenes = {str(name): i for i, name in enumerate(names)}
        return Sizes((shape[0], shape[1]), len(self._scenes))

    def _log(self, trained: Trained) -> FitLog:
        assert self.trained is not None
        rows = trained.rows
        stages = {str(row["stage"]): row for row in rows}
        summary: Row = {
            **trained.samples,
            **{f"steps/{name}": row["steps"] for name, row in stages.items()},
            "batch_size": self.config.batch_size,
            "precision": self.config.precision,
            "parameters": sum(each.numel() for each in self.trained.parameters()),
            **{f"loss/{name}": row["total"] for name, row in stages.items()},
            **{f"validation/{name}": value for name, value in last_measured(rows).items()},
            "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
        }
        return FitLog(rows, summary, trained.warnings)

    # -- scoring -------------------------------------------------------------------------------

    def to(self, device: str) -> None:
        """Move the networks to the device that scores."""
        if self.trained is not None:
            self.trained.to(device)
            self._scorer = None

    def score(self, bag: Bag) -> Scores:
        """Score the frames of a video.

        Raises:
            DetectorError: the detector is not fitted, or the bag lacks pictures or does not fit.
        """
        scorer, track, config = self.scorer, self._track(bag), self.config
        starts = window_starts(len(track), config.length, config.stride)
        placing = Placing(len(track), config.length, starts, config.placement)
        scene = self._scenes.get(bag.scene or "", -1)
        errors = scorer.windows(track, starts, scene)
        columns, maps = self._placed(errors, placing)
        return Scores(track.frame_start, track.frame_stop, columns, maps)

    @property
    def scorer(self) -> Scorer:
        """The networks that score.

        Raises:
            DetectorError: the detector is not fitted.
        """
        if self.trained is None:
            raise DetectorError(f"{self.name} is not fitted")
        if self._scorer is None:
            self._scorer = Scorer(self.trained, self.config)
        return self._scorer

    def _track(self, bag: Bag) -> Track:
        """The pictures of a video.

        Raises:
            DetectorError: there are none, or they have another size than in training.
        """
        track = pictures(bag, ROLE, 3)
        if not len(track):
            raise DetectorError(f"video {bag.video_id!r} has no rows of {ROLE!r}")
        if track.array.shape[1:3] != self._sizes.picture:
            raise DetectorError(
                f"video {bag.video_id!r}: {ROLE} are {track.array.shape[1:3]}, the model was "
                f"trained on {self._sizes.picture}"
            )
        return track

    def _placed(
        self, errors: WindowErrors, placing: Placing
    ) -> tuple[dict[str, Floats], dict[str, NDArray[np.float32]]]:
        """Columns and maps of all frames."""
        config = self.config
        middle = np.full(len(placing.starts), config.length // 2)
        values, worst = dict(errors.values), dict(errors.worst)
        own = [values[task] for task in ("continuity", "localisation") if task in values]
        if own:
            values["task"] = np.mean(own, axis=0)
            worst["task"] = worst.get("localisation", middle)
        raw = {name: placing.spread(v, worst.get(name, middle)) for name, v in values.items()}
        columns: dict[str, Floats] = {}
        for each in config.readings:
            curve = raw[each] if each == "task" else negative_psnr(raw[each])
            columns |= {each: raw[each], f"{each}_paper": min_max(curve)}
        columns |= {task: raw[task] for task in config.tasks if task != "estimation"}
        if DISTANCE in raw:  # the published score of MNAD
            share = config.distance_weight
            columns[DISTANCE] = raw[DISTANCE]
            own_paper = (1 - share) * columns["own_paper"] + share * min_max(raw[DISTANCE])
            columns["own_paper"] = own_paper
        maps = {
            MAPS[each]: errors.maps[MAPS[each]][placing.nearest(worst.get(each, middle))]
            for each in config.readings
            if each in MAPS
        }
        first = {"score": columns[config.scored], "paper": columns[f"{config.scored}_paper"]}
        return {**first, **columns}, maps

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Return weights and statistics, the size of pictures, and the numbers of scenes."""
        if self.trained is None:
            raise DetectorError(f"{self.name} is not fitted")
        return {
            **network_arrays(self.trained),
            "picture": np.array(self._sizes.picture, np.int64),
            **{f"{SCENE}{name}": np.array([i], np.int64) for name, i in self._scenes.items()},
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are not the weights of this detector.
        """
        try:
            height, width = stored_array(state, "picture", "int64", (2,)).tolist()
            scenes = {
                name.removeprefix(SCENE): int(stored_array(state, name, "int64", (1,))[0])
                for name in state
                if name.startswith(SCENE)
            }
            sizes = Sizes((height, width), len(scenes))
            with private_random("cpu"):
                networks = make_networks(self.config, sizes)
            load_network(networks, state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DetectorError(f"these are not weights of {self.name}: {error}") from error
        self.trained, self._sizes, self._scenes = networks.eval(), sizes, scenes
        colours_innermost(networks)
        self._scorer = None
