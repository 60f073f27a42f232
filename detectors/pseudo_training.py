"""Training of the pseudo-anomaly system, part after part, and its indicators on windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from .autoencoder import SIDE_MULTIPLE, Autoencoder, Discriminator, folded
from .base import BagSource, DetectorError, FitOptions, Row, State
from .checkpoint import Checkpoint
from .fitting import Fit
from .indicators import Floats, Part
from .precision import Precision, bfloat16
from .pseudo_clips import (
    VALIDATION,
    Clips,
    ClipSource,
    FlowClips,
    FrameClips,
    check_motion,
    check_twin,
    spread,
)
from .pseudo_samples import autoencoder_sample
from .pseudo_settings import PseudoAnomalyConfig
from .randomness import stage_seed
from .reconstruction import psnr
from .row_memory import RowMemory, row_memories
from .samples import When
from .state import start_network
from .validation import Validation
from .windows import Picks, WindowSource

HELD = 0.1  # share of the training videos that eta is learnt on
VALIDATED = 2  # batches of normal windows, and of pseudo-anomalies, that each epoch looks at
NAMED = 5  # held videos that an error names
MAPPED = FitOptions(memory=0)  # few windows are read
TRAILING: dict[Part, int] = {"spatial": 3, "temporal": 2}  # last size of a picture


@dataclass
class Parts:
    """What a training has made.

    Attributes:
        networks: part -> network.
        shapes: part -> sizes of one row of what it reads.
        windows: part -> windows (or features) to draw from.
        rows: the log.
    """

    networks: nn.ModuleDict
    shapes: dict[Part, tuple[int, ...]]
    windows: dict[Part, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def make_networks(
    config: PseudoAnomalyConfig, shapes: Mapping[Part, tuple[int, ...]]
) -> nn.ModuleDict:
    """Make the networks of the parts that have a weight, with torch's random numbers."""
    networks: dict[str, nn.Module] = {}
    for part in config.parts:
        if part == "semantic":
            networks[part] = Discriminator(shapes[part][-1])
        else:
            channels = config.channels if part == "spatial" else config.flow_channels
            networks[part] = Autoencoder(channels, config.width, checkpointing=config.checkpointing)
    return nn.ModuleDict(networks)


def vectors(rows: Tensor) -> Tensor:
    """Features -> (B, D) float32: one vector a row, crops are averaged."""
    values = rows.float()
    return values if values.ndim == 2 else values.mean(1)


def in_precision(
    network: nn.Module, precision: Precision, device: torch.device
) -> AbstractContextManager[None]:
    """Run a network in bf16 or as it is."""
    return bfloat16(network, device) if precision == "bf16" else nullcontext()


def omega(part: Part, values: Floats) -> Floats:
    """Squared errors -> the raw indicator: -PSNR in dB of frames (eq. 1), the error of flow."""
    if part == "spatial":
        return -psnr(torch.from_numpy(values)).numpy()
    return values


