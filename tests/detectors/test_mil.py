"""What weakly supervised detectors promise: pairs, order, refusals, lengths, model folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from tests.bags import Bags, bag, weak_bags
from vadpipe.detectors import mil
from vadpipe.detectors.base import Bag, DetectorError, FitOptions
from vadpipe.detectors.mil import MILDetector, PairSampler
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.registry import DETECTORS

pytestmark = pytest.mark.usefixtures("one_thread")

WEAK: dict[str, dict[str, Any]] = {
    "mil_ranking": {"steps": 4, "batch_size": 3},
    "rtfm": {"steps": 4, "batch_size": 3},
    "ssrl": {"steps": 4, "batch_size": 3},
}
GRIDS = ("2x3", "3x5")


def make(name: str, **settings: Any) -> MILDetector[Any, Any]:
    kind = DETECTORS[name]
    detector = kind(kind.Config.model_validate({**WEAK[name], **settings}))
    assert isinstance(detector, MILDetector)
    return detector


def weak(videos: int = 8, **options: Any) -> Bags:
    return weak_bags(videos, grids=GRIDS, **options)


def state_of(name: str, bags: Bags, **options: Any) -> dict[str, Any]:
    detector = make(name)
    detector.fit(bags, device="cpu", seed=0, options=FitOptions(**options))
    return detector.state_dict()


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# -- pairs ---------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_a_turn_takes_every_video_at_most_once(
    normal: int, abnormal: int, size: int, seed: int
) -> None:
    labels = [0] * normal + [1] * abnormal
    sampler = PairSampler([f"v{i:02d}" for i in range(len(labels))], labels, size, seed)
    assert sampler.size == min(size, normal, abnormal)
    for label, count in ((0, normal), (1, abnormal)):
        batches = count // sampler.size
        taken: Counter[int] = Counter()
        for step in range(2 * batches):
            half = sampler(0, step)[label * sampler.size :][: sampler.size]
            assert {labels[i] for i in half} == {label}
            taken.update(half.tolist())
            if step == batches - 1:
                assert max(taken.values()) == 1
        assert max(taken.values()) <= 2


def test_pairs_depend_on_stage_and_step_alone() -> None:
    sampler = PairSampler("abcdefgh", [0, 1] * 4, 2, 5)
    first = [sampler(0, step).tolist() for step in range(9)]
    assert [sampler(0, step).tolist() for step in reversed(range(9))] == first[::-1]
    assert [sampler(1, step).tolist() for step in range(9)] != first


@pytest.mark.parametrize("name", WEAK)
def test_the_order_of_the_videos_changes_nothing(name: str) -> None:
    bags = weak()
    turned = bags.subset([5, 2, 7, 0, 1, 6, 3, 4])
    assert equal(state_of(name, bags), state_of(name, turned))


# -- what is learned -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mil_ranking", {"steps": 200, "lr": 0.05, "normalise": False}),
        ("rtfm", {"steps": 60, "margin": 10.0}),
        ("ssrl", {"steps": 40, "margin": 10.0, "scales": ["2x3"]}),
    ],
)
def test_labels_of_videos_find_the_snippets_and_swapped_labels_lose_them(
    name: str, settings: dict[str, Any]
) -> None:
    train, test = weak(24, seed=1), weak(16, seed=2)
    swapped = Bags(
        [Bag(b.video_id, 1 - int(b.label or 0), b.n_frames, b.fps, b.tracks) for b in train]
    )
    found = []
    for bags in (train, swapped):
        detector = make(name, **{"batch_size": 8, **settings})
        detector.fit(bags, device="cpu", seed=0)
        scores, truth = [], []
        for b in test:
            scores.append(detector.score(b).columns["score"])
            x = b.tracks["snippet"].rows().mean(axis=1)
            truth.append((x > 1.0) & (b.label == 1))
        found.append(roc_auc_score(np.concatenate(truth), np.concatenate(scores)))
    assert found[0] > 0.9
    assert found[1] < 0.5


# -- options of the loop -------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEAK)
def test_options_of_the_loop_reach_it(name: str) -> None:
    bags = weak()
    plain = make(name)
    before = plain.fit(bags, device="cpu", seed=0)
    assert before.summary["precision"] == "fp32"
    for settings in (
        {"schedule": "cosine"},
        {"warmup": 2},
        {"precision": "bf16"},
        {"accumulate": 2},
        {"clip": 1e-4},
    ):
        detector = make(name, **settings)
        log = detector.fit(bags, device="cpu", seed=0)
        assert log.summary["precision"] == settings.get("precision", "fp32")
        assert len(log.rows) == len(before.rows)
        state = detector.state_dict()
        assert not equal(state, plain.state_dict()), settings
        assert {v.dtype for v in state.values()} == {v.dtype for v in plain.state_dict().values()}
        rates = [row["lr"] for row in log.rows[:4]]
        lr = detector.config.lr
        factors = [detector.schedule.factor(step, 4) for step in range(4)]
        assert rates == [lr * factor for factor in factors]
        assert (factors != [1.0] * 4) == ("schedule" in settings or "warmup" in settings)
        assert ("grad_norm" in log.rows[0]) == ("clip" in settings)


@pytest.mark.parametrize("name", WEAK)
def test_bf16_learns_what_fp32_learns(name: str) -> None:
    """The first losses are equal up to bf16's 8 bits: same draws, same dropout."""
    bags = weak()
    logs = [
        make(name, precision=precision, dropout=0.0).fit(bags, device="cpu", seed=0)
        for precision in ("fp32", "bf16")
    ]
    exact, fast = (float(log.rows[0]["total"]) for log in logs)
    assert fast == pytest.approx(exact, rel=0.03) and fast != exact


