"""SSRL: scale-aware spatio-temporal relation learning (Li et al., ECCV 2022).

Patches of every scale are related to each other (PSR) and aggregated to one vector a snippet (MPA).
These vectors are added to the full-frame feature, which RTFM's network scores. Layers, losses and
defaults are those of the reference code; see docs/papers/ssrl.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from .base import Config, DetectorError, grid_of
from .grid_layers import GridConv, GridNorm
from .kept_weights import KeptLinear
from .mil import MILDetector, Terms, TrainingStage
from .relation import RelationNetwork, initialise
from .rtfm import SNIPPET_COLUMNS, Bags, RTFMConfig, RTFMNetwork, magnitude_losses, score_snippets
from .segments import FeatureLayout, SegmentBank

FULL_FRAME = "full"  # name of the branch of the full frame, with full_frame="psr"
SNIPPETS_AT_ONCE = 256  # snippets whose patches go through a branch together
VIDEOS_AT_ONCE = 8  # videos whose kept features are updated together


class StageConfig(Config):
    """One stage of step-by-step training (Sect. 4.2)."""

    scales: tuple[str, ...] = Field(default=(), description="branches that join, as ROWSxCOLUMNS")
    steps: int | None = Field(default=None, ge=1, description="None: `steps` of the detector")
    lr: float | None = Field(default=None, gt=0, description="None: `lr` of the detector")


class SSRLConfig(RTFMConfig):
    """Settings of `ssrl`."""

    scales: tuple[str, ...] | None = Field(
        default=None,
        description="patch grids as ROWSxCOLUMNS (Table 3); None: all; []: full frame only",
    )
    stages: tuple[StageConfig, ...] | None = Field(
        default=None,
        description="None: the full frame, then one scale a stage, coarse to fine (Sect. 4.2)",
    )
    freeze: bool = Field(
        default=True,
        description="a stage freezes what earlier stages have learned (reference code)",
    )
    psr: bool = Field(default=True, description="patch spatial relation (Table 4)")
    psr_dilated: bool = Field(default=True, description="its dilated convolutions (Table 5)")
    psr_non_local: bool = Field(default=True, description="its non-local network (Table 5)")
    share_psr: bool = Field(default=False, description="one PSR for all scales (Table 6)")
    mpa: bool = Field(
        default=True, description="multi-scale patch aggregation; False: mean over the patches"
    )
    branch_gain: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="factor of the last weights of a scale's branch at its start; 1: reference "
        "code. A branch of full size is too much for a network that is frozen",
    )
    mpa_stride: Literal[1, 2] = Field(
        default=1,
        description="1: reference code; 2: Sect. 4.2 (its parameters don't match Table 6)",
    )
    full_frame: Literal["raw", "psr"] = Field(
        default="raw",
        description="raw: the full-frame feature as it is (reference code); psr: PSR and MPA of a "
        "1x1 grid (eq. 3 with r = 1)",
    )

    @field_validator("scales")
    @classmethod
    def _scales(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for scale in value or ():
            grid_of(scale)
        if value is not None and len(set(value)) < len(value):
            raise ValueError(f"scales {value} repeat one: name each scale once")
        return value

    @model_validator(mode="after")
    def _stages_name_scales(self) -> SSRLConfig:
        named = [scale for stage in self.stages or () for scale in stage.scales]
        if len(set(named)) < len(named):
            raise ValueError("stages repeat a scale: name each scale in one stage only")
        if self.stages is not None and self.scales is not None and set(named) != set(self.scales):
            raise ValueError(f"stages have scales {named}, but scales is {list(self.scales)}")
        if not self.mpa and self.branch_gain != type(self).model_fields["branch_gain"].default:
            raise ValueError("branch_gain scales a layer of mpa: leave it out with mpa = false")
        if self.share_psr and self.psr and self.full_frame == "psr" and self.freeze:
            raise ValueError(
                "with share_psr, full_frame psr and freeze, the shared PSR is frozen before it "
                "sees a patch: set freeze to false, or full_frame to raw"
            )
        return self


class Aggregation(nn.Module):
    """MPA of one scale: aggregates the grid of patches to one vector (Sect. 3.3).

    Args:
        width:
            D.
        grid:
            (rows, columns).
        stride:
            Stride of the convolution.
        dropout:
            Dropout after the linear layer; the reference code has it at the finest scale only.

    The layers are a 3x3 convolution to D / 2 channels, ReLU, batch norm, a linear layer and ReLU.
    The convolution is padded with stride 2, and with stride 1 if a side of the grid is below 3.
    """

    def __init__(self, width: int, grid: tuple[int, int], stride: int, dropout: float) -> None:
        super().__init__()
        self.grid = grid
        padding = 1 if stride == 2 or min(grid) < 3 else 0
        rows, columns = ((side + 2 * padding - 3) // stride + 1 for side in grid)
        self.conv = nn.Sequential(
            GridConv(width, width // 2, stride=stride, padding=padding),
            nn.ReLU(),
            GridNorm(width // 2),
        )
        self.linear = KeptLinear(width // 2 * rows * columns, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """(M, N, D), patches row by row -> (M, D)."""
        maps = self.conv(patches.reshape(len(patches), *self.grid, -1))
        maps = maps.permute(0, 3, 1, 2).flatten(1)  # as the linear layer of a model has them
        vector: Tensor = self.dropout(torch.relu(self.linear(maps)))
        return vector


class MeanAggregation(nn.Module):
    """The mean over the patches, for the network without MPA."""

    def forward(self, patches: Tensor) -> Tensor:
        """(M, N, D) -> (M, D)."""
        return patches.mean(dim=1)


class SSRLNetwork(RTFMNetwork):
    """RTFM's network after one branch (PSR and MPA) for each scale.

    Args:
        width:
            D.
        scales:
            Grids, coarse to fine.
        config:
            Settings of the detector.
    """

    def __init__(self, width: int, scales: Sequence[str], config: SSRLConfig) -> None:
        super().__init__(width, config)
        grids = {scale: grid_of(scale) for scale in scales}
        finest = max(scales, key=_patches, default=None)
        if config.full_frame == "psr":
            grids = {FULL_FRAME: (1, 1), **grids}
        self.mpa = nn.ModuleDict(
            {
                scale: Aggregation(
                    width, grid, config.mpa_stride, config.dropout if scale == finest else 0.0
                )
                if config.mpa
                else MeanAggregation()
                for scale, grid in grids.items()
            }
        )
        self.psr = nn.ModuleDict(
            {
                name: RelationNetwork(
                    width,
                    attention=config.attention,
                    fusion=config.fusion_conv,
                    dilated=config.psr_dilated,
                    non_local=config.psr_non_local,
                )
                for name in (() if not config.psr else ("shared",) if config.share_psr else grids)
            }
        )

    def relation(self, scale: str) -> RelationNetwork | None:
        """Return the PSR of a scale; None without PSR."""
        if not len(self.psr):
            return None
        found = self.psr["shared" if "shared" in self.psr else scale]
        assert isinstance(found, RelationNetwork)
        return found

    def branch(self, scale: str, patches: Tensor) -> Tensor:
        """PSR and MPA of one scale: (M, N, D) -> (M, D)."""
        relation = self.relation(scale)
        vector: Tensor = self.mpa[scale](patches if relation is None else relation(patches))
        return vector

    def add(self, scale: str, x: Tensor, patches: Tensor | None) -> Tensor:
        """Add the branch of a scale to the features; the full frame's branch replaces them.

        Args:
            scale:
                The scale of the patches, or `FULL_FRAME`.
            x:
                Features, (M, T, C, D).
            patches:
                (M, T, N, D); None for the full frame.
        """
        if patches is None:
            return self.branch(scale, x.reshape(-1, 1, x.shape[-1])).view(x.shape)
        vector = self.branch(scale, patches.flatten(0, 1))
        return x + vector.view(*x.shape[:2], 1, -1)

    def parts(self, scale: str) -> list[nn.Module]:
        """Return the modules that learn when a scale joins."""
        relation = self.relation(scale)
        return [self.mpa[scale], *([] if relation is None else [relation])]


class SSRL(MILDetector[SSRLConfig, SSRLNetwork]):
    """Relates patches within a snippet, and snippets over time."""

    name: ClassVar[str] = "ssrl"
    version: ClassVar[int] = 2
    loads: ClassVar[tuple[int, ...]] = (1,)
    Config: ClassVar[type[Config]] = SSRLConfig

    jump_advice: ClassVar[str] = "lower branch_gain, the learning rate, or both"

    def __init__(self, config: SSRLConfig) -> None:
        super().__init__(config)
        self._active: list[str] = []  # branches that a batch goes through in the current stage

    @property
    def needs(self) -> tuple[str, ...]:
        """Full-frame features, and the patches of the scales."""
        scales = self.config.scales
        if scales is None:
            return ("snippet", "patch")
        return ("snippet", *(_role(scale) for scale in scales))

    def scales(self, layout: FeatureLayout) -> tuple[str, ...]:
        """Return the scales that are used, coarse to fine.

        Raises:
            DetectorError: features of a scale are missing, or their grid differs from their name.
        """
        there = {role.partition("/")[2]: grid for role, grid in layout.grids.items()}
        for scale, grid in there.items():
            count = layout.positions[_role(scale)]
            if f"{grid[0]}x{grid[1]}" != scale or count != grid[0] * grid[1]:
                raise DetectorError(
                    f"features {_role(scale)!r} have {count} patches in a grid of {grid[0]} x "
                    f"{grid[1]}: the role must be patch/ROWSxCOLUMNS of its grid"
                )
        wanted = tuple(there) if self.config.scales is None else self.config.scales
        missing = [scale for scale in wanted if scale not in there]
        if missing:
            raise DetectorError(
                f"there are no features of scales {', '.join(missing)}; there are: "
                f"{', '.join(there) or 'none'}"
            )
        return tuple(sorted(wanted, key=_patches))

    def stages(self, layout: FeatureLayout) -> list[TrainingStage]:
        """Plan the stages: the full frame first, then one scale after the other (Sect. 4.2)."""
        scales = self.scales(layout)
        plan = self.config.stages
        if plan is None:
            plan = (StageConfig(), *(StageConfig(scales=(scale,)) for scale in scales))
        named = [scale for stage in plan for scale in stage.scales]
        if set(named) != set(scales):
            raise DetectorError(f"stages have scales {named}, the features have {list(scales)}")
        steps, lr = self.config.steps, self.config.lr
        return [
            TrainingStage(
                f"{number} {'+'.join(stage.scales) or 'full frame'}",
                stage.steps or steps,
                stage.lr or lr,
                stage.scales,
            )
            for number, stage in enumerate(plan, start=1)
        ]

    def make_network(self, layout: FeatureLayout) -> SSRLNetwork:
        """Make the network; the branches of the scales start at `branch_gain` of their size.

        They join a network that is frozen, batch norm statistics included. Branches that change
        its features by more than the features themselves take it out of the range that it knows.
        """
        network = SSRLNetwork(layout.width, self.scales(layout), self.config)
        initialise(network)
        with torch.no_grad():
            for scale, part in network.mpa.items():
                if isinstance(part, Aggregation) and scale != FULL_FRAME:
                    part.linear.weight.mul_(self.config.branch_gain)
        return network

    def begin_stage(
        self, network: SSRLNetwork, stages: Sequence[TrainingStage], at: int
    ) -> list[nn.Parameter]:
        """Freeze what earlier stages have learned, batch norm statistics included.

        The classifier's dropout stays active, as in the reference code.
        """
        joined = [scale for stage in stages[: at + 1] for scale in stage.scales]
        if self.config.full_frame == "psr":
            joined.insert(0, FULL_FRAME)
        self._active = [s for s in joined if not self._kept(s, stages, at)]
        learning = [part for scale in self._active for part in network.parts(scale)]
        if at == 0 or not self.config.freeze:
            learning += [network.classifier, *([] if network.vtr is None else [network.vtr])]
        elif self.config.share_psr and any(stage.scales for stage in stages[:at]):
            learning = [part for part in learning if not isinstance(part, RelationNetwork)]
        network.eval()
        network.requires_grad_(False)
        network.classifier.train()
        network.dropout.train()
        for part in learning:
            part.train()
            part.requires_grad_(True)
        return [p for p in network.parameters() if p.requires_grad]

    def _kept(self, scale: str, stages: Sequence[TrainingStage], at: int) -> bool:
        """Tell whether an earlier stage trained a branch, so that the bank has its output."""
        if not self.config.freeze:
            return False
        if scale == FULL_FRAME:
            return at > 0
        return any(scale in stage.scales for stage in stages[:at])

    def roles(self, layout: FeatureLayout, stage: TrainingStage) -> list[str]:
        """Name the full frame, with the frozen branches added to it, and the active scales."""
        return ["snippet", *(_role(s) for s in self._active if s != FULL_FRAME)]

    def forward(self, network: SSRLNetwork, batch: Mapping[str, Tensor]) -> Bags:
        """Add the active branches to the kept features; see `RTFMNetwork.forward`."""
        bags: Bags = network(self._sum(network, self._active, batch["snippet"], batch))
        return bags

    def losses(self, network: SSRLNetwork, outputs: Bags) -> Terms:
        """See `magnitude_losses`."""
        return magnitude_losses(network, outputs, self.config)

    @staticmethod
    def _sum(
        network: SSRLNetwork, scales: Sequence[str], x: Tensor, patches: Mapping[str, Tensor]
    ) -> Tensor:
        for scale in scales:
            x = network.add(scale, x, None if scale == FULL_FRAME else patches[_role(scale)])
        return x

    def end_stage(
        self, network: SSRLNetwork, stages: Sequence[TrainingStage], at: int, bank: SegmentBank
    ) -> None:
        """Add the output of branches that are frozen from now on to the features in the bank."""
        if not self.config.freeze or at + 1 == len(stages):
            return
        scales = list(stages[at].scales)
        if at == 0 and self.config.full_frame == "psr":
            scales.insert(0, FULL_FRAME)
        if not scales:
            return
        network.eval()
        kept = bank.arrays["snippet"]
        roles = ["snippet", *(_role(s) for s in scales if s != FULL_FRAME)]
        with torch.no_grad():
            for start in range(0, len(kept), VIDEOS_AT_ONCE):
                videos = np.arange(start, min(start + VIDEOS_AT_ONCE, len(kept)))
                batch = bank.gather(roles, videos)
                kept[start : start + len(videos)] = self._sum(
                    network, scales, batch["snippet"], batch
                ).to(kept.device)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the magnitude of the features."""
        return SNIPPET_COLUMNS

    @property
    def maps(self) -> tuple[str, ...]:
        """The attention of each scale, where the relation module has one."""
        scales = () if self.network is None else self.network.mpa
        return tuple(f"attention/{scale}" for scale in scales if scale != FULL_FRAME)

    def score_rows(
        self, network: SSRLNetwork, features: Mapping[str, Tensor], lengths: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Score videos; for each scale, map the column sums of the attention over the frame.

        Map "attention/2x3" is (n, 2, 3); each row sums to the number of patches (Sect. 4.5).
        """
        x = features["snippet"]
        maps: dict[str, Tensor] = {}
        for scale in network.mpa:
            whole = scale == FULL_FRAME
            source = x if whole else features[_role(scale)]
            blocks = range(0, len(x), SNIPPETS_AT_ONCE)
            x = torch.cat(
                [
                    network.add(
                        scale,
                        x[None, at : at + SNIPPETS_AT_ONCE],
                        None if whole else source[None, at : at + SNIPPETS_AT_ONCE],
                    )[0]
                    for at in blocks
                ]
            )
            relation = network.relation(scale)
            if relation is None or whole:
                continue
            columns = [
                relation.attention_columns(source[at : at + SNIPPETS_AT_ONCE]) for at in blocks
            ]
            if columns[0] is not None:
                joined = torch.cat([c for c in columns if c is not None])
                maps[f"attention/{scale}"] = joined.view(-1, *grid_of(scale))
        return score_snippets(network, x, lengths), maps


def _role(scale: str) -> str:
    return f"patch/{scale}"


def _patches(scale: str) -> int:
    rows, columns = grid_of(scale)
    return rows * columns
