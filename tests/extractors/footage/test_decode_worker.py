"""The decoding process, as its parent meets it: limits, deadline, memory, end."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.footage import write_coding
from vadpipe.extractors.footage import guarded
from vadpipe.extractors.footage.errors import DecodeError, DecoderMemory, OverLimit
from vadpipe.extractors.footage.guarded import end_idle, guarded_frames, guarded_probe
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coding("h264-closed-mp4", tmp_path_factory.mktemp("video"), 120)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if guarded.WORKER in p.cmdline()]


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


def test_a_file_may_take_longer_than_the_deadline_of_a_packet(tmp_path: Path) -> None:
    """The deadline is for standing still: a probe of a large file says nothing until its end."""
    rng = np.random.default_rng(0)
    first = tmp_path / "000.png"
    Image.fromarray(rng.integers(0, 256, (700, 900, 3), dtype=np.uint8)).save(first)
    for i in range(1, 240):
        (tmp_path / f"{i:03d}.png").hardlink_to(first)
    begin = time.monotonic()
    row = guarded_probe(tmp_path, decode=True, limits=DecodeLimits(seconds=1.0))
    assert row.n_frames == 240 and row.decoded
    assert time.monotonic() - begin > 1.0, "it took less than the deadline, so it shows nothing"
