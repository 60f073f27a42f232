"""Probe stage: files once, limits and quarantine, and videos of which there are only features."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.chain import video
from tests.footage import write_coding
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import Manifest, VideoRecord
from vadpipe.extractors.footage.errors import DecoderHang, NoFootage
from vadpipe.extractors.footage.identity import ALL_SAMPLED, content_id, identify
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.stamp import touched
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline import probe as probe_stage
from vadpipe.pipeline.engine import quarantine, retries
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import estimate, plan_videos
from vadpipe.pipeline.engine.settings import ProbeOptions
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.registry import DATASETS
from vadpipe.pipeline.store import probe_table
from vadpipe.pipeline.store.probe_table import duplicates

A = VideoRecord(video_id="a", path=None, split="test", expected_frames=50)
B = VideoRecord(video_id="b", path=None, split="test")


def listed(*records: VideoRecord, dataset: str = "toy") -> Manifest:
    return Manifest(dataset=dataset, root="/nowhere", records=records)


def test_rows_without_footage(tmp_path: Path) -> None:
    """Nothing is opened (the root does not exist), nothing is remembered."""
    probed = probe_files(listed(A, B), tmp_path, ProbeOptions(image_fps=20.0))
    assert (list(probed.rows), probed.failures, probed.fresh) == (["a", "b"], [], 0)
    a, b = probed.rows.values()
    assert a.content_id == "m1-" + hashlib.sha256(b'["toy","a"]').hexdigest()[:40]
    assert (a.kind, a.path, a.n_frames, a.fps, a.duration) == ("features", "", 50, 20.0, 2.5)
    assert (a.flags, b.flags, b.n_frames) == ((), ("length_unknown",), 0)
    assert not list(tmp_path.iterdir())
    assert duplicates(probed) == {}


def test_identity_is_data_set_and_id(tmp_path: Path) -> None:
    def identity(manifest: Manifest) -> str:
        return probe_files(manifest, tmp_path).rows["a"].content_id

    first = identity(listed(A))
    longer = A.model_copy(update={"expected_frames": 60, "split": "train", "label": 1})
    assert identity(listed(B, longer)) == first
    assert identity(listed(A, dataset="other")) != first


def test_with_and_without_footage(tmp_path: Path) -> None:
    """Rows come in the order of the manifest; only footage is extracted, the rest fails by name."""
    write_tiny_scene(tmp_path)
    manifest = DATASETS["synthetic"](tmp_path)
    manifest = manifest.model_copy(update={"records": (A, *manifest.records, B)})
    cache = tmp_path / "cache"
    probed = probe_files(manifest, cache)
    assert list(probed.rows) == [r.video_id for r in manifest.records]
    assert [row.kind for row in probed.rows.values()] == ["features", *["video"] * 4, "features"]
    assert probe_files(manifest, cache).fresh == 0
    specs = [resolve_extractor("null")]
    assert estimate(plan_videos(probed, stores_of(specs, cache)), specs).videos == 4
    done = extract_features(manifest, probed, specs, cache)
    assert list(done.rows) == [r.video_id for r in manifest.records[1:-1]]
    assert [(f.video_id, f.stage, f.error) for f in done.failures] == [
        (video_id, "extract", NoFootage.__name__) for video_id in "ab"
    ]
    assert {f.message for f in done.failures} == {
        "no footage: import features, or build the manifest with footage"
    }


# --------------------------------------------------------------------------------------- memory


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Five files; the tests must not change them."""
    root = tmp_path_factory.mktemp("scene")
    write_tiny_scene(root, n_train=3)
    return DATASETS["synthetic"](root)


def parts(cache: Path) -> list[Path]:
    return list((cache / "probe").glob("*.parquet"))


