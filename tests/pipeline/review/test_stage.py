"""The folder of the review page: whole, replaced as a whole, safe with what else lies there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.footage import write_video
from tests.page_folders import HIGH, LOW, NASTY, ScoreFolder, spiky
from tests.pipeline.review.test_data import values_of
from tests.progress import note_progress
from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.review import pictures, stage
from vadpipe.pipeline.review.pictures import Limits
from vadpipe.pipeline.review.stage import SCRIPTS, ReviewError, write_review
from vadpipe.pipeline.review.verdicts import page_id
from vadpipe.pipeline.scores import plain_words
from vadpipe.pipeline.scores.folder import ScoreFolderError
from vadpipe.pipeline.scores.regions import Why, why_between, write_regions


@pytest.fixture
def folder(tmp_path: Path) -> ScoreFolder:
    return ScoreFolder(tmp_path / "scores")


def data(page: Path, name: str = "page") -> Any:
    found, values = values_of((page.parent / "data" / f"{name}.js").read_text(encoding="utf-8"))
    assert found == name
    return values


def test_a_page_holds_videos_events_moments_and_media(folder: ScoreFolder, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    where = {"path": str(film), "content_id": probe_video(film).content_id, "maps": ["m"]}
    folder.add("cam1", spiky(10, 3), truth=((50, 90),), flags=("truncated",), **where)
    folder.add("cam2", spiky(10, 6, 1.5), **where)
    folder.failures = [{"video_id": "x", "stage": "probe", "error": "E", "message": "m"}]
    records = folder.manifest().records
    manifest = folder.manifest().model_copy(
        update={"records": (records[0].model_copy(update={"scene": "yard"}),)}
    )
    page = write_review(folder.write(), manifest=manifest)
    assert page == folder.path / "review" / "index.html"
    values = data(page)
    assert [video["id"] for video in values["videos"]] == ["cam1", "cam2"]
    first = values["videos"][0]
    assert (first["scene"], first["truth"], first["events"]) == ("yard", [[50, 90]], 1)
    assert first["link"] == "../../yard.mp4" and first["lengths"] == [25, 13, 0]
    assert values["events"]["id"] == ["cam1-e1"] and values["moments"]["id"] == ["cam2-m1"]
    assert values["threshold"] == {"high": HIGH, "low": LOW, "top": None}
    assert values["scale"] == {"low": 0.5, "high": 5.0}
    assert values["notes"][0] == "Threshold: very few rows."
    assert values["metrics"][0][0] == "Micro AUC" and values["failures"]["total"] == 1
    assert [media["frame"] for media in values["media"]] == [71, 119]
    assert values["media"][0]["clip"] == [23, 121, 2]  # 48 to 96 with a second on both sides
    assert values["media"][0]["maps"][0]["name"] == "m"
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*.*")}
    assert names == {
        "index.html", "review.css", "icon.svg", "data/page.js", "data/scores-0.js",
        *(f"js/{name}" for name in SCRIPTS),
        *(f"media/{n}{end}" for n in (0, 1) for end in (".jpg", ".webm", "-0.jpg")),
    }  # fmt: skip
    assert values["similar"]["reason"] == "there is no cache to take their features from"
    assert data(page, "scores-0")["first"] == 0 and len(data(page, "scores-0")["curves"]) == 2


def test_a_page_is_replaced_and_nothing_else_is_touched(folder: ScoreFolder, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    folder.add("cam1", spiky(10, 3), **where)
    path, out = folder.write(), tmp_path / "out"
    page = write_review(path, out)
    (out / "media" / "mine.txt").write_text("mine")
    assert (out / "media" / "0.webm").is_file()
    write_review(path, out, limits=Limits(clips=0))
    assert not (out / "media" / "0.webm").exists() and (out / "media" / "0.jpg").is_file()
    assert (out / "media" / "mine.txt").read_text() == "mine" and page.is_file()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").write_text("x")
    with pytest.raises(ReviewError, match="holds other files"):
        write_review(path, other)
    assert [p.name for p in other.iterdir()] == ["thesis.docx"]
    with pytest.raises(ReviewError, match="is a file"):
        write_review(path, other / "thesis.docx")


def test_a_foreign_website_is_refused_and_stays(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3))
    path, site = folder.write(), tmp_path / "site"
    texts = {
        "index.html": "<html>", "js/core.js": "mine", "media/0.jpg": "photo",
        "data/scores-0.js": "goals", "data/page.js": "var page = 1;",
    }  # fmt: skip
    for name, text in texts.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    for _ in range(2):  # with a data/page.js of its own, and without
        with pytest.raises(ReviewError, match="holds other files"):
            write_review(path, site)
        found = {p.relative_to(site).as_posix(): p.read_text() for p in site.rglob("*.*")}
        assert found == texts
        (site / "data" / "page.js").unlink(missing_ok=True)
        texts.pop("data/page.js", None)


def test_only_names_of_the_page_are_deleted(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3))
    path, out = folder.write(), tmp_path / "out"
    write_review(path, out)
    mine = [out / name for name in ("js/mine.js", "media/holiday.jpg", "data/notes.js")]
    stale = [out / name for name in ("media/77.jpg", "media/7-3.jpg", "data/events-9.js")]
    (out / "media").mkdir(exist_ok=True)
    for each in (*mine, *stale):
        each.write_text("x")
    write_review(path, out)
    assert all(each.is_file() for each in mine) and not any(each.exists() for each in stale)


@pytest.mark.parametrize("name", ["metrics.json", "scores/cam1.parquet"])
def test_a_page_outlives_a_damaged_score_folder(folder: ScoreFolder, tmp_path: Path, name: str):
    folder.add("cam1", spiky(10, 3), truth=((50, 90),))
    path, out = folder.write(), tmp_path / "out"
    write_review(path, out)
    before = {p: p.read_bytes() for p in out.rglob("*.*")}
    assert (path / name).is_file()
    (path / name).write_bytes(b"{")
    with pytest.raises(VadpipeError):
        write_review(path, out)
    assert {p: p.read_bytes() for p in out.rglob("*.*")} == before


def test_places_come_from_the_scored_videos_first(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3), truth=((50, 90),))
    folder.add("cam2", spiky(10, 3), truth=((50, 90),))
    path = folder.write()
    table = pq.read_table(path / "videos.parquet")
    scenes = pa.array(["gate", None], pa.string())
    table = table.append_column("scene", scenes)
    trained = pa.array([False, None], pa.bool_())
    pq.write_table(table.append_column("scene_trained", trained), path / "videos.parquet")
    records = [r.model_copy(update={"scene": "yard"}) for r in folder.manifest().records]
    manifest = folder.manifest().model_copy(update={"records": tuple(records)})
    videos = data(write_review(path, tmp_path / "out", manifest=manifest))["videos"]
    assert [video["scene"] for video in videos] == ["gate", "yard"]
    assert [video["trained"] for video in videos] == [False, None]


def test_videos_have_the_levels_of_their_scenes(folder: ScoreFolder, tmp_path: Path):
    for name in ("cam1", "cam2", "cam3"):
        folder.add(name, spiky(10, 3))
    scenes = {"gate": {"high": 4.0, "low": 3.0}, "bare": {"high": 9.0}}
    path = folder.write(threshold={"high": HIGH, "low": LOW, "scenes": scenes})
    table = pq.read_table(path / "videos.parquet")
    own = pa.array(["gate", "bare", None], pa.string())
    pq.write_table(table.append_column("scene", own), path / "videos.parquet")
    videos = data(write_review(path, tmp_path / "out"))["videos"]
    assert [video["levels"] for video in videos] == [[4.0, 3.0], [9.0, 9.0], None]


def test_many_events_and_curves_are_cut_into_files(
    folder: ScoreFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "FIRST_EVENTS", 3)
    monkeypatch.setattr(stage, "MORE_EVENTS", 2)
    monkeypatch.setattr(stage, "CURVE_BYTES", 100)
    for k in range(8):
        folder.add(f"cam{k}", spiky(10, 3, 3.0 + k))
    page = write_review(folder.write(), tmp_path / "out", limits=Limits(pictures=2))
    values = data(page)
    assert values["chunks"] == {"scores": 3, "events": 3, "all": True}
    events = [
        *values["events"]["id"],
        *(i for k in range(3) for i in data(page, f"events-{k}")["id"]),
    ]
    assert events == [f"cam{k}-e1" for k in range(7, -1, -1)]
    for video, values_of_video in enumerate(values["videos"]):
        stored = data(page, f"scores-{values_of_video['chunk']}")
        assert 0 <= video - stored["first"] < len(stored["curves"])
    assert len(values["media"]) == 2
    assert any("The 2 highest of 8 events and moments have pictures" in n for n in values["notes"])


def test_hostile_texts_are_inert_in_files(folder: ScoreFolder, tmp_path: Path):
    folder.add(NASTY, spiky(10, 3), path=f"/x/{NASTY}.mp4", flags=(NASTY,))
    folder.failures = [dict.fromkeys(("video_id", "stage", "error", "message"), NASTY)]
    page = write_review(folder.write(dataset=NASTY), tmp_path / "out")
    assert NASTY not in page.read_text() and "&lt;script&gt;" in page.read_text()
    assert data(page)["videos"][0]["id"] == NASTY
    for path in (tmp_path / "out").rglob("*"):
        assert path.name.isascii() and set("<>&'\"").isdisjoint(path.name)
    assert "<" not in (tmp_path / "out" / "data" / "page.js").read_text()


def test_nothing_scored_no_threshold_and_damaged_parts(folder: ScoreFolder, tmp_path: Path):
    page = write_review(folder.write(), tmp_path / "a")
    assert data(page)["videos"] == [] and data(page)["chunks"]["scores"] == 0
    folder.add("cam1", spiky(10, 3), maps=["m"])
    page = write_review(folder.write(threshold=None), tmp_path / "a")
    assert data(page)["threshold"]["high"] is None
    assert "MissingFile" in data(page)["media"][0]["reason"]
    assert data(page)["media"][0]["maps"][0]["alone"] is True  # the map is drawn without its frame
    (folder.path / "maps" / "cam1.h5").write_bytes(b"nothing")
    page = write_review(folder.write(), tmp_path / "a")
    assert data(page)["media"][0]["maps_note"].startswith("No heat-maps. StoreError")
    (folder.path / "scores" / "cam1.parquet").unlink()
    with pytest.raises(ScoreFolderError, match="run score again"):
        write_review(folder.path, tmp_path / "b")


def test_boxes_explain_all_events_once_and_damaged_ones_are_said(
    folder: ScoreFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("cam1", "cam2", "cam3"):
        folder.add(name, spiky(10, 3), kind="images", path=str(tmp_path))
    box = {"frame": [70], "x0": [1.0], "y0": [2.0], "x1": [5.0], "y1": [6.0], "score": [1.0]}
    box |= {"explain": ["stay 9 s"], "words": ["a car stays"]}
    for name in ("cam1", "cam2"):
        write_regions(folder.path / "regions" / f"{name}.parquet", pa.table(box), "")
    (folder.path / "regions" / "cam3.parquet").write_bytes(b"damaged")
    asked: list[tuple[int, int]] = []

    def why(table: pa.Table, start: int, stop: int) -> Why:
        asked.append((start, stop))
        return why_between(table, start, stop)

    monkeypatch.setattr(plain_words, "why_between", why)
    few = Limits(pictures=1, clips=0, moments=2)
    values = data(write_review(folder.write(), tmp_path / "a", limits=few))
    assert values["events"]["words"] == {"0": "a car stays", "1": "a car stays"}
    rows = len(values["events"]["id"]) + len(values["moments"]["id"])
    damaged = [values["videos"][k]["id"] for k in values["moments"]["video"]].count("cam3") + 1
    assert len(asked) == rows - damaged
    (note,) = [each for each in values["notes"] if each.startswith("Boxes of 1 video cannot")]
    assert "cam3.parquet" in note


def test_the_key_of_verdicts_follows_model_and_column(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3))
    one = data(write_review(folder.write(), tmp_path / "a"))["id"]
    assert data(write_review(folder.write(created="later"), tmp_path / "b"))["id"] == one
    run = {"model": {"key": "other"}}
    assert data(write_review(folder.write(**run), tmp_path / "c"))["id"] != one
    assert page_id(run, "score") != page_id(run, "error")
    folder.add("cam2", spiky(10, 3), content_id="s1-" + "1" * 40)
    more = data(write_review(folder.write(), tmp_path / "d"))
    assert more["id"] == one == page_id({}, "score")
    assert [video["content"][3] for video in more["videos"]] == ["0", "1"]


def test_the_command(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3))
    out = tmp_path / "out"
    arguments = ["report", str(folder.write()), "--folder", str(out), "--cache", str(tmp_path)]
    done = CliRunner().invoke(cli, [*arguments, "--pictures", "0"], catch_exceptions=False)
    assert done.stdout.strip() == str(out / "index.html")
    assert data(out / "index.html")["media"] == []
    assert "cache holds no features" in data(out / "index.html")["similar"]["reason"]
    wrong = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "x.html")])
    assert wrong.exit_code == 2 and "another page" in wrong.output


def test_numbers_of_curves_are_those_of_the_parts(folder: ScoreFolder, tmp_path: Path):
    score = np.random.default_rng(0).normal(size=40)
    folder.add("cam1", score, step=3)
    (stored,) = data(write_review(folder.write(), tmp_path / "out"), "scores-0")["curves"]
    import base64

    assert stored["values"]["kind"] == "f8"
    kept = np.frombuffer(base64.b64decode(stored["values"]["data"]), "<f8")
    assert (kept == score).all()
    assert json.dumps(stored)  # plain values only


def test_what_is_said_of_the_footage_comes_first_and_pictures_are_counted(
    folder: ScoreFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    noted = note_progress(monkeypatch, pictures)
    folder.add("cam1", spiky(10, 3))
    folder.add("cam2", spiky(10, 6, 1.5))
    page = write_review(folder.write(), tmp_path / "out", about=[NASTY, "Little footage."])
    assert data(page)["notes"][:3] == [NASTY, "Little footage.", "Threshold: very few rows."]
    assert noted.steps == [1, 1], "a video at a time"
    assert sum(noted.steps) == 2 and noted.totals == [2]
