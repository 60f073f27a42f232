"""RAFT, "Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV 2020): torchvision's form."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..weights.cards import Arrays, LayoutError, UrlSource, Weights

Variant = Literal["raft", "raft_small"]
SMALLEST, MULTIPLE = 128, 8  # of height and width, in pixels


class Raft(nn.Module):
    """The flow from the first frame of a clip to the second one."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large, raft_small

        build = raft_large if variant == "raft" else raft_small
        self.raft: nn.Module = build(weights=None, progress=False)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, 2, H, W) in [-1, 1] -> (B, 2, H, W) float32: pixels to the right, and down."""
        first, second = clips.unbind(2)
        steps = self.raft(first.contiguous(), second.contiguous())
        last: Tensor = steps[-1]
        return last.float()


@lru_cache
def flops(variant: Variant, height: int, width: int) -> float:
    """Count multiply-adds times two of one pair of frames, on the meta device."""
    with torch.device("meta"):
        network = Raft(variant).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, 2, height, width))
    return float(counter.get_total_flops())


def from_torchvision(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take torchvision's state dict.

    Raises:
        LayoutError: the file is not that of RAFT.
    """
    name = "update_block.flow_head.conv1.weight"
    if name not in arrays:
        raise LayoutError(f"it has no {name!r}")
    return {f"raft.{key}": values for key, values in arrays.items()}


def _card(variant: Variant, file: str, data: str) -> Weights:
    return Weights(
        name=f"{variant}.torchvision",
        file=file,
        sha256=None,
        sources=(UrlSource(f"https://download.pytorch.org/models/{file}"),),
        layout="torchvision (state dict)",
        licence="BSD-3-Clause by torchvision; its training data allow research only",
        origin=f"torchvision's RAFT, trained on {data}",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        convert=from_torchvision,
    )


CARDS: dict[Variant, tuple[Weights, ...]] = {
    "raft": (
        _card(
            "raft",
            "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
            "FlyingChairs, FlyingThings3D, Sintel, KITTI and HD1K (C_T_SKHT_V2)",
        ),
    ),
    "raft_small": (
        _card(
            "raft_small", "raft_small_C_T_V2-01064c6d.pth", "FlyingChairs, FlyingThings3D (C_T_V2)"
        ),
    ),
}
