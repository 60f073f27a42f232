"""Probe stage: files once, and videos of which there are only features."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import DATASETS, Manifest, VideoRecord
from vadpipe.extractors.video import NoFootage
from vadpipe.pipeline.extract import extract
from vadpipe.pipeline.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.planning import estimate, plan_videos
from vadpipe.pipeline.probe import duplicates, probe

A = VideoRecord(video_id="a", path=None, split="test", expected_frames=50)
B = VideoRecord(video_id="b", path=None, split="test")


def listed(*records: VideoRecord, dataset: str = "toy") -> Manifest:
    return Manifest(dataset=dataset, root="/nowhere", records=records)


def test_rows_without_footage(tmp_path: Path) -> None:
    """Nothing is opened (the root does not exist), nothing is remembered."""
    probed = probe(listed(A, B), tmp_path, image_fps=20.0)
    assert (list(probed.rows), probed.failures, probed.fresh) == (["a", "b"], [], 0)
    a, b = probed.rows.values()
    assert a.content_id == "m1-" + hashlib.sha256(b'["toy","a"]').hexdigest()[:40]
    assert (a.kind, a.path, a.n_frames, a.fps, a.duration) == ("features", "", 50, 20.0, 2.5)
    assert (a.flags, b.flags, b.n_frames) == ((), ("length_unknown",), 0)
    assert not list(tmp_path.iterdir())
    assert duplicates(probed) == {}


def test_identity_is_data_set_and_id(tmp_path: Path) -> None:
    def identity(manifest: Manifest) -> str:
        return probe(manifest, tmp_path).rows["a"].content_id

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
    probed = probe(manifest, cache)
    assert list(probed.rows) == [r.video_id for r in manifest.records]
    assert [row.kind for row in probed.rows.values()] == ["features", *["video"] * 4, "features"]
    assert probe(manifest, cache).fresh == 0
    specs = [resolve_extractor("null")]
    assert estimate(plan_videos(probed, stores_of(specs, cache)), specs).videos == 4
    done = extract(manifest, probed, specs, cache)
    assert list(done.rows) == [r.video_id for r in manifest.records[1:-1]]
    assert [(f.video_id, f.stage, f.error) for f in done.failures] == [
        (video_id, "extract", NoFootage.__name__) for video_id in "ab"
    ]
    assert {f.message for f in done.failures} == {
        "no footage: import features, or build the manifest with footage"
    }
