"""Pseudo-anomalies: two autoencoders and a discriminator (Rai et al., CVPRW 2024).

An autoencoder of frames and one of flow learn to return normal clips, also where they get a
pseudo-anomaly; a discriminator tells features of normal frames from those of perturbed ones. What
the paper leaves open is decided in docs/papers/pseudo_anomaly.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from .autoencoder import Autoencoder, folded
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
from .checkpoint import discard_checkpoint
from .indicators import COLUMNS, Floats, Part, Scale, as_published, combined, learnt_eta
from .pseudo_settings import PseudoAnomalyConfig
from .pseudo_training import Parts, Training, in_precision, make_networks, omega, vectors
from .randomness import private_random
from .reconstruction import (
    Placement,
    place,
    reconstruction_errors,
    scaled_flow,
    scaled_frames,
)
from .state import load_network, network_arrays, stored_array

FEATURES_AT_ONCE = 4096  # rows that the discriminator scores together
MAPS: dict[Part, str] = {"spatial": "frame_error", "temporal": "flow_error"}
UNTOLD = (
    "no indicator tells held-out pseudo-anomalies from normal footage, so eta stays as it was given"
)


class PseudoAnomaly(Detector[PseudoAnomalyConfig]):
    """Reconstruction of frames, reconstruction of flow, and semantic inconsistency."""

    name: ClassVar[str] = "pseudo_anomaly"
    version: ClassVar[int] = 2
    words: ClassVar[str] = "something moves or looks in an unusual way"
    Config: ClassVar[type[Config]] = PseudoAnomalyConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    train_options: ClassVar[frozenset[str]] = TRAIN_OPTIONS | {"init"}

    def __init__(self, config: PseudoAnomalyConfig) -> None:
        super().__init__(config)
        self.trained: nn.ModuleDict | None = None
        self.eta: dict[Part, float] = config.weights
        self.scales: dict[Part, Scale] = {}
        self._shapes: dict[Part, tuple[int, ...]] = {}  # of one row
        self._folded: dict[Part, Autoencoder] = {}  # what scores; made of `trained` when needed

    @property
    def roles(self) -> dict[Part, str]:
        """Part -> the role that it reads."""
        names = {"spatial": "pixels", "temporal": "flow", "semantic": self.config.features}
        return {part: names[part] for part in self.config.parts}

    @property
    def needs(self) -> tuple[str, ...]:
        """Pictures, flow and features, as far as their parts have a weight."""
        return tuple(self.roles.values())

    @property
    def twins(self) -> Mapping[str, str]:
        """In-painted frames, and the features of these."""
        config = self.config
        wanted = {"semantic": True, "spatial": "perturbed" in config.spatial}
        wanted["spatial"] &= config.p_s > 0 or config.learn_eta
        return {
            f"perturbed_{role}": role
            for part, role in self.roles.items()
            if wanted.get(part, False)
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The comparable sum, the paper's score of a video, and the raw indicators."""
        return ("score", "paper", *(COLUMNS[part] for part in self.config.parts))

    @property
    def maps(self) -> tuple[str, ...]:
        """Mean squared errors of cells."""
        return tuple(MAPS[part] for part in self.config.parts if part in MAPS)

    # -- training ------------------------------------------------------------------------------

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Train the parts one after another, then measure their scales on normal footage.

        Raises:
            DetectorError: there are no training videos, none is as long as a window, or sizes,
                rows or frames of feature sets do not fit together. All of it is checked before
                anything is trained.
        """
        options = options or FitOptions()
        training = Training(self.config, self.roles, self.twins, device, seed, options, self.start)
        learning, held = training.divided(source)
        with private_random(device):
            parts = training.run(learning, held)
            normal = training.indicators(parts, learning if held is None else held)
            self.scales = {part: Scale.of(values) for part, values in normal.items()}
            self.eta, warnings = self._weighed(training, parts, held, normal)
            warnings += tuple(
                f"{COLUMNS[part]} is the same all over the normal footage: its share of the score "
                "means little; train on footage that varies, or give this part a weight of 0"
                for part, scale in self.scales.items()
                if scale.constant
            )
        discard_checkpoint(options.folder)
        self.trained, self._shapes = parts.networks.eval(), parts.shapes
        self._folded = {}
        summary: Row = {
            "videos": len(learning),
            **{f"windows/{part}": n for part, n in parts.windows.items()},
            **{f"steps/{part}": n for part, n in training.steps(parts).items()},
            "precision": self.config.precision,
            "parameters": sum(each.numel() for each in self.trained.parameters()),
            **{f"eta/{part}": weight for part, weight in self.eta.items()},
            **{f"loss/{part}": loss for part, loss in training.last_losses(parts).items()},
            "seconds": round(sum(float(row["seconds"]) for row in parts.rows), 1),
        }
        return FitLog(parts.rows, summary, warnings)

    def _weighed(
        self,
        training: Training,
        parts: Parts,
        held: BagSource | None,
        normal: Mapping[Part, Floats],
    ) -> tuple[dict[Part, float], tuple[str, ...]]:
        """The weights of the parts, learnt if they are to be, and warnings."""
        if held is None:
            return self.config.weights, ()
        pseudo = training.indicators(parts, held, pseudo=True)
        standard = [
            {part: self.scales[part].standard(values[part]) for part in normal}
            for values in (normal, pseudo)
        ]
        whole = np.stack([standard[0][part] for part in normal], 1)
        odd = []  # a pseudo-anomaly of frames, and one of flow
        for changed in (("spatial", "semantic"), ("temporal",)):
            if set(changed) & set(normal):
                odd.append(np.stack([standard[part in changed][part] for part in normal], 1))
        found = learnt_eta(whole, np.concatenate(odd))
        if not found.any():
            return self.config.weights, (UNTOLD,)
        return dict(zip(normal, found.tolist(), strict=True)), ()

    # -- scoring -------------------------------------------------------------------------------

    def to(self, device: str) -> None:
        """Move the networks to the device that scores."""
        if self.trained is not None:
            self.trained.to(device)
            self._folded = {}

    def score(self, bag: Bag) -> Scores:
        """Score the frames of a video.

        Raises:
            DetectorError: the detector is not fitted, or the bag lacks an array or does not fit.
        """
        if self.trained is None:
            raise DetectorError(f"{self.name} is not fitted")
        tracks = {part: self._track(bag, part) for part in self.config.parts}
        times = next(iter(tracks.values()))
        placement = self._placed(bag, tracks)
        found: dict[Part, Floats] = {}
        maps: dict[str, NDArray[np.float32]] = {}
        with torch.inference_mode():
            for part, track in tracks.items():
                if part == "semantic":
                    frames = times.frame_start[placement.rows]
                    found[part] = self._logits(bag, track, frames)
                else:
                    found[part], maps[MAPS[part]] = self._reconstructed(part, track, placement)
        raw = {part: expit(v) if part == "semantic" else v for part, v in found.items()}
        return Scores(
            times.frame_start[placement.rows],
            times.frame_stop[placement.rows],
            {
                "score": combined(found, self.eta, self.scales),
                "paper": as_published(raw, self.eta, self.config.w2_norm),
                **{COLUMNS[part]: values for part, values in raw.items()},
            },
            maps,
        )

    def _placed(self, bag: Bag, tracks: Mapping[Part, Track]) -> Placement:
        """The windows of a video; frames and flow have to lie at the same frames."""
        pictures = [track for part, track in tracks.items() if part != "semantic"]
        if len(pictures) == 2 and not np.array_equal(
            pictures[0].frame_start, pictures[1].frame_start
        ):
            raise DetectorError(
                f"video {bag.video_id!r}: pixels and flow lie at other frames: extract both with "
                "the same stride"
            )
        if not pictures:
            every = np.arange(len(tracks["semantic"]), dtype=np.int64)
            return Placement(every, every)
        config = self.config
        n = len(pictures[0])
        return place(n, config.length, config.scored_frame, config.stride, config.border)

    def _track(self, bag: Bag, part: Part) -> Track:
        """What a part reads of a video.

        Raises:
            DetectorError: it is not there, has no rows, or another shape than in training.
        """
        role = self.roles[part]
        if role not in bag.tracks:
            raise DetectorError(f"video {bag.video_id!r} has no {role!r} array")
        track = bag.tracks[role]
        if not len(track):
            raise DetectorError(f"video {bag.video_id!r} has no rows of {role!r}")
        if track.array.shape[1:] != self._shapes[part]:
            raise DetectorError(
                f"video {bag.video_id!r}: {role} are {track.array.shape[1:]}, the model was "
                f"trained on {self._shapes[part]}"
            )
        return track

    def _reconstructed(
        self, part: Part, track: Track, placement: Placement
    ) -> tuple[Floats, NDArray[np.float32]]:
        if part not in self._folded:
            assert self.trained is not None
            trained = self.trained[part]
            assert isinstance(trained, Autoencoder)
            self._folded[part] = folded(trained)
        network = self._folded[part]
        device = next(network.parameters()).device
        with in_precision(network, self.config.precision, device):
            errors = reconstruction_errors(
                *(track, placement, self.config.length, network),
                *(self._scaled(part), self.config.measure, device),
            )
        return omega(part, errors.values), errors.maps

    def _scaled(self, part: Part) -> Callable[[Tensor], Tensor]:
        config = self.config
        if part == "spatial":
            return lambda windows: scaled_frames(windows, config.channels)
        return lambda windows: scaled_flow(windows, config.flow_channels, config.flow_limit)

    def _logits(self, bag: Bag, track: Track, frames: NDArray[np.int64]) -> Floats:
        """Logit of omega_3 of some frames.

        It is that of the feature that covers a frame, or of the one before.
        """
        assert self.trained is not None
        network = self.trained["semantic"].eval()
        device = next(network.parameters()).device
        found = []
        for first in range(0, len(track), FEATURES_AT_ONCE):
            rows = track.rows(first, min(first + FEATURES_AT_ONCE, len(track)))
            values = torch.from_numpy(rows.astype(np.float32)).to(device)
            found.append(network(vectors(values)).double().cpu().numpy())
        every = np.concatenate(found)
        if not np.isfinite(every).all():
            raise DetectorError(f"video {bag.video_id!r}: features are not finite")
        at = np.searchsorted(track.frame_start, frames, side="right") - 1
        return np.asarray(every[np.maximum(at, 0)], np.float64)

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Return weights and statistics, and for each part its eta, its scale and its sizes."""
        if self.trained is None:
            raise DetectorError(f"{self.name} is not fitted")
        state: State = network_arrays(self.trained)
        for part, scale in self.scales.items():
            state[f"weight.{part}"] = np.array([self.eta[part], scale.mean, scale.spread])
            state[f"shape.{part}"] = np.array(self._shapes[part], np.int64)
        return state

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are not the weights of this detector.
        """
        try:
            for part in self.config.parts:
                eta, mean, spread = stored_array(state, f"weight.{part}", "float64", (3,)).tolist()
                self.eta[part], self.scales[part] = eta, Scale(mean, spread)
                self._shapes[part] = tuple(
                    stored_array(state, f"shape.{part}", "int64", (None,)).tolist()
                )
            with private_random("cpu"):
                networks = make_networks(self.config, self._shapes)
            load_network(networks, state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DetectorError(f"these are not weights of {self.name}: {error}") from error
        self.trained, self._folded = networks.eval(), {}
