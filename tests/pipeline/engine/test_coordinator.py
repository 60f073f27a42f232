"""The coordinator: videos one by one, leftovers of failures, weights for a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.footage import moving_picture, write_video
from tests.progress import note_progress
from vadpipe.data_manifests import footage
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.base import TUNING
from vadpipe.extractors.device import inference
from vadpipe.extractors.device.micro_batch import shared_sizes
from vadpipe.extractors.footage.errors import DecodeError, SeekMismatch
from vadpipe.extractors.weights.cards import ResolvedWeights, Weights
from vadpipe.extractors.weights.slots import NETWORK
from vadpipe.pipeline.engine import coordinator, frames_read, span_task
from vadpipe.pipeline.engine.coordinator import shared_weights
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store.holdings import whole_videos

NULL = resolve_extractor("null")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two videos that can be seeked in."""
    root = tmp_path_factory.mktemp("footage")
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=0"}
    for seed, name in enumerate("ab"):
        pictures = (moving_picture(i, seed=seed) for i in range(96))
        write_video(root / f"{name}.mp4", frames=pictures, options=options)
    return footage.build(root)


def test_videos_are_told_of_one_by_one_while_others_run(manifest: Manifest, tmp_path: Path) -> None:
    probed = probe_files(manifest, tmp_path)
    assert not any(row.sequential_only for row in probed.rows.values())
    seen: list[tuple[str, int]] = []

    def note(content: str) -> None:
        whole = len(whole_videos(store, {row.content_id for row in probed.rows.values()}))
        assert whole_videos(store, [content])
        seen.append((content, whole))

    (store,) = stores_of([NULL], tmp_path)
    extract_features(
        manifest, probed, [NULL], tmp_path, engine=Engine(span_frames=16), when_done=note
    )
    assert [content for content, _ in seen] == [r.content_id for r in probed.rows.values()]
    assert seen[-1][1] == 2


