"""How many threads a detector computes in: what the run allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Limit the threads of this process until the end of the block.

    Enter it after what computes was imported: torch, which takes seconds, is not imported for it.

    Args:
        threads:
            Of the matrix products of numpy and of networks; None leaves both as they are.
    """
    torch = sys.modules.get("torch") if threads is not None else None
    before = None if torch is None else torch.get_num_threads()
    with threadpool_limits(threads, user_api="blas"):
        try:
            if torch is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
