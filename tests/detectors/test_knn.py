"""knn: a slow oracle, leave-one-out, positions, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bags import Bags
from vadpipe.detectors import knn
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.k_center import k_center
from vadpipe.detectors.knn import KNN, KNNConfig


def bag(
    name: str,
    x: NDArray[Any],
    role: str = "snippet",
    grid: Any = None,
    scene: str | None = None,
) -> Bag:
    starts = np.arange(len(x)) * 16
    track = Track(x, starts, starts + 16, grid)
    return Bag(name, None, len(x) * 16, 25.0, {role: track}, scene)


def features(seed: int, n: int, positions: int = 1, width: int = 5) -> NDArray[np.float16]:
    x = np.random.default_rng(seed).random((n, positions, width))
    return x.astype(np.float16)


def fitted(config: KNNConfig, *bags: Bag) -> KNN:
    detector = KNN(config)
    detector.fit(Bags(bags), device="cpu", seed=0)
    return detector


def unit(x: NDArray[Any]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("positions", ["each", "all"])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_scores_equal_a_slow_oracle(k: int, positions: str, pool: str) -> None:
    train, test = features(0, 9, 6), features(1, 4, 6)
    config = KNNConfig(role="patch", k=k, positions=positions, pool=pool)  # type: ignore[arg-type]
    detector = fitted(config, bag("a", train[:5], "patch/2x3"), bag("b", train[5:], "patch/2x3"))
    scores = detector.score(bag("c", test, "patch/2x3", (2, 3)))
    for i in range(4):
        per_patch = []
        for p in range(6):
            rows = train[:, p] if positions == "each" else train.reshape(-1, 5)
            distances = sorted(np.linalg.norm(unit(row) - unit(test[i, p])) for row in rows)
            per_patch.append(np.mean(distances[:k]))
        expected = max(per_patch) if pool == "max" else np.mean(per_patch)
        assert scores.columns["score"][i] == pytest.approx(expected, abs=1e-6)
        assert scores.maps["patch/2x3"][i].ravel() == pytest.approx(per_patch, abs=1e-6)


def test_a_training_feature_is_at_distance_zero_and_scaling_changes_nothing() -> None:
    x = features(0, 6)
    detector = fitted(KNNConfig(), bag("a", x))
    assert detector.score(bag("b", x)).columns["score"] == pytest.approx(0.0, abs=1e-3)
    doubled = detector.score(bag("b", 2 * x)).columns["score"]
    assert doubled == pytest.approx(0.0, abs=1e-3)


def test_order_of_the_videos_changes_nothing() -> None:
    a, b, c = (bag(n, features(i, 7)) for i, n in enumerate("abc"))
    one = fitted(KNNConfig(k=2), a, b).score(c).columns["score"]
    other = fitted(KNNConfig(k=2), b, a).score(c).columns["score"]
    assert np.array_equal(one, other)


def test_several_grids_are_averaged() -> None:
    def two(seed: int) -> Bag:
        small, large = features(seed, 5, 2), features(seed + 10, 5, 6)
        starts = np.arange(5) * 16
        tracks = {
            "patch/1x2": Track(small, starts, starts + 16, (1, 2)),
            "patch/2x3": Track(large, starts, starts + 16, (2, 3)),
        }
        return Bag(f"v{seed}", None, 80, 25.0, tracks)

    scores = fitted(KNNConfig(role="patch"), two(0)).score(two(1))
    mean = (scores.columns["patch/1x2"] + scores.columns["patch/2x3"]) / 2
    assert scores.columns["score"] == pytest.approx(mean)


def test_held_out_scores_leave_the_whole_video_out() -> None:
    bags = [bag(n, features(i, 6)) for i, n in enumerate("abc")]
    held_out = KNN(KNNConfig()).held_out_scores(Bags(bags), seed=0)
    for i, scores in enumerate(held_out):
        others = [b for j, b in enumerate(bags) if j != i]
        expected = fitted(KNNConfig(), *others).score(bags[i]).columns["score"]
        assert np.array_equal(scores.columns["score"], expected)


def test_one_video_is_held_back_in_blocks_that_share_no_frame() -> None:
    x = features(0, 20)
    one = bag("a", x)
    held_out = KNN(KNNConfig()).held_out_scores(Bags([one]), seed=0)
    assert [len(s.frame_start) for s in held_out] == [20]
    expected = fitted(KNNConfig(), bag("rest", x[4:])).score(bag("first", x[:4]))
    assert held_out[0].columns["score"][:4] == pytest.approx(expected.columns["score"])
    with pytest.raises(DetectorError, match="too short"):
        KNN(KNNConfig()).held_out_scores(Bags([bag("a", x[:5])]), seed=0)


def test_the_only_video_of_a_scene_is_left_out_in_blocks() -> None:
    """Left out as a whole, its camera would be new, and its scores those of an event."""
    far = features(3, 10) + 5 * np.eye(5, dtype=np.float16)[0]  # another camera
    bags = [
        bag("a", features(0, 6), scene="x"),
        bag("b", features(1, 6), scene="x"),
        bag("c", far, scene="y"),
        bag("d", features(2, 5), scene="z"),
    ]
    a, b, c, d = KNN(KNNConfig()).held_out_scores(Bags(bags), seed=0)
    for i, scores in ((0, a), (1, b)):
        others = [other for j, other in enumerate(bags) if j != i]
        expected = fitted(KNNConfig(), *others).score(bags[i]).columns["score"]
        assert scores.columns["score"] == pytest.approx(expected)
    for block in range(5):
        rest = bag("rest", np.delete(far, slice(2 * block, 2 * block + 2), axis=0))
        detector = fitted(KNNConfig(), *bags[:2], rest, bags[3])
        expected = detector.score(bags[2]).columns["score"][2 * block : 2 * block + 2]
        assert c.columns["score"][2 * block : 2 * block + 2] == pytest.approx(expected)
    new = fitted(KNNConfig(), *bags[:2]).score(bags[2]).columns["score"]
    assert new.min() > c.columns["score"].max()
    assert len(d.frame_start) == 0 == len(d.columns["snippet"]), "five rows are no five blocks"


def test_clips_that_are_all_too_short_are_refused() -> None:
    bags = [bag(n, features(0, 5), scene=n) for n in "abc"]
    with pytest.raises(DetectorError, match="3 training videos, each the only one of its scene"):
        KNN(KNNConfig()).held_out_scores(Bags(bags), seed=0)


@pytest.mark.parametrize(("limit", "draws"), [(None, False), (12, False), (11, True)])
def test_random_numbers_are_drawn_only_where_rows_are_left_out(
    limit: int | None, draws: bool
) -> None:
    bags = Bags([bag(n, features(i, 6, 6), "patch/2x3") for i, n in enumerate("ab")])
    assert KNN(KNNConfig(role="patch", max_rows=limit)).draws(bags) is draws
    banks = []
    for seed in (0, 1):
        detector = KNN(KNNConfig(role="patch", max_rows=limit))
        detector.fit(bags, device="cpu", seed=seed)
        banks.append(detector.state_dict()["patch/2x3"])
    assert np.array_equal(*banks) is not draws


def test_k_center_keeps_rows_of_each_position() -> None:
    x = features(0, 30, 6)
    config = KNNConfig(role="patch", bank="kcenter", bank_size=4, normalise=False)
    bank = fitted(config, bag("a", x[:9], "patch/2x3"), bag("b", x[9:], "patch/2x3")).state_dict()
    for p in range(6):
        chosen = k_center(x[:, p].astype(np.float32), 4, 0)
        assert np.array_equal(bank["patch/2x3"][:, p], x[chosen, p].astype(np.float32))


def test_a_random_bank_is_that_of_its_seed() -> None:
    bags = Bags([bag("a", features(0, 30))])
    banks = []
    for seed in (0, 0, 1):
        detector = KNN(KNNConfig(bank="random", bank_size=5))
        assert detector.draws(bags)
        assert detector.fit(bags, device="cpu", seed=seed).summary["rows_kept"] == 5
        banks.append(detector.state_dict()["snippet"])
    assert np.array_equal(banks[0], banks[1]) and not np.array_equal(banks[0], banks[2])


@pytest.mark.parametrize("bank", ["random", "kcenter"])
def test_a_bank_that_holds_all_is_the_whole_one(bank: str) -> None:
    bags = Bags([bag("a", features(0, 9, 6), "patch/2x3")])
    detector = KNN(KNNConfig(role="patch", bank=bank, bank_size=9))  # type: ignore[arg-type]
    assert not detector.draws(bags)
    detector.fit(bags, device="cpu", seed=3)
    whole = fitted(KNNConfig(role="patch"), *bags)
    assert np.array_equal(detector.state_dict()["patch/2x3"], whole.state_dict()["patch/2x3"])


@pytest.mark.parametrize("positions", ["each", "all"])
def test_rows_of_the_video_itself_are_left_out_of_a_smaller_bank(positions: str) -> None:
    bags = [bag(n, features(i, 8, 6), "patch/2x3") for i, n in enumerate("abc")]
    config = KNNConfig(role="patch", bank="kcenter", bank_size=6, positions=positions)  # type: ignore[arg-type]
    found = KNN(config).held_out_scores(Bags(bags), seed=0)
    whole = KNN(config.model_copy(update={"bank": "all", "bank_size": None}))
    for few, all_rows in zip(found, whole.held_out_scores(Bags(bags), seed=0), strict=True):
        assert (few.columns["score"] >= all_rows.columns["score"]).all()
        assert few.columns["score"].min() > 0, "a row was compared with itself"
    with pytest.raises(DetectorError, match=r"0 training rows.*raise bank_size"):
        few_rows = KNNConfig(role="patch", bank="random", bank_size=1)
        KNN(few_rows).held_out_scores(Bags(bags), seed=0)


@pytest.mark.parametrize("settings", [{"bank": "kcenter"}, {"bank_size": 3}])
def test_method_and_size_go_together(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="need a bank_size, and bank=all takes none"):
        KNNConfig(**settings)


def test_keys_of_older_models_stay() -> None:
    assert {"bank", "bank_size"}.isdisjoint(KNNConfig().for_key())
    key = KNNConfig(bank="kcenter", bank_size=9).for_key()
    assert (key["bank"], key["bank_size"]) == ("kcenter", 9)


def test_a_long_video_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, test = fitted(KNNConfig(), bag("a", features(0, 8))), bag("b", features(1, 23))
    whole = detector.score(test).columns["score"]
    monkeypatch.setattr(knn, "READ_BYTES", 5 * 5 * 4)
    assert np.array_equal(detector.score(test).columns["score"], whole)


def test_state_gives_the_same_scores_bit_by_bit() -> None:
    detector = fitted(KNNConfig(), bag("a", features(0, 8)))
    other = KNN(KNNConfig())
    other.load_state_dict(detector.state_dict())
    test = bag("b", features(1, 5))
    assert np.array_equal(detector.score(test).columns["score"], other.score(test).columns["score"])


def test_a_second_fit_forgets_the_first_and_thinning_is_seeded() -> None:
    detector = fitted(KNNConfig(max_rows=4), bag("a", features(0, 9)))
    once = detector.state_dict()["snippet"]
    assert len(once) == 4
    detector.fit(Bags([bag("b", features(1, 9))]), device="cpu", seed=0)
    detector.fit(Bags([bag("a", features(0, 9))]), device="cpu", seed=0)
    assert np.array_equal(detector.state_dict()["snippet"], once)


@pytest.mark.parametrize(
    ("bags", "match"),
    [
        ([], "no training videos"),
        ([bag("a", features(0, 3)), bag("b", features(0, 3, width=4))], "'b'.*features are"),
        ([bag("a", np.full((2, 1, 5), np.nan, np.float16))], "'a'.*NaN"),
        ([bag("a", features(0, 3), "patch/2x3")], "no 'snippet' features"),
    ],
)
def test_bad_training_data_names_the_video(bags: list[Bag], match: str) -> None:
    with pytest.raises(DetectorError, match=match):
        fitted(KNNConfig(), *bags)


def test_scoring_other_features_is_refused() -> None:
    detector = fitted(KNNConfig(), bag("a", features(0, 3)))
    with pytest.raises(DetectorError, match="the model has"):
        detector.score(bag("b", features(0, 3, width=4)))
    with pytest.raises(DetectorError, match=r"'b'.*'snippet' features have NaN"):
        detector.score(bag("b", np.full((2, 1, 5), np.nan, np.float16)))
    with pytest.raises(DetectorError, match="'b' has no rows of 'snippet'"):
        detector.score(bag("b", features(0, 0)))
    with pytest.raises(DetectorError, match="not fitted"):
        KNN(KNNConfig()).score(bag("b", features(0, 3)))


@pytest.mark.parametrize("offset", [0, 10, 1e4])
def test_scores_moved_by_no_more_than_stated_without_normalisation(offset: float) -> None:
    """docs/decisions.md has the bound: products in double precision, as they were compared once."""
    width = 256
    rng = np.random.default_rng(0)
    bank = (rng.standard_normal((60, width)) + offset).astype(np.float32)
    x = (rng.standard_normal((20, width)) + offset).astype(np.float32)
    x[:5] = bank[:5]  # what is in the bank loses most
    detector = fitted(KNNConfig(normalise=False), bag("a", bank))
    found = detector.score(bag("b", x)).columns["score"]

    b, q = bank.astype(np.float64), x.astype(np.float64)
    exact = ((q[:, None] - b) ** 2).sum(axis=2).min(axis=1)
    assert found == pytest.approx(np.sqrt(exact), rel=1e-12, abs=0)
    squares = (q**2).sum(axis=1)
    products = squares[:, None] - 2 * q @ b.T + (b**2).sum(axis=1)
    before = np.maximum(products, 0).min(axis=1)
    norms, bound = np.sqrt(squares), (width + 8) * 2.0**-53
    off = np.abs(before - exact) / (2 * norms + found) ** 2
    assert 0 < off.max() <= bound
