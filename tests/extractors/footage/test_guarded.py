"""Decoding in another process: the same frames, and what goes wrong in it stays in it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.footage import write_coding, write_video
from vadpipe.extractors.footage import decode_messages, guarded
from vadpipe.extractors.footage.decode import read_frames, row_for_span
from vadpipe.extractors.footage.errors import (
    DecodeError,
    DecoderCrash,
    DecoderHang,
    DecoderKilled,
    ForbiddenFormat,
    SeekMismatch,
)
from vadpipe.extractors.footage.guarded import end_idle, guarded_frames, guarded_probe
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import Frame


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coding("h264-closed-mp4", tmp_path_factory.mktemp("video"), 120)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if guarded.WORKER in p.cmdline()]


def equal(a: list[Frame], b: list[Frame]) -> bool:
    return len(a) == len(b) and all(
        (x.index, x.pts, x.corrupt) == (y.index, y.pts, y.corrupt)
        and np.array_equal(x.image, y.image)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("name", ["h264-closed-mp4", "hevc-open-ts", "mpeg2-ps", "mjpeg-avi"])
def test_rows_and_frames_are_those_of_this_process(name: str, tmp_path: Path) -> None:
    path = write_coding(name, tmp_path, 60)
    row = guarded_probe(path)
    assert row.to_json() == probe_video(path).to_json()
    for start, stop in ((0, None), (0, 0), (17, 42), (58, None), (60, None), (200, None)):
        with guarded_frames(row, start, stop) as ours, read_frames(row, start, stop) as theirs:
            assert equal(list(ours), list(theirs))
            assert (ours.at_end, ours.cut_off, ours.failed_packets) == (
                theirs.at_end,
                theirs.cut_off,
                theirs.failed_packets,
            )


def test_an_image_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    row = guarded_probe(tmp_path, image_fps=5)
    assert row.to_json() == probe_video(tmp_path, image_fps=5).to_json()
    assert equal(list(guarded_frames(row)), list(read_frames(row)))


def test_rows_of_spans_carry_few_key_frames_and_read_the_same(video: Path) -> None:
    row = probe_video(video)
    assert row.key_frames is not None and len(row.key_frames.index) == 10
    for start in range(0, 120, 7):
        small = row_for_span(row, start, start + 7)
        assert small.key_frames is not None and len(small.key_frames.index) <= 6
        assert equal(list(read_frames(small, start, start + 7)), list(read_frames(row))[start:][:7])


def test_errors_come_over_by_name(tmp_path: Path, video: Path) -> None:
    playlist = tmp_path / "x.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile {video}\n")
    with pytest.raises(ForbiddenFormat, match="playlist"):
        guarded_probe(playlist)
    row = probe_video(video)
    assert row.key_frames is not None
    keys = replace(row.key_frames, pts=row.key_frames.pts + 1)
    with pytest.raises(SeekMismatch):
        list(guarded_frames(replace(row, key_frames=keys)))
    assert len(list(guarded_frames(row))) == 120, "the process goes on after an error"


def test_processes_are_used_again(video: Path) -> None:
    end_idle()
    row = guarded_probe(video)
    (first,) = children()
    for _ in range(3):
        with guarded_frames(row) as frames:
            next(frames)  # and no more: the request is ended
    assert children() == [first]
    two = [guarded_frames(row), guarded_frames(row)]
    assert [next(f).index for f in two] == [0, 0]
    assert len(children()) == 2, "two readers at once need two"
    for frames in two:
        frames.close()
    end_idle()
    assert not children()


def test_readers_in_threads_do_not_mix(video: Path) -> None:
    row = probe_video(video)
    expected = list(read_frames(row))
    right: list[bool] = []

    def read(start: int) -> None:
        right.append(equal(list(guarded_frames(row, start, start + 20)), expected[start:][:20]))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 100, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 10


def test_it_runs_ahead_but_not_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of 64 x 96 are 18 kB: room for 8 is asked for; the child then waits."""
    monkeypatch.setattr(guarded, "QUEUE_BYTES", 8 * 64 * 96 * 3)
    path = write_video(tmp_path / "long.mp4", frames=200)
    row = probe_video(path)
    end_idle()
    with guarded_frames(row) as frames:
        next(frames)
        (child,) = children()
        time.sleep(0.3)
        before = child.cpu_times().user
        time.sleep(0.3)
        assert child.cpu_times().user - before < 0.1, "it decodes on although no process reads"
        assert [f.index for f in frames] == list(range(1, 200))


