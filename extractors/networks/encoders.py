"""The names of the video encoders, and the pretrained weights that they can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..weights.cards import Arrays, Weights
from .i3d_r50 import CARDS as R50_CARDS
from .i3d_r50 import I3dR50
from .inception_i3d import CARDS as INCEPTION_CARDS
from .inception_i3d import InceptionI3d
from .memae import MemAe
from .mnad import Mnad
from .multipath_gru import MultipathGru
from .unet_prediction import UnetPrediction
from .video_encoder import (
    Cnn3dEncoder,
    EncoderOptions,
    I3dR50Encoder,
    InceptionEncoder,
    VideoEncoder,
)

EncoderName = Literal["cnn3d", "inception_i3d", "i3d_r50", "unet", "memae", "mnad", "multipath_gru"]


@dataclass(frozen=True)
class Pretrained:
    """Weights that an encoder can start from; they belong to its part `network`.

    Attributes:
        cards: weights that fit, the default first.
        whole: makes the network that the files hold, with its classifier.
        classifier: how the names of the classifier begin; an encoder has none.
    """

    cards: tuple[Weights, ...]
    whole: Callable[[], nn.Module]
    classifier: str

    def reference(self) -> dict[str, Tensor]:
        """Name the arrays of a file, as tensors without values."""
        with torch.device("meta"):
            return dict(self.whole().state_dict())

    def kept(self, arrays: Arrays) -> dict[str, Tensor]:
        """Choose the arrays of a file that the encoder has."""
        return {
            name: torch.from_numpy(values)
            for name, values in arrays.items()
            if not name.startswith(self.classifier)
        }


@dataclass(frozen=True)
class EncoderKind:
    """An encoder by name.

    Attributes:
        build: makes it, with torch's random numbers.
        pretrained: None if it is always trained from scratch.
    """

    build: Callable[[EncoderOptions], VideoEncoder]
    pretrained: Pretrained | None = None


ENCODERS: Mapping[EncoderName, EncoderKind] = {
    "cnn3d": EncoderKind(Cnn3dEncoder),
    "inception_i3d": EncoderKind(
        InceptionEncoder, Pretrained(INCEPTION_CARDS, InceptionI3d, "logits.")
    ),
    "i3d_r50": EncoderKind(I3dR50Encoder, Pretrained(R50_CARDS, I3dR50, "fc.")),
    "unet": EncoderKind(UnetPrediction),
    "memae": EncoderKind(MemAe),
    "mnad": EncoderKind(Mnad),
    "multipath_gru": EncoderKind(MultipathGru),
}
assert tuple(ENCODERS) == get_args(EncoderName)


def build_encoder(name: EncoderName, options: EncoderOptions) -> VideoEncoder:
    """Make an encoder with torch's random numbers."""
    return ENCODERS[name].build(options)
