"""The threshold that scores are measured at, and the rule that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limit:
    """Raw score above which frames start an event.

    Attributes:
        value: of all videos but those that have another one.
        rule: where it comes from, in words; "" in results of earlier versions.
        videos: video id -> the threshold of its scene, where that has one of its own.
    """

    value: float
    rule: str = ""
    videos: Mapping[str, float] = field(default_factory=dict)

    def of(self, video_id: str) -> float:
        """The threshold of a video."""
        return self.videos.get(video_id, self.value)