def test_what_is_remembered_is_what_was_found(tmp_path: Path) -> None:
    """Also the table of key frames, which is a list of three in the file."""
    path = write_coding("h264-closed-mp4", tmp_path)
    record = VideoRecord(video_id="a", path=path.name, split="test")
    alone = Manifest(dataset="toy", root=str(tmp_path), records=(record,))
    first, second = (probe_files(alone, tmp_path / "cache") for _ in range(2))
    assert (first.fresh, second.fresh) == (1, 0)
    a, b = first.rows["a"], second.rows["a"]
    assert a.to_json() == b.to_json()
    assert b.key_frames is not None and b.key_frames.index.dtype == np.int64
    assert b.key_frames.index.tolist() == list(range(0, 120, 12))


def test_other_ways_to_look_are_remembered_apart(scene: Manifest, tmp_path: Path) -> None:
    assert probe_files(scene, tmp_path).fresh == 5
    assert probe_files(scene, tmp_path, ProbeOptions(decode=True)).fresh == 5
    assert probe_files(scene, tmp_path, ProbeOptions(hash_mode="full")).fresh == 5
    for options in ({}, {"decode": True}, {"hash_mode": "full"}):
        again = probe_files(scene, tmp_path, ProbeOptions.model_validate(options))
        assert again.fresh == 0
        assert all(row.decoded == bool(options.get("decode")) for row in again.rows.values())
    assert probe_files(scene, tmp_path, ProbeOptions(image_fps=3.0)).fresh == 0, (
        "a file has its own rate"
    )


