"""MIL ranking of Sultani et al. 2018.

The highest score of the segments of an abnormal video should rank above that of a normal video.

Source: Sultani, Chen, Shah, "Real-world anomaly detection in surveillance videos", CVPR 2018,
eq. 6 and 7, Sect. 4; see docs/papers/mil_ranking.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from .base import Config
from .losses import ranking_hinge, smoothness, sparsity
from .mil import MILConfig, MILDetector, OptimizerName, Terms
from .precision import widened
from .segments import FeatureLayout, Resampling, l2_normalised


class MILRankingConfig(MILConfig):
    """Settings of `mil_ranking`."""

    batch_size: int = Field(default=30, ge=1, description="Sect. 4: 30 positive, 30 negative bags")
    lr: float = Field(default=1e-3, gt=0, description="learning rate (Sect. 4)")
    weight_decay: float = Field(
        default=2 * 0.001 / 30,
        ge=0,
        description="factor of the weights in their gradient: l2(0.001) on a sum over 30 videos, "
        "authors' code",
    )
    optimizer: OptimizerName = Field(
        default="adagrad", description="adagrad: Sect. 4; adam: that of the other detectors"
    )
    dropout: float = Field(default=0.6, ge=0, lt=1, description="share of units (Sect. 4)")
    sparsity_weight: float = Field(default=8e-5, ge=0, description="lambda_2, Sect. 4")
    smooth_weight: float = Field(default=8e-5, ge=0, description="lambda_1, Sect. 4")
    normalise: bool = Field(
        default=True, description="L2-normalise segments after pooling, and snippets (Sect. 4)"
    )
    resampling: Literal["rtfm", "sultani"] = Field(
        default="sultani", description="how snippets fall into segments"
    )


class RankingNetwork(nn.Module):
    """Layers of 512 (ReLU), 32 (linear) and 1 (sigmoid), with dropout between them (Sect. 4)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 512)
        self.fc2 = nn.Linear(512, 32)
        self.fc3 = nn.Linear(32, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(M, T, C, D) -> scores (M, T), the mean over crops."""
        x = self.dropout(torch.relu(self.fc1(x)))
        x = self.dropout(self.fc2(x))
        scores: Tensor = torch.sigmoid(widened(self.fc3(x))[..., 0]).mean(dim=2)
        return scores


class MILRanking(MILDetector[MILRankingConfig, RankingNetwork]):
    """Ranking hinge loss with sparsity and smoothness."""

    name: ClassVar[str] = "mil_ranking"
    version: ClassVar[int] = 2
    loads: ClassVar[tuple[int, ...]] = (1,)
    Config: ClassVar[type[Config]] = MILRankingConfig

    def __init__(self, config: MILRankingConfig) -> None:
        super().__init__(config)
        self.resampling: Resampling = config.resampling

    @property
    def needs(self) -> tuple[str, ...]:
        """Full-frame features of every snippet."""
        return ("snippet",)

    def prepare_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Divide each pooled row by its L2 norm, as the authors' feature files do."""
        rows = super().prepare_rows(rows)
        return l2_normalised(rows) if self.config.normalise else np.asarray(rows, np.float32)

    def make_network(self, layout: FeatureLayout) -> RankingNetwork:
        """Make the network with Glorot-normal weights and zero biases, as the authors' code."""
        network = RankingNetwork(layout.width, self.config.dropout)
        for layer in (network.fc1, network.fc2, network.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        return network

    def make_optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Make Adagrad, or Adam if the config says so; biases do not decay (authors' code).

        The authors' loss is 30 times this one (sums over 30 abnormal videos, here means), with
        0.001 |W|^2 added. Divided by 30, the penalty has the gradient 2 x 0.001 / 30 W.
        """
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        kind = torch.optim.Adam if self.config.optimizer == "adam" else torch.optim.Adagrad
        return kind(groups, lr=lr, weight_decay=self.config.weight_decay)

    def forward(self, network: RankingNetwork, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute scores (2 B, T)."""
        scores: Tensor = network(batch["snippet"])
        return scores

    def losses(self, network: RankingNetwork, outputs: Tensor) -> Terms:
        """Compute eq. 7: mean hinge over all pairs, and regularisers of the abnormal half."""
        normal, abnormal = outputs.chunk(2)
        terms = {
            "ranking": ranking_hinge(normal.amax(dim=1), abnormal.amax(dim=1)),
            "sparsity": self.config.sparsity_weight * sparsity(abnormal, "l1"),
            "smoothness": self.config.smooth_weight * smoothness(abnormal, across=False),
        }
        return {"total": torch.stack(list(terms.values())).sum(), **terms}

    def score_rows(
        self, network: RankingNetwork, features: Mapping[str, Tensor], lengths: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Score every snippet by itself, (n, C, D) -> (n,)."""
        return {"score": network(features["snippet"][None])[0]}, {}
