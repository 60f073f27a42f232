"""Decoding: every codec and container frame by frame, threads, damage."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.footage import CODINGS, N, plain_decode, write_video
from vadpipe.extractors.footage import decode, probe_file
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import SeekMismatch
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import Frame, in_order

SOAK = os.environ.get("VADPIPE_SOAK") == "1"

# Seeking cannot be right in these: no usable times, or pictures that need more than three key
# frames of lead. What the probe says of the others is its own business: spans have to be equal.
IN_ORDER = {"h264-closed-avi", "h264-refresh-ts", "mpeg2-ps"}
SEEKABLE = {"h264-closed-mp4", "h264-closed-mkv", "vp8-webm", "vp9-webm", "mjpeg-avi"}


def assert_same(got: list[Frame], want: list[Frame]) -> None:
    assert [(f.index, f.pts, f.corrupt) for f in got] == [(f.index, f.pts, f.corrupt) for f in want]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("name", CODINGS)
def test_spans_equal_decoding_from_the_start(name: str, footage: Callable[[str], Path]) -> None:
    path = footage(name)
    row = probe_video(path)
    whole = list(read_frames(in_order(row)))
    oracle = plain_decode(path)
    assert row.n_frames == len(whole) == len(oracle) == N
    assert all(np.array_equal(f.image, image) for f, image in zip(whole, oracle, strict=True))
    assert [f.index for f in whole] == list(range(N))
    np.testing.assert_allclose([f.pts for f in whole], np.arange(N) / 25, atol=1e-3)
    # Six spans at different distances from a key frame; in the long form the whole video.
    for start in range(0, N, 9 if SOAK else 23):
        stop = None if start + 9 >= N else start + 9
        assert_same(list(read_frames(row, start, stop)), whole[start : start + 9])
    assert row.sequential_only == (row.key_frames is None)
    assert not row.sequential_only or name not in SEEKABLE
    assert row.sequential_only or name not in IN_ORDER


def test_seeks_do_skip_frames(footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch):
    """A span far inside must not cost the decoding of all in front of it."""
    row = probe_video(footage("h264-closed-mp4"))
    decoded: list[int | None] = []
    pictures = decode._pictures

    def counting(*args: object) -> object:
        for picture in pictures(*args):  # type: ignore[arg-type]
            decoded.append(picture.pts)
            yield picture

    monkeypatch.setattr(decode, "_pictures", counting)
    assert [f.index for f in read_frames(row, 100, 104)] == [100, 101, 102, 103]
    assert row.key_frames is not None
    keys = row.key_frames
    lead = keys.pts[np.searchsorted(keys.index, 100, side="right") - 1 - decode.LEAD]
    assert decoded[0] is not None and 0 < decoded[0] <= lead
    assert len(decoded) < 70


@pytest.mark.parametrize("name", ["h264-open-mp4", "hevc-open-mkv", "h264-refresh-mp4"])
def test_threads_change_nothing(name: str, footage: Callable[[str], Path]) -> None:
    row = probe_video(footage(name))
    want = list(read_frames(row, 50, 70, threads=1))
    assert_same(list(read_frames(row, 50, 70, threads=3)), want)


def test_the_probe_finds_what_three_key_frames_of_lead_do_not_cure(
    footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With wrong pixels after a seek (as a decoder without its references gives) it says so."""
    path = footage("h264-closed-mkv")
    assert not probe_video(path).sequential_only
    frames = decode.video_frames

    def smeared(row, start, stop, threads, lead, reading):  # type: ignore[no-untyped-def]
        for frame in frames(row, start, stop, threads, lead, reading):
            wrong = lead == decode.LEAD and frame.index == damaged
            yield replace(frame, image=frame.image ^ 1) if wrong else frame

    monkeypatch.setattr(probe_file, "video_frames", smeared)
    for damaged in (48, 72 + 7, 108):  # noqa: B007 (read by `smeared`)
        row = probe_video(path)
        assert row.sequential_only and row.key_frames is None
        assert row.flags == ("sequential_only",)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_table_that_does_not_fit_is_an_error(shift: int, footage: Callable[[str], Path]) -> None:
    row = probe_video(footage("h264-closed-mp4"))
    keys = row.key_frames
    assert keys is not None
    index = keys.index.copy()
    index[6:] += shift
    moved = replace(row, key_frames=replace(keys, index=index))
    assert len(list(read_frames(moved, 30, 60))) == 30
    with pytest.raises(SeekMismatch, match="key frame"):
        list(read_frames(moved, 60, 90))
    other_times = replace(row, key_frames=replace(keys, pts=keys.pts + 1))
    with pytest.raises(SeekMismatch):
        list(read_frames(other_times, 0, 1))
    late = replace(row, key_frames=replace(keys, dts=keys.dts + 10**9))
    with pytest.raises(SeekMismatch):
        list(read_frames(late, 100, 101))


