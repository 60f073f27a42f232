"""Darknet: arithmetic by hand, the order of numbers in a file, files that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks.darknet import (
    Convolution,
    Darknet,
    MaxPool,
    Yolo,
    from_darknet,
    parse_cfg,
)
from vadpipe.extractors.weights.cards import BYTES, LayoutError

CFG = """
[net]
channels=3   # RGB
[convolutional]
batch_normalize=1
filters=2
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=2
size=1
activation=linear
[shortcut]
from=-2
[upsample]
stride=2
[route]
layers=-1,0
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask=1,2
anchors=1,1, 4,6, 8,2
classes=2
"""
CONV = "[net]\nchannels=3\n[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"
SECTIONS = parse_cfg(CFG)
COUNT = 4 * 2 + 3 * 2 * 9 + 2 + 2 * 2 + 14 + 14 * 4


def file_of(
    numbers: np.ndarray, version: tuple[int, int, int] = (0, 2, 5)
) -> dict[str, np.ndarray]:
    seen = np.zeros(2 if version >= (0, 2, 0) else 1, "<i4")
    data = np.array(version, "<i4").tobytes() + seen.tobytes() + numbers.astype("<f4").tobytes()
    return {BYTES: np.frombuffer(data, np.uint8)}


def test_numbers_of_a_file_get_their_places() -> None:
    for version in ((0, 2, 5), (0, 1, 0)):
        found = from_darknet(file_of(np.arange(COUNT), version), SECTIONS)
        assert found["layers.0.norm.bias"].tolist() == [0, 1]
        assert found["layers.0.norm.weight"].tolist() == [2, 3]
        assert found["layers.0.norm.running_mean"].tolist() == [4, 5]
        assert found["layers.0.norm.running_var"].tolist() == [6, 7]
        assert np.array_equal(found["layers.0.conv.weight"].ravel(), np.arange(8, 62))
        assert found["layers.2.conv.bias"].tolist() == [62, 63]
        assert found["layers.2.conv.weight"].shape == (2, 2, 1, 1)
        with torch.device("meta"):
            state = Darknet(SECTIONS).state_dict()
        assert {k: v.shape for k, v in found.items()} == {
            k: tuple(v.shape) for k, v in state.items() if "num_batches" not in k
        }


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            file_of(np.arange(COUNT - 1)),
            rf"holds {COUNT - 1} numbers, the network has {COUNT}: .*cut off",
        ),
        (file_of(np.arange(COUNT + 1)), "holds"),
        (file_of(np.arange(0)), "holds 0 numbers"),
        (file_of(np.arange(COUNT), (3, 2, 1)), r"no \.weights file"),
        ({BYTES: file_of(np.arange(COUNT))[BYTES][:-1]}, r"no \.weights file"),
        ({BYTES: np.zeros(3, np.uint8)}, r"no \.weights file"),
        ({BYTES: np.frombuffer(b"<html>404 not found</html>..", np.uint8)}, r"no \.weights file"),
    ],
)
def test_truncated_and_other_files_are_errors(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        from_darknet(arrays, SECTIONS)


def test_layers_read_what_the_cfg_says() -> None:
    torch.manual_seed(0)
    network = Darknet(SECTIONS).eval()
    picture = torch.rand(1, 3, 1, 8, 8)
    with torch.no_grad():
        first = network.layers[0](picture[:, :, 0])
        pooled = torch.nn.functional.max_pool2d(first, 2)
        added = network.layers[2](pooled) + pooled
        large = added.repeat_interleave(2, 2).repeat_interleave(2, 3)
        last = network.layers[6](torch.cat([large, first], 1))
        expected = network.layers[7](last, 8)
        found = network(picture)
    assert found.shape == (1, 8 * 8 * 2, 7) and torch.allclose(found, expected)


def test_cells_become_boxes() -> None:
    layer = Yolo({"anchors": "1,1, 4,6, 8,2", "mask": "1,2", "classes": "2"})
    values = torch.zeros(1, 2 * 7, 2, 4)
    values[0, 7 + 2, 1, 3] = float(np.log(0.5))  # width of the second anchor, row 1, column 3
    found = layer(values, 32)[0].reshape(2, 4, 2, 7)
    assert torch.allclose(found[..., 4:], torch.full((2, 4, 2, 3), 0.5))
    assert found[1, 3, 1, :4].tolist() == [28 - 2, 24 - 1, 28 + 2, 24 + 1]
    assert found[0, 0, 0, :4].tolist() == [4 - 2, 8 - 3, 4 + 2, 8 + 3]


def test_pools_and_activations() -> None:
    x = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    assert MaxPool(2, 1)(x)[0, 0].tolist() == [[5, 6, 6], [8, 9, 9], [8, 9, 9]]
    assert MaxPool(2, 2)(x[..., :2, :2])[0, 0].tolist() == [[5]]
    settings = {"filters": "1", "size": "1", "activation": "leaky"}
    layer = Convolution(1, settings)
    with torch.no_grad():
        layer.conv.weight.fill_(-1.0)
        layer.conv.bias.zero_()  # type: ignore[union-attr]
        assert torch.allclose(layer(x), -0.1 * x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[convolutional]\nfilters=1\n", r"begins with the section \[net\]"),
        ("[net]\nwhat\n", "line 2 of the cfg cannot be read"),
        ("[net]\n[lstm]\n", "layer 0 of the cfg is 'lstm'"),
        ("[net]\n[route]\nlayers=3\n", "reads layers 3, which come later"),
        ("[net]\n", "no layer yolo"),
        (CONV.replace("size=1\n", ""), "layer 0 of the cfg, convolutional: it has no 'size'"),
        (CONV.replace("size=1", "size=x"), "layer 0 of the cfg, convolutional: .*'x'"),
        (CONV.replace("linear", "mish"), "the activation mish is not known"),
        (CONV + "groups=2\n", "groups would change its numbers"),
        (CONV + "[yolo]\nmask=5\nanchors=1,1\nclasses=2\n", "layer 1 of the cfg, yolo"),
        (CONV + "[yolo]\nmask=0\nanchors=1,1\nclasses=2\n", "decodes 7 channels.* returns 4"),
        (CONV + CONV[17:].replace("=4", "=3") + "[shortcut]\nfrom=-2\n", "adds 4 channels to 3"),
    ],
)
def test_a_cfg_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ExtractorError, match=message):
        Darknet(parse_cfg(text))
