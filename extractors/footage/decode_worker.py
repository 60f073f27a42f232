"""Decode in a process of its own: what hangs, crashes or eats memory costs one video.

A child runs `read_frames` or `probe_content` and nothing else. Pixels come back through shared
memory, everything else as numbers and JSON over a pipe: the parent never unpickles what a process
says that has opened untrusted files. The kernel ends a child that hangs (SIGALRM) and bounds its
memory (RLIMIT_DATA); a child whose parent is gone reads the end of its input and leaves.
"""

from __future__ import annotations

import atexit
import json
import math
import mmap
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from . import errors
from .decode import FrameReader, read_frames, row_for_span
from .errors import (
    DecodeError,
    DecoderCrash,
    DecoderHang,
    DecoderKilled,
    DecoderMemory,
    HostileVideo,
    OverLimit,
)
from .identity import HashMode, content_id
from .limits import DecodeLimits
from .probe_file import probe_content
from .video import Faults, Frame, ProbeRow

QUEUE_BYTES = 128 << 20  # pixels that a child may be ahead of its reader
LEAST_SLOTS, MOST_SLOTS = 4, 64
GRACE = 15.0  # seconds that a child has on top of its own deadline before it is killed from outside
STOP_SECONDS = 2.0  # that a child has to end a request nobody wants any more

_HEAD = struct.Struct("<BI")  # kind of message, bytes of payload
_FRAME = struct.Struct("<qd?I")  # number, seconds, damaged, slot
FRAME, RESULT, ERROR, ALIVE = range(4)
CREDIT, STOP = b".", b"x"
MOST_JSON = 1 << 28

_ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DecodeError)
}


def guarded_frames(
    row: ProbeRow,
    start: int = 0,
    stop: int | None = None,
    *,
    threads: int = 0,
    limits: DecodeLimits | None = None,
) -> FrameReader:
    """`read_frames` in another process, which begins at once and runs ahead by a bounded number.

    The reader holds that process until it is exhausted or closed.

    Args:
        row: from a probe.
        start: first frame.
        stop: one past the last frame; None goes on to wherever the decoder ends.
        threads: of the decoder; 0 lets FFmpeg choose.
        limits: deadline and memory; None takes the defaults.

    Raises:
        HostileVideo: while reading: the process hung, crashed or needed too much memory.
        DecodeError: likewise, as `read_frames` does.
    """
    limits = limits or DecodeLimits()
    faults = Faults()
    frames = _remote_frames(row, start, stop, threads, limits, faults)
    next(frames)  # the request goes out now
    return FrameReader(row, cast(Generator[Frame, None, None], frames), faults)


def guarded_probe(
    path: Path,
    *,
    hash_mode: HashMode = "sampled",
    decode: bool = False,
    image_fps: float = 25.0,
    limits: DecodeLimits | None = None,
) -> ProbeRow:
    """`probe_video` in another process; the content id is made in this one.

    Raises:
        HostileVideo: the process hung, crashed or needed too much memory.
        DecodeError: a subclass that names what is wrong with the file.
    """
    limits = limits or DecodeLimits()
    path = Path(path).absolute()
    limits.check_file(path)
    identity = content_id(path, hash_mode)
    child = _borrow()
    try:
        child.ask(
            {
                "path": str(path),
                "identity": identity,
                "decode": decode,
                "image_fps": image_fps,
                "limits": limits.model_dump(),
            }
        )
        _, values = child.answer(path, limits)
        try:
            row = ProbeRow.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise child.nonsense(path) from error
        return replace(row, path=str(path), content_id=identity)
    finally:
        _give_back(child)