# ----------------------------------------------------------------------------- what goes wrong


def test_a_hang_is_ended_by_the_kernel(video: Path) -> None:
    """A microsecond is too short for anything, so the first packet already comes too late."""
    row = probe_video(video)
    with pytest.raises(DecoderHang, match="nothing was decoded for 1e-06 seconds"):
        list(guarded_frames(row, limits=DecodeLimits(seconds=1e-6)))
    with pytest.raises(DecoderHang, match="--limit seconds"):
        guarded_probe(video, limits=DecodeLimits(seconds=1e-6))
    assert len(list(guarded_frames(row))) == 120


def test_a_process_that_is_stuck_for_good_is_killed_from_outside(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, it does not even get the kernel's signal. Only then does the parent wait less."""
    end_idle()
    row = guarded_probe(video)
    monkeypatch.setattr(guarded, "QUEUE_BYTES", 4 * 64 * 96 * 3)
    read = guarded._Child._read
    waited: list[float] = []

    def impatient(child: guarded._Child, size: int, seconds: float) -> bytes:
        waited.append(seconds)
        return read(child, size, 0.3)

    with guarded_frames(row, limits=DecodeLimits(seconds=200)) as frames:
        next(frames)
        (child,) = children()
        child.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(guarded._Child, "_read", impatient)
        with pytest.raises(DecoderHang):
            list(frames)
        assert set(waited) == {1.25 * 200 + guarded.GRACE}
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("number", "error", "match"),
    [
        (signal.SIGSEGV, DecoderCrash, "died .signal 11"),
        (signal.SIGABRT, DecoderCrash, "died .signal 6"),
        (signal.SIGKILL, DecoderKilled, "killed from outside"),
    ],
)
def test_a_crash_costs_one_video(
    number: signal.Signals, error: type[DecoderCrash], match: str, video: Path
) -> None:
    row = probe_video(video)
    end_idle()
    with guarded_frames(row) as frames:
        next(frames)
        (child,) = children()
        child.send_signal(number)
        with pytest.raises(error, match=match) as raised:
            list(frames)
        assert type(raised.value) is error
    assert len(list(guarded_frames(row))) == 120


def test_a_reader_that_the_garbage_collector_ends_costs_no_other_video(video: Path) -> None:
    """It ends all of a cycle, in any order: a child that was given back may lose its pipes."""
    end_idle()
    row = probe_video(video)
    for first in (0, 119):
        reader = guarded_frames(row, first)
        next(reader)
        cycle: list[object] = [reader]
        cycle.append(cycle)
        del reader, cycle
        gc.collect()
        assert len(list(guarded_frames(row))) == 120


def test_a_child_without_a_pipe_is_not_used_again(video: Path) -> None:
    row = probe_video(video)
    end_idle()
    list(guarded_frames(row))
    (child,) = guarded._idle
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert len(list(guarded_frames(row))) == 120
    assert child not in guarded._idle and not child.usable


# ------------------------------------------------------------------------------------- limits


def test_unknown_errors_are_still_decode_errors(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "_ERRORS", {})
    playlist = video.parent / "y.mp4"
    playlist.write_text("#EXTM3U\n")
    with pytest.raises(DecodeError):
        guarded_probe(playlist)


