"""Boxes of objects with why each is odd: in numbers for researchers, in words for a guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..extractors.networks.coco import COCO
from .attribute_models import Attribute, ClassNovelty
from .base import State
from .object_maps import Objects
from .object_measures import Floats, Measures
from .plain_words import Reason, sentence


@dataclass(frozen=True)
class Judged:
    """One attribute of all objects of a video.

    Attributes:
        attribute: what measures it.
        state: what it has learned.
        limit: of normal objects.
        values: (n,) how unusual each object is.
        evidence: (n,) what that counts.
    """

    attribute: Attribute
    state: State
    limit: float
    values: Floats
    evidence: Floats

    def numbers(self, measures: Measures, i: int) -> str:
        """The value of object i and the limit, as `speed 4.1 px/frame, training limit 2.0`."""
        value = float(self.values[i])
        return self.attribute.in_numbers(value, self.limit, self.state, measures, i)

    def reason(self, measures: Measures, i: int) -> Reason:
        """How far object i is beyond the limit."""
        name, attribute, value = self.attribute.name, self.attribute, float(self.values[i])
        if isinstance(attribute, ClassNovelty):
            return Reason(name, kind=attribute.kind_of(self.state, measures, i))
        if not attribute.is_ratio:
            return Reason(name)
        return Reason(name, times=value / self.limit if self.limit > 0 else np.inf)


def object_regions(
    objects: Objects, scores: Floats, measures: Measures, judged: Sequence[Judged]
) -> pa.Table:
    """One row for each object with pixels: its box, score, class, and the reasons.

    Args:
        objects:
            Of a video.
        scores:
            (n,) of each.
        measures:
            Of each.
        judged:
            The attributes.
    """
    labels = _labels(measures)
    found = _reasons(measures, labels, judged)
    corners = objects.boxes.astype(np.float32)
    kept = (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    table = pa.table(
        {
            "frame": objects.frame_start[objects.row],
            **dict(zip(("x0", "y0", "x1", "y1"), corners.T, strict=True)),
            "score": scores,
            "label": pa.array(labels, pa.string()),
            **{name: pa.array(texts, pa.string()) for name, texts in found.items()},
        }
    )
    return table.filter(pa.array(kept))


def _labels(measures: Measures) -> list[str | None]:
    """The most likely class of each object; None where none is known."""
    if measures.classes is None or not len(measures):
        return [None] * len(measures)
    best, seen = measures.classes.argmax(1).tolist(), measures.classes.max(1) > 0
    return [COCO[b] if s else None for b, s in zip(best, seen, strict=True)]


def _reasons(
    measures: Measures, labels: Sequence[str | None], judged: Sequence[Judged]
) -> Mapping[str, list[str | None]]:
    """`explain` and `words` of each object, most evidence first; None where there are none."""
    evidence = np.stack([each.evidence for each in judged])
    order = np.argsort(-evidence, axis=0, kind="stable")
    explain: list[str | None] = [None] * len(measures)
    words = list(explain)
    for i in np.flatnonzero(evidence.max(0, initial=0.0) > 0).tolist():
        # Below the limit, evidence that starts at the median says nothing to people.
        beyond = [
            each
            for each in (judged[at] for at in order[:, i].tolist())
            if each.values[i] > each.limit and each.evidence[i] > 0
        ]
        explain[i] = "; ".join(each.numbers(measures, i) for each in beyond) or None
        words[i] = sentence(labels[i], [each.reason(measures, i) for each in beyond])
    return {"explain": explain, "words": words}
