"""Pictures resized by who decodes them: the bits of resizing them afterwards, from any file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.footage import moving_picture, write_video
from vadpipe.extractors.device.resize import resize_frames
from vadpipe.extractors.footage import guarded
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import DecodeError, DecoderMemory
from vadpipe.extractors.footage.guarded import end_idle, guarded_frames
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.resizing import Resize, placed
from vadpipe.extractors.footage.sparse import Wanted
from vadpipe.extractors.footage.video import Frame, ProbeRow

RESIZES = (Resize(24, 40), Resize(17, 33, "bicubic"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of 98 pixels do not fill the memory that the decoder keeps for each."""
    pictures = [moving_picture(i, 66, 98) for i in range(40)]
    return write_video(tmp_path_factory.mktemp("odd") / "a.mp4", frames=pictures)


def afterwards(frames: Sequence[Frame], resize: Resize) -> np.ndarray:
    """The oracle: whole pictures, resized together."""
    whole = torch.from_numpy(np.stack([frame.image for frame in frames]))
    return resize_frames(whole, (resize.height, resize.width), resize.kind).numpy()


def assert_resized(got: Sequence[Frame], whole: Sequence[Frame], resizes: Sequence[Resize]) -> None:
    assert [(f.index, f.pts, f.corrupt) for f in got] == [
        (f.index, f.pts, f.corrupt) for f in whole
    ]
    for size, resize in enumerate(resizes):
        images = np.stack([frame.at(size).image for frame in got])
        np.testing.assert_array_equal(images, afterwards(whole, resize))


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    small=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    kind=st.sampled_from(["bilinear", "bicubic"]),
    turns=st.integers(0, 3),
    padding=st.integers(0, 5),
)
def test_any_picture_in_any_memory(
    size: tuple[int, int], small: tuple[int, int], kind: str, turns: int, padding: int
) -> None:
    """Turned pictures and those whose lines have gaps are views of what the decoder made."""
    height, width = size
    lines = np.random.default_rng(0).integers(0, 256, (height, width + padding, 3), np.uint8)
    picture = np.rot90(lines[:, :width], -turns)
    resize = Resize(*small, kind)  # type: ignore[arg-type]
    expected = afterwards([Frame(0, 0.0, picture.copy())], resize)[0]
    np.testing.assert_array_equal(resize(picture), expected)
    (kept,) = placed(picture, [resize], None)
    assert not np.shares_memory(kept, lines), "the decoder writes there again"


@pytest.mark.parametrize("rotate", [None, 90.0, 180.0])
def test_a_video(rotate: float | None, odd: Path, tmp_path: Path) -> None:
    if rotate is not None:
        pictures = [moving_picture(i, 66, 98) for i in range(12)]
        odd = write_video(tmp_path / "a.mp4", frames=pictures, rotate=rotate)
    row = probe_video(odd)
    whole = list(read_frames(row))
    same = Resize(row.height, row.width)
    for resizes in (RESIZES[:1], RESIZES, (*RESIZES, same)):
        assert_resized(list(read_frames(row, resizes=resizes)), whole, resizes)


def test_some_frames_of_a_span(odd: Path) -> None:
    row, wanted = probe_video(odd, decode=True), Wanted(((8, 0, 2),))
    whole = list(read_frames(row, 9, 30, wanted=wanted))
    got = list(read_frames(row, 9, 30, wanted=wanted, resizes=RESIZES))
    assert [frame.index for frame in whole] == [9, 16, 17, 24, 25]
    assert_resized(got, whole, RESIZES)


def write_images(folder: Path) -> ProbeRow:
    for i in range(3):
        Image.fromarray(moving_picture(i, 40, 61)).save(folder / f"{i}.png")
    return probe_video(folder)


def test_a_folder_of_images(tmp_path: Path) -> None:
    row = write_images(tmp_path)
    assert_resized(list(read_frames(row, resizes=RESIZES)), list(read_frames(row)), RESIZES)


def test_a_process_of_its_own(odd: Path, tmp_path: Path) -> None:
    """It loads torch once, for resizing only, and its bounds stay those of the file."""
    end_idle()
    row = probe_video(odd)
    whole = list(read_frames(row))
    tight = DecodeLimits(memory=1 << 28)  # torch takes more
    assert len(list(guarded_frames(row, limits=tight))) == 40
    (child,) = processes()
    assert not has_torch(child)
    for lend in (None, 0, 4):
        with guarded_frames(row, limits=tight, lend=lend, resizes=RESIZES) as reader:
            assert_resized(list(reader), whole, RESIZES)
        assert processes() == [child], "it is used again"
    assert has_torch(child)
    with guarded_frames(row, limits=tight) as reader:
        np.testing.assert_array_equal([f.image for f in reader], [f.image for f in whole])
    images = tmp_path / "large"
    images.mkdir()
    Image.new("RGB", (9000, 7000)).save(images / "0.png", compress_level=1)
    with pytest.raises(DecoderMemory, match="--limit memory"):
        list(guarded_frames(probe_video(images), limits=tight, resizes=RESIZES))
    end_idle()


def processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if guarded.WORKER in p.cmdline()]


def has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in Path(part.path).name for part in process.memory_maps())


def test_errors_of_a_file_are_those_of_reading_it(tmp_path: Path) -> None:
    row = replace(write_images(tmp_path), stamp="")
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(DecodeError) as plain:
        list(read_frames(row))
    with pytest.raises(type(plain.value), match=r"1\.png: cannot be read as an image"):
        list(read_frames(row, resizes=RESIZES))


def test_loading_torch_may_take_longer_than_a_packet(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer of a process that resizes, and no other."""
    waited: list[float] = []
    message = guarded._Child._message

    def noting(child: guarded._Child, seconds: float, *until: float) -> tuple[int, bytes]:
        waited.append(seconds)
        return message(child, 600.0, *until)

    monkeypatch.setattr(guarded._Child, "_message", noting)
    monkeypatch.setattr(guarded._Child, "ask", asking_for_whole_pictures(guarded._Child.ask))
    row, usual = probe_video(odd), 1.25 * 60 + guarded.GRACE
    with guarded_frames(row, resizes=(Resize(row.height, row.width),)) as reader:
        assert len(list(reader)) == 40
    assert waited[0] == usual + guarded.LOADING and set(waited[1:]) == {usual}
    waited.clear()
    assert len(list(guarded_frames(row))) == 40
    assert set(waited) == {usual}


def asking_for_whole_pictures(ask):  # type: ignore[no-untyped-def]
    """Requests reach the process without resizes, so that this test needs no torch there."""

    def changed(child: guarded._Child, request: dict[str, object]) -> None:
        ask(child, {**request, "resizes": []})
        child._loading = bool(request.get("resizes"))

    return changed