@pytest.mark.parametrize("name", WEAK)
def test_scores_in_bf16_are_close_and_those_in_fp32_are_the_default(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mil, "check_bfloat16", lambda device: None)  # torch imitates it here
    bags = weak()
    exact, fast = make(name), make(name, score_precision="bf16")
    exact.fit(bags, device="cpu", seed=0)
    assert "score_precision" not in exact.config.for_key()
    assert fast.config.for_key()["score_precision"] == "bf16"
    fast.load_state_dict(exact.state_dict())
    one, other = exact.score(bags[0]), fast.score(bags[0])
    a, b = one.columns["score"], other.columns["score"]
    assert not np.array_equal(a, b)
    assert a @ b >= 0.999 * np.linalg.norm(a) * np.linalg.norm(b)
    assert b.dtype == np.float64 and {m.dtype for m in other.maps.values()} <= {np.dtype("f4")}


def test_bf16_scores_are_refused_before_training_and_scoring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: False)
    detector, steps = make("rtfm", score_precision="bf16"), []
    with pytest.raises(DetectorError, match="cpu has no bfloat16: take a device that has"):
        detector.fit(weak(), device="cpu", seed=0, options=FitOptions(on_step=steps.append))
    with pytest.raises(DetectorError, match="cpu has no bfloat16"):
        detector.to("cpu")
    assert not steps
    make("rtfm").to("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    detector.to("cpu")


def test_a_warm_up_longer_than_a_stage_is_refused_before_training() -> None:
    steps: list[Any] = []
    settings = {"warmup": 3, "stages": [{}, {"scales": ["2x3"], "steps": 3}], "scales": ["2x3"]}
    with pytest.raises(DetectorError, match=r"2 2x3: a warm-up of 3 steps .* within 3 steps"):
        make("ssrl", **settings).fit(
            weak(), device="cpu", seed=0, options=FitOptions(on_step=steps.append)
        )
    assert not steps


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "linear"},
        {"warmup": -1},
        {"precision": "fp16"},
        {"accumulate": 0},
        {"clip": 0},
        {"clip": float("inf")},
    ],
)
def test_wrong_options_of_the_loop_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        make("rtfm", **settings)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEAK)
def test_one_class_and_missing_labels_are_refused(name: str) -> None:
    bags = weak()
    normal = bags.subset([0, 2, 4])
    with pytest.raises(DetectorError, match=r"all 3 training videos are normal.*v00, v02, v04"):
        make(name).fit(normal, device="cpu", seed=0)
    unknown = Bag("blank", None, 16, 25.0, bags[0].tracks)
    with pytest.raises(DetectorError, match="1 videos have no label: blank"):
        make(name).fit(Bags([*bags, unknown]), device="cpu", seed=0)


