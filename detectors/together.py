"""Detectors that score several short videos at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar

from .base import Bag, Scores

# Rows times crops of several videos. A longer video fills a batch by itself, and to lay out copies
# of it beside others took a tenth longer.
ROWS_TOGETHER = 512

T = TypeVar("T")


class ScoresTogether(ABC):
    """Short videos leave the batches of a network half empty, so several fill one."""

    @abstractmethod
    def score_together(self, bags: Sequence[Bag]) -> list[Scores]:
        """Score videos, in order.

        Scores are those of `score` within 1e-5 of their rms in fp32: sums are taken in another
        order. A single video has the same bits.

        Raises:
            DetectorError: one of them cannot be scored; nothing is returned.
        """


def filled(videos: Sequence[T], rows: Sequence[int], most: int) -> Iterator[list[T]]:
    """Videos for one batch after the other, in order.

    Args:
        videos:
            What is scored.
        rows:
            Of each.
        most:
            Rows of a batch of several videos.
    """
    batch: list[T] = []
    count = 0
    for video, more in zip(videos, rows, strict=True):
        if batch and count + more > most:
            yield batch
            batch, count = [], 0
        batch.append(video)
        count += more
    if batch:
        yield batch
