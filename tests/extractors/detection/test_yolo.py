"""YOLOv3 as an object detector: places of boxes, and the real weights of YOLOv3-tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.needed import fetched
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.detection import yolo
from vadpipe.extractors.detection.selection import Selection, overlaps
from vadpipe.extractors.detection.yolo import Yolo
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.networks.yolo import TINY_CARDS, build_yolov3_tiny
from vadpipe.extractors.weights.cards import ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve


def test_boxes_come_back_to_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 208 x 104 is enlarged twice, 104 columns of grey on both sides."""
    rows = torch.zeros(1, 3, 85)
    rows[0, 0, :7] = torch.tensor([104.0, 20, 204, 220, 0.8, 0.25, 0.75])
    rows[0, 1, 4:6] = 0.1  # a score of 0.01
    seen: list[torch.Tensor] = []

    def network(videos: torch.Tensor) -> torch.Tensor:
        seen.append(videos)
        return rows

    monkeypatch.setattr(yolo, "load_video_network", lambda *_: network)
    weights = ResolvedWeights(TINY_CARDS[0], "random:0", None)
    detector = Yolo(build_yolov3_tiny, weights, "fp32", 0.3, None)
    detector.load(Runtime())
    (found,) = detector.pictures([np.full((208, 104, 3), 9, np.uint8)])
    assert seen[0].shape == (1, 1, 416, 416, 3)
    assert (seen[0][0, 0, :, 104:312] == 9).all() and (seen[0][0, 0, :, :104] == 127).all()
    assert found.boxes.tolist() == [[0, 10, 50, 110]]
    assert np.allclose(found.scores, 0.6) and np.allclose(found.objectness, 0.8)
    assert np.allclose(found.classes[0, :2], [0.25, 0.75])


def test_a_file_of_another_network_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.weights").write_bytes(b"\0\0\0\0\2\0\0\0\5\0\0\0" + bytes(8 + 400))
    with pytest.raises(WeightsError, match="holds 100 numbers, the network has 8,858,734"):
        resolve(TINY_CARDS, str(tmp_path / "x.weights"), cache=tmp_path)


def test_weights_whose_boxes_are_no_numbers_are_no_empty_street(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.full((1, 2, 85), float("nan"))
    monkeypatch.setattr(yolo, "load_video_network", lambda *_: lambda _videos: rows)
    weights = ResolvedWeights(TINY_CARDS[0], "random:0", None)
    detector = Yolo(build_yolov3_tiny, weights, "fp32", 0.3, None)
    detector.load(Runtime())
    with pytest.raises(ExtractorError, match="scores that are no numbers: its weights are damaged"):
        detector.pictures([np.zeros((8, 8, 3), np.uint8)])


@pytest.fixture
def tiny() -> ResolvedWeights:
    return fetched(TINY_CARDS)


@pytest.mark.data
@pytest.mark.weights
@pytest.mark.slow
def test_real_weights_find_persons(shared: Path, tiny: ResolvedWeights) -> None:
    detector: Any = Yolo(build_yolov3_tiny, tiny, "fp32", 0.2, None)
    detector.load(Runtime(threads=1))
    row = probe_video(shared / "data" / "footage" / "vtest.avi")
    frame = next(iter(read_frames(row, 360)))
    (found,) = detector.pictures([frame.image])
    kept, _ = Selection(0.2, 0.45, 4, 4, 500).apply(found, *frame.image.shape[:2])
    persons = kept.boxes[kept.classes.argmax(1) == 0]
    assert len(persons) >= 5
    standing = [700, 230, 743, 336]  # measured by eye: other anchors make boxes of half the size
    assert max(overlaps(np.array(standing, np.float32), persons)) > 0.7
