"""Teachers: torchvision's own ResNet-50 says the same, renamed keys, shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from tests.needed import fetched
from vadpipe.extractors.networks.imagenet import (
    CLASSES,
    TEACHERS,
    EfficientNetLite0,
    ResNet50,
    from_lite_port,
)
from vadpipe.extractors.weights.cards import LayoutError


@pytest.mark.parametrize("name", TEACHERS)
def test_logits_and_features(name: str) -> None:
    teacher = TEACHERS[name]
    with torch.device("meta"):
        network = teacher.build().eval()
    found = network(torch.empty(2, 3, 1, 64, 64, device="meta"))
    assert found.shape == (2, CLASSES + teacher.features)


def test_resnet_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    network, other = ResNet50().eval(), torchvision.models.resnet50(weights=None).eval()
    other.load_state_dict(network.state_dict())
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(picture[:, :, None])[:, :CLASSES], other(picture), atol=1e-5)


def port_of(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The same numbers under names of their own, as in the port."""
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    arrays = {f"_layer.{i}": np.empty(tuple(state[name].shape)) for i, name in enumerate(names)}
    first, last = "_conv_stem.weight", "_fc.bias"
    keys = [first, *list(arrays)[1:-1], last]
    return dict(zip(keys, arrays.values(), strict=True))


def test_keys_of_the_port_are_renamed_by_their_order() -> None:
    with torch.device("meta"):
        state = EfficientNetLite0().state_dict()
    given = port_of(state)
    found = from_lite_port({**given, "_bn0.num_batches_tracked": np.zeros(())})
    assert found.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert found["net.conv_stem.weight"] is given["_conv_stem.weight"]
    assert found["net.classifier.bias"] is given["_fc.bias"]
    with pytest.raises(LayoutError, match="it is not EfficientNet-Lite0"):
        from_lite_port({name: given[name] for name in list(given)[:-1]})
    with pytest.raises(LayoutError, match=r"_conv_stem.weight is \(1,\), not \(32, 3, 3, 3\)"):
        from_lite_port({**given, "_conv_stem.weight": np.zeros(1)})


@pytest.mark.data
@pytest.mark.weights
@pytest.mark.slow
def test_real_weights_know_a_van(shared: Path) -> None:
    from vadpipe.extractors.base import Runtime
    from vadpipe.extractors.detection.crops import cut_crops
    from vadpipe.extractors.detection.teacher import CropTeacher
    from vadpipe.extractors.footage.decode import read_frames
    from vadpipe.extractors.footage.probe_file import probe_video

    teacher = TEACHERS["efficientnet_lite0"]
    classifier = CropTeacher(teacher, fetched(teacher.cards), "fp32", 224)
    classifier.load(Runtime(threads=1, batch_size=1))
    row = probe_video(shared / "data" / "footage" / "vtest.avi")
    frame = next(iter(read_frames(row, 360))).image
    crops = cut_crops(frame[None], np.array([[648, 40, 726, 104]], np.float32), 64)
    logits = classifier.look(crops[:, 0]).logits[0]
    names = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert names[logits.argmax()] == "moving van"
