"""Training and scoring of MSMG from pixels in memory, against its 3-D convolutions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...detectors.base import Bag, Track
from ...detectors.msmg import MSMG
from ...detectors.msmg_network import MSMGNetwork, colours_innermost
from ...detectors.msmg_placing import window_starts
from ...detectors.msmg_samples import ProxySamples
from ...detectors.msmg_scores import Scorer
from ...detectors.msmg_settings import MSMGConfig
from ...detectors.msmg_training import ROLE, Sizes, answers, losses, make_networks
from ...detectors.row_memory import RowMemory
from ...detectors.state import network_arrays
from ...extractors.networks.encoders import EncoderName
from .convolutions import (
    gflop_of,
    lines_of_rates,
    recorded,
    run_forward,
    run_training,
    shares_of_convolutions,
)
from .race import Contestant, as_values, hardware, heading, matmul, race

ENCODERS: dict[str, tuple[EncoderName, ...]] = {
    "cpu": ("cnn3d",),
    "cuda": ("cnn3d", "inception_i3d"),
}
SIDES = {"cpu": 128, "cuda": 256}  # 256 is the published one
STRIDES = (4, 1)  # between the windows that score
SHARING: tuple[EncoderName, ...] = ("unet", "mnad", "multipath_gru")  # clips share computing
SHARING_SIDE, SHARING_WIDTH = 64, 16


@dataclass(frozen=True)
class MSMGProblem:
    """What is computed.

    Attributes:
        side: height and width of a picture; None: 128 on a CPU, 256 on a GPU.
        frames: of the video that is scored.
        settings: of the detector, beside its encoder.
    """

    side: int | None = None
    frames: int = 40
    settings: tuple[tuple[str, Any], ...] = ()


def bench_msmg(
    *, repeats: int = 3, device: str = "cpu", problem: MSMGProblem | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Train on pairs of clips, score a video, and run the convolutions of both alone.

    Encoders whose clips share computing score with it and without, at a side of 64.

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
    problem = problem or MSMGProblem()
    kind = torch.device(device).type
    side = problem.side or SIDES[kind]
    contestants: list[Contestant] = []
    for encoder in ENCODERS[kind]:
        contestants += _Subject(encoder, side, device, problem).contestants()
    gflop = {
        each.name: gflop_of(each.run, each.amount)
        for each in contestants
        if not each.name.endswith("convolutions, training")  # torch cannot count autograd.grad
    }
    rates = race([*contestants, matmul("fp32", device)], repeats, device)
    peak = rates.pop("matmul fp32")
    of_matmul = {name: rates[name].best * work / peak.best for name, work in gflop.items()}
    shares = shares_of_convolutions(rates)
    frames = {
        name: rates[name].best
        * problem.frames
        / len(_starts(problem, int(name.rpartition(" ")[2])))
        for name in shares
        if "scoring" in name
    }
    sharing = race(
        [each for name in SHARING for each in _sharing(name, device, problem)], repeats, device
    )
    gains = {
        name: sharing[f"{name}: scoring, shared"].best / sharing[f"{name}: scoring, alone"].best
        for name in SHARING
    }
    values: dict[str, Any] = {
        "hardware": hardware(device),
        "problem": {**vars(problem), "settings": dict(problem.settings), "side": side},
        "rates": as_values({**rates, **sharing}),
        "gain_of_sharing": gains,
        "share_of_convolutions": shares,
        "matmul_gflops": peak.best,
        "of_matmul": of_matmul,
        "frames_per_second": frames,
    }
    settings = _config("cnn3d", problem, 1)
    what = f"clips of {settings.length} x {side} x {side}; batches of {settings.batch_size}"
    turns = f"best / median of {repeats}, all in turn; matmul fp32 {peak.best:.0f} GFLOP/s"
    return values, [
        *heading(device, what, turns),
        *lines_of_rates(rates, shares, frames, of_matmul),
        *lines_of_rates(sharing, {}, {}),
        *(
            f"{name}: {gain:.2f} times as fast with what clips share"
            for name, gain in gains.items()
        ),
    ]


def _config(encoder: EncoderName, problem: MSMGProblem, stride: int) -> MSMGConfig:
    return MSMGConfig.model_validate(
        {**dict(problem.settings), "encoder": encoder, "stride": stride}
    )


def _starts(problem: MSMGProblem, stride: int) -> NDArray[np.int64]:
    """The windows that score the video."""
    return window_starts(problem.frames, _config("cnn3d", problem, stride).length, stride)


def _sharing(encoder: EncoderName, device: str, problem: MSMGProblem) -> Iterator[Contestant]:
    """Windows that are scored with what their clips have in common, and each clip by itself."""
    side = max(16, problem.side or SHARING_SIDE)
    given = {**dict(problem.settings), "encoder": encoder, "encoder_width": SHARING_WIDTH}
    config = MSMGConfig.model_validate(given)
    torch.manual_seed(0)
    networks = make_networks(config, Sizes((side, side), 0)).to(device).eval()
    track, starts = _noise(problem.frames, side).tracks[ROLE], _starts(problem, 1)
    for name, shares in (("shared", True), ("alone", False)):
        scorer = Scorer(networks, config, shares=shares)
        run = partial(scorer.windows, track, starts, -1)
        yield Contestant(f"{encoder}: scoring, {name}", "windows/s", len(starts), run)


def _noise(frames: int, side: int) -> Bag:
    """A video of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), np.uint8)
    every = np.arange(frames, dtype=np.int64)
    return Bag("noise", None, frames, 25.0, {ROLE: Track(pixels, every, every + 1)})


