"""Files that hold more than is read: several recordings in one file."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.footage import moving_picture, write_video
from vadpipe.extractors.footage.ends import goes_on
from vadpipe.extractors.footage.probe_file import probe_video


def box(kind: bytes, size: int) -> bytes:
    return (8 + size).to_bytes(4, "big") + kind + bytes(size)


FTYP, MOOV, MDAT = box(b"ftyp", 8), box(b"moov", 40), box(b"mdat", 100)
FLV = b"FLV\x01\x05\0\0\0\x09"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
MKV = b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska"


@pytest.mark.parametrize(
    ("first", "rest", "more"),
    [
        (FTYP + MOOV + MDAT, b"", False),
        (FTYP + MDAT, MOOV, False),  # the index at the end
        (FTYP + MOOV + MDAT, box(b"free", 60) + box(b"uuid", 30), False),
        (FTYP + MOOV + MDAT, bytes(5000), False),  # padding
        (FTYP + MDAT, box(b"moov", 400) + b"tail", False),
        (FTYP + MOOV + MDAT, FTYP + MOOV + MDAT, True),
        (FTYP + MDAT, MOOV + FTYP + MDAT, True),  # the second without index
        (FTYP + MOOV + MDAT, FTYP[:12], True),  # it is cut off
        (FTYP + MOOV + MDAT, MKV, True),
        (MOOV + MDAT, MOOV + MDAT, True),  # old files have no ftyp
        (FLV + bytes(90), bytes(15), False),
        (FLV + bytes(90), bytes(4) + FLV + bytes(90), True),
        (ASF + bytes(90), bytes(70) + ASF, True),
        (MKV + bytes(90), FTYP + MOOV, True),
    ],
)
def test_another_recording_in_the_same_file(
    tmp_path: Path, first: bytes, rest: bytes, more: bool
) -> None:
    path = tmp_path / "x"
    path.write_bytes(first + rest)
    assert goes_on(path, len(first)) is more
    assert not goes_on(path, len(first + rest)), "all is read: the demuxer goes on by itself"
    assert not goes_on(path, 0), "where the packets lie is not known"


def test_a_file_of_tiny_boxes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(FTYP + box(b"free", 0) * 20_000)
    assert not goes_on(path, 1)


def test_joined_files_are_flagged(tmp_path: Path) -> None:
    one = write_video(tmp_path / "one.mp4", frames=20)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(one.read_bytes() * 2)
    assert "unread_bytes" not in probe_video(one).flags
    row = probe_video(joined)
    assert row.n_frames == 20 and "unread_bytes" in row.flags


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_more_video_streams_than_the_one_that_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lenses{suffix}"
    with av.open(str(path), "w") as container:
        streams = []
        for _ in range(2):
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
            streams.append(stream)
        for number in range(20):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(moving_picture(number), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    row = probe_video(path)
    assert row.n_frames == 20 and "more_video_streams" in row.flags
