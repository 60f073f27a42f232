"""The teacher sees the crops at its own size, and no crops are no work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.detection import teacher
from vadpipe.extractors.detection.teacher import CropTeacher
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks.imagenet import LITE0_CARDS, TEACHERS
from vadpipe.extractors.weights.cards import ResolvedWeights


def test_crops_are_resized_and_split_into_logits_and_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.Tensor] = []

    def network(videos: torch.Tensor) -> torch.Tensor:
        seen.append(videos)
        return torch.arange(2280.0).repeat(len(videos), 1)

    monkeypatch.setattr(teacher, "load_video_network", lambda *_: network)
    weights = ResolvedWeights(LITE0_CARDS[0], "random:0", None)
    made = CropTeacher(TEACHERS["efficientnet_lite0"], weights, "fp32", 40)
    with pytest.raises(ExtractorError, match="call load"):
        made.look(np.zeros((1, 8, 8, 3), np.uint8))
    made.load(Runtime())
    lesson = made.look(np.full((3, 8, 8, 3), 7, np.uint8))
    assert seen[0].shape == (3, 1, 40, 40, 3) and (seen[0] == 7).all()
    assert lesson.logits.shape == (3, 1000) and lesson.features.shape == (3, 1280)
    assert lesson.logits[0, -1] == 999 and lesson.features[0, 0] == 1000
    nothing = made.look(np.zeros((0, 8, 8, 3), np.uint8))
    assert nothing.logits.shape == (0, 1000) and nothing.features.shape == (0, 1280)
    assert len(seen) == 1
