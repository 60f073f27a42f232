"""Model folders: what is written comes back, a full disk leaves no half model, names are found."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.bags import weak_bags
from tests.plugins import reread, write_distribution
from tests.score_folders import rows
from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.detectors.base import DetectorError, FitLog, Row
from vadpipe.extractors.errors import ExtractorError
from vadpipe.pipeline.models import ModelFolder, make_detector, specs_of_model
from vadpipe.pipeline.registry import DETECTORS
from vadpipe.pipeline.scores.held_out import HeldOut, HeldOutError
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.keys import folder_name

CARD = {"features": {}, "calibration": {"levels": [1.0]}, "contents": ["c"], "summary": {"n": 1}}


@pytest.fixture(scope="module")
def fitted():
    detector = make_detector("knn")
    detector.fit(weak_bags(4), device="cpu", seed=0)
    return detector


def test_what_is_saved_is_loaded(fitted, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "models" / "knn-1")
    assert not folder.is_finished()
    held_out = HeldOut.from_scores(["v"], [rows([0.5, 0.25])])
    folder.save(fitted, CARD, FitLog([{"step": 1}, {"step": 2}], {"n": 1}), held_out)
    assert folder.is_finished()
    read = folder.held_out()
    assert read is not None and read.table.equals(held_out.table)
    detector, card = folder.load()
    assert detector.config == fitted.config
    state = fitted.state_dict()
    assert all(np.array_equal(v, state[k]) for k, v in detector.state_dict().items())
    assert card == {
        **CARD,
        "detector": "knn",
        "detector_version": fitted.version,
        "config": fitted.config.model_dump(mode="json"),
        "weights_sha256": hashlib.sha256(
            (folder.path / "weights.safetensors").read_bytes()
        ).hexdigest(),
    }
    assert set(card) - set(folder.describe()) == {"calibration", "contents"}
    assert pq.read_table(folder.path / "log.parquet")["step"].to_pylist() == [1, 2]
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "calibration.parquet",
        "config.json",
        "log.parquet",
        "weights.safetensors",
    ]


def test_a_log_without_steps_holds_the_summary(fitted, tmp_path: Path) -> None:
    ModelFolder(tmp_path).save(fitted, CARD, FitLog([], {"rows": 7}))
    assert ModelFolder(tmp_path).held_out() is None
    assert pq.read_table(tmp_path / "log.parquet").to_pylist() == [{"rows": 7}]


def test_values_that_only_some_steps_have_stand_in_the_log(fitted, tmp_path: Path) -> None:
    steps: list[Row] = [
        {"step": 1, "total": 0.5},
        {"step": 2, "total": 0.25, "validation/proxy": 0.75, "kept": 1},
    ]
    ModelFolder(tmp_path).save(fitted, CARD, FitLog(steps))
    log = pq.read_table(tmp_path / "log.parquet").to_pylist()
    assert log == [{**steps[0], "validation/proxy": None, "kept": None}, steps[1]]


@pytest.mark.parametrize("writes", range(6))
def test_a_full_disk_leaves_no_half_model(
    fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Every file is synced, then its folder; config.json, which makes it a model, is the last."""
    folder, real, calls = ModelFolder(tmp_path / "knn-1"), os.fsync, []
    folder.path.mkdir()

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(CannotWrite, match="No space left on device"):
            folder.save(fitted, CARD, FitLog([], {"n": 1}))
    assert not list(folder.path.glob(".*"))
    assert folder.is_finished() == (writes == 5)  # then only the last sync of the folder failed
    folder.save(fitted, CARD, FitLog([], {"n": 1}))
    assert folder.load()[1]["summary"] == {"n": 1}


