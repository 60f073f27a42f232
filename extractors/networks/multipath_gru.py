"""Paths of convolutional GRUs at three resolutions that predict the next frame.

After Wang et al., "Robust Unsupervised Video Anomaly Detection by Multipath Frame Prediction"
(ROADMAP), IEEE TNNLS 33(6), 2022. Its full text was not at hand: that ConvGRUs on paths of several
resolutions predict a frame, and that a loss tolerates noise, is from its abstract. The number of
paths, the layers and the form of the loss are choices of this file; see docs/papers/msmg.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .frame_estimation import Estimate, FrameEstimator, signed, squared_error
from .video_encoder import EncoderOptions

WIDTH = 64  # channels of the finest path; each coarser one has twice as many
PATHS = 3
BEFORE = 4  # frames that the prediction sees, as in Liu et al. 2018
TOLERANCE = 0.02  # of a range of 1: about five grey levels


@dataclass(frozen=True)
class Beginnings:
    """The different beginnings of clips that are cut from the same frames, up to one place.

    Attributes:
        last: (U,) number of the last frame of each.
        before: (U,) which of those up to the place before it continues.
        of_clip: (B,) the beginning of each clip.
    """

    last: Tensor
    before: Tensor
    of_clip: Tensor


def beginnings(index: Tensor) -> list[Beginnings]:
    """Find what clips have in common from their first frame on.

    Args:
        index:
            (B, T) int64, the frames of each clip.

    Returns:
        For each of the T places.
    """
    found, own = [], torch.zeros_like(index[:, 0])
    for last in index.unbind(1):
        different, own = torch.unique(torch.stack([own, last], 1), dim=0, return_inverse=True)
        found.append(Beginnings(different[:, 1], different[:, 0], own))
    return found


class ConvGru(nn.Module):
    """A GRU whose products are convolutions (Ballas et al., ICLR 2016, Sect. 3).

    z = s(W_z * x + U_z * h), r = s(W_r * x + U_r * h), n = tanh(W * x + U * (r h)),
    h' = (1 - z) h + z n. The first h is 0.

    Args:
        channels:
            Of the input and of the state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inputs = nn.Conv2d(channels, 3 * channels, 3, padding=1)  # W_z, W_r, W and biases
        self.gates = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)  # U_z, U_r
        self.state = nn.Conv2d(channels, channels, 3, padding=1, bias=False)  # U

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) -> the states after each frame, of the same shape."""
        inputs = _clips_again(self.inputs(x.flatten(0, 1)), len(x))
        h = torch.zeros_like(x[:, 0])
        states = []
        for given in inputs.unbind(1):
            h = self._next(given, h)
            states.append(h)
        return torch.stack(states, 1)

    def gathered(self, x: Tensor, places: Sequence[Beginnings]) -> list[Tensor]:
        """Compute the states of clips that are cut from the same frames, each beginning once.

        Args:
            x:
                (F, C, H, W), of the frames.
            places:
                From `beginnings`.

        Returns:
            For each place (U, C, H, W), in the order of its beginnings.
        """
        inputs = self.inputs(x)
        h = torch.zeros_like(x[:1])
        states = []
        for place in places:
            h = self._next(inputs[place.last], h[place.before])
            states.append(h)
        return states

    def _next(self, inputs: Tensor, h: Tensor) -> Tensor:
        """The state after one more frame, from its products (B, 3 C, H, W) and the state before."""
        update, reset, new = inputs.chunk(3, 1)
        recurrent_update, recurrent_reset = self.gates(h).chunk(2, 1)
        z = torch.sigmoid(update + recurrent_update)
        n = torch.tanh(new + self.state(torch.sigmoid(reset + recurrent_reset) * h))
        return (1 - z) * h + z * n


class MultipathGru(FrameEstimator):
    """Predict a frame from the four before it, along three paths.

    As an encoder it returns the states of all paths after each frame, averaged to the resolution of
    the coarsest. A state has seen all frames before it.

    Args:
        options:
            `width` is read: channels of the finest path, 64 if it is None.
        tolerance:
            Errors up to this, of values in [0, 1], cost nothing.
    """

    multiple = 2 ** (PATHS + 1)
    shares_frames = True

    def __init__(self, options: EncoderOptions, *, tolerance: float = TOLERANCE) -> None:
        super().__init__()
        width = options.width or WIDTH
        self.length, self.scored, self._tolerance = BEFORE + 1, BEFORE, tolerance
        widths = [width << i for i in range(PATHS)]
        self.channels = sum(widths)
        self.stem = _convolution(3, width, 2)
        self.downs = nn.ModuleList(
            _convolution(before, after, 2) for before, after in pairwise([width, *widths])
        )
        self.paths = nn.ModuleList(ConvGru(each) for each in widths)
        self.ups = nn.ModuleList(
            _convolution(fine + coarse, fine, 1)
            for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.output = nn.Sequential(
            _convolution(width, width, 1), nn.Conv2d(width, 3, 3, padding=1)
        )

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 7 width, T, H / 16, W / 16)."""
        states = self._states(clips)
        size = states[-1].shape[3], states[-1].shape[4]
        found = [functional.adaptive_avg_pool2d(each.flatten(0, 1), size) for each in states]
        return _clips_again(torch.cat(found, 1), len(clips)).transpose(1, 2)

    def gathered(self, frames: Tensor, index: Tensor) -> Tensor:
        """As `VideoEncoder.gathered`; clips share their frames, and the states of equal beginnings.

        What comes after a missing frame is recurrent, and so each clip's own.
        """
        places = beginnings(index)
        x = self.stem(signed(frames).permute(0, 3, 1, 2))
        paths = []
        for down, path in zip(self.downs, self.paths, strict=True):
            x = down(x)
            assert isinstance(path, ConvGru)
            paths.append(path.gathered(x, places))
        size = x.shape[2], x.shape[3]
        maps = [
            torch.cat([functional.adaptive_avg_pool2d(each, size) for each in states], 1)
            for states in zip(*paths, strict=True)
        ]
        return torch.stack(
            [each[place.of_clip] for each, place in zip(maps, places, strict=True)], 2
        )

    def predict(self, windows: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 3, H, W) in [-1, 1]: the last frame, from the others."""
        *finer, x = (each[:, -1] for each in self._states(windows[:, :, :-1]))
        for up, state in zip(self.ups, finer[::-1], strict=True):
            x = up(torch.cat([state, _doubled(x)], 1))
        for layer in self.output:
            x = layer(_doubled(x))
        return torch.tanh(x)

    def objective(self, windows: Tensor) -> dict[str, Tensor]:
        """Squared error of what a pixel is off by more than the tolerance, a mean."""
        off = (self.predict(windows) - signed(windows[:, :, -1])).abs() / 2
        return {"total": torch.relu(off - self._tolerance).square().mean()}

    def estimate(self, windows: Tensor) -> Estimate:
        """Errors of the predicted frame."""
        return Estimate(squared_error(self.predict(windows), signed(windows[:, :, -1])))

    def _states(self, clips: Tensor) -> list[Tensor]:
        """The states of each path after each frame, the finest first: (B, T, C, H', W')."""
        frames = signed(clips).transpose(1, 2)
        x = self.stem(frames.flatten(0, 1))
        found = []
        for down, path in zip(self.downs, self.paths, strict=True):
            x = down(x)
            found.append(path(_clips_again(x, len(clips))))
        return found


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU())


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _clips_again(frames: Tensor, clips: int) -> Tensor:
    """(B T, C, H, W) -> (B, T, C, H, W)."""
    return frames.reshape(clips, -1, *frames.shape[1:])
