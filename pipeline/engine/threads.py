"""How many threads a detector computes in: what the run allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(blas: int | None, torch: int | None = None) -> Iterator[None]:
    """Limit the threads of this process until the end of the block.

    Args:
        blas:
            Threads of the matrix products of numpy; None leaves them as they are.
        torch:
            Threads of networks; None leaves torch's own number. Torch is not imported for it.
    """
    network = sys.modules.get("torch") if torch is not None else None
    before = None if network is None else network.get_num_threads()
    with threadpool_limits(blas, user_api="blas"):
        try:
            if network is not None:
                network.set_num_threads(torch)
            yield
        finally:
            if network is not None:
                network.set_num_threads(before)
