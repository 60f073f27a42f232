"""What a training of MSMG draws: which videos serve what, epochs, and warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bags import ArrayRows, Bags
from tests.clips_of_frames import frame_bag, moving_square
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.msmg import MSMG
from vadpipe.detectors.msmg_footage import Footage
from vadpipe.detectors.msmg_settings import MSMGConfig
from vadpipe.detectors.msmg_training import Sizes, make_networks
from vadpipe.detectors.row_memory import RowMemory
from vadpipe.extractors.networks.frame_estimation import FrameEstimator

pytestmark = pytest.mark.usefixtures("one_thread")

UNET: dict[str, Any] = {"encoder": "unet", "encoder_width": 3, "own_weight": 1}
OWN: dict[str, Any] = {**UNET, "weights": (0, 0, 0)}
PREDICTION: dict[str, Any] = {"weights": (0, 0, 0), "decoder": "finetuned"}


def config_of(**settings: Any) -> MSMGConfig:
    small = {"architecture": "shallow+narrow", "batch_size": 2, "validation_pairs": 2}
    return MSMGConfig.model_validate({**small, **settings})


def footage(counts: list[int], scenes: list[str | None] | None = None, **more: Any) -> Footage:
    config = config_of(**more)
    pictures = [np.zeros((n, 8, 8, 3), np.uint8) for n in counts]
    estimator = None
    if config.own_weight:
        encoder = make_networks(config, Sizes((8, 8), 0))["network"].encoder
        assert isinstance(encoder, FrameEstimator)
        estimator = encoder
    return Footage(RowMemory(ArrayRows(pictures, scenes=scenes)), config, estimator, 0)


def fitted(counts: list[int], **settings: Any) -> tuple[MSMG, Any]:
    bags = [frame_bag(f"v{n}", moving_square(n)) for n in counts]
    detector = MSMG(config_of(**settings))
    return detector, detector.fit(Bags(bags), device="cpu", seed=0)


@pytest.mark.parametrize(("settings", "least"), [(OWN, 5), (PREDICTION, 12)])
def test_without_a_task_videos_need_no_two_clips(settings: dict[str, Any], least: int) -> None:
    detector, log = fitted([least], **settings, steps=1)
    assert log.warnings == () and log.summary["videos"] == 1
    assert not {"pairs", "negatives"} & log.summary.keys()
    scores = detector.score(frame_bag("v", moving_square(least)))
    assert np.isfinite(scores.columns["score"]).all()
    with pytest.raises(DetectorError, match=f"no video has {least} rows"):
        fitted([least - 1], **settings, steps=1)


def test_a_video_is_short_for_those_only_that_need_more_of_it() -> None:
    every = footage([30, 20, 11, 4], **UNET, decoder="frozen")
    assert every.warnings[:3] == [
        "3 of the training videos are shorter than 24 frames, two clips: the tasks cannot learn "
        "from them",
        "1 of the training videos are shorter than 5 frames, a window of unet: its own objective "
        "cannot learn from them",
        "2 of the training videos are shorter than 12 frames, a clip: the decoder cannot learn "
        "from them",
    ]
    assert every.facts["videos"] == 3 and every.clips is not None
    assert footage([30, 20], **OWN).warnings == []
    assert footage([30, 20], **PREDICTION).warnings == []


def test_short_videos_reach_the_own_objective_and_the_decoder() -> None:
    """Their pictures are in what is drawn, and not in the pairs of the tasks."""
    config = config_of(**UNET, decoder="frozen")
    pictures = [np.full((n, 8, 8, 3), n, np.uint8) for n in (30, 20)]
    encoder = make_networks(config, Sizes((8, 8), 0))["network"].encoder
    assert isinstance(encoder, FrameEstimator)
    ours = Footage(RowMemory(ArrayRows(pictures)), config, encoder, 0)
    drawn = ours.samples.draw(60, 0)
    assert drawn.proxies is not None and drawn.windows is not None and ours.clips is not None
    assert drawn.proxies.broken.unique().tolist() == [30]
    assert drawn.windows.unique().tolist() == [20, 30]
    assert ours.clips.draw(60, 0).broken.unique().tolist() == [20, 30]


def test_epochs() -> None:
    assert footage([47, 24, 23]).epoch == 2  # two clips of 12 frames, video by video
    assert footage([47, 24, 25, 4], **OWN).epoch == 4  # 96 frames of videos of 5 or more
    assert footage([6], **OWN).epoch == 1
    _, log = fitted([20], **OWN, epochs=3)
    assert log.summary["steps/tasks"] == 2  # 3 in batches of 2


@pytest.mark.parametrize(
    ("counts", "scenes", "settings", "text"),
    [
        ([30, 30], None, {}, "about 50% of the batches are of one video and have no negatives"),
        ([30, 30, 30], ["a", "b", "b"], {}, "about 56% of the batches are of one scene"),
        ([30, 30, 30], ["a", "b", "b"], {}, "or set negatives = video"),
        ([30, 30], None, {"batch_size": 8}, None),
        ([30, 500], None, {"batch_size": 8}, "% of the batches are of one video"),
        ([30, 30], None, {"weights": (1, 1, 0)}, None),
        ([30, 30], None, {"negatives": "none"}, None),
        ([30, 30], None, {"omega": 1}, None),
        ([30], None, {}, "all clips are of one video"),
    ],
)
def test_batches_without_negatives_are_named(
    counts: list[int], scenes: list[str | None] | None, settings: dict[str, Any], text: str | None
) -> None:
    said = footage(counts, scenes, **settings).warnings
    if text is None:
        assert said == []
    else:
        assert len(said) == 1 and text in said[0]
        assert ("negatives = video" in said[0]) == (scenes is not None)
