"""Training of MSMG: the three tasks together, then a decoder of the missing frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..extractors.networks.encoders import ENCODERS, build_encoder
from ..extractors.networks.frame_estimation import gradient_loss, intensity_loss
from ..extractors.networks.video_encoder import VideoEncoder
from ..extractors.weights.cards import ResolvedWeights
from ..extractors.weights.load import load_tensors
from .base import BagSource, DetectorError, FitOptions, Row, State
from .checkpoint import Checkpoint
from .fitting import Fit
from .msmg_footage import Footage
from .msmg_losses import (
    continuity_loss,
    estimation,
    localisation_loss,
)
from .msmg_monitors import chance_warnings, collapse_warnings
from .msmg_network import (
    FrameDecoder,
    MSMGNetwork,
    Task,
    colours_innermost,
    doublings,
    network_input,
    with_motion,
)
from .msmg_own import OWN, Batch, own_estimator, own_terms
from .msmg_samples import Broken, Proxies
from .msmg_settings import MSMGConfig
from .pretrained import load_state
from .row_memory import row_memories
from .schedule import Schedule
from .state import start_network
from .validation import Validation

MEASUREMENTS = 10  # of the tasks in a training
ROLE = "pixels"

NetworkInput = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What the networks depend on beside the settings.

    Attributes:
        picture: (height, width) of the pixels as stored.
        scenes: number of scenes with an embedding.
    """

    picture: tuple[int, int]
    scenes: int

    def input(self, side: int | None) -> tuple[int, int]:
        """(height, width) of what the encoder sees."""
        return self.picture if side is None else (side, side)


@dataclass
class Trained:
    """What a training has made.

    Attributes:
        networks: "network", and with a decoder "decoder"; "encoder" is its own encoder.
        samples: facts of what was drawn: "videos", and with a task "pairs" and "negatives".
        rows: the log.
        warnings: sentences.
    """

    networks: nn.ModuleDict
    samples: Row
    rows: list[Row] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


def make_networks(
    config: MSMGConfig, sizes: Sizes, weights: ResolvedWeights | None = None
) -> nn.ModuleDict:
    """Make the networks with torch's random numbers, or with pretrained weights.

    Raises:
        DetectorError: pictures of this size do not fit the encoder.
    """
    encoder = build_encoder(config.encoder, config.encoder_options)
    seen = sizes.input(config.side)
    if wrong := encoder.misfit(*seen):
        raise DetectorError(f"{ROLE} do not fit the encoder {config.encoder}: {wrong}")
    pretrained = ENCODERS[config.encoder].pretrained
    if weights is not None and pretrained is not None:
        arrays = load_tensors(weights, pretrained.reference())
        load_state(encoder, {"network": pretrained.kept(arrays)})
    network = MSMGNetwork(
        *(encoder, config.tasks, config.length),
        position=config.position,
        own_norms=config.frame_norms == "own",
        scenes=sizes.scenes,
        embedding=config.scene_embedding,
        motion_gain=config.motion_gain,
    )
    made: dict[str, nn.Module] = {"network": network}
    if config.decoder != "none":
        ups = doublings(encoder, config.length - 1, seen)
        made["decoder"] = FrameDecoder(encoder.channels, ups)
        if config.decoder == "finetuned" and config.tasks:
            made["encoder"] = build_encoder(config.encoder, config.encoder_options)
    return nn.ModuleDict(made)


def predicting_encoder(networks: nn.ModuleDict) -> VideoEncoder:
    """Choose the encoder in front of the decoder: its own if it has been finetuned."""
    own = networks["encoder"] if "encoder" in networks else networks["network"].encoder
    assert isinstance(own, VideoEncoder)
    return own


# ---------------------------------------------------------------------------------------- tasks


def answers(network: MSMGNetwork, batch: Proxies, side: int | None) -> dict[str, Tensor]:
    """Run the tasks on a batch.

    Clips of equal length go through the encoder together, so that batch norms see both classes.

    Returns:
        "place" and "same" of the batch, and for each task its outputs: logits "continuity_broken"
        and "continuity_whole", logits "localisation", embeddings "broken", "whole", "missing".
    """
    scene, tasks = batch.scene, network.tasks
    found = {"place": batch.place, "same": batch.same}
    broken = network_input(batch.broken, side)
    if tasks == ("localisation",):
        return found | {"localisation": network.head("localisation", network.clips(broken, scene))}
    whole = network_input(batch.whole, side)
    if broken.shape == whole.shape:
        both = network.clips(torch.cat([broken, whole]), torch.cat([scene, scene]))
        rows, others = both.chunk(2)
    else:
        rows, others = network.clips(broken, scene), network.clips(whole, scene)
    # of one length, so that the norms of heads see both kinds together, too
    pooled = torch.cat([rows.mean(2, keepdim=True), others.mean(2, keepdim=True)])
    if "continuity" in tasks:
        logits = network.head("continuity", pooled)
        found["continuity_broken"], found["continuity_whole"] = logits.chunk(2)
    if "localisation" in tasks:
        found["localisation"] = network.head("localisation", rows)
    if "estimation" in tasks:
        found["broken"], found["whole"] = network.head("estimation", pooled).chunk(2)
        found["missing"] = network.frames(network_input(batch.missing, side), scene)
    return found


