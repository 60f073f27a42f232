"""How many items go through a network at once when it scores: on a CPU memory has to be reused.

A map above 32 MiB gets its memory from the system, and gives it back after each layer: glibc's
M_MMAP_THRESHOLD cannot be higher. The system clears it page by page when it is first touched, which
may take a third of the time. Larger batches compute no faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

REUSED_BYTES = 31 * 2**20  # of the largest map; a little is left for what malloc adds


def items_at_once(most: int, map_bytes: int, device: torch.device) -> int:
    """Items of a batch that scores.

    Args:
        most:
            The most on any device; devices other than a CPU take as many.
        map_bytes:
            Of the largest map of one item.
        device:
            Of the network.

    Returns:
        At least 1.
    """
    if device.type != "cpu":
        return max(1, most)
    return max(1, min(most, REUSED_BYTES // max(1, map_bytes)))


def even_blocks(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Divide into blocks of at most `most`, of even sizes: [first, stop) of each.

    torch takes four times as long for a sequence alone as for each of two, so none is left over.
    """
    edges = np.linspace(0, count, -(-count // most) + 1).round().astype(int).tolist()
    return pairwise(edges)
