"""Cameras that a model does not know: which they are, when they train, what is said else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipeline.run.test_archive import row
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.pipeline.run.archive import UNNAMED, ArchiveError
from vadpipe.pipeline.run.new_cameras import (
    known_cameras,
    new_in,
    unknown_lines,
    what_to_do,
    with_new_training,
    without_cameras,
)
from vadpipe.pipeline.run.review_kept import Chosen

CARD: dict[str, Any] = {
    "contents": ["c-gate1"],
    "trained_on": {"scenes": ["gate"]},
    "config": {"per_scene": True},
}
OWN = Chosen(target="/a", features="motion", model="m")
ROWS = {name: row(10, f"c-{name}") for name in ("gate1", "gate2", "yard1", "yard2")}


def record(name: str, scene: str | None, split: str = "test", **more: Any) -> VideoRecord:
    return VideoRecord(video_id=name, path=f"{name}.mp4", scene=scene, split=split, **more)


def footage(*more: VideoRecord) -> Manifest:
    known = record("gate1", "gate", "train", label=0), record("gate2", "gate")
    return Manifest(dataset="footage", root="/a", records=(*known, *more))


YARD = footage(record("yard1", "yard"), record("yard2", "yard"), record("broken", "roof"))


def test_cameras_are_new_by_what_the_model_was_trained_on() -> None:
    assert known_cameras(CARD, YARD) == {"gate"}
    assert new_in(YARD, ROWS, {"gate"}) == ("yard",), "a file that cannot be read makes no camera"
    unnamed = footage(record("yard1", None, "train", label=0), record("yard2", None))
    assert known_cameras(CARD, unnamed) == {"gate", UNNAMED}
    assert new_in(unnamed, ROWS, {"gate"}) == (UNNAMED,)
    # A recorder has dropped what trained: it is remembered.
    rotated = footage(record("yard2", None))
    assert known_cameras(CARD, rotated, {"gate": 1.0, UNNAMED: 0.5}) == {"gate", UNNAMED}
    assert known_cameras(CARD, unnamed, {"gate": 1.0}) == {"gate"}, "its training has failed"
    assert known_cameras({"trained_on": {}}, YARD) == {UNNAMED}


def test_the_first_part_of_a_new_camera_trains_beside_the_rest() -> None:
    grown = with_new_training(YARD, ROWS, OWN, CARD, ["yard"])
    assert grown is not None
    assert [(r.video_id, r.split) for r in grown.records] == [
        ("gate1", "train"), ("gate2", "test"), ("broken", "test"), ("yard1", "train"),
        ("yard2", "test"),
    ]  # fmt: skip
    # A training that failed has split it already: it stays so.
    assert with_new_training(grown, ROWS, OWN, CARD, ["yard"]) == grown


def test_a_training_for_a_camera_does_not_bar_the_next_one() -> None:
    card = {**CARD, "trained_on": {"scenes": ["gate"], "verdicts_of": ["k"]}}
    assert with_new_training(YARD, ROWS, OWN, card, ["yard"]) is not None


@pytest.mark.parametrize(
    "why", ["given", "normal", "split", "learnt", "feedback", "gone", "changed", "bad"]
)
def test_a_training_that_cannot_be_repeated_is_not(why: str) -> None:
    choices: dict[str, dict[str, Any]] = {
        "given": {"features": None},
        "normal": {"normal": "/n"},
        "split": {"own_split": True},
        "learnt": {"learnt": "/l"},
    }
    chosen, card, rows, manifest = OWN.model_copy(update=choices.get(why, {})), CARD, ROWS, YARD
    if why == "feedback":
        card = {**CARD, "trained_on": {"scenes": ["gate"], "feedback_on": ["k"]}}
    elif why == "gone":
        rows = {name: each for name, each in ROWS.items() if name != "gate1"}
    elif why == "changed":
        rows = {**ROWS, "gate1": row(10, "other")}
    elif why == "bad":
        manifest = footage(record("yard1", "yard", label=1), record("yard2", "yard", label=1))
    assert with_new_training(manifest, rows, chosen, card, ["yard"]) is None


def test_what_cannot_be_scored_is_left_out_and_named_with_its_cure() -> None:
    left = without_cameras(YARD, ROWS, ["yard", "roof"])
    assert [r.video_id for r in left.records] == ["gate1", "gate2", "broken"]
    (line,) = unknown_lines(YARD, ROWS, ["yard"], left_out=True, cure=what_to_do(OWN))
    assert line == (
        "Camera yard (2 videos) is new, not in the model: nothing of it is scored. --retrain "
        "trains on the first part of each camera's footage again."
    )
    (line,) = unknown_lines(YARD, ROWS, ["yard"], left_out=False, cure="Cure.")
    assert "it is scored by what other cameras show" in line and line.endswith("Cure.")
    assert "normal footage of it to /n" in what_to_do(OWN.model_copy(update={"normal": "/n"}))
    assert "split train of /a, and" in what_to_do(OWN.model_copy(update={"own_split": True}))
    assert "leave out --model" in what_to_do(OWN.model_copy(update={"features": None}))
    with pytest.raises(ArchiveError, match=r"no camera of this footage \(gate, yard\)"):
        without_cameras(YARD, ROWS, ["gate", "yard"])
    many = footage(*(record(f"v{n}", f"cam{n}") for n in range(9)))
    rows = {r.video_id: row(10, r.video_id) for r in many.records}
    lines = unknown_lines(many, rows, [f"cam{n}" for n in range(9)], left_out=True, cure="")
    assert len(lines) == 6 and lines[-1] == "So are 4 cameras more."