def joint_answers(network: MSMGNetwork, batch: Batch, side: int | None) -> dict[str, Tensor]:
    """Run the tasks, and the encoder's own objective: what `answers` and `own_terms` return."""
    found = {} if batch.proxies is None else answers(network, batch.proxies, side)
    return found if batch.windows is None else found | own_terms(network, batch.windows, side)


def losses(found: NetworkInput, config: MSMGConfig) -> dict[str, Tensor]:
    """Compute the terms of the joint loss (eq. 8, and the encoder's own) and what is watched.

    Returns:
        "total"; "l1", "l2", "l3" of the tasks that are trained; "continuity_accuracy",
        "localisation_accuracy"; "p_plus", "p_minus", "q_plus", "triplet", "contrastive"; the terms
        of the own objective.
    """
    weight = config.weight_of
    terms: dict[Task, Tensor] = {}
    watched: dict[str, Tensor] = {}
    if "continuity" in weight:
        broken, whole = found["continuity_broken"], found["continuity_whole"]
        terms["continuity"] = continuity_loss(broken, whole)
        right = torch.cat([broken[:, 1] > broken[:, 0], whole[:, 0] >= whole[:, 1]])
        watched |= {"l1": terms["continuity"], "continuity_accuracy": right.float().mean()}
    if "localisation" in weight:
        logits, place = found["localisation"], found["place"]
        terms["localisation"] = localisation_loss(logits, place)
        watched["l2"] = terms["localisation"]
        watched["localisation_accuracy"] = (logits.argmax(1) == place).float().mean()
    if "estimation" in weight:
        said = estimation(
            *(found["broken"], found["whole"], found["missing"], found["same"]),
            gamma=config.gamma,
            omega=config.omega,
            tau=config.tau,
        )
        terms["estimation"] = said.loss
        watched |= {"l3": said.loss, "triplet": said.triplet, "contrastive": said.contrastive}
        watched |= {"p_plus": said.p_plus, "p_minus": said.p_minus, "q_plus": said.q_plus}
    weighted = [weight[task] * term for task, term in terms.items()]
    own = {name: value for name, value in found.items() if name.startswith(OWN)}
    if own:
        weighted.append(config.own_weight * own[f"{OWN}total"])
    return {"total": torch.stack(weighted).sum(), **watched, **own}


def measured(
    network: MSMGNetwork, batches: Iterable[Batch], config: MSMGConfig
) -> dict[str, float]:
    """Measure the tasks on pairs of clips, and the own objective, in evaluation mode.

    Returns:
        The terms of `losses`, averaged over pairs, and "localisation_accuracy/CLASS" for each
        class that was drawn.
    """
    sums: dict[str, float] = {}
    count = 0
    right = np.zeros((2, config.length - 2))
    for batch in batches:
        found = joint_answers(network, batch, config.side)
        size = len(batch)
        for name, value in losses(found, config).items():
            sums[name] = sums.get(name, 0.0) + float(value) * size
        count += size
        if "localisation" in found:
            place = found["place"]
            hit = (found["localisation"].argmax(1) == place).cpu().numpy()
            np.add.at(right, (hit.astype(int), place.cpu().numpy()), 1)
    by_class = {
        f"localisation_accuracy/{i}": float(hits / (misses + hits))
        for i, (misses, hits) in enumerate(right.T)
        if misses + hits > 0
    }
    return {**{name: total / count for name, total in sums.items()}, **by_class}


def monitored(values: Mapping[str, float], config: MSMGConfig) -> tuple[str, ...]:
    """Warn of a collapse, and of tasks that were not learnt.

    Args:
        values:
            What the last validation measured.
        config:
            Of the detector.
    """
    found = collapse_warnings(values)
    classes = {"continuity": 2, "localisation": config.length - 2}
    samples = {"continuity": 2 * config.validation_pairs, "localisation": config.validation_pairs}
    for task, n in classes.items():
        found += chance_warnings(task, values.get(f"{task}_accuracy"), n, samples[task])
    return tuple(found)


# ------------------------------------------------------------------------------------- training


