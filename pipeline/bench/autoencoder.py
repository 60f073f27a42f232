"""Training and scoring of the autoencoders from cached pixels, against their convolutions alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data_manifests.record import VideoRecord
from ...detectors.autoencoder import Autoencoder, folded
from ...detectors.base import FitOptions
from ...detectors.indicators import Part
from ...detectors.precision import Precision
from ...detectors.pseudo_anomaly import PseudoAnomaly
from ...detectors.pseudo_clips import ClipSource, FlowClips, FrameClips
from ...detectors.pseudo_settings import PseudoAnomalyConfig
from ...detectors.pseudo_training import distance, in_precision, make_networks, reconstruct
from ...detectors.reconstruction import Placement, place
from ...detectors.row_memory import row_memories
from ...detectors.state import network_arrays
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from ...extractors.device.inference import available_precisions
from ...extractors.footage.video import ProbeRow
from ..bags import StoreBags
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from .convolutions import (
    lines_of_rates,
    recorded,
    run_forward,
    run_training,
    shares_of_convolutions,
)
from .race import Contestant, Rate, as_values, hardware, heading, race

SIDES = {"cpu": 64, "cuda": 256}  # the published side takes minutes a turn on a CPU
STRIDES = (4, 1)  # between the windows that score; 1 is the published one
TARGET = 25.0  # frames a second that a camera delivers
PARTS: dict[Part, tuple[str, ArraySpec]] = {
    "spatial": ("frames", ArraySpec("frames", "uint8", ("frame", "y", "x", "c"), (), "pixels")),
    "temporal": ("flow", ArraySpec("flow", "float16", ("frame", "y", "x", "c"), (), "flow")),
}
CHANNELS: dict[Part, int] = {"spatial": 3, "temporal": 2}


@dataclass(frozen=True)
class AutoencoderProblem:
    """What is computed.

    Attributes:
        side: height and width of a picture; None: 64 on a CPU, 256 on a GPU.
        frames: of the video that is scored.
        batch: windows of a training step.
        width: channels of the first layer.
    """

    side: int | None = None
    frames: int = 40
    batch: int = 4
    width: int = 96


def bench_autoencoder(
    *, repeats: int = 3, device: str = "cpu", problem: AutoencoderProblem | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Train on windows of stored frames and flow, score a stored video, and run convolutions alone.

    Args:
        repeats:
            Turns of each.
        device:
            Where.
        problem:
            Sizes.

    Returns:
        Values for machines, and lines for people.
    """
    problem = problem or AutoencoderProblem()
    side = problem.side or SIDES[torch.device(device).type]
    contestants: list[Contestant] = []
    with tempfile.TemporaryDirectory(prefix="vadpipe-bench-") as folder:
        bags = _stored(Path(folder), side, problem.frames)
        with _opened(bags, device) as sources:
            for part, clips in sources.items():
                for precision in _precisions(device):
                    make = _Subject(part, precision, clips, bags, device, problem)
                    contestants += make.contestants()
            rates = race(contestants, repeats, device)
    shares = shares_of_convolutions(rates)
    frames = {name: rates[name].best * _frames_of(name, problem) for name in shares}
    values: dict[str, Any] = {
        "hardware": hardware(device),
        "problem": {**vars(problem), "side": side},
        "rates": as_values(rates),
        "share_of_convolutions": shares,
        "frames_per_second": frames,
        "target_frames_per_second": TARGET,
        "bf16_to_fp32": _bf16_to_fp32(rates),
    }
    what = f"windows of 16 x {side} x {side}, width {problem.width}; batches of {problem.batch}"
    lines = heading(device, what, f"windows/s, best / median of {repeats}, all in turn")
    return values, lines + _lines(rates, lines_of_rates(rates, shares, frames), frames)


def _bf16_to_fp32(rates: Mapping[str, Rate]) -> dict[str, float]:
    """Contestant of bf16 -> its best rate as a multiple of that of the same one in fp32."""
    return {
        name: rate.best / rates[other].best
        for name, rate in rates.items()
        if " bf16: " in name and (other := name.replace(" bf16: ", " fp32: ")) in rates
    }


def _lines(
    rates: Mapping[str, Rate], lines: Sequence[str], frames: Mapping[str, float]
) -> list[str]:
    """Add to the line of each contestant the target, and how much faster bf16 is."""
    ratios, found = _bf16_to_fp32(rates), []
    for name, line in zip(rates, lines, strict=True):
        more = ""
        if "scoring" in name:
            more += f", {frames[name] / TARGET:.2f} of the target of {TARGET:.0f}"
        if name in ratios:
            more += f", {ratios[name]:.2f} times fp32"
        found.append(line + more)
    return found


def _precisions(device: str) -> list[Precision]:
    known: tuple[Precision, ...] = ("fp32", "bf16")
    return [each for each in known if each in available_precisions(device)]


def _frames_of(name: str, problem: AutoencoderProblem) -> float:
    """Frames that get a score from one window; a window that trains counts for its 16 frames."""
    settings = PseudoAnomalyConfig()
    for stride in STRIDES:
        if name.endswith(f"stride {stride}"):
            return len(_placed(problem.frames, stride).rows) / _windows(problem.frames, stride)
    return float(settings.length)


def _placed(frames: int, stride: int) -> Placement:
    settings = PseudoAnomalyConfig()
    return place(frames, settings.length, settings.scored_frame, stride, settings.border)


