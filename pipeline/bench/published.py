"""SSRL as public PyTorch code writes it, from the paper: what training is compared to.

Convolutions take (b, F, S) and (M, D, rows, columns), so that every module transposes. Every step
of a stage runs the branches of earlier stages too, whose weights are frozen (Sect. 4.2). Layers,
names and numbers are those of `detectors.ssrl`: a state of one fits the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...detectors.mil import TrainingStage
from ...detectors.relation import DILATIONS, NonLocal, RelationNetwork
from ...detectors.segments import FeatureLayout, SegmentBank
from ...detectors.ssrl import SSRL, Aggregation, SSRLNetwork


class PlainNonLocal(NonLocal):
    """Dot products over the length of the sequence, on (b, F, S) (reference of eq. 1 and 2)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, "scaled")
        half = width // 2
        self.theta = nn.Conv1d(width, half, 1)  # type: ignore[assignment]
        self.phi = nn.Conv1d(width, half, 1)  # type: ignore[assignment]
        self.g = nn.Conv1d(width, half, 1)  # type: ignore[assignment]
        self.out = nn.Sequential(nn.Conv1d(half, width, 1), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, F, S) -> (b, F, S)."""
        products = self.theta(x).permute(0, 2, 1) @ self.phi(x)
        y = (products / x.shape[-1]) @ self.g(x).permute(0, 2, 1)
        out: Tensor = self.out(y.permute(0, 2, 1).contiguous()) + x
        return out


class PlainRelation(RelationNetwork):
    """The relation network with the defaults of `RelationNetwork` (eq. 3 and 6)."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        quarter = width // 4
        self.dilated = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, quarter, 3, padding=d, dilation=d),
                nn.ReLU(),
                nn.BatchNorm1d(quarter),
            )
            for d in DILATIONS
        )
        self.reduce = nn.Sequential(nn.Conv1d(width, quarter, 1, bias=False), nn.ReLU())
        self.non_local = PlainNonLocal(quarter)
        self.fusion = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm1d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, S, F) -> (b, S, F)."""
        assert self.reduce is not None
        assert self.non_local is not None
        assert self.fusion is not None
        sequence = x.permute(0, 2, 1)
        parts = [branch(sequence) for branch in self.dilated]
        parts.append(self.non_local(self.reduce(sequence)))
        joined = self.fusion(torch.cat(parts, dim=1))
        out: Tensor = joined.permute(0, 2, 1) + x
        return out

    def attention_columns(self, x: Tensor) -> None:
        """Public code shows no attention."""


class PlainAggregation(Aggregation):
    """MPA of one scale on (M, D, rows, columns) (Sect. 3.3)."""

    def __init__(self, width: int, grid: tuple[int, int], dropout: float) -> None:
        super().__init__(width, grid, 1, dropout)
        like = self.conv[0]
        assert isinstance(like, nn.Conv2d)
        half = like.out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(width, half, 3, padding=int(like.padding[0])), nn.ReLU(), nn.BatchNorm2d(half)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(M, N, D) -> (M, D)."""
        maps = patches.permute(0, 2, 1).reshape(len(patches), -1, *self.grid)
        vector: Tensor = self.dropout(torch.relu(self.linear(self.conv(maps).flatten(1))))
        return vector


def as_published(network: SSRLNetwork) -> SSRLNetwork:
    """Replace the modules of a network by plain ones with the same weights.

    Args:
        network:
            A network with the defaults of `SSRLConfig`; it is changed.

    Returns:
        The same network.
    """
    width = network.classifier.fc1.in_features
    assert network.vtr is not None
    relation = PlainRelation(width)
    relation.load_state_dict(network.vtr.state_dict())
    network.vtr = relation
    for scale, module in network.mpa.items():
        assert isinstance(module, Aggregation)
        plain = PlainAggregation(width, module.grid, module.dropout.p)
        plain.load_state_dict(module.state_dict())
        network.mpa[scale] = plain
    for scale, module in network.psr.items():
        relation = PlainRelation(width)
        relation.load_state_dict(module.state_dict())
        network.psr[scale] = relation
    return network


class PublishedSSRL(SSRL):
    """`ssrl` with plain modules, which keeps no output of frozen branches."""

    def make_network(self, layout: FeatureLayout) -> SSRLNetwork:
        """See `SSRL.make_network`."""
        return as_published(super().make_network(layout))

    def begin_stage(
        self, network: SSRLNetwork, stages: Sequence[TrainingStage], at: int
    ) -> list[nn.Parameter]:
        """See `SSRL.begin_stage`; every branch that has joined stays active."""
        learning = super().begin_stage(network, stages, at)
        self._active = [scale for stage in stages[: at + 1] for scale in stage.scales]
        return learning

    def make_optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Adam as torch makes it without being asked for more."""
        return torch.optim.Adam(parameters, lr=lr, weight_decay=self.config.weight_decay)

    def end_stage(
        self, network: SSRLNetwork, stages: Sequence[TrainingStage], at: int, bank: SegmentBank
    ) -> None:
        """Keep nothing."""
