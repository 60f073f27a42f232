from __future__ import annotations

import hashlib
import io
import struct
import wave
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.footage import CODINGS, moving_picture, write_coding, write_video
from vadpipe.extractors import decode
from vadpipe.extractors.decode import (
    BrokenContainer,
    Clip,
    ClipAssembler,
    ClipRule,
    DecodeError,
    EmptyFile,
    ForbiddenFormat,
    Frame,
    FrameOrderError,
    MissingFile,
    MixedSizes,
    NoFrames,
    NotAVideo,
    NoVideoStream,
    ProbeRow,
    SeekMismatch,
    Span,
    Tail,
    UnreadableImage,
    UnsafeLink,
    clip_count,
    content_id,
    in_order,
    list_images,
    plan_spans,
    probe_video,
    read_frames,
)

N = 120

# Seeking cannot be right in these: no usable times, or pictures that need more than three key
# frames of lead. What the probe says of the others is its own business: spans have to be equal.
IN_ORDER = {"h264-closed-avi", "h264-refresh-ts", "mpeg2-ps"}
SEEKABLE = {"h264-closed-mp4", "h264-closed-mkv", "vp8-webm", "vp9-webm", "mjpeg-avi"}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write each coding once; the tests must not change the files."""
    folder = tmp_path_factory.mktemp("footage")
    written: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in written:
            written[name] = write_coding(name, folder, N)
        return written[name]

    return get


def plain_decode(path: Path) -> list[np.ndarray]:
    """Every frame by PyAV's own loop: the oracle for pixels."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def assert_same(got: list[Frame], want: list[Frame]) -> None:
    assert [(f.index, f.pts, f.corrupt) for f in got] == [(f.index, f.pts, f.corrupt) for f in want]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(got, want, strict=True))


# ------------------------------------------------------------------- spans against the whole


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
    for start in range(0, N, 9):
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
    frames = decode._video_frames

    def smeared(row, start, stop, threads, lead, faults):  # type: ignore[no-untyped-def]
        for frame in frames(row, start, stop, threads, lead, faults):
            wrong = lead == decode.LEAD and frame.index == damaged
            yield replace(frame, image=frame.image ^ 1) if wrong else frame

    monkeypatch.setattr(decode, "_video_frames", smeared)
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
    refuse, seen = decode._decode, 0

    def dropping(stream, packet, faults):  # type: ignore[no-untyped-def]
        nonlocal seen
        seen += 1
        frames = refuse(stream, packet, faults)
        if seen == 17:
            faults.packets += 1
            faults.pending = True
            return []
        return frames

    monkeypatch.setattr(decode, "_decode", dropping)
    with pytest.raises(SeekMismatch):
        list(read_frames(row, threads=1))
    seen = 0
    with read_frames(in_order(row), threads=1) as reader:
        frames = list(reader)
        assert reader.failed_packets == 1 and reader.at_end and not reader.cut_off
    assert [f.index for f in frames] == list(range(N - 1))
    assert sum(f.corrupt for f in frames) == 1


def test_short_of_one_span_nothing_is_checked(footage: Callable[[str], Path]) -> None:
    path = footage("h264-closed-mp4")
    row = probe_video(path, seek_check_frames=N)
    assert row.key_frames is None and not row.sequential_only
    assert_same(list(read_frames(row, 40, 44)), list(read_frames(probe_video(path), 40, 44)))
    assert probe_video(path, seek_check_frames=N - 1).key_frames is not None


def test_too_few_key_frames_to_seek(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", frames=40)
    assert probe_video(path).sequential_only
    assert not probe_video(path, seek_check_frames=40).sequential_only


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


@pytest.mark.data
def test_real_surveillance_footage(shared: Path) -> None:
    path = shared / "data" / "footage" / "vtest.avi"
    row = probe_video(path, seek_check_frames=1)
    assert (row.n_frames, row.width, row.height, row.fps) == (795, 768, 576, 10.0)
    assert (row.codec, row.container) == ("msmpeg4", "avi") or row.codec.startswith("msmpeg4")
    assert row.duration == pytest.approx(79.5)
    assert set(row.flags) <= {"sequential_only"}  # four key frames: nothing to seek to
    wanted = {10, 249, 250, 255, 760, 794}
    whole = {f.index: f for f in read_frames(in_order(row)) if f.index in wanted}
    assert set(whole) == wanted
    for number in (10, 250, 760, 794):
        assert_same(list(read_frames(row, number, number + 1)), [whole[number]])


# ------------------------------------------------------------------------------------- probing


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


def test_rounded_times_are_no_variable_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=60, rate=30)  # 33, 34, 33 ms
    row = probe_video(path, seek_check_frames=60)
    assert row.flags == () and row.fps == pytest.approx(30, rel=1e-3)


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
    at = data.index(decode.MATROSKA_SEGMENT) + 4
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
    old = replace(probe_video(real), path=str(path))
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


