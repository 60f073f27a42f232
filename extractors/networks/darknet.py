"""Networks of darknet: the layers of a cfg file in torch, and the numbers of a .weights file.

A .weights file is a header (major, minor and revision as int32, the images seen as int64, before
version 0.2 as int32) and then float32 numbers without names: for each convolution its bias, with
batch norm also scale, mean and variance, and then its weights, in the order of the cfg.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, max_pool2d, pad

from ..errors import ExtractorError
from ..weights.cards import BYTES, Arrays, LayoutError

Section = tuple[str, dict[str, str]]  # of a cfg: its name and its settings
# Settings of each layer that decide what it computes; those of training have no effect here.
KNOWN = {
    "convolutional": {"batch_normalize", "filters", "size", "stride", "pad", "activation"},
    "maxpool": {"size", "stride"},
    "upsample": {"stride"},
    "yolo": {"anchors", "mask", "classes"},
    "route": {"layers"},
    "shortcut": {"from", "activation"},
}
TRAINING = {"jitter", "ignore_thresh", "truth_thresh", "random", "num", "learning_rate_scale"}
ACTIVATIONS = {"convolutional": ("leaky", "linear"), "shortcut": ("linear",)}
SLOPE = 0.1  # of darknet's leaky ReLU
NORM = (("norm.bias", "norm.weight"), ("norm.running_mean", "norm.running_var"))


def parse_cfg(text: str) -> list[Section]:
    """The sections of a cfg, the first one `net`.

    Raises:
        ExtractorError: a line is neither a section, nor a setting, nor a comment.
    """
    sections: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.partition("#")[0].strip()
        name, equals, value = plain.partition("=")
        if plain.startswith("[") and plain.endswith("]"):
            sections.append((plain[1:-1], {}))
        elif equals and sections:
            sections[-1][1][name.strip()] = value.strip()
        elif plain:
            raise ExtractorError(f"line {number} of the cfg cannot be read: {line!r}")
    if not sections or sections[0][0] != "net":
        raise ExtractorError("a cfg of darknet begins with the section [net]")
    return sections


class Convolution(nn.Module):
    """A convolution with batch norm and leaky ReLU, or with bias only."""

    def __init__(self, channels: int, settings: dict[str, str]) -> None:
        super().__init__()
        size, filters = int(settings["size"]), int(settings["filters"])
        padding = size // 2 if settings.get("pad") == "1" else 0
        normed = settings.get("batch_normalize") == "1"
        stride = int(settings.get("stride", "1"))
        self.conv = nn.Conv2d(channels, filters, size, stride, padding, bias=not normed)
        self.norm = nn.BatchNorm2d(filters) if normed else nn.Identity()
        self.leaky = settings["activation"] == "leaky"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters, h, w)."""
        x = self.norm(self.conv(x))
        return leaky_relu(x, SLOPE) if self.leaky else x


class MaxPool(nn.Module):
    """Darknet pads below and on the right, so that a pool of stride 1 keeps the size."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        before = (self.size - 1) // 2
        after = self.size - 1 - before
        if self.stride > 1 and x.shape[2] % self.stride == 0 and x.shape[3] % self.stride == 0:
            before = after = 0  # nothing is left over: padding would not be looked at
        x = pad(x, (before, after, before, after), value=float("-inf"))
        return max_pool2d(x, self.size, self.stride)


class Yolo(nn.Module):
    """The decoding of one scale: cells and anchors become boxes."""

    def __init__(self, settings: dict[str, str]) -> None:
        super().__init__()
        numbers = [float(n) for n in settings["anchors"].split(",")]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        self.anchors = [pairs[int(i)] for i in settings["mask"].split(",")]
        self.classes = int(settings["classes"])

    def forward(self, x: Tensor, side: int) -> Tensor:
        """Decode the last convolution of a scale.

        Args:
            x:
                (B, anchors * (5 + classes), h, w).
            side:
                Of the network's input in pixels.

        Returns:
            (B, h * w * anchors, 5 + classes) float32: x0, y0, x1, y1 in pixels of the input,
            objectness and class probabilities.
        """
        count, _, rows, columns = x.shape
        values = x.float().reshape(count, len(self.anchors), 5 + self.classes, rows, columns)
        values = values.permute(0, 3, 4, 1, 2)  # (B, h, w, anchors, 5 + classes)
        along = torch.arange(columns, device=x.device, dtype=torch.float32)
        down = torch.arange(rows, device=x.device, dtype=torch.float32)
        cells = torch.stack(torch.meshgrid(along, down, indexing="xy"), dim=-1)[:, :, None]
        stride = torch.tensor([side / columns, side / rows], device=x.device)
        centres = (values[..., :2].sigmoid() + cells) * stride
        halves = values[..., 2:4].exp() * torch.tensor(self.anchors, device=x.device) / 2
        found = torch.cat([centres - halves, centres + halves, values[..., 4:].sigmoid()], dim=-1)
        return found.reshape(count, -1, 5 + self.classes)


class Darknet(nn.Module):
    """A network of a cfg: pictures -> the boxes of all scales.

    Args:
        sections:
            Of the cfg.

    Raises:
        ExtractorError: a layer or one of its settings is not known here, or layers do not fit
            together.
    """

    norm_of: ClassVar[dict[str, str]] = {"conv": "norm"}

    def __init__(self, sections: Sequence[Section]) -> None:
        super().__init__()
        self._kinds: list[tuple[str, list[int]]] = []  # of each layer: what it is, what it reads
        self.layers = nn.ModuleList()
        channels: list[int] = []  # that each layer returns
        for number, (kind, settings) in enumerate(sections[1:]):
            try:
                before = channels[-1] if channels else int(sections[0][1].get("channels", "3"))
                reads, module, width = _layer(kind, settings, number, before, channels)
            except ExtractorError:
                raise
            except (KeyError, ValueError, IndexError, RuntimeError) as error:
                text = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise ExtractorError(f"layer {number} of the cfg, {kind}: {text}") from error
            self._kinds.append((kind, reads))
            self.layers.append(module)
            channels.append(width)
        if all(kind != "yolo" for kind, _ in self._kinds):
            raise ExtractorError("the cfg has no layer yolo, so its network finds no boxes")
        self._kept = {i for _, reads in self._kinds for i in reads}

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, 1, S, S) in [0, 1] -> (B, boxes, 5 + classes) float32, see `Yolo`."""
        x = videos[:, :, 0]
        side = x.shape[-1]
        kept: dict[int, Tensor] = {}
        found = []
        for number, ((kind, reads), layer) in enumerate(zip(self._kinds, self.layers, strict=True)):
            if kind == "route":
                x = torch.cat([kept[i] for i in reads], dim=1)
            elif kind == "shortcut":
                x = x + kept[reads[0]]
            elif kind == "yolo":
                found.append(layer(x, side))
            else:
                x = layer(x)
            if number in self._kept:
                kept[number] = x
        return torch.cat(found, dim=1)


def _layer(
    kind: str, settings: dict[str, str], number: int, before: int, channels: Sequence[int]
) -> tuple[list[int], nn.Module, int]:
    """What a layer reads besides the one before it, its module, and the channels it returns."""
    if kind not in KNOWN:
        raise ExtractorError(f"layer {number} of the cfg is {kind!r}, which is not known here")
    if unknown := sorted(settings.keys() - KNOWN[kind] - TRAINING):
        raise ValueError(f"{', '.join(unknown)} would change its numbers and is not known here")
    activation = settings.get("activation", "linear")
    if activation not in ACTIVATIONS.get(kind, ("linear",)):
        raise ValueError(f"the activation {activation} is not known here")
    if kind == "convolutional":
        return [], Convolution(before, settings), int(settings["filters"])
    if kind == "maxpool":
        return [], MaxPool(int(settings["size"]), int(settings["stride"])), before
    if kind == "upsample":
        return [], nn.Upsample(scale_factor=int(settings["stride"])), before
    if kind == "yolo":
        layer = Yolo(settings)
        if (values := len(layer.anchors) * (5 + layer.classes)) != before:
            raise ValueError(f"it decodes {values} channels, the layer before it returns {before}")
        return [], layer, before
    text = settings["layers" if kind == "route" else "from"]
    reads = [i if i >= 0 else number + i for i in (int(part) for part in text.split(","))]
    if not all(0 <= i < number for i in reads):
        raise ExtractorError(f"layer {number} of the cfg reads layers {text}, which come later")
    if kind == "route":
        return reads, nn.Identity(), sum(channels[i] for i in reads)
    if channels[reads[0]] != before:
        raise ValueError(f"it adds {channels[reads[0]]} channels to {before}")
    return reads, nn.Identity(), before


def from_darknet(arrays: Arrays, sections: Sequence[Section]) -> dict[str, NDArray[np.float32]]:
    """Give the numbers of a .weights file the names of `Darknet`.

    Raises:
        LayoutError: the file is too short for a header, or has other than the network's numbers.
    """
    content = arrays[BYTES].tobytes()
    header = 20 if len(content) >= 8 and _version(content) >= (0, 2) else 16
    if len(content) < header or (len(content) - header) % 4 or not _plausible(content):
        raise LayoutError("it is no .weights file of darknet")
    numbers = np.frombuffer(content, "<f4", offset=header)
    with torch.device("meta"):
        network = Darknet(sections)
    tensors, at = {}, 0
    for name, shape in _order(network):
        size = int(np.prod(shape))
        tensors[name] = numbers[at : at + size].astype(np.float32)
        at += size
        if len(tensors[name]) == size:
            tensors[name] = tensors[name].reshape(shape)
    if at != len(numbers):
        raise LayoutError(
            f"it holds {len(numbers):,} numbers, the network has {at:,}: the file is cut off, or "
            "belongs to another network"
        )
    return tensors


def _version(content: bytes) -> tuple[int, int]:
    major, minor = np.frombuffer(content, "<i4", count=2)
    return int(major), int(minor)


def _plausible(content: bytes) -> bool:
    """Darknet has had versions 0.0 to 0.2; other files have other numbers there."""
    major, minor = _version(content)
    return major == 0 and 0 <= minor <= 9


def _order(network: Darknet) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all parameters in the order of a .weights file."""
    found = []
    for number, layer in enumerate(network.layers):
        if not isinstance(layer, Convolution):
            continue
        names = ["conv.bias"]
        if isinstance(layer.norm, nn.BatchNorm2d):
            names = [name for pair in NORM for name in pair]
        state = layer.state_dict()
        for name in (*names, "conv.weight"):
            found.append((f"layers.{number}.{name}", tuple(state[name].shape)))
    return found