@pytest.mark.parametrize("name", WEAK)
def test_other_features_are_refused_when_scoring(name: str) -> None:
    detector = make(name)
    with pytest.raises(DetectorError, match="not fitted"):
        detector.score(weak()[0])
    detector.fit(weak(), device="cpu", seed=0)
    other = bag("other", {r: t.rows()[..., :8] for r, t in weak()[0].tracks.items()})
    with pytest.raises(DetectorError, match="other: snippet is 8, the model was trained on"):
        detector.score(other)
    with pytest.raises(DetectorError, match="no 'snippet' features"):
        detector.score(Bag("bare", None, 16, 25.0, {}))
    broken = {r: t.rows().copy() for r, t in weak()[0].tracks.items()}
    broken["snippet"][3] = np.nan
    with pytest.raises(DetectorError, match="broken: snippet is not finite"):
        detector.score(bag("broken", broken))
    with pytest.raises(DetectorError, match="not weights of"):
        make(name).load_state_dict({"something": np.zeros(3)})


# -- lengths, places, folders --------------------------------------------------------------------


@pytest.mark.parametrize("name", WEAK)
def test_any_length_is_trained_on_and_scored(name: str) -> None:
    bags = Bags(
        [
            *weak(4),
            *(weak(2, rows=(n, n), seed=n).bags[i] for i, n in enumerate((5, 5))),
            *weak(2, rows=(5000, 5000), seed=3).subset([0]),
        ]
    )
    one = {role: track.rows(0, 1) for role, track in bags[0].tracks.items()}
    bags = Bags([Bag(f"{i}", b.label, b.n_frames, b.fps, b.tracks) for i, b in enumerate(bags)])
    bags = Bags([*bags, bag("one", one, 1)])
    detector = make(name)
    detector.fit(bags, device="cpu", seed=0)
    for b in bags:
        scores = detector.score(b)
        assert len(scores.columns["score"]) == len(b.tracks["snippet"])
        assert ((scores.columns["score"] > 0) & (scores.columns["score"] < 1)).all()


@pytest.mark.parametrize("name", WEAK)
def test_where_the_data_lie_changes_nothing(name: str, tmp_path: Path) -> None:
    bags = weak()
    resident = state_of(name, bags)
    assert equal(resident, state_of(name, bags, memory=1, folder=tmp_path))
    assert equal(resident, state_of(name, bags, memory=1, folder=tmp_path, prefetch=0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WEAK)
@pytest.mark.parametrize("crops", [None, 3])
def test_a_model_folder_gives_back_every_bit(name: str, crops: int | None, tmp_path: Path) -> None:
    bags = weak(crops=crops)
    detector = make(name)
    detector.fit(bags, device="cpu", seed=0)
    ModelFolder(tmp_path).save(detector, {"features": {}, "calibration": {}})
    loaded, _ = ModelFolder(tmp_path).load()
    for b in bags:
        one, two = detector.score(b), loaded.score(b)
        for column in one.columns:
            assert np.array_equal(one.columns[column], two.columns[column])
        assert one.maps.keys() == two.maps.keys()
        for name_ in one.maps:
            assert np.array_equal(one.maps[name_], two.maps[name_])


@pytest.mark.parametrize("name", WEAK)
def test_fitting_leaves_the_callers_random_numbers_alone(name: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    state_of(name, weak(4))
    assert torch.equal(torch.rand(3), expected)
