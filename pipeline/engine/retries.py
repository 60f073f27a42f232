"""Which failed tasks are tried again, how often, and after what pause."""

from __future__ import annotations

import errno
from concurrent.futures import CancelledError

from distributed.comm.core import CommClosedError

from ...extractors.footage.errors import DecoderKilled, TouchedFile

ATTEMPTS = 3  # of a task that fails for a reason that may pass
PAUSE_SECONDS = 0.5  # before the second attempt; twice that before the third

# Errors of a file server, a network or another process that may be over in a moment.
_PASSING = {
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "EAGAIN", "EINTR", "EBUSY", "ETIMEDOUT", "ENOENT",
        "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN",
    )
    if hasattr(errno, name)
}  # fmt: skip


def again(attempt: int, error: BaseException) -> bool:
    """Whether a task is tried again after its attempt (1, 2, ...) failed like this."""
    return attempt < ATTEMPTS and may_pass(error)


def pause(attempt: int) -> float:
    """Seconds to wait after a failed attempt."""
    return attempt * PAUSE_SECONDS


def may_pass(error: BaseException) -> bool:
    """Whether a task that failed like this may succeed when it is tried again."""
    if isinstance(error, CommClosedError | CancelledError):  # the connection was lost
        return True
    if isinstance(error, TimeoutError | ConnectionError | DecoderKilled | TouchedFile):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING
