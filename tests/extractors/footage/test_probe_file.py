"""Probing: what a file really is, and files that are no video."""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.footage import CODINGS, N, moving_picture, plain_decode, write_video
from vadpipe.extractors.footage import ends, file_checks, probe_file
from vadpipe.extractors.footage.decode import NO_TIME, read_frames
from vadpipe.extractors.footage.errors import (
    BrokenContainer,
    DecodeError,
    EmptyFile,
    ForbiddenFormat,
    MissingFile,
    NoFrames,
    NotAVideo,
    NoVideoStream,
    OverLimit,
)
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import ProbeRow, Reading, in_order


def test_a_plain_file(footage: Callable[[str], Path]) -> None:
    row = probe_video(footage("h264-closed-mp4"))
    assert row.path == str(footage("h264-closed-mp4"))
    assert (row.kind, row.codec, row.rotation, row.flags) == ("video", "h264", 0, ())
    assert (row.n_frames, row.decoded, row.height, row.width) == (N, False, 64, 96)
    assert row.fps == 25.0 and row.duration == pytest.approx(N / 25)
    assert "mp4" in row.container
    assert row.key_frames is not None
    assert row.key_frames.index.tolist() == list(range(0, N, 12))
    assert row.key_frames.dts.dtype == row.key_frames.pts.dtype == np.int64
    assert probe_video(footage("h264-closed-mp4"), decode=True).decoded


def test_variable_rate(tmp_path: Path) -> None:
    steps = np.random.default_rng(1).choice([20, 40, 100], 79)
    times = [0, *np.cumsum(steps).tolist()]
    options = dict(CODINGS["h264-closed-mkv"][2])
    path = write_video(tmp_path / "v.mkv", frames=80, options=options, times=times)
    row = probe_video(path)
    assert row.flags == ("variable_rate",)
    np.testing.assert_allclose([f.pts for f in read_frames(row)], np.array(times) / 1000)
    np.testing.assert_allclose([f.pts for f in read_frames(row, 60)], np.array(times[60:]) / 1000)
    assert row.fps == pytest.approx(79 / times[-1] * 1000)


@pytest.mark.parametrize(
    ("timing", "flagged"),
    [
        ({"rate": 5000}, True),
        ({"times": [200_000 * i for i in range(20)]}, True),  # in ms
        ({"rate": 240}, False),
        ({"times": [60_000 * i for i in range(20)]}, False),
    ],
)
def test_rates_that_no_camera_has_are_flagged(
    tmp_path: Path, timing: dict[str, Any], flagged: bool
) -> None:
    row = probe_video(write_video(tmp_path / "v.mp4", frames=20, **timing))
    assert ("implausible_rate" in row.flags) == flagged, row.fps


def test_rounded_times_are_no_variable_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=60, rate=30)  # 33, 34, 33 ms
    row = probe_video(path)
    assert "variable_rate" not in row.flags and row.fps == pytest.approx(30, rel=1e-3)


