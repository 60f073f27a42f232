"""Footage that changes between its probe and its last shard: nothing is stored of another file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.chain import FRAMES, SIZE, drawing, drawn
from tests.footage import moving_picture, write_video
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.extractors.base import Rows
from vadpipe.extractors.clips import Span
from vadpipe.extractors.footage.decode import FrameReader, opened, read_frames
from vadpipe.extractors.footage.errors import ChangedFile, MissingFile, TouchedFile
from vadpipe.extractors.footage.guarded import guarded_frames
from vadpipe.extractors.footage.identity import identify
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import ProbeRow, Reading
from vadpipe.pipeline.bags import missing_videos
from vadpipe.pipeline.engine import retries, span_task
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import Extracted, extract_features
from vadpipe.pipeline.store.facts import facts_of
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.store.shard import VideoFacts

N = 24
ENGINE = Engine(span_frames=8)
OLD = (10**18, 10**18)
LISTED = Manifest(
    dataset="toy", root="/nowhere", records=(VideoRecord(video_id="x", path="x", split="test"),)
)
Change = Callable[[Path], object]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "footage" / "x.mp4"
    path.parent.mkdir()
    path.write_bytes(b"the bytes of a video")
    os.utime(path, ns=OLD)
    return path


def row_of(path: Path) -> ProbeRow:
    """What a probe says of a file whose pictures are drawn instead of decoded."""
    found = identify(path)
    return ProbeRow(
        str(path), found.content_id, "video", N, False, 25.0, *SIZE, 0, N / 25, "h264", "mov",
        whole_id=found.whole_id, stamp=found.stamp,
    )  # fmt: skip


def run(cache: Path, row: ProbeRow) -> tuple[Extracted, FeatureStore]:
    options: dict[str, Any] = {"engine": ENGINE, "max_bytes": 10**9}
    done = extract_features(LISTED, Probed({"x": row}), [FRAMES], cache, **options)
    return done, stores_of([FRAMES], cache)[0]


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE_SECONDS", 0.0)


def other_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"the bytes of another")
    os.utime(other, ns=OLD)
    other.replace(path)


def in_place(path: Path) -> None:
    with path.open("r+b") as handle:
        handle.write(b"another")
    os.utime(path, ns=OLD)


def to_link(path: Path) -> None:
    path.unlink()
    secret = path.with_name("secret")
    secret.write_bytes(b"the bytes of secrets")
    path.symlink_to(secret)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BEFORE: dict[str, Change] = {
    "another file of its size and time": other_file,
    "in place, with the old time": in_place,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "shorter": lambda path: os.truncate(path, 3),
    "a link elsewhere": to_link,
    "a pipe": to_pipe,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", BEFORE.values(), ids=BEFORE)
def test_a_file_that_changed_after_its_probe_is_not_opened(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pause: None, change: Change
) -> None:
    def refuse(*_: Any, **__: Any) -> FrameReader:
        raise AssertionError("it was opened")

    monkeypatch.setattr(span_task, "guarded_frames", refuse)
    row = row_of(file)
    change(file)
    done, store = run(tmp_path / "cache", row)
    (failure,) = done.failures
    assert failure.error in ("ChangedFile", "MissingFile")
    assert failure.error == "MissingFile" or "changed since it was probed: run" in failure.message
    assert done.written == 0 and not done.rows and not list(store.scan())


@pytest.mark.parametrize("at", [3, 9, N - 1])
@pytest.mark.parametrize("change", [other_file, in_place])
def test_of_a_file_that_changes_while_it_is_decoded_nothing_is_stored_from_then_on(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_pause: None,
    at: int,
    change: Change,
) -> None:
    changed: list[int] = []

    def reader(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Iterator[Any]:
            for number in range(start, N):
                if number == at and not changed:
                    changed.append(number)
                    change(file)
                yield drawn(number)

        return FrameReader(row, frames(), Reading())

    monkeypatch.setattr(span_task, "guarded_frames", reader)
    row = row_of(file)
    done, store = run(tmp_path, row)
    (failure,) = done.failures
    assert failure.error == "ChangedFile" and "changed since it was probed" in failure.message
    # of the span with the change nothing is stored; others may have been decoded before it
    assert not store.shard_path(Span(row.content_id, at // 8 * 8, at // 8 * 8 + 8, False)).exists()


def test_a_file_that_is_only_touched_on_the_way_is_decoded_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pause: None
) -> None:
    """A backup that links it, or another that copies it back, costs no video."""
    touched: list[int] = []

    def reader(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Iterator[Any]:
            for number in range(start, N):
                if number == 9 and not touched:
                    touched.append(number)
                    os.link(file, file.with_name("backup"))
                yield drawn(number)

        return FrameReader(row, frames(), Reading())

    monkeypatch.setattr(span_task, "guarded_frames", reader)
    row = row_of(file)
    file.touch()  # and before it began
    done, store = run(tmp_path, row)
    assert not done.failures and done.written == 3 and touched
    assert store.read(row.content_id).n_frames == N
    with_whole_id = store.index().to_pylist()
    assert {each["whole_id"] for each in with_whole_id} == {row.whole_id}
    assert {each["n_frames"] for each in with_whole_id} == {-1, N}


def test_rows_without_a_stamp_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_task, "guarded_frames", drawing(N))
    row = ProbeRow(
        "/drawn.mp4", "s1-" + "0" * 40, "video", N, False, 25.0, *SIZE, 0, 1.0, "h264", "mov"
    )
    done, _ = run(tmp_path, row)
    assert not done.failures and done.written == 3


def test_the_decoder_opens_the_file_with_the_stamp(tmp_path: Path) -> None:
    """In this process and in that of the decoder, at each opening."""
    path = write_video(tmp_path / "a.mp4", frames=20, encoder="mpeg4")
    other = write_video(tmp_path / "b.mp4", frames=20, encoder="mpeg4", rate=10)
    row = probe_video(path)
    with read_frames(row, 0, 2) as frames:
        assert len(list(frames)) == 2
    other.replace(path)
    for reader in (read_frames, guarded_frames):
        with pytest.raises(TouchedFile), reader(row, 0, 2) as frames:
            next(frames)
    with pytest.raises(TouchedFile), opened(path, stamp=row.stamp):
        raise AssertionError("it was opened")


def test_a_folder_of_images_is_read_as_it_was_probed(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(moving_picture(number)).save(tmp_path / f"{number}.png")
    row = probe_video(tmp_path)
    assert row.whole_id == row.content_id
    (tmp_path / "0.png").rename(tmp_path / "x")
    (tmp_path / "1.png").rename(tmp_path / "0.png")
    (tmp_path / "x").rename(tmp_path / "1.png")
    for reader in (read_frames, guarded_frames):
        with pytest.raises(TouchedFile):
            next(reader(row, 0, 2))
    assert issubclass(TouchedFile, ChangedFile) and not issubclass(ChangedFile, MissingFile)


def test_derived_features_do_not_look_at_the_footage(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_task, "guarded_frames", drawing(N))
    row = row_of(file)
    _, source = run(tmp_path, row)
    file.unlink()
    spec = resolve_extractor("null", {}, source=source)
    done = extract_features(LISTED, Probed({"x": row}), [spec], tmp_path, engine=ENGINE)
    assert not done.failures and done.written
    (store,) = stores_of([spec], tmp_path)
    assert {each["whole_id"] for each in store.index().to_pylist()} == {row.whole_id}


# ------------------------------------------------------------------ features that are there already


def refit(store: FeatureStore, change: Callable[[VideoFacts], VideoFacts]) -> None:
    """Write the shards again with other facts, as another version or another file left them."""
    listed = []
    for start, stop, path in store.shards(next(store.scan()).parent.name):
        with h5py.File(path) as file:
            facts = facts_of(file)
            values = {name: np.asarray(file["frame"][name]) for name in file["frame"]}
        rows = Rows(values.pop("frame_start"), values.pop("frame_stop"), values)
        n_frames = facts.n_frames if facts.last else None
        about = change(VideoFacts(facts.fps, n_frames, facts.flags, whole_id=facts.whole_id))
        span = Span(facts.content_id, start, stop, facts.last)
        specs = FRAMES.make().arrays
        listed.append(store.write(span, {"frame": rows}, specs, about, facts.maker))
    store.unlist([next(store.scan()).parent.name])
    store.add_index_part(listed)


def of_another_file(facts: VideoFacts) -> VideoFacts:
    return replace(facts, whole_id="f1-" + "0" * 40)


def of_version_0_1(facts: VideoFacts) -> VideoFacts:
    """A file with 16 frames had taken the place of this one after its probe."""
    n_frames = None if facts.n_frames is None else 16
    return replace(facts, whole_id="", n_frames=n_frames, flags=("header_mismatch",))


@pytest.mark.parametrize("change", [of_another_file, of_version_0_1])
def test_features_of_another_file_are_made_again_and_never_taken(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[VideoFacts], VideoFacts],
) -> None:
    monkeypatch.setattr(span_task, "guarded_frames", drawing(N))
    row = row_of(file)
    done, store = run(tmp_path, row)
    assert done.written == 3 and run(tmp_path, row)[0].written == 0
    refit(store, change)
    assert missing_videos({"frame": store}, {"x": row}) == {"frame": ["x"]}
    done, _ = run(tmp_path, row)
    assert done.written == 3 and not done.failures
    assert "they are made again" in " ".join(capsys.readouterr().err.split())
    assert store.verify() == [] and run(tmp_path, row)[0].written == 0
    assert missing_videos({"frame": store}, {"x": row}) == {}


def test_what_is_computed_from_features_of_another_file_waits_for_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_task, "guarded_frames", drawing(N))
    row = row_of(file)
    _, source = run(tmp_path, row)
    spec = resolve_extractor("null", {}, source=source)

    def derive() -> Extracted:
        return extract_features(LISTED, Probed({"x": row}), [spec], tmp_path, engine=ENGINE)

    assert derive().written
    refit(source, of_another_file)
    assert not derive().failures, "it is whole, and of this file"
    (store,) = stores_of([spec], tmp_path)
    store.remove_video(row.content_id)
    (failure,) = derive().failures
    assert failure.error == "MissingSource" and "vadpipe extract" in failure.message
    run(tmp_path, row)
    assert derive().written and not derive().failures
