"""Losses of multiple-instance learning: bag classification, magnitudes, ranking, regularisers.

All take tensors of any float type and return a scalar. The caller applies the weights.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

MagnitudeForm = Literal["squared", "hinge"]
SparsityForm = Literal["l2", "l1"]


def bag_cross_entropy(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Mean binary cross-entropy of bag scores; the target is 0 for normal bags, 1 for abnormal.

    Source: RTFM's training code; SSRL eq. 9 sums over the k snippets instead.

    Args:
        normal:
            (B,) in (0, 1).
        abnormal:
            (B,) in (0, 1).
    """
    scores = torch.cat([normal, abnormal])
    labels = torch.cat([torch.zeros_like(normal), torch.ones_like(abnormal)])
    return F.binary_cross_entropy(scores, labels)


def feature_magnitude(
    normal: Tensor, abnormal: Tensor, margin: float = 100.0, form: MagnitudeForm = "squared"
) -> Tensor:
    """Push the magnitude of abnormal features to the margin and that of normal ones to zero.

    Pairs the i-th normal with the i-th abnormal bag.

    Args:
        normal:
            (M, k, D) selected features of normal bags.
        abnormal:
            (M, k, D) selected features of abnormal bags.
        margin:
            epsilon, SSRL Sect. 4.2.
        form:
            "squared": mean of (|margin - ||a||| + ||n||)^2, where a and n are means over k (RTFM's
            code). "hinge": mean of max(0, margin - g(a) + g(n)), where g is the mean of the k
            norms (SSRL eq. 7 and 8).
    """
    if form == "hinge":
        g_normal = torch.linalg.vector_norm(normal, dim=-1).mean(dim=-1)
        g_abnormal = torch.linalg.vector_norm(abnormal, dim=-1).mean(dim=-1)
        return F.relu(margin - g_abnormal + g_normal).mean()
    low = torch.linalg.vector_norm(normal.mean(dim=1), dim=-1)
    high = torch.linalg.vector_norm(abnormal.mean(dim=1), dim=-1)
    loss: Tensor = ((margin - high).abs() + low).square().mean()
    return loss


def ranking_hinge(normal: Tensor, abnormal: Tensor) -> Tensor:
    """Rank every abnormal bag above every normal one: mean of max(0, 1 - a + n) over pairs.

    Source: Sultani et al. 2018, eq. 6, over all pairs of a batch as in their code.

    Args:
        normal:
            (B,) highest score of each normal bag.
        abnormal:
            (B,) highest score of each abnormal bag.
    """
    return F.relu(1 - abnormal[:, None] + normal[None, :]).mean()


def sparsity(scores: Tensor, form: SparsityForm = "l2") -> Tensor:
    """Penalise high scores: few segments of an abnormal video are abnormal.

    Args:
        scores:
            (B, T) scores of abnormal bags.
        form:
            "l2": norm of all scores of the batch as one vector (RTFM's code). "l1": sum over each
            video, mean over videos (SSRL eq. 10, Sultani eq. 7).
    """
    if form == "l1":
        return scores.abs().sum(dim=1).mean()
    norm: Tensor = torch.linalg.vector_norm(scores.flatten())
    return norm


def smoothness(scores: Tensor, *, across: bool) -> Tensor:
    """Penalise jumps: squared differences of successive scores.

    Args:
        scores:
            (B, T) scores of abnormal bags.
        across:
            True: sum over the batch as one vector, with the steps from video to video (RTFM's
            code). False: sum within each video, mean over videos (SSRL eq. 10, Sultani eq. 7).
    """
    if across:
        return scores.flatten().diff().square().sum()
    return scores.diff(dim=1).square().sum(dim=1).mean()
