"""The decoding process: `python -m vadpipe.extractors.footage.decode_worker RING_FILE`.

It runs `read_frames` or `probe_content` and nothing else. Requests come in on standard input,
messages go out on standard output, and pixels go into a ring in shared memory (see
`decode_messages`); the other side is `guarded`. The kernel kills the process if it hangs (SIGALRM)
and bounds its memory (RLIMIT_DATA). When its parent is gone it reads the end of its input and ends.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .decode import read_frames
from .decode_messages import (
    ALIVE,
    CREDITS,
    ERROR,
    FIRST_CREDIT,
    FRAME,
    FRAME_PAYLOAD,
    HEAD,
    MOST_SLOTS,
    RESULT,
    STOP,
    message,
    next_slot,
    picture_bytes,
    ring_slots,
)
from .errors import DecodeError, DecoderMemory, OverLimit
from .file_checks import SentLimits
from .probe_file import probe_content
from .resizing import Resize, sizes_of
from .sparse import Wanted
from .video import Hooks, ProbeRow, Reading


class _Stopped(Exception):
    """The parent wants no more frames."""


class _Server:
    """Answers one request after another, until the parent is gone.

    Args:
        ring_file: descriptor of the shared memory that the parent has opened.
    """

    _request: Mapping[str, Any]
    _most = math.inf  # seconds of work on the request
    _begin = 0.0
    _waited = 0.0  # seconds of the request in which the parent had no room
    _loaded = 0  # bytes that loading torch took, beside what the limit is for

    def __init__(self, ring_file: int) -> None:
        self._ring_file = ring_file
        # Libraries print to descriptor 1. Messages go to a copy of it, what is printed to stderr.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._seconds = 0.0
        self._told = 0.0  # when the parent last heard from this process
        self._free: set[int] = set()  # slots of the ring that may be written
        self._slot = -1  # that was written last
        self._run = 0  # frames that should lie together

    def serve(self) -> NoReturn:
        """Answer requests."""
        while True:
            _, length = HEAD.unpack(self._read(HEAD.size))
            self._request = request = json.loads(self._read(length))
            limits = SentLimits(**request["limits"])
            self._seconds = limits.seconds
            self._most = 3600 * limits.decode_hours
            try:
                if request.get("resizes"):
                    self._load_resizing()
                _bound_memory(limits.memory + self._loaded)
                self._begin, self._waited = time.monotonic(), 0.0
                self._beat()
                values = (
                    self._probe(request, limits)
                    if "path" in request
                    else self._frames(request, limits)
                )
            except _Stopped:
                kind, values = RESULT, {}
            except MemoryError:
                kind, values = ERROR, _memory(request, limits)
            except DecodeError as error:
                kind, values = ERROR, {"error": type(error).__name__, "message": str(error)}
            except Exception as error:  # the message names the file and the place in the code
                kind, values = ERROR, _unexpected(request, error)
            else:
                kind = RESULT
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._write(kind, json.dumps(values).encode())

    def _load_resizing(self) -> None:
        """Load torch, before there are a deadline and a bound: both are for the file."""
        if not self._loaded:
            before = _data_bytes()
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))  # of the last request
            Resize(1, 2)(np.zeros((2, 4, 3), np.uint8))  # and what it makes when it is first used
            self._loaded = max(1, _data_bytes() - before)

    def _beat(self) -> None:
        """Restart the deadline: something was read. No handler is set, so the signal kills.

        The parent is told every quarter of the deadline: a whole file may take longer than the
        deadline, which is for one packet.
        """
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        now = time.monotonic()
        if now - self._begin - self._waited > self._most:
            raise OverLimit(
                f"{_path(self._request)}: decoding took more than the limit of "
                f"{self._most / 3600:g} hours; if that is right, raise the limit: "
                "--limit decode_hours=N"
            )
        if now - self._told > self._seconds / 4:
            self._told = now
            self._write(ALIVE, b"")

    def _probe(self, request: Mapping[str, Any], limits: SentLimits) -> dict[str, Any]:
        row = probe_content(
            Path(request["path"]),
            request["identity"],
            stamp=request["stamp"],
            decode=request["decode"],
            image_fps=request["image_fps"],
            limits=limits,
            hooks=Hooks(beat=self._beat),
        )
        return row.to_json()

    def _frames(self, request: Mapping[str, Any], limits: SentLimits) -> dict[str, Any]:
        row = ProbeRow.from_json(request["row"])
        resizes = [Resize(*each) for each in request["resizes"]]
        sizes = sizes_of(row.height, row.width, resizes)
        slots: int = request["slots"]
        self._free, self._slot, self._run = set(range(slots)), -1, request["run"]
        most = limits.hours * 3600 * row.fps
        # Unmapped when the last array over it is gone.
        memory = mmap.mmap(self._ring_file, slots * picture_bytes(sizes))
        places = ring_slots(memory, slots, sizes)

        def room() -> tuple[NDArray[np.uint8], ...]:
            self._slot = self._next_slot(slots)
            return tuple(place[self._slot] for place in places)

        reading = Reading(Hooks(beat=self._beat, room=room))
        start, stop, threads = (request[name] for name in ("start", "stop", "threads"))
        wanted = None if request["wanted"] is None else Wanted(tuple(map(tuple, request["wanted"])))
        options = {"threads": threads, "reading": reading, "wanted": wanted}
        with read_frames(row, start, stop, **options, resizes=resizes) as reader:
            for frame in reader:
                limits.check_count(Path(row.path), frame.index + 1)
                if frame.index > most:
                    raise OverLimit(
                        f"{row.path}: decoding returns more than {limits.hours:g} hours; if that "
                        "is right, raise the limit: --limit hours=N"
                    )
                about = (frame.index, frame.pts, frame.corrupt, self._slot)
                self._write(FRAME, FRAME_PAYLOAD.pack(*about))
        return {
            "failed_packets": reading.failed_packets,
            "cut_off": reading.cut_off,
            "at_end": reading.at_end,
            "passed": reading.passed,
        }

    def _next_slot(self, slots: int) -> int:
        """Take the next free slot. Note those that the parent has read; wait if none is free."""
        while True:
            if not self._free:
                signal.setitimer(signal.ITIMER_REAL, 0)  # the parent is slow, not the decoder
            begin = time.monotonic()
            asked = select.select([0], [], [], 0 if self._free else None)[0]
            self._waited += time.monotonic() - begin
            if asked:
                said = os.read(0, MOST_SLOTS)
                if not said:
                    os._exit(0)
                if STOP in said:
                    raise _Stopped
                self._free.update(byte - FIRST_CREDIT for byte in said)
            if self._free:
                slot = next_slot(self._free, self._slot, slots, self._run)
                self._free.remove(slot)
                self._beat()
                return slot

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(0, size - len(data))
            if not part:
                os._exit(0)
            # Credits and stops that came too late for the last request stand before a new one.
            data += part.lstrip(CREDITS + STOP) if not data else part
        return data

    def _write(self, kind: int, payload: bytes) -> None:
        data = message(kind, payload)
        while data:
            data = data[os.write(self._out, data) :]


def _bound_memory(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """What RLIMIT_DATA counts; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.partition("VmData:")[2].split(maxsplit=1)[0])


def _memory(request: Mapping[str, Any], limits: SentLimits) -> dict[str, str]:
    text = (
        f"{_path(request)}: decoding needs more than {limits.memory:,} bytes of memory: the file "
        "is damaged or hostile, or its frames are that large: then raise the limit: "
        "--limit memory=N"
    )
    return {"error": DecoderMemory.__name__, "message": text}


def _unexpected(request: Mapping[str, Any], error: Exception) -> dict[str, str]:
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = (
        f"{_path(request)}: {type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}: {error}; unexpected error: please report it if the file plays "
        "elsewhere, else re-encode it or leave it out"
    )
    return {"error": DecodeError.__name__, "message": text}


def _path(request: Mapping[str, Any]) -> str:
    return str(request.get("path") or request["row"]["path"])


if __name__ == "__main__":
    _Server(int(sys.argv[1])).serve()
