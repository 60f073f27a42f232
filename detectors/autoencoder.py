"""The networks of the pseudo-anomaly system: a 3-D autoencoder and a discriminator of features.

The autoencoder is that of LNTRA's code (Astrid et al., BMVC 2021). Table 2 of the supplement of Rai
et al. (CVPRW 2024) prints its encoder and three of its four decoder layers; with three, the output
would have half the size of the input. See docs/papers/pseudo_anomaly.md.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from ..extractors.networks.conv3d_coder import WIDTH, contracting, expanding, layer_widths
from .precision import widened

SIDE_MULTIPLE = 16  # of height and width: four layers halve them
TIME_MULTIPLE = 8  # of the frames of a window: three layers halve them


class Autoencoder(nn.Module):
    """Four 3-D convolutions and four transposed ones, with values in [-1, 1].

    Args:
        channels:
            Of the input: 3, or 1 for grey pictures (LNTRA).
        width:
            Of the first layer; see `layer_widths`.
        checkpointing:
            Compute inner layers again in the backward pass instead of keeping them. The results
            are the same; it takes less memory and more time.
    """

    def __init__(
        self, channels: int = 3, width: int = WIDTH, *, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        widths = layer_widths(width)
        self.encoder = nn.Sequential(*contracting(channels, widths))
        self.decoder = nn.Sequential(*expanding(widths, channels), nn.Tanh())

    def forward(self, windows: Tensor) -> Tensor:
        """Reconstruct windows: (B, C, T, H, W) -> the same shape.

        T is a multiple of 8, H and W are multiples of 16.
        """
        x = windows
        for part in (self.encoder, self.decoder):
            for first in range(0, len(part), 3):
                x = self._run(part[first : first + 3], x)
        return x

    def _run(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return _checkpointed(layers, x)
        out: Tensor = layers(x)
        return out


def folded(network: Autoencoder) -> Autoencoder:
    """Copy a trained autoencoder for scoring, with its batch norms folded into the convolutions.

    The results differ in the last bits.
    """
    copied = copy.deepcopy(network).eval()
    for part in (copied.encoder, copied.decoder):
        for i, layer in enumerate(part):
            before = part[i - 1]
            if isinstance(layer, nn.BatchNorm3d):
                transposed = isinstance(before, nn.ConvTranspose3d)
                # torch's annotation knows equal types only, its code takes any convolution
                part[i - 1] = fuse_conv_bn_eval(before, layer, transpose=transposed)  # type: ignore[type-var]
                part[i] = nn.Identity()
            elif isinstance(layer, nn.LeakyReLU):
                layer.inplace = True  # nothing else reads the values before it
    return copied.to(memory_format=torch.channels_last_3d)


def _checkpointed(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run layers twice, forward and backward, but let batch norms see the batch once.

    A second run in training mode would move their running statistics twice.
    """
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm3d)]
    seen = False

    def run(x: Tensor) -> Tensor:
        nonlocal seen
        if not seen:
            seen = True
            return _layered(layers, x)
        before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None
        try:  # torch leaves the second run by an exception as soon as it has what it needs
            return _layered(layers, x)
        finally:
            for norm, (momentum, count) in zip(norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, count

    out: Tensor = checkpoint(run, x, use_reentrant=False)
    return out


def _layered(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run a layer, then what follows in fp32: in the second run, nothing else widens its values."""
    out: Tensor = layers[1:](widened(layers[0](x)))
    return out


class Discriminator(nn.Module):
    """Two linear layers: a feature -> the logit of being a pseudo-anomaly (Table 1).

    Args:
        features:
            Width of a feature; ViFi-CLIP has 512.
    """

    def __init__(self, features: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,) logits."""
        logits: Tensor = self.layers(features)
        return logits[:, 0]
