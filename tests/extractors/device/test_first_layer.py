"""The form of a first layer: the trial, the memory of it, the same features in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.device import first_layer
from vadpipe.extractors.device.first_layer import FirstLayers, fastest_form
from vadpipe.extractors.device.inference import VideoNetwork, load_video_network, prepare
from vadpipe.extractors.device.micro_batch import MicroBatches
from vadpipe.extractors.device.tuning import Tuning
from vadpipe.extractors.networks import fused
from vadpipe.extractors.networks.folding import FORMS, Form
from vadpipe.extractors.networks.fused import FusedConv
from vadpipe.extractors.networks.inception_i3d import CARDS, InceptionI3d
from vadpipe.extractors.weights.cards import ResolvedWeights

pytestmark = pytest.mark.skipif(
    not fused.is_available(torch.float32), reason="this torch has no fused operations"
)


class Small(nn.Module):
    """A first layer with strides, a second layer, the mean of its map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (5, 7, 7), 2, (2, 3, 3))
        self.second = nn.Conv3d(8, 8, 3, 2)

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 8)."""
        found: Tensor = self.second(self.stem(videos)).mean((2, 3, 4), dtype=torch.float32)
        return found


def layers(path: Path, network: nn.Module | None = None) -> tuple[FirstLayers, Any]:
    prepared = prepare(network or Small(), "fp32", "cpu")
    return FirstLayers(prepared, Tuning(path)), prepared


def run(network: nn.Module) -> Callable[[], object]:
    def once() -> object:
        with torch.inference_mode():
            return network(torch.zeros(1, 3, 9, 24, 24))

    return once


@pytest.mark.parametrize(
    ("seconds", "likely", "expected"),
    [
        ({"plain": 3.0, "pairs": 2.0, "folded": 1.0}, "pairs", "folded"),
        ({"plain": 1.0, "pairs": 2.0, "folded": 3.0}, "pairs", "plain"),
        ({"plain": 0.98, "pairs": 1.0, "folded": 0.97}, "pairs", "pairs"),  # within the noise
        ({"plain": 1.0, "pairs": 1.0, "folded": 1.0}, "folded", "folded"),
    ],
)
def test_another_form_has_to_be_faster(
    seconds: dict[Form, float], likely: Form, expected: Form
) -> None:
    assert fastest_form(lambda form: seconds[form], FORMS, likely) == expected


def test_forms_take_turns_and_the_best_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow moment of the machine decides nothing; nor does the first run."""
    monkeypatch.setattr(first_layer, "ROUNDS", 3)
    tried: list[Form] = []
    times = {"plain": [0.09, 0.01, 0.01, 0.01], "folded": [0.0, 0.09, 0.005, 0.09]}

    def seconds(form: Form) -> float:
        tried.append(form)
        return times[form].pop(0)

    assert fastest_form(seconds, ["plain", "folded"], "plain") == "folded"
    assert tried == ["plain", "folded"] * 4


def test_layers_that_take_long_are_tried_less() -> None:
    tried: list[Form] = []
    assert fastest_form(lambda form: tried.append(form) or 9.0, FORMS, "pairs") == "pairs"
    assert len(tried) == 2 * len(FORMS), "once to warm up, and once"


def test_forms_are_tried_out_once_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuning.json"
    tried: list[str] = []

    def folded_wins(seconds: Callable[[Form], float], forms: Any, likely: Form) -> Form:
        tried.append(likely)
        assert all(seconds(form) > 0 for form in forms)
        return "folded"

    monkeypatch.setattr(first_layer, "fastest_form", folded_wins)
    first, network = layers(path)
    assert first.forms() == {"stem": "plain"} and isinstance(network.stem, FusedConv)
    first.choose("small 9x24x24", run(network))
    first.choose("small 9x24x24", run(network))
    assert first.forms() == {"stem": "folded"} and network.stem.form == "folded"
    assert tried == ["plain"]
    ((key, form),) = json.loads(path.read_text()).items()
    assert "small 9x24x24, form of stem" in key and form == "folded"
    second, network = layers(path)
    second.choose("small 9x24x24", lambda: pytest.fail("it is known"))
    assert network.stem.form == "folded" and len(tried) == 1
    monkeypatch.setattr(first_layer, "fastest_form", lambda *_: "pairs")
    second.choose("small 9x26x26", run(network))
    assert network.stem.form == "pairs", "another shape is new"
    second.choose("small 9x24x24", lambda: pytest.fail("it is known"))
    assert network.stem.form == "folded", "each shape has its own"


