"""I3D ResNet-50: 2048 features a clip, in its two public variants.

`i3d_r50` is the network of facebookresearch/video-nonlocal-net (caffe2) as its port
Tushar-N/pytorch-resnet3d reads it, without non-local blocks. The features of RTFM and SSRL come
from it. `i3d_r50_ptv` is pytorchvideo's own `i3d_r50` (Apache-2.0). Their stems differ, so their
weights cannot be exchanged.

Papers: Carreira and Zisserman, CVPR 2017 (inflation); Wang et al., "Non-local Neural Networks",
CVPR 2018, Table 1 (this ResNet-50). The licences of the weights are on their cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..weights.cards import COUNTER, Arrays, LayoutError, UrlSource, Weights
from .fused import rectified
from .i3d import CLASSES, Backbone, I3d, from_state_dict
from .pools import max_of_frame_pairs

FEATURES = 2048


class I3dR50(I3d):
    """ResNet-50 inflated to three dimensions; total stride 8 in time and 32 in space.

    The pools have no padding (224 pixels become 55 after the first one, not 56) and the stem has
    stride 2 in time, as in the port that reaches the published accuracy with these weights.

    Args:
        classes: outputs of the classifier; features are taken before it.
    """

    norm_of: ClassVar[dict[str, str]] = {
        "conv1": "bn1",
        "conv2": "bn2",
        "conv3": "bn3",
        "0": "1",  # of `downsample`
    }

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, (5, 7, 7), stride=2, padding=(2, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.layer1 = layer(64, 64, temporal=(1, 1, 1))
        self.layer2 = layer(256, 128, temporal=(1, 0, 1, 0), stride=2)
        self.layer3 = layer(512, 256, temporal=(1, 0, 1, 0, 1, 0), stride=2)
        self.layer4 = layer(1024, 512, temporal=(0, 1, 0), stride=2)
        self.fc = nn.Linear(FEATURES, classes)

    def last_map(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, 2048, ~T/8, ~H/32, ~W/32)."""
        x = rectified(self.conv1, self.bn1, videos)  # (B, 64, T/2, H/2, W/2)
        x = functional.max_pool3d(x, (2, 3, 3), 2)  # (B, 64, T/4, H/4, W/4)
        x = self.layer1(x)
        x = max_of_frame_pairs(x)  # (B, 256, T/8, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(x)))
        return cast(Tensor, x)

    @property
    def classifier(self) -> nn.Linear:
        """2048 features -> classes."""
        return self.fc


def layer(channels: int, width: int, *, temporal: Sequence[int], stride: int = 1) -> nn.Sequential:
    """Build a sequence of bottlenecks.

    Args:
        channels:
            Input channels; there are 4 * width output channels.
        width:
            Inner channels of the bottlenecks.
        temporal:
            For each bottleneck, the number of frames that it sees on either side.
        stride:
            Stride of the first bottleneck in space.
    """
    first, *others = temporal
    return nn.Sequential(
        Bottleneck(channels, width, temporal=first, stride=stride, project=True),
        *(Bottleneck(4 * width, width, temporal=reach) for reach in others),
    )


