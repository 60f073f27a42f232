"""The train stage with weak labels: refusals before training, hold-out, kills, TensorBoard."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from tests import pretrained_detector
from tests.pretrained_detector import WIDTH
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.detectors.base import TRAIN_OPTIONS, DetectorError, FitOptions
from vadpipe.detectors.knn import KNN
from vadpipe.detectors.mil_ranking import MILRanking
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.extractors.weights.slots import WeightsChoice
from vadpipe.pipeline import train as train_module
from vadpipe.pipeline.bags import StoreBags
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.failures import Failure
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.locks import training
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.train import Trained, train_detector

SETTINGS: dict[str, Any] = {"steps": 3, "batch_size": 2}


class World:
    """A tiny scene whose videos are weakly labelled, with null features."""

    def __init__(self, folder: Path) -> None:
        write_tiny_scene(folder / "scene")
        made = synthetic.build(folder / "scene")
        records = tuple(
            r.model_copy(update={"split": "train", "label": i % 2, "anomalies": None})
            for i, r in enumerate(made.records)
        )
        self.manifest = made.model_copy(update={"records": records})
        self.cache = folder / "cache"
        self.probed = probe_files(self.manifest, self.cache)
        spec = resolve_extractor("null", {"clip_length": 4, "stride": 4})
        self.store = extract_features(self.manifest, self.probed, [spec], self.cache).stores[0]

    def train(self, manifest: Manifest | None = None, **options: Any) -> Trained:
        settings = {**SETTINGS, **options.pop("settings", {})}
        probed: Probed = options.pop("probed", self.probed)
        return train_detector(
            "mil_ranking",
            manifest or self.manifest,
            probed,
            self.cache,
            settings=settings,
            **options,
        )

    def labelled(self, labels: Mapping[int, int | None]) -> Manifest:
        records = [
            r.model_copy(update={"label": labels.get(i, r.label)})
            for i, r in enumerate(self.manifest.records)
        ]
        return self.manifest.model_copy(update={"records": tuple(records)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Footage and features, made once."""
    return World(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """The same footage, and a copy of its cache."""
    torch.set_num_threads(1)
    own = copy.copy(made)
    own.cache = shutil.copytree(made.cache, tmp_path / "cache")
    own.probed = Probed(dict(made.probed.rows))
    own.store = FeatureStore(own.cache, made.store.recipe)
    return own


def test_one_class_and_unknown_labels_are_named(world: World) -> None:
    ids = [r.video_id for r in world.manifest.records]
    with pytest.raises(DetectorError, match=f"1 training videos have no label: {ids[2]}"):
        world.train(world.labelled({2: None}))
    with pytest.raises(DetectorError, match=r"all \d+ training videos are abnormal"):
        world.train(world.labelled(dict.fromkeys(range(len(ids)), 1)))
    assert not (world.cache / "models").exists()


def test_labels_without_features_are_named(world: World) -> None:
    record = world.manifest.records[1]
    world.store.remove_video(world.probed.rows[record.video_id].content_id)
    with pytest.raises(StoreError, match=f"lacks 1 training videos: {record.video_id}"):
        world.train()


def test_footage_that_cannot_be_read_is_named(world: World) -> None:
    record = world.manifest.records[1]
    rows = {k: v for k, v in world.probed.rows.items() if k != record.video_id}
    with pytest.raises(DetectorError, match=f"1 training videos cannot be read: {record.video_id}"):
        world.train(probed=replace(world.probed, rows=rows))


def test_training_goes_on_without_the_few_videos_that_cannot_be_used(world: World) -> None:
    bad, bare, *others = world.manifest.records
    rows = {k: v for k, v in world.probed.rows.items() if k != bad.video_id}
    why = Failure(bad.video_id, "probe", "NotAVideo", "no video")
    probed = replace(world.probed, rows=rows, failures=[why])
    world.store.remove_video(rows[bare.video_id].content_id)
    share = 2 / len(world.manifest.records)
    with pytest.raises(StoreError, match=f"lacks 1 training videos: {bare.video_id}"):
        world.train(probed=probed, max_missing=share - 0.01)
    done = world.train(probed=probed, max_missing=share, holdout=0.0)
    assert [f.video_id for f in done.missing] == [bad.video_id, bare.video_id]
    assert done.missing[0] == why and done.missing[1].error == "StoreError"
    left = world.manifest.model_copy(update={"records": tuple(others)})
    again = world.train(left, probed=probed, max_missing=0, holdout=0.0)
    assert (again.folder, again.fresh, again.missing) == (done.folder, False, ())
    listed = world.train(probed=probed, max_missing=share, holdout=0.0)
    assert not listed.fresh and listed.missing == done.missing


def test_both_classes_have_to_be_left(world: World) -> None:
    labels = {i: int(i == 0) for i in range(len(world.manifest.records))}
    manifest = world.labelled(labels)
    only = manifest.records[0].video_id
    rows = {k: v for k, v in world.probed.rows.items() if k != only}
    with pytest.raises(DetectorError, match="videos are normal: need both classes"):
        world.train(manifest, probed=replace(world.probed, rows=rows), max_missing=0.9)


def test_held_back_videos_are_not_trained_on(world: World) -> None:
    normal = [r.video_id for r in world.manifest.records if r.label == 0]
    card = ModelFolder(world.train().folder).card()
    method = card["calibration"]["method"]
    held = method.removeprefix("held back from training: ").split(", ")
    assert set(held) <= set(normal) and len(held) == int(np.ceil(0.2 * len(normal)))
    assert card["summary"]["videos"] == len(world.manifest) - len(held)
    held_out = ModelFolder(world.train().folder).held_out()
    assert held_out is not None and held_out.videos == tuple(sorted(held))
    assert_calibrates(held_out, card)
    other = world.train(holdout=0.0)
    card = ModelFolder(other.folder).card()
    assert "training videos themselves" in card["calibration"]["method"]
    assert card["summary"]["videos"] == len(world.manifest)
    assert card["calibration"]["n_videos"] == len(normal)
    assert other.folder != world.train().folder


def copied(world: World, count: int, scenes: Sequence[str | None] | None = None) -> Manifest:
    """The first videos, all normal, each listed twice."""
    first = [r.model_copy(update={"label": 0}) for r in world.manifest.records[:count]]
    for i, scene in enumerate(scenes or ()):
        first[i] = first[i].model_copy(update={"scene": scene})
    twins = [r.model_copy(update={"video_id": f"{r.video_id}-copy"}) for r in first]
    world.probed.rows.update(
        {twin.video_id: world.probed.rows[r.video_id] for twin, r in zip(twins, first, strict=True)}
    )
    return world.manifest.model_copy(update={"records": (*first, *twins)})


@pytest.mark.parametrize("detector", ["knn", "mil_ranking"])
def test_copies_count_once(world: World, detector: str) -> None:
    """A model of videos and their copies is that of the videos, and says so."""
    manifest = copied(world, 4)
    if detector == "mil_ranking":
        labels = [i // 2 % 2 for i in range(4)] * 2
        records = [
            r.model_copy(update={"label": label})
            for r, label in zip(manifest.records, labels, strict=True)
        ]
        manifest = manifest.model_copy(update={"records": tuple(records)})
    alone = manifest.model_copy(update={"records": manifest.records[:4]})
    settings = SETTINGS if detector == "mil_ranking" else {}
    twice, once = (
        train_detector(detector, each, world.probed, world.cache, settings=settings)
        for each in (manifest, alone)
    )
    assert twice.folder == once.folder and not once.fresh
    names = [f"{r.video_id}-copy = {r.video_id}" for r in alone.records]
    assert (
        f"4 of 8 training videos are copies of others, and count once with them: {names[0]}"
        in (twice.warnings[0])
    )
    assert not any("copies of others" in warning for warning in once.warnings)
    card = ModelFolder(twice.folder).card()
    assert card["trained_on"]["videos"] == 4 and len(card["trained_on"]["copies"]) == 4
    calibration = Calibration.from_json(card["calibration"])
    assert calibration.threshold(0.99).value > 0.0 and calibration.n_videos <= 4


def test_cameras_with_one_clip_are_said_so_and_move_the_key(world: World) -> None:
    records = tuple(r.model_copy(update={"label": 0}) for r in world.manifest.records[:3])

    def train(*scenes: str | None) -> Trained:
        named = [r.model_copy(update={"scene": s}) for r, s in zip(records, scenes, strict=True)]
        manifest = world.manifest.model_copy(update={"records": tuple(named)})
        return train_detector("knn", manifest, world.probed, world.cache)

    same, lone = train("x", "x", "x"), train("x", "x", "y")
    cards = [ModelFolder(each.folder).card() for each in (same, lone)]
    assert "held_out" not in cards[0] and cards[1]["held_out"] == "by scene"
    assert cards[0]["calibration"]["method"] == "leave one video out"
    warning, more = cards[1]["calibration"]["warnings"]
    assert more.startswith("train on more normal footage, of 5 videos or more")
    assert f"1 scene: y ({records[2].video_id})" in warning and "second video" in warning
    assert any(warning in each for each in lone.warnings)
    assert train("x", "x", "y").warnings == lone.warnings, "also where the model is there already"


def test_one_model_for_all_seeds_where_nothing_is_random(world: World) -> None:
    manifest = copied(world, 3)
    train = partial(train_detector, "knn", manifest, world.probed, world.cache)
    first = train(seed=5)
    again = train(seed=6)
    assert first.fresh and not first.draws
    assert (again.folder, again.fresh) == (first.folder, False)
    rows = train(seed=5, settings={"max_rows": 7})
    other = train(seed=6, settings={"max_rows": 7})
    assert rows.draws and other.fresh and rows.folder != other.folder
    assert world.train().draws


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"holdout": 0.2}, "knn would ignore holdout: leave it out"),
        ({"init": "x", "memory": 5}, "knn would ignore init and memory: leave them out"),
        ({"tensorboard": Path("board")}, "knn would ignore tensorboard"),
        ({"init": "knn-"}, "knn would ignore init"),
    ],
)
def test_options_that_a_detector_would_ignore_are_refused(
    world: World, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(DetectorError, match=match):
        train_detector("knn", world.manifest, world.probed, world.cache, **options)
    assert not (world.cache / "models").exists()


@pytest.mark.parametrize("device", ["cuda:7", "cuda:0,cuda:1", "gpu", "cuda:", "CPU"])
def test_a_device_that_is_not_there_is_said_before_anything_is_trained(
    world: World, device: str
) -> None:
    with pytest.raises(ExtractorError, match=f"device '{device}'"):
        train_detector("mil_ranking", world.manifest, world.probed, world.cache, device=device)
    assert not (world.cache / "models").exists()


def test_a_hold_out_is_refused_where_videos_are_left_out_after_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some detectors leave videos out or hold some back; their scenes decide."""
    monkeypatch.setattr(KNN, "train_options", frozenset({"holdout"}))
    train = partial(train_detector, "knn", copied(world, 3), world.probed, world.cache)
    with pytest.raises(DetectorError, match="knn leaves out each of these videos in turn"):
        train(holdout=0.4)
    assert not train().draws


def assert_calibrates(held_out: HeldOut, card: Mapping[str, Any]) -> None:
    """The rows are those that the quantiles of the card come from."""
    calibration = Calibration.from_scores([held_out.values("score")], method="")
    assert list(calibration.values) == card["calibration"]["values"]
    assert calibration.n_rows == card["calibration"]["n_rows"]


@pytest.mark.parametrize("videos", [1, 3])
def test_rows_of_videos_that_were_left_out_are_kept(world: World, videos: int) -> None:
    records = tuple(r.model_copy(update={"label": 0}) for r in world.manifest.records[:videos])
    manifest = world.manifest.model_copy(update={"records": records})
    done = train_detector("knn", manifest, world.probed, world.cache)
    held_out = ModelFolder(done.folder).held_out()
    assert held_out is not None
    assert held_out.videos == tuple(sorted(r.video_id for r in records))
    assert held_out.columns == ("score", "snippet")
    assert_calibrates(held_out, ModelFolder(done.folder).card())


def test_a_killed_training_goes_on_and_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"settings": {"steps": 6}, "seed": 5}
    whole = world.train(**options)
    expected = ModelFolder(whole.folder).load()[0].state_dict()
    for path in whole.folder.iterdir():
        path.unlink()

    calls: list[int] = []
    losses = MILRanking.losses

    def dying(self: MILRanking, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return losses(self, *given)

    monkeypatch.setattr(MILRanking, "losses", dying)
    always = partial(FitOptions, checkpoint_seconds=0.0)
    monkeypatch.setattr(train_module, "FitOptions", always)
    with pytest.raises(KeyboardInterrupt):
        world.train(**options)
    unfinished = ModelFolder(whole.folder).unfinished
    assert list(unfinished.iterdir())
    done = world.train(**options)
    assert done.fresh and len(calls) == 7  # the fifth step twice, none of the others
    state = ModelFolder(done.folder).load()[0].state_dict()
    assert all(np.array_equal(state[k], expected[k]) for k in expected)
    assert not unfinished.exists()


def test_a_training_starts_from_a_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MILRanking, "train_options", TRAIN_OPTIONS | {"init"})
    starts = []
    fit = MILRanking.fit

    def seen(self: MILRanking, *given: Any, **more: Any) -> Any:
        starts.append(self.start)
        return fit(self, *given, **more)

    monkeypatch.setattr(MILRanking, "fit", seen)
    first = world.train()
    begun = world.train(init=first.folder.name, settings={"steps": 2})
    state = ModelFolder(first.folder).load()[0].state_dict()
    assert starts[0] == {} and starts[1].keys() == state.keys()
    assert all(np.array_equal(starts[1][name], state[name]) for name in state)
    card = ModelFolder(begun.folder).card()
    assert card["init"] == ModelFolder(first.folder).card()["weights_sha256"]
    assert world.train(settings={"steps": 2}).folder != begun.folder, "it is part of the key"
    assert not world.train(init=str(first.folder), settings={"steps": 2}).fresh


def test_only_a_model_of_the_same_detector_and_features_is_a_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MILRanking, "train_options", TRAIN_OPTIONS | {"init"})
    first = world.train()
    with pytest.raises(DetectorError, match="no model 'gone'"):
        world.train(init="gone")
    path = first.folder / "config.json"
    card = json.loads(path.read_text())
    other = {**card["features"]["snippet"], "extractor_version": 99}
    path.write_text(json.dumps({**card, "features": {"snippet": other}}))
    with pytest.raises(DetectorError, match="trained on other 'snippet' features"):
        world.train(init=first.folder.name, seed=9)
    monkeypatch.setattr(MILRanking, "version", 99)
    monkeypatch.setattr(MILRanking, "loads", (card["detector_version"],))
    with pytest.raises(DetectorError, match="not of mil_ranking version 99"):
        world.train(init=first.folder.name, seed=9)


def test_two_runs_do_not_train_one_model_at_once(world: World) -> None:
    """They would share the files of the unfinished training."""
    done = world.train()
    with training(done.folder):
        assert not world.train().fresh, "what is finished can be used"
        with pytest.raises(StoreError, match="another run trains"):
            world.train(force=True)
    assert world.train(force=True).fresh


def test_a_model_of_other_files_with_the_same_ids_is_trained_again(world: World) -> None:
    """A sampled id may stand for another file in a cache that was made again around a model."""
    card = world.train().folder / "config.json"
    assert not world.train().fresh
    for files, fresh in (("of others", True), (None, False)):
        values = json.loads(card.read_text())
        values["trained_on"].pop("files")
        if files is not None:
            values["trained_on"]["files"] = files
        card.write_text(json.dumps(values))
        assert world.train().fresh is fresh, "a card of an older version does not say it"


def test_the_log_has_a_row_a_step(world: World) -> None:
    done = world.train()
    log = pq.read_table(done.folder / "log.parquet").to_pylist()
    assert [row["step"] for row in log] == [1, 2, 3]
    assert {"ranking", "sparsity", "smoothness", "total", "lr", "seconds"} <= set(log[0])


def test_a_changed_option_of_the_loop_is_another_model(world: World) -> None:
    plain = world.train()
    assert world.train(settings={"precision": "fp32", "clip": None}).folder == plain.folder
    other = world.train(settings={"precision": "bf16"})
    assert other.folder != plain.folder
    for done, precision in ((plain, "fp32"), (other, "bf16")):
        detector, card = ModelFolder(done.folder).load()
        assert card["summary"]["precision"] == card["config"]["precision"] == precision
        assert detector.config.precision == precision


def test_tensorboard_gets_every_term(world: World, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    world.train(tensorboard=tmp_path / "board")
    found = events.EventAccumulator(str(tmp_path / "board")).Reload()
    names = found.Tags()["scalars"]
    assert {"mil_ranking/total", "mil_ranking/ranking", "mil_ranking/lr"} <= set(names)
    assert [e.step for e in found.Scalars("mil_ranking/total")] == [1, 2, 3]


# -------------------------------------------------------------------------- pretrained networks


class Started:
    """Trainings of the test detector that starts from pretrained networks."""

    def __init__(self, scene: Manifest, cache: Path) -> None:
        self.manifest, self.cache = scene.select(split="train"), cache
        self.probed = probe_files(self.manifest, cache)
        extract_features(self.manifest, self.probed, [resolve_extractor("null")], cache)

    def __call__(self, weights: WeightsChoice, **settings: Any) -> Trained:
        return train_detector(
            "pretrained",
            self.manifest,
            self.probed,
            self.cache,
            settings=settings,
            weights=weights,
        )


@pytest.fixture
def start(scene: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)
    pretrained_detector.register(monkeypatch)
    return Started(scene, tmp_path / "cache")


def test_pretrained_weights_are_part_of_the_key_and_of_the_card(start: Started) -> None:
    first = start("random:0")
    folder = ModelFolder(first.folder)
    assert folder.card()["weights"] == folder.describe()["weights"] == {"encoder": "random:0"}
    assert not start({"encoder": "random:0"}).fresh
    other = start("random:1")
    both = start({"encoder": "random:0", "critic": "random:0"}, critic=True)
    assert ModelFolder(both.folder).card()["weights"] == {
        "encoder": "random:0",
        "critic": "random:0",
    }
    assert len({first.folder, other.folder, both.folder}) == 3
    states = [load_file(each.folder / "weights.safetensors") for each in (first, other)]
    assert not np.array_equal(states[0]["weight"], states[1]["weight"])


def test_a_trained_model_needs_no_pretrained_weights(start: Started, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3, WIDTH)}, tmp_path / "own.pt")
    trained = start(str(tmp_path / "own.pt"))
    np.testing.assert_array_equal(
        load_file(trained.folder / "weights.safetensors")["weight"], np.ones((3, WIDTH))
    )
    shutil.rmtree(start.cache / "weights")
    (tmp_path / "own.pt").unlink()
    detector, card = ModelFolder(trained.folder).load()
    assert len(card["weights"]["encoder"]) == 64 and not detector.weights
    with pytest.raises(DetectorError, match="needs weights for encoder: call take_weights first"):
        detector.fit(StoreBags([], {}, {}, labels=False), device="cpu", seed=0)
    with pytest.raises(DetectorError, match="pretrained needs weights for encoder"):
        detector.take_weights({})


@pytest.mark.parametrize(
    ("weights", "settings", "match"),
    [
        (None, {}, r"'encoder.first' are missing .*`vadpipe weights fetch encoder.first`"),
        ("random:0", {"critic": True}, "several networks: write SLOT=SPEC .* encoder, critic"),
        ({"critic": "random:0"}, {}, "no network critic with these settings; it has: encoder"),
        ("none.pt", {}, r"no weights 'none.pt': .*encoder.first, encoder.second"),
    ],
)
def test_pretrained_weights_that_cannot_be_had(
    start: Started, weights: WeightsChoice, settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(WeightsError, match=match):
        start(weights, **settings)
    assert not (start.cache / "models").exists(), "nothing was trained"


def test_a_detector_without_pretrained_networks_takes_no_weights(world: World) -> None:
    with pytest.raises(WeightsError, match="mil_ranking has no network and takes no weights"):
        world.train(weights="random:0")
    assert "weights" not in ModelFolder(world.train().folder).card()


def test_the_card_names_twins_apart_from_the_features_that_scoring_needs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MILRanking, "twins", property(lambda _: {"odd": "snippet"}))
    seen: list[set[str]] = []
    fit = MILRanking.fit

    def watched(self: Any, source: Any, **options: Any) -> Any:
        seen.append(set(source[0].tracks))
        return fit(self, source, **options)

    def scored(self: Any, bag: Any) -> Any:
        seen.append(set(bag.tracks))
        return score(self, bag)

    score = MILRanking.score
    monkeypatch.setattr(MILRanking, "fit", watched)
    monkeypatch.setattr(MILRanking, "score", scored)
    named = {"odd": world.store.name}
    trained = train_detector(
        *("mil_ranking", world.manifest, world.probed, world.cache),
        features=named,
        settings=SETTINGS,
    )
    card = ModelFolder(trained.folder).card()
    assert set(card["features"]) == {"snippet"} and set(card["twins"]) == {"odd"}
    assert card["twins"]["odd"] == world.store.recipe
    assert not [text for text in trained.warnings if "in another way" in text]
    monkeypatch.setattr("vadpipe.pipeline.train.other_ways", lambda *_: ("made in another way",))
    for force in (True, False):  # the card keeps it
        again = train_detector(
            *("mil_ranking", world.manifest, world.probed, world.cache),
            features=named,
            settings=SETTINGS,
            force=force,
        )
        assert again.fresh is force and "made in another way" in again.warnings
    del seen[2:]
    assert seen == [{"snippet", "odd"}, {"snippet"}], "held-back videos are scored without twins"
