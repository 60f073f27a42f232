"""RTFM: robust temporal feature magnitude learning on full-frame features (Tian et al. 2021).

It is the baseline of SSRL, and its first stage. Layers, losses and defaults are those of the
reference code; see docs/papers/ssrl.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .base import Config
from .kept_weights import KeptLinear
from .losses import (
    MagnitudeForm,
    SparsityForm,
    bag_cross_entropy,
    feature_magnitude,
    smoothness,
    sparsity,
)
from .mil import MILConfig, MILDetector, Terms
from .precision import widened
from .relation import Attention, RelationNetwork, initialise
from .segments import FeatureLayout

ROWS_AT_ONCE = 8192  # crops x snippets that go through the network together


class RTFMConfig(MILConfig):
    """Settings of `rtfm`."""

    top_k: int = Field(
        default=3,
        ge=1,
        description="k snippets; where it is not given floor(segments / 10) (SSRL Sect. 4.2)",
    )
    dropout: float = Field(default=0.7, ge=0, lt=1, description="share of units (reference code)")
    margin: float = Field(default=100.0, gt=0, description="epsilon, SSRL Sect. 4.2 and eq. 8")
    magnitude_weight: float = Field(default=1e-4, ge=0, description="lambda_fm, SSRL Sect. 4.2")
    sparsity_weight: float = Field(default=8e-3, ge=0, description="lambda_1, SSRL Sect. 4.2")
    smooth_weight: float = Field(default=8e-4, ge=0, description="lambda_2, SSRL Sect. 4.2")
    magnitude_loss: MagnitudeForm = Field(
        default="squared", description="squared: reference code; hinge: SSRL eq. 8"
    )
    sparsity: SparsityForm = Field(
        default="l2", description="l2 over the batch: reference code; l1: SSRL eq. 10"
    )
    smooth_across_videos: bool = Field(
        default=True, description="steps from video to video count too (reference code)"
    )
    attention: Attention = Field(
        default="scaled", description="scaled: reference code; softmax: SSRL eq. 1"
    )
    fusion_conv: bool = Field(
        default=True, description="convolution after the concatenation: reference code, not eq. 3"
    )
    vtr: bool = Field(default=True, description="video temporal relation (SSRL Table 4)")

    @model_validator(mode="before")
    @classmethod
    def _top_k_follows(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "top_k" not in values:
            segments = values.get("segments")
            if isinstance(segments, int):  # anything else is answered by its own field
                return {**values, "top_k": max(1, segments // 10)}
        return values


@dataclass(frozen=True)
class Bags:
    """The output of the network for a batch of M videos.

    Attributes:
        scores: (M, T), mean over crops.
        magnitudes: (M, T), L2 norm of the features, mean over crops.
        features: (M, C, T, D), after VTR and dropout.
        logits: (M, C, T), before the sigmoid.
    """

    scores: Tensor
    magnitudes: Tensor
    features: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Selected:
    """The k snippets of largest magnitude in each of B bags.

    Attributes:
        index: (B, k), positions of the snippets.
        score: (B,), mean of their scores.
        features: (C B, k, D), crop by crop.
    """

    index: Tensor
    score: Tensor
    features: Tensor


class Classifier(nn.Module):
    """Three linear layers of 512, 128 and 1 (SSRL Sect. 4.2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = KeptLinear(width, 512)
        self.fc2 = KeptLinear(512, 128)
        self.fc3 = KeptLinear(128, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> logits (...)."""
        x = self.dropout(torch.relu(self.fc1(x)))
        x = self.dropout(torch.relu(self.fc2(x)))
        logits: Tensor = self.fc3(x)[..., 0]
        return logits


class RTFMNetwork(nn.Module):
    """VTR over time, then a classifier of every snippet."""

    def __init__(self, width: int, config: RTFMConfig) -> None:
        super().__init__()
        self.vtr = None
        if config.vtr:
            self.vtr = RelationNetwork(width, attention=config.attention, fusion=config.fusion_conv)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifier(width, config.dropout)

    def relate(self, sequences: Tensor) -> Tensor:
        """VTR and dropout: (b, T, D) -> (b, T, D)."""
        if self.vtr is not None:
            sequences = self.vtr(sequences)
        dropped: Tensor = self.dropout(sequences)
        return dropped

    def forward(self, x: Tensor) -> Bags:
        """(M, T, C, D) -> scores and features of every snippet."""
        videos, length, crops, width = x.shape
        features = self.relate(x.transpose(1, 2).reshape(videos * crops, length, width))
        logits = self.classifier(features).view(videos, crops, length)
        features = features.view(videos, crops, length, width)
        magnitudes = torch.linalg.vector_norm(widened(features), dim=-1).mean(dim=1)
        scores = torch.sigmoid(widened(logits)).mean(dim=1)
        return Bags(scores, magnitudes, features, logits)

    def select(self, bags: Bags, rows: slice, k: int) -> Selected:
        """Select the k snippets of largest magnitude in some bags of a batch.

        In training, a dropout mask over the magnitudes varies the choice (reference code).
        """
        magnitudes = bags.magnitudes[rows]
        mask = self.dropout(torch.ones_like(magnitudes))
        index = (magnitudes * mask).topk(min(k, magnitudes.shape[1]), dim=1).indices
        features = bags.features[rows]  # (B, C, T, D)
        places = index[:, None, :, None].expand(-1, features.shape[1], -1, features.shape[3])
        chosen = features.gather(2, places).transpose(0, 1)  # (C, B, k, D)
        return Selected(index, bags.scores[rows].gather(1, index).mean(dim=1), chosen.flatten(0, 1))


def magnitude_losses(network: RTFMNetwork, bags: Bags, config: RTFMConfig) -> Terms:
    """Compute all weighted terms of a batch and their sum; the first half of the bags is normal.

    Source: reference code of RTFM and SSRL; the config can choose SSRL eq. 7 to 10.
    """
    half = len(bags.scores) // 2
    normal = network.select(bags, slice(0, half), config.top_k)
    abnormal = network.select(bags, slice(half, None), config.top_k)
    scores = bags.scores[half:]
    terms = {
        "classification": bag_cross_entropy(normal.score, abnormal.score),
        "magnitude": config.magnitude_weight
        * feature_magnitude(
            normal.features, abnormal.features, config.margin, config.magnitude_loss
        ),
        "sparsity": config.sparsity_weight * sparsity(scores, config.sparsity),
        "smoothness": config.smooth_weight * smoothness(scores, across=config.smooth_across_videos),
    }
    return {"total": torch.stack(list(terms.values())).sum(), **terms}


SNIPPET_COLUMNS = ("score", "magnitude")


def score_snippets(network: RTFMNetwork, x: Tensor, lengths: Sequence[int]) -> dict[str, Tensor]:
    """Compute score and magnitude of every snippet, (n, C, D) -> name -> (n,).

    Videos of one length go through the network together; padding would be seen by convolutions over
    time. Crops of a long video go through it one by one, to bound memory.

    Args:
        network:
            In evaluation mode.
        x:
            Features of one or several videos, one after the other.
        lengths:
            Snippets of each video.
    """
    videos = torch.split(x, list(lengths))
    places = defaultdict(list)
    for place, length in enumerate(lengths):
        places[length].append(place)
    found: dict[str, list[Tensor]] = {name: [x] * len(videos) for name in SNIPPET_COLUMNS}
    for alike in places.values():
        one = len(alike) == 1
        columns = _score_alike(
            network, videos[alike[0]][None] if one else torch.stack([videos[i] for i in alike])
        )
        for name, values in columns.items():
            for place, column in zip(alike, values, strict=True):
                found[name][place] = column
    return {name: torch.cat(columns) for name, columns in found.items()}


def _score_alike(network: RTFMNetwork, videos: Tensor) -> dict[str, Tensor]:
    """Videos of one length, (M, n, C, D) -> name -> (M, n)."""
    count, length, crops, _ = videos.shape
    together = crops if count * crops * length <= ROWS_AT_ONCE else 1
    parts = [network(videos[:, :, c : c + together]) for c in range(0, crops, together)]
    return {
        "score": torch.stack([part.scores for part in parts]).mean(dim=0),
        "magnitude": torch.stack([part.magnitudes for part in parts]).mean(dim=0),
    }


class RTFM(MILDetector[RTFMConfig, RTFMNetwork]):
    """Relates snippets over time, and trains on the magnitudes of full-frame features."""

    name: ClassVar[str] = "rtfm"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = RTFMConfig

    @property
    def needs(self) -> tuple[str, ...]:
        """Full-frame features of every snippet."""
        return ("snippet",)

    def make_network(self, layout: FeatureLayout) -> RTFMNetwork:
        """See `MILDetector.make_network`."""
        network = RTFMNetwork(layout.width, self.config)
        initialise(network)
        return network

    def forward(self, network: RTFMNetwork, batch: Mapping[str, Tensor]) -> Bags:
        """See `RTFMNetwork.forward`."""
        bags: Bags = network(batch["snippet"])
        return bags

    def losses(self, network: RTFMNetwork, outputs: Bags) -> Terms:
        """See `magnitude_losses`."""
        return magnitude_losses(network, outputs, self.config)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the magnitude of the features."""
        return SNIPPET_COLUMNS

    def score_rows(
        self, network: RTFMNetwork, features: Mapping[str, Tensor], lengths: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `score_snippets`."""
        return score_snippets(network, features["snippet"], lengths), {}