# ------------------------------------------------------------------------------------ identity


def test_content_ids_by_their_definition(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(5 * (1 << 20) + 12345)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    mib, room = 1 << 20, len(data) - (2 << 20) - 65536
    starts = [mib + room * i // 15 for i in range(16)]
    assert starts[0] == mib and starts[-1] + 65536 == len(data) - mib  # the blocks span the middle
    sample = len(data).to_bytes(8, "little") + data[:mib] + data[-mib:]
    sample += b"".join(data[start : start + 65536] for start in starts)
    assert content_id(path) == "s1-" + hashlib.sha256(sample).hexdigest()[:40]
    assert content_id(path, "full") == "f1-" + hashlib.sha256(data).hexdigest()[:40]
    small = tmp_path / "b.bin"
    small.write_bytes(data[:1000])
    want = hashlib.sha256((1000).to_bytes(8, "little") + data[:1000]).hexdigest()[:40]
    assert content_id(small) == "s1-" + want


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    data = bytearray(3 << 20)
    ids = set()
    for at in (0, 1 << 20, (3 << 20) // 2 + 7, (3 << 20) - 1):
        data[at] ^= 1
        path.write_bytes(data)
        ids.add(content_id(path))
    assert len(ids) == 4


def test_folder_ids_follow_content_and_order(tmp_path: Path) -> None:
    def folder(name: str, numbers: list[int], names: str = "{}.png") -> str:
        path = tmp_path / name
        path.mkdir()
        for place, number in enumerate(numbers):
            Image.fromarray(moving_picture(number)).save(path / names.format(place))
        return content_id(path)

    first = folder("a", [0, 1, 2])
    assert first == folder("b", [0, 1, 2], "frame_{:05d}.png")
    assert len({first, folder("c", [0, 2, 1]), folder("d", [0, 1]), folder("e", [0, 1, 2, 3])}) == 4
    assert content_id(tmp_path / "a", "full").startswith("f1-")


# ------------------------------------------------------------------------------- image folders


def image_folder(path: Path, numbers: list[int], pattern: str = "img{}.png") -> Path:
    path.mkdir()
    for number in numbers:
        Image.fromarray(moving_picture(number)).save(path / pattern.format(number))
    return path


def test_images_are_a_video(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", list(range(1, 21)))
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "sub.png").mkdir()
    row = probe_video(folder, image_fps=10)
    assert (row.kind, row.container, row.codec, row.flags) == ("images", "images", "png", ())
    assert (row.n_frames, row.height, row.width, row.fps, row.duration) == (20, 64, 96, 10, 2.0)
    frames = list(read_frames(row, 4, 12))
    assert [f.index for f in frames] == list(range(4, 12))
    assert [f.pts for f in frames] == [i / 10 for i in range(4, 12)]
    # Natural order: img10 comes behind img9.
    assert all(np.array_equal(f.image, moving_picture(f.index + 1)) for f in frames)
    reader = read_frames(row, 18)
    assert len(list(reader)) == 2 and reader.at_end
    assert probe_video(folder, decode=True).decoded
    (folder / "img3.png").unlink()
    with pytest.raises(DecodeError, match="probe"):
        list(read_frames(row))


def test_gaps_in_the_numbers(tmp_path: Path) -> None:
    assert probe_video(image_folder(tmp_path / "a", [1, 2, 4])).flags == ("gaps", "short")
    names = image_folder(tmp_path / "b", [0, 1], "{}-of-2.png")
    assert "gaps" in probe_video(names).flags  # the last number of a name counts
    unnumbered = image_folder(tmp_path / "c", [1])
    (unnumbered / "img1.png").rename(unnumbered / "only.png")
    assert probe_video(unnumbered).flags == ("short",)


@given(st.lists(st.text("ab019_", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_natural_order_is_total_and_numeric(names: list[str]) -> None:
    ordered = sorted(names, key=lambda name: (decode._natural(name), name))
    assert sorted(reversed(names), key=lambda name: (decode._natural(name), name)) == ordered
    numbers = [name for name in ordered if name.isdecimal()]
    assert [int(name) for name in numbers] == sorted(int(name) for name in numbers)


def test_images_of_two_sizes(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", [1, 2])
    Image.fromarray(moving_picture(3, 32, 32)).save(folder / "img3.png")
    with pytest.raises(MixedSizes, match=r"img3\.png"):
        probe_video(folder)


def test_unreadable_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "v", [1, 2, 3])
    whole = (folder / "img2.png").read_bytes()
    (folder / "img2.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        probe_video(folder)
    (folder / "img2.png").write_bytes(whole[: len(whole) // 2])
    row = probe_video(folder)  # the header is whole
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        list(read_frames(row))
    with pytest.raises(UnreadableImage, match=r"img2\.png"):
        probe_video(folder, decode=True)


def test_folders_without_images_and_links(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoFrames):
        probe_video(tmp_path / "empty")
    folder = image_folder(tmp_path / "v", [1, 2])
    (folder / "img3.png").symlink_to(folder / "img1.png")
    assert probe_video(folder).n_frames == 3
    (tmp_path / "linked").symlink_to(folder)
    assert len(list_images(tmp_path / "linked")) == 3
    other = image_folder(tmp_path / "w", [9])
    (folder / "img4.png").symlink_to(other / "img9.png")
    with pytest.raises(UnsafeLink):
        probe_video(folder)


def as_file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pixel_formats_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    eight = (grey >> 8).astype(np.uint8)
    rgb = moving_picture(0)
    palette = Image.fromarray(rgb).quantize(16)
    alpha = Image.fromarray(np.dstack([rgb, eight]), "RGBA")
    stencil = Image.fromarray(eight > 100)
    cases = [
        (as_file(Image.fromarray(grey), "PNG"), ".png", np.dstack([eight] * 3)),
        (as_file(Image.fromarray(grey), "TIFF"), ".tif", np.dstack([eight] * 3)),
        (as_file(Image.fromarray(eight), "BMP"), ".bmp", np.dstack([eight] * 3)),
        (as_file(palette, "PNG"), ".png", np.array(palette.convert("RGB"))),
        (as_file(alpha, "PNG"), ".png", rgb),
        (as_file(stencil, "PNG"), ".png", np.dstack([(eight > 100) * np.uint8(255)] * 3)),
        (as_file(Image.fromarray(rgb), "TIFF"), ".TIFF", rgb),
    ]
    for place, (data, suffix, want) in enumerate(cases):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / f"0{suffix}").write_bytes(data)
        (frame,) = read_frames(probe_video(folder))
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, want, err_msg=str(place))


def test_numbers_that_are_no_pixels(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        values = Image.fromarray(np.full((8, 8), 70_000, kind))
        (folder / "0.tif").write_bytes(as_file(values, "TIFF"))
        with pytest.raises(UnreadableImage, match="no picture"):
            list(read_frames(probe_video(folder)))


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    for decode_all in (False, True):
        folder = tmp_path / str(decode_all)
        folder.mkdir()
        data = as_file(Image.fromarray(moving_picture(0)), "PNG", exif=exif)
        (folder / "0.png").write_bytes(data)
        row = probe_video(folder, decode=decode_all)
        assert (row.height, row.width) == (96, 64)
        (frame,) = read_frames(row)
        np.testing.assert_array_equal(frame.image, np.rot90(moving_picture(0), -1))


# ------------------------------------------------------------------------- clips, tails, spans


def numbered(number: int) -> Frame:
    return Frame(number, number / 10, np.full((1, 1, 3), number % 251, np.uint8))


def assemble(rule: ClipRule, span: Span, n_frames: int) -> list[Clip]:
    """What the engine does: push from `first_frame` until done or the video ends."""
    assembler = ClipAssembler(rule, span)
    clips = []
    for number in range(assembler.first_frame, n_frames):
        if assembler.done:
            break
        clips += assembler.push(numbered(number))
    if not assembler.done:
        clips += assembler.finish()
    assert assembler.done and assembler.finish() == []
    return clips


def slow_clips(n: int, rule: ClipRule) -> list[tuple[int, int, list[int]]]:
    """(start, stop, source numbers) of every clip of a video, from the definition."""
    clips = []
    for start in range(0, n, rule.stride):
        if rule.tail == "drop" and start + rule.length > n:
            continue
        if rule.tail == "loop" and start > 0:
            covered = start - rule.stride + rule.length  # by the clip before
            if covered >= n:
                continue
        real = [i for i in range(start, start + rule.length) if i < n]
        core = list(real)
        while len(core) < rule.length:
            core.append(real[(len(core)) % len(real)])
        before = [max(i, 0) for i in range(start - rule.before, start)]
        after = [
            min(i, n - 1) for i in range(start + rule.length, start + rule.length + rule.after)
        ]
        clips.append((start, start + len(real), before + core + after))
    return clips


rules = st.builds(
    ClipRule,
    length=st.integers(1, 9),
    stride=st.integers(1, 12),
    tail=st.sampled_from(["loop", "drop"]),
    before=st.integers(0, 7),
    after=st.integers(0, 7),
)


@settings(max_examples=300, deadline=None)
@given(n=st.integers(0, 50), rule=rules, span_frames=st.integers(1, 60), lie=st.integers(-20, 20))
@example(n=17, rule=ClipRule(16, 16, "loop"), span_frames=16, lie=0)
@example(n=16, rule=ClipRule(16, 16, "loop", 3, 3), span_frames=5, lie=16)
def test_the_size_of_a_span_changes_nothing(
    n: int, rule: ClipRule, span_frames: int, lie: int
) -> None:
    """Spans planned for n + lie frames (headers lie) of a video of n give the oracle's clips."""
    spans = plan_spans("s1-x", max(0, n + lie), span_frames)
    clips = [clip for span in spans for clip in assemble(rule, span, n)]
    want = slow_clips(n, rule)
    assert [(c.frame_start, c.frame_stop, c.index.tolist()) for c in clips] == want
    assert clip_count(n, rule) == len(want)
    for clip in clips:
        assert clip.index.dtype == np.int64 and clip.frames.dtype == np.uint8
        assert clip.frames.shape == (rule.before + rule.length + rule.after, 1, 1, 3)
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], clip.index % 251)
        np.testing.assert_array_equal(clip.pts, clip.index / 10)


@given(n=st.integers(0, 400), length=st.integers(1, 40))
def test_counts_are_ceil_and_floor(n: int, length: int) -> None:
    assert clip_count(n, ClipRule(length, length, "loop")) == -(-n // length)
    assert clip_count(n, ClipRule(length, length, "drop")) == n // length


@given(n=st.integers(1, 60), rule=rules)
def test_a_loop_covers_every_frame_that_a_clip_can_hold(n: int, rule: ClipRule) -> None:
    loop = replace(rule, tail="loop", before=0, after=0)
    covered = {i for _, _, index in slow_clips(n, loop) for i in index}
    holdable = {i for i in range(n) if i % loop.stride < loop.length or loop.stride <= loop.length}
    assert covered == holdable


def test_the_tail_by_hand() -> None:
    (first, last) = assemble(ClipRule(4, 4, "loop", 1, 2), Span("x", 0, 6, True), 6)
    assert first.index.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert last.index.tolist() == [3, 4, 5, 4, 5, 5, 5]
    assert (last.frame_start, last.frame_stop) == (4, 6)
    (only,) = assemble(ClipRule(8, 8, "loop"), Span("x", 0, 3, True), 3)
    assert only.index.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert assemble(ClipRule(8, 8, "drop"), Span("x", 0, 3, True), 3) == []


def test_frames_have_to_come_in_order() -> None:
    rule, span = ClipRule(4, 4, before=2), Span("x", 8, 16, False)
    assembler = ClipAssembler(rule, span)
    assert assembler.first_frame == 6
    for wrong in (0, 5, 7, 8):
        with pytest.raises(FrameOrderError, match="6"):
            assembler.push(numbered(wrong))
    assembler.push(numbered(6))
    with pytest.raises(FrameOrderError):
        assembler.push(numbered(6))
    assembler.finish()
    with pytest.raises(FrameOrderError, match="end"):
        assembler.push(numbered(7))


@pytest.mark.parametrize("stride", [1, 4, 9])
def test_the_buffer_holds_one_clip_and_its_context(stride: int) -> None:
    rule = ClipRule(4, stride, before=2, after=3)
    assembler = ClipAssembler(rule, Span("x", 0, 500, True))
    held = 0
    for number in range(500):
        assembler.push(numbered(number))
        held = max(held, len(assembler._buffer))
    assert held <= 2 + 4 + 3


def test_a_span_without_a_clip_start_is_done_at_once() -> None:
    assert ClipAssembler(ClipRule(4, 20), Span("x", 5, 15, False)).done


@given(n=st.integers(0, 300), span_frames=st.integers(1, 100))
def test_spans_tile_the_video(n: int, span_frames: int) -> None:
    spans = plan_spans("s1-x", n, span_frames)
    assert [s.last for s in spans] == [False] * (len(spans) - 1) + [True]
    assert spans[0].frame_start == 0 and spans[-1].frame_stop == n
    assert all(s.frame_start % span_frames == 0 for s in spans)
    assert all(a.frame_stop == b.frame_start for a, b in pairwise(spans))
    assert all(s.frame_stop - s.frame_start <= span_frames for s in spans)
    assert len(spans) == max(1, -(-n // span_frames))


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"stride": 0}, {"before": -1}, {"after": -1}, {"tail": "pad"}]
)
def test_rules_and_spans_that_make_no_sense(wrong: dict[str, int | Tail]) -> None:
    with pytest.raises(ValueError):
        ClipRule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        plan_spans("s1-x", 10, 0)
