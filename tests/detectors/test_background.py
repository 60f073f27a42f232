"""background: a slow oracle, scenes, leaving one video out, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.bags import Bags, bag
from vadpipe.detectors import cells
from vadpipe.detectors.background import Background, BackgroundConfig
from vadpipe.detectors.base import Bag, DetectorError


def frames(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 110, (count, 4, 6, 3), dtype=np.uint8)


def video(name: str, x: np.ndarray, scene: str | None = None) -> Bag:
    return replace(bag(name, {"pixels": x}), scene=scene)


def fitted(config: BackgroundConfig, *bags: Bag) -> Background:
    detector = Background(config)
    detector.fit(Bags(bags), device="cpu", seed=0)
    return detector


def expected(train: np.ndarray, test: np.ndarray, spread: bool, floor: float = 1.0) -> np.ndarray:
    """The definition, in float64 with a two-pass variance."""
    mean = train.astype(np.float64).mean(0)
    std = np.sqrt(((train - mean) ** 2).mean(0))
    scale = np.maximum(std, floor) if spread else 1.0
    return np.asarray((((test - mean) / scale) ** 2).mean((1, 2, 3)))


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_scores_equal_a_slow_oracle(
    spread: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "BLOCK_BYTES", rows * 72)
    a, b, test = frames(0, 5), frames(1, 3), frames(2, 4)
    detector = fitted(BackgroundConfig(spread=spread), video("a", a), video("b", b))
    scores = detector.score(video("c", test)).columns["score"]
    assert scores == pytest.approx(expected(np.concatenate([a, b]), test, spread), rel=1e-9)


def test_a_still_pixel_has_the_spread_of_the_floor() -> None:
    still = np.full((5, 4, 6, 3), 100, np.uint8)
    detector = fitted(BackgroundConfig(spread=True, floor=2.0), video("a", still))
    scores = detector.score(video("b", still[:1] + np.uint8(6)))
    assert scores.columns["score"].tolist() == [9.0]  # (6 / 2)^2


def test_the_map_says_where() -> None:
    still = np.full((5, 4, 6, 3), 100, np.uint8)
    test = still[:1].copy()
    test[0, :2, 3:] = 104
    detector = fitted(BackgroundConfig(cells=(2, 2)), video("a", still))
    assert detector.score(video("b", test)).maps["distance"][0].tolist() == [[0, 16], [0, 0]]


def test_a_scene_has_a_background_of_its_own() -> None:
    day, night = frames(0, 4), frames(1, 4) // 3
    videos = [video("a", day, "yard"), video("b", night, "gate")]
    apart = fitted(BackgroundConfig(), *videos).score(video("c", day, "yard"))
    assert apart.columns["score"] == pytest.approx(expected(day, day, False))
    together = fitted(BackgroundConfig(per_scene=False), *videos).score(video("c", day, "yard"))
    both = np.concatenate([day, night])
    assert together.columns["score"] == pytest.approx(expected(both, day, False))


def test_each_training_video_is_scored_by_the_others_of_its_scene() -> None:
    a, b, c = (frames(seed, 3) for seed in range(3))
    d, e = frames(3, 4) // 2, frames(4, 4) // 2
    source = Bags(
        [
            *(video(n, x, "yard") for n, x in (("a", a), ("b", b), ("c", c))),
            *(video(n, x, "gate") for n, x in (("d", d), ("e", e))),
        ]
    )
    held_out = Background(BackgroundConfig()).held_out_scores(source, seed=0)
    assert held_out is not None
    others = [(b, c), (a, c), (a, b), (e,), (d,)]
    for scores, x, rest in zip(held_out, (a, b, c, d, e), others, strict=True):
        assert scores.columns["score"] == pytest.approx(expected(np.concatenate(rest), x, False))


def test_the_only_video_of_a_scene_cannot_be_left_out() -> None:
    source = Bags([video("a", frames(0, 3), "yard"), video("b", frames(1, 3), "gate")])
    assert Background(BackgroundConfig()).held_out_scores(source, seed=0) is None


def test_a_model_is_restored_scene_by_scene() -> None:
    first = fitted(
        BackgroundConfig(), video("a", frames(0, 3), "a/b"), video("b", frames(1, 3), "c")
    )
    second = Background(BackgroundConfig())
    second.load_state_dict(first.state_dict())
    for scene in ("a/b", "c"):
        test = video("t", frames(5, 2), scene)
        found = (each.score(test).columns["score"] for each in (first, second))
        assert np.array_equal(*found)


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(DetectorError, match="not fitted"):
        Background(BackgroundConfig()).score(video("a", frames(0, 2)))
    with pytest.raises(DetectorError, match="no training videos"):
        fitted(BackgroundConfig())
    detector = fitted(BackgroundConfig(), video("a", frames(0, 2), "yard"))
    with pytest.raises(DetectorError, match=r"scene 'gate'.*no training video.*per_scene=false"):
        detector.score(video("b", frames(1, 2), "gate"))
    with pytest.raises(DetectorError, match=r"\(2, 6, 3\), the model has \(4, 6, 3\)"):
        detector.score(video("b", frames(1, 2)[:, :2], "yard"))
    with pytest.raises(DetectorError, match=r"\(2, 6, 3\), those of videos before it \(4, 6, 3\)"):
        fitted(BackgroundConfig(), video("a", frames(0, 2)), video("b", frames(1, 2)[:, :2]))
