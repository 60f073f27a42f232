"""A command that does not end by itself after Ctrl-C is ended, with what it has started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

WAITING = """
import signal, subprocess, sys, time
from vadpipe.pipeline.cli import stopping
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
stopping.GRACE_SECONDS = 0.3
stopping.end_soon()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def wait():
    try:
        print(child.pid, flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        {then}
{call}
"""
BUSY = "import threading; t = threading.Thread(target=time.sleep, args=(600,)); t.start(); wait()"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("call", "then"),
    [
        ("wait()", "time.sleep(600)"),  # cleaning up takes long
        (BUSY, "stopping.say_stopped(); sys.exit(130)"),  # a thread is waited for at the end
    ],
)
def test_what_takes_too_long_is_ended(number: signal.Signals, call: str, then: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(call=call, then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)  # what it waits for takes twice as long
    assert process.returncode == 130
    assert errors.count("stopped; run the same command again to go on") == 1, errors
    deadline = time.monotonic() + 200  # it has been killed, and may need a moment to end
    while psutil.pid_exists(child) and psutil.Process(child).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.02)
