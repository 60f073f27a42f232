"""Decode in another process: a file that hangs, crashes or eats memory costs one video.

`guarded_frames` and `guarded_probe` do what `read_frames` and `probe_video` do, in a child process
(`decode_worker`). Pixels come back through shared memory, everything else as numbers and JSON over
a pipe (`decode_messages`): the parent never unpickles what a process says that has opened untrusted
files. A child waits for the next request after it has answered one, and is used again.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from . import errors
from .decode import FrameReader, row_for_span
from .decode_messages import (
    ALIVE,
    FRAME,
    FRAME_PAYLOAD,
    HEAD,
    MOST_JSON,
    MOST_SLOTS,
    REQUEST,
    RESULT,
    STOP,
    credit,
    message,
    picture_bytes,
)
from .errors import DecodeError, DecoderCrash, DecoderHang, DecoderKilled, HostileVideo
from .identity import HashMode, identify
from .limits import DecodeLimits
from .resizing import Resize, sizes_of
from .ring import Ring
from .sparse import Wanted
from .video import Frame, ProbeRow, Reading

WORKER = f"{__package__}.decode_worker"
QUEUE_BYTES = 128 << 20  # pixels that a child may decode before its reader takes them
LENT_BYTES = 256 << 20  # of pixels that a reader may keep without a copy
LEAST_SLOTS = 4
LOADING = 120.0  # seconds more for the first answer of a child that loads torch first
GRACE = 15.0  # seconds after a child's own deadline; then the parent kills it
STOP_SECONDS = 2.0  # for a child to end a request that is not wanted any more

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
    lend: int | None = None,
    wanted: Wanted | None = None,
    resizes: Sequence[Resize] = (),
) -> FrameReader:
    """`read_frames` in another process. It begins at once and decodes ahead by `QUEUE_BYTES`.

    The reader holds that process until it is exhausted or closed.

    Args:
        row: from a probe.
        start: first frame.
        stop: one past the last frame; None goes on to wherever the decoder ends.
        threads: of the decoder; 0 lets FFmpeg choose.
        limits: deadline and memory; None takes the defaults.
        lend: pictures are read-only views of the memory that the process writes to, as long as
            there is room, see `Ring`. Drop each as soon as it is not needed. The number says how
            many of them, from the first on, need to lie together; 0 for all.
        wanted: the frames that are returned, as for `read_frames`.
        resizes: what is returned of each picture, as for `read_frames`. The process resizes, and
            loads torch for it once, which takes two seconds of CPU time.

    Raises:
        HostileVideo: while reading: the process hung, crashed or needed too much memory.
        DecodeError: while reading, as `read_frames` does.
    """
    limits = limits or DecodeLimits()
    reading = Reading()
    request = {
        "row": row_for_span(row, start, row.n_frames if stop is None else stop).to_json(),
        "start": start,
        "stop": stop,
        "threads": threads,
        "wanted": None if wanted is None else wanted.rules,
        "resizes": [(each.height, each.width, each.kind) for each in resizes],
        "limits": limits.model_dump(),
    }
    sizes = sizes_of(row.height, row.width, resizes)
    frames = _remote_frames(row, request, sizes, limits, reading, lend)
    next(frames)  # the request goes out now
    return FrameReader(row, cast(Generator[Frame, None, None], frames), reading)


def guarded_probe(
    path: Path,
    *,
    hash_mode: HashMode = "sampled",
    decode: bool = False,
    image_fps: float = 25.0,
    limits: DecodeLimits | None = None,
) -> ProbeRow:
    """`probe_video` in another process; this one computes the content id and the stamp.

    Raises:
        HostileVideo: the process hung, crashed or needed too much memory.
        DecodeError: a subclass that names what is wrong with the file.
    """
    limits = limits or DecodeLimits()
    path = Path(path).absolute()
    limits.check_file(path)
    identity = identify(path, hash_mode, limits)
    child = _borrow()
    try:
        child.ask(
            {
                "path": str(path),
                "identity": identity.content_id,
                "stamp": identity.stamp,
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
        return replace(row, path=str(path), **vars(identity))
    finally:
        _give_back(child)


def _remote_frames(
    row: ProbeRow,
    request: Mapping[str, Any],
    sizes: Sequence[tuple[int, int]],
    limits: DecodeLimits,
    reading: Reading,
    lend: int | None,
) -> Generator[Frame | None, None, None]:
    """Yield None once the request is sent, then the frames."""
    path = Path(row.path)
    child = _borrow()
    try:
        slots, run = child.share(sizes, lend)
        child.ask({**request, "slots": slots, "run": run})
        yield None
        while True:
            frame, values = child.answer(path, limits)
            if frame is None:
                reading.failed_packets = int(values["failed_packets"])
                reading.cut_off = bool(values["cut_off"])
                reading.at_end = bool(values["at_end"])
                reading.passed = int(values["passed"])
                return
            yield frame
    finally:
        _give_back(child)


def ring_size(picture: int, lend: int | None) -> tuple[int, int]:
    """Slots of a ring for pictures of so many bytes, and how many of them lie together.

    Args:
        picture: bytes of a slot.
        lend: pictures that should lie together, see `guarded_frames`.
    """
    most = QUEUE_BYTES + (0 if lend is None else LENT_BYTES)
    slots = max(LEAST_SLOTS, min(MOST_SLOTS, most // picture))
    if not lend or 2 * lend > slots:
        return slots, 0
    return slots // lend * lend, lend


class _Child:
    """A decoding process as its parent sees it; one thread uses it at a time."""

    def __init__(self) -> None:
        self._ring_file = _anonymous_file()
        self._ring: Ring | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER, str(self._ring_file)],
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
        self.busy = False  # an answer is still to come
        self.usable = True
        self._loading = False  # torch, before the first answer

    def share(self, sizes: Sequence[tuple[int, int]], lend: int | None) -> tuple[int, int]:
        """Make the ring for pictures of these sizes; returns slots, and how many lie together."""
        slots, run = ring_size(picture_bytes(sizes), lend)
        self._ring = Ring(self._ring_file, slots, sizes, lends=lend is not None)
        return slots, run

    @property
    def lends(self) -> bool:
        """Whether pictures of the last request are still in use."""
        return self._ring is not None

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request."""
        data = json.dumps(request).encode()
        self.busy = True
        self._loading = bool(request.get("resizes"))
        self._send(message(REQUEST, data))

    def answer(self, path: Path, limits: DecodeLimits) -> tuple[Frame | None, dict[str, Any]]:
        """The next frame, or the result of the request.

        Raises:
            DecodeError: the child says so, or it is gone.
        """
        self._free_slots()
        kind, payload = self._receive(path, limits)
        try:
            if kind == FRAME and self._ring is not None:
                number, seconds, damaged, slot = FRAME_PAYLOAD.unpack(payload)
                (image, *others), scarce = self._ring.take(slot)
                self._free_slots()
                return Frame(number, seconds, image, damaged, scarce, tuple(others)), {}
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

    def _free_slots(self) -> None:
        """Tell the child which slots it may write again."""
        if self._ring is not None and (freed := self._ring.freed()):
            self._send(b"".join(map(credit, freed)))

    def nonsense(self, path: Path) -> DecoderCrash:
        """Kill the child; returns the error for an answer that makes no sense."""
        self.kill()
        return DecoderCrash(
            f"{path}: the decoding process sent an answer that means nothing: the file is damaged "
            "or hostile; re-encode it, or leave it out"
        )

    def _receive(self, path: Path, limits: DecodeLimits) -> tuple[int, bytes]:
        try:
            # A quarter more: the last message may be that much older than the last packet.
            seconds = 1.25 * limits.seconds + GRACE + (LOADING if self._loading else 0)
            said = self._message(seconds)
            self._loading = False
            return said
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
                    f"{path}: the decoding process was killed from outside, perhaps by the system "
                    "because memory ran out"
                ) from None
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise DecoderCrash(
                f"{path}: the decoding process died ({died}): the file is damaged or hostile; "
                "re-encode it, or leave it out"
            ) from None

    def _message(self, seconds: float, until: float = math.inf) -> tuple[int, bytes]:
        """The child's next message; those that only say that it is alive are passed over.

        Args:
            seconds: to wait for each part of a message.
            until: when to give up in any case, by `time.monotonic`.

        Raises:
            TimeoutError: nothing came in that time.
            EOFError: the child is gone.
            ValueError: the message is longer than any that makes sense.
        """
        while True:
            if time.monotonic() > until:
                raise TimeoutError
            kind, length = HEAD.unpack(self._read(HEAD.size, seconds))
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
            pass  # the child is dead; reading its next answer finds out how it died

    def stop(self) -> None:
        """End the request that is being answered; kill the child if it goes on."""
        until = time.monotonic() + STOP_SECONDS
        try:
            self._send(STOP)
            while self.busy:
                kind, _ = self._message(STOP_SECONDS, until)
                self.busy = kind == FRAME
        except (EOFError, OSError, ValueError):  # a TimeoutError is an OSError
            self.kill()

    def kill(self) -> int:
        """Kill the process; returns its exit code."""
        self.usable = False
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._ring is not None:
            self._ring.leave()
            self._ring = None
        if self._ring_file >= 0:
            os.close(self._ring_file)
            self._ring_file = -1
        try:
            return self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # stuck in the kernel: a dead file server
            return -signal.SIGKILL

    def rest(self) -> bool:
        """End the request; False if the child cannot be used for another one.

        Pictures of the request may still be lent: then its memory is freed with the last of them.
        """
        if self.usable and self.busy:
            self.stop()
        if self.usable and (self._process.poll() is not None or self._closed()):
            self.kill()
        if self.usable and self._ring is not None and self._ring.close():
            self._ring = None  # an idle child holds no pictures
        return self.usable

    def _closed(self) -> bool:
        """Whether a pipe is closed: the garbage collector ends files and readers in any order."""
        pipes = (self._process.stdin, self._process.stdout)
        return any(pipe is None or pipe.closed for pipe in pipes)


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
_idle_lock = threading.RLock()  # a reader may be collected, and give back, while it is held


def _borrow() -> _Child:
    """An idle child, or a new one."""
    with _idle_lock:
        while _idle:
            child = _idle.pop()
            if child.rest():
                if not child.lends:
                    return child
                child.kill()  # its memory stays that of the pictures
    return _Child()


def _give_back(child: _Child) -> None:
    if child.rest():
        with _idle_lock:
            _idle.append(child)


@atexit.register
def end_idle() -> None:
    """End the idle children."""
    with _idle_lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.kill()
