"""Batches of MSMG: which frames they hold, labels, masks, and no clue in the length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.bags import ArrayRows
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.msmg_samples import ClipSamples, ProxySamples, without
from vadpipe.detectors.row_memory import RowMemory

T = 6


def rows(counts: list[int], scenes: list[str | None] | None = None) -> ArrayRows:
    """Each frame names its video and its place in it."""
    videos = []
    for v, n in enumerate(counts):
        frames = np.zeros((n, 1, 1, 3), np.uint8)
        frames[..., 0], frames[:, 0, 0, 1] = v, np.arange(n)
        videos.append(frames)
    return ArrayRows(videos, scenes=scenes)


def samples(counts: list[int], scenes: list[str | None] | None = None, **more: Any) -> ProxySamples:
    return ProxySamples(RowMemory(rows(counts, scenes)), T, **more)


def test_one_inner_frame_is_missing_and_the_label_says_which() -> None:
    drawn = samples([30, 14]).draw(200, 0)
    places = set()
    for i in range(200):
        video, broken = drawn.broken[i, 0, 0, 0, 0], drawn.broken[i, :, 0, 0, 1].tolist()
        lacking = int(drawn.missing[i, 0, 0, 0, 1])
        place = int(drawn.place[i])
        whole = sorted([*broken, lacking])
        assert whole == list(range(broken[0], broken[0] + T))
        assert lacking == broken[0] + 1 + place
        assert drawn.missing[i, 0, 0, 0, 0] == video
        places.add(place)
        other = drawn.whole[i, :, 0, 0, 1].tolist()
        assert other == list(range(other[0], other[0] + T - 1))
        assert (drawn.whole[i, :, 0, 0, 0] == video).all()
        assert not set(other) & set(whole)
    assert places == set(range(T - 2))


def test_clips_do_not_overlap_and_a_gap_limits_their_distance() -> None:
    drawn = samples([60], equal_length=False, gap=2).draw(100, 0)
    first = drawn.broken[:, 0, 0, 0, 1].long()
    apart = (drawn.whole[:, 0, 0, 0, 1].long() - first).abs()
    assert drawn.whole.shape[1] == T
    assert int(apart.min()) == T and int(apart.max()) == T + 2


def test_the_length_tells_nothing_by_default() -> None:
    """The best classifier that sees the number of frames only."""

    def best_accuracy(equal: bool) -> float:
        drawn = samples([60], equal_length=equal).draw(32, 0)
        lengths = [drawn.broken.shape[1]] * 32 + [drawn.whole.shape[1]] * 32
        labels = np.array([1] * 32 + [0] * 32)
        sides = [labels[np.array(lengths) == length] for length in set(lengths)]
        return sum(max(side.sum(), (1 - side).sum()) for side in sides) / 64

    assert best_accuracy(True) == 0.5
    assert best_accuracy(False) == 1.0


def test_the_first_or_the_last_frame_of_the_whole_clip_is_left_out() -> None:
    """Neither end tells the classes apart: both of the two clips begin anywhere."""
    ours = samples([2 * T])  # only two places: clips begin at 0 and at T
    drawn = ours.draw(64, 0)
    begins = drawn.whole[:, 0, 0, 0, 1] % T
    assert set(begins.tolist()) == {0, 1}


def test_the_same_turn_draws_the_same_and_another_another() -> None:
    ours, theirs = samples([40, 40]), samples([40, 40])
    a, b, c = ours.draw(8, 5), theirs.draw(8, 5), ours.draw(8, 6)
    assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    assert not torch.equal(a.broken, c.broken)
    other = samples([40, 40], seed=1).draw(8, 5)
    assert not torch.equal(a.broken, other.broken)
    again = [list(ours.validation(5, 2)) for _ in range(2)]
    assert [len(each.place) for each in again[0]] == [2, 2, 1]
    assert all(torch.equal(x.broken, y.broken) for x, y in zip(*again, strict=True))


@pytest.mark.parametrize(
    ("asked", "scenes", "counts", "used"),
    [
        ("scene", ["a", "b", "a"], [20, 20, 20], "scene"),
        ("scene", ["a", "a", "a"], [20, 20, 20], "video"),
        ("scene", [None, None, None], [20, 20, 20], "video"),
        ("scene", ["a", "a", "b"], [20, 20, 5], "video"),  # the other scene is too short
        ("scene", ["a"], [20], "none"),
        ("video", ["a", "b"], [20, 20], "video"),
        ("video", ["a", "b"], [20, 5], "none"),
        ("none", ["a", "b"], [20, 20], "none"),
    ],
)
def test_what_negatives_differ_in(
    asked: Any, scenes: list[str | None], counts: list[int], used: str
) -> None:
    ours = samples(counts, scenes, negatives=asked)
    assert ours.negatives == used
    drawn = ours.draw(16, 0)
    video = drawn.broken[:, 0, 0, 0, 0].tolist()
    kinds = {"scene": [scenes[v] for v in video], "video": video, "none": [0] * 16}[used]
    assert drawn.same.tolist() == [[a == b for b in kinds] for a in kinds]


def test_videos_shorter_than_two_clips_train_nothing() -> None:
    ours = samples([2 * T - 1, 2 * T, 0])
    assert set(ours.draw(20, 0).broken[:, 0, 0, 0, 0].tolist()) == {1}
    with pytest.raises(DetectorError, match="take 12 frames of one video: the longest has 11"):
        samples([2 * T - 1, 3])


def test_clips_that_lack_a_frame_come_from_every_video_that_has_one() -> None:
    ours = ClipSamples(RowMemory(rows([T - 1, T, T + 2])), T)
    drawn = ours.draw(300, 4)
    seen = set()
    for clip, missing in zip(drawn.broken[:, :, 0, 0], drawn.missing[:, :, 0, 0], strict=True):
        lacking = int(missing[0, 1])
        kept = clip[:, 1].tolist()
        assert sorted([*kept, lacking]) == list(range(kept[0], kept[0] + T))
        assert kept[0] < lacking < kept[-1]
        assert set(clip[:, 0].tolist()) == {int(missing[0, 0])}
        seen.add((int(clip[0, 0]), kept[0], lacking - kept[0]))
    begins = [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert seen == {(v, s, m) for v, s in begins for m in range(1, T - 1)}
    again = ClipSamples(RowMemory(rows([T - 1, T, T + 2])), T).draw(300, 4)
    assert torch.equal(drawn.broken, again.broken) and torch.equal(drawn.missing, again.missing)
    assert not torch.equal(drawn.broken, ours.draw(300, 5).broken)


@pytest.mark.parametrize(
    ("counts", "scenes", "negatives"),
    [
        ([20, 20, 60], ["a", "b", "b"], "scene"),
        ([20, 20, 60], ["a", "a", "a"], "scene"),
        ([20, 60], None, "video"),
    ],
)
def test_the_share_of_batches_without_negatives_is_that_of_many_draws(
    counts: list[int], scenes: list[str | None] | None, negatives: Any
) -> None:
    ours = samples(counts, scenes, negatives=negatives)
    without_any = np.mean([bool(ours.draw(3, turn).same.all()) for turn in range(600)])
    expected = ours.without_negatives(3)
    assert 0.1 < expected < 0.9
    assert without_any == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 600) ** 0.5)
    assert samples([20]).without_negatives(3) == 1


def test_leaving_out_a_frame() -> None:
    clips = torch.arange(10).reshape(2, 5)
    assert without(clips, torch.tensor([0, 3])).tolist() == [[1, 2, 3, 4], [5, 6, 7, 9]]
