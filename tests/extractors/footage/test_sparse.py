"""Every k-th frame: the same pixels, numbers and times as decoding everything, and less work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.footage import CODINGS, N, write_video
from vadpipe.extractors.footage import decode, sparse
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.guarded import guarded_frames
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.sparse import CannotSkip, Skipping, Wanted, may_skip
from vadpipe.extractors.footage.video import Frame, KeyFrames, Reading, in_order

EVERY_16TH = Wanted(((16, 0, 1),))
SOME = Wanted(((16, 2, 5), (7, 0, 1)))
SKIPS = {
    "h264-closed-mp4", "h264-closed-mkv", "h264-closed-ts", "h264-open-mp4", "h264-open-mkv",
    "mpeg4-mp4", "mpeg4-mkv", "mpeg2-ts", "mjpeg-avi",
}  # fmt: skip


def assert_same(got: list[Frame], want: list[Frame]) -> None:
    assert [(f.index, f.pts, f.corrupt) for f in got] == [(f.index, f.pts, f.corrupt) for f in want]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(got, want, strict=True))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures came out of the decoder, for each file that was opened."""
    counts: list[int] = []
    decode_packet, opened = decode.decode_packet, decode.opened

    def counting(*args: object) -> list[av.VideoFrame]:
        pictures = decode_packet(*args)  # type: ignore[arg-type]
        if counts:  # a probe opens files by itself
            counts[-1] += len(pictures)
        return pictures

    def noting(*args: object, **options: object) -> object:
        counts.append(0)
        return opened(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "decode_packet", counting)
    monkeypatch.setattr(decode, "opened", noting)
    return counts


@pytest.mark.parametrize("name", CODINGS)
def test_frames_are_those_of_decoding_everything(
    name: str, footage: Callable[[str], Path], decoded: list[int]
) -> None:
    row = probe_video(footage(name), decode=True)
    whole = list(read_frames(in_order(row)))
    known = name.split("-")[0] in ("h264", "mpeg2", "mpeg4", "mjpeg")
    assert may_skip(row) == (not row.sequential_only and known)
    assert may_skip(row) or name not in SKIPS
    for wanted, start, threads in ((EVERY_16TH, 0, 1), (SOME, 0, 3), (EVERY_16TH, 70, 2)):
        del decoded[:]
        reader = read_frames(row, start, threads=threads, wanted=wanted)
        assert_same(list(reader), [f for f in whole if f.index in wanted and f.index >= start])
        assert reader.at_end and reader.passed == N and not reader.failed_packets
        if name in SKIPS:
            assert len(decoded) == 1, "nothing was decoded again"
            assert decoded[0] < N - start // 2


def test_only_a_probe_that_decoded_all_knows_that_nothing_is_damaged(
    footage: Callable[[str], Path], decoded: list[int]
) -> None:
    """A damaged key frame is left out like one that nothing refers to, without a word."""
    row = probe_video(footage("h264-closed-mp4"))
    assert not may_skip(row)
    del decoded[:]
    assert [f.index for f in read_frames(row, wanted=EVERY_16TH)] == list(range(0, N, 16))
    assert decoded == [N]


def test_an_intra_codec_decodes_what_is_wanted_only(
    footage: Callable[[str], Path], decoded: list[int]
) -> None:
    row = probe_video(footage("mjpeg-avi"), decode=True)
    del decoded[:]
    assert len(list(read_frames(row, wanted=EVERY_16TH))) == 8
    assert decoded == [8]


def test_three_unreferenced_frames_of_four_are_left_out(tmp_path: Path, decoded: list[int]) -> None:
    """Also where a wanted frame is one of them."""
    x264 = "bframes=3:b-adapt=0:b-pyramid=none:keyint=24:min-keyint=24:scenecut=0:threads=1"
    path = write_video(tmp_path / "b.mp4", frames=97, options={"x264-params": x264})
    row = probe_video(path, decode=True)
    whole = list(read_frames(row))
    for wanted in (EVERY_16TH, Wanted(((16, 14, 1),)), Wanted(((5, 0, 1),))):
        del decoded[:]
        got = list(read_frames(row, wanted=wanted, threads=1))
        assert_same(got, [f for f in whole if f.index in wanted])
        assert decoded[0] <= 30 + len(got), "24 references of four frames each, and a few more"