def test_a_form_that_a_layer_lacks_is_not_taken(tmp_path: Path) -> None:
    """A file that was changed by hand, or of another version of a network."""
    path = tmp_path / "tuning.json"
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4))
    first, prepared = layers(path, network)

    def once() -> object:
        with torch.inference_mode():
            return prepared(torch.zeros(1, 3, 8, 8))

    first.choose("net", once)
    ((key, _),) = json.loads(path.read_text()).items()
    for wrong in ('"pairs"', "3"):
        path.write_text(f'{{"{key}": {wrong}}}')
        again, _ = layers(path, nn.Sequential(nn.Conv2d(3, 4, 4, 4)))
        again.choose("net", once)
        assert again.forms()["0"] in ("plain", "folded")
        assert json.loads(path.read_text())[key] == again.forms()["0"]


def test_short_memory_keeps_the_likely_form(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    first, _ = layers(path)
    tries: list[int] = []

    def short() -> object:
        tries.append(1)
        raise MemoryError

    for _ in range(2):
        first.choose("net", short)
        assert first.forms() == {"stem": "plain"}
    assert len(tries) == 1 and not path.exists()

    def broken() -> object:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        first.choose("other", broken)


def test_a_network_without_such_layers_is_not_run(tmp_path: Path) -> None:
    first, _ = layers(tmp_path / "tuning.json", nn.Sequential(nn.Conv2d(3, 4, 3)))
    first.choose("net", lambda: pytest.fail("there is nothing to try"))
    assert first.forms() == {}


def small(path: Path, batch_size: int | None = None) -> VideoNetwork:
    torch.manual_seed(0)
    network = prepare(Small(), "fp32", "cpu")
    runtime = Runtime(batch_size=batch_size)
    return VideoNetwork(network, (0.0,) * 3, (255.0,) * 3, "fp32", runtime, MicroBatches(path))


def test_a_video_network_tries_forms_before_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_layer, "fastest_form", lambda *_: "folded")
    path = tmp_path / "tuning.json"
    videos = torch.randint(0, 256, (3, 9, 24, 24, 3), dtype=torch.uint8)
    network = small(path)
    found = network(videos)
    assert network.first_layers((9, 24, 24)) == {"stem": "folded"}
    assert len(json.loads(path.read_text())) == 2, "a form and a size"
    fixed = small(tmp_path / "none.json", batch_size=3)
    torch.testing.assert_close(found, fixed(videos), rtol=1e-4, atol=1e-5)
    assert fixed.first_layers((9, 24, 24)) == {"stem": "plain"}
    assert not (tmp_path / "none.json").exists(), "with a fixed batch nothing is tried out"


PRECISIONS: list[Precision] = ["fp32", "bf16"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_are_the_same_in_every_form(precision: Precision) -> None:
    """Within what docs/extract.md says of the options that are in no key."""
    weights = ResolvedWeights(CARDS[0], "random:0", None)
    network = load_video_network(InceptionI3d, weights, precision, Runtime(batch_size=2))
    videos = torch.randint(0, 256, (2, 9, 48, 51, 3), dtype=torch.uint8)
    stem = next(m for m in network.network.modules() if isinstance(m, FusedConv))
    assert stem.forms == FORMS
    found = {}
    for form in FORMS:
        stem.form = form
        found[form] = network(videos).double()
    expected = found.pop("plain")
    for form, features in found.items():
        if precision == "fp32":
            assert (features - expected).abs().max() <= 1e-5 * expected.square().mean().sqrt(), form
        else:
            assert (torch.cosine_similarity(features, expected) >= 0.9999).all(), form