@pytest.mark.parametrize("writes", range(8))
def test_a_model_that_is_replaced_is_never_a_mixture(
    fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Held-out rows of another training would move thresholds."""
    folder = ModelFolder(tmp_path / "knn-1")
    old, new = (HeldOut.from_scores(["v"], [rows(each)]) for each in ([0.5], [0.25]))
    folder.save(fitted, CARD, FitLog([], {"n": 1}), old)
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(CannotWrite):
            folder.save(fitted, {**CARD, "summary": {"n": 2}}, FitLog([], {"n": 2}), new)
    held_out = folder.held_out()
    if folder.is_finished():
        assert folder.card()["summary"] == {"n": 2}
        assert held_out is not None and held_out.table.equals(new.table)
    folder.save(fitted, CARD, FitLog([], {"n": 1}))
    assert folder.is_finished() and folder.held_out() is None


def test_models_are_found_by_folder_or_by_the_beginning_of_a_name(
    fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DetectorError, match=r"no model 'knn'; in .*: none"):
        ModelFolder.find(tmp_path, "knn")
    first = ModelFolder.of_recipe(tmp_path, {"detector": "knn", "seed": 0})
    second = ModelFolder.of_recipe(tmp_path, {"detector": "knn", "seed": 1})
    for folder in (first, second):
        folder.save(fitted, CARD)
        folder.unfinished.mkdir(parents=True)
    assert first.path.name == folder_name("knn", {"detector": "knn", "seed": 0})
    assert first.unfinished == tmp_path / "models" / "unfinished" / first.path.name
    assert ModelFolder.find(tmp_path, first.path.name[:8]).path == first.path
    assert ModelFolder.find(tmp_path, str(second.path)).path == second.path
    with pytest.raises(DetectorError, match="several models match 'knn'") as error:
        ModelFolder.find(tmp_path, "knn")
    assert first.path.name in str(error.value) and second.path.name in str(error.value)
    with pytest.raises(DetectorError, match="no model 'rtfm'") as error:
        ModelFolder.find(tmp_path, "rtfm")
    assert first.path.name in str(error.value) and "unfinished" not in str(error.value)


def test_what_is_no_model_is_refused(fitted, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    for look in (folder.card, folder.describe, folder.load):
        with pytest.raises(DetectorError, match=r"not a model folder: it has no config\.json"):
            look()
    folder.save(fitted, CARD)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**folder.card(), "detector_version": 0}))
    with pytest.raises(DetectorError, match=r"trained by version 0 of knn.*train it again"):
        folder.load()


def test_a_pipe_at_the_name_of_the_weights_is_not_waited_for(fitted, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    folder.save(fitted, CARD)
    (tmp_path / "weights.safetensors").unlink()
    os.mkfifo(tmp_path / "weights.safetensors")
    with pytest.raises(DetectorError, match=r"is damaged .*it is not a file"):
        folder.load()


def test_damaged_held_out_rows_say_how_to_train_again(fitted, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    folder.save(fitted, CARD, None, HeldOut.from_scores(["v"], [rows([0.5])], {"v": 25.0}))
    path = tmp_path / "calibration.parquet"
    good = pq.read_table(path)
    damages = [
        b"PAR1 nothing PAR1",
        good.drop_columns(["score"]),
        good.replace_schema_metadata({"fps": '{"v": -1}'}),
    ]
    for damage in damages:
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:
            pq.write_table(damage, path)
        with pytest.raises(HeldOutError, match=r"calibration\.parquet.*vadpipe train --force"):
            folder.held_out()


def test_the_name_of_a_model_is_no_path(tmp_path: Path) -> None:
    for name in ("../x", "/etc", "", "a/b", ".hidden"):
        with pytest.raises(StoreError, match="no name of a model"):
            ModelFolder.named(tmp_path, name)


PLUGIN = """
from vadpipe.detectors.knn import KNN
class Mine(KNN):
    name = "mine"
"""


def test_a_model_of_a_plugin_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, points = tmp_path / "site", {"vadpipe.detectors": {"mine": "plugin_model:Mine"}}
    write_distribution(site, "plugin-a", points, {"plugin_model": PLUGIN}, "1.5")
    monkeypatch.syspath_prepend(site)
    reread(monkeypatch)
    detector = make_detector("mine")
    detector.fit(weak_bags(4), device="cpu", seed=0)
    card = {**CARD, **DETECTORS.recorded("mine")}
    folder = ModelFolder(tmp_path / "mine-1")
    folder.save(detector, card)
    loaded, kept = folder.load()
    assert loaded.name == "mine"
    assert kept["distribution"] == {"name": "plugin-a", "version": "1.5"}
    folder.save(detector, {**card, "distribution": {"name": "plugin-b", "version": "1.5"}})
    with pytest.raises(DetectorError, match="by mine of plugin-b, here it is of plugin-a: train"):
        folder.load()
    folder.save(detector, card)
    shutil.rmtree(site)
    reread(monkeypatch)
    with pytest.raises(DetectorError, match=r"not installed: pip install plugin-a==1\.5$"):
        folder.load()


def test_features_of_a_plugin_say_what_to_install() -> None:
    recipe = {
        "extractor": "gone",
        "weights": None,
        "distribution": {"name": "plugin-a", "version": "1.5"},
    }
    with pytest.raises(ExtractorError, match=r"of 'gone': .*; pip install plugin-a==1\.5$"):
        specs_of_model({"features": {"snippet": recipe}})
    del recipe["distribution"]
    with pytest.raises(ExtractorError, match="there are: inception_i3d"):
        specs_of_model({"features": {"snippet": recipe}})


def test_weights_are_read_back_before_they_have_their_name(
    fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: real(path, data[:-1] + b"?"))
    folder = ModelFolder(tmp_path / "models" / "knn-1")
    with pytest.raises(StoreError, match="does not return what was written"):
        folder.save(fitted, CARD)
    assert not folder.is_finished() and not list(folder.path.iterdir())