def test_the_decoding_process_does_the_same(footage: Callable[[str], Path]) -> None:
    row = probe_video(footage("h264-closed-mp4"), decode=True)
    for start in (0, 70):
        with guarded_frames(row, start, wanted=SOME) as reader:
            got = list(reader)
        assert_same(got, list(read_frames(row, start, wanted=SOME)))
        assert (reader.passed, reader.at_end) == (N, True)


@pytest.mark.parametrize("flag", [
    "corrupt_frames", "truncated", "header_mismatch", "odd_timestamps", "no_timestamps",
    "sequential_only",
])  # fmt: skip
def test_doubtful_files_are_decoded_whole(
    flag: str, footage: Callable[[str], Path], decoded: list[int]
) -> None:
    row = replace(probe_video(footage("h264-closed-mp4"), decode=True), flags=(flag,))
    del decoded[:]
    assert [f.index for f in read_frames(row, wanted=EVERY_16TH)] == list(range(0, N, 16))
    assert decoded == [N]
    assert not may_skip(in_order(replace(row, flags=())))


@pytest.mark.parametrize("name", ["mjpeg-avi", "h264-closed-mp4"])
def test_reading_ends_before_the_frame_where_it_is_to_stop(
    name: str, footage: Callable[[str], Path], decoded: list[int]
) -> None:
    """Also where no frame close to it is decoded."""
    row = probe_video(footage(name), decode=True)
    whole = [f for f in read_frames(row) if f.index in EVERY_16TH]
    for stop in (1, 16, 20, 115, N):
        del decoded[:]
        reader = read_frames(row, 0, stop, threads=1, wanted=EVERY_16TH)
        assert_same(list(reader), [f for f in whole if f.index < stop])
        assert reader.passed == stop and len(decoded) == 1
        assert reader.at_end <= (stop == N)