class Bottleneck(nn.Module):
    """Convolutions over time, over space and over channels, added to the input."""

    def __init__(
        self, channels: int, width: int, *, temporal: int, stride: int = 1, project: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(
            channels, width, (1 + 2 * temporal, 1, 1), padding=(temporal, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = (
            nn.Sequential(
                nn.Conv3d(channels, 4 * width, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(4 * width),
            )
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 4 * width, T, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = rectified(self.conv1, self.bn1, x)
        x = rectified(self.conv2, self.bn2, x)
        return rectified(self.conv3, self.bn3, x, shortcut)


class I3dR50Ptv(I3d):
    """pytorchvideo's `i3d_r50`; features are taken before its head, a pool of fixed size.

    Total stride 2 in time and 32 in space: the stem has no stride in time.
    """

    norm_of: ClassVar[dict[str, str]] = {
        "conv": "norm",
        "conv_a": "norm_a",
        "conv_b": "norm_b",
        "conv_c": "norm_c",
        "branch1_conv": "branch1_norm",
    }

    def __init__(self) -> None:
        super().__init__()
        from pytorchvideo.models.hub import i3d_r50  # its import takes seconds

        self.blocks: nn.ModuleList = i3d_r50().blocks

    def last_map(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, 2048, T/2, ~H/32, ~W/32)."""
        blocks: list[Any] = list(self.blocks)
        stem, first, _, *others, _ = blocks  # the pool has no weights, the head is no feature
        x = stem.pool(rectified(stem.conv, stem.norm, videos))  # (B, 64, T, H/4, W/4)
        x = max_of_frame_pairs(_stage(first, x))  # (B, 256, T/2, H/4, W/4)
        for stage in others:
            x = _stage(stage, x)
        return x

    @property
    def classifier(self) -> nn.Linear:
        """2048 features -> classes."""
        return cast(nn.Linear, self.blocks[-1].proj)


def _stage(stage: Any, x: Tensor) -> Tensor:
    """Run a stage of pytorchvideo's network; its blocks have parts of these names."""
    for block in stage.res_blocks:
        conv, norm, branch = block.branch1_conv, block.branch1_norm, block.branch2
        shortcut = x if conv is None else conv(x) if norm is None else norm(conv(x))
        x = rectified(branch.conv_a, branch.norm_a, x)
        x = rectified(branch.conv_b, branch.norm_b, x)
        x = rectified(branch.conv_c, branch.norm_c, x, shortcut)
    return x


def caffe2_blob(name: str) -> str:
    """Name the blob of video-nonlocal-net that holds a parameter of `I3dR50`.

    Raises:
        LayoutError: the network has no such parameter.
    """
    *path, leaf = name.split(".")
    code = {"weight": "w", "bias": "b"}
    norm = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    match path:
        case ["conv1"]:
            return f"conv1_{code[leaf]}"
        case ["bn1"]:
            return f"res_conv1_bn_{norm[leaf]}"
        case ["fc"]:
            return f"pred_{code[leaf]}"
        case [stage, block, *unit]:
            place = f"res{int(stage.removeprefix('layer')) + 1}_{block}_branch"
            match unit:
                case ["downsample", "0"]:
                    return f"{place}1_{code[leaf]}"
                case ["downsample", "1"]:
                    return f"{place}1_bn_{norm[leaf]}"
                case [one]:
                    branch = f"{place}2{'abc'[int(one[-1]) - 1]}"
                    return (
                        f"{branch}_{code[leaf] if one.startswith('conv') else f'bn_{norm[leaf]}'}"
                    )
    raise LayoutError(f"no blob is known for {name!r}")


def from_caffe2(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Convert the blobs of video-nonlocal-net; its variances need no conversion.

    Blobs of the solver are left out: momenta, and single numbers such as the learning rate.

    Raises:
        LayoutError: a blob is missing, or there is one of another network (non-local blocks).
    """
    blobs = {
        key.rpartition("/")[2]: value
        for key, value in arrays.items()
        if "momentum" not in key and value.size > 1
    }
    with torch.device("meta"):
        names = I3dR50().state_dict().keys()
    tensors = {}
    for name in names:
        if name.endswith(COUNTER):
            continue
        if (blob := caffe2_blob(name)) not in blobs:
            raise LayoutError(f"it has no {blob!r}")
        tensors[name] = blobs.pop(blob)
    if blobs:
        raise LayoutError(f"it has also {', '.join(sorted(blobs)[:3])}")
    return tensors


def from_tushar_n(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take a state dict of Tushar-N/pytorch-resnet3d (our own names), also inside a dict.

    Raises:
        LayoutError: the file is not that network.
    """
    return from_state_dict(arrays, "conv1.weight", "layer4.2.bn3.running_var")


def from_pytorchvideo(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take a checkpoint of pytorchvideo (state dict under `model_state`), or a bare state dict.

    Raises:
        LayoutError: the file is not that network.
    """
    state = {k: v for k, v in arrays.items() if k.startswith("model_state/") or "/" not in k}
    return from_state_dict(
        state, "blocks.0.conv.weight", "blocks.5.res_blocks.2.branch2.norm_c.running_var"
    )


_MEAN, _STD = (114.75, 114.75, 114.75), (57.375, 57.375, 57.375)  # 0.45 and 0.225 of 255

CARDS = (
    Weights(
        name="i3d_r50.caffe2",
        file="i3d_baseline_32x2_IN_pretrain_400k.pkl",
        sha256=None,
        sources=(
            UrlSource(
                "https://dl.fbaipublicfiles.com/video-nonlocal/"
                "i3d_baseline_32x2_IN_pretrain_400k.pkl"
            ),
        ),
        layout="video-nonlocal-net (caffe2 blobs)",
        licence="Apache-2.0 by the repository facebookresearch/video-nonlocal-net; not stated with "
        "the file",
        origin="facebookresearch/video-nonlocal-net: I3D ResNet-50 baseline, started from ImageNet "
        "and trained on Kinetics-400 with 32 frames, every second one; 72.1 % top-1 in the port "
        "Tushar-N/pytorch-resnet3d",
        mean=_MEAN,
        std=_STD,
        convert=from_caffe2,
    ),
    Weights(
        name="i3d_r50.tushar_n",
        file="i3d_r50_kinetics.pth",
        sha256=None,  # unknown: users convert the file themselves
        sources=(),
        layout="Tushar-N/pytorch-resnet3d (state dict)",
        licence="that of i3d_r50.caffe2, of which it is a conversion",
        origin="i3d_r50.caffe2, converted by utils/convert_weights.py of Tushar-N/pytorch-resnet3d",
        mean=_MEAN,
        std=_STD,
        convert=from_tushar_n,
    ),
)

CARDS_PTV = (
    Weights(
        name="i3d_r50_ptv.kinetics",
        file="I3D_8x8_R50.pyth",
        sha256=None,
        sources=(
            UrlSource(
                "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/I3D_8x8_R50.pyth"
            ),
        ),
        layout="pytorchvideo (model_state)",
        licence="Apache-2.0 by the repository facebookresearch/pytorchvideo; not stated with the "
        "file",
        origin="facebookresearch/pytorchvideo, model zoo: I3D R50 trained on Kinetics-400 with 8 "
        "frames, every eighth one; 73.27 % top-1",
        mean=_MEAN,
        std=_STD,
        convert=from_pytorchvideo,
    ),
)


BACKBONE = Backbone("i3d_r50", I3dR50, FEATURES, CARDS, min_frames=7, min_side=5)
BACKBONE_PTV = Backbone("i3d_r50_ptv", I3dR50Ptv, FEATURES, CARDS_PTV, min_frames=2)