@pytest.mark.parametrize(("rotate", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied_once(rotate: int, turns: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "r.mp4", frames=20, rotate=rotate)
    row = probe_video(path)
    assert "rotated" in row.flags and row.rotation == -rotate % 360
    stored = plain_decode(path)[7]
    frame = next(read_frames(row, 7))
    assert frame.image.shape == (row.height, row.width, 3) == np.rot90(stored, turns).shape
    assert np.array_equal(frame.image, np.rot90(stored, turns))


def test_a_mirrored_matrix_is_flagged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "m.mp4", frames=20)
    data = path.read_bytes()
    unit = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(unit, data.index(b"tkhd"))
    mirror = struct.pack(">9i", -1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + mirror + data[at + 36 :])
    assert "mirrored" in probe_video(path).flags


def test_short_videos_are_flagged(tmp_path: Path) -> None:
    assert "short" in probe_video(write_video(tmp_path / "15.mp4", frames=15)).flags
    assert "short" not in probe_video(write_video(tmp_path / "16.mp4", frames=16)).flags
    row = probe_video(write_video(tmp_path / "1.mp4", frames=1))
    assert row.n_frames == 1 and row.duration == pytest.approx(1 / 25)


def test_a_size_that_changes(tmp_path: Path) -> None:
    """Two MPEG-2 programs one after the other: the second is twice as wide."""
    small = write_video(tmp_path / "a.mpg", frames=20, encoder="mpeg2video")
    pictures = [moving_picture(i, 64, 192) for i in range(20)]
    large = write_video(tmp_path / "b.mpg", frames=pictures, encoder="mpeg2video")
    both = tmp_path / "both.mpg"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    row = probe_video(both, decode=True)
    assert {"size_changes", "sequential_only"} <= set(row.flags)
    frames = list(read_frames(row))
    assert len(frames) == row.n_frames >= 39  # FFmpeg drops the last one of the first program
    assert {f.image.shape for f in frames} == {(64, 96, 3)}


def cut(path: Path, share: float, target: Path) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.mark.parametrize("name", ["h264-closed-mkv", "mjpeg-avi", "mpeg4-avi", "h264-closed-ts"])
def test_truncated_files(name: str, footage: Callable[[str], Path], tmp_path: Path) -> None:
    path = cut(footage(name), 0.7, tmp_path / footage(name).name)
    row = probe_video(path, decode=True)
    assert "truncated" in row.flags
    assert N / 3 < row.n_frames < N
    assert len(list(read_frames(row))) == row.n_frames
    assert "truncated" not in probe_video(footage(name)).flags


def test_recordings_that_were_never_finished(
    footage: Callable[[str], Path], tmp_path: Path
) -> None:
    data = bytearray(footage("mjpeg-avi").read_bytes())
    data[4:8] = bytes(4)  # the RIFF size is filled in at the end
    (tmp_path / "a.avi").write_bytes(data)
    assert "truncated" in probe_video(tmp_path / "a.avi").flags
    data = bytearray(footage("h264-closed-mkv").read_bytes())
    at = data.index(ends.MATROSKA_SEGMENT) + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7  # a live recording: the size is unknown
    (tmp_path / "live.mkv").write_bytes(data)
    assert probe_video(tmp_path / "live.mkv").flags == ()
    killed = cut(tmp_path / "live.mkv", 0.7, tmp_path / "killed.mkv")
    assert "truncated" in probe_video(killed).flags


def test_truncated_mp4(footage: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(BrokenContainer, match="moov"):
        probe_video(cut(footage("h264-closed-mp4"), 0.6, tmp_path / "no-moov.mp4"))
    fast = tmp_path / "fast.mp4"  # the index in front
    with (
        av.open(str(footage("h264-closed-mp4"))) as source,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    assert probe_video(fast).flags == ()
    assert "truncated" in probe_video(cut(fast, 0.6, tmp_path / "cut.mp4")).flags


def test_a_header_that_lies(footage: Callable[[str], Path], tmp_path: Path) -> None:
    data = bytearray(footage("mjpeg-avi").read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream header
    assert struct.unpack_from("<I", data, at) == (N,)
    struct.pack_into("<I", data, at, 4 * N)
    path = tmp_path / "lie.avi"
    path.write_bytes(data)
    row = probe_video(path)
    assert {"header_mismatch", "truncated"} <= set(row.flags) and row.n_frames == N


@pytest.mark.parametrize("name", ["h264-closed-mp4", "mpeg4-avi", "mpeg2-ts"])
def test_flipped_bits(name: str, footage: Callable[[str], Path], tmp_path: Path) -> None:
    data = bytearray(footage(name).read_bytes())
    rng = np.random.default_rng(3)
    for at in rng.integers(len(data) // 4, len(data) * 3 // 4, 12):
        data[at] ^= 1 << int(rng.integers(8))
    path = tmp_path / footage(name).name
    path.write_bytes(data)
    row = probe_video(path, decode=True)
    assert "corrupt_frames" in row.flags
    reader = read_frames(in_order(row))
    frames = list(reader)
    assert len(frames) == row.n_frames
    assert any(f.corrupt for f in frames) and not all(f.corrupt for f in frames)
    assert reader.at_end


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damage_is_a_typed_error_or_frames(
    seed: int, footage: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    source = footage(str(rng.choice(["h264-closed-mp4", "h264-closed-mkv", "mjpeg-avi"])))
    data = bytearray(source.read_bytes()[: int(rng.integers(1, source.stat().st_size + 1))])
    for _ in range(int(rng.integers(0, 30))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    path = tmp_path_factory.getbasetemp() / f"damaged{source.suffix}"
    path.write_bytes(data)
    try:
        row = probe_video(path)
        frames = list(read_frames(in_order(row)))
    except DecodeError as error:
        assert str(path) in str(error)
    else:
        assert [f.index for f in frames] == list(range(len(frames)))
        assert all(f.image.shape == (row.height, row.width, 3) for f in frames)


# ----------------------------------------------------------------------- files that are no video


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        probe_video(tmp_path / "absent.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(EmptyFile):
        probe_video(tmp_path / "empty.mp4")
    row = ProbeRow("/nowhere/a.mp4", "s1-", "video", 9, False, 25, 8, 8, 0, 1, "h264", "mov")
    with pytest.raises(MissingFile):
        list(read_frames(row))


@pytest.mark.parametrize(
    "content",
    [b"I am no video.\n" * 200, bytes(50_000), np.random.default_rng(0).bytes(50_000)],
    ids=["text", "zeros", "noise"],
)
@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.bin"])
def test_content_that_is_no_video(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((NotAVideo, NoFrames, NoVideoStream)):
        probe_video(path)


def playlists(real: Path, segment: Path) -> dict[str, str]:
    return {
        "ffconcat": f"ffconcat version 1.0\nfile '{real}'\n",
        "ffconcat-relative": f"ffconcat version 1.0\nfile {real.name}\n",
        "concat": f"file '{real}'\n",
        "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
        f"{segment}\n#EXT-X-ENDLIST\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f"<Period><BaseURL>{real}</BaseURL></Period></MPD>",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".ffconcat", ".m3u8", ".mpd", ".avi"])
@pytest.mark.parametrize("kind", list(playlists(Path("a"), Path("b"))))
def test_playlists_never_open_other_files(
    kind: str, suffix: str, footage: Callable[[str], Path]
) -> None:
    real, segment = footage("h264-closed-mp4"), footage("h264-closed-ts")
    path = real.parent / f"playlist-{kind}{suffix}"
    path.write_text(playlists(real, segment)[kind])
    if kind == "ffconcat":  # the bait does work where nothing forbids it
        with av.open(str(path), container_options={"safe": "0"}) as container:
            assert len(list(container.decode(video=0))) == N
    with pytest.raises((ForbiddenFormat, NotAVideo)) as caught:
        probe_video(path)
    assert (caught.type is ForbiddenFormat) == (kind != "concat")
    # A row that was probed while the file was a real video opens nothing either.
    old = replace(probe_video(real), path=str(path), stamp="")
    with pytest.raises((ForbiddenFormat, NotAVideo)):
        list(read_frames(old))


def test_image_patterns_are_no_video(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(moving_picture(number)).save(tmp_path / f"{number:03d}.png")
    with pytest.raises(MissingFile):
        probe_video(tmp_path / "%03d.png")
    with pytest.raises(ForbiddenFormat):
        probe_video(tmp_path / "000.png")


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for number in range(10):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.rate, frame.pts = 8000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoVideoStream):
        probe_video(path)
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(ForbiddenFormat):
        probe_video(sound)


def test_very_many_key_frames_are_thinned(
    footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every picture is a key frame; spans are found by those that are left."""
    path = footage("mjpeg-avi")
    whole = probe_video(path)
    assert whole.key_frames is not None and len(whole.key_frames.index) == N
    monkeypatch.setattr(probe_file, "KEY_FRAMES", 50)
    monkeypatch.setattr(probe_file, "KEY_STEP", 10)
    row = probe_video(path)
    assert row.key_frames is not None and row.flags == whole.flags
    assert row.key_frames.index.tolist() == list(range(0, N, 10))
    assert row.key_frames.pts.tolist() == whole.key_frames.pts[::10].tolist()
    expected = plain_decode(path)
    for start in (0, 37, 71, N - 1):
        frames = list(read_frames(row, start, start + 5))
        assert [f.index for f in frames] == list(range(start, min(N, start + 5)))
        assert all(np.array_equal(f.image, expected[f.index]) for f in frames)


def write_raw_mov(path: Path, frames: int, ticks: int) -> Path:
    """A QuickTime file whose header lists frames of 2 x 2 pixels, `ticks` a second; all holes."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", len(body) + 8) + kind + body

    def full(kind: bytes, *numbers: int) -> bytes:
        return box(kind, bytes(4), struct.pack(f">{len(numbers)}I", *numbers))

    entry = box(
        b"raw ", struct.pack(">6xH16xHHIIIH32xHh", 1, 2, 2, 72 << 16, 72 << 16, 0, 1, 24, -1)
    )
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        full(b"stts", 1, frames, 1),
        full(b"stsc", 1, 1, frames, 1),
        full(b"stsz", 12, frames),
        full(b"stco", 1, 4096),
    )
    links = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", b"\0\0\0\1")))
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, ticks, frames, 0),
        full(b"hdlr", 0, int.from_bytes(b"vide"), 0, 0, 0),
        box(b"minf", box(b"vmhd", bytes(12)), links, table),
    )
    size = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000, 2 << 16, 2 << 16]
    track = box(b"trak", full(b"tkhd", 0, 0, 1, 0, frames, *[0] * 4, *size), media)
    movie = box(b"moov", full(b"mvhd", 0, 0, ticks, frames, *[0] * 20), track)
    with path.open("wb") as file:
        file.write(box(b"ftyp", b"qt  \0\0\0\0qt  ") + movie + struct.pack(">I", 0) + b"mdat")
        file.truncate(4096 + 12 * frames)
    return path


def test_a_header_that_lists_too_many_frames_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe_video(write_raw_mov(tmp_path / "a.mov", 20, 25)).n_frames == 20
    monkeypatch.delattr(probe_file, "packets")
    with pytest.raises(OverLimit, match=r"20 frames, .*--limit frames=N"):
        probe_video(tmp_path / "a.mov", limits=DecodeLimits(frames=19))
    dense = write_raw_mov(tmp_path / "b.mov", 1_000_001, 1_000_000)
    with pytest.raises(OverLimit, match=r"1,000,001 frames at 1,000,000 a second.*rate=N"):
        probe_video(dense)


def test_a_file_that_turns_out_too_dense_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matroska lists no frames. Ten of them are many here; the last of 11 is shown at 12 ms."""
    times = [*range(25), *range(10_000, 20_000, 1000)]
    path = write_video(tmp_path / "v.mkv", frames=35, times=times)
    for module in (probe_file, file_checks):
        monkeypatch.setattr(module, "DENSE", 10)
    assert probe_video(path, limits=DecodeLimits(rate=2000)).n_frames == 35
    with pytest.raises(OverLimit, match="11 frames at 917 a second"):
        probe_video(path, limits=DecodeLimits(rate=500))


def test_times_that_start_again_make_no_file_dense() -> None:
    """A camera was restarted after 4 seconds, and one packet has no time."""
    millisecond = Fraction(1, 1000)
    survey = probe_file._Survey("mjpeg", "avi", millisecond, None, 0, None, False, Reading())
    survey.pts.extend([*range(0, 4000, 40), NO_TIME, *range(0, 400, 40)])
    assert survey.rate_at_most() == pytest.approx(111 / 3.96)
    survey.pts = survey.pts[100:101]
    assert survey.rate_at_most() == 0, "no packet has a time"


def survey_of(pts: Any, dts: Any = (), decoded: Any = ()) -> Any:
    made = probe_file._Survey("h264", "avi", Fraction(1, 1000), None, 0, None, False, Reading())
    made.pts.extend(pts)
    made.dts.extend(dts or pts)
    made.decoded_pts.extend(decoded)
    made.marks.extend([probe_file.SHOWN] * len(made.pts))
    return made


@pytest.mark.parametrize(
    ("times", "flags"),
    [
        (([0, 40, NO_TIME],), ["no_timestamps"]),
        (([0, 40, 40],), ["odd_timestamps"]),
        (([0, 40, 80], [0, 80, 40]), ["odd_timestamps"]),  # decoding times fall
        (([0, 40, 80], [0, 40, 80], [0, 80, 40]), ["odd_timestamps"]),  # as H.264 in AVI
        (([0, 100, 200, 310],), []),
        (([0, 100, 200, 311],), ["variable_rate"]),
    ],
)
def test_what_times_say(times: Any, flags: list[str]) -> None:
    survey = survey_of(*times)
    assert list(probe_file._timing_flags(survey, survey.shown_pts())) == flags


def test_a_header_that_declares_more() -> None:
    survey = survey_of([0])
    for milliseconds, seconds, more in (
        *((101_000, 100, False), (101_001, 100, True)),
        *((202_000, 200, False), (202_001, 200, True)),
    ):
        survey.header_duration = milliseconds
        assert probe_file._declares_more(survey, float(seconds)) is more