@pytest.mark.parametrize("stop", [None, 20])
@pytest.mark.parametrize("lost", [3, 20, 45])
def test_what_does_not_come_out_is_looked_for_by_decoding_everything(
    lost: int, stop: int | None, footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet is refused: damage has to be seen and counted as without skipping."""
    row = in_order(probe_video(footage("h264-closed-mp4"), decode=True))
    keys = probe_video(footage("h264-closed-mp4"), decode=True).key_frames
    real, seen = decode.decode_packet, 0

    def refusing(stream: object, packet: object, reading: Reading) -> list[av.VideoFrame]:
        nonlocal seen
        seen += 1
        pictures = real(stream, packet, reading)  # type: ignore[arg-type]
        if seen == lost:
            reading.failed_packets += 1
            reading.after_refused = True
        return pictures

    monkeypatch.setattr(decode, "decode_packet", refusing)
    seekable = replace(row, flags=(), key_frames=keys)
    reader = read_frames(seekable, 0, stop, threads=1, wanted=EVERY_16TH)
    got = list(reader)
    assert [f.index for f in got] == list(range(0, stop or N, 16))
    assert reader.failed_packets == 0, "only the first pass was refused a packet"
    assert_same(got, [f for f in read_frames(seekable, 0, stop) if f.index in EVERY_16TH])


def test_damaged_frames_are_returned_though_no_clip_needs_them(
    footage: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = in_order(probe_video(footage("h264-closed-mp4"), decode=True))
    real, seen = decode.decode_packet, 0

    def refusing(stream: object, packet: object, reading: Reading) -> list[av.VideoFrame]:
        nonlocal seen
        seen += 1
        reading.after_refused = reading.after_refused or seen == 30
        return real(stream, packet, reading)  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "decode_packet", refusing)
    got = list(read_frames(row, threads=1, wanted=EVERY_16TH))
    (damaged,) = [f.index for f in got if f.corrupt]
    assert damaged % 16 and [f.index for f in got if not f.corrupt] == list(range(0, N, 16))


# ------------------------------------------------------------------------------------- numbers


@given(
    rules=st.lists(
        st.tuples(st.integers(1, 20), st.integers(0, 25), st.integers(1, 19)), min_size=1
    )
)
def test_wanted_frames_by_their_definition(rules: list[tuple[int, int, int]]) -> None:
    wanted = Wanted.of(rules)
    asked = {
        i * stride - before + k
        for stride, before, width in rules
        for i in range(200)
        for k in range(width)
    }
    if wanted is None:
        assert any(width >= stride for stride, _, width in rules)
        return
    assert [n for n in range(60) if n in wanted] == sorted(n for n in asked if 0 <= n < 60)
    for n in range(40):
        assert wanted.first_from(n) == min(m for m in range(n, n + 60) if m in wanted)


@dataclass
class Packet:
    """What a numbering looks at."""

    pts: int | None
    dts: int | None
    is_discard: bool = False


def run(
    packets: Iterable[Packet], keys: KeyFrames, wanted: Wanted, start: int = 0
) -> Iterator[int]:
    """Numbers of what a perfect decoder returns that decodes only what it must."""
    plan: Skipping[Packet] = Skipping(keys, 0, wanted, start)
    sent = [each for packet in packets for each in plan.ready(packet)]
    sent += list(plan.rest())
    for pts in sorted(packet.pts for packet, needed in sent if needed and packet.pts is not None):
        if (number := plan.number(pts)) is not None:
            yield number
    plan.check_end()


def keys_at(*frames: int) -> KeyFrames:
    index = np.array(frames, np.int64)
    return KeyFrames(index, 10 * index, 10 * index)


def pyramid(groups: int) -> list[Packet]:
    """Groups of four frames: the last one first, then the second, first and third."""
    order = [0] + [4 * g + k for g in range(groups) for k in (4, 2, 1, 3)]
    return [Packet(10 * shown, 10 * (at - 2)) for at, shown in enumerate(order)]


def test_numbers_do_not_need_all_pictures() -> None:
    for wanted in (EVERY_16TH, SOME, Wanted(((5, 1, 2),))):
        got = list(run(pyramid(20), keys_at(0), wanted))
        assert got == [n for n in range(81) if n in wanted]


def test_long_videos_are_numbered_in_bounded_memory() -> None:
    plan: Skipping[Packet] = Skipping(keys_at(0), 0, EVERY_16TH, 0)
    for packet in pyramid(2500):
        for each, _ in plan.ready(packet):
            assert each.pts is not None and plan._numbers[each.pts] == each.pts // 10
        assert len(plan._times) <= 4 * sparse.MOST_AHEAD + 4
        assert len(plan._numbers) <= 7 * sparse.MOST_AHEAD
    assert plan.passed == 10_001


@pytest.mark.parametrize("wrong", [
    [Packet(None, 0)],
    [Packet(0, 0), Packet(0, 1), Packet(20, 20)],  # the same time twice
    [Packet(10 * n, None) for n in range(400)],  # no decoding times
])  # fmt: skip
def test_times_that_make_no_sense_end_it(wrong: list[Packet]) -> None:
    with pytest.raises(CannotSkip):
        list(run(wrong, keys_at(0), EVERY_16TH))


def test_key_frames_at_other_places_end_it() -> None:
    packets = [Packet(10 * n, 10 * n) for n in range(40)]
    assert list(run(packets, keys_at(0, 24), EVERY_16TH)) == [0, 16, 32]
    with pytest.raises(CannotSkip):  # a frame is missing before it
        list(run(packets[:7] + packets[8:], keys_at(0, 24), EVERY_16TH))
    late = keys_at(0, 24)
    with pytest.raises(CannotSkip):  # a time that no packet has
        list(run(packets, replace(late, pts=late.pts + np.array([0, 5])), EVERY_16TH))


def test_a_wanted_picture_that_does_not_come_ends_it() -> None:
    plan: Skipping[Packet] = Skipping(keys_at(0), 0, EVERY_16TH, 0)
    for n in range(40):
        list(plan.ready(Packet(10 * n, 10 * n)))
    assert plan.number(0) == 0 and plan.number(50) == 5
    with pytest.raises(CannotSkip):
        plan.number(170)
    with pytest.raises(CannotSkip):
        plan.check_end()
    assert plan.number(160) == 16
    with pytest.raises(CannotSkip):
        plan.number(10_000)
