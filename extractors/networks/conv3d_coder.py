"""Layers of the 3-D autoencoder of MemAE, which LNTRA and MemAE share.

Paper: Gong et al., "Memorizing Normality to Detect Anomaly", ICCV 2019, Sect. 4.2: four 3-D
convolutions with 96, 128, 256 and 256 filters, of which all halve the picture and the last three
halve time, and their mirror.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

SLOPE = 0.2  # of the leaky ReLUs
WIDTH = 96  # channels of the first layer; the others follow from it
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))


def layer_widths(width: int) -> tuple[int, int, int, int]:
    """Channels after the four layers of the encoder, in the published proportions.

    Args:
        width:
            Of the first layer, a multiple of 3; the published one is 96.

    Raises:
        ValueError: the width is not a multiple of 3.
    """
    if width < 3 or width % 3:
        raise ValueError(f"a width is a multiple of 3, not {width}: 96, 128, 256, 256 are 3:4:8:8")
    return width, width // 3 * 4, width // 3 * 8, width // 3 * 8


def contracting(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    """The encoder: convolution, batch norm and leaky ReLU, four times."""
    layers: list[nn.Module] = []
    for (before, after), stride in zip(pairwise((channels, *widths)), STRIDES, strict=True):
        layers += [nn.Conv3d(before, after, 3, stride=stride, padding=1), *_activated(after)]
    return layers


def expanding(widths: tuple[int, ...], channels: int) -> list[nn.Module]:
    """The decoder: transposed convolutions that mirror the encoder; the last one stands alone."""
    layers: list[nn.Module] = []
    for (before, after), stride in zip(
        pairwise((*widths[::-1], channels)), STRIDES[::-1], strict=True
    ):
        layers.append(
            nn.ConvTranspose3d(
                *(before, after, 3),
                stride=stride,
                padding=1,
                output_padding=(stride[0] - 1, stride[1] - 1, stride[2] - 1),
            )
        )
        layers += _activated(after)
    return layers[:-2]


def _activated(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm3d(channels), nn.LeakyReLU(SLOPE)]
