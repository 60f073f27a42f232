from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from tests.bags import Bags
from tests.clips_of_frames import frame_bag, moving_square, squares
from vadpipe.detectors.base import Bag, DetectorError, FitOptions
from vadpipe.detectors.checkpoint import Checkpoint, discard_checkpoint
from vadpipe.detectors.indicators import SMALLEST_SHARE
from vadpipe.detectors.pseudo_anomaly import UNTOLD, PseudoAnomaly
from vadpipe.detectors.pseudo_settings import PseudoAnomalyConfig
from vadpipe.detectors.samples import Sample

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    **{"length": 8, "scored_frame": 4, "width": 3, "steps": 2, "batch_size": 2},
    **{"semantic_steps": 2, "semantic_batch": 8, "cells": (4, 4), "patches": {"least": 2}},
}


def made(**changes: Any) -> PseudoAnomaly:
    return PseudoAnomaly(PseudoAnomalyConfig.model_validate({**TINY, **changes}))


@pytest.fixture(scope="module")
def fitted() -> PseudoAnomaly:
    detector = made()
    detector.fit(squares(), device="cpu", seed=0)
    return detector


def part_of(bag: Bag, first: int, stop: int) -> Bag:
    return frame_bag("part", {role: t.rows(first, stop) for role, t in bag.tracks.items()})


def test_scores_have_the_raw_indicators_the_paper_s_score_and_a_comparable_sum(
    fitted: PseudoAnomaly,
) -> None:
    scores = fitted.score(squares()[0])
    assert tuple(scores.columns) == fitted.columns
    assert scores.frame_start.tolist() == list(range(4, 17))  # 20 frames, windows of 8
    raw = {name: scores.columns[f"omega_{i}"] for i, name in enumerate(fitted.eta, start=1)}
    ranges = {n: (v - v.min()) / np.ptp(v) for n, v in raw.items() if n != "semantic"}
    expected = 0.65 * ranges["spatial"] + 0.25 * ranges["temporal"] + 0.1 * raw["semantic"]
    assert scores.columns["paper"] == pytest.approx(expected)
    scaled = {**raw, "semantic": logit(raw["semantic"])}
    standard = {n: (v - fitted.scales[n].mean) / fitted.scales[n].spread for n, v in scaled.items()}
    total = sum(fitted.eta[n] * v for n, v in standard.items())
    assert scores.columns["score"] == pytest.approx(total)
    assert {name: m.shape for name, m in scores.maps.items()} == {
        "frame_error": (13, 4, 4),
        "flow_error": (13, 4, 4),
    }
    frame_errors = 10 ** (raw["spatial"] / 10)
    assert scores.maps["frame_error"].mean((1, 2)) == pytest.approx(frame_errors, rel=1e-4)


def test_the_sum_of_a_frame_depends_on_its_window_only_and_the_paper_s_on_the_video(
    fitted: PseudoAnomaly,
) -> None:
    bag = squares()[0]
    whole, part = fitted.score(bag), fitted.score(part_of(bag, 5, 20))
    # the flow error is nearly constant after two steps: its spread is a few units in the last place
    assert part.columns["score"] == pytest.approx(whole.columns["score"][5:], rel=1e-3)
    assert not np.allclose(part.columns["paper"], whole.columns["paper"][5:], atol=1e-3)


def test_a_saved_model_scores_bit_by_bit_the_same(fitted: PseudoAnomaly) -> None:
    other = made()
    other.load_state_dict(fitted.state_dict())
    ours, theirs = fitted.score(squares()[1]), other.score(squares()[1])
    assert all(np.array_equal(ours.columns[n], theirs.columns[n]) for n in ours.columns)
    with pytest.raises(DetectorError, match="not weights of pseudo_anomaly"):
        made(width=6).load_state_dict(fitted.state_dict())


