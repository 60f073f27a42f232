"""The U-Net that predicts a frame from the four before it.

Paper: Liu, Luo, Lian, Gao, "Future Frame Prediction for Anomaly Detection - A New Baseline", CVPR
2018, Sect. 3.1 and Fig. 3: four resolutions, two convolutions at each, shortcuts. Its losses of
intensity and gradient are of Sect. 3.2; those of flow and of a discriminator are left out.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .frame_estimation import (
    Estimate,
    FrameEstimator,
    encoded_stacks,
    gathered_stacks,
    gradient_loss,
    intensity_loss,
    signed,
    squared_error,
    stack_before,
)
from .video_encoder import EncoderOptions

WIDTH = 64  # channels at full resolution; each of the three pools doubles them
LEVELS = 4
BEFORE = 4  # frames that the prediction sees


def convolutions(before: int, after: int, *, norm: bool, linear: bool = False) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with a ReLU.

    Args:
        before:
            Channels of the input.
        after:
            Channels of the output.
        norm:
            Batch norms before the ReLUs.
        linear:
            Neither norm nor ReLU after the second convolution.
    """
    layers: list[nn.Module] = []
    for i, channels in enumerate((before, after)):
        layers.append(nn.Conv2d(channels, after, 3, padding=1))
        if not (linear and i == 1):
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class UnetEncoder(nn.Module):
    """The contracting half of a U-Net.

    Args:
        channels:
            Of the input.
        width:
            Channels at full resolution.
        norm:
            With batch norms.
        linear:
            Neither norm nor ReLU at the end.
    """

    def __init__(
        self, channels: int, width: int = WIDTH, *, norm: bool = False, linear: bool = False
    ) -> None:
        super().__init__()
        widths = [width << i for i in range(LEVELS)]
        self.levels = nn.ModuleList(
            convolutions(before, after, norm=norm, linear=linear and i == LEVELS - 1)
            for i, (before, after) in enumerate(pairwise([channels, *widths]))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> features of the four resolutions, the finest first."""
        found = []
        for i, level in enumerate(self.levels):
            x = level(functional.max_pool2d(x, 2) if i else x)
            found.append(x)
        return found


class UnetDecoder(nn.Module):
    """The expanding half of a U-Net; the output is in [-1, 1].

    Args:
        width:
            As of the encoder.
        norm:
            With batch norms.
        entry:
            Channels of the input if they are not those of the encoder's output; two convolutions
            reduce them.
    """

    def __init__(self, width: int = WIDTH, *, norm: bool = False, entry: int | None = None) -> None:
        super().__init__()
        widths = [width << i for i in range(LEVELS)][::-1]
        self.entry: nn.Module = nn.Identity()
        if entry is not None:
            self.entry = convolutions(entry, widths[0], norm=norm)
        self.ups = nn.ModuleList()
        self.levels = nn.ModuleList()
        for before, after in pairwise(widths):
            up = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
            norms = [nn.BatchNorm2d(after)] if norm else []
            self.ups.append(nn.Sequential(up, *norms, nn.ReLU()))
            self.levels.append(convolutions(before, after, norm=norm))
        self.output = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, shortcuts: list[Tensor]) -> Tensor:
        """The deepest features and those of the finer resolutions, the finest first -> a picture.

        Returns:
            (B, 3, H, W).
        """
        x = self.entry(x)
        for up, level, shortcut in zip(self.ups, self.levels, shortcuts[::-1], strict=True):
            x = level(torch.cat([shortcut, up(x)], 1))
        return torch.tanh(self.output(x))


class UnetPrediction(FrameEstimator):
    """Predict a frame from the four before it, by intensity and gradient.

    As an encoder it runs on the stack of four frames that ends in each frame, and returns the
    deepest features.

    Args:
        options:
            `width` is read: channels at full resolution, 64 in the paper.
    """

    multiple = 8
    shares_frames = True

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        width = options.width or WIDTH
        self.channels = width << (LEVELS - 1)
        self.length, self.scored = BEFORE + 1, BEFORE
        self.encoder = UnetEncoder(3 * BEFORE, width)
        self.decoder = UnetDecoder(width)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 8 width, T, H / 8, W / 8)."""
        return encoded_stacks(clips, BEFORE, self.encoder)

    def gathered(self, frames: Tensor, index: Tensor) -> Tensor:
        """As `VideoEncoder.gathered`; clips share the stacks that they have in common."""
        return gathered_stacks(frames, index, BEFORE, self.encoder)

    def predict(self, windows: Tensor) -> Tensor:
        """(B, 3, 5, H, W) in [0, 1] -> (B, 3, H, W) in [-1, 1]: the last frame, from the others."""
        *shortcuts, deepest = self.encoder(stack_before(windows))
        found: Tensor = self.decoder(deepest, shortcuts)
        return found

    def objective(self, windows: Tensor) -> dict[str, Tensor]:
        """Intensity and gradient (Sect. 3.2), both with weight 1 (Sect. 4)."""
        found, wanted = self.predict(windows), signed(windows[:, :, -1])
        intensity, gradient = intensity_loss(found, wanted), gradient_loss(found, wanted)
        return {"intensity": intensity, "gradient": gradient, "total": intensity + gradient}

    def estimate(self, windows: Tensor) -> Estimate:
        """Errors of the predicted frame."""
        return Estimate(squared_error(self.predict(windows), signed(windows[:, :, -1])))
