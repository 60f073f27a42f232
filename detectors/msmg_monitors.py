"""What tells that the tasks of MSMG were not learnt: a collapse, or accuracies at chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

COLLAPSED = 0.99  # p- above which embeddings of clips hardly differ
APART = 0.01  # p+ - p- below which the missing frame is no nearer than another clip
SURE = 2.0  # standard deviations above chance that an accuracy has to be


def collapse_warnings(values: Mapping[str, float]) -> list[str]:
    """Warn if a missing frame is no nearer to its clip than another clip is (eq. 4).

    Args:
        values:
            With "p_plus" and "p_minus" (eq. 4), if estimation was measured.
    """
    plus, minus = values.get("p_plus"), values.get("p_minus")
    if plus is None or minus is None:
        return []
    what = (
        f"p+ {plus:.3f}, p- {minus:.3f}: a missing frame is no nearer to its clip than another clip"
    )
    if minus > COLLAPSED and plus - minus < APART:
        return [f"the embeddings have collapsed: {what} is; train longer, or with other weights"]
    if plus <= minus:
        return [f"estimation is not learnt: {what} of the video is; train longer"]
    return []


def chance_warnings(task: str, accuracy: float | None, classes: int, samples: int) -> list[str]:
    """Warn of an accuracy that chance can reach.

    Args:
        task:
            Its name.
        accuracy:
            Share of right answers; None if it was not measured.
        classes:
            Of which each is as frequent as the others.
        samples:
            That were measured.
    """
    chance = 1 / classes
    if accuracy is None or accuracy > chance + SURE * math.sqrt(chance * (1 - chance) / samples):
        return []
    return [
        f"{task} is at chance: {accuracy:.1%} of the clips are right, chance is {chance:.1%}; "
        "footage without motion has no missing frames to see, otherwise train longer"
    ]