@pytest.mark.parametrize(
    "answer",
    [
        (decode_messages.RESULT, b"{nonsense"),
        (decode_messages.RESULT, b'{"n_frames": []}'),
        (decode_messages.ERROR, b"[]"),
        (decode_messages.FRAME, b"short"),
        (decode_messages.FRAME, decode_messages.FRAME_PAYLOAD.pack(0, 0.0, False, 10_000)),
    ],
)
def test_answers_that_mean_nothing_cost_the_process(
    answer: tuple[int, bytes], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = probe_video(video)
    end_idle()
    with monkeypatch.context() as patch:
        patch.setattr(guarded._Child, "_message", lambda child, seconds: answer)
        with pytest.raises(DecoderCrash, match="means nothing"):
            guarded_probe(video)
        if answer[0] == decode_messages.FRAME:
            with pytest.raises(DecoderCrash, match="means nothing"), guarded_frames(row) as frames:
                list(frames)
    assert not children()
    assert len(list(guarded_frames(row))) == 120


def test_a_message_beyond_all_measure_is_not_read(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "MOST_JSON", 10)
    with pytest.raises(DecoderCrash, match="means nothing"):
        guarded_probe(video)


def test_what_cannot_start_leaves_no_file_open(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = probe_video(video)
    end_idle()
    before = psutil.Process().num_fds()
    monkeypatch.setattr(guarded.sys, "executable", "/nowhere/python")
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            guarded_frames(row)
    assert psutil.Process().num_fds() == before


def test_idle_processes_hold_no_pictures(video: Path) -> None:
    row = probe_video(video)
    end_idle()
    with guarded_frames(row) as frames:
        next(frames)
    (child,) = guarded._idle
    assert os.fstat(child._ring_file).st_size == 0
    assert len(list(guarded_frames(row))) == 120


def test_a_process_that_works_on_does_not_hold_up_who_wants_no_more(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says again and again that it is alive, and never looks at what it is told."""
    alive = decode_messages.HEAD.pack(decode_messages.ALIVE, 0)
    monkeypatch.setattr(guarded, "STOP_SECONDS", 0.3)
    with guarded_frames(probe_video(video)) as frames:
        next(frames)
        (child,) = children()
        monkeypatch.setattr(guarded._Child, "_read", lambda self, size, seconds: alive[:size])
        begin = time.monotonic()
    assert time.monotonic() - begin < 60, "it would go on for ever"
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


# ------------------------------------------------------------------------------- lent pictures


@pytest.fixture
def few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight slots for frames of 64 x 96."""
    monkeypatch.setattr(guarded, "QUEUE_BYTES", 6 * 64 * 96 * 3)
    monkeypatch.setattr(guarded, "LENT_BYTES", 2 * 64 * 96 * 3)


@pytest.mark.parametrize(("keep", "run"), [(0, 0), (1, 1), (3, 4), (5, 3), (120, 0)])
def test_lent_pictures_are_the_same(keep: int, run: int, video: Path, few_slots: None) -> None:
    """However many of them the reader keeps, and for how long."""
    row = probe_video(video)
    end_idle()
    kept: list[Frame] = []
    with guarded_frames(row, lend=run) as reader:
        for frame, want in zip(reader, read_frames(row), strict=True):
            assert frame.index == want.index and np.array_equal(frame.image, want.image)
            kept = [*kept, frame][-keep:] if keep else []
    wanted = list(read_frames(row))[120 - len(kept) :]
    assert equal([replace(frame, memory_scarce=False) for frame in kept], wanted)
    views = [frame.image.flags.writeable for frame in kept]
    assert not any(views) if keep < 5 else 1 <= views.count(False) <= 4


def test_the_size_of_a_ring() -> None:
    assert guarded.ring_size(64 * 96 * 3, None) == guarded.ring_size(64 * 96 * 3, 0) == (64, 0)
    full_hd = 1080 * 1920 * 3
    assert guarded.ring_size(full_hd, None) == (21, 0)
    assert guarded.ring_size(full_hd, 0) == (64, 0)
    assert guarded.ring_size(full_hd, 1) == (64, 1)
    assert guarded.ring_size(full_hd, 18) == (54, 18), "clips never lie around the end"
    assert guarded.ring_size(full_hd, 40) == (64, 0), "two of them do not fit"
    assert guarded.ring_size(1 << 30, 2) == (4, 2)


def test_a_child_whose_pictures_are_kept_is_not_used_again(video: Path, few_slots: None) -> None:
    row = probe_video(video)
    end_idle()
    with guarded_frames(row, lend=0) as reader:
        kept = next(reader)
    (first,) = children()
    before = kept.image.copy()
    assert len(list(guarded_frames(row, 60))) == 60
    (second,) = children()
    assert second != first
    np.testing.assert_array_equal(kept.image, before)
    del kept
    with guarded_frames(row, lend=0) as reader:
        next(reader)
    assert children() == [second]
    (child,) = guarded._idle
    assert os.fstat(child._ring_file).st_size == 0


def test_pictures_outlive_the_process_that_wrote_them(video: Path) -> None:
    row = probe_video(video)
    end_idle()
    with guarded_frames(row, lend=0) as reader:
        kept = [next(reader), next(reader)]
    end_idle()
    assert not children()
    assert equal(kept, list(read_frames(row, 0, 2)))
