"""Checks of the camera on the review page: reasons in words, apart from the main ranking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.footage import write_video
from tests.page_folders import NASTY, ScoreFolder, spiky
from tests.pipeline.review.test_data import values_of
from vadpipe.detectors.tampering import CHECKS
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.review.pictures import Limits
from vadpipe.pipeline.review.scene_checks import COLUMN, REASONS, scene_checks_of
from vadpipe.pipeline.review.stage import write_review
from vadpipe.pipeline.scores.folder import ScoreFolderError

CHECKED = {"detector": "tampering", "config": {}, "features": {"checks": {"v": 1}}}


def data(page: Path, name: str = "page") -> Any:
    return values_of((page.parent / "data" / f"{name}.js").read_text(encoding="utf-8"))[1]


def checked(out: Path, videos: dict[str, dict[str, np.ndarray]], **facts: Any) -> ScoreFolder:
    """A score folder of tampering: the columns of each video; the score is the largest."""
    folder = ScoreFolder(out)
    for name, some in videos.items():
        columns = {check: np.zeros(10) for check in CHECKS} | some
        score = np.max(list(columns.values()), axis=0)
        folder.add(name, score, **facts)
        place = out / "scores" / f"{name}.parquet"
        table = pq.read_table(place)
        for check, values in columns.items():
            table = table.append_column(check, pa.array(values))
        pq.write_table(table, place)
    return folder


def test_every_check_has_words() -> None:
    assert set(REASONS) == set(CHECKS)


@pytest.mark.parametrize(
    ("columns", "reason", "others"),
    [
        ({"left": spiky(10, 3)}, "something was left behind or taken away", ""),
        ({"frozen": spiky(10, 3)}, "the picture stood still", ""),
        # A covered lens has no edges: it looks moved, and more so.
        (
            {"covered": spiky(10, 3, 3.0), "moved": spiky(10, 3, 9.0)},
            "the camera was covered",
            "Other checks say: the camera was moved.",
        ),
        ({"covered": spiky(10, 3, 1.5), "moved": spiky(10, 3, 9.0)}, "the camera was moved", ""),
        (
            {"blurred": spiky(10, 3, 3.0), "left": spiky(10, 3, 4.0)},
            "the picture was blurred",
            "Other checks say: something was left behind or taken away.",
        ),
    ],
)
def test_the_reason_is_the_check_that_explains_the_others(
    tmp_path: Path, columns: dict[str, np.ndarray], reason: str, others: str
) -> None:
    folder = checked(tmp_path / "checks", {"cam1": columns})
    videos = folder.videos
    (event,) = scene_checks_of(folder.write(model=CHECKED), videos).events
    assert (event["reason"], event["explain"]) == (reason, others)


def test_a_page_shows_them_apart_with_pictures_and_a_curve(tmp_path: Path) -> None:
    film = write_video(tmp_path / "yard.mp4", frames=160)
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    main = ScoreFolder(tmp_path / "scores")
    main.add("cam1", spiky(10, 3), **where)
    main.add("cam2", spiky(10, 3), **where)
    main.add("other", spiky(10, 3))
    alone = data(write_review(main.write(), tmp_path / "alone"))
    assert alone["checks"] is None
    checks = checked(tmp_path / "checks", {"cam1": {"left": spiky(10, 6)}, "cam2": {}}, **where)
    checks.failures = [
        {"video_id": "other", "stage": "score", "error": "E", "message": f"new {NASTY}"}
    ]
    page = write_review(
        tmp_path / "scores",
        tmp_path / "page",
        scene_checks=checks.write(model=CHECKED),
        limits=Limits(pictures=10, clips=10),
    )
    values = data(page)
    for name in ("events", "moments", "threshold", "scale", "sparks"):
        assert values[name] == alone[name], "checks disturb nothing"
    assert [(v["peak"], v["events"]) for v in values["videos"]] == [
        (v["peak"], v["events"]) for v in alone["videos"]
    ]
    found = values["checks"]
    assert (found["video"], found["start"], found["stop"]) == ([0], [96], [144])
    assert found["reason"] == ["something was left behind or taken away"]
    media = [(m["check"], m["frame"], m["picture"]) for m in values["media"]]
    assert media[-1] == (True, found["at"][0], True) and not any(m[0] for m in media[:-1])
    assert (page.parent / "media" / f"{len(media) - 1}.webm").is_file()
    curves = data(page, "scores-0")["curves"]
    assert [[part["name"] for part in curve["parts"]] for curve in curves] == [
        [COLUMN], [COLUMN], [],
    ]  # fmt: skip
    (note,) = [n for n in values["notes"] if n.startswith("Scene checks")]
    assert note == f"Scene checks: 1 of 3 videos were not checked, as other (new {NASTY})."


def test_scores_of_others_and_of_other_files_are_no_checks(tmp_path: Path) -> None:
    main = ScoreFolder(tmp_path / "scores")
    main.add("cam1", spiky(10, 3), content_id="s1-" + "1" * 40)
    main.write()
    with pytest.raises(ScoreFolderError, match="holds scores of 'knn': scene checks are those of"):
        write_review(main.path, tmp_path / "page", scene_checks=main.path)
    assert not (tmp_path / "page").exists()
    other = checked(tmp_path / "checks", {"cam1": {"left": spiky(10, 6)}})  # another content
    found = scene_checks_of(other.write(model=CHECKED), main.videos)
    assert not found.events and "1 of 1 videos were not checked" in found.notes[0]
    run = json.loads((other.path / "run.json").read_text())
    plain = ScoreFolder(tmp_path / "plain")
    plain.add("cam1", spiky(10, 3))
    with pytest.raises(ScoreFolderError, match="lack the column covered: score again"):
        scene_checks_of(plain.write(model=run["model"]), plain.videos)
