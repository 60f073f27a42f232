"""Video encoders: clips of any length -> maps of features.

An encoder is what self-supervised tasks on clips share. Its users pool the maps, so that the number
of frames, and what an encoder makes of it, does not change the size of what they read. The names
that settings use are in `encoders.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .cnn3d import Architecture, Cnn3d, layers_of
from .i3d_r50 import FEATURES as R50_FEATURES
from .i3d_r50 import I3dR50
from .inception_i3d import FEATURES as INCEPTION_FEATURES
from .inception_i3d import InceptionI3d

NormRule = Literal["trained", "frozen"]
R50_FRAMES = 7  # that the ResNet-50 needs at least
R50_REPEAT = 12  # times that it sees a single frame


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Settings of encoders; each encoder reads those that it has.

    Attributes:
        architecture: of `cnn3d`.
        width: of encoders with a free number of channels; None: the published one.
        norms: "trained": batch norms learn and use the statistics of the batch, as usual;
            "frozen": they stay as they are, as is usual for pretrained weights and small batches.
        frame_repeat: times that a single frame is repeated to a clip; None: what the encoder
            needs, 12 for the ResNet-50 and 1 for the others.
    """

    architecture: Architecture = "deep+wide"
    width: int | None = None
    norms: NormRule = "trained"
    frame_repeat: int | None = None


class VideoEncoder(nn.Module, ABC):
    """A network that takes clips of any length.

    Class attributes:
        multiple: height and width of a clip are multiples of this.
        smallest: fewest pixels of height and width.
        shares_frames: `gathered` computes what clips have in common once.

    Attributes:
        channels: C of the maps.
        norms: see `EncoderOptions`.
    """

    multiple: int = 1
    smallest: int = 1
    shares_frames: bool = False
    channels: int
    norms: NormRule = "trained"

    @abstractmethod
    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, C, T', H', W'); any T from 1 on."""

    def gathered(self, frames: Tensor, index: Tensor) -> Tensor:
        """Encode clips that are cut from the same frames, as `forward` of each of them.

        Encoders that see frames one by one, or a few at a time, compute what clips have in common
        once. So it is for evaluation: the statistics of a batch would be other ones.

        Args:
            frames:
                (F, H, W, 3) in [0, 1].
            index:
                (B, T) int64, the frames of each clip.

        Returns:
            (B, C, T', H', W').
        """
        found: Tensor = self(clips_of(frames, index))
        return found

    def freeze(self) -> None:
        """Keep statistics and weights of the batch norms as they are, in training too."""
        self.norms = "frozen"
        for norm in self._batch_norms():
            norm.requires_grad_(False)
            norm.eval()

    def train(self, mode: bool = True) -> VideoEncoder:
        """Set the mode of all parts; frozen batch norms never use the statistics of a batch."""
        super().train(mode)
        if self.norms == "frozen":
            for norm in self._batch_norms():
                norm.eval()
        return self

    def _batch_norms(self) -> Sequence[_BatchNorm]:
        return [part for part in self.modules() if isinstance(part, _BatchNorm)]

    def misfit(self, height: int, width: int) -> str | None:
        """Say why clips of this size cannot be read; None if they can."""
        if height % self.multiple or width % self.multiple:
            return f"height and width have to be multiples of {self.multiple}, not {height}x{width}"
        if min(height, width) < self.smallest:
            return f"clips have to be {self.smallest} pixels high and wide, not {height}x{width}"
        return None


def clips_of(frames: Tensor, index: Tensor) -> Tensor:
    """(F, H, W, 3) and (B, T) -> (B, 3, T, H, W), colours innermost in memory."""
    return frames[index].permute(0, 4, 1, 2, 3)


def repeated(clips: Tensor, times: int, least: int = 1) -> Tensor:
    """Make single frames and short clips longer.

    Args:
        clips:
            (B, 3, T, H, W).
        times:
            That a single frame is repeated.
        least:
            Frames of the result; the last frame of a shorter clip is repeated.
    """
    frames = clips.shape[2]
    wanted = max(times if frames == 1 else frames, least)
    if wanted == frames:
        return clips
    tail = clips[:, :, -1:].expand(-1, -1, wanted - frames, -1, -1)
    return torch.cat([clips, tail], 2)


class Cnn3dEncoder(VideoEncoder):
    """SSMTL's 3-D CNN without its last pool over time: one map for each frame.

    Zeros stand before the first and after the last frame. The light encoder.

    Args:
        options: `architecture` and `frame_repeat` are read.
    """

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.network = Cnn3d(layers_of(options.architecture), pool_time=False)
        self.channels = self.network.channels
        self.smallest = 2**self.network.pools
        self.frame_repeat = options.frame_repeat or 1

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, C, T, H / 2**pools, W / 2**pools)."""
        found: Tensor = self.network(repeated(clips, self.frame_repeat))
        return found


class InceptionEncoder(VideoEncoder):
    """Inception-I3D up to its last map; its own range of values, [-1, 1], is made inside.

    Args:
        options: `norms` and `frame_repeat` are read.
    """

    channels = INCEPTION_FEATURES

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.network = InceptionI3d()
        self.network.logits = nn.ModuleDict()
        self.frame_repeat = options.frame_repeat or 1
        if options.norms == "frozen":
            self.freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 1024, ~T/8, ~H/32, ~W/32)."""
        return self.network.last_map(repeated(clips, self.frame_repeat) * 2 - 1)


class I3dR50Encoder(VideoEncoder):
    """I3D ResNet-50 up to its last map; values are normalised inside, as its weights need them.

    It takes seven frames or more, so a single frame is repeated, and so is the last frame of a
    shorter clip.

    Args:
        options: `norms` and `frame_repeat` are read.
    """

    smallest = 5
    channels = R50_FEATURES

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.network = I3dR50()
        del self.network.fc
        self.frame_repeat = options.frame_repeat or R50_REPEAT
        if options.norms == "frozen":
            self.freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 2048, ~T/8, ~H/32, ~W/32)."""
        whole = repeated(clips, self.frame_repeat, R50_FRAMES)
        return self.network.last_map((whole - 0.45) / 0.225)
