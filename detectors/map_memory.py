"""How many items go through a network at once when it scores: on a CPU memory has to be reused.

A map above 32 MiB gets its memory from the system, and gives it back after each layer: glibc's
M_MMAP_THRESHOLD cannot be higher. The system clears it page by page when it is first touched, which
may take a third of the time. Larger batches compute no faster on a CPU.
"""

from __future__ import annotations

import torch

REUSED_BYTES = 31 * 2**20  # of the largest map; a little is left for what malloc adds


def items_at_once(most: int, map_bytes: int, device: torch.device) -> int:
    """Items of a batch that scores.

    Args:
        most:
            Wherever memory is no matter: on other devices than a CPU.
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
