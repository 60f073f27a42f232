"""The published objective of an encoder next to the tasks of MSMG, and its own error as a score.

Some encoders predict or reconstruct frames (Table 2 of the supplement). They learn that objective
alone, or together with the tasks, from windows of their own length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..extractors.networks.frame_estimation import FrameEstimator
from .base import Track
from .msmg_network import MSMGNetwork, network_input
from .msmg_placing import Ints
from .msmg_samples import VALIDATION, Proxies, ProxySamples
from .windows import WindowSource

OWN = "own/"  # how the terms of the objective are called in the log
OWN_ERROR = "own_error"  # map of squared errors


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        proxies: clips of the tasks; None if no task is trained.
        windows: (B, length, H, W, 3) as stored, of the encoder's own objective; None without it.
    """

    proxies: Proxies | None
    windows: Tensor | None

    def __len__(self) -> int:
        if self.proxies is not None:
            return len(self.proxies.place)
        return 0 if self.windows is None else len(self.windows)


class Samples:
    """Draws clips of the tasks, and windows of the encoder's own objective.

    Args:
        proxies:
            Draws the clips; None if no task is trained.
        windows:
            Draws the windows; None without that objective.
    """

    def __init__(self, proxies: ProxySamples | None, windows: WindowSource | None) -> None:
        self._proxies, self._windows = proxies, windows

    def draw(self, count: int, turn: int) -> Batch:
        """Draw `count` pairs of clips and as many windows; the same turn draws the same."""
        proxies = None if self._proxies is None else self._proxies.draw(count, turn)
        own = self._windows
        return Batch(proxies, None if own is None else own.read(own.draw(count, turn)))

    def validation(self, pairs: int, count: int) -> Iterator[Batch]:
        """Draw the same pairs and windows each time, `count` at a time, by numbers of their own."""
        for turn, first in enumerate(range(0, pairs, count)):
            yield self.draw(min(count, pairs - first), VALIDATION + turn)


def own_estimator(network: MSMGNetwork) -> FrameEstimator:
    """Return the encoder of a network that has an objective of its own."""
    assert isinstance(network.encoder, FrameEstimator), "the settings refuse others"
    return network.encoder


def own_terms(network: MSMGNetwork, windows: Tensor, side: int | None) -> dict[str, Tensor]:
    """Compute the terms of the encoder's own objective, "own/total" among them."""
    terms = own_estimator(network).objective(network_input(windows, side))
    return {f"{OWN}{name}": value for name, value in terms.items()}


def own_errors(
    estimator: FrameEstimator, track: Track, frames: Ints, side: int | None, device: torch.device
) -> dict[str, Tensor]:
    """Measure how badly an encoder estimates some frames of a video.

    Args:
        estimator:
            The encoder.
        track:
            The pixels of the video.
        frames:
            (k,) ascending. The window of a frame may reach over the ends of the video, whose first
            and last frames are repeated.
        side:
            As in `network_input`.
        device:
            Of the encoder.

    Returns:
        "own" (k,) mean squared errors, "own_error" (k, H, W) those of the pixels, and
        "own_distance" (k,), if the encoder has one.
    """
    reach = np.arange(estimator.length) - estimator.scored
    index = np.clip(frames[:, None] + reach, 0, len(track) - 1)  # (k, length)
    low = int(index.min())
    block = torch.from_numpy(track.rows(low, int(index.max()) + 1)).to(device)
    pixels = network_input(block[None], side)[0]  # (3, F, H, W)
    at = torch.from_numpy(index - low).to(device)
    found = estimator.estimate(pixels[:, at].transpose(0, 1))
    errors = {"own": found.squared.mean((1, 2)), OWN_ERROR: found.squared}
    return errors if found.distance is None else {**errors, "own_distance": found.distance}
