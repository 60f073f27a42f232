"""RBDC and TBDC: an oracle that takes detections one by one, closed forms, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.data_manifests.tracks import Tracks
from vadpipe.pipeline.metrics import regions
from vadpipe.pipeline.metrics.regions import overlap, region_curves
from vadpipe.pipeline.scores.frames import MetricsError
from vadpipe.pipeline.scores.scored_boxes import ScoredBoxes

Problem = tuple[dict[str, Tracks], dict[str, ScoredBoxes], int]


def track(*rows: tuple[float, ...]) -> Tracks:
    return Tracks.from_rows(np.array(rows, np.float64))


def boxes(*rows: tuple[float, ...]) -> ScoredBoxes:
    return ScoredBoxes.from_rows(np.array(rows, np.float64))


def random_problem(seed: int) -> Problem:
    rng = np.random.default_rng(seed)

    def box(n: int) -> NDArray[np.int64]:
        low = rng.integers(0, 30, (n, 2))
        return np.concatenate([low, low + rng.integers(1, 20, (n, 2))], axis=1)

    tracks, detections = {}, {}
    for video in "abc":
        n, k = int(rng.integers(5, 40)), int(rng.integers(0, 50))
        rows = np.column_stack([rng.integers(0, 3, n), rng.integers(0, 9, n), box(n)])
        tracks[video] = Tracks.from_rows(rows)
        few = rng.integers(0, 8, k) / 8  # many ties
        detections[video] = ScoredBoxes.from_rows(
            np.column_stack([rng.integers(0, 12, k), box(k), few])
        )
    detections["d"] = detections.pop("b")
    return tracks, detections, int(rng.integers(10, 40))


def oracle(problem: Problem, alpha: float, beta: float) -> list[NDArray[np.float64]]:
    """The rule, one detection after another."""
    tracks, detections, n_frames = problem
    truth = {}  # (video, frame, track) -> box; the last row counts
    for video, own in tracks.items():
        for number, frame, box in zip(own.track_id, own.frame, own.box, strict=True):
            truth[video, int(frame), int(number)] = box
    ranked = [
        (-float(own.score[i]), video, i, int(own.frame[i]), own.box[i])
        for video, own in detections.items()
        for i in range(len(own))
    ]
    length: dict[tuple[str, int], int] = {}
    for video, _, number in truth:
        length[video, number] = length.get((video, number), 0) + 1
    seen, false, points = set(), 0, [(0.0, 0.0, 0.0)]
    for _, video, _, frame, box in sorted(ranked, key=lambda row: row[:3]):
        met = [
            key
            for key, other in truth.items()
            if key[:2] == (video, frame) and overlap(box[None], other[None])[0] >= beta
        ]
        seen.update(met)
        false += not met
        counts = dict.fromkeys(length, 0)
        for v, _, number in seen:
            counts[v, number] += 1
        found = sum(counts[key] / length[key] >= alpha for key in length)
        points.append((false / n_frames, len(seen) / len(truth), found / len(length)))
    if points[-1][0] < 1:
        points.append((1.0, *points[-1][1:]))
    return list(np.array(points).T)


@pytest.mark.parametrize("seed", range(6))
def test_against_the_rule(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "PAIRS", 7)  # in many pieces
    problem = random_problem(seed)
    alpha, beta = (0.1, 0.1) if seed % 2 else (0.5, 0.3)
    found = region_curves(*problem, alpha=alpha, beta=beta)
    fpr, rbdr, tbdr = oracle(problem, alpha, beta)
    np.testing.assert_allclose(found.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(found.rbdr, rbdr, atol=1e-12)
    np.testing.assert_allclose(found.tbdr, tbdr, atol=1e-12)


def test_the_order_of_videos_changes_nothing() -> None:
    tracks, detections, n_frames = random_problem(3)
    found = region_curves(tracks, detections, n_frames)
    turned = region_curves(
        dict(reversed(tracks.items())), dict(reversed(detections.items())), n_frames
    )
    np.testing.assert_array_equal(found.rbdr, turned.rbdr)
    np.testing.assert_array_equal(found.tbdr, turned.tbdr)


def test_any_rising_function_of_the_scores_has_the_same_curves() -> None:
    tracks, detections, n_frames = random_problem(4)
    other = {
        name: ScoredBoxes(own.frame, own.box, np.exp(7 * own.score) - 3)
        for name, own in detections.items()
    }
    a, b = (region_curves(tracks, each, n_frames) for each in (detections, other))
    assert (a.rbdc, a.tbdc) == (b.rbdc, b.tbdc)


def test_perfect_and_empty() -> None:
    truth = {"v": track((0, 0, 0, 0, 4, 4), (0, 1, 1, 0, 5, 4))}
    perfect = region_curves(truth, {"v": boxes((0, 0, 0, 4, 4, 1), (1, 1, 0, 5, 4, 1))}, 10)
    assert (perfect.rbdc, perfect.tbdc) == (1.0, 1.0)
    nothing = region_curves(truth, {}, 10)
    assert (nothing.rbdc, nothing.tbdc, nothing.n_regions) == (0.0, 0.0, 2)
    np.testing.assert_array_equal(nothing.fpr, [0, 1])


def test_half_the_frames_with_false_alarms_first() -> None:
    """Five false alarms in ten frames, then the region: found from FPR 0.5 on."""
    false = [(frame, 50, 50, 60, 60, 2) for frame in range(5)]
    found = region_curves(
        {"v": track((0, 0, 0, 0, 4, 4))}, {"v": boxes(*false, (0, 0, 0, 4, 4, 1))}, 10
    )
    assert found.rbdc == pytest.approx(0.5)


def test_an_overlap_counts_the_pixels_of_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 1, 1], [0, 0, 4, 4]], np.float64)
    b = np.array([[5, 0, 15, 10], [1, 0, 2, 1], [0, 0, 4, 4]], np.float64)
    np.testing.assert_allclose(overlap(a, b), [50 / 150, 0, 1])


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MetricsError, match="0 labelled regions"):
        region_curves({"v": track()}, {"v": boxes((0, 0, 0, 1, 1, 1))}, 5)
    with pytest.raises(MetricsError, match="0 frames"):
        region_curves({"v": track((0, 0, 0, 0, 4, 4))}, {}, 0)
    with pytest.raises(MetricsError, match="alpha"):
        region_curves({"v": track((0, 0, 0, 0, 4, 4))}, {}, 5, alpha=0.0)
