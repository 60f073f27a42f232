"""Scoring: the extractors that a model needs are found again, and nothing is done twice."""

from __future__ import annotations

import errno
import fcntl
import json
import pickle
import platform
import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import footage, synthetic
from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.data_manifests.record import Manifest
from vadpipe.detectors.base import DetectorError, Scores
from vadpipe.detectors.knn import KNN
from vadpipe.extractors.device import present
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.errors import DecoderHang
from vadpipe.extractors.networks.i3d_r50 import CARDS, I3dR50, caffe2_blob
from vadpipe.extractors.null import NullFeatures
from vadpipe.extractors.weights.slots import NETWORK
from vadpipe.pipeline import score as score_stage
from vadpipe.pipeline.engine import quarantine, span_task
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.journal import read_runs
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions
from vadpipe.pipeline.evaluate import evaluate_scores
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.models import ModelFolder, specs_of_model
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.report.stage import write_report
from vadpipe.pipeline.score import Scored, score_footage
from vadpipe.pipeline.scores import summary
from vadpipe.pipeline.scores.events import Calibration, EventConfig, find_events
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.smoothing import Smoothing, smooth_held_out, smooth_rows
from vadpipe.pipeline.store.keys import canonical_json, key_of
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.store.shard import verify_shard
from vadpipe.pipeline.threshold import fit_threshold
from vadpipe.pipeline.train import train_detector

NULL = resolve_extractor("null")
N = 5  # videos to score


def write_blobs(path: Path, value: float) -> None:
    """A file with all names of the caffe2 layout; nothing here looks at its shapes."""
    import torch

    with torch.device("meta"):
        names = [name for name in I3dR50().state_dict() if "num_batches" not in name]
    blobs = {caffe2_blob(name): np.full(2, value, np.float32) for name in names}
    path.write_bytes(pickle.dumps({"blobs": blobs}, 2))


def test_weights_whose_card_knows_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(tmp_path))
    original = tmp_path / CARDS[0].file
    write_blobs(original, 1.0)
    spec = resolve_extractor("patch_cubes:ssrl", precision="fp32")
    weights = spec.weights[NETWORK]
    assert weights.card is CARDS[0]
    recipe: dict[str, Any] = json.loads(canonical_json(spec.make().recipe()))
    model = {"features": {"patch": recipe}}
    (found,) = specs_of_model(model)
    assert key_of(found.make().recipe()) == key_of(recipe)
    original.rename(tmp_path / "kept.pkl")
    write_blobs(original, 2.0)  # another file of that name
    with pytest.raises(ExtractorError, match=f"sha256 {weights.identity}, which no card"):
        specs_of_model(model)
    (found,) = specs_of_model(model, weights=str(tmp_path / "kept.pkl"))
    assert key_of(found.make().recipe()) == key_of(recipe)


@pytest.mark.parametrize("policy", ["keep", "skip"])
def test_a_model_asks_for_the_policy_that_it_was_trained_with(policy: Any) -> None:
    spec = resolve_extractor("null", {"stride": 4}, on_corrupt=policy)
    recipe = json.loads(canonical_json(spec.recipe()))
    (found,) = specs_of_model({"features": {"snippet": recipe}})
    assert (found.on_corrupt, found.recipe()) == (policy, spec.recipe())


# --------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of five videos, and a model on `null` features of others."""
    root = tmp_path_factory.mktemp("made")
    write_tiny_scene(root / "scene", n_train=2, n_test=N)
    listed, cache = synthetic.build(root / "scene").select(split="train"), root / "cache"
    probed = probe_files(listed, cache)
    extract_features(listed, probed, [NULL], cache)
    model = train_detector("knn", listed, probed, cache).folder
    shutil.rmtree(cache / "features")
    return root / "scene" / "test", model


class Archive:
    """A folder of footage that is scored again and again, with a cache of its own."""

    def __init__(self, made: tuple[Path, Path], root: Path) -> None:
        footage_root, self.model = made
        self.root, self.cache, self.out = root / "archive", root / "cache", root / "out"
        self.root.mkdir()
        self.sources = sorted(footage_root.glob("*.mp4"))
        assert len(self.sources) == N

    def add(self, *numbers: int) -> None:
        for number in numbers:
            shutil.copy2(self.sources[number], self.root)

    def manifest(self) -> Manifest:
        return footage.build(self.root)

    def score(self, out: Path | None = None, **options: Any) -> Scored:
        listed = self.manifest()
        probed = probe_files(listed, self.cache)
        return score_footage(self.model, listed, probed, out or self.out, self.cache, **options)

    def parts(self) -> dict[str, int]:
        """Scored videos and when."""
        return {p.stem: p.stat().st_mtime_ns for p in (self.out / "scores").iterdir()}


@pytest.fixture
def archive(made: tuple[Path, Path], tmp_path: Path) -> Archive:
    made_here = Archive(made, tmp_path)
    made_here.add(*range(N))
    return made_here