def _remote_frames(
    row: ProbeRow,
    start: int,
    stop: int | None,
    threads: int,
    limits: DecodeLimits,
    faults: Faults,
) -> Generator[Frame | None, None, None]:
    """None once the request is sent, then the frames."""
    path = Path(row.path)
    until = row.n_frames if stop is None else stop
    child = _borrow()
    try:
        child.ask(
            {
                "row": row_for_span(row, start, until).to_json(),
                "start": start,
                "stop": stop,
                "threads": threads,
                "slots": child.share(row.height, row.width),
                "limits": limits.model_dump(),
            }
        )
        yield None
        while True:
            frame, values = child.answer(path, limits)
            if frame is None:
                faults.packets, faults.container, faults.at_end = (
                    int(values["packets"]),
                    bool(values["container"]),
                    bool(values["at_end"]),
                )
                return
            yield frame
    finally:
        _give_back(child)


# --------------------------------------------------------------------------------- parent's side


class _Child:
    """A decoding process as its parent sees it; used by one thread at a time."""

    def __init__(self) -> None:
        self._ring_file = _anonymous_file()
        self._ring: mmap.mmap | None = None
        self._slots: list[NDArray[np.uint8]] = []
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(self._ring_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # native libraries' complaints about the file
                pass_fds=(self._ring_file,),
                start_new_session=True,  # ctrl-C is for the parent to act on
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                bufsize=0,
            )
        except BaseException:
            os.close(self._ring_file)
            raise
        self._said = bytearray()
        self.busy = False
        """An answer is still to come."""
        self.usable = True

    def share(self, height: int, width: int) -> int:
        """Make room for frames of that size; gives how many."""
        size = height * width * 3
        slots = max(LEAST_SLOTS, min(MOST_SLOTS, QUEUE_BYTES // size))
        self._slots = []
        os.ftruncate(self._ring_file, slots * size)
        self._ring = mmap.mmap(self._ring_file, slots * size, access=mmap.ACCESS_READ)
        pixels = np.frombuffer(self._ring, np.uint8).reshape(slots, height, width, 3)
        self._slots = list(pixels)
        return slots

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request."""
        data = json.dumps(request).encode()
        self.busy = True
        self._send(_HEAD.pack(RESULT, len(data)) + data)

    def answer(self, path: Path, limits: DecodeLimits) -> tuple[Frame | None, dict[str, Any]]:
        """The next frame, or the result of the request.

        Raises:
            DecodeError: the child says so, or it is gone.
        """
        kind, payload = self._receive(path, limits)
        try:
            if kind == FRAME:
                number, seconds, damaged, slot = _FRAME.unpack(payload)
                image = self._slots[slot].copy()
                self._send(CREDIT)
                return Frame(number, seconds, image, damaged), {}
            self.busy = False
            values: dict[str, Any] = json.loads(payload)
            if kind == RESULT:
                return None, values
            kind_of_error = _ERRORS.get(str(values["error"]), DecodeError)
            error = kind_of_error(str(values["message"]))
        except (ValueError, KeyError, IndexError, TypeError, struct.error) as problem:
            raise self.nonsense(path) from problem
        if isinstance(error, HostileVideo):
            self.kill()
        raise error

    def nonsense(self, path: Path) -> DecoderCrash:
        """What to raise for an answer that no sound child gives."""
        self.kill()
        return DecoderCrash(
            f"{path}: the decoding process gave an answer that means nothing: the file is damaged "
            "or made to do that; re-encode it, or leave it out"
        )

    def _receive(self, path: Path, limits: DecodeLimits) -> tuple[int, bytes]:
        try:
            # It may have been silent for a quarter when the deadline began.
            return self._message(1.25 * limits.seconds + GRACE)
        except TimeoutError:
            self.kill()
            raise DecoderHang(_hang(path, limits)) from None
        except ValueError as error:
            raise self.nonsense(path) from error
        except (EOFError, OSError):
            code = self.kill()
            if code == -signal.SIGALRM:
                raise DecoderHang(_hang(path, limits)) from None
            if code == -signal.SIGKILL:
                raise DecoderKilled(
                    f"{path}: the decoding process was killed by somebody, or by the system for "
                    "want of memory"
                ) from None
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise DecoderCrash(
                f"{path}: the decoding process died ({died}): the file is damaged or made to do "
                "that; re-encode it, or leave it out"
            ) from None

    def _message(self, seconds: float, until: float = math.inf) -> tuple[int, bytes]:
        """What the child says next, beside that it is alive.

        Raises:
            TimeoutError: nothing, for so many seconds or until that time.
            EOFError: it is gone.
            ValueError: more than it could have to say.
        """
        while True:
            if time.monotonic() > until:
                raise TimeoutError
            kind, length = _HEAD.unpack(self._read(_HEAD.size, seconds))
            if length > MOST_JSON:
                raise ValueError(f"a message of {length} bytes")
            payload = self._read(length, seconds)
            if kind != ALIVE:
                return kind, payload

    def _read(self, size: int, seconds: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while len(self._said) < size:
            if not select.select([pipe], [], [], seconds)[0]:
                raise TimeoutError
            part = os.read(pipe, 1 << 16)
            if not part:
                raise EOFError
            self._said += part
        data = bytes(self._said[:size])
        del self._said[:size]
        return data

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            while data:
                data = data[os.write(self._process.stdin.fileno(), data) :]
        except BrokenPipeError:
            pass  # it is dead: the next answer says how

    def stop(self) -> None:
        """End the request that is being answered; kill the child if it does not obey."""
        self._send(STOP)
        until = time.monotonic() + STOP_SECONDS
        try:
            while self.busy:
                kind, _ = self._message(STOP_SECONDS, until)
                self.busy = kind == FRAME
        except (EOFError, OSError, ValueError):  # a TimeoutError is an OSError
            self.kill()

    def kill(self) -> int:
        """End the process, whatever it does; gives its exit code."""
        self.usable = False
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._slots = []
        if self._ring_file >= 0:
            os.close(self._ring_file)
            self._ring_file = -1
        try:
            return self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # stuck in the kernel: a dead file server
            return -signal.SIGKILL

    def rest(self) -> bool:
        """Be ready for the next request; False if that cannot be."""
        if self.usable and self.busy:
            self.stop()
        if self.usable and self._process.poll() is not None:
            self.kill()
        if self.usable and self._slots:
            self._slots, self._ring = [], None
            os.ftruncate(self._ring_file, 0)  # an idle child holds no pictures
        return self.usable


def _hang(path: Path, limits: DecodeLimits) -> str:
    return (
        f"{path}: nothing was decoded for {limits.seconds:g} seconds, so the decoder was killed; "
        "the file is damaged, or its disk is very slow: then raise --limit seconds=N"
    )


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vadpipe")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_idle: list[_Child] = []
_idle_lock = threading.Lock()


def _borrow() -> _Child:
    """A child that waits for work, or a new one."""
    with _idle_lock:
        while _idle:
            child = _idle.pop()
            if child.rest():
                return child
    return _Child()


def _give_back(child: _Child) -> None:
    if child.rest():
        with _idle_lock:
            _idle.append(child)


@atexit.register
def end_idle() -> None:
    """End the processes that wait for work."""
    with _idle_lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.kill()


# ---------------------------------------------------------------------------------- child's side


class _Stopped(Exception):
    """The parent does not want more frames."""


class _Server:
    """What runs in the child: one request after another, until the parent is gone."""

    def __init__(self, ring_file: int) -> None:
        self._ring_file = ring_file
        # Whatever a library prints must not get into the messages.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._seconds = 0.0
        self._told = 0.0  # when the parent last heard of us
        self._free = 0

    def serve(self) -> NoReturn:
        """Answer requests."""
        while True:
            kind, length = _HEAD.unpack(self._read(_HEAD.size))
            request = json.loads(self._read(length))
            limits = DecodeLimits.model_validate(request["limits"])
            _bound_memory(limits.memory)
            self._seconds = limits.seconds
            self._beat()
            try:
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
            except Exception as error:  # no crash: the file is blamed by name, and the place told
                kind, values = ERROR, _unexpected(request, error)
            else:
                kind = RESULT
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._write(kind, json.dumps(values).encode())

    def _beat(self) -> None:
        """Something was read: the deadline starts anew. Nobody catches the signal: it kills.

        The parent hears of it now and then: a file may take longer than the deadline of a packet.
        """
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        now = time.monotonic()
        if now - self._told > self._seconds / 4:
            self._told = now
            self._write(ALIVE, b"")

    def _probe(self, request: Mapping[str, Any], limits: DecodeLimits) -> dict[str, Any]:
        row = probe_content(
            Path(request["path"]),
            request["identity"],
            decode=request["decode"],
            image_fps=request["image_fps"],
            limits=limits,
            faults=Faults(beat=self._beat),
        )
        return row.to_json()

    def _frames(self, request: Mapping[str, Any], limits: DecodeLimits) -> dict[str, Any]:
        row = ProbeRow.from_json(request["row"])
        self._free = slots = request["slots"]
        size = row.height * row.width * 3
        most = limits.hours * 3600 * row.fps
        memory = mmap.mmap(self._ring_file, slots * size)  # goes with the last array over it
        ring = np.frombuffer(memory, np.uint8).reshape(slots, row.height, row.width, 3)
        places = cycle(ring)

        def room() -> NDArray[np.uint8]:
            self._wait_for_slot()
            return next(places)

        faults = Faults(beat=self._beat, room=room)
        start, stop, threads = (request[name] for name in ("start", "stop", "threads"))
        with read_frames(row, start, stop, threads=threads, faults=faults) as reader:
            for count, frame in enumerate(reader):
                if frame.index > most:
                    raise OverLimit(
                        f"{row.path}: more than {limits.hours:g} hours come out of it; if that is "
                        "right, raise the limit: --limit hours=N"
                    )
                about = (frame.index, frame.pts, frame.corrupt, count % slots)
                self._write(FRAME, _FRAME.pack(*about))
        return {"packets": faults.packets, "container": faults.container, "at_end": faults.at_end}

    def _wait_for_slot(self) -> None:
        """Take back the slots that were read; wait for one if all are full."""
        while True:
            if not self._free:
                signal.setitimer(signal.ITIMER_REAL, 0)  # it is the parent who is slow
            if select.select([0], [], [], None if self._free == 0 else 0)[0]:
                said = os.read(0, MOST_SLOTS)
                if not said:
                    os._exit(0)
                if STOP in said:
                    raise _Stopped
                self._free += len(said)
            if self._free:
                self._free -= 1
                self._beat()
                return

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(0, size - len(data))
            if not part:
                os._exit(0)
            data += part.lstrip(CREDIT + STOP) if not data else part  # left over of the last answer
        return data

    def _write(self, kind: int, payload: bytes) -> None:
        data = _HEAD.pack(kind, len(payload)) + payload
        while data:
            data = data[os.write(self._out, data) :]


def _bound_memory(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _memory(request: Mapping[str, Any], limits: DecodeLimits) -> dict[str, str]:
    message = (
        f"{_path(request)}: decoding needs more than {limits.memory:,} bytes of memory; it is "
        "damaged or made to do that, or its frames are that large: then raise the limit: "
        "--limit memory=N"
    )
    return {"error": DecoderMemory.__name__, "message": message}


def _unexpected(request: Mapping[str, Any], error: Exception) -> dict[str, str]:
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = (
        f"{_path(request)}: {type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}: {error}; nobody has thought of that: report it if the file plays "
        "elsewhere, else re-encode it or leave it out"
    )
    return {"error": DecodeError.__name__, "message": message}


def _path(request: Mapping[str, Any]) -> str:
    return str(request.get("path") or request["row"]["path"])


if __name__ == "__main__":
    _Server(int(sys.argv[1])).serve()