def test_a_fit_starts_from_a_fitted_model(fitted: PseudoAnomaly) -> None:
    settings = {"steps": 1, "semantic_steps": 1, "lr": 1e-9}
    begun, scratch = made(**settings), made(**settings)
    begun.start = fitted.state_dict()
    for each in (begun, scratch):
        each.fit(squares(), device="cpu", seed=1)
    name = "network.spatial.encoder.0.weight"
    wanted = fitted.state_dict()[name]
    assert np.allclose(begun.state_dict()[name], wanted, atol=1e-6)
    assert not np.allclose(scratch.state_dict()[name], wanted, atol=1e-3)
    other = made(width=6)
    other.start = fitted.state_dict()
    with pytest.raises(DetectorError, match="the model to start from has another network"):
        other.fit(squares(), device="cpu", seed=1)


@pytest.mark.parametrize("border", ["drop", "replicate"])
@pytest.mark.parametrize("n", [1, 7])
def test_videos_shorter_than_a_window_have_a_score_for_every_frame(
    fitted: PseudoAnomaly, n: int, border: str
) -> None:
    other = made(border=border)
    other.load_state_dict(fitted.state_dict())
    scores = other.score(part_of(squares()[0], 0, n))
    assert scores.frame_start.tolist() == list(range(n))
    assert all(np.isfinite(values).all() for values in scores.columns.values())


def test_a_still_picture_with_no_flow_has_finite_scores(fitted: PseudoAnomaly) -> None:
    arrays = {k: np.repeat(v[:1], 12, 0) for k, v in moving_square(1).items()}
    arrays["flow"][:] = 0
    scores = fitted.score(frame_bag("still", arrays))
    assert np.isfinite(scores.columns["score"]).all()
    # equal frames have equal errors, so min-max finds nothing: what is left is D
    assert scores.columns["paper"] == pytest.approx(0.1 * scores.columns["omega_3"], abs=1e-6)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_fit_goes_on_where_it_stopped(
    fitted: PseudoAnomaly, tmp_path: Path, at: int
) -> None:
    steps: list[tuple[str, int]] = []

    def kill(row: Mapping[str, Any]) -> None:
        steps.append((str(row["stage"]), int(row["step"])))
        if len(steps) == at + 1:
            raise Stopped

    detector = made()
    options = FitOptions(folder=tmp_path, checkpoint_seconds=0.0, on_step=kill)
    with pytest.raises(Stopped):
        detector.fit(squares(), device="cpu", seed=0, options=options)
    log = detector.fit(squares(), device="cpu", seed=0, options=FitOptions(folder=tmp_path))
    assert [(r["stage"], r["step"]) for r in log.rows] == [
        (part, step) for part in ("spatial", "temporal", "semantic") for step in (1, 2)
    ]
    expected = fitted.state_dict()
    for name, values in detector.state_dict().items():
        assert np.array_equal(values, expected[name]), name
    assert not list(tmp_path.iterdir())


def test_a_training_of_one_epoch_is_the_first_epoch_of_a_longer_one(tmp_path: Path) -> None:
    """So the first and the last epoch are two trainings, `epochs` 1 and 60, of one method."""
    reached: list[Mapping[str, Any]] = []

    def kill(row: Mapping[str, Any]) -> None:
        reached.append(row)
        if len(reached) == 3:  # what is saved is the state after the second step
            raise Stopped

    settings = {"batch_size": 13, "steps": None}  # 26 windows: two batches an epoch
    for eta in ((1, 0, 0), (0, 1, 0)):
        short = made(**settings, eta=eta, epochs=1)
        log = short.fit(squares(2), device="cpu", seed=0)
        reached.clear()
        options = FitOptions(folder=tmp_path, checkpoint_seconds=0.0, on_step=kill)
        longer = made(**settings, eta=eta, epochs=3)
        with pytest.raises(Stopped):
            longer.fit(squares(2), device="cpu", seed=0, options=options)
        assert [row["steps"] for row in reached] == [6, 6, 6]
        for ours, theirs in zip(log.rows, reached[:2], strict=True):
            assert ours["total"] == theirs["total"]
        for name in ("validation/normal_error", "validation/pseudo_error"):
            assert log.rows[1][name] == reached[1][name]
        saved = Checkpoint.load(tmp_path)
        assert saved is not None and saved.step == 2
        state = short.state_dict()
        for name, values in saved.module.items():
            assert np.array_equal(state[f"network.{name}"], values.numpy()), name
        discard_checkpoint(tmp_path)


