"""SSMTL: eq. 6, what it learns of moving bars, resumed fits, round trips and edge cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.bags import Bags
from tests.edge_objects import CROWD, crowd, edges, first_frames, with_boxes
from tests.moving_objects import SIDE, SIZE, bars, moving
from vadpipe.detectors import ssmtl
from vadpipe.detectors.base import Bag, DetectorError, FitLog, FitOptions, Track
from vadpipe.detectors.map_memory import even_blocks
from vadpipe.detectors.ssmtl import BATCHES, SSMTL, SSMTLConfig
from vadpipe.detectors.ssmtl_network import TASKS, SSMTLNetwork
from vadpipe.pipeline.scores.regions import checked_regions

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINING = [moving(seed) for seed in range(3)]
SMALL: dict[str, Any] = {
    **{"architecture": "shallow+narrow", "batch_size": 8, "steps": 3, "validate_every": 2},
    **{"mean_filter": 1, "smooth": 0.0},
}


def fitted(
    bags: list[Bag] | None = None, options: FitOptions | None = None, **settings: Any
) -> tuple[SSMTL, FitLog]:
    detector = SSMTL(SSMTLConfig(**{**SMALL, **settings}))
    source = Bags(TRAINING if bags is None else bags)
    return detector, detector.fit(source, device="cpu", seed=0, options=options)


@pytest.fixture(scope="module")
def whole() -> tuple[SSMTL, FitLog]:
    torch.set_num_threads(1)
    return fitted()


def without(bag: Bag, *roles: str) -> Bag:
    return replace(bag, tracks={role: t for role, t in bag.tracks.items() if role not in roles})


# -- scores ------------------------------------------------------------------------------------


def test_an_object_has_the_score_of_eq_6(whole: tuple[SSMTL, FitLog]) -> None:
    """Each object alone, head by head, in plain loops."""
    detector, bag = whole[0], moving(9, frames=9, each=2)
    network = detector.network
    assert network is not None
    scores = detector.score(bag)
    assert scores.regions is not None
    rows = scores.regions.to_pylist()
    assert len(rows) == 18
    for i in (0, 7, 17):
        crop = torch.from_numpy(bag.tracks["object/crops"].rows()[i, 12:19])[None]
        with torch.no_grad():
            logits = [network("arrow", crop)[0], network("irregularity", crop)[0]]
            picture = network("middle", crop[:, [0, 1, 2, 4, 5, 6]])[0].numpy()
            said = network("distillation", crop[:, 3:4])[0].numpy()
        terms = [float(each.exp()[1] / each.exp().sum()) for each in logits]
        errors = [
            abs(float(picture[c, y, x]) - int(crop[0, 3, y, x, c]) / 255)
            for c in range(3) for y in range(SIDE) for x in range(SIDE)
        ]  # fmt: skip
        terms.append(sum(errors) / len(errors))
        wanted = bag.tracks["object/classes"].rows()[i].astype(float)
        terms.append(sum(abs(a - b) for a, b in zip(said[-80:], wanted, strict=True)) / 80)
        assert rows[i]["score"] == pytest.approx(sum(terms) / 4, abs=1e-5)
        assert rows[i]["label"] == "person"
        assert rows[i]["explain"].startswith(f"backward {terms[0]:.2f}; irregular {terms[1]:.2f}; ")
        assert rows[i]["words"].endswith(" moves or looks in an unusual way")
    best = np.array([row["score"] for row in rows]).reshape(9, 2).max(1)
    assert scores.columns["score"] == pytest.approx(best, rel=1e-6)
    assert set(scores.columns) == {"score", *TASKS} == set(detector.columns)
    assert set(scores.maps) == set(detector.maps) == {"objects"}


def test_boxes_between_rows_are_filled_in(whole: tuple[SSMTL, FitLog]) -> None:
    bag = moving(9, frames=9)
    tracks = {
        role: Track(t.rows()[::3], t.frame_start[::3], t.frame_stop[::3])
        for role, t in bag.tracks.items()
    }
    thin = replace(bag, tracks=tracks)
    filled = whole[0].score(thin).regions
    plain = SSMTL(SSMTLConfig(**SMALL, fill=False))
    plain.load_state_dict(whole[0].state_dict())
    rows = plain.score(thin).regions
    assert filled is not None and rows is not None
    assert rows["frame"].to_pylist() == [0, 3, 6]
    assert set(filled["frame"].to_pylist()) == set(range(9))


def test_weights_are_of_the_tasks_as_named(whole: tuple[SSMTL, FitLog]) -> None:
    bag = moving(9, frames=9)
    plain = whole[0].score(bag)
    chosen = SSMTLConfig(**SMALL, tasks=TASKS[::-1], weights=(0.0, 3.0, 0.0, 1.0))
    detector = SSMTL(chosen)
    detector.load_state_dict(whole[0].state_dict())
    wanted = (3 * plain.columns["middle"] + plain.columns["arrow"]) / 4
    assert detector.score(bag).columns["score"] == pytest.approx(wanted, rel=1e-6)


def test_only_the_middle_of_wide_crops_is_looked_at(whole: tuple[SSMTL, FitLog]) -> None:
    bag = moving(9, frames=9)
    track = bag.tracks["object/crops"]
    narrow = replace(track, array=track.rows()[:, 12:19])
    other = replace(bag, tracks={**bag.tracks, "object/crops": narrow})
    a, b = whole[0].score(bag), whole[0].score(other)
    assert np.array_equal(a.columns["score"], b.columns["score"])


def test_blocks_of_objects_do_not_matter(whole: tuple[SSMTL, FitLog], monkeypatch: Any) -> None:
    bag = moving(9, frames=9, each=2)
    before = whole[0].score(bag).columns["score"]
    monkeypatch.setattr("vadpipe.detectors.ssmtl_scores.AT_ONCE", 5)
    assert whole[0].score(bag).columns["score"] == pytest.approx(before, abs=1e-6)


def test_no_block_is_of_one_object_if_there_are_more() -> None:
    for count in range(200):
        edges = list(even_blocks(count, 32))
        assert [i for a, b in edges for i in range(a, b)] == list(range(count))
        sizes = {b - a for a, b in edges}
        assert max(sizes, default=0) <= 32
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_videos_shorter_than_a_sequence_are_scored(
    frames: int, whole: tuple[SSMTL, FitLog]
) -> None:
    scores = whole[0].score(moving(9, frames=frames))
    assert len(scores.columns["score"]) == frames
    assert (scores.columns["score"] > 0).all()


def test_frames_without_objects_have_0(whole: tuple[SSMTL, FitLog]) -> None:
    scores = whole[0].score(moving(9, frames=6, empty=(0, 3)))
    assert (scores.columns["score"] == 0).tolist() == [True, False, False, True, False, False]
    assert all((scores.columns[task][[0, 3]] == 0).all() for task in TASKS)
    nothing = whole[0].score(moving(9, frames=4, empty=(0, 1, 2, 3)))
    assert nothing.regions is not None
    assert nothing.regions.num_rows == 0
    assert not nothing.columns["score"].any()


def test_boxes_at_the_edges_and_crowds(whole: tuple[SSMTL, FitLog]) -> None:
    """Each counts for its frame; one without pixels is no region, as nothing could be drawn."""
    bag = moving(9, frames=6)
    there, nothing = edges(*SIZE)
    odd = whole[0].score(with_boxes(bag, 2, [*there, *nothing]))
    assert all(np.isfinite(values).all() for values in odd.columns.values())
    assert checked_regions(odd.regions)["frame"].to_pylist().count(2) == 1 + len(there)
    full = whole[0].score(with_boxes(bag, 2, crowd(*SIZE)))
    assert checked_regions(full.regions)["frame"].to_pylist().count(2) == 1 + CROWD
    # All of them are the first object, at other places.
    first = whole[0].score(first_frames(bag, 1)).columns["arrow"][0]
    assert full.columns["arrow"][2] >= first - 1e-6


# -- what is learned ---------------------------------------------------------------------------


def test_the_arrow_of_time_is_at_chance_where_nothing_moves() -> None:
    """Both directions are the same pictures: the loss falls to log 2, and half of it is right.

    The settings are those with which moving objects teach it, below.
    """
    still = [moving(seed, speed=0) for seed in range(3)]
    detector, log = fitted(still, tasks=("arrow",), steps=30, validate_every=30, lr=5e-3)
    assert log.summary["validation/accuracy/arrow"] == 0.5
    loss = float(log.summary["validation/loss"])
    assert np.log(2) - 1e-6 <= loss < np.log(2) + 0.01 < float(log.rows[0]["total"])
    scores = detector.score(moving(8, frames=6, speed=0)).columns["arrow"]
    assert scores == pytest.approx(0.5, abs=0.1)


def test_moving_objects_teach_time_and_gaps_and_odd_ones_score_higher() -> None:
    tasks = ("arrow", "irregularity")
    detector, log = fitted(tasks=tasks, steps=30, validate_every=30, lr=5e-3)
    assert float(log.summary["validation/accuracy/arrow"]) > 0.9
    assert float(log.summary["validation/accuracy/irregularity"]) > 0.9
    usual = detector.score(moving(8, frames=12)).columns
    backward = detector.score(moving(8, frames=12, speed=-1)).columns
    fast = detector.score(moving(8, frames=12, speed=4)).columns
    inner = slice(3, -3)  # the ends repeat frames
    assert backward["arrow"][inner].min() > usual["arrow"][inner].max()
    assert fast["irregularity"][inner].min() > usual["irregularity"][inner].max()
    assert backward["score"][inner].mean() > usual["score"][inner].mean()


def test_the_best_validation_is_kept_and_said(whole: tuple[SSMTL, FitLog]) -> None:
    log = whole[1]
    measured = {
        int(row["step"]): float(row["validation/loss"])
        for row in log.rows
        if "validation/loss" in row
    }
    assert list(measured) == [2, 3]
    kept = min(measured, key=lambda step: measured[step])
    assert log.summary["kept_step"] == kept
    assert log.summary["validation/loss"] == measured[kept]
    assert bool(log.warnings) == (kept == 3)
    assert log.summary["object_steps"] == 24
    # 51 frames train and 9 validate; sequences with gaps need 6 frames on both sides.
    assert log.summary["objects"] == 3 * (51 - 12)
    assert log.summary["validation_objects"] == 3 * (9 - 6)
    assert log.summary["trivial/neighbours"] > 0
    assert log.summary["trivial/mean_teacher"] > 0


def test_an_epoch_is_all_objects_once() -> None:
    _, log = fitted(tasks=("middle",), steps=None, epochs=2, batch_size=40, validate_every=None)
    assert log.summary["objects"] == 3 * (51 - 6)
    assert log.summary["steps"] == 7  # 270 objects by 40
    assert [row["step"] for row in log.rows if "kept" in row] == [4, 7]


def test_without_validation_the_last_weights_are_kept() -> None:
    _, log = fitted(validation=0.0)
    assert log.summary["kept_step"] == 3
    assert log.summary["validation_objects"] == 0
    assert not log.warnings


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("task", TASKS)
def test_shapes_of_all_heads(name: Any, task: Any) -> None:
    for deep_pools in (3, 4):
        with torch.device("meta"):
            network = SSMTLNetwork(name, deep_pools, (task,), 64, 1080)  # type: ignore[arg-type]
            outputs = [
                network(task, torch.empty(2, frames, 64, 64, 3, dtype=torch.uint8))
                for frames in (7, 6, 1)
            ]
        shape = {"middle": (2, 3, 64, 64), "distillation": (2, 1080)}.get(task, (2, 2))
        assert [tuple(each.shape) for each in outputs] == [shape] * 3


def test_batch_sizes_are_those_of_the_paper() -> None:
    assert BATCHES == {
        **{"shallow+narrow": 256, "shallow+wide": 128, "deep+narrow": 128, "deep+wide": 64}
    }


@pytest.mark.parametrize("tasks", [("arrow",), ("middle", "arrow"), ("distillation",)])
def test_subsets_of_tasks(tasks: Any) -> None:
    detector, log = fitted(tasks=tasks, steps=1)
    scores = detector.score(moving(9, frames=5))
    order = [task for task in TASKS if task in tasks]
    assert detector.columns == ("score", *order)
    assert detector.network is not None
    assert list(detector.network.heads) == order
    assert scores.columns["score"] == pytest.approx(
        np.mean([scores.columns[task] for task in tasks], axis=0), rel=1e-6
    )
    assert {name for name in log.rows[0] if name in TASKS} == set(tasks)


@pytest.mark.parametrize("t", [1, 2, 4])
def test_other_lengths(t: int) -> None:
    bags = [moving(seed, context=5 * t, frames=80) for seed in range(2)]
    detector, log = fitted(bags, t=t, steps=1)
    assert log.summary["objects"] == 2 * (68 - 4 * t)
    assert len(detector.score(moving(9, frames=3)).columns["score"]) == 3


def test_the_detector_alone_as_teacher() -> None:
    bags = [without(bag, "object/teacher") for bag in TRAINING]
    detector, _ = fitted(bags, imagenet_teacher=False, steps=1)
    assert detector.network is not None
    assert detector.network.heads["distillation"].linear.out_features == 80  # type: ignore[union-attr]
    with pytest.raises(DetectorError, match=r"no 'object/teacher' array: .*teacher=resnet50"):
        fitted(bags)


def test_bf16_trains(whole: tuple[SSMTL, FitLog]) -> None:
    _, log = fitted(precision="bf16", steps=1)
    full = float(whole[1].rows[0]["total"])
    assert log.rows[0]["total"] == pytest.approx(full, rel=0.02)
    assert log.rows[0]["total"] != full, "it is not fp32"


# -- whole frames ------------------------------------------------------------------------------


def test_scores_in_bf16_are_close_and_those_in_fp32_are_the_default(
    whole: tuple[SSMTL, FitLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssmtl, "check_bfloat16", lambda device: None)  # torch imitates it elsewhere
    exact = whole[0]
    fast = SSMTL(exact.config.model_copy(update={"score_precision": "bf16"}))
    assert "score_precision" not in exact.config.for_key()
    assert fast.config.for_key()["score_precision"] == "bf16"
    fast.load_state_dict(exact.state_dict())
    bag = moving(9, frames=9)
    one, other = exact.score(bag), fast.score(bag)
    for name, a in one.columns.items():
        b = other.columns[name]
        assert b.dtype == np.float64 and not np.array_equal(a, b), name
        assert np.abs(a - b).max() < 0.02 * max(1.0, np.abs(a).max()), name


def test_bf16_scores_are_refused_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: False)
    detector = SSMTL(SSMTLConfig(**SMALL, score_precision="bf16"))
    with pytest.raises(DetectorError, match="cpu has no bfloat16: take a device that has"):
        detector.fit(Bags(TRAINING), device="cpu", seed=0)
    with pytest.raises(DetectorError, match="cpu has no bfloat16"):
        detector.to("cpu")


def test_whole_frames(whole: tuple[SSMTL, FitLog]) -> None:
    detector, log = fitted(level="frame", steps=2, batch_size=4)
    bag = without(moving(9, frames=40), "object/crops", "frame/objects", "frame/size")
    scores = detector.score(bag)
    assert detector.needs == ("pixels",)
    assert log.summary["objects"] == 3 * (51 - 12)
    assert scores.maps["error"].shape == (40, 16, 16)
    assert scores.maps["error"].mean((1, 2)) == pytest.approx(scores.columns["middle"], rel=1e-4)
    assert scores.regions is None and not detector.regions  # region metrics read the map
    network, pixels = detector.network, bag.tracks["pixels"].rows()
    assert network is not None
    for frame in (0, 33, 39):  # the first and the last frame are repeated
        around = np.clip(np.arange(frame - 3, frame + 4), 0, 39)
        with torch.no_grad():
            logits = network("arrow", torch.from_numpy(pixels[around])[None])[0]
        assert scores.columns["arrow"][frame] == pytest.approx(
            float(logits.softmax(0)[1]), abs=1e-5
        )
    assert detector.score(moving(9, frames=1)).columns["score"].shape == (1,)


def test_frames_with_gaps_or_another_size_are_refused() -> None:
    detector, _ = fitted(level="frame", steps=1, tasks=("middle",))
    every = np.arange(0, 20, 2, dtype=np.int64)
    thin = Track(bars(every), every, every + 1)
    with pytest.raises(DetectorError, match="frames are left out; extract all of them"):
        detector.score(Bag("v", None, 20, 10.0, {"pixels": thin}))
    large = Track(np.zeros((2, 32, 16, 3), np.uint8), every[:2], every[:2] + 1)
    with pytest.raises(DetectorError, match=r"are \(32, 16, 3\), not 16 x 16 in colour"):
        detector.score(Bag("v", None, 20, 10.0, {"pixels": large}))


# -- state, and what is refused ----------------------------------------------------------------


def test_a_loaded_model_scores_the_same(whole: tuple[SSMTL, FitLog]) -> None:
    detector = SSMTL(whole[0].config)
    with pytest.raises(DetectorError, match="not fitted"):
        detector.score(TRAINING[0])
    detector.load_state_dict(whole[0].state_dict())
    a, b = (each.score(moving(9, frames=8)) for each in (whole[0], detector))
    assert all(np.array_equal(a.columns[name], b.columns[name]) for name in a.columns)
    assert a.regions == b.regions
    with pytest.raises(DetectorError, match="not weights of ssmtl"):
        detector.load_state_dict({"sizes": np.array([16, 84])})


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_fit_ends_with_the_same_weights(
    after: int, whole: tuple[SSMTL, FitLog], tmp_path: Path
) -> None:
    def on_step(row: Mapping[str, Any]) -> None:
        if row["step"] == after and not list(tmp_path.glob("again")):
            (tmp_path / "again").touch()
            raise Killed

    options = FitOptions(folder=tmp_path, checkpoint_seconds=0.0, on_step=on_step)
    with pytest.raises(Killed):
        fitted(options=options)
    detector, log = fitted(options=options)
    wanted, found = whole[0].state_dict(), detector.state_dict()
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    assert log.summary["kept_step"] == whole[1].summary["kept_step"]
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ["arrow", "arrow"]}, "named twice"),
        ({"level": "frame", "tasks": ["distillation"]}, "whole frames have no teachers"),
        ({"weights": [1.0]}, "weights has 1 values for 4 tasks"),
        ({"weights": [0.0, 0.0, 0.0, 0.0]}, "not all 0"),
        ({"t": 5}, "less than or equal to 4"),
        ({"distillation_weight": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SSMTLConfig(**settings)


def test_features_that_do_not_fit(whole: tuple[SSMTL, FitLog]) -> None:
    narrow = [moving(seed, context=3) for seed in range(2)]
    with pytest.raises(DetectorError, match=r"hold 3 frames .* --set crop_context=15"):
        fitted(narrow)
    fitted(narrow, tasks=("arrow", "middle", "distillation"), steps=1)
    with pytest.raises(DetectorError, match=r"no 'object/crops' array: .*training_crops"):
        fitted([without(TRAINING[0], "object/crops")])
    with pytest.raises(DetectorError, match=r"no 'object/classes' array: .*leave distillation"):
        whole[0].score(without(TRAINING[0], "object/classes"))
    with pytest.raises(DetectorError, match="there are no training videos"):
        fitted([])
    with pytest.raises(DetectorError, match="training videos have no object with 6 frames"):
        fitted([moving(0, frames=7)])
    with pytest.raises(DetectorError, match="a multiple of 16, and at least 32, not 16"):
        fitted(architecture="deep+narrow", steps=1)
    boxes = TRAINING[0].tracks["object/boxes"]
    fewer = replace(boxes, array=boxes.rows()[:-1])
    wrong = replace(
        TRAINING[0],
        tracks={
            **TRAINING[0].tracks,
            "object/boxes": Track(fewer.rows(0, 59), boxes.frame_start[:-1], boxes.frame_stop[:-1]),
        },
    )
    with pytest.raises(DetectorError, match="60 crops, but 59 boxes"):
        whole[0].score(wrong)
