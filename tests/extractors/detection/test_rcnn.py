"""Torchvision's detectors: what they return becomes boxes, classes of COCO's 80 and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.detection import rcnn
from vadpipe.extractors.detection.rcnn import Rcnn
from vadpipe.extractors.networks.rcnn import MASK_CARDS
from vadpipe.extractors.weights.cards import ResolvedWeights


class Fake(torch.nn.Module):
    """A person, a bicycle that is not sure enough, and a class that is none of the 80."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = None

    def forward(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        self.seen = pictures
        masks = torch.zeros(3, 1, *pictures[0].shape[1:])
        masks[0, 0, 4:6, 3:9] = 0.9
        return [
            {
                "boxes": torch.tensor([[2.0, 3, 10.5, 9], [0, 0, 5, 5], [0, 0, 8, 8]]),
                "labels": torch.tensor([1, 2, 12]),
                "scores": torch.tensor([0.75, 0.25, 0.9]),
                "masks": masks,
            }
        ]


@pytest.mark.parametrize("masks", [False, True])
def test_boxes_classes_and_masks(masks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(rcnn, "build_rcnn", lambda *_: fake)
    monkeypatch.setattr(rcnn, "load_tensors", lambda *_: {})
    weights = ResolvedWeights(MASK_CARDS[0], "random:0", None)
    detector = Rcnn(weights, 0.5, None, mask_network=True, masks=masks)
    detector.load(Runtime(threads=1))
    (found,) = detector.pictures([np.full((12, 16, 3), 51, np.uint8)])
    assert fake.seen[0].shape == (3, 12, 16) and torch.allclose(fake.seen[0], torch.tensor(0.2))
    assert found.boxes.tolist() == [[2, 3, 10.5, 9]] and found.scores.tolist() == [0.75]
    assert found.objectness.tolist() == [1] and found.classes[0].tolist() == [0.75] + [0] * 79
    if masks:
        assert found.masks is not None and found.masks[0].shape == (6, 9)
        assert found.masks[0][1:3, 1:7].all() and found.masks[0].sum() == 12
    else:
        assert found.masks is None