def _windows(frames: int, stride: int) -> int:
    """Number of the windows that score a video."""
    return len(np.unique(_placed(frames, stride).start))


class _Subject:
    """One autoencoder in one precision."""

    def __init__(
        self,
        part: Part,
        precision: Precision,
        clips: ClipSource,
        bags: StoreBags,
        device: str,
        problem: AutoencoderProblem,
    ) -> None:
        self._part, self._precision, self._clips, self._bags = part, precision, clips, bags
        self._device, self._problem = torch.device(device), problem
        self._shape = tuple(clips.memory.rows.shape)
        torch.manual_seed(0)
        network = make_networks(self._config(1), {part: self._shape})[part]
        assert isinstance(network, Autoencoder)
        self._network = network.to(device)  # in the layout of a fit
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-4)
        self._turn = 0

    def contestants(self) -> Iterator[Contestant]:
        """The convolutions alone, training, and scoring with each stride."""
        label, batch = f"{self._part} {self._precision}", self._problem.batch
        inputs = self._clips.scaled(self._clips.draw(batch, 0).normal)
        low = self._precision == "bf16"
        network, scoring = self._network, folded(self._network)
        alone = recorded(scoring, lambda: scoring(inputs))
        forward = partial(run_forward, alone, bf16=low)
        layers = recorded(network, lambda: network(inputs))
        backward = partial(run_training, layers, bf16=low)
        yield Contestant(f"{label}: convolutions, forward", "windows/s", batch, forward)
        yield Contestant(f"{label}: convolutions, training", "windows/s", batch, backward)
        yield Contestant(f"{label}: training", "windows/s", batch, self._step)
        for stride in STRIDES:
            windows = _windows(self._problem.frames, stride)
            detector = self._detector(stride)
            score = _closure(detector, self._bags)
            yield Contestant(f"{label}: scoring, stride {stride}", "windows/s", windows, score)

    def _step(self) -> None:
        """One batch, as a fit does it."""
        self._turn += 1
        batch = self._clips.draw(self._problem.batch, self._turn)
        self._optimizer.zero_grad(set_to_none=True)
        with in_precision(self._network, self._precision, self._device):
            found = reconstruct(self._network, self._clips, batch)
        distance({name: each.float() for name, each in found.items()}).mean().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _config(self, stride: int) -> PseudoAnomalyConfig:
        eta = [float(self._part == part) for part in ("spatial", "temporal", "semantic")]
        return PseudoAnomalyConfig.model_validate(
            {
                **{"eta": eta, "stride": stride, "width": self._problem.width, "p_s": 0.0},
                **{"precision": self._precision},
            }
        )

    def _detector(self, stride: int) -> PseudoAnomaly:
        """A detector with random weights, as if it had been trained."""
        config = self._config(stride)
        networks = make_networks(config, {self._part: self._shape})
        state = network_arrays(networks)
        state[f"weight.{self._part}"] = np.array([1.0, 0.0, 1.0])
        state[f"shape.{self._part}"] = np.array(self._shape, np.int64)
        detector = PseudoAnomaly(config)
        detector.load_state_dict(state)
        detector.to(str(self._device))
        return detector


def _closure(detector: PseudoAnomaly, bags: StoreBags) -> Callable[[], object]:
    return lambda: detector.score(bags[0])


@contextmanager
def _opened(bags: StoreBags, device: str) -> Iterator[dict[Part, ClipSource]]:
    """Windows of frames and of flow, mapped from the disk; none of frames is replaced."""
    settings, roles = PseudoAnomalyConfig(), ("pixels", "flow")
    mapped = FitOptions(memory=0)
    with row_memories(bags, roles, device=device, options=mapped) as (pixels, fields):
        frames = FrameClips(
            *(pixels, settings.length, 0.0, 0),
            kinds=("patch",),
            twin=None,
            patches=settings.patches,
            channels=3,
        )
        flow = FlowClips(
            *(fields, settings.length, settings.p_t, 0),
            mixup=settings.patches,
            partner="same_video",
            channels=3,
            limit=settings.flow_limit,
        )
        yield {"spatial": frames, "temporal": flow}


def _stored(cache: Path, side: int, frames: int) -> StoreBags:
    """A video of noise in a cache: frames and flow."""
    content, start = "s1-" + "0" * 40, np.arange(frames, dtype=np.int64)
    random, stores = np.random.default_rng(0), {}
    for part, (name, plain) in PARTS.items():
        shape = (side, side, CHANNELS[part])
        spec = ArraySpec(name, plain.dtype, plain.dims, shape, role=plain.role)
        store = FeatureStore(cache, {"extractor": f"bench_{name}", "arrays": [spec.to_json()]})
        store.create()
        values = random.integers(0, 256, (frames, *shape), np.uint8).astype(plain.dtype)
        rows = {"frame": Rows(start, start + 1, {name: values})}
        span = Span(content, 0, frames, last=True)
        store.add_index_part([store.write(span, rows, [spec], VideoFacts(25.0, frames), {})])
        stores[plain.role or name] = store
    row = ProbeRow("", content, "video", frames, False, 25.0, side, side, 0, 1.0, "", "")
    record = VideoRecord(video_id="v", path=None, split="test")
    return StoreBags([record], {"v": row}, stores, labels=False)
