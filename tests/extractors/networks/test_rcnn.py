"""Faster and Mask R-CNN: published sizes, classes, and files of the other network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from vadpipe.extractors.networks.coco import COCO
from vadpipe.extractors.networks.rcnn import (
    KEYPOINT_CARDS,
    build_keypoints,
    build_rcnn,
    coco_numbers,
    from_faster,
    from_keypoints,
    from_mask,
)
from vadpipe.extractors.weights.cards import LayoutError


@pytest.mark.parametrize("masks", [False, True])
def test_networks_have_the_published_number_of_parameters(masks: bool) -> None:
    with torch.device("meta"):
        network = build_rcnn(masks, 0.5)
    kind = MaskRCNN_ResNet50_FPN_Weights if masks else FasterRCNN_ResNet50_FPN_Weights
    # the published networks have frozen batch norms, whose parameters are counted as buffers
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = sum(p.numel() for m in norms for p in m.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert kind.COCO_V1.meta["num_params"] in (total, total - frozen)
    assert {m.eps for m in norms} == {0.0}


def test_keypoint_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = build_keypoints()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = sum(p.numel() for m in norms for p in m.parameters())
    total = sum(p.numel() for p in network.parameters())
    published = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    assert published.meta["num_params"] in (total, total - frozen)
    assert published.url.endswith(KEYPOINT_CARDS[0].file)
    name = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
    state = {key: np.empty(tuple(value.shape)) for key, value in network.state_dict().items()}
    assert from_keypoints(state).keys() == state.keys()
    with pytest.raises(LayoutError, match="not Keypoint R-CNN"):
        from_keypoints({**state, name: np.zeros((512, 5, 4, 4))})


def test_classes_are_all_of_the_80() -> None:
    numbers = coco_numbers()
    assert len(numbers) == 91 and sorted(numbers[numbers >= 0].tolist()) == list(range(80))
    assert COCO[numbers[1]] == "person" and COCO[numbers[90]] == "toothbrush" and numbers[0] == -1


def test_files_of_another_network_are_refused() -> None:
    score, mask = "roi_heads.box_predictor.cls_score.weight", "roi_heads.mask_predictor"
    faster = {score: np.zeros((91, 4))}
    both = {**faster, f"{mask}.mask_fcn_logits.weight": np.zeros(1)}
    assert from_faster(faster).keys() == faster.keys() and from_mask(both).keys() == both.keys()
    with pytest.raises(LayoutError, match="it is Faster R-CNN"):
        from_mask(faster)
    with pytest.raises(LayoutError, match="it is Mask R-CNN"):
        from_faster(both)
    with pytest.raises(LayoutError, match="for the 91 classes"):
        from_faster({score: np.zeros((21, 4))})
