"""Which frames of its footage a task reads: all of them, or those that lie in clips."""

from __future__ import annotations

from collections.abc import Iterable

from ...extractors.clips import ClipRule
from ...extractors.footage.sparse import Wanted
from .extractor_spec import ExtractorSpec


def wanted_frames(specs: Iterable[ExtractorSpec], rules: Iterable[ClipRule]) -> Wanted | None:
    """The frames that a task needs of its footage.

    With `skip` and `fail`, damage decides which rows there are. Packets that are not decoded are
    not seen to be damaged, and the frame after a refused one counts as damaged, so all are decoded.

    Args:
        specs: the extractors of the task.
        rules: of those extractors that have spans to compute.

    Returns:
        Frames of the whole video; None for all.
    """
    if any(spec.on_corrupt != "keep" for spec in specs):
        return None
    return Wanted.of(
        (rule.stride, rule.before, rule.before + rule.length + rule.after) for rule in rules
    )