def test_frames_that_the_decoder_drops_are_noticed(
    footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = probe_video(footage("h264-closed-mp4"))
    refuse, seen = decode.decode_packet, 0

    def dropping(stream, packet, reading):  # type: ignore[no-untyped-def]
        nonlocal seen
        seen += 1
        frames = refuse(stream, packet, reading)
        if seen == 17:
            reading.failed_packets += 1
            reading.after_refused = True
            return []
        return frames

    monkeypatch.setattr(decode, "decode_packet", dropping)
    with pytest.raises(SeekMismatch):
        list(read_frames(row, threads=1))
    seen = 0
    with read_frames(in_order(row), threads=1) as reader:
        frames = list(reader)
        assert reader.failed_packets == 1 and reader.at_end and not reader.cut_off
    assert [f.index for f in frames] == list(range(N - 1))
    assert sum(f.corrupt for f in frames) == 1


def test_too_few_key_frames_to_seek(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", frames=40)
    assert probe_video(path).sequential_only


def test_reading_holds_no_file_after_close(footage: Callable[[str], Path]) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    row = probe_video(footage("vp9-webm"))

    def holds() -> bool:
        links = (entry.readlink() for entry in descriptors.iterdir() if entry.is_symlink())
        return any(str(link) == row.path for link in links)

    reader = read_frames(row, 40)
    assert next(reader).index == 40 and holds()
    reader.close()
    assert not holds() and list(reader) == []
    assert len(list(read_frames(row, 0, 3))) == 3 and not holds()


def test_spans_that_are_empty_or_beyond_the_end(footage: Callable[[str], Path]) -> None:
    row = probe_video(footage("h264-closed-mp4"))
    assert list(read_frames(row, 5, 5)) == []
    beyond = read_frames(row, N + 30)
    assert list(beyond) == [] and beyond.at_end
    for start, stop in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError):
            read_frames(row, start, stop)


def test_the_decoder_is_believed_over_the_row(footage: Callable[[str], Path]) -> None:
    row = replace(probe_video(footage("h264-closed-mp4")), n_frames=100)
    assert len(list(read_frames(row, 90, None))) == N - 90


# --------------------------------------------------------------------------- sizes and streams


def test_a_stream_that_appears_on_the_way_is_no_end(
    footage: Callable[[str], Path], tmp_path: Path
) -> None:
    """One bit of one packet: a transport stream whose table of contents does not know it."""
    data = bytearray(footage("h264-closed-ts").read_bytes())
    begins = [at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x41\x00"]
    data[begins[65] + 1] |= 0x08
    path = tmp_path / "a.ts"
    path.write_bytes(data)
    row = probe_video(path)
    reader = read_frames(in_order(row))
    assert row.n_frames == N - 1 and len(list(reader)) > N - 12
    assert reader.at_end and not reader.cut_off


def test_a_size_beyond_all_reason_is_damage(tmp_path: Path) -> None:
    """FFmpeg calls it want of memory; the frames in front of it are good."""
    path = write_video(
        tmp_path / "a.ivf", frames=40, encoder="libvpx", options={"deadline": "realtime"}
    )
    data = bytearray(path.read_bytes())
    at = 32
    for _ in range(20):
        at += 12 + struct.unpack_from("<I", data, at)[0]
    struct.pack_into("<I", data, at, 2**31)
    path.write_bytes(data)
    row = probe_video(path, decode=True)
    assert "truncated" in row.flags and row.n_frames == 20
    reader = read_frames(row)
    assert len(list(reader)) == row.n_frames and reader.cut_off


def test_want_of_memory_is_no_damage() -> None:
    full = av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")
    decode._not_memory(full, 1 << 20)
    for most in (None, 1 << 62):
        with pytest.raises(MemoryError, match="decoding: Cannot allocate memory"):
            decode._not_memory(full, most)
    decode._not_memory(av.error.InvalidDataError(errno.EIO, "Invalid data"))


@pytest.mark.data
def test_real_surveillance_footage(shared: Path) -> None:
    path = shared / "data" / "footage" / "vtest.avi"
    row = probe_video(path)
    assert (row.n_frames, row.width, row.height, row.fps) == (795, 768, 576, 10.0)
    assert (row.codec, row.container) == ("msmpeg4", "avi") or row.codec.startswith("msmpeg4")
    assert row.duration == pytest.approx(79.5)
    assert set(row.flags) <= {"sequential_only"}  # four key frames: nothing to seek to
    wanted = {10, 249, 250, 255, 760, 794}
    whole = {f.index: f for f in read_frames(in_order(row)) if f.index in wanted}
    assert set(whole) == wanted
    for number in (10, 250, 794):  # each is decoded from the start: there is no nearer key frame
        assert_same(list(read_frames(row, number, number + 1)), [whole[number]])
