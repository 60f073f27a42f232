"""The relation network: dilated convolutions and a non-local block over a sequence.

Source: SSRL Fig. 4 and eq. 1 to 6. Over the patches of a snippet it is the patch spatial relation
(PSR); over the snippets of a video it is the video temporal relation (VTR).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .sequence import SequenceConv, SequenceNorm

Attention = Literal["scaled", "softmax"]

DILATIONS = (1, 2, 4)  # Sect. 3.2


class NonLocal(nn.Module):
    """Self-attention with a residual (eq. 1 and 2).

    Args:
        width:
            Channels.
        attention:
            "scaled" divides the dot products by the length of the sequence (reference code);
            "softmax" normalises every row (eq. 1).
    """

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.theta = SequenceConv(width, width // 2)
        self.phi = SequenceConv(width, width // 2)
        self.g = SequenceConv(width, width // 2)
        self.out = nn.Sequential(SequenceConv(width // 2, width), SequenceNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, S, F) -> (b, S, F)."""
        theta, phi, g = self.theta(x), self.phi(x), self.g(x)  # (b, S, F/2)
        length = x.shape[1]
        if self.attention == "softmax":
            y = nn.functional.scaled_dot_product_attention(theta, phi, g, scale=1.0)
        elif length <= theta.shape[-1]:
            y = (theta @ phi.mT) @ g / length
        else:  # the same product, associated so that the cost is linear in S
            y = theta @ (phi.mT @ g) / length
        out: Tensor = self.out(y) + x
        return out

    def weights(self, x: Tensor) -> Tensor:
        """The attention map M for display, (b, S, S): rows sum to 1 (Sect. 4.5).

        With "scaled", the network uses products that do not sum to 1. For display their rows go
        through a softmax.
        """
        products = self.theta(x) @ self.phi(x).mT
        scale = 1.0 if self.attention == "softmax" else 1.0 / x.shape[1]
        return torch.softmax(products * scale, dim=-1)


class RelationNetwork(nn.Module):
    """Relate the rows of a sequence; the shape stays the same (eq. 3 and 6).

    Args:
        width:
            F, divisible by 8.
        attention:
            See `NonLocal`.
        fusion:
            True adds a convolution after the concatenation (reference code; not in eq. 3).
        dilated:
            False leaves the dilated convolutions out (Table 5).
        non_local:
            False leaves the non-local network out (Table 5).

    Without fusion, the channels of a part that is left out are zero, so that only the residual
    remains there.
    """

    def __init__(
        self,
        width: int,
        *,
        attention: Attention = "scaled",
        fusion: bool = True,
        dilated: bool = True,
        non_local: bool = True,
    ) -> None:
        super().__init__()
        quarter = width // 4
        self.width = width
        self.dilated = nn.ModuleList(
            nn.Sequential(
                SequenceConv(width, quarter, 3, dilation=d),
                nn.ReLU(),
                SequenceNorm(quarter),
            )
            for d in (DILATIONS if dilated else ())
        )
        self.reduce = self.non_local = self.fusion = None
        if non_local:
            self.reduce = nn.Sequential(SequenceConv(width, quarter, bias=False), nn.ReLU())
            self.non_local = NonLocal(quarter, attention)
        if fusion:
            channels = quarter * (len(self.dilated) + int(non_local))
            self.fusion = nn.Sequential(
                SequenceConv(channels, width, 3, bias=False),
                nn.ReLU(),
                SequenceNorm(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(b, S, F) -> (b, S, F)."""
        parts = [branch(x) for branch in self.dilated]
        if self.reduce is not None and self.non_local is not None:
            parts.append(self.non_local(self.reduce(x)))
        elif self.fusion is None:
            parts.append(x.new_zeros(*x.shape[:2], self.width // 4))
        if not self.dilated and self.fusion is None:
            parts.insert(0, x.new_zeros(*x.shape[:2], 3 * self.width // 4))
        joined = torch.cat(parts, dim=-1)
        if self.fusion is not None:
            joined = self.fusion(joined)
        return joined + x

    def attention_columns(self, x: Tensor) -> Tensor | None:
        """Column sums of the attention map, (b, S, F) -> (b, S); they sum to S (Sect. 4.5).

        Returns None without a non-local network.
        """
        if self.reduce is None or self.non_local is None:
            return None
        return self.non_local.weights(self.reduce(x)).sum(dim=1)


def initialise(module: nn.Module) -> None:
    """Set Xavier-uniform weights and zero biases in every convolution and linear layer.

    The batch norm of every non-local block starts at zero, so that the block starts as the
    identity.

    Source: reference code of RTFM and SSRL.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, NonLocal):
            norm = part.out[1]
            assert isinstance(norm, nn.BatchNorm1d)
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
