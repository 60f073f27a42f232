"""YOLOv3: layers, shapes and parameters as published; a graph that runs at any size."""

from __future__ import annotations

from collections import Counter

import torch

from vadpipe.extractors.networks.yolo import YOLOV3, YOLOV3_TINY, build_yolov3, build_yolov3_tiny


def numbers_of(network: torch.nn.Module) -> int:
    """Of a .weights file: all parameters, and the statistics of batch norms."""
    state = network.state_dict()
    return sum(value.numel() for name, value in state.items() if "num_batches" not in name)


def test_yolov3_has_the_published_layers_and_numbers() -> None:
    kinds = Counter(kind for kind, _ in YOLOV3[1:])
    assert kinds == {"convolutional": 75, "shortcut": 23, "route": 4, "upsample": 2, "yolo": 3}
    with torch.device("meta"):
        network = build_yolov3()
    assert numbers_of(network) == (248_007_048 - 20) // 4  # bytes of yolov3.weights
    assert [i for i, (kind, _) in enumerate(YOLOV3[1:]) if kind == "yolo"] == [82, 94, 106]
    joins = [settings["layers"] for kind, settings in YOLOV3 if kind == "route"]
    assert joins == ["-4", "-1,61", "-4", "-1,36"]
    with torch.no_grad():
        found = network(torch.empty(2, 3, 1, 416, 416, device="meta"))
    assert found.shape == (2, 10647, 85)


def test_yolov3_tiny_has_the_published_layers_and_numbers() -> None:
    kinds = Counter(kind for kind, _ in YOLOV3_TINY[1:])
    assert kinds == {"convolutional": 13, "maxpool": 6, "route": 2, "upsample": 1, "yolo": 2}
    with torch.device("meta"):
        network = build_yolov3_tiny()
    assert numbers_of(network) == (35_434_956 - 20) // 4
    with torch.no_grad():
        found = network(torch.empty(1, 3, 1, 416, 416, device="meta"))
    assert found.shape == (1, 2535, 85)