class Training:
    """One fit of the detector.

    Args:
        config:
            Of the detector.
        roles:
            Part -> what it reads.
        twins:
            Name of perturbed features in a bag -> their role.
        device:
            Where to train.
        seed:
            Of everything random.
        options:
            Of the fit.
        start:
            State of a fitted detector that the networks start from; empty: from scratch.
    """

    def __init__(
        self,
        config: PseudoAnomalyConfig,
        roles: Mapping[Part, str],
        twins: Mapping[str, str],
        device: str,
        seed: int,
        options: FitOptions,
        start: State,
    ) -> None:
        self._start = start
        self._config, self._roles = config, roles
        self._twin = {role: name for name, role in twins.items()}
        self._device, self._seed, self._options = device, seed, options

    def divided(self, source: BagSource) -> tuple[BagSource, BagSource | None]:
        """Divide the videos into those that train, and those that eta is learnt on, if it is.

        Raises:
            DetectorError: there are too few.
        """
        config = self._config
        if not len(source):
            raise DetectorError("there are no training videos")
        if not config.learn_eta:
            return source, None
        mixed = "temporal" in config.parts and config.partner == "other_video"
        least = 2 if mixed else 1  # flow of a held video is mixed with that of another one
        if len(source) <= least:
            what = "2 training videos if partner = other_video" if mixed else "a training video"
            have = "is only one" if len(source) == 1 else f"are only {len(source)}"
            raise DetectorError(f"learn_eta holds back {what}, and there {have}: give eta instead")
        order = np.random.default_rng([self._seed, len(source)]).permutation(len(source))
        held = max(least, round(HELD * len(source)))
        return source.subset(sorted(order[held:].tolist())), source.subset(
            sorted(order[:held].tolist())
        )

    # -- the parts -----------------------------------------------------------------------------

    def run(self, source: BagSource, held: BagSource | None) -> Parts:
        """Train the parts, each from scratch or from `start`.

        Args:
            source:
                The videos that train.
            held:
                Those that eta is learnt on. They are only checked, so that nothing is trained in
                vain.

        Raises:
            DetectorError: the features do not fit; see `PseudoAnomaly.fit`.
        """
        shapes = self._checked_shapes(source)
        self._check_videos(source, held)
        self._check_motion(source if held is None else held)
        torch.manual_seed(self._seed)
        networks = make_networks(self._config, shapes)
        start_network(networks, self._start)
        networks.to(self._device)
        resumed = Checkpoint.load(self._options.folder)
        if resumed is not None:
            resumed.restore(networks)
        parts = Parts(networks, shapes, rows=[] if resumed is None else list(resumed.rows))
        for stage, part in enumerate(self._config.parts):
            counts = source.video_rows(self._roles[part]).counts
            reach = 1 if part == "semantic" else self._config.length
            parts.windows[part] = int(np.maximum(counts - reach + 1, 0).sum())
            if resumed is not None and stage < resumed.stage:
                continue
            networks.eval()
            networks[part].train()
            run = self._semantic if part == "semantic" else self._reconstructing
            with run(source, part, stage, parts) as fit:
                own = resumed if resumed is not None and stage == resumed.stage else None
                parts.rows = fit.run(seed=self._seed, options=self._options, resumed=own)
        return parts

    def steps(self, parts: Parts) -> dict[Part, int]:
        """Batches of each part."""
        config = self._config
        found: dict[Part, int] = {}
        for part, n in parts.windows.items():
            if part == "semantic":
                epochs = config.semantic_epochs * n * 2 / config.semantic_batch
                found[part] = config.semantic_steps or math.ceil(epochs)
            else:
                found[part] = config.steps or math.ceil(config.epochs * n / config.batch_size)
        return found

    @staticmethod
    def last_losses(parts: Parts) -> dict[Part, float]:
        """Part -> its last loss."""
        return {
            part: next(float(r["total"]) for r in reversed(parts.rows) if r["stage"] == part)
            for part in parts.windows
        }

    def _checked_shapes(self, source: BagSource) -> dict[Part, tuple[int, ...]]:
        """The size of a row of each part.

        Raises:
            DetectorError: it is not what the network takes.
        """
        shapes: dict[Part, tuple[int, ...]] = {}
        for part, role in self._roles.items():
            shape = tuple(source.video_rows(role).shape)
            if part == "semantic":
                if len(shape) not in (1, 2) or 0 in shape:
                    raise DetectorError(
                        f"{role!r} features are {shape}, not one vector a row, or one for each crop"
                    )
            elif len(shape) != 3 or shape[2] != TRAILING[part] or 0 in shape:
                raise DetectorError(f"{role} are {shape}, not (height, width, {TRAILING[part]})")
            elif shape[0] % SIDE_MULTIPLE or shape[1] % SIDE_MULTIPLE:
                raise DetectorError(
                    f"{role} are {shape[0]} x {shape[1]}: height and width have to be multiples of "
                    f"{SIDE_MULTIPLE}; extract them with another size"
                )
            shapes[part] = shape
        return shapes

    def _check_videos(self, source: BagSource, held: BagSource | None) -> None:
        """Check all that could stop the training of a later part, or what comes after it.

        Raises:
            DetectorError: rows lie at other frames, or windows cannot be drawn.
        """
        for each in (source, held) if held is not None else (source,):
            self._check_frames(each)
        self._open_all(source)
        if held is None:
            return
        try:
            self._open_all(held, share=1.0)
        except DetectorError as error:
            names = ", ".join(bag.video_id for bag, _ in zip(held, range(NAMED), strict=False))
            raise DetectorError(
                f"{error}; this is of the videos that learn_eta holds back ({names}): train with "
                "another seed, or give eta instead"
            ) from error

    def _check_motion(self, source: BagSource) -> None:
        """Check that there is flow in the windows that its indicator is scaled by."""
        if "temporal" in self._config.parts:
            with self._memories(source, self._roles["temporal"], MAPPED, twin=False) as (memory, _):
                windows = WindowSource(memory, self._config.length)
                check_motion(windows, spread(windows, self._config.batch_size))

    def _check_frames(self, source: BagSource) -> None:
        """Check that the rows of pixels, flow and twins are of the same frames; no row is read.

        Raises:
            DetectorError: they are not, in some video.
        """
        pictures = [role for part, role in self._roles.items() if part != "semantic"]
        # weights are learnt on indicators of the same frames
        alike = list(self._roles.values()) if self._config.learn_eta else pictures
        pairs = [(alike[0], other) for other in alike[1:]] + list(self._twin.items())
        for bag in source:
            for ours, theirs in pairs:
                if not np.array_equal(bag.tracks[ours].frame_start, bag.tracks[theirs].frame_start):
                    raise DetectorError(
                        f"video {bag.video_id!r}: {ours} and {theirs} lie at other frames: "
                        "extract both with the same stride"
                    )

    def _open_all(self, source: BagSource, share: float | None = None) -> None:
        """Open and close the windows of all parts; none is read.

        Raises:
            DetectorError: there are none, or not the ones that pseudo-anomalies are made of.
        """
        for stage, part in enumerate(self._config.parts):
            role = self._roles[part]
            if part == "semantic":
                with self._memories(source, role, MAPPED, twin=True) as (normal, twin):
                    assert twin is not None
                    check_twin(normal, twin)
            else:
                with self._clips(source, part, stage, MAPPED, share):
                    pass

    @contextmanager
    def _memories(
        self, source: BagSource, role: str, options: FitOptions, *, twin: bool
    ) -> Iterator[tuple[RowMemory, RowMemory | None]]:
        """The rows of a role, and those of its twin."""
        names = [role, *([self._twin[role]] if twin else [])]
        with row_memories(source, names, device=self._device, options=options) as opened:
            yield opened[0], opened[1] if twin else None

    @contextmanager
    def _clips(
        self,
        source: BagSource,
        part: Part,
        stage: int,
        options: FitOptions,
        share: float | None = None,
    ) -> Iterator[ClipSource]:
        """Windows of frames or of flow; None is the share of pseudo-anomalies of the training."""
        config, seed = self._config, stage_seed(self._seed, stage)
        role = self._roles[part]
        twin = part == "spatial" and role in self._twin and "perturbed" in config.spatial
        with self._memories(source, role, options, twin=twin) as (memory, other):
            if part == "spatial":
                yield FrameClips(
                    *(memory, config.length, config.p_s if share is None else share, seed),
                    kinds=config.spatial,
                    twin=other,
                    patches=config.patches,
                    channels=config.channels,
                )
            else:
                yield FlowClips(
                    *(memory, config.length, config.p_t if share is None else share, seed),
                    mixup=config.patches,
                    partner=config.partner,
                    channels=config.flow_channels,
                    limit=config.flow_limit,
                )

    @contextmanager
    def _reconstructing(
        self, source: BagSource, part: Part, stage: int, parts: Parts
    ) -> Iterator[Fit[Clips, dict[str, Tensor]]]:
        """The fit of an autoencoder."""
        config, network = self._config, parts.networks[part]
        steps = self.steps(parts)[part]
        epoch = math.ceil(parts.windows[part] / config.batch_size)
        with self._clips(source, part, stage, self._options) as clips:

            def measure(done: int) -> dict[str, float]:
                if done in (epoch, steps) and self._options.on_sample is not None:
                    when: When = "last" if done == steps else "first"
                    at = config.scored_frame
                    self._options.on_sample(
                        autoencoder_sample(
                            network, clips, at, stage=part, when=when, step=done, steps=steps
                        )
                    )
                return _validated(network, clips, config.batch_size)

            yield Fit(
                stage=stage,
                name=part,
                steps=steps,
                module=parts.networks,
                optimizer=torch.optim.Adam(network.parameters(), lr=config.lr, fused=True),
                batch=lambda draw: clips.draw(config.batch_size, draw),
                forward=lambda batch: reconstruct(network, clips, batch),
                losses=lambda found: {"total": distance(found).mean()},
                prefetch=clips.prefetch,
                precision=config.precision,
                validation=Validation(measure=measure, every=epoch),
                rows=parts.rows,
            )

    @contextmanager
    def _semantic(
        self, source: BagSource, part: Part, stage: int, parts: Parts
    ) -> Iterator[Fit[tuple[Tensor, Tensor], dict[str, Tensor]]]:
        """The fit of the discriminator."""
        config, network = self._config, parts.networks[part]
        seed = stage_seed(self._seed, stage)
        role = self._roles[part]
        with self._memories(source, role, self._options, twin=True) as (normal, twin):
            assert twin is not None
            check_twin(normal, twin)
            drawn = [WindowSource(each, 1, seed=seed + i) for i, each in enumerate((normal, twin))]
            half = config.semantic_batch // 2

            def batch(draw: int) -> tuple[Tensor, Tensor]:
                rows = [vectors(each.read_rows(each.rows(half, draw))) for each in drawn]
                label = torch.cat([torch.full((half,), float(i)) for i in range(2)])
                return torch.cat(rows), label.to(rows[0].device)

            yield Fit(
                stage=stage,
                name=part,
                steps=self.steps(parts)[part],
                module=parts.networks,
                optimizer=torch.optim.Adam(network.parameters(), lr=config.lr, fused=True),
                batch=batch,
                forward=lambda rows: {"logits": network(rows[0]), "label": rows[1]},
                losses=_told_apart,
                prefetch=normal.prefetch,
                precision=config.precision,
                rows=parts.rows,
            )

    # -- indicators ----------------------------------------------------------------------------

    def indicators(
        self, parts: Parts, source: BagSource, *, pseudo: bool = False
    ) -> dict[Part, Floats]:
        """Measure indicators of windows that are evenly spread over some videos, as `score` does.

        Args:
            parts:
                Trained.
            source:
                The videos.
            pseudo:
                Replace every window (and every feature) by its pseudo-anomaly.

        Returns:
            Part -> (n,): raw values, and the logit of the discriminator. If eta is learnt, the rows
            of all parts are of the same frames.
        """
        parts.networks.eval()
        with torch.no_grad():
            return {
                part: self._logits(parts, source, part, pseudo=pseudo)
                if part == "semantic"
                else self._errors(parts, source, part, stage, pseudo=pseudo)
                for stage, part in enumerate(self._config.parts)
            }

    def _errors(
        self, parts: Parts, source: BagSource, part: Part, stage: int, *, pseudo: bool
    ) -> Floats:
        config, trained = self._config, parts.networks[part]
        assert isinstance(trained, Autoencoder)
        network = folded(trained)  # what scores: in bf16 its errors are not those of `trained`
        found: list[NDArray[np.float64]] = []
        with self._clips(source, part, stage, MAPPED) as clips:
            for turn, picks in enumerate(spread(clips.windows, config.batch_size)):
                batch = clips.at(picks, VALIDATION + turn, float(pseudo))
                inputs = clips.scaled(batch.mixed())
                with in_precision(network, config.precision, inputs.device):
                    out = network(inputs)
                errors = (out - inputs)[:, :, config.scored_frame].float().square().mean(1)
                found.append(config.measure.reduced(errors).double().cpu().numpy())
        return omega(part, np.concatenate(found))

    def _logits(self, parts: Parts, source: BagSource, part: Part, *, pseudo: bool) -> Floats:
        config, network = self._config, parts.networks[part]
        joint = config.learn_eta and len(config.parts) > 1
        length, scored = (config.length, config.scored_frame) if joint else (1, 0)
        found: list[NDArray[np.float64]] = []
        with self._memories(source, self._roles[part], MAPPED, twin=True) as (normal, twin):
            assert twin is not None
            windows = WindowSource(normal, length)
            other = WindowSource(twin, length)
            for picks in spread(windows, config.batch_size):
                at = Picks(picks.video, picks.start + scored)
                rows = vectors((other if pseudo else windows).read_rows(at))
                found.append(network(rows).double().cpu().numpy())
        return np.concatenate(found)


def reconstruct(network: nn.Module, clips: ClipSource, batch: Clips) -> dict[str, Tensor]:
    """Run an autoencoder on a batch: "out", and "target", the normal clips."""
    return {"out": network(clips.scaled(batch.mixed())), "target": clips.scaled(batch.normal)}


def distance(found: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of each window (Sect. 3): (B,)."""
    return (found["out"] - found["target"]).square().mean((1, 2, 3, 4))


def _validated(network: nn.Module, clips: ClipSource, count: int) -> dict[str, float]:
    """Distance to the normal clip, for the same normal windows and pseudo-anomalies each time."""
    found = {}
    for name, share in (("normal", 0.0), ("pseudo", 1.0)):
        if share == 0 or clips.share > 0:
            batches = clips.validation(VALIDATED, count, share)
            errors = [distance(reconstruct(network, clips, batch)) for batch in batches]
            found[f"{name}_error"] = float(torch.cat(errors).mean())
    return found


def _told_apart(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross entropy, and the share of features that are on the right side."""
    logits, label = found["logits"], found["label"]
    right = ((logits > 0) == (label > 0.5)).float().mean()
    return {"total": binary_cross_entropy_with_logits(logits, label), "accuracy": right}