def test_shards_of_a_video_that_fails_are_listed(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task that writes two spans and dies in the third: its shards are no strangers."""
    probed = probe_files(manifest, tmp_path)
    rows = {
        video_id: replace(row, flags=("sequential_only",), key_frames=None)
        for video_id, row in probed.rows.items()
    }
    real = span_task.guarded_frames

    def dying(row: Any, *args: Any, **options: Any) -> Any:
        reader = real(row, *args, **options)
        if not row.path.endswith("a.mp4"):
            return reader
        frames = reader._frames

        def until_40() -> Any:
            for frame in frames:
                if frame.index == 40:
                    raise DecodeError(f"{row.path}: it ends here")
                yield frame

        reader._frames = until_40()
        return reader

    with monkeypatch.context() as patch:
        patch.setattr(span_task, "guarded_frames", dying)
        engine = Engine(span_frames=16)
        done = extract_features(
            manifest, replace(probed, rows=rows), [NULL], tmp_path, engine=engine
        )
    assert [failure.video_id for failure in done.failures] == ["a.mp4"]
    (store,) = done.stores
    content = probed.rows["a.mp4"].content_id
    there = len(store.shards(content))
    assert 0 < there < 6 and store.verify() == []
    again = extract_features(manifest, probed, [NULL], tmp_path, engine=engine)
    assert not again.failures and again.written == 6 - there
    assert whole_videos(store, [content]) and store.verify() == []


def test_an_index_part_every_so_many_shards(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "INDEX_ROWS", 5)
    probed = probe_files(manifest, tmp_path)
    done = extract_features(manifest, probed, [NULL], tmp_path, engine=Engine(span_frames=16))
    (store,) = done.stores
    parts = list((store.root / "index").glob("*.parquet"))
    assert len(parts) == 3 and len(store.index()) == done.written == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_batch_sizes_are_kept_in_the_cache_of_the_run(
    workers: int, scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "default"))
    monkeypatch.setattr(inference, "shared_sizes", shared_sizes)
    manifest = scene.model_copy(update={"records": scene.records[:1]})
    settings = {"resize": 32, "clip_length": 8, "stride": 40, "tail": "drop"}
    spec = resolve_extractor("inception_i3d", settings, weights="random:0", precision="fp32")
    own, engine = tmp_path / "own", Engine(workers=workers, threads=1)
    done = extract_features(manifest, probe_files(manifest, own), [spec], own, engine=engine)
    assert not done.failures
    assert (own / TUNING).is_file() and not (tmp_path / "default").exists()


def test_weights_go_where_all_workers_see_them(tmp_path: Path) -> None:
    original = tmp_path / "home" / "net-0123.safetensors"
    original.parent.mkdir()
    original.write_bytes(b"tensors")
    card = Weights("net", "net.pt", None, (), "", "", "", (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    own = replace(NULL, weights={NETWORK: ResolvedWeights(card, "0123", original)})
    drawn = replace(NULL, weights={NETWORK: ResolvedWeights(card, "random:0", None)})
    moved = shared_weights([own, drawn, NULL], tmp_path / "cache")
    assert moved[1:] == [drawn, NULL]
    path = moved[0].weights[NETWORK].path
    assert path is not None
    assert path == tmp_path / "cache" / "weights" / original.name
    assert path.read_bytes() == b"tensors" and moved[0].weights[NETWORK].identity == "0123"
    path.write_bytes(b"kept")
    shared_weights([own], tmp_path / "cache")
    assert path.read_bytes() == b"kept", "it is copied once"


def test_a_damaged_shard_of_another_set_ends_no_run(manifest: Manifest, tmp_path: Path) -> None:
    probed = probe_files(manifest, tmp_path)
    other = resolve_extractor("null", {"stride": 8})
    engine = Engine(span_frames=16)
    (store,) = extract_features(manifest, probed, [NULL], tmp_path, engine=engine).stores
    content = probed.rows["a.mp4"].content_id
    for *_, path in store.shards(content):
        path.write_bytes(b"no shard")
    done = extract_features(manifest, probed, [NULL, other], tmp_path, engine=engine)
    assert not done.failures and len(done.rows) == 2
    assert all(whole_videos(done.stores[1], [row.content_id]) for row in probed.rows.values())


def test_shards_that_another_run_has_written_meanwhile_are_not_counted(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = probe_files(manifest, tmp_path)
    engine = Engine(span_frames=16, streams=1)
    plan = coordinator.Coordinator.go

    def late(run: Any, *args: Any) -> None:
        monkeypatch.setattr(coordinator.Coordinator, "go", plan)
        extract_features(manifest, probed, [NULL], tmp_path, engine=engine)
        plan(run, *args)

    monkeypatch.setattr(coordinator.Coordinator, "go", late)
    done = extract_features(manifest, probed, [NULL], tmp_path, engine=engine)
    assert done.written == 0 and len(done.rows) == 2 and done.stores[0].verify() == []


def test_nothing_of_a_video_that_fails_stays_where_features_are_not_kept(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = probe_files(manifest, tmp_path)
    real = span_task.guarded_frames

    def failing(row: Any, start: int, **options: Any) -> Any:
        if row.path.endswith("a.mp4") and start > 60:
            raise DecodeError(f"{row.path}: it ends here")
        return real(row, start, **options)

    monkeypatch.setattr(span_task, "guarded_frames", failing)
    engine = Engine(span_frames=16)
    place = tmp_path / "scratch"
    done = extract_features(manifest, probed, [NULL], tmp_path, engine=engine, store_root=place)
    assert [failure.video_id for failure in done.failures] == ["a.mp4"]
    (store,) = done.stores
    assert not store.shards(probed.rows["a.mp4"].content_id)
    assert whole_videos(store, [probed.rows["b.mp4"].content_id])
    assert not (tmp_path / "features").exists()


def test_folders_may_be_named_from_here(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are at home elsewhere."""
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    real = span_task._Run.__init__

    def watching(run: Any, job: Any) -> None:
        seen.append(job.store_root)
        real(run, job)

    monkeypatch.setattr(span_task._Run, "__init__", watching)
    extract_features(manifest, probe_files(manifest, tmp_path), [NULL], Path("cache"))
    assert set(seen) == {str(tmp_path / "cache")}


def test_progress_moves_within_a_span_and_ends_at_the_total(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One span is ten minutes of footage: a bar that counts spans looks hung."""
    noted = note_progress(monkeypatch, coordinator)
    monkeypatch.setattr(frames_read, "EVERY_SECONDS", 0.0)
    probed = probe_files(manifest, tmp_path)
    extract_features(manifest, probed, [NULL], tmp_path, engine=Engine(span_frames=96, streams=1))
    assert sum(noted.steps) == 192 and noted.totals == [192]
    assert len(noted.steps) > 100 and min(noted.steps) > 0


def test_progress_goes_back_where_a_video_is_decoded_again(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = note_progress(monkeypatch, coordinator)
    real = coordinator.run_job

    def mismatched(job: Any) -> Any:
        if job.row.path.endswith("a.mp4") and not job.row.sequential_only:
            raise SeekMismatch("frames of other times")
        return real(job)

    monkeypatch.setattr(coordinator, "run_job", mismatched)
    probed = probe_files(manifest, tmp_path)
    done = extract_features(manifest, probed, [NULL], tmp_path, engine=Engine(span_frames=48))
    assert not done.failures
    assert sum(noted.steps) == 192 and -96 in noted.steps