def test_every_epoch_is_measured_on_clips_and_on_their_pseudo_anomalies() -> None:
    detector = made(eta=(1, 0, 0), steps=3, batch_size=7)  # 13 windows: two batches an epoch
    log = detector.fit(squares(1), device="cpu", seed=0)
    assert ["validation/normal_error" in row for row in log.rows] == [False, True, True]
    assert log.rows[1]["validation/pseudo_error"] != log.rows[1]["validation/normal_error"]
    assert log.summary["windows/spatial"] == 13


def test_samples_show_what_a_network_got_and_returned_in_the_first_and_last_epoch() -> None:
    found: list[Sample] = []
    options = FitOptions(on_sample=found.append)
    detector = made(steps=5, batch_size=13, eta=(1, 1, 0))  # 26 windows: two steps an epoch
    detector.fit(squares(2), device="cpu", seed=0, options=options)
    assert [(s.stage, s.when, s.step, s.steps) for s in found] == [
        *(("spatial", "first", 2, 5), ("spatial", "last", 5, 5)),
        *(("temporal", "first", 2, 5), ("temporal", "last", 5, 5)),
    ]
    for sample in found:
        role = {"spatial": "pixels", "temporal": "flow"}[sample.stage]
        for i, window in enumerate(sample.windows):
            video, row = window.split(", row ")
            stored = moving_square(20, int(video[1:]))
            frame = stored[role][int(row)]
            assert sample.pictures["normal"][i] == pytest.approx(frame, abs=1e-5), "bit by bit"
            if role == "pixels":
                odd = stored["perturbed_pixels"][int(row)]
                assert np.array_equal(sample.pictures["pseudo-anomaly"][i], odd)
        for kind in ("normal", "pseudo-anomaly"):
            error = sample.pictures[f"{kind}: error"]
            shown, got = sample.pictures[f"{kind}: reconstruction"], sample.pictures[kind]
            if role == "pixels":  # rounded to 1 / 127.5 each
                expected = (((shown.astype(float) - got) / 127.5) ** 2).mean(-1)
                assert error == pytest.approx(expected, abs=0.05)
            assert error.shape == (3, 16, 16) and error.min() >= 0 and error.max() > 0
    alone: list[Sample] = []
    made(eta=(1, 0, 0), p_s=0, channels=1, steps=1).fit(
        squares(1), device="cpu", seed=0, options=FitOptions(on_sample=alone.append)
    )
    assert [s.when for s in alone] == ["last"]
    assert list(alone[0].pictures) == ["normal", "normal: reconstruction", "normal: error"]
    assert np.ptp(alone[0].pictures["normal"], axis=-1).max() == 0, "grey, as the network has it"


def test_samples_change_no_weight(fitted: PseudoAnomaly) -> None:
    detector = made()
    found: list[Sample] = []
    detector.fit(squares(), device="cpu", seed=0, options=FitOptions(on_sample=found.append))
    assert found
    expected = fitted.state_dict()
    assert all(np.array_equal(v, expected[k]) for k, v in detector.state_dict().items())


def test_eta_is_learnt_on_held_out_videos() -> None:
    detector = made(learn_eta=True, spatial=("perturbed", "patch"), semantic_steps=40, lr=0.01)
    log = detector.fit(squares(3), device="cpu", seed=0)
    assert log.summary["videos"] == 2
    if UNTOLD in log.warnings:
        pytest.fail("the bright blocks of the twin tell the classes apart")
    assert sum(detector.eta.values()) == pytest.approx(1.0)
    assert detector.eta["semantic"] + detector.eta["spatial"] > 0.5
    other = made(learn_eta=True, spatial=("perturbed", "patch"))
    other.load_state_dict(detector.state_dict())
    assert other.eta == detector.eta
    with pytest.raises(DetectorError, match="there is only one"):
        made(learn_eta=True).fit(squares(1), device="cpu", seed=0)