def test_a_run_that_is_killed_keeps_what_it_has_opened(
    scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the files since the last part."""
    real = probe_stage.run_tasks

    def interrupted(*args: Any) -> Iterator[Any]:
        outcomes = real(*args)
        yield from (next(outcomes) for _ in range(3))
        outcomes.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(probe_stage, "PART_ROWS", 2)
    with monkeypatch.context() as patch:
        patch.setattr(probe_stage, "run_tasks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            probe_files(scene, tmp_path)
    assert len(parts(tmp_path)) == 1
    again = probe_files(scene, tmp_path)
    assert again.fresh == 3 and len(again.rows) == 5
    assert probe_files(scene, tmp_path).fresh == 0


def test_many_parts_are_folded_into_one(
    scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_stage, "PART_ROWS", 1)
    monkeypatch.setattr(probe_table, "MAX_PARTS", 3)
    rows = probe_files(scene, tmp_path).rows
    assert len(parts(tmp_path)) <= 3
    again = probe_files(scene, tmp_path)
    assert again.fresh == 0
    assert {v: row.to_json() for v, row in again.rows.items()} == {
        v: row.to_json() for v, row in rows.items()
    }


# --------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "limits",
    [{"pixels": 10}, {"bytes": 100}, {"hours": 1e-6}],
    ids=lambda limits: next(iter(limits)),
)
def test_limits_hold_for_what_is_remembered_too(
    scene: Manifest, tmp_path: Path, limits: dict[str, float]
) -> None:
    strict = DecodeLimits.model_validate(limits)
    fresh = probe_files(scene, tmp_path / "fresh", ProbeOptions(limits=strict))
    assert not fresh.rows and fresh.fresh == 0
    assert probe_files(scene, tmp_path).fresh == 5
    known = probe_files(scene, tmp_path, ProbeOptions(limits=strict))
    assert not known.rows and known.fresh == 0
    for found in (fresh, known):
        assert [f.video_id for f in found.failures] == [r.video_id for r in scene.records]
        assert {f.error for f in found.failures} == {"OverLimit"}
        assert all(f"--limit {next(iter(limits))}=N" in f.message for f in found.failures)
    # what was refused is not remembered as bad
    assert (
        not probe_files(scene, tmp_path).failures
        and probe_files(scene, tmp_path / "fresh").fresh == 5
    )


def test_a_file_that_hangs_goes_to_quarantine_and_others_go_on(
    scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = scene.records[2]
    real = probe_stage.guarded_probe

    def hanging(path: Path, **options: Any) -> Any:
        if path == scene.resolve(bad.path):
            raise DecoderHang(f"{path}: nothing was decoded for 60 seconds")
        return real(path, **options)

    monkeypatch.setattr(probe_stage, "guarded_probe", hanging)
    twice = bad.model_copy(update={"video_id": "again"})
    manifest = scene.model_copy(update={"records": (*scene.records, twice)})
    found = probe_files(manifest, tmp_path)
    assert [f.video_id for f in found.failures] == [bad.video_id, "again"]
    assert {f.error for f in found.failures} == {"DecoderHang"} and len(found.rows) == 4
    (entry,) = quarantine.entries(tmp_path).values()
    assert entry.path == str(scene.resolve(bad.path)) and entry.error == "DecoderHang"


def test_links_that_lead_nowhere_fail_their_own_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Circles, links to what is gone, and a folder of images with such a link among them."""
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (root / "good.mp4").write_bytes(b"x")
    (root / "images" / "1.png").write_bytes(b"x")
    (root / "images" / "notes.txt").symlink_to("nowhere")
    (root / "images" / "loop").symlink_to("loop")
    (root / "a.mp4").symlink_to("b.mp4")
    (root / "b.mp4").symlink_to("a.mp4")
    (root / "c.mp4").symlink_to("nowhere.mp4")
    paths = {"good": "good.mp4", "images": "images", "a": "a.mp4", "b": "b.mp4", "c": "c.mp4"}
    paths["in"] = "a.mp4/x.mp4"
    records = tuple(VideoRecord(video_id=k, path=v, split="test") for k, v in paths.items())
    manifest = Manifest(dataset="toy", root=str(root), records=records)
    monkeypatch.setattr(
        probe_stage, "guarded_probe", lambda path, **_: replace(video(8), path=str(path))
    )
    found = probe_files(manifest, tmp_path / "cache")
    assert list(found.rows) == ["good", "images"]
    assert {f.video_id: f.message.partition(": ")[2] for f in found.failures[:2]} == {
        "a": "a link that leads in a circle; mend or delete it",
        "b": "a link that leads in a circle; mend or delete it",
    }
    assert [f.video_id for f in found.failures] == ["a", "b", "c", "in"]
    assert {f.error for f in found.failures} == {"FileNotFoundError"}


def test_a_damaged_entry_of_the_quarantine_bars_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    record = VideoRecord(video_id="a", path="a.mp4", split="test")
    manifest = Manifest(dataset="toy", root=str(tmp_path), records=(record,))

    def hanging(path: Path, **_: Any) -> Any:
        raise DecoderHang(f"{path}: nothing was decoded")

    monkeypatch.setattr(probe_stage, "guarded_probe", hanging)
    assert probe_files(manifest, tmp_path / "cache").failures[0].error == "DecoderHang"
    (entry,) = (tmp_path / "cache" / "quarantine").iterdir()
    entry.write_text("{")
    (failure,) = probe_files(manifest, tmp_path / "cache").failures
    assert failure.error == "Quarantined" and entry.name in failure.message
    assert str(tmp_path / "a.mp4") in failure.message
    quarantine.release_all(tmp_path / "cache")
    assert probe_files(manifest, tmp_path / "cache").failures[0].error == "DecoderHang"


def test_a_file_that_is_merely_bad_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    record = VideoRecord(video_id="a", path="a.mp4", split="test")
    gone = VideoRecord(video_id="b", path="b.mp4", split="test")
    manifest = Manifest(dataset="toy", root=str(tmp_path), records=(record, gone))
    for _ in range(2):
        found = probe_files(manifest, tmp_path / "cache")
        assert [f.error for f in found.failures] == ["NotAVideo", "FileNotFoundError"]
        assert "is the manifest's root right?" in found.failures[1].message
    assert quarantine.entries(tmp_path / "cache") == {} and not parts(tmp_path / "cache")


# ----------------------------------------------------------------------------- which file it is


def undecoded(path: Path, **_: Any) -> ProbeRow:
    """A probe that reads the file and makes up what it would decode."""
    found = identify(path)
    return ProbeRow(
        str(path), found.content_id, "video", 8, False, 25.0, 4, 6, 0, 0.32, "h264", "mov",
        whole_id=found.whole_id, stamp=found.stamp,
    )  # fmt: skip


def colliding(*paths: Path) -> None:
    """Files with one sampled id, one size and one time, each with bytes of its own."""
    for number, path in enumerate(paths):
        data = bytearray(ALL_SAMPLED + (1 << 18))
        data[(1 << 20) + (66 << 10)] = number
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1e9, 1e9))


