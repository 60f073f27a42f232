"""Ctrl-C and SIGTERM: a command ends within seconds, whatever it waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

GRACE_SECONDS = 4.0  # for a command to end by itself
KILL_SECONDS = 5.0  # for the processes that it has started
STOPPED = "stopped; run the same command again to go on"
CODE = 130

_said = threading.Event()


def end_soon() -> None:
    """From now on, Ctrl-C and SIGTERM end this process within seconds.

    They raise KeyboardInterrupt in the main thread, which ends the command. That may wait for a
    network or a decoder that is at work, for minutes on a busy machine. A thread ends the process
    and those that it has started if it takes too long: every file is written whole or not at all.
    """
    signal.signal(signal.SIGTERM, _interrupt)  # batch systems end a job this way
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The number of a signal is written at once, also while the main thread is in a long call.
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="stopping", daemon=True).start()


def say_stopped() -> None:
    """Say that the command was stopped."""
    from ..engine.progress import tell

    _said.set()
    tell(STOPPED)


def _watch(reading: int) -> None:
    while os.read(reading, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    time.sleep(GRACE_SECONDS)
    # In a thread: the main one may hold the lock of an import for as long as it lives.
    killing = threading.Thread(target=_kill_children, daemon=True)
    killing.start()
    killing.join(KILL_SECONDS)
    if not _said.is_set():
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(CODE)


def _kill_children() -> None:
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
