"""OSNet: a small network whose vectors tell persons apart, with the card of its weights.

Paper: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification",
ICCV 2019: light 3 x 3 convolutions (Sect. 3.1), blocks of four streams and their gate (Sect. 3.2),
the layers of x1.0, which has 2.2 million parameters. Key names are those of the authors' files.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..weights.cards import Arrays, LayoutError, Weights

FEATURES = 512
SIZE = (256, 128)  # height and width of a crop
STREAMS = 4  # of a block: 1 to 4 light convolutions
REDUCED, GATED = 4, 16  # widths inside a block, and inside its gate, are that many times smaller
WIDTHS = (64, 256, 384, 512)  # of the first layer and of the three stages
CLASSIFIER = "classifier."  # of the persons of the training set


class Conv(nn.Module):
    """A convolution with batch norm, and ReLU unless it is linear."""

    def __init__(self, given: int, made: int, size: int, stride: int = 1, linear: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(given, made, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(made)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, made, h, w)."""
        x = self.bn(self.conv(x))
        return x if self.linear else torch.relu(x)


class Light(nn.Module):
    """A 1 x 1 convolution, then a 3 x 3 one in each channel (Sect. 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return torch.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """A weight for each channel, from its mean over the picture (Sect. 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // GATED, 1)
        self.fc2 = nn.Conv2d(width // GATED, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))))


class Block(nn.Module):
    """Four streams that see 3, 5, 7 and 9 pixels; one gate weighs and adds them (Sect. 3.2)."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        inner = made // REDUCED
        self.conv1 = Conv(given, inner, 1)
        self.conv2a = Light(inner)
        self.conv2b, self.conv2c, self.conv2d = (
            nn.Sequential(*(Light(inner) for _ in range(n))) for n in range(2, STREAMS + 1)
        )
        self.gate = Gate(inner)
        self.conv3 = Conv(inner, made, 1, linear=True)
        self.downsample = None if given == made else Conv(given, made, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, given, H, W) -> (B, made, H, W)."""
        inner = self.conv1(x)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        mixed = torch.stack([self.gate(stream(inner)) for stream in streams]).sum(0)
        kept = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv3(mixed) + kept)


class OSNet(nn.Module):
    """OSNet x1.0 without its classifier."""

    norm_of: ClassVar[dict[str, str]] = {"conv": "bn", "conv2": "bn"}

    def __init__(self) -> None:
        super().__init__()
        first, *widths = WIDTHS
        self.conv1 = Conv(3, first, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = []
        for number, (given, made) in enumerate(zip(WIDTHS, widths, strict=False)):
            layers: list[nn.Module] = [Block(given, made), Block(made, made)]
            if number < 2:  # the last stage is not halved
                layers.append(nn.Sequential(Conv(made, made, 1), nn.AvgPool2d(2, 2)))
            stages.append(nn.Sequential(*layers))
        self.conv2, self.conv3, self.conv4 = stages
        self.conv5 = Conv(widths[-1], widths[-1], 1)
        self.fc = nn.Sequential(
            nn.Linear(widths[-1], FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, 1, 256, 128) normalised -> (B, 512) float32."""
        x = self.maxpool(self.conv1(videos[:, :, 0]))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        vectors: Tensor = self.fc(x.mean((2, 3)))
        return vectors.float()


def from_torchreid(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take the authors' state dict: without the classifier, and without what training prefixed.

    Raises:
        LayoutError: the file is not that network.
    """
    plain = {
        name.removeprefix("state_dict/").removeprefix("module."): values
        for name, values in arrays.items()
    }
    found = {name: values for name, values in plain.items() if not name.startswith(CLASSIFIER)}
    name = "conv2.0.conv2d.3.conv1.weight"
    if name not in found or "fc.0.weight" not in found:
        raise LayoutError(f"it has no {name!r} and 'fc.0.weight': it is not OSNet x1.0")
    return {name: values for name, values in found.items() if name.startswith(("conv", "fc."))}


CARDS = (
    Weights(
        name="osnet_x1_0.torchreid",
        file="osnet_x1_0_msmt17.pt",
        sha256=None,  # there are several, for other training sets
        sources=(),
        layout="torchreid (OSNet x1.0, state dict)",
        licence="MIT by the repository KaiyangZhou/deep-person-reid; the sets of persons that it "
        "was trained on allow research only",
        origin="OSNet x1.0 trained to tell persons apart; downloaded by hand from the model zoo of "
        "KaiyangZhou/deep-person-reid",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        convert=from_torchreid,
    ),
)