def named(root: Path, *names: str) -> Manifest:
    records = tuple(VideoRecord(video_id=n, path=f"{n}.mp4", split="test") for n in names)
    return Manifest(dataset="toy", root=str(root), records=records)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_stage, "guarded_probe", undecoded)


def test_two_files_with_one_sampled_id_are_two_contents(tmp_path: Path, no_decoding: None) -> None:
    colliding(tmp_path / "a.mp4", tmp_path / "b.mp4")
    both, cache = named(tmp_path, "a", "b"), tmp_path / "cache"
    for fresh in (2, 0):
        found = probe_files(both, cache)
        ids = [found.rows[name].content_id for name in "ab"]
        assert ids == [content_id(tmp_path / "a.mp4"), content_id(tmp_path / "b.mp4", "full")]
        assert found.fresh == fresh and duplicates(found) == {}
    # a copy is a duplicate of the one that it is a copy of
    shutil.copy(tmp_path / "b.mp4", tmp_path / "c.mp4")
    assert duplicates(probe_files(named(tmp_path, "a", "b", "c"), cache)) == {ids[1]: ["b", "c"]}


def test_a_file_that_is_filled_in_place_is_another_content(
    tmp_path: Path, no_decoding: None
) -> None:
    """Of the same size, time, inode and sampled id: only its state has changed since."""
    path, cache = tmp_path / "a.mp4", tmp_path / "cache"
    colliding(path, tmp_path / "b.mp4")
    before = probe_files(named(tmp_path, "a"), cache).rows["a"]
    with path.open("r+b") as file:
        file.write((tmp_path / "b.mp4").read_bytes())
    os.utime(path, (1e9, 1e9))
    for fresh in (1, 0):
        after = probe_files(named(tmp_path, "a"), cache)
        assert (
            after.fresh == fresh
            and after.rows["a"].content_id
            == before.whole_id[:3] + (content_id(tmp_path / "b.mp4", "full")[3:])
        )
    colliding(path)  # and back
    back = probe_files(named(tmp_path, "a"), cache)
    assert back.rows["a"].content_id == before.content_id and back.fresh == 1


def test_rows_of_older_versions_are_not_proven(tmp_path: Path, no_decoding: None) -> None:
    colliding(tmp_path / "a.mp4")
    alone, cache = named(tmp_path, "a"), tmp_path / "cache"
    first = probe_files(alone, cache).rows["a"]
    (part,) = parts(cache)
    pq.write_table(pq.read_table(part).drop_columns(["whole_id", "stamp"]), part)
    for fresh in (1, 0):
        found = probe_files(alone, cache)
        assert found.rows["a"] == first and found.fresh == fresh


def test_a_file_that_is_written_all_the_time_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    monkeypatch.setattr(retries, "PAUSE_SECONDS", 0.0)
    tries: list[Path] = []

    def growing(path: Path, **_: Any) -> ProbeRow:
        tries.append(path)
        raise touched(path)

    monkeypatch.setattr(probe_stage, "guarded_probe", growing)
    found = probe_files(named(tmp_path, "a"), tmp_path / "cache")
    (failure,) = found.failures
    assert failure.error == "TouchedFile" and "wait until nothing writes to it" in failure.message
    assert len(tries) == retries.ATTEMPTS and not parts(tmp_path / "cache")
