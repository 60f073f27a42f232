"""The decoding process, as its parent meets it: limits, deadline, memory, end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.footage import write_coding
from vadpipe.extractors.footage import decode_messages, decode_worker, guarded
from vadpipe.extractors.footage.errors import DecodeError, DecoderMemory, OverLimit
from vadpipe.extractors.footage.guarded import end_idle, guarded_frames, guarded_probe
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_content, probe_video
from vadpipe.extractors.footage.video import Hooks


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coding("h264-closed-mp4", tmp_path_factory.mktemp("video"), 120)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if guarded.WORKER in p.cmdline()]


def test_it_starts_with_no_more_than_it_needs() -> None:
    """It starts with every command that opens footage: what it imports is paid for each time."""
    code = f"import sys, {guarded.WORKER}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"av", "numpy"} <= set(done.stdout.split())
    assert not {"torch", "pydantic", "pyarrow", "h5py", "dask"} & set(done.stdout.split())


def test_memory_is_bounded(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 7000)).save(tmp_path / "0.png", compress_level=1)
    row = guarded_probe(tmp_path)
    with pytest.raises(DecoderMemory, match="--limit memory"):
        list(guarded_frames(row, limits=DecodeLimits(memory=1 << 28)))
    assert len(list(guarded_frames(row))) == 1


def test_the_child_leaves_with_its_parent(video: Path, tmp_path: Path) -> None:
    """Also when the parent is killed and its child is in the middle of a video."""
    pid = os.fork()
    if pid == 0:
        try:
            guarded._idle.clear()
            frames = guarded_frames(probe_video(video))
            next(frames)
            (child,) = children()
            (tmp_path / "pid.part").write_text(str(child.pid))
            (tmp_path / "pid.part").rename(tmp_path / "pid")
            time.sleep(600)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 300
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    orphan = int((tmp_path / "pid").read_text())
    while psutil.pid_exists(orphan) and psutil.Process(orphan).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (DecodeLimits(pixels=64 * 96 - 1), "frames of 96 x 64 pixels.*--limit pixels"),
        (DecodeLimits(hours=4 / 3600), "hours, more than.*--limit hours"),
        (DecodeLimits(frames=100), "120 frames, more than the limit of 100.*--limit frames"),
        (DecodeLimits(bytes=1000), "bytes, more than the limit of 1,000.*--limit bytes"),
    ],
)
def test_what_is_over_a_limit_is_refused(limits: DecodeLimits, match: str, video: Path) -> None:
    for probing in (probe_video, guarded_probe):
        with pytest.raises(OverLimit, match=match):
            probing(video, limits=limits)


def test_footage_that_does_not_end_is_given_up(video: Path) -> None:
    """The header may promise little and the decoder give much: it is counted while it decodes."""
    row = replace(probe_video(video), n_frames=1, duration=0.04)
    limits = DecodeLimits(hours=2 / 3600)
    limits.check(row)
    with pytest.raises(OverLimit, match="more than"):
        list(guarded_frames(row, limits=limits))
    with pytest.raises(OverLimit, match="11 frames, more than the limit of 10"):
        list(guarded_frames(row, limits=DecodeLimits(frames=10)))


def test_decoding_that_takes_too_long_is_given_up(video: Path) -> None:
    row, limits = probe_video(video), DecodeLimits(decode_hours=1e-9)
    with pytest.raises(OverLimit, match=r"took more than the limit.*--limit decode_hours"):
        list(guarded_frames(row, limits=limits))
    with pytest.raises(OverLimit, match=f"{video}.*--limit decode_hours"):
        guarded_probe(video, limits=limits)
    with guarded_frames(row, limits=DecodeLimits(decode_hours=60 / 3600)) as frames:
        assert sum(1 for _ in frames) == 120


def test_limits_at_the_limit_are_fine(video: Path) -> None:
    size = video.stat().st_size
    exact = DecodeLimits(pixels=64 * 96, hours=120 / 25 / 3600, bytes=size)
    assert guarded_probe(video, limits=exact).n_frames == 120


def test_an_unexpected_error_names_the_file(video: Path) -> None:
    """A division by zero, here: no crash, and the process goes on."""
    row = probe_video(video)
    odd = replace(row, fps=0.0, flags=("no_timestamps", "sequential_only"), key_frames=None)
    end_idle()
    message = rf"^{video}: ZeroDivisionError in decode\.py, line \d+: .*please report it"
    with pytest.raises(DecodeError, match=message) as raised:
        list(guarded_frames(odd))
    assert type(raised.value) is DecodeError
    (child,) = children()
    assert len(list(guarded_frames(row))) == 120
    assert children() == [child]


@pytest.fixture
def server() -> Iterator[decode_worker._Server]:
    """One in this process, with a deadline that no test comes near; it sends into a pipe."""
    made = object.__new__(decode_worker._Server)
    reader, made._out = os.pipe()
    made._seconds, made._told = 1000.0, time.monotonic()
    made._free, made._slot, made._run = set(), -1, 0
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(reader)
    os.close(made._out)


def left() -> float:
    """Seconds until the kernel kills this process."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_a_file_may_take_longer_than_the_deadline_of_a_packet(
    server: decode_worker._Server, video: Path, tmp_path: Path
) -> None:
    """The deadline is for standing still: a probe of a large file says nothing until its end."""
    seen: list[float] = []

    def beat() -> None:
        signal.setitimer(signal.ITIMER_REAL, 100)  # most of it is over
        server._beat()
        seen.append(left())

    about: dict[str, Any] = {"stamp": "", "decode": True, "image_fps": 25.0}
    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    for path, frames in ((video, 120), (tmp_path, 3)):
        seen.clear()
        row = probe_content(path, "s1-0", limits=DecodeLimits(), hooks=Hooks(beat=beat), **about)
        assert row.decoded and len(seen) >= row.n_frames == frames
        assert min(seen) > 100


def test_the_parent_hears_of_a_long_probe(server: decode_worker._Server) -> None:
    """Four times in each deadline; the parent waits for a quarter more than one."""
    sent: list[int] = []
    server._write = lambda kind, payload: sent.append(kind)  # type: ignore[method-assign]
    server._beat()
    assert sent == []
    server._told -= 251
    server._beat()
    server._beat()
    assert sent == [decode_messages.ALIVE]


def test_a_slow_reader_is_no_hang(
    server: decode_worker._Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all slots are full, no clock runs; it starts again with the next one."""
    waiting: list[float] = []

    def select(*_: Any) -> Any:
        waiting.append(left())
        return [0], [], []

    server._beat()
    with monkeypatch.context() as patch:
        patch.setattr(decode_worker.select, "select", select)
        patch.setattr(decode_worker.os, "read", lambda *_: decode_messages.credit(2))
        assert server._next_slot(4) == 2
    assert waiting == [0.0] and left() > 0


def test_waiting_for_the_reader_is_no_decoding(server: decode_worker._Server) -> None:
    server._request, server._most = {"path": "a.mp4"}, 5.0
    server._begin, server._waited = time.monotonic() - 100, 99.0
    server._beat()
    server._waited = 90.0
    with pytest.raises(OverLimit, match="decode_hours"):
        server._beat()
