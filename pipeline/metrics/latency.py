"""Average precision that counts an abnormal frame the less, the longer its anomaly has lasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def onset_weights(labels: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """How much each frame counts in the latency-aware recall.

    In an anomaly of L frames, the frame number i (from 0) has the weight 2 (L - i) / (L (L + 1)):
    it falls in a line from the onset to the end, and the weights of an anomaly add up to 1. This is
    the front-end bias of range-based recall with existence weight 0 and cardinality 1 (N. Tatbul et
    al., "Precision and Recall for Time Series", NeurIPS 2018, section 4.1). As there, all anomalies
    count alike, however long they are.

    Args:
        labels:
            (n,) 0 or 1 of each video; a run of ones is an anomaly.

    Returns:
        (sum of n,) the weights of all frames in order; 0 for normal ones, sum 1 where there is an
        anomaly.
    """
    weights = [_weights_of_video(np.asarray(label, bool)) for label in labels]
    every = np.concatenate(weights)
    total = every.sum()
    return every / total if total else every


def _weights_of_video(label: NDArray[np.bool_]) -> NDArray[np.float64]:
    edges = np.flatnonzero(np.diff(label, prepend=False, append=False))
    weights = np.zeros(len(label))
    for start, stop in edges.reshape(-1, 2):
        length = int(stop - start)
        weights[start:stop] = np.arange(length, 0, -1) * (2 / (length * (length + 1)))
    return weights


def latency_aware_ap(
    score: NDArray[np.float64], label: NDArray[np.bool_], weight: NDArray[np.float64]
) -> float:
    """Sum of the precision of frames times the steps of the latency-aware recall.

    A threshold falls through all scores. Precision is the share of the frames at or above it that
    are abnormal, as in average precision. The recall is that of the weights: a frame at the onset
    of its anomaly adds more than one at its end, so anomalies that are found late keep it low while
    precision is high. Average precision with a recall that decays after the onset is the idea of
    LaAP (Z. Liu et al., "Rethinking Metrics and Benchmarks of Video Anomaly Detection",
    arXiv:2505.19022, 2025); the weights here are those of `onset_weights`, not that paper's.

    Args:
        score:
            (n,) higher = more anomalous.
        label:
            (n,) whether a frame is abnormal; at least one is.
        weight:
            (n,) of `onset_weights`.

    Returns:
        0 to 1; 1 if all abnormal frames lie above all normal ones.
    """
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=np.nan))  # of each group of equal scores
    found = np.cumsum(label[order])[last]
    precision = found / (last + 1)
    recall = np.cumsum(weight[order])[last]
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))