def test_images_have_the_rate_that_is_asked_for_now(archive: Archive) -> None:
    """They state none. What was extracted and scored with another rate does not decide it."""
    (archive.root / "yard").mkdir()
    for i in range(40):
        grey = np.full((64, 96, 3), 5 * i, np.uint8)
        Image.fromarray(grey).save(archive.root / "yard" / f"{i:03d}.png")
    rates, fresh = [], []
    for rate in (25.0, 10.0, 10.0):
        listed = archive.manifest()
        probed = probe_files(listed, archive.cache, ProbeOptions(image_fps=rate))
        done = score_footage(archive.model, listed, probed, archive.out, archive.cache)
        videos = {row["video_id"]: row for row in ScoreFolder(archive.out).videos()}
        rates.append(videos["yard"]["fps"])
        fresh.append((done.extracted, done.fresh))
    assert rates == [25.0, 10.0, 10.0] and fresh[1:] == [(0, 1), (0, 0)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """("decoded" or "scored", name of the file), in order of time."""
    events: list[tuple[str, str]] = []
    frames, one = span_task.guarded_frames, score_stage._Scoring.score_one

    def guarded_frames(row: Any, *args: Any, **options: Any) -> Any:
        events.append(("decoded", Path(row.path).name))
        return frames(row, *args, **options)

    def score_one(self: Any, record: Any, row: Any, stores: Any) -> None:
        one(self, record, row, stores)
        events.append(("scored", Path(row.path).name))

    monkeypatch.setattr(span_task, "guarded_frames", guarded_frames)
    monkeypatch.setattr(score_stage._Scoring, "score_one", score_one)
    return events


def tables(out: Path) -> list[Any]:
    return [pq.read_table(out / f"{n}.parquet") for n in ("scores", "videos", "events", "failures")]


def shards(root: Path) -> list[Path]:
    return sorted(root.rglob("*.h5"))


def test_a_second_run_needs_neither_footage_nor_features(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    first = archive.score()
    assert (first.fresh, first.extracted, len(first.videos)) == (N, N, N)
    held_out = ScoreFolder(archive.out).held_out()
    of_model = ModelFolder(archive.model).held_out()
    assert held_out is not None and of_model is not None
    assert held_out.table.equals(of_model.table), "the folder can do without the model"
    before, parts = tables(archive.out), archive.parts()
    shutil.rmtree(archive.cache / "features")
    log.clear()
    second = archive.score()
    assert (second.fresh, second.extracted, second.videos) == (0, 0, first.videos)
    assert log == [] and not shards(archive.cache)
    assert tables(archive.out) == before and archive.parts() == parts


def test_a_threshold_that_is_kept_with_the_model_is_used_and_no_part_is_scored_again(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    shutil.copytree(archive.model, archive.root.parent / "model")
    archive.model = archive.root.parent / "model"
    first, parts = archive.score(), archive.parts()
    assert first.rule == "quantile 0.99"
    kept = fit_threshold(archive.model, EventConfig(budget=500.0)).chosen
    log.clear()
    second = archive.score()
    assert (second.threshold, second.rule) == (kept.high, kept.rule.rule_in_words())
    assert second.fresh == 0 and log == [] and archive.parts() == parts
    run = ScoreFolder(archive.out).run()
    assert run["threshold"]["high"] == kept.high and run["events"]["budget"] == 500.0
    page = write_report(archive.out).read_text("utf-8")
    assert "by the rule budget 500 events per camera and day" in page
    assert all(f"<li>{line}</li>" in page for line in kept.lines)
    # Settings without a rule take that of the model, those with one do not.
    longer = archive.score(events=EventConfig(merge_seconds=30.0))
    assert longer.rule == kept.rule.rule_in_words() and longer.events <= second.events
    named = archive.score(events=EventConfig(value=-1.0))
    assert "by the rule" not in write_report(archive.out).read_text("utf-8")
    assert (named.threshold, named.rule) == (-1.0, "value -1") and named.events == N
    smooth = archive.score(smooth=Smoothing(kind="median", width=9))
    assert smooth.rule == kept.rule.rule_in_words() and archive.score().threshold == kept.high


def test_what_is_recorded_is_the_device_that_was_used(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExtractorError, match=r"device 'cuda:3' \(. CUDA devices found\)"):
        archive.score(engine=Engine(device="cuda:3"))
    monkeypatch.setattr(present, "cuda_count", lambda: 1)
    archive.score(engine=Engine(device="cuda:0"))  # knn and null compute on the CPU
    run = json.loads((archive.out / "run.json").read_text())
    assert (run["device"], run["extraction_devices"]) == ("cpu", ["cpu"])
    (store,) = stores_of([NULL], archive.cache)
    made_on = {verify_shard(path).maker["device"] for path in store.scan()}
    assert made_on == {f"cpu {platform.machine()}"}
    archive.score()
    run = json.loads((archive.out / "run.json").read_text())
    assert (run["device"], run["extraction_devices"]) == ("cpu", [])
    shutil.rmtree(archive.out)
    shutil.rmtree(archive.cache / "features")
    # What an extractor says after its network has started counts, as in the shards.
    started: list[Any] = []
    monkeypatch.setattr(span_task, "_prepared", {})
    monkeypatch.setattr(NullFeatures, "load", lambda self, runtime: started.append(self))
    monkeypatch.setattr(
        NullFeatures,
        "computed_on",
        lambda self, device: frozenset({"cuda:0" if self in started else "cpu"}),
    )
    archive.score()
    run = json.loads((archive.out / "run.json").read_text())
    (made_on,) = {verify_shard(path).maker["device"] for path in store.scan()}
    assert (run["extraction_devices"], made_on) == (["cuda:0"], "cuda")


def trained_again(model: Path, copy: Path) -> Path:
    """The model under its key, with weights that differ a little."""
    detector, card = ModelFolder(model).load()
    detector.load_state_dict({role: bank * 1.5 for role, bank in detector.state_dict().items()})
    ModelFolder(copy).save(detector, card, held_out=ModelFolder(model).held_out())
    return copy


def test_scores_of_earlier_weights_are_made_again(archive: Archive, tmp_path: Path) -> None:
    archive.score()
    before, parts = tables(archive.out), archive.parts()
    (archive.root / archive.sources[0].name).unlink()
    archive.model = trained_again(archive.model, tmp_path / "again")
    second = archive.score()
    assert (second.fresh, second.extracted) == (N - 1, 0)
    now = archive.parts()
    assert [name for name in now if now[name] == parts[name]] == [archive.sources[0].name]
    assert tables(archive.out)[0] != before[0]
    listed = set(tables(archive.out)[0]["video_id"].to_pylist())
    assert len(listed) == N - 1, "scores of two sets of weights are in no table together"
    assert archive.score().fresh == 0


def test_parts_of_older_versions_name_no_weights(archive: Archive) -> None:
    archive.score()
    for part in (archive.out / "scores").iterdir():
        table = pq.read_table(part)
        notes = dict(table.schema.metadata)
        facts = json.loads(notes[b"video"])
        assert facts.pop("weights") == ModelFolder(archive.model).card()["weights_sha256"]
        notes[b"video"] = json.dumps(facts).encode()
        pq.write_table(table.replace_schema_metadata(notes), part)
    assert archive.score().fresh == 0


def test_new_files_in_a_folder_are_scored_and_the_old_ones_are_not(
    made: tuple[Path, Path], tmp_path: Path, log: list[tuple[str, str]]
) -> None:
    archive = Archive(made, tmp_path)
    archive.add(0, 3)
    assert archive.score().fresh == 2
    old = archive.parts()
    archive.add(1, 2)
    log.clear()
    second = archive.score()
    assert (second.fresh, second.extracted) == (2, 2) and len(second.videos) == 4
    assert Counter(log) == Counter(
        (what, archive.sources[number].name) for what in ("decoded", "scored") for number in (1, 2)
    )
    assert {name: time for name, time in archive.parts().items() if name in old} == old
    archive.score(tmp_path / "at once")
    assert tables(archive.out) == tables(tmp_path / "at once")


def test_results_of_files_that_are_gone_stay_until_they_are_pruned(archive: Archive) -> None:
    first = archive.score()
    whole, parts = tables(archive.out), archive.parts()
    gone = [archive.sources[number].name for number in (0, 2)]
    for name in gone:
        (archive.root / name).unlink()
    second = archive.score()
    assert second.fresh == 0 and not second.failures and archive.parts() == parts
    assert second.kept == gone and sorted(second.videos) == sorted(first.videos)
    for table, before in zip(tables(archive.out)[:3], whole[:3], strict=True):
        order = [("video_id", "ascending"), ("frame_start", "ascending")]
        assert table.sort_by(order) == before.sort_by(order)
    third = archive.score(prune=True)
    assert third.pruned == gone and not third.kept and len(third.videos) == N - 2
    assert set(archive.parts()) == set(third.videos)
    assert not set(gone) & set(tables(archive.out)[0]["video_id"].to_pylist())


def test_another_target_adds_to_a_score_folder(made: tuple[Path, Path], tmp_path: Path) -> None:
    """All tables are those of one run over both, but for their order."""
    both, other = Archive(made, tmp_path), tmp_path / "other"
    both.add(0, 1, 2)
    other.mkdir()
    shutil.move(both.root / both.sources[1].name, other)
    both.score()
    listed = footage.build(other)
    probed = probe_files(listed, both.cache)
    done = score_footage(both.model, listed, probed, both.out, both.cache)
    assert (done.fresh, len(done.videos), len(done.kept)) == (1, 3, 2) and not done.failures
    shutil.move(other / both.sources[1].name, both.root)
    both.score(tmp_path / "at once")
    order = [("video_id", "ascending"), ("frame_start", "ascending")]
    for table, expected in zip(tables(both.out)[:3], tables(tmp_path / "at once")[:3], strict=True):
        names = [name for name in table.column_names if name != "path"]
        assert table.sort_by(order).select(names) == expected.select(names)


def test_scores_of_another_model_are_not_mixed(archive: Archive, tmp_path: Path) -> None:
    archive.score()
    before, parts = tables(archive.out), archive.parts()
    own, archive.model = archive.model, tmp_path / "model"
    shutil.copytree(own, archive.model)
    card = json.loads((archive.model / "config.json").read_text("utf-8"))
    card["key"] = "0" * 64
    (archive.model / "config.json").write_text(json.dumps(card), "utf-8")
    for _ in range(2):
        with pytest.raises(ScoreFolderError, match="scores of another model"):
            archive.score()
        assert tables(archive.out) == before and archive.parts() == parts
        (archive.out / "run.json").unlink(missing_ok=True)  # the parts alone say it too
    (archive.root / archive.sources[0].name).unlink()
    done = archive.score(replace_model=True)
    assert (done.fresh, len(done.videos), done.kept) == (N - 1, N - 1, [])
    assert set(archive.parts()) == set(parts), "in no table, but not deleted"


def test_smoothing_needs_neither_footage_nor_features_again(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    """Scores, events and threshold are smoothed in one way, those of kept videos too."""
    plain = archive.score()
    raw = {v: ScoreFolder(archive.out).scores(v) for v in plain.videos}
    before = tables(archive.out)
    (archive.root / archive.sources[0].name).unlink()
    log.clear()
    how = Smoothing.model_validate("gaussian:0.5s")
    config = EventConfig(quantile=0.4, release_quantile=0.3, min_seconds=0)
    done = archive.score(smooth=how, events=config)
    folder = ScoreFolder(archive.out)
    assert (done.fresh, len(done.kept), done.failures, log) == (0, 1, [], [])
    held_out = ModelFolder(archive.model).held_out()
    assert held_out is not None and folder.smoothing() == how.text
    normal = smooth_held_out(held_out, how)
    levels = Calibration.from_scores(
        [normal.of_video(v).values("score") for v in normal.videos], method=""
    ).thresholds(config)
    assert folder.threshold() == levels.high.value
    for video_id, part in raw.items():
        now = folder.scores(video_id)
        times = [part[name].to_numpy() for name in ("frame_start", "frame_stop", "score")]
        assert np.array_equal(now["score"].to_numpy(), smooth_rows(*times, 25.0, how))
        assert now["raw"].to_pylist() == part["score"].to_pylist()
        found = find_events(
            *(now[name].to_numpy() for name in ("frame_start", "frame_stop", "score")),
            25.0,
            levels.high.value,
            levels.low.value,
            config,
        )
        ours = [e["peak_score"] for e in folder.events() if e["video_id"] == video_id]
        assert ours == [event.peak_score for event in found]
    page = write_report(archive.out).read_text("utf-8")
    assert "scores smoothed by gaussian:0.5s" in page
    archive.add(0)
    archive.score()
    assert tables(archive.out) == before and folder.smoothing() is None


def test_metrics_stay_while_their_scores_do(archive: Archive) -> None:
    done = archive.score()
    folder = ScoreFolder(archive.out)
    measured = {"videos": [{"video_id": done.videos[0]}]}
    folder.write_metrics(measured)
    (archive.root / archive.sources[1].name).unlink()
    archive.score()
    assert folder.metrics() == measured
    archive.score(events=EventConfig(quantile=0.4, release_quantile=0.3))
    assert folder.metrics() is None, "false alarms are counted at the threshold"
    folder.write_metrics(measured)
    (archive.out / "scores" / f"{done.videos[0]}.parquet").unlink()
    archive.score(events=EventConfig(quantile=0.4, release_quantile=0.3))
    assert folder.metrics() is None


@pytest.mark.parametrize(
    "changed",
    [{"release_quantile": 0.2}, {"merge_seconds": 7.0}, {"min_seconds": 0.0}, {"pad_seconds": 2.0}],
)
def test_metrics_go_with_the_events_that_they_count(
    archive: Archive, changed: dict[str, float]
) -> None:
    first = {"quantile": 0.4, "release_quantile": 0.3}
    done, folder = archive.score(events=EventConfig(**first)), ScoreFolder(archive.out)
    measured = {"videos": [{"video_id": done.videos[0]}]}
    folder.write_metrics(measured)
    again = archive.score(events=EventConfig(**first))
    assert folder.metrics() == measured and not again.fresh
    other = archive.score(events=EventConfig(**{**first, **changed}))
    assert other.threshold == done.threshold and not other.fresh, "the upper level and scores stay"
    assert folder.metrics() is None


def test_videos_are_scored_while_others_are_still_to_be_decoded(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    archive.score(engine=Engine(streams=1))
    kinds = [kind for kind, _ in log]
    assert kinds.index("scored") < len(kinds) - 1 - kinds[::-1].index("decoded")
    for name in {name for _, name in log}:
        assert [kind for kind, of in log if of == name] == ["decoded", "scored"]


def test_the_same_footage_under_two_names_is_decoded_once(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    shutil.copy2(archive.sources[0], archive.root / "copy.mp4")
    done = archive.score(discard_features=True)
    assert done.fresh == N + 1 and not done.failures
    assert [kind for kind, _ in log].count("decoded") == N
    table = pq.read_table(archive.out / "scores.parquet").to_pylist()
    scores = {v: [r["score"] for r in table if r["video_id"] == v] for v in done.videos}
    assert scores["copy.mp4"] == scores[archive.sources[0].name]


def test_a_part_of_another_column_set_costs_only_its_video(archive: Archive) -> None:
    videos = archive.score().videos
    path = archive.out / "scores" / f"{videos[0]}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("other", table["score"]), path)
    done = archive.score()
    assert done.videos == videos[1:] and done.fresh == 0
    assert [(f.video_id, f.error) for f in done.failures] == [(videos[0], "ColumnsError")]
    written = pq.read_table(archive.out / "scores.parquet")
    assert written.column_names == ["video_id", "frame_start", "frame_stop", "score", "snippet"]
    assert set(written["video_id"].to_pylist()) == set(videos[1:])


def test_columns_that_are_not_declared_are_failures_of_videos(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KNN, "columns", ("score", "other"))
    done = archive.score()
    assert not done.videos and len(done.failures) == N
    assert {f.error for f in done.failures} == {"OutputError"}


# --------------------------------------------------------------------------------------- tables


def test_tables_say_what_the_parts_say(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more videos than are written at a time."""
    config = EventConfig(quantile=0.4, release_quantile=0.3, min_seconds=0, merge_seconds=0)
    monkeypatch.setattr(summary, "ROW_GROUP", 2)
    done = archive.score(events=config)
    few = tables(archive.out)
    monkeypatch.setattr(summary, "ROW_GROUP", 1000)
    archive.score(events=config)
    assert tables(archive.out) == few
    scores, videos, events = (table.to_pylist() for table in few[:3])
    listed = archive.manifest()
    assert [v["video_id"] for v in videos] == [r.video_id for r in listed.records] == done.videos
    _, card = ModelFolder(archive.model).load()
    levels = Calibration.from_json(card["calibration"]).thresholds(config)
    expected_scores, expected_events = [], []
    trained = {v["video_id"]: v["scene_trained"] for v in videos}
    for record in listed.records:
        part = pq.read_table(archive.out / "scores" / f"{record.video_id}.parquet")
        expected_scores += part.to_pylist()
        found = find_events(
            *(part[name].to_numpy() for name in ("frame_start", "frame_stop", "score")),
            25.0,
            levels.high.value,
            levels.low.value,
            config,
        )
        expected_events += [
            {
                "video_id": record.video_id,
                "event_id": f"{record.video_id}-e{i}",
                **vars(event),
                "scene": record.scene,
                "scene_trained": trained[record.video_id],
            }
            for i, event in enumerate(found, start=1)
        ]
    assert scores == expected_scores
    assert events == expected_events and done.events == len(events) > 0
    rows = probe_files(listed, archive.cache).rows
    for video in videos:
        row = rows[video["video_id"]]
        assert (video["content_id"], video["path"]) == (row.content_id, row.path)
        assert (video["n_frames"], video["fps"], video["flags"]) == (40, 25.0, list(row.flags))
        assert (video["frame_start"], video["frame_stop"]) == (0, 40)


def test_a_row_group_is_a_video_or_many(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "ROW_GROUP", 2)
    archive.score()
    groups = {
        name: pq.ParquetFile(archive.out / f"{name}.parquet").metadata.num_row_groups
        for name in ("scores", "videos")
    }
    assert groups == {"scores": N, "videos": 3}
    assert [p.name for p in archive.out.iterdir() if p.name.startswith(".")] == [".lock"]


def test_nothing_to_score_gives_empty_tables(archive: Archive) -> None:
    listed = archive.manifest()
    done = score_footage(archive.model, listed, Probed({}), archive.out, archive.cache)
    assert (done.videos, done.fresh, done.events) == ([], 0, 0)
    scores, videos, events, failures = tables(archive.out)
    assert {t.num_rows for t in (scores, videos, events, failures)} == {0}
    archive.score()
    for empty, full in zip((scores, videos, events), tables(archive.out), strict=False):
        assert set(empty.column_names) <= set(full.column_names)


# --------------------------------------------------------------------------------------- discarding


def test_discarded_features_give_the_same_scores_and_are_gone(
    archive: Archive, tmp_path: Path
) -> None:
    kept = archive.score(tmp_path / "kept")
    shutil.rmtree(archive.cache / "features")
    done = archive.score(discard_features=True)
    assert (done.fresh, done.extracted, done.videos) == (N, N, kept.videos)
    assert tables(archive.out) == tables(tmp_path / "kept")
    assert not shards(archive.cache) and not (archive.cache / "features").exists()
    assert not (ScoreFolder(archive.out).scratch).exists() and not shards(archive.out)
    again = archive.score(discard_features=True)
    assert (again.fresh, again.extracted) == (0, 0)
    assert not (ScoreFolder(archive.out).scratch).exists()


def test_features_that_are_in_the_cache_are_used_and_kept(
    archive: Archive, log: list[tuple[str, str]]
) -> None:
    listed = archive.manifest()
    probed = probe_files(listed, archive.cache)
    there = [r.video_id for r in listed.records[:2]]
    some = replace(probed, rows={v: probed.rows[v] for v in there})
    extract_features(listed, some, [NULL], archive.cache)
    before = {path: path.stat().st_mtime_ns for path in shards(archive.cache)}
    log.clear()
    done = archive.score(discard_features=True)
    assert (done.fresh, done.extracted) == (N, N - 2)
    decoded = {name for kind, name in log if kind == "decoded"}
    assert decoded == {s.name for s in archive.sources} - set(there)
    assert {path: path.stat().st_mtime_ns for path in shards(archive.cache)} == before
    assert not (ScoreFolder(archive.out).scratch).exists()


def test_only_the_features_of_videos_at_work_are_on_disk(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    real = ScoreFolder.write_scores

    def counting(*args: Any, **options: Any) -> None:
        nonlocal most
        most = max(most, len(shards(ScoreFolder(archive.out).scratch)))
        real(*args, **options)

    monkeypatch.setattr(ScoreFolder, "write_scores", counting)
    archive.score(discard_features=True, engine=Engine(streams=1))
    assert 1 <= most <= 2, "the one that is scored, and the one after it"


def test_a_discarding_run_that_was_interrupted_goes_on(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.score(tmp_path / "whole")
    shutil.rmtree(archive.cache / "features")
    real, calls = ScoreFolder.write_scores, 0

    def interrupted(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreFolder, "write_scores", interrupted)
        with pytest.raises(KeyboardInterrupt):
            archive.score(discard_features=True)
    assert shards(ScoreFolder(archive.out).scratch), "what was extracted is not lost"
    done = archive.score(discard_features=True)
    assert (done.fresh, len(done.videos)) == (N - 2, N) and done.extracted < N - 2
    assert tables(archive.out) == tables(tmp_path / "whole")
    assert not (ScoreFolder(archive.out).scratch).exists()


@pytest.mark.parametrize("discard", [False, True])
def test_a_run_is_noted_where_status_looks(archive: Archive, discard: bool) -> None:
    archive.score(discard_features=discard)
    (state,) = read_runs(archive.cache)
    assert (state.state, state.videos_done, state.shards) == ("done", N, N)


@pytest.mark.parametrize("discard", [False, True])
def test_quarantine_is_that_of_the_cache(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, discard: bool
) -> None:
    """What took a process down is known to every later run, whatever becomes of features."""
    bad = archive.sources[2].name
    frames = span_task.guarded_frames

    def hanging(row: Any, *args: Any, **options: Any) -> Any:
        if Path(row.path).name == bad:
            raise DecoderHang(f"{row.path}: nothing was decoded for 60 seconds")
        return frames(row, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(span_task, "guarded_frames", hanging)
        first = archive.score(discard_features=discard)
    assert [(f.video_id, f.error) for f in first.failures] == [(bad, "DecoderHang")]
    assert first.fresh == len(first.videos) == N - 1
    assert [Path(e.path).name for e in quarantine.entries(archive.cache).values()] == [bad]
    second = archive.score(discard_features=discard)
    assert [(f.video_id, f.error) for f in second.failures] == [(bad, "Quarantined")]
    third = archive.score(discard_features=discard, engine=Engine(retry_quarantined=True))
    assert third.fresh == 1 and not third.failures and len(third.videos) == N


# --------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("discard", [False, True])
def test_a_video_that_fails_keeps_its_part(archive: Archive, discard: bool) -> None:
    """It is no result of this run, and one again when the file is back."""
    archive.score(discard_features=discard)
    whole, parts = tables(archive.out), archive.parts()
    bad = archive.root / archive.sources[1].name
    bad.write_bytes(b"no video any more")
    second = archive.score(discard_features=discard)
    assert [(f.video_id, f.stage, f.error) for f in second.failures] == [
        (bad.name, "probe", "NotAVideo")
    ]
    assert second.fresh == 0 and bad.name not in second.videos and len(second.videos) == N - 1
    scores, videos, _, failures = tables(archive.out)
    for table in (scores, videos):
        assert bad.name not in table["video_id"].to_pylist()
    assert failures["video_id"].to_pylist() == [bad.name]
    assert archive.parts() == parts
    shutil.copy2(archive.sources[1], bad)
    third = archive.score(discard_features=discard)
    assert third.fresh == 0 and not third.failures
    assert tables(archive.out) == whole and archive.parts() == parts


@pytest.mark.parametrize("how", ["file", "root"])
def test_what_cannot_be_reached_stays_a_result(archive: Archive, how: str) -> None:
    """Nothing says that its scores are out of date."""
    listed = archive.manifest()
    archive.score()
    whole = tables(archive.out)
    lost = archive.root / archive.sources[1].name if how == "file" else archive.root
    lost.rename(archive.root.parent / "unmounted")
    probed = probe_files(listed, archive.cache)
    done = score_footage(archive.model, listed, probed, archive.out, archive.cache)
    assert len(done.failures) == (1 if how == "file" else N) and len(done.videos) == N
    assert not done.kept, "they are listed"
    order = [("video_id", "ascending"), ("frame_start", "ascending")]
    for table, before in zip(tables(archive.out)[:3], whole[:3], strict=True):
        assert table.sort_by(order) == before.sort_by(order)


@pytest.fixture
def picky(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Name a video that the detector cannot score."""
    refused: list[str] = []

    class Picky(KNN):
        def score(self, bag: Any) -> Any:
            if bag.video_id in refused:
                raise DetectorError(f"video {bag.video_id!r} is not to my taste")
            return super().score(bag)

    real = ModelFolder.load

    def load(folder: ModelFolder) -> Any:
        detector, card = real(folder)
        other = Picky(detector.config)
        other.load_state_dict(detector.state_dict())
        return other, card

    monkeypatch.setattr(ModelFolder, "load", load)
    yield refused.append


@pytest.mark.parametrize("discard", [False, True])
def test_a_video_that_cannot_be_scored_costs_only_itself(
    archive: Archive, picky: Callable[[str], None], discard: bool
) -> None:
    bad = archive.sources[3].name
    picky(bad)
    done = archive.score(discard_features=discard)
    assert [(f.video_id, f.stage, f.error) for f in done.failures] == [
        (bad, "score", "DetectorError")
    ]
    assert done.fresh == len(done.videos) == N - 1 and bad not in done.videos
    assert bool(shards(archive.cache)) != discard and not shards(archive.out)


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ScoreFolder.write_scores, 0

    def full(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise CannotWrite("the disk is full")
        real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreFolder, "write_scores", full)
        with pytest.raises(CannotWrite, match="disk is full"):
            archive.score()
    assert calls == 3 and len(archive.parts()) == 2
    assert not (archive.out / "scores.parquet").exists()
    (state,) = read_runs(archive.cache)
    assert state.state == "failed"
    done = archive.score()
    assert (done.fresh, len(done.videos)) == (N - 2, N)


@pytest.mark.parametrize("cached", [True, False])
def test_features_are_gone_before_scores_are_written(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if cached:
        listed = archive.manifest()
        extract_features(listed, probe_files(listed, archive.cache), [NULL], archive.cache)
    seen: dict[str, weakref.ref[Any]] = {}
    score, write = KNN.score, ScoreFolder.write_scores
    held: list[Any] = []

    def score_seen(detector: KNN, bag: Any) -> Any:
        seen[bag.video_id] = weakref.ref(bag.tracks["snippet"].array)
        return score(detector, bag)

    def write_seen(folder: ScoreFolder, video_id: str, *args: Any, **options: Any) -> None:
        held.append(seen[video_id]())
        write(folder, video_id, *args, **options)

    monkeypatch.setattr(KNN, "score", score_seen)
    monkeypatch.setattr(ScoreFolder, "write_scores", write_seen)
    done = archive.score()
    assert done.fresh == len(seen) == N and bool(done.extracted) != cached
    assert held == [None] * N


def test_networks_that_come_with_the_model_keep_to_the_threads(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that has not imported torch before it loads the detector."""
    now = [7]
    torch = SimpleNamespace(get_num_threads=lambda: now[-1], set_num_threads=now.append)
    load, score = ModelFolder.load, KNN.score
    inside: list[int] = []

    def loads(folder: ModelFolder) -> Any:
        monkeypatch.setitem(sys.modules, "torch", torch)
        return load(folder)

    def scores(detector: KNN, bag: Any) -> Any:
        inside.append(now[-1])
        return score(detector, bag)

    listed = archive.manifest()
    extract_features(listed, probe_files(listed, archive.cache), [NULL], archive.cache)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(ModelFolder, "load", loads)
    monkeypatch.setattr(KNN, "score", scores)
    archive.score(engine=Engine(threads=3))
    assert inside == [3] * N and now == [7, 3, 7]


def test_features_that_a_killed_run_has_left_are_listed(archive: Archive) -> None:
    """They are whole, so they are not extracted again."""
    listed = archive.manifest()
    extract_features(listed, probe_files(listed, archive.cache), [NULL], archive.cache)
    (store,) = stores_of([NULL], archive.cache)
    shutil.rmtree(store.root / "index")
    done = archive.score()
    assert (done.fresh, done.extracted) == (N, 0)
    assert store.index().num_rows == N and store.verify() == []


def test_two_runs_in_one_folder_do_not_mix(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = ScoreFolder.write_scores, []

    def meanwhile(*args: Any, **options: Any) -> None:
        with pytest.raises(ScoreFolderError, match="another run is at work"):
            archive.score()
        refused.append(True)
        real(*args, **options)

    monkeypatch.setattr(ScoreFolder, "write_scores", meanwhile)
    leftover = archive.out / ".tables-old"
    leftover.mkdir(parents=True)
    assert archive.score(discard_features=True).fresh == N == len(refused)
    assert not leftover.exists()


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not every file server knows locks."""

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert archive.score().fresh == N
    assert "cannot be locked" in " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------------------------- scenes


def test_cameras_that_are_new_to_a_model_are_named(archive: Archive) -> None:
    """Trained on two videos of one camera; the archive has files of that one and of others."""
    listed = archive.manifest()
    named = [record.model_copy(update={"scene": "gate"}) for record in listed.records[:2]]
    normal = [r.model_copy(update={"split": "train", "label": 0}) for r in named]
    training = listed.model_copy(update={"records": tuple(normal)})
    probed = probe_files(listed, archive.cache)
    extract_features(training, probe_files(training, archive.cache), [NULL], archive.cache)
    model = train_detector("knn", training, probed, archive.cache).folder
    held_out = ModelFolder(model).held_out()
    assert held_out is not None and held_out.scenes == {"gate": sorted(held_out.videos)}
    assert ModelFolder(model).card()["trained_on"]["scenes"] == ["gate"]
    scenes = ["gate", "yard", "yard", None, "door"]
    records = [
        record.model_copy(update={"scene": scene})
        for record, scene in zip(listed.records, scenes, strict=True)
    ]
    target = listed.model_copy(update={"records": tuple(records)})
    done = score_footage(model, target, probed, archive.out, archive.cache)
    assert done.new_scenes == {"yard": 2, "door": 1}
    folder = ScoreFolder(archive.out)
    assert folder.run()["new_scenes"] == done.new_scenes
    assert [row["scene"] for row in folder.videos()] == scenes
    assert [row["scene_trained"] for row in folder.videos()] == [True, False, False, None, False]
    page = write_report(archive.out).read_text("utf-8")
    assert "not trained on, with their videos: yard (2), door (1)" in page
    # Videos that a later run does not list keep their scene.
    few = target.model_copy(update={"records": tuple(records[:1])})
    later = score_footage(model, few, probed, archive.out, archive.cache)
    assert later.new_scenes == done.new_scenes and len(later.kept) == N - 1


def test_a_camera_with_a_threshold_of_its_own_has_events_above_that(archive: Archive) -> None:
    shutil.copytree(archive.model, archive.root.parent / "model")
    archive.model = archive.root.parent / "model"
    folder = ModelFolder(archive.model)
    start = np.arange(600)

    def rows(low: float) -> Scores:
        return Scores(start, start + 1, {"score": low + 7 * start % 600 / 600.0})

    rates = dict.fromkeys("abcd", 25.0)
    rows_of = HeldOut.from_scores(list("abcd"), [rows(0), rows(0), rows(-9), rows(-9)], rates)
    rows_of.with_scenes({"a": "loud", "b": "loud", "c": "quiet", "d": "quiet"}).write(
        archive.model / "calibration.parquet"
    )
    card = folder.card()
    values = [rows_of.of_video(v).values("score") for v in "abcd"]
    card["calibration"] = Calibration.from_scores(values, method="test").to_json()
    (archive.model / "config.json").write_text(json.dumps(card))
    listed = archive.manifest()
    scenes = ["loud", "quiet", None, "quiet", "loud"]
    target = listed.model_copy(
        update={
            "records": tuple(
                record.model_copy(update={"scene": scene})
                for record, scene in zip(listed.records, scenes, strict=True)
            )
        }
    )
    probed = probe_files(listed, archive.cache)
    score_footage(archive.model, target, probed, archive.out, archive.cache)
    out = ScoreFolder(archive.out)
    stated = out.run()["threshold"]
    assert stated["scenes"]["quiet"]["high"] < -8 < 0.9 < stated["scenes"]["loud"]["high"]
    by_scene = {row["video_id"]: row["scene"] for row in out.videos()}
    found = {by_scene[event["video_id"]] for event in out.events()}
    assert "quiet" in found and "loud" not in found, "distances lie between both thresholds"
    page = write_report(archive.out).read_text("utf-8")
    assert f"<title>threshold {stated['scenes']['quiet']['high']:.4g}</title>" in page
    labelled = target.model_copy(
        update={"records": tuple(r.model_copy(update={"anomalies": ()}) for r in target.records)}
    )
    alarms = evaluate_scores(archive.out, labelled, replicates=0).metrics.false_alarms
    expected = [
        (part["score"].to_numpy() > stated["scenes"].get(by_scene[v], stated)["high"], part)
        for v in by_scene
        for part in [out.scores(v)]
    ]
    above = sum(
        int((p["frame_stop"].to_numpy() - p["frame_start"].to_numpy())[a].sum())
        for a, p in expected
    )
    assert alarms is not None and alarms.rate == pytest.approx(above / alarms.n_frames, abs=0.02)
    score_footage(
        *(archive.model, target, probed, archive.out, archive.cache),
        events=EventConfig(per_scene=False),
    )
    assert "scenes" not in out.run()["threshold"] and out.metrics() is None
