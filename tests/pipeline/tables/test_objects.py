"""Boxes a frame: means by split, and videos that are far from training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.tables.objects import object_lines

HEAD = "video,frame,x0,y0,x1,y1\n"


def test_counts_by_split_and_a_warning(tmp_path: Path) -> None:
    scene = write_tiny_scene(tmp_path / "scene", n_train=2, n_test=2)
    manifest = synthetic.build(scene)
    per_frame = {"train/train_01": 1, "train/train_02": 3, "test/test_01": 2, "test/test_02": 9}
    rows = [
        f"{video},{frame},{5 * i},5,{5 * i + 5},10"
        for video, count in per_frame.items()
        for frame in range(0, 40, 10)
        for i in range(count)
    ]
    (tmp_path / "boxes.csv").write_text(HEAD + "\n".join(rows) + "\n")
    cache, settings = tmp_path / "cache", {"detector": "boxes", "stride": 10}
    boxes = str(tmp_path / "boxes.csv")
    specs = [
        resolve_extractor("objects", settings, weights=boxes, cache=cache),
        resolve_extractor("null"),
    ]
    probed = probe_files(manifest, cache)
    done = extract_features(manifest, probed, specs, cache)
    counts = done.stores[0].read(probed.rows["test_02"].content_id).arrays["objects"]
    assert np.array_equal(counts[:], [9] * 4)
    name = done.stores[0].name
    line, warning = object_lines(done.stores, done.rows, manifest)
    assert line == (
        f"{name}: boxes a frame: train 2.0 (1.0 to 3.0 by video), test 5.5 (2.0 to 9.0 by video)"
    )
    assert warning.startswith(f"warning: {name}: boxes a frame are far from training in 1 video")
    assert "(test_02 9.0)" in warning
    street = {"train_02": "street", "test_02": "street"}
    apart = [
        r.model_copy(update={"scene": street.get(r.video_id, "door")}) for r in manifest.records
    ]
    cameras = manifest.model_copy(update={"records": tuple(apart)})
    assert "(test_02 9.0)" not in "".join(object_lines(done.stores, done.rows, cameras)), (
        "its camera had 3 boxes a frame: 9 and a half are not three times as many"
    )
    only = {video: row for video, row in done.rows.items() if video != "test_02"}
    assert len(object_lines(done.stores, only, manifest)) == 1
    tests = {video: row for video, row in done.rows.items() if video.startswith("test")}
    assert len(object_lines(done.stores, tests, manifest)) == 1, "nothing to compare with"
    assert object_lines(done.stores[1:], done.rows, manifest) == []
