"""Decoders resize where every extractor does: chosen by bytes, and no value changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.drawn_tasks import Done, null, run
from tests.footage import moving_picture, write_video
from vadpipe.extractors.footage.decode import FrameReader, read_frames
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.resizing import Resize
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.engine import small_frames as module
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor
from vadpipe.pipeline.engine.small_frames import LEAST_SAVED, Savings, picture_of, small_frames

HD = ProbeRow(
    "/drawn.mp4", "s1-" + "ab" * 20, "video", 9000, False, 25.0, 1080, 1920, 0, 360.0, "h264", "mov"
)  # fmt: skip


def spec(name: str, weights: str | None = None, **settings: Any) -> ExtractorSpec:
    return resolve_extractor(name, settings, weights=weights, precision="fp32")


I3D = spec("inception_i3d", "random:0")
FRAMES = spec("frames", size=(480, 840))
CUBES = spec("patch_cubes", "random:0")


def chosen(*specs: ExtractorSpec, row: ProbeRow = HD, frames: int = 9000) -> tuple[Resize, ...]:
    return small_frames(row, specs, frames, Savings())


def test_each_size_that_is_needed_comes_once() -> None:
    sizes = chosen(I3D, CUBES, FRAMES)
    assert sizes == (Resize(256, 455), Resize(480, 840)), "patch cubes and frames read the same"
    assert [picture_of(each, HD, sizes) for each in (I3D, CUBES, FRAMES)] == [0, 1, 1]
    assert [picture_of(each, HD, ()) for each in (I3D, CUBES)] == [0, 0]


def test_one_filter_is_not_another() -> None:
    cubic = spec("frames", size=(480, 840), interpolation="bicubic")
    assert chosen(FRAMES, cubic) == (Resize(480, 840), Resize(480, 840, "bicubic"))


@pytest.mark.parametrize(
    "other",
    [
        null(),
        spec("objects", detector="motion"),
        spec("inception_i3d", "random:0", resize=None),
        spec("frames", perturb={"kind": "noise"}),
        spec("perturb", shapes="motion", inpainter="telea"),
    ],
    ids=["null", "objects", "as it is", "perturbed", "shapes"],
)
def test_who_needs_whole_pictures_gets_them(other: ExtractorSpec) -> None:
    assert chosen(I3D) and chosen(other) == chosen(I3D, other) == ()


def test_sizes_that_are_larger_together_come_as_one_whole_picture() -> None:
    sizes = [spec("frames", size=(540 + i, 960)) for i in range(4)]
    assert len(chosen(*sizes[:3])) == 3
    assert chosen(*sizes) == () == chosen(spec("frames", size=(1080, 1920)))
    assert chosen() == ()


def test_short_runs_do_not_load_torch_for_it() -> None:
    """Tasks add up: a process reads many short videos."""
    saved = 1080 * 1920 * 3 - 480 * 840 * 3
    frames, savings = LEAST_SAVED // saved // 2, Savings()
    found = [bool(small_frames(HD, [FRAMES], frames, savings)) for _ in range(4)]
    assert found == [False, False, True, True]


# ---------------------------------------------------------------------------------------- values


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> ProbeRow:
    """40 frames of 120 x 200."""
    pictures = [moving_picture(i, 120, 200) for i in range(40)]
    return probe_video(write_video(tmp_path_factory.mktemp("row") / "a.mp4", frames=pictures))


def extracted(cache: Path, row: ProbeRow, specs: list[ExtractorSpec]) -> tuple[Done, list[Any]]:
    """Features, and which sizes were asked of the decoder."""
    asked: list[Any] = []

    def reader(
        row: ProbeRow, start: int = 0, *, resizes: Any, wanted: Any, **_: Any
    ) -> FrameReader:
        asked.append(resizes)
        return read_frames(row, start, wanted=wanted, resizes=resizes)

    return run(cache, reader, row, specs, 17), asked


def test_features_are_the_same_in_every_bit(
    row: ProbeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips of one frame and of several with context, over borders of spans, in two sizes."""
    specs = [
        spec("frames", size=(32, 48)),
        spec("frames", size=(40, 56), interpolation="bicubic", stride=3),
        spec("flow", size=(32, 48), scale=1),
        spec(
            "patch_cubes", "random:0", frame_size=(64, 96), patch_sizes=((64, 96),), clip_length=9
        ),
    ]
    whole, asked = extracted(tmp_path / "whole", row, specs)
    assert set(asked) == {()}
    monkeypatch.setattr(module, "LEAST_SAVED", 0)
    small, asked = extracted(tmp_path / "small", row, specs)
    assert set(asked) == {(Resize(32, 48), Resize(40, 56, "bicubic"), Resize(64, 96))}
    for number, each in enumerate(specs):
        assert whole.stores[number].key == small.stores[number].key
        before, after = whole.features(number), small.features(number)
        for array in each.make().arrays:
            got = np.asarray(after.arrays[array.name][:])
            np.testing.assert_array_equal(got, np.asarray(before.arrays[array.name][:]))
    shards = [sorted(done.stores[0].scan()) for done in (whole, small)]
    assert len(shards[0]) == len(shards[1]) == 3


def test_only_what_is_missing_decides(
    row: ProbeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extractor whose shards are there does not read, whatever pictures it needs."""
    monkeypatch.setattr(module, "LEAST_SAVED", 0)
    frames, whole = spec("frames", size=(32, 48)), null()
    assert set(extracted(tmp_path, row, [whole])[1]) == {()}
    assert set(extracted(tmp_path, row, [frames, whole])[1]) == {(Resize(32, 48),)}
