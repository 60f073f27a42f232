"""Rows of `flow`: between which frames, at the ends of a video, by threads and by RAFT."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.extractors.test_optical_flow import texture
from tests.rows import arrays_of
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip, ClipAssembler, Span
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.flow import Flow, FlowConfig
from vadpipe.extractors.footage.video import Frame
from vadpipe.extractors.networks import raft
from vadpipe.extractors.optical_flow import flow_between, usual_scale
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.slots import NETWORK
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor

SIZE = (24, 32)


def pictures(count: int) -> np.ndarray:
    """A texture that goes faster and faster to the right, (T, 24, 32, 3)."""
    first = texture(*SIZE)
    return np.stack([np.roll(first, i * (i + 1) // 2, 1) for i in range(count)])


def clips_of(frames: np.ndarray, extractor: Flow) -> list[Clip]:
    assembler = ClipAssembler(extractor.clip_rule, Span("v", 0, len(frames), last=True))
    done = [c for i, f in enumerate(frames) for c in assembler.push(Frame(i, i / 25, f, False))]
    return done + assembler.finish()


def flow_of(frames: np.ndarray, **settings: object) -> np.ndarray:
    extractor = Flow(FlowConfig.model_validate({"size": SIZE, "scale": 1, **settings}))
    return np.asarray(arrays_of(extractor, clips_of(frames, extractor))["flow"])


def test_next_is_the_flow_to_the_next_frame_and_the_last_one_repeats() -> None:
    frames = pictures(4)
    flow = flow_of(frames)
    expected = flow_between(frames)
    assert np.array_equal(flow, expected[[0, 1, 2, 2]])
    assert np.median(flow[..., 0], (1, 2)).round().tolist() == [1, 2, 3, 3]


def test_around_is_half_the_flow_over_two_frames() -> None:
    frames = pictures(4)
    flow = flow_of(frames, span="around")
    assert np.array_equal(flow[0], flow_between(frames[:2])[0]), "there is no frame before"
    assert np.array_equal(flow[3], flow_between(frames[2:])[0]), "there is no frame after"
    for t in (1, 2):
        (over_two,) = flow_between(frames[[t - 1, t + 1]])
        assert np.array_equal(flow[t], over_two / 2)


@pytest.mark.parametrize("span", ["next", "around"])
def test_one_frame_has_no_flow(span: str) -> None:
    assert not flow_of(pictures(1), span=span).any()


def test_settings_reach_the_method() -> None:
    frames = pictures(3)
    flow = flow_of(frames, method="farneback", scale=1.5, size=(32, 48), stride=2)
    expected = flow_between(frames, "farneback", size=(32, 48), scale=1.5)
    assert np.array_equal(flow, expected[[0, 1]]), "rows of frames 0 and 2; the last looks back"


def test_threads_change_no_bit() -> None:
    extractor = Flow(FlowConfig(size=SIZE))
    clips = clips_of(pictures(6), extractor)
    alone = arrays_of(extractor, clips)["flow"]
    extractor.load(Runtime(threads=3))
    assert np.array_equal(arrays_of(extractor, clips)["flow"], alone)


def test_what_decides_the_numbers_is_in_the_recipe() -> None:
    spec = resolve_extractor("flow", {"size": [32, 48]}, precision="bf16")
    recipe = spec.recipe()
    assert recipe["config"] == {
        "method": "dis",
        "span": "next",
        "size": [32, 48],
        "scale": 6.0,
        "stride": 1,
        "dtype": "float16",
    }
    assert recipe["weights"] is None and recipe["precision"] is None
    assert recipe["arrays"][0]["role"] == "flow" and recipe["arrays"][0]["shape"] == [32, 48, 2]


def test_small_sizes_are_computed_on_larger_frames() -> None:
    """As many pixels as the default size has; the recipe states how many times the size it is."""

    def scale(method: str = "dis", *size: int) -> float | None:
        given = {"method": method, **({"size": size} if size else {})}
        return FlowConfig.model_validate(given).scale

    assert [scale("dis", n, n) for n in (16, 32, 64, 100, 128, 129)] == [16, 8, 4, 2, 2, 1]
    assert scale() == scale("raft", 128, 128) == scale("dis", 1080, 1920) == 1
    assert scale("farneback", 32, 128) == 4
    frames = pictures(3)
    found = flow_of(frames, scale=None)
    assert np.array_equal(found[:2], flow_between(frames, size=SIZE, scale=9))
    whole = resolve_extractor("flow", {"size": [64, 64]})
    same = resolve_extractor("flow", {"size": [64, 64], "scale": 4})
    before = resolve_extractor("flow", {"size": [64, 64], "scale": 1})
    assert whole.recipe() == same.recipe() != before.recipe()


def test_the_usual_scale_sees_what_moves_less_than_a_pixel() -> None:
    """People of six pixels that walk a third of a pixel a frame, on a ground that rests."""
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(90, 140, (60, 80), dtype=np.uint8), (640, 480))
    coat = cv2.resize(random.integers(150, 256, (12, 8), dtype=np.uint8), (40, 60))
    frames = np.repeat(np.stack([ground, ground])[..., None], 3, -1)
    places = [(y, x) for y in (60, 200, 340) for x in (80, 240, 400, 540)]
    for y, x in places:
        for t in range(2):
            frames[t, y : y + 60, x + 3 * t : x + 3 * t + 40] = coat[..., None]
    size = height, width = (48, 64)
    error = {}
    for scale in (1.0, usual_scale(size)):
        (flow,) = flow_between(frames, size=size, scale=scale)
        inside = [flow[(y + 30) * height // 480, (x + 20) * width // 640, 0] for y, x in places]
        error[scale] = np.abs(np.array(inside) - 3 * width / 640).mean() / (3 * width / 640)
    assert error[usual_scale(size)] < 0.7 * error[1.0], "measured: 0.23 and 0.42"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": [12, 32], "scale": 1}, "16 x 16 pixels or more"),
        ({"size": [2, 4000]}, "16 x 16 pixels or more, not 4 x 8000"),
        ({"size": [24, 32], "scale": 0.5}, "enlarge size or scale"),
        ({"method": "raft", "size": [132, 256]}, "multiples of 8"),
        ({"method": "raft_small", "size": [64, 64]}, "sizes from 128 on"),
        ({"method": "raft", "scale": 2}, "leave scale at 1"),
        ({"method": "lucas"}, "method"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FlowConfig.model_validate(settings)


# ------------------------------------------------------------------------------------------ RAFT


@pytest.fixture(scope="module")
def small() -> Flow:
    (card,) = raft.CARDS["raft_small"]
    weights = {NETWORK: ResolvedWeights(card, "random:0", None)}
    config = FlowConfig(method="raft_small", size=(128, 128), span="around")
    return Flow(config, weights=weights, precision="bf16")


@pytest.mark.filterwarnings("ignore:.*not trained weights")
def test_raft_is_that_of_torchvision(small: Flow) -> None:
    first = texture(128, 128)
    frames = np.stack([np.roll(first, 2 * i, 1) for i in range(3)])
    clips = clips_of(frames, small)
    small.load(Runtime(threads=1, batch_size=1))
    flow = arrays_of(small, clips[1:2])["flow"]
    network = raft.Raft("raft_small").eval()
    state = load_tensors(small.weights[NETWORK], network.state_dict())
    network.load_state_dict({name: torch.from_numpy(v) for name, v in state.items()})
    pair = torch.from_numpy(frames[[0, 2]]).float().permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = network.raft(pair[:1], pair[1:])[-1][0].permute(1, 2, 0).numpy() / 2
    assert np.abs(flow[0] - expected).max() <= 1e-3 * np.abs(expected).max()


def test_raft_runs_in_fp32_whatever_is_asked_for(small: Flow) -> None:
    assert small.recipe()["precision"] == "fp32"
    assert small.recipe()["weights"] == "random:0"


def test_raft_takes_files_of_torchvision_only() -> None:
    for variant, cards in raft.CARDS.items():
        network = raft.Raft(variant)
        arrays = {k.removeprefix("raft."): v.numpy() for k, v in network.state_dict().items()}
        assert cards[0].convert(arrays).keys() == network.state_dict().keys()
        with pytest.raises(LayoutError, match="flow_head"):
            cards[0].convert({"conv.weight": np.zeros(1)})


def test_raft_needs_weights_and_counts_its_work() -> None:
    with pytest.raises(ExtractorError, match="flow needs weights"):
        Flow(FlowConfig(method="raft"))
    assert raft.flops("raft_small", 128, 128) < raft.flops("raft", 128, 128)
    assert Flow(FlowConfig()).flops(128, 128) == 0