class Training:
    """One fit of the detector.

    Args:
        config:
            Of the detector.
        weights:
            Of the encoder, if it is pretrained.
        start:
            State of a fitted detector that the networks start from; empty: none.
        device:
            Where to train.
        seed:
            Of everything random.
        options:
            Of the fit.
    """

    def __init__(
        self,
        config: MSMGConfig,
        weights: ResolvedWeights | None,
        start: State,
        device: str,
        seed: int,
        options: FitOptions,
    ) -> None:
        self._config, self._weights, self._start = config, weights, start
        self._device, self._seed, self._options = device, seed, options

    def run(self, source: BagSource, sizes: Sizes) -> Trained:
        """Train the tasks, then the decoder.

        Raises:
            DetectorError: no video is long enough, or pictures do not fit the encoder.
        """
        config = self._config
        torch.manual_seed(self._seed)
        networks = make_networks(config, sizes, self._weights)
        start_network(networks, self._start)
        networks.to(self._device)
        colours_innermost(networks)
        resumed = Checkpoint.load(self._options.folder)
        with row_memories(source, [ROLE], device=self._device, options=self._options) as (memory,):
            network = networks["network"]
            assert isinstance(network, MSMGNetwork)
            estimator = own_estimator(network) if config.own_weight else None
            footage = Footage(memory, config, estimator, self._seed)
            rows = [] if resumed is None else list(resumed.rows)
            done = Trained(networks, footage.facts, rows)
            for stage in ("tasks", "decoder"):
                self._stage(stage, done, footage, resumed)
            said = monitored(last_measured(done.rows), config)
            done.warnings = (*footage.warnings, *said)
        return done

    def _stage(
        self, name: str, done: Trained, footage: Footage, resumed: Checkpoint | None
    ) -> None:
        """Run a stage, or what is left of it."""
        config, number = self._config, ("tasks", "decoder").index(name)
        joint = bool(config.tasks) or config.own_weight > 0
        wanted = joint if name == "tasks" else config.decoder != "none"
        if not wanted or (resumed is not None and number < resumed.stage):
            return
        own = resumed if resumed is not None and number == resumed.stage else None
        fit = self._tasks(done, footage) if name == "tasks" else self._decoder(done, footage, own)
        done.rows = fit.run(seed=self._seed, options=self._options, resumed=own)

    def _steps(self, footage: Footage) -> int:
        config = self._config
        return config.steps or math.ceil(config.epochs * footage.epoch / config.batch_size)

    def _tasks(self, done: Trained, footage: Footage) -> Fit[Batch, dict[str, Tensor]]:
        config = self._config
        network = done.networks["network"].train()
        assert isinstance(network, MSMGNetwork)
        steps, drawn = self._steps(footage), footage.samples

        def measure(_: int) -> dict[str, float]:
            batches = drawn.validation(config.validation_pairs, config.batch_size)
            return measured(network, batches, config)

        return Fit(
            stage=0,
            name="tasks",
            steps=steps,
            module=done.networks,
            optimizer=self._optimizer(network),
            batch=lambda draw: drawn.draw(config.batch_size, draw),
            forward=lambda batch: joint_answers(network, batch, config.side),
            losses=lambda found: losses(found, config),
            prefetch=footage.prefetch,
            schedule=Schedule(name="cosine"),
            precision=config.precision,
            validation=Validation(
                measure=measure,
                every=config.validate_every or math.ceil(steps / MEASUREMENTS),
            ),
            rows=done.rows,
        )

    def _decoder(
        self, done: Trained, footage: Footage, resumed: Checkpoint | None
    ) -> Fit[Broken, dict[str, Tensor]]:
        """The fit of the decoder, and of its encoder if that is finetuned."""
        config, networks = self._config, done.networks
        clips = footage.clips
        assert clips is not None
        finetuned = config.decoder == "finetuned"
        encoder, decoder = predicting_encoder(networks), networks["decoder"]
        if "encoder" in networks and resumed is None:
            network = networks["network"]
            assert isinstance(network, MSMGNetwork)
            encoder.load_state_dict(network.encoder.state_dict())
        networks.eval()
        decoder.train()
        learning = nn.ModuleList([decoder])
        if finetuned:
            learning.append(encoder.train())

        def forward(batch: Broken) -> dict[str, Tensor]:
            seen = with_motion(network_input(batch.broken, config.side), config.motion_gain)
            target = network_input(batch.missing, config.side)[:, :, 0]
            with torch.set_grad_enabled(finetuned and torch.is_grad_enabled()):
                maps = encoder(seen)
            size = (target.shape[2], target.shape[3])
            return {"predicted": decoder(maps, size), "target": target}

        return Fit(
            stage=1,
            name="decoder",
            steps=config.decoder_steps or self._steps(footage),
            module=networks,
            optimizer=self._optimizer(learning),
            batch=lambda draw: clips.draw(config.batch_size, draw),
            forward=forward,
            losses=prediction_losses,
            prefetch=footage.prefetch,
            schedule=Schedule(name="cosine"),
            precision=config.precision,
            rows=done.rows,
        )

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        config = self._config
        learning = [each for each in module.parameters() if each.requires_grad]
        return torch.optim.AdamW(
            learning, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )


def prediction_losses(found: NetworkInput) -> dict[str, Tensor]:
    """Compute the loss of frame prediction: intensity and gradient, each with weight 1."""
    terms = {
        "intensity": intensity_loss(found["predicted"], found["target"]),
        "gradient": gradient_loss(found["predicted"], found["target"]),
    }
    return {"total": terms["intensity"] + terms["gradient"], **terms}


def last_measured(rows: Iterable[Row]) -> dict[str, float]:
    """Find what the last validation measured; empty without one."""
    found: dict[str, float] = {}
    for row in rows:
        values = {
            name.removeprefix("validation/"): float(value)
            for name, value in row.items()
            if name.startswith("validation/")
        }
        found = values or found
    return found
