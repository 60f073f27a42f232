"""Copies that play faster: their pixels, their manifest, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.table import read_manifest
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.pipeline import build_manifest, probe_files
from vadpipe.pipeline.choosing.fast_copies import FILE, bytes_of_copies, write_fast_copies
from vadpipe.pipeline.store.probe_table import Probed

MANY = 1 << 40
Listed = tuple[Manifest, Probed]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Listed:
    folder = tmp_path_factory.mktemp("copies")
    manifest = build_manifest("synthetic", write_tiny_scene(folder / "scene", n_test=1))
    return manifest, probe_files(manifest, folder / "cache")


def test_every_second_and_third_frame_as_it_was_decoded(listed: Listed, tmp_path: Path) -> None:
    manifest, probed = listed
    half = manifest.records[0].model_copy(update={"part": (0.25, 1.0)})
    cut = manifest.model_copy(update={"records": (half, *manifest.records[1:])})
    made = write_fast_copies(cut, probed, tmp_path / "fast", [3, 2], max_bytes=MANY)
    assert read_manifest(tmp_path / "fast" / FILE) == made
    trained = [r.video_id for r in cut.select(split="train").records]
    assert [r.video_id for r in made.records] == [f"{v}.x{s}" for v in trained for s in (2, 3)]
    assert {(r.split, r.label) for r in made.records} == {("validation", 1)}
    first = [frame.image for frame in read_frames(probed.rows[half.video_id])][10:]
    for record in made.records[:2]:
        step = int(record.video_id[-1])
        files = sorted((tmp_path / "fast" / (record.path or "")).iterdir())
        pictures = [np.asarray(Image.open(path)) for path in files]
        np.testing.assert_array_equal(pictures, first[::step])
        assert record.expected_frames == len(files)


def test_what_cannot_be_done_is_refused_and_leaves_nothing(listed: Listed, tmp_path: Path) -> None:
    manifest, probed = listed
    with pytest.raises(ManifestError, match="speeds of 2 or more"):
        write_fast_copies(manifest, probed, tmp_path / "a", [1], max_bytes=MANY)
    with pytest.raises(ManifestError, match="no training clips"):
        write_fast_copies(manifest.select(split="test"), probed, tmp_path / "a", max_bytes=MANY)
    with pytest.raises(ManifestError, match="too few to play 40 times as fast"):
        write_fast_copies(manifest, probed, tmp_path / "a", [40], max_bytes=MANY)
    with pytest.raises(ManifestError, match="run vadpipe probe"):
        write_fast_copies(manifest, Probed({}, []), tmp_path / "a", max_bytes=MANY)
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(ManifestError, match="is not empty: name a new or an empty folder"):
        write_fast_copies(manifest, probed, tmp_path / "full", max_bytes=MANY)


def test_the_size_is_said_before_anything_is_written(listed: Listed, tmp_path: Path) -> None:
    manifest, probed = listed
    most = bytes_of_copies(manifest, probed, [2, 3])
    with pytest.raises(ManifestError, match=f"are pixels.*--max-bytes {most}"):
        write_fast_copies(manifest, probed, tmp_path / "a")
    with pytest.raises(ManifestError, match="more than --max-bytes"):
        write_fast_copies(manifest, probed, tmp_path / "a", max_bytes=most - 1)
    assert not list(tmp_path.iterdir())
    write_fast_copies(manifest, probed, tmp_path / "a", max_bytes=most)
    assert 0 < sum(p.stat().st_size for p in (tmp_path / "a").rglob("*.png")) <= most


def test_noise_takes_no_more_than_is_said(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    for frame in range(4):
        noise = np.random.default_rng(frame).integers(0, 256, (70, 90, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "noise" / f"{frame}.png")
    record = VideoRecord(video_id="noise", path="noise", split="train")
    manifest = Manifest(dataset="noise", root=str(tmp_path), records=(record,))
    probed = probe_files(manifest, tmp_path / "cache")
    most = bytes_of_copies(manifest, probed, [2])
    write_fast_copies(manifest, probed, tmp_path / "fast", [2], max_bytes=most)
    assert sum(p.stat().st_size for p in (tmp_path / "fast").rglob("*.png")) <= most


def test_an_id_that_leaves_no_room_for_the_speed_is_refused(listed: Listed, tmp_path: Path) -> None:
    manifest, probed = listed
    record = manifest.records[0].model_copy(update={"video_id": "a" * 199})
    long = manifest.model_copy(update={"records": (record,)})
    rows = Probed({"a" * 199: probed.rows[manifest.records[0].video_id]})
    with pytest.raises(ManifestError, match=r"longer than 200 characters: shorten .* by 2$"):
        write_fast_copies(long, rows, tmp_path / "a", [2], max_bytes=MANY)
