"""Tasks of MSMG on objects: pairs of clips, what is asked, the losses, scores in plain loops."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.bags import ArrayRows, Bags
from tests.moving_objects import moving
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.msmg_losses import estimation
from vadpipe.detectors.row_memory import RowMemory
from vadpipe.detectors.ssmtl import SSMTL, SSMTLConfig
from vadpipe.detectors.ssmtl_losses import Embeddings, answers, losses, validated
from vadpipe.detectors.ssmtl_network import CONTINUITY_TASKS, SSMTLNetwork
from vadpipe.detectors.ssmtl_pairs import Partners, broken_clips, cut_pairs, negative_groups
from vadpipe.detectors.ssmtl_samples import Batch, CropSequences, Places, Samples, paired_places

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    **{"architecture": "shallow+narrow", "batch_size": 8, "steps": 2, "validate_every": 2},
    **{"mean_filter": 1, "smooth": 0.0, "tasks": CONTINUITY_TASKS, "t": 2},
}


def test_partners_are_of_the_same_video_and_share_no_frame() -> None:
    rng = np.random.default_rng(0)
    video = np.sort(rng.integers(0, 3, 60))
    frame = rng.integers(0, 15, 60)  # in no order
    frame[video == 2] = 4  # this one has no pair
    found = Partners.find(video, frame, 5)
    allowed = [
        {j for j in range(60) if video[i] == video[j] and abs(frame[i] - frame[j]) >= 5}
        for i in range(60)
    ]
    assert found.count.tolist() == [len(each) for each in allowed]
    some = np.flatnonzero(found.count)
    drawn = found.draw(np.repeat(some, 400), rng).reshape(-1, 400)
    assert [set(row) for row in drawn.tolist()] == [allowed[i] for i in some]
    counts = Counter(drawn[0].tolist())
    assert max(counts.values()) < 2.5 * min(counts.values()), "uniform"


def test_objects_of_one_group_are_no_negatives() -> None:
    scenes, videos = ["a", "a", None, "b"], ["1", "2", "3", "4"]
    assert negative_groups(scenes, videos, "scene").tolist() == [0, 0, 1, 2]
    assert negative_groups(["a"] * 4, videos, "scene").tolist() == [0, 1, 2, 3]
    assert negative_groups(scenes, videos, "video").tolist() == [0, 1, 2, 3]
    assert negative_groups(scenes, videos, "none").tolist() == [0] * 4


def test_both_clips_of_a_pair_lack_one_frame() -> None:
    """Pictures whose only value is their number in the clip."""
    number = torch.arange(7, dtype=torch.uint8)[None, :, None, None, None].expand(200, 7, 2, 2, 3)
    found = cut_pairs(number, number + 100, np.arange(200) % 3, np.random.default_rng(0))
    for i in range(200):
        missing = int(found.missing[i, 0, 0, 0, 0])
        assert found.broken[i, :, 0, 0, 0].tolist() == [k for k in range(7) if k != missing]
        assert int(found.place[i]) == missing - 1
        assert found.whole[i, :, 0, 0, 0].tolist() in (
            [100 + k for k in range(6)],
            [100 + k for k in range(1, 7)],
        )
        assert found.same[i].tolist() == [(i - j) % 3 == 0 for j in range(200)]
    assert set(found.place.tolist()) == {0, 1, 2, 3, 4}
    assert set(found.whole[:, 0, 0, 0, 0].tolist()) == {100, 101}


def test_each_inner_frame_is_left_out_once() -> None:
    clips = torch.arange(10).reshape(2, 5)
    assert broken_clips(clips).tolist() == [
        *([0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4]),
        *([5, 7, 8, 9], [5, 6, 8, 9], [5, 6, 7, 9]),
    ]


def samples(seed: int = 0) -> tuple[Samples, Places]:
    """Crops whose only value is video x 100 + frame of the picture, 40 frames a video."""
    around = np.arange(40)[:, None] + np.arange(-2, 3)
    crops = [
        np.broadcast_to((100 * v + around)[..., None, None, None], (40, 5, 2, 2, 3))
        for v in range(2)
    ]
    arrays = [np.ascontiguousarray(each).astype(np.uint8) for each in crops]
    memory = RowMemory(ArrayRows(arrays), device="cpu")
    row = np.tile(np.arange(2, 38), 2)
    places = paired_places(Places(np.repeat([0, 1], 36), row, row, 39 - row), 2)
    groups = negative_groups([None, None], ["0", "1"], "video")
    return Samples(CropSequences(memory), [], 2, False, seed, groups), places


def test_pairs_of_a_batch_fit_its_objects_and_repeat() -> None:
    given, places = samples()
    batch, again = given.drawn(places, 12, 3), given.drawn(places, 12, 3)
    pairs, same = batch.pairs, again.pairs
    assert pairs is not None and same is not None
    assert all(torch.equal(a, vars(same)[name]) for name, a in vars(pairs).items())
    other = given.drawn(places, 12, 4).pairs
    assert other is not None and not torch.equal(pairs.place, other.place)
    for i in range(12):
        clip = set(batch.regular[i, :, 0, 0, 0].tolist())
        broken = set(pairs.broken[i, :, 0, 0, 0].tolist())
        assert clip - broken == {int(pairs.missing[i, 0, 0, 0, 0])}
        whole = pairs.whole[i, :, 0, 0, 0].tolist()
        assert not clip & set(whole), "no frame in common"
        assert {value // 100 for value in whole} == {value // 100 for value in clip}
    first, second = (list(given.in_order(places, 50)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.pairs is not None and b.pairs is not None
        assert torch.equal(a.pairs.broken, b.pairs.broken)
        assert torch.equal(a.pairs.whole, b.pairs.whole)


def test_without_these_tasks_batches_are_as_before() -> None:
    given, places = samples()
    plain = Samples(given.sequences, [], 2, False, 0)
    assert plain.drawn(places, 6, 0).pairs is None
    assert torch.equal(plain.drawn(places, 6, 0).regular, given.drawn(places, 6, 0).regular)


def test_what_is_asked_and_the_losses_of_msmg() -> None:
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (2, 4, 5, 16, 16, 3)).astype(np.uint8))
    pairs = cut_pairs(frames[0], frames[1], np.arange(4), rng)
    network = SSMTLNetwork("shallow+narrow", 4, CONTINUITY_TASKS, 16, 0, 2).eval()
    batch = Batch(frames[0], None, None, pairs)
    with torch.no_grad():
        found = answers(network, batch)
        terms = losses(found, 0.2)
        measured = validated(network, [batch], 0.2)
        broken, whole = (
            [network(task, clips) for task in CONTINUITY_TASKS]
            for clips in (pairs.broken, pairs.whole)
        )
        missing = network("estimation", pairs.missing)
    assert set(found) == set(CONTINUITY_TASKS)
    said = found["estimation"]
    assert isinstance(said, Embeddings)
    torch.testing.assert_close(said.missing, missing)
    one, two, three = 0.0, 0.0, estimation(
        broken[2], whole[2], missing, pairs.same, gamma=0.2, omega=0.5, tau=0.1
    )  # fmt: skip
    for i in range(4):
        one -= math.log(float(broken[0][i].softmax(0)[1])) / 4
        one -= math.log(float(whole[0][i].softmax(0)[0])) / 4
        two -= math.log(float(broken[1][i].softmax(0)[int(pairs.place[i])])) / 4
    expected = {"continuity": one, "localisation": two, "estimation": float(three.loss)}
    for task, value in expected.items():
        assert float(terms[task]) == pytest.approx(value, rel=1e-4)
        assert measured[f"loss/{task}"] == pytest.approx(value, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(sum(expected.values()), rel=1e-4)
    assert measured["p_plus"] == pytest.approx(float(three.p_plus), rel=1e-4)
    hits = sum(int(a.argmax()) == 1 for a in broken[0]) + sum(
        int(a.argmax()) == 0 for a in whole[0]
    )
    assert measured["accuracy/continuity"] == pytest.approx(hits / 8)


def test_an_object_is_scored_by_its_worst_frame() -> None:
    """Each clip by itself, in plain loops; next to a task of SSMTL."""
    detector = SSMTL(SSMTLConfig(**{**SMALL, "tasks": ("middle", *CONTINUITY_TASKS)}))
    log = detector.fit(Bags([moving(0), moving(1)]), device="cpu", seed=0)
    network, bag = detector.network, moving(9, frames=6)
    assert network is not None
    scores = detector.score(bag)
    assert detector.columns == ("score", "middle", *CONTINUITY_TASKS)
    crop = torch.from_numpy(bag.tracks["object/crops"].rows()[3, 13:18])[None]
    places, errors = [], []
    with torch.no_grad():
        whole = float(network("continuity", crop[:, :4])[0].softmax(0)[1])
        for missing in range(1, 4):
            clip = crop[:, [k for k in range(5) if k != missing]]
            places.append(1 - float(network("localisation", clip)[0].softmax(0)[missing - 1]))
            a = network("estimation", clip)[0]
            b = network("estimation", crop[:, missing : missing + 1])[0]
            errors.append(1 - float(a @ b / (a.norm() * b.norm())))
    found = {task: scores.columns[task][3] for task in CONTINUITY_TASKS}
    wanted = {"continuity": whole, "localisation": max(places), "estimation": max(errors)}
    assert found == pytest.approx(wanted, abs=1e-5)
    assert scores.regions is not None
    assert "missing frame unlike the clip" in scores.regions["explain"][3].as_py()
    assert {"validation/p_plus", "validation/accuracy/localisation"} <= log.summary.keys()


def test_at_chance_is_said() -> None:
    """Where nothing moves no frame is seen to be missing."""
    detector = SSMTL(SSMTLConfig(**{**SMALL, "tasks": ("continuity", "localisation")}))
    log = detector.fit(Bags([moving(s, speed=0) for s in range(2)]), device="cpu", seed=0)
    said = " ".join(log.warnings)
    assert "continuity is at chance" in said
    assert "localisation is at chance" in said and "chance is 33.3%" in said


def test_whole_frames_have_these_tasks_too() -> None:
    detector = SSMTL(SSMTLConfig(**{**SMALL, "level": "frame", "tasks": ("estimation",)}))
    detector.fit(Bags([moving(0), moving(1)]), device="cpu", seed=0)
    scores = detector.score(moving(9, frames=12))
    assert scores.columns["estimation"].shape == (12,)
    assert detector.maps == ()


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValidationError, match="localisation needs a t of 2 or more"):
        SSMTLConfig(tasks=("localisation",), t=1)
    short = [moving(seed, frames=9) for seed in range(2)]
    detector = SSMTL(SSMTLConfig(**SMALL, validation=0.0))
    with pytest.raises(DetectorError, match="no training video has two objects that are 5 or more"):
        detector.fit(Bags(short), device="cpu", seed=0)
    detector = SSMTL(SSMTLConfig(**SMALL))
    with pytest.raises(DetectorError, match="last 15 % of no training video have two objects"):
        detector.fit(Bags([moving(seed, frames=40) for seed in range(2)]), device="cpu", seed=0)