def test_bf16_and_checkpointing_train_and_are_stated() -> None:
    detector = made(precision="bf16", checkpointing=True, eta=(0, 1, 0))
    log = detector.fit(squares(1), device="cpu", seed=0)
    assert log.summary["precision"] == "bf16"
    omega = detector.score(squares(1)[0]).columns["omega_2"]
    # every window of the video was measured: scales are of the network that scores
    scale = detector.scales["temporal"]
    least = SMALLEST_SHARE * omega.mean()  # two steps teach so little that nothing varies
    expected = (omega.mean(), max(omega.std(), least))
    assert (scale.mean, scale.spread) == pytest.approx(expected, rel=1e-4)


def test_features_of_snippets_count_for_the_frames_that_they_cover() -> None:
    detector = made(eta=(0, 0, 1), features="snippet")
    rows = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    bag = frame_bag("v", {"snippet": rows, "perturbed_snippet": rows + 1})
    detector.fit(Bags([bag]), device="cpu", seed=0)
    assert detector.score(bag).columns["omega_3"].shape == (5,)


def test_features_of_several_crops_are_those_of_their_mean() -> None:
    """As I3D has them, (n, crops, D): another network than ViFi-CLIP may be taken."""
    random = np.random.default_rng(0)
    crops = random.normal(size=(9, 3, 6)).astype(np.float32)
    odd = crops + random.normal(1, 0.1, crops.shape).astype(np.float32)
    scores = []
    for normal, perturbed in ((crops, odd), (crops.mean(1), odd.mean(1))):
        detector = made(eta=(0, 0, 1), features="snippet", semantic_steps=20)
        bag = frame_bag("v", {"snippet": normal, "perturbed_snippet": perturbed})
        detector.fit(Bags([bag]), device="cpu", seed=0)
        other = made(eta=(0, 0, 1), features="snippet")
        other.load_state_dict(detector.state_dict())
        scores.append(other.score(bag).columns["omega_3"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def refused(arrays: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(DetectorError) as error:
        made(**changes).fit(Bags([frame_bag("v0", arrays)]), device="cpu", seed=0)
    return str(error.value)


def test_training_footage_that_does_not_fit_is_refused() -> None:
    arrays = moving_square(20)
    with pytest.raises(DetectorError, match="no training videos"):
        made().fit(Bags([]), device="cpu", seed=0)
    short = {role: values[:7] for role, values in arrays.items()}
    assert "no video has 8 rows of 'pixels': the longest has 7" in refused(short)
    cut = {**arrays, "pixels": arrays["pixels"][:, :12]}
    assert "multiples of 16; extract them with another size" in refused(cut)
    grey = {**arrays, "pixels": arrays["pixels"][..., :1]}
    assert "not (height, width, 3)" in refused(grey)
    flat = {**arrays, "frame": arrays["pixels"]}
    assert "not one vector a row" in refused(flat, eta=(0, 0, 1))
    fewer = {**arrays, "perturbed_pixels": arrays["pixels"][:12]}
    assert "lie at other frames" in refused(fewer)


def test_footage_without_motion_has_no_flow_to_learn_from() -> None:
    still = moving_square(20, speed=0)
    still["flow"][:] = 0
    assert not still["flow"].any()
    bags = [frame_bag("v0", still)]
    assert "nothing moves in the training footage" in stopped_at_once(bags, eta=(0.5, 0.5, 0))
    made(eta=(1, 0, 0)).fit(Bags(bags), device="cpu", seed=0)


def test_a_part_that_never_varies_is_warned_of_and_bounded() -> None:
    still = frame_bag("v0", moving_square(20, speed=0))
    detector = made(eta=(1, 0, 0), p_s=0)
    log = detector.fit(Bags([still]), device="cpu", seed=0)
    assert any("omega_1 is the same all over the normal footage" in w for w in log.warnings)
    # Errors twice as large are 3 dB, of a mean of some tens of dB.
    other = frame_bag("v1", moving_square(20, 1, bright=90))
    assert np.abs(detector.score(other).columns["score"]).max() < 1e4


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("role", "eta"), [("flow", (0, 1, 0)), ("frame", (0, 0, 1)), ("perturbed_frame", (0, 0, 1))]
)
def test_values_that_are_not_finite_are_named_in_training(
    role: str, eta: tuple[int, int, int], value: float
) -> None:
    arrays = moving_square(20)
    arrays[role] = arrays[role].copy()
    arrays[role][7] = value
    said = refused(arrays, eta=eta, steps=30, semantic_steps=30)
    assert f"video 'v0': '{role}' features are not finite at row" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["flow", "frame"])
def test_values_that_are_not_finite_are_no_score(
    fitted: PseudoAnomaly, role: str, value: float
) -> None:
    arrays = moving_square(20, 5)
    arrays[role][7] = value
    with pytest.raises(DetectorError, match="features are not finite"):
        fitted.score(frame_bag("v", arrays))


def stopped_at_once(bags: list[Bag], **changes: Any) -> str:
    """What a training says before its first step."""
    steps: list[Mapping[str, Any]] = []
    with pytest.raises(DetectorError) as error:
        made(**changes).fit(
            Bags(bags), device="cpu", seed=0, options=FitOptions(on_step=steps.append)
        )
    assert not steps
    return str(error.value)


@pytest.mark.parametrize(
    ("role", "other", "changes"),
    [
        ("pixels", "flow", {}),
        ("pixels", "perturbed_pixels", {}),
        ("frame", "perturbed_frame", {}),
        ("pixels", "frame", {"learn_eta": True}),
    ],
)
def test_rows_of_other_frames_in_any_video_stop_a_training_before_it_starts(
    role: str, other: str, changes: dict[str, Any]
) -> None:
    bags = list(squares(3))
    track = bags[2].tracks[other]  # as many rows, one frame later
    bags[2].tracks[other] = replace(track, frame_start=track.frame_start + 1)  # type: ignore[index]
    if other == "frame":
        bags[2].tracks["perturbed_frame"] = bags[2].tracks["frame"]  # type: ignore[index]
    found = stopped_at_once(bags, **changes)
    assert f"video 'v2': {role} and {other} lie at other frames" in found


def test_flow_of_held_videos_is_mixed_with_that_of_another_held_one() -> None:
    changes = {"learn_eta": True, "partner": "other_video", "spatial": ("patch",)}
    detector = made(**changes, eta=(1, 1, 0), steps=1)
    assert detector.fit(squares(4), device="cpu", seed=0).summary["videos"] == 2
    assert "are only 2" in stopped_at_once(list(squares(2)), **changes)
    assert "of one video" in stopped_at_once(list(squares(3)), **changes)  # one is left to train


@pytest.mark.parametrize(("n", "changes"), [(7, {}), (14, {"spatial": ("skip_frames",)})])
def test_held_videos_without_a_window_stop_a_training_before_it_starts(
    n: int, changes: dict[str, Any]
) -> None:
    held = int(np.random.default_rng([0, 3]).permutation(3)[0])
    bags = [frame_bag(f"v{i}", moving_square(n if i == held else 20, i)) for i in range(3)]
    found = stopped_at_once(bags, learn_eta=True, **changes)
    assert f"the longest has {n}" in found and f"holds back (v{held}): train with" in found


def test_videos_that_do_not_fit_the_model_are_refused(fitted: PseudoAnomaly) -> None:
    arrays = moving_square(20)
    with pytest.raises(DetectorError, match="is not fitted"):
        made().score(frame_bag("v", arrays))
    with pytest.raises(DetectorError, match="no 'flow' array"):
        fitted.score(frame_bag("v", {k: v for k, v in arrays.items() if k != "flow"}))
    with pytest.raises(DetectorError, match="the model was trained on"):
        fitted.score(frame_bag("v", {**arrays, "pixels": np.zeros((20, 32, 16, 3), np.uint8)}))
    with pytest.raises(DetectorError, match="pixels and flow lie at other frames"):
        fitted.score(frame_bag("v", {**arrays, "flow": arrays["flow"][:18]}))
    broken = {**arrays, "frame": np.full_like(arrays["frame"], np.nan)}
    with pytest.raises(DetectorError, match="features are not finite"):
        fitted.score(frame_bag("v", broken))
