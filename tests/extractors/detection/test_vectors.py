"""Vectors of objects: what networks see of a box, and what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.detection import vectors
from vadpipe.extractors.detection.vectors import VECTORS, Person, Pose
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks import osnet
from vadpipe.extractors.networks.rcnn import KEYPOINT_CARDS
from vadpipe.extractors.weights.cards import ResolvedWeights

PERSON = ResolvedWeights(osnet.CARDS[0], "random:0", None)
POSE = ResolvedWeights(KEYPOINT_CARDS[0], "random:0", None)
FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
BOXES = np.array([[2, 3, 22, 37], [30, 0, 60, 40]], np.float32)


class Mean(torch.nn.Module):
    """Keeps what it sees; returns its mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x.mean((2, 3, 4))


def test_a_person_is_cut_out_normalised_and_of_length_1(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Mean()
    monkeypatch.setattr(osnet, "OSNet", lambda: network)
    monkeypatch.setattr(vectors, "load_tensors", lambda *_: {})
    made = Person(PERSON)
    with pytest.raises(ExtractorError, match="call load"):
        made.look(FRAME, BOXES, 3)
    made.load(Runtime(threads=1))
    found = made.look(FRAME, BOXES, 3)
    assert [tuple(x.shape) for x in network.seen] == [(1, 3, 1, 256, 128)] * 2
    colour = FRAME[3:37, 2:22].reshape(-1, 3).mean(0)
    expected = (colour - osnet.CARDS[0].mean) / osnet.CARDS[0].std
    assert np.allclose(found[0], expected / np.linalg.norm(expected), atol=0.03)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert made.look(FRAME, BOXES[:0], 512).shape == (0, 512) and len(network.seen) == 2


def test_joints_are_shares_of_the_box_whatever_the_size_of_the_picture() -> None:
    """A picture is enlarged twice; each heat-map has its peak in a known place of its box."""

    class Heads:
        def keypoint_roi_pool(self, maps: Any, boxes: Any, sizes: Any) -> Any:
            assert boxes[0].tolist() == (BOXES * 2).tolist() and sizes == [(80, 120)]
            return torch.zeros(2)

        def keypoint_head(self, pooled: Any) -> Any:
            return pooled

        def keypoint_predictor(self, _: Any) -> torch.Tensor:
            heat = torch.full((2, 17, 8, 8), -9.0)
            heat[:, :, 2, 6] = 9.0  # row 2, column 6 of 8
            return heat

    class Network:
        roi_heads = Heads()

        def transform(self, pictures: list[torch.Tensor]) -> Any:
            assert pictures[0].shape == (3, 40, 60) and float(pictures[0].max()) <= 1
            return type("P", (), {"tensors": pictures, "image_sizes": [(80, 120)]}), None

        def backbone(self, pictures: Any) -> Any:
            return pictures

    made = Pose(POSE)
    made.network = Network()
    found = made.vectors(torch.from_numpy(FRAME), BOXES).numpy()
    assert found.shape == (2, VECTORS["pose"].features)
    assert np.allclose(found.reshape(2, 17, 2), [6.5 / 8, 2.5 / 8], atol=0.05)
