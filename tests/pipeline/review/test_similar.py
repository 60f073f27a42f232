"""More like this: neighbours by closed form, and the reasons why there are none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pipeline.test_feedback import Site
from vadpipe.pipeline.review import similar
from vadpipe.pipeline.review.similar import _stores, _vector, neighbours, similar_events
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.store.errors import StoreError


def test_neighbours_are_those_of_the_highest_cosine_around_the_mean():
    angles = np.deg2rad([0, 10, 180, 190])
    vectors = 100 + np.stack([np.cos(angles), np.sin(angles)], axis=1)  # opposite pairs: mean 100
    found = neighbours(vectors, 2)
    assert [[k for k, _ in near] for near in found] == [[1], [0], [3], [2]]  # no opposite
    assert found[0][0][1] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-4)
    spread = np.deg2rad([0, 20, 50, 180, 200, 230])
    near = neighbours(np.stack([np.cos(spread), np.sin(spread)], axis=1), 1)
    assert [each[0][0] for each in near] == [1, 0, 1, 4, 3, 4]  # one each
    assert neighbours(np.ones((3, 4)), 5) == [[], [], []]  # all alike: nothing sets one apart


def test_events_are_compared_by_features_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    folder = ScoreFolder(site.out)
    rows, run = folder.videos(), folder.run()
    numbers = {row["video_id"]: k for k, row in enumerate(rows)}
    (first, second) = (row["video_id"] for row in rows)
    ranked = [{"video_id": v, "peak_frame": at} for v, at in ((second, 9), (first, 2), (first, 30))]

    def compare(cache: Path | None, most: int = 9) -> dict:
        return similar_events(folder, run, rows, numbers, ranked, cache, most)

    assert "or none that are vectors to compare by" in compare(site.cache)["reason"]
    monkeypatch.setattr(similar, "LEAST_WIDTH", 1)
    found = compare(site.cache)
    assert (found["video"], found["at"], found["reason"]) == ([1, 0, 0], [9, 2, 30], "")
    store, spec = _stores(run, site.cache)[0]
    vectors = []
    for event in ranked:
        content = next(r["content_id"] for r in rows if r["video_id"] == event["video_id"])
        features = store.read(content)
        row = event["peak_frame"] // 4  # rows of four frames
        vectors.append(np.asarray(features.arrays[spec["name"]][row : row + 1], np.float64)[0])
    assert found["near"] == neighbours(np.stack(vectors), 8)
    assert compare(site.cache, most=1)["reason"].endswith("of too few of them")
    assert "no cache" in compare(None)["reason"]
    assert "holds no features" in compare(tmp_path / "empty")["reason"]
    for model in (
        {},
        {"features": []},
        {"features": {"x": 3}},
        {"features": {"x": {"extractor": "../.."}}},
    ):
        assert _stores({"model": model}, site.cache) == []
    store.remove_video(next(r["content_id"] for r in rows if r["video_id"] == second))
    left = compare(site.cache)
    assert left["video"] == [0, 0] or left["near"] == []
    assert left["reason"] == f"{store.name} lacks the features of 1 video"


def times(start, stop):
    return SimpleNamespace(frame_start=np.array(start), frame_stop=np.array(stop))


def test_the_vector_of_a_frame_is_the_mean_of_the_rows_that_cover_it():
    array = np.arange(24.0).reshape(4, 3, 2)  # rows, positions, features
    where = times([0, 8, 16, 24], [16, 24, 32, 40])
    assert _vector(array, where, 10).tolist() == array[0:2].mean(axis=(0, 1)).tolist()
    assert _vector(array, where, 3).tolist() == array[0].mean(axis=0).tolist()
    assert _vector(array, where, 99).tolist() == array[3].mean(axis=0).tolist()  # the nearest
    with pytest.raises(StoreError, match="no rows"):
        _vector(array[:0], times([], []), 3)
    with pytest.raises(StoreError, match="no vectors"):
        _vector(np.array([1.0, 2.0]), times([0, 8], [8, 16]), 3)
    with pytest.raises(StoreError, match="no vectors"):
        _vector(np.full((2, 3), np.nan), times([0, 8], [8, 16]), 3)
