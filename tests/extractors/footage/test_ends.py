"""Files that hold more than is read: several recordings in one file."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.footage import moving_picture, write_video
from vadpipe.extractors.footage import ends
from vadpipe.extractors.footage.ends import goes_on
from vadpipe.extractors.footage.errors import BrokenContainer
from vadpipe.extractors.footage.probe_file import probe_video


def box(kind: bytes, size: int) -> bytes:
    return (8 + size).to_bytes(4, "big") + kind + bytes(size)


FTYP, MOOV, MDAT = box(b"ftyp", 8), box(b"moov", 40), box(b"mdat", 100)
FLV = b"FLV\x01\x05\0\0\0\x09"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
TS = (b"\x47" + bytes(187)) * 6
PS = b"\0\0\x01\xba" + bytes(20)
NUT = b"nut/multimedia container\0"
MXF = bytes.fromhex("060e2b34020501010d01020101020400") + bytes(20)
Y4M = b"YUV4MPEG2 W96 H64 F25:1\n"
RIFF = b"RIFF" + (60).to_bytes(4, "little") + b"AVI " + bytes(56)
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
        (FTYP + MOOV + MDAT, NUT, True),
        (FTYP + MOOV + MDAT, bytes(9) + TS, True),
        (FLV + bytes(90), bytes(4) + PS, True),
        (FLV + bytes(90), bytes(70) + PS, False),  # too short a mark to be looked for anywhere
        (TS, PS, False),  # perhaps a packet of sound
        (TS, MXF, True),
        (MXF + bytes(90), MXF, False),  # the demuxer reads on
        (Y4M + bytes(90), Y4M, True),
        (RIFF, b"idx1" + bytes(20), False),
        (RIFF, TS, True),
        (MKV + bytes(10), TS, True),
        (NUT + bytes(90), bytes(90), False),
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


def test_a_second_nut_recording_is_found_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demuxer takes it for a packet, so all seems to be read."""
    path = tmp_path / "x"
    monkeypatch.setattr(ends, "TAIL", 30)
    for gap in range(60):
        path.write_bytes(NUT + bytes(gap) + NUT)
        assert goes_on(path, path.stat().st_size)
        path.write_bytes(NUT + bytes(gap) + NUT[:-1])
        assert not goes_on(path, path.stat().st_size)


@pytest.mark.parametrize(("suffix", "codec"), [(".ivf", "libvpx"), (".y4m", "rawvideo")])
def test_other_joined_files(tmp_path: Path, suffix: str, codec: str) -> None:
    one, joined = tmp_path / f"one{suffix}", tmp_path / f"joined{suffix}"
    with av.open(str(one), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(moving_picture(number), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    assert "unread_bytes" not in probe_video(one).flags
    joined.write_bytes(one.read_bytes() * 2)
    if suffix == ".y4m":
        assert "unread_bytes" in probe_video(joined).flags
        return
    with pytest.raises(BrokenContainer, match="another recording follows in the same IVF file"):
        probe_video(joined)


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