class _Subject:
    """One encoder."""

    def __init__(self, encoder: EncoderName, side: int, device: str, problem: MSMGProblem) -> None:
        self._encoder, self._problem, self._device = encoder, problem, device
        self._sizes = Sizes((side, side), 0)
        self._config = _config(encoder, problem, 1)
        torch.manual_seed(0)
        self._networks = make_networks(self._config, self._sizes).to(device).train()
        colours_innermost(self._networks)
        network = self._networks["network"]
        assert isinstance(network, MSMGNetwork)
        self._network = network
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=self._config.lr)
        self._bag = _noise(problem.frames, side)
        memory = RowMemory(_Rows(self._bag.tracks[ROLE].rows()), device=device)
        self._samples = ProxySamples(memory, self._config.length)
        self._turn = 0

    def contestants(self) -> Iterator[Contestant]:
        """The convolutions alone, training, and scoring with each stride."""
        config, name = self._config, self._encoder
        batch = self._samples.draw(config.batch_size, 0)
        layers = recorded(self._network, lambda: answers(self._network, batch, config.side))
        scorers = {stride: self._detector(stride) for stride in STRIDES}
        scorer, track = scorers[1].scorer, self._bag.tracks[ROLE]
        one = _starts(self._problem, 1)[:1]
        window = recorded(scorer.clips, lambda: scorer.windows(track, one, -1))
        yield Contestant(
            f"{name}: convolutions, forward", "windows/s", 1, partial(run_forward, window)
        )
        yield Contestant(
            f"{name}: convolutions, training",
            "pairs/s",
            config.batch_size,
            partial(run_training, layers),
        )
        yield Contestant(f"{name}: training", "pairs/s", config.batch_size, self._step)
        for stride, detector in scorers.items():
            windows = len(_starts(self._problem, stride))
            score = partial(detector.score, self._bag)
            yield Contestant(f"{name}: scoring, stride {stride}", "windows/s", windows, score)

    def _step(self) -> None:
        """One batch, as a fit does it."""
        self._turn += 1
        batch = self._samples.draw(self._config.batch_size, self._turn)
        self._optimizer.zero_grad(set_to_none=True)
        found = answers(self._network, batch, self._config.side)
        losses(found, self._config)["total"].backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _detector(self, stride: int) -> MSMG:
        """A detector with random weights, as if it had been trained."""
        detector = MSMG(_config(self._encoder, self._problem, stride))
        picture = np.array(self._sizes.picture, np.int64)
        detector.load_state_dict({**network_arrays(self._networks), "picture": picture})
        detector.to(self._device)
        return detector


class _Rows:
    """The frames of one video, in memory."""

    role = ROLE
    video_ids = ("noise",)
    scenes = (None,)
    labels = (None,)

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._frames = frames
        self.counts = np.array([len(frames)], np.int64)
        self.shape = frames.shape[1:]
        self.dtype = frames.dtype

    def read_into(self, out: NDArray[Any], video: int, start: int) -> None:
        out[...] = self._frames[start : start + len(out)]
