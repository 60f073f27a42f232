"""Feedback: rejected events become training footage, exactly, and the model knows them then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import ID_LENGTH, Manifest, VideoRecord
from vadpipe.data_manifests.stored import DamagedFile
from vadpipe.data_manifests.table import read_manifest, write_manifest
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.feedback import (
    FeedbackError,
    apply_feedback,
    fit_again,
    keep_rule,
    part_of,
    record_id,
    whole_rows,
)
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.review.verdicts import VerdictError, page_id, read_verdicts
from vadpipe.pipeline.score import score_footage
from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.threshold import fit_threshold
from vadpipe.pipeline.train import train_detector

NULL = resolve_extractor("null", {"clip_length": 4, "stride": 4})
CONFIG = EventConfig(quantile=0.5, release_quantile=0.3, min_seconds=0)


class Site:
    """A scored scene: manifest of all, cache, model and score folder."""

    def __init__(self, folder: Path) -> None:
        write_tiny_scene(folder / "scene", n_train=3, n_test=2)
        made = synthetic.build(folder / "scene")
        records = [r.model_copy(update={"anomalies": None}) for r in made.records]
        self.manifest = made.model_copy(update={"records": tuple(records)})
        self.cache, self.out = folder / "cache", folder / "out"
        probed = probe_files(self.manifest, self.cache)
        extract_features(self.manifest, probed, [NULL], self.cache)
        self.model = train_detector("knn", self.manifest, probed, self.cache).folder
        self.score(self.model, self.out)
        self.video = next(r for r in self.manifest.records if r.split == "test")

    def score(self, model: Path, out: Path) -> ScoreFolder:
        test = self.manifest.select(split="test")
        probed = probe_files(test, self.cache)
        score_footage(model, test, probed, out, self.cache, events=CONFIG)
        return ScoreFolder(out)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def verdict(video: str, start: int, stop: int, said: str | None = "reject", **more: Any) -> dict:
    about = {"video_id": video, "verdict": said, "frame_start": start, "frame_stop": stop}
    return {**about, "peak_frame": start, "note": "", **more}


def write(path: Path, *verdicts: dict, out: Path | None = None, **more: Any) -> Path:
    """A file of verdicts; of the page of a score folder, where there is one."""
    values = {"format": "vadpipe verdicts", "version": 1, "column": "score"}
    if out is not None:
        folder = ScoreFolder(out)
        contents = {row["video_id"]: row["content_id"] for row in folder.videos()}
        verdicts = tuple({"content_id": contents.get(v["video_id"]), **v} for v in verdicts)
        values["page"] = page_id(folder.run(), "score")
    path.write_text(json.dumps({**values, "verdicts": list(verdicts), **more}))
    return path


def test_rejected_footage_is_known_to_the_next_model(site: Site, tmp_path: Path) -> None:
    name = site.video.video_id
    before = site.score(site.model, site.out).scores(name)
    file = write(
        tmp_path / "v.json",
        verdict(name, 8, 16),
        verdict(name, 17, 23),  # widened to 16..24: touches the first
        verdict(name, 30, 34, "accept"),
        verdict(name, 2, 3, "unsure"),
        out=site.out,
    )
    done = apply_feedback(file, site.out, site.manifest)
    (record,) = done.added
    n_frames = ScoreFolder(site.out).videos()[0]["n_frames"]
    assert record.frame_range(n_frames) == (8, 24)
    assert (record.split, record.label, record.anomalies) == ("train", 0, ())
    assert (record.path, record.scene) == (site.video.path, site.video.scene)
    assert done.verdicts == {"reject": 2, "accept": 1, "unsure": 1} and not done.left_out
    assert done.manifest.records == (*site.manifest.records, record)
    assert done.seconds == pytest.approx(16 / 25)
    assert done.tested == (name,)
    told = "\n".join(done.lines())
    assert "1 accept, 2 reject, 1 unsure" in told and "1 part of 1 video, 0.6 s" in told
    assert "not those of unseen footage" in told
    probed = probe_files(done.manifest.select(split="train"), site.cache)
    trained = fit_again(site.model, done, probed, site.cache, "cpu")
    assert trained.fresh and trained.folder != site.model
    old, new = (ModelFolder(folder).card() for folder in (site.model, trained.folder))
    assert new["calibration"]["values"] == old["calibration"]["values"]
    assert new["trained_only"] == [record.video_id] and new["key"] != old["key"]
    after = site.score(trained.folder, tmp_path / "again").scores(name)
    inside = (after["frame_start"].to_numpy() >= 8) & (after["frame_stop"].to_numpy() <= 24)
    assert inside.sum() == 4
    assert (after["score"].to_numpy()[inside] == 0).all()  # they are in the bank now
    assert (before["score"].to_numpy()[inside] > 0).all()
    assert (after["score"].to_numpy() <= before["score"].to_numpy() + 1e-12).all()


def test_verdicts_go_on_with_the_model_that_learnt_from_them(site: Site, tmp_path: Path) -> None:
    """Twice: each model after the first has the page of the first, and accepted events shield."""
    name, out, model, manifest = site.video.video_id, site.out, site.model, site.manifest
    first = page_id(ScoreFolder(out).run(), "score")
    said = [verdict(name, 30, 34, "accept")]
    for step, (a, b) in enumerate([(8, 16), (20, 24)]):
        said.append(verdict(name, a, b))
        file = write(tmp_path / f"v{step}.json", *said, out=out)
        done = apply_feedback(file, out, manifest)
        assert [r.video_id for r in done.added] == [f"{name}-rejected-{a}-{b}"]
        manifest = done.manifest
        probed = probe_files(manifest.select(split="train"), site.cache)
        before = ModelFolder(model).card()
        model = fit_again(model, done, probed, site.cache, "cpu").folder
        card = ModelFolder(model).card()
        assert card["trained_on"]["feedback_on"][-1] == before["key"]
        assert len(card["trained_on"]["feedback_on"]) == step + 1
        out = tmp_path / f"out{step}"
        assert page_id(site.score(model, out).run(), "score") == first
        # The file of the page before is read with the new scores; what was accepted stays.
        again = apply_feedback(write(file, *said, verdict(name, 31, 38), out=out), out, manifest)
        reasons = [each.reason for each in again.left_out]
        assert "it meets an event that was accepted" in reasons and not again.added


def kept(model: Path, **rule: float) -> ModelFolder:
    folder = ModelFolder(model)
    fit_threshold(model, EventConfig(**rule, min_seconds=0, release_quantile=0.1))
    return folder


def test_the_rule_of_a_threshold_is_fitted_again(site: Site, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for copy in (old, new):
        shutil.copytree(site.model, copy)
    assert keep_rule(old, new) == [] and ModelFolder(new).threshold() is None
    before = kept(old, quantile=0.3).threshold()
    assert before is not None
    line, *_ = keep_rule(old, new, "vadpipe feedback")
    now = ModelFolder(new).threshold()
    assert now is not None and now.rule == before.rule and now.command == "vadpipe feedback"
    assert line == f"rule kept: quantile 0.3, threshold {now.high:.6g}"
    # A rule that the new model has is the choice of a user.
    kept(old, quantile=0.7)
    assert keep_rule(old, new) == [] and ModelFolder(new).threshold() == now


@pytest.mark.parametrize("rule", [{"value": 3.0}, {"budget": 5.0}])
def test_a_rule_that_cannot_be_kept_is_named_with_its_command(
    site: Site, tmp_path: Path, rule: dict
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for copy in (old, new):
        shutil.copytree(site.model, copy)
    kept(old, **rule)
    (new / "calibration.parquet").unlink()  # as a model of version 0.1: it knows no days
    (line,) = keep_rule(old, new)
    ((name, number),) = rule.items()
    assert f"vadpipe threshold new --{name} {'V' if name == 'value' else f'{number:g}'}" in line
    assert ModelFolder(new).threshold() is None


def test_the_command_writes_a_manifest_and_a_model(site: Site, tmp_path: Path) -> None:
    manifest = write_manifest(site.manifest, tmp_path / "site.parquet")
    file = write(tmp_path / "v.json", verdict(site.video.video_id, 8, 16), out=site.out)
    words = ["feedback", str(file), str(site.out), str(manifest), "-o", str(tmp_path / "new.csv")]
    done = CliRunner().invoke(cli, [*words, "--cache", str(site.cache)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    printed, folder = done.stdout.split()
    assert len(read_manifest(Path(printed)).records) == len(site.manifest.records) + 1
    assert Path(folder).parent == site.cache / "models" and "1 part of 1 video" in done.stderr
    only = CliRunner().invoke(cli, [*words, "--cache", str(tmp_path / "empty"), "--no-train"])
    assert only.exit_code == 0 and only.stdout.split() == [printed]
    again = ["feedback", str(file), str(site.out), printed, "-o", str(tmp_path / "n.csv")]
    none = CliRunner().invoke(cli, again)
    assert isinstance(none.exception, FeedbackError) and "training footage already" in none.output


def test_what_is_not_trained_on_says_why(site: Site, tmp_path: Path) -> None:
    name, trained = site.video.video_id, site.manifest.records[0]
    labelled = [
        r.model_copy(update={"anomalies": ((32, 34),), "label": None}) if r == site.video else r
        for r in site.manifest.records
    ]
    manifest = site.manifest.model_copy(update={"records": tuple(labelled)})
    file = write(
        tmp_path / "v.json",
        verdict(name, 8, 16),
        verdict(name, 12, 20, "accept"),
        verdict(name, 32, 36),
        verdict(name, 28, 60_000),
        verdict(name, 24, 28),
        out=site.out,
    )
    done = apply_feedback(file, site.out, manifest)
    assert [each.reason.partition(":")[0] for each in done.left_out] == [
        "it meets an event that was accepted",
        f"the video has {ScoreFolder(site.out).videos()[0]['n_frames']} frames",
        f"an anomaly of {name} is labelled there",
    ]
    assert [r.video_id for r in done.added] == [f"{name}-rejected-24-28"]
    again = apply_feedback(file, site.out, done.manifest)
    assert not again.added
    assert any("training footage already" in each.reason for each in again.left_out)
    assert trained in done.manifest.records


@pytest.mark.parametrize("how", ["folder", "file", "copy"])
def test_labels_are_found_through_links_and_in_copies(site: Site, tmp_path: Path, how: str) -> None:
    name, path = site.video.video_id, str(site.video.path)
    root = tmp_path / "root"
    (root / "scene").mkdir(parents=True)
    real = Path(site.manifest.root) / path
    other = root / "seen" / Path(path).name
    if how == "folder":
        other.parent.symlink_to(real.parent)
    else:
        other.parent.mkdir()
        if how == "file":
            other.symlink_to(real)
        elif real.is_dir():
            shutil.copytree(real, other)
        else:
            shutil.copy(real, other)
    seen = site.video.model_copy(
        update={
            "video_id": "seen",
            "path": str(other.relative_to(root)),
            "anomalies": ((8, 12),),
            "label": None,
            "masks": None,
            "tracks": None,
        }
    )
    manifest = Manifest(dataset="d", root=str(root), records=(seen,))
    out = site.out
    if how == "copy":  # both were scored, so both are known to be one file
        both = Manifest(
            dataset="d",
            root=os.path.commonpath([str(root), site.manifest.root]),
            records=tuple(
                r.model_copy(update={"path": str(p), "anomalies": None, "masks": None})
                for r, p in ((site.video, real), (seen, other))
            ),
        )
        both = both.model_copy(
            update={
                "records": tuple(
                    r.model_copy(update={"path": os.path.relpath(str(r.path), both.root)})
                    for r in both.records
                )
            }
        )
        out = tmp_path / "out"
        probed = probe_files(both, site.cache)
        score_footage(site.model, both, probed, out, site.cache, events=CONFIG)
    done = apply_feedback(write(tmp_path / "v.json", verdict(name, 8, 16), out=out), out, manifest)
    assert not done.added
    assert [each.reason for each in done.left_out] == [
        "an anomaly of seen is labelled there: mend the label"
    ]
    done = apply_feedback(write(tmp_path / "v.json", verdict(name, 20, 28), out=out), out, manifest)
    assert [record.video_id for record in done.added] == [f"{name}-rejected-20-28"]
    assert done.tested == ("seen",)


def test_the_scene_is_that_of_the_scored_video_first(site: Site, tmp_path: Path) -> None:
    out = shutil.copytree(site.out, tmp_path / "out")
    table = pq.read_table(out / "videos.parquet")
    if "scene" in table.column_names:
        table = table.drop_columns("scene")
    scenes = pa.array(["gate"] * len(table), pa.string())
    pq.write_table(table.append_column("scene", scenes), out / "videos.parquet")
    records = [r.model_copy(update={"scene": "yard"}) for r in site.manifest.records]
    manifest = site.manifest.model_copy(update={"records": tuple(records)})
    file = write(tmp_path / "v.json", verdict(site.video.video_id, 8, 16), out=out)
    assert apply_feedback(file, out, manifest).added[0].scene == "gate"
    plain = table.drop_columns("scene") if "scene" in table.column_names else table
    pq.write_table(plain, out / "videos.parquet")
    assert apply_feedback(file, out, manifest).added[0].scene == "yard"


def test_footage_outside_of_the_root_gets_a_common_one(site: Site, tmp_path: Path) -> None:
    root = tmp_path / "train"
    copied = shutil.copytree(Path(site.manifest.root), root / "scene")
    train = site.manifest.select(split="train").model_copy(update={"root": str(copied)})
    file = write(tmp_path / "v.json", verdict(site.video.video_id, 8, 16), out=site.out)
    done = apply_feedback(file, site.out, train)
    for old, new in zip(train.records, done.manifest.records, strict=False):
        assert old.path is not None and new.path is not None
        assert done.manifest.resolve(new.path) == train.resolve(old.path)
        assert old.model_copy(update={"path": new.path, "masks": new.masks}) == new
    (record,) = done.added
    assert record.path is not None
    assert done.manifest.resolve(record.path) == site.manifest.resolve(str(site.video.path))
    assert done.tested == ()


def test_corrected_borders_count(site: Site, tmp_path: Path) -> None:
    more = {"corrected_start": 12, "corrected_stop": 24}
    file = write(tmp_path / "v.json", verdict(site.video.video_id, 8, 16, **more), out=site.out)
    (record,) = apply_feedback(file, site.out, site.manifest).added
    assert record.video_id.endswith("-rejected-12-24")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "v.json"),
        ("{}", "holds no verdicts"),
        ('{"format": "vadpipe verdicts", "version": 2}', "holds no verdicts"),
        ('{"format": "vadpipe verdicts", "version": 1, "verdicts": {}}', "no list"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises((VerdictError, DamagedFile), match=reason):
        read_verdicts(tmp_path / "v.json")


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "maybe"}, {"frame_start": -1}, {"frame_start": "8"}, {"frame_stop": 8},
        {"peak_frame": 99}, {"video_id": 5}, {"corrected_start": 99}, {"frame_stop": 1 << 60},
        {"note": None}, {"corrected_stop": 1.5},
    ],
)  # fmt: skip
def test_verdicts_that_no_page_saves_are_refused(tmp_path: Path, change: dict) -> None:
    file = write(tmp_path / "v.json", verdict("a", 1, 3), {**verdict("a", 8, 16), **change})
    with pytest.raises(VerdictError, match="verdict 2"):
        read_verdicts(file)


def test_verdicts_of_other_videos_or_without_rejections(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="does not have: name the score folder"):
        apply_feedback(
            write(tmp_path / "v.json", verdict("x", 1, 3), out=site.out), site.out, site.manifest
        )
    file = write(tmp_path / "v.json", verdict(site.video.video_id, 8, 16, "accept"), out=site.out)
    with pytest.raises(FeedbackError, match="rejects no event"):
        apply_feedback(file, site.out, site.manifest)


def test_verdicts_of_another_page_are_refused(site: Site, tmp_path: Path) -> None:
    name, file = site.video.video_id, tmp_path / "v.json"
    for more in ({"page": "x"}, {"page": None}, {"column": "error"}):
        write(file, verdict(name, 8, 16), out=site.out, **more)
        with pytest.raises(FeedbackError, match="of another model or score column"):
            apply_feedback(file, site.out, site.manifest)
    write(file, verdict(name, 8, 16, content_id="s1-" + "9" * 40), out=site.out)
    with pytest.raises(FeedbackError, match="was another file when it was judged"):
        apply_feedback(file, site.out, site.manifest)


@given(st.integers(1, 10_000_000), st.data())
def test_a_part_is_exactly_its_frames(n_frames: int, data: Any) -> None:
    a = data.draw(st.integers(0, n_frames - 1))
    b = data.draw(st.integers(a + 1, n_frames))
    record = VideoRecord(
        video_id=record_id("v", (a, b)), path="v", split="train", part=part_of((a, b), n_frames)
    )
    assert record.frame_range(n_frames) == (a, b)


def test_spans_are_whole_rows() -> None:
    start = 16 * np.arange(5)
    assert whole_rows(start, start + 16, (16, 48), 20) == (16, 48)
    assert whole_rows(start, start + 16, (20, 50), 20) == (16, 48)
    assert whole_rows(start, start + 16, (1, 5), 3) == (0, 16)  # no middle inside: the nearest
    overlapping = np.arange(100)
    assert whole_rows(overlapping, overlapping + 16, (40, 50), 45) == (32, 57)
    assert whole_rows(start, start + 16, (0, 24), 8) == (0, 16)  # frame 24 is not of the event


def test_long_names_stay_unique_and_legal() -> None:
    names = {record_id("a" * 199 + end, (1, 20)) for end in "xy"}
    assert len(names) == 2 and all(len(name) == ID_LENGTH for name in names)
    Manifest(
        dataset="d", root="/",
        records=tuple(VideoRecord(video_id=n, path="p", split="train") for n in names),
    )  # fmt: skip
