"""Losses of the three tasks of MSMG (Zhang et al., CVPR 2024, eqs. 1-8).

1: is a frame missing ("continuity judgment")? 2: where ("discontinuity localisation")? 3: the
embedding of the clip is near that of the missing frame ("missing frame estimation").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_EXPONENT = 60.0  # of what is only watched: fp32 holds e to the power of 88


@dataclass(frozen=True)
class Estimation:
    """Task 3 on a batch.

    Attributes:
        loss: () L3, eq. 7.
        triplet: () mean of the hinge of eq. 4.
        contrastive: () mean of the logarithm of eq. 6, without its sign.
        p_plus: () mean cosine of a clip and its missing frame (eq. 4).
        p_minus: () mean cosine of a clip and another clip of its video (eq. 4).
        q_plus: () mean of eq. 5, exp(cosine / tau); an exponent above 60 counts as 60.
    """

    loss: Tensor
    triplet: Tensor
    contrastive: Tensor
    p_plus: Tensor
    p_minus: Tensor
    q_plus: Tensor


def continuity_loss(broken: Tensor, whole: Tensor) -> Tensor:
    """L1 (eq. 1): cross entropy of clips with a missing frame (class 1) and without (class 0).

    Args:
        broken:
            (B, 2) logits of clips with a missing frame.
        whole:
            (B, 2) logits of clips without.
    """
    one = torch.ones(len(broken), dtype=torch.int64, device=broken.device)
    return functional.cross_entropy(broken, one) + functional.cross_entropy(whole, one * 0)


def localisation_loss(logits: Tensor, place: Tensor) -> Tensor:
    """L2 (eq. 2): cross entropy of the place of the missing frame.

    Args:
        logits:
            (B, T - 2).
        place:
            (B,) int64; 0 if the second frame of the clip is missing.
    """
    return functional.cross_entropy(logits, place)


def estimation(
    broken: Tensor,
    whole: Tensor,
    missing: Tensor,
    same: Tensor,
    *,
    gamma: float,
    omega: float,
    tau: float,
) -> Estimation:
    """L3 (eqs. 3-7): a triplet within a video, and a contrast with other scenes.

    The clip without a missing frame is the negative of the triplet and the positive of the
    contrast, as printed: a clip is nearest to its missing frame, and nearer to another clip of its
    scene than to those of other scenes.

    Args:
        broken:
            (B, D) embeddings of the clips with a missing frame.
        whole:
            (B, D) embeddings of other clips of the same videos.
        missing:
            (B, D) embeddings of the missing frames.
        same:
            (B, B) bool, True where two of the batch are of one scene: no negatives of each other.
            A row in which all are True adds nothing to the contrast.
        gamma:
            Margin of the triplet.
        omega:
            Weight of the triplet; the contrast has 1 - omega.
        tau:
            Temperature of the contrast.
    """
    d, c, m = (functional.normalize(each, dim=1) for each in (broken, whole, missing))
    p_plus, p_minus = (d * m).sum(1), (d * c).sum(1)
    triplet = torch.relu(gamma - (p_plus - p_minus))
    others = torch.cat([d @ d.T, d @ c.T], 1).masked_fill(torch.cat([same, same], 1), -torch.inf)
    positive = p_minus / tau
    every = torch.cat([positive[:, None], others / tau], 1)
    contrastive = torch.logsumexp(every, 1) - positive
    loss = omega * triplet + (1 - omega) * contrastive
    return Estimation(
        loss.mean(),
        triplet.mean(),
        contrastive.mean(),
        p_plus.mean(),
        p_minus.mean(),
        positive.clamp(max=LARGEST_EXPONENT).exp().mean(),
    )


def feature_error(clip: Tensor, frame: Tensor) -> Tensor:
    """Error of an estimate in the space of embeddings: 1 - cosine, (..., D) -> (...).

    That is half the squared distance of the two unit vectors.
    """
    return 1 - functional.cosine_similarity(clip, frame, dim=-1).clamp(-1, 1)
