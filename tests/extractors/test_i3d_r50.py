"""I3D ResNet-50: both variants against torchvision's ResNet-50, converters, extractors."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.transforms import functional as vision

from tests.rows import arrays_of
from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import load_video_network, prepare, resolve_precision
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.i3d import I3DFeatures
from vadpipe.extractors.i3d_r50 import (
    I3DR50Config,
    I3DR50Features,
    I3DR50PtvConfig,
    I3DR50PtvFeatures,
)
from vadpipe.extractors.networks.i3d import Backbone, I3d
from vadpipe.extractors.networks.i3d_r50 import (
    BACKBONE,
    BACKBONE_PTV,
    CARDS,
    CARDS_PTV,
    caffe2_blob,
    from_caffe2,
    from_pytorchvideo,
    from_tushar_n,
)
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve
from vadpipe.extractors.weights.slots import NETWORK

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*not trained", "ignore:.*torch.jit.script.*:FutureWarning"
)

Arrays = dict[str, NDArray[np.float32]]
NETWORKS: dict[str, Backbone] = {"i3d_r50": BACKBONE, "i3d_r50_ptv": BACKBONE_PTV}
both = pytest.mark.parametrize("name", NETWORKS)


def random_weights(name: str) -> ResolvedWeights:
    return ResolvedWeights(NETWORKS[name].cards[0], "random:0", None)


def moving_clip(length: int, height: int, width: int, seed: int = 0) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (length, height, width, 3))
    index = np.arange(length)
    return Clip(frames.astype(np.uint8), index, index / 25.0, 0, length)


def on_meta(name: str) -> I3d:
    with torch.device("meta"):
        return NETWORKS[name].build().eval()


# ----------------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    ("name", "video", "last"),
    [
        ("i3d_r50", (16, 224, 224), (2, 7, 7)),
        ("i3d_r50", (16, 240, 280), (2, 8, 9)),
        ("i3d_r50", (16, 160, 168), (2, 5, 6)),
        ("i3d_r50", (16, 120, 120), (2, 4, 4)),
        ("i3d_r50", (16, 480, 840), (2, 15, 27)),
        ("i3d_r50_ptv", (8, 224, 224), (4, 7, 7)),
        ("i3d_r50_ptv", (16, 256, 256), (8, 8, 8)),
        ("i3d_r50_ptv", (16, 120, 168), (8, 4, 6)),
    ],
)
@torch.no_grad()
def test_last_map(name: str, video: tuple[int, ...], last: tuple[int, ...]) -> None:
    found = on_meta(name).last_map(torch.empty(2, 3, *video, device="meta"))
    assert tuple(found.shape) == (2, 2048, *last)


@both
@torch.no_grad()
def test_smallest_video(name: str) -> None:
    backbone, network = NETWORKS[name], on_meta(name)
    frames, side = backbone.min_frames, backbone.min_side
    assert network(torch.empty(1, 3, frames, side, side, device="meta")).shape == (1, 2048)
    for size in [(frames - 1, side, side)] + ([(frames, side - 1, side)] if side > 1 else []):
        assert not backbone.takes(*size)
        with pytest.raises(RuntimeError):
            network(torch.empty(1, 3, *size, device="meta"))


def test_number_of_parameters() -> None:
    """28.04 million, as pytorchvideo's model zoo says; both variants have the same kernels."""
    counts = [sum(p.numel() for p in on_meta(name).parameters()) for name in NETWORKS]
    assert counts[0] == counts[1] == 28_043_472


@both
@torch.no_grad()
def test_flops(name: str) -> None:
    """Every kernel at every place of its output, counted with hooks."""
    count = 0

    def add(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal count
        if isinstance(layer, nn.Conv3d):
            count += 2 * layer.weight.numel() * out[0, 0].numel()

    network = on_meta(name)
    for module in network.modules():
        module.register_forward_hook(add)
    network(torch.empty(1, 3, 8, 40, 60, device="meta"))
    assert NETWORKS[name].flops(8, 40, 60) == count > 0


STAGES = {"layer1": "1", "layer2": "3", "layer3": "4", "layer4": "5"}
UNITS = {
    "conv1": "branch2.conv_a",
    "conv2": "branch2.conv_b",
    "conv3": "branch2.conv_c",
    "bn1": "branch2.norm_a",
    "bn2": "branch2.norm_b",
    "bn3": "branch2.norm_c",
    "downsample.0": "branch1_conv",
    "downsample.1": "branch1_norm",
}


def pytorchvideo_name(name: str) -> str:
    """The pytorchvideo key of a parameter of a ResNet-50 by torchvision's names."""
    unit, _, leaf = name.rpartition(".")
    plain = {"conv1": "blocks.0.conv", "bn1": "blocks.0.norm", "fc": "blocks.6.proj"}
    if unit in plain:
        return f"{plain[unit]}.{leaf}"
    stage, block, unit = unit.split(".", 2)
    return f"blocks.{STAGES[stage]}.res_blocks.{block}.{UNITS[unit]}.{leaf}"


@both
@torch.no_grad()
def test_a_still_picture_is_that_of_a_2d_resnet(name: str) -> None:
    """With its kernels in the middle frame of ours, torchvision's ResNet-50 sees the same."""
    torch.manual_seed(0)
    flat = resnet50(num_classes=400).eval()
    if name == "i3d_r50":
        flat.maxpool = nn.MaxPool2d(3, 2)  # no padding
    for module in flat.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_mean, module.running_var):
                assert values is not None
                values.uniform_(0.3, 0.9)
    network = NETWORKS[name].build().eval()
    state = network.state_dict()
    for key, value in flat.state_dict().items():
        ours = state[key if name == "i3d_r50" else pytorchvideo_name(key)]
        if value.dim() == 4:
            ours.zero_()[:, :, ours.shape[2] // 2] = value
        else:
            ours.copy_(value)
    pictures = torch.rand(2, 3, 70, 90)
    video = pictures[:, :, None].expand(-1, -1, 8, -1, -1)
    expected = flat(pictures)
    for ours in (network, prepare(network, "fp32", "cpu")):
        assert isinstance(ours, I3d)
        found = ours.classify(ours(video))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    assert not any(isinstance(module, nn.BatchNorm3d) for module in network.modules())


# -------------------------------------------------------------------------------- converters


def random_state(name: str) -> Arrays:
    """A state dict whose tensors all differ."""
    rng = np.random.default_rng(0)
    shapes = {key: tuple(value.shape) for key, value in on_meta(name).state_dict().items()}
    state: Arrays = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            continue
        values = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        state[key] = 1 + 0.1 * np.tanh(values) if len(shape) == 1 else values
    return state


def caffe2_blobs(state: Mapping[str, Any]) -> dict[str, Any]:
    """The blobs of video-nonlocal-net, by the naming rules of the port's converter."""
    blobs = {}
    for key, value in state.items():
        name = key.replace("fc.weight", "pred_w").replace("fc.bias", "pred_b")
        for number in range(1, 5):
            name = name.replace(f"layer{number}.", f"res{number + 1}_")
        if name.startswith("bn1"):
            name = name.replace("bn1", "res_conv1_bn")
        for number, letter in enumerate("abc", 1):
            name = name.replace(f".conv{number}", f"_branch2{letter}")
            name = name.replace(f".bn{number}", f"_branch2{letter}_bn")
        name = name.replace(".downsample.0", "_branch1").replace(".downsample.1", "_branch1_bn")
        norm = "_bn." in name
        name = name.replace(".running_mean", "_rm").replace(".running_var", "_riv")
        name = name.replace(".weight", "_s" if norm else "_w").replace(".bias", "_b")
        blobs[name] = value
    return blobs


def features_of(name: str, weights: ResolvedWeights) -> Tensor:
    video = torch.from_numpy(moving_clip(8, 40, 48).frames)[None]
    return load_video_network(NETWORKS[name].build, weights, "fp32", Runtime(batch_size=8))(video)


def expected_features(name: str, state: Arrays) -> Tensor:
    """The same parameters without any file, and pixels normalised by hand."""
    network = NETWORKS[name].build()
    loose = network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, False)
    assert not loose.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in loose.missing_keys)
    video = (torch.from_numpy(moving_clip(8, 40, 48).frames)[None].float() - 114.75) / 57.375
    with torch.inference_mode():
        result: Tensor = prepare(network, "fp32", "cpu")(video.permute(0, 4, 1, 2, 3))
    return result


@pytest.fixture(scope="module")
def r50_state() -> Arrays:
    return random_state("i3d_r50")


@pytest.fixture(scope="module")
def r50_features(r50_state: Arrays) -> Tensor:
    return expected_features("i3d_r50", r50_state)


@pytest.fixture(scope="module")
def caffe2_file(r50_state: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    blobs = caffe2_blobs(r50_state)
    extras = {
        "conv1_w_momentum": blobs["conv1_w"],
        "lr": np.array([0.01], np.float32),
        "model_iter": 400_000,
    }
    path = tmp_path_factory.mktemp("originals") / CARDS[0].file
    path.write_bytes(pickle.dumps({"blobs": {**blobs, **extras}, "cfg": "yaml"}, 2))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)


def test_blob_names() -> None:
    assert caffe2_blob("conv1.weight") == "conv1_w"
    assert caffe2_blob("bn1.running_var") == "res_conv1_bn_riv"
    assert caffe2_blob("layer1.0.downsample.0.weight") == "res2_0_branch1_w"
    assert caffe2_blob("layer3.0.downsample.1.running_mean") == "res4_0_branch1_bn_rm"
    assert caffe2_blob("layer4.2.conv3.weight") == "res5_2_branch2c_w"
    assert caffe2_blob("layer2.3.bn1.weight") == "res3_3_branch2a_bn_s"
    assert caffe2_blob("layer2.3.bn2.bias") == "res3_3_branch2b_bn_b"
    assert [caffe2_blob(f"fc.{leaf}") for leaf in ("weight", "bias")] == ["pred_w", "pred_b"]
    names = [key for key in on_meta("i3d_r50").state_dict() if "num_batches" not in key]
    assert caffe2_blobs(dict.fromkeys(names)).keys() == {caffe2_blob(key) for key in names}


def test_caffe2_pickle(caffe2_file: Path, r50_features: Tensor) -> None:
    weights = resolve(CARDS, str(caffe2_file))
    assert weights.card is CARDS[0]
    assert weights.identity == hashlib.sha256(caffe2_file.read_bytes()).hexdigest()
    assert torch.equal(features_of("i3d_r50", weights), r50_features)


@pytest.mark.parametrize("wrapped", [False, True])
def test_converted_state_dict(
    wrapped: bool, r50_state: Arrays, r50_features: Tensor, tmp_path: Path
) -> None:
    tensors = {key: torch.from_numpy(value) for key, value in r50_state.items()}
    if wrapped:
        state: dict[str, Any] = {f"module.{key}": value for key, value in tensors.items()}
        state = {"state_dict": {**state, "module.bn1.num_batches_tracked": torch.tensor(7)}}
    else:
        state = dict(tensors)
    torch.save(state, tmp_path / "i3d_r50_kinetics.pth")
    weights = resolve(CARDS, str(tmp_path / "i3d_r50_kinetics.pth"))
    assert weights.card is CARDS[1]
    assert torch.equal(features_of("i3d_r50", weights), r50_features)


def test_pytorchvideo_checkpoint(tmp_path: Path) -> None:
    state = random_state("i3d_r50_ptv")
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    counters = {"blocks.0.norm.num_batches_tracked": torch.tensor(7)}
    checkpoint = {
        "epoch": 196,
        "model_state": {**tensors, **counters},
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
    }
    torch.save(checkpoint, tmp_path / "I3D_8x8_R50.pyth")
    weights = resolve(CARDS_PTV, str(tmp_path / "I3D_8x8_R50.pyth"))
    expected = expected_features("i3d_r50_ptv", state)
    assert torch.equal(features_of("i3d_r50_ptv", weights), expected)


def test_tampered_file_is_refused(
    caffe2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(caffe2_file.read_bytes()).hexdigest()
    card = replace(CARDS[0], sha256=digest)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(folder))
    copy = Path(shutil.copy(caffe2_file, folder))
    with copy.open("r+b") as stream:
        stream.seek(50_000_000)  # in the middle of a kernel
        byte = stream.read(1)[0]
        stream.seek(50_000_000)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(WeightsError, match=f"the card says {digest}"):
        resolve(card, None)
    shutil.copy(caffe2_file, folder)
    assert resolve(card, None).identity == digest


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("place", ["blob", "beside", "name"])
def test_malicious_pickle_is_refused(place: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = Call(os.system, f"touch {marker}")
    tree: dict[str, Any] = {"blobs": {"conv1_w": np.zeros((2, 2), np.float32)}}
    if place == "blob":
        tree["blobs"]["pred_w"] = evil
    elif place == "beside":
        tree["cfg"] = evil
    else:
        tree["blobs"] = {"x": evil, **tree["blobs"]}
    path = tmp_path / CARDS[0].file
    path.write_bytes(pickle.dumps(tree, 2))
    with pytest.raises(WeightsError, match=r"it asks for posix.system"):
        resolve(CARDS, str(path))
    assert not marker.exists()


def empty_state(name: str) -> Arrays:
    """Names and shapes without memory."""
    state = on_meta(name).state_dict()
    return {key: np.broadcast_to(np.float32(0), value.shape) for key, value in state.items()}


def test_other_networks_are_refused() -> None:
    """A checkpoint with non-local blocks has all the names of the baseline, and more."""
    names = {k: v for k, v in empty_state("i3d_r50").items() if "num_batches" not in k}
    blobs = {f"blobs/{key}": value for key, value in caffe2_blobs(names).items()}
    assert from_caffe2(blobs).keys() == names.keys()
    theta = {"blobs/nonlocal_conv3_1_theta_w": np.zeros((2, 2), np.float32)}
    with pytest.raises(LayoutError, match="it has also nonlocal_conv3_1_theta_w"):
        from_caffe2({**blobs, **theta})
    del blobs["blobs/res3_0_branch1_bn_riv"]
    with pytest.raises(LayoutError, match="it has no 'res3_0_branch1_bn_riv'"):
        from_caffe2(blobs)
    other = empty_state("i3d_r50_ptv")
    with pytest.raises(LayoutError, match=r"it has no 'conv1.weight'"):
        from_tushar_n(other)
    with pytest.raises(LayoutError, match="it has no 'conv1_w'"):
        from_caffe2(other)
    with pytest.raises(LayoutError, match=r"it has no 'blocks.0.conv.weight'"):
        from_pytorchvideo(names)


def test_weights_are_not_interchangeable(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({k: torch.zeros(1) for k in on_meta("i3d_r50_ptv").state_dict()}, path)
    with pytest.raises(WeightsError, match="fits no layout that this network knows"):
        resolve(CARDS, str(path))
    with pytest.raises(ExtractorError, match=r"'i3d_r50_ptv.kinetics' do not fit"):
        I3DR50Features(
            I3DR50Config(), weights={NETWORK: ResolvedWeights(CARDS_PTV[0], "random:0", None)}
        )


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "golden"), [("i3d_r50", "g02_i3d_r50"), ("i3d_r50_ptv", "g03_i3d_r50_ptv")]
)
def test_keys_are_those_of_the_public_code(name: str, golden: str, shared: Path) -> None:
    rows = json.loads((shared / "golden" / f"{golden}.keys.json").read_text())
    state = on_meta(name).state_dict()
    assert [[key, list(value.shape)] for key, value in state.items()] == [row[:2] for row in rows]


# -------------------------------------------------------------------------------- extractors


def extractor(name: str, precision: Precision = "fp32", **config: Any) -> I3DFeatures:
    weights = random_weights(name)
    made: I3DFeatures
    if name == "i3d_r50":
        made = I3DR50Features(
            I3DR50Config(**config), weights={NETWORK: weights}, precision=precision
        )
    else:
        made = I3DR50PtvFeatures(
            I3DR50PtvConfig(**config), weights={NETWORK: weights}, precision=precision
        )
    return made


@both
def test_ten_crops_by_default(name: str) -> None:
    made = extractor(name)
    assert made.arrays[0].shape == (10, 2048)
    assert made.flops(480, 640) == 10 * NETWORKS[name].flops(16, 224, 224)
    assert (made.clip_rule.length, made.clip_rule.stride, made.clip_rule.tail) == (16, 16, "loop")
    pixels = made.recipe()["pixels"]
    assert pixels["mean"] == [114.75] * 3 and pixels["std"] == [57.375] * 3


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("i3d_r50", lambda x: (x - 114.75) / 57.375),
        ("i3d_r50_ptv", lambda x: (x / 255 - 0.45) / 0.225),
        ("gowtham", lambda x: x * 2 / 255 - 1),
    ],
)
@torch.no_grad()
def test_features_are_those_of_the_network(name: str, scale: Any) -> None:
    """By hand: the crops of torchvision, the normalisation of each source."""
    config: dict[str, Any] = {"resize": None, "clip_length": 8, "crop_size": 24}
    if name == "gowtham":
        name = "i3d_r50"
        config["normalise"] = I3DR50Features.presets["gowtham"]["normalise"]
    made = extractor(name, logits=True, **config)
    made.load(Runtime(batch_size=8))
    clip = moving_clip(8, 33, 36)
    rows = arrays_of(made, [clip])
    network = made._loaded[NETWORK].network
    assert isinstance(network, I3d)
    pictures = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    crops = torch.stack([scale(crop.float()) for crop in vision.ten_crop(pictures, [24, 24])])
    features = network(crops.transpose(1, 2))
    rms = float(features.square().mean().sqrt())
    np.testing.assert_allclose(rows["features"][0], features, rtol=0, atol=1e-4 * rms)
    np.testing.assert_allclose(rows["logits"][0], network.classify(features), atol=1e-3 * rms)
    other = network(0.9 * crops.transpose(1, 2))
    assert float((other - features).abs().max()) > 1e-2 * rms  # it does notice the scale


@both
def test_presets(name: str) -> None:
    kind = {"i3d_r50": I3DR50Features, "i3d_r50_ptv": I3DR50PtvFeatures}[name]
    flops = NETWORKS[name].flops
    expected = {
        "native": flops(16, 480, 640),
        "tushar_n": flops(16, 256, 256),
        "gowtham": 10 * flops(16, 224, 224),
        "pytorchvideo": flops(8, 256, 256),
    }
    for preset, config in kind.presets.items():
        assert extractor(name, **config).flops(480, 640) == expected[preset]


def test_the_preset_of_gowtham() -> None:
    made = extractor("i3d_r50", **I3DR50Features.presets["gowtham"])
    assert made.clip_rule.tail == "drop" and made.config.resize == (256, 340)
    pixels = made.recipe()["pixels"]
    assert pixels["mean"] == pixels["std"] == [127.5] * 3
    assert made.recipe()["weights"] == "random:0"


@pytest.mark.parametrize(("name", "length"), [("i3d_r50", 6), ("i3d_r50_ptv", 1)])
def test_too_short_clips(name: str, length: int) -> None:
    with pytest.raises(ExtractorError, match=rf"clips of {length + 1} frames .* not {length} "):
        extractor(name, clip_length=length)


@both
def test_bf16_is_close_to_fp32(name: str) -> None:
    """Untrained features of all clips are alike: compare what is left without their mean."""
    if resolve_precision("auto", "cpu") != "bf16":
        pytest.skip("this CPU does not multiply in bf16")
    clips = [moving_clip(8, 40, 40, seed) for seed in range(2)]
    still = clips[0].frames[:1].repeat(8, axis=0)
    clips.append(replace(clips[0], frames=still))
    rows = {}
    for precision in ("fp32", "bf16"):
        made = extractor(name, precision, resize=None, clip_length=8, crops=1, crop_size=None)  # type: ignore[arg-type]
        made.load(Runtime(batch_size=8))
        rows[precision] = arrays_of(made, clips)["features"][:, 0]
        assert rows[precision].dtype == np.float32
    exact, rough = rows["fp32"], rows["bf16"]
    cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosines.min() >= 0.9999 and cosines.max() < 1
    error, spread = exact - rough, exact - exact.mean(0)
    assert np.linalg.norm(error) < 0.3 * np.linalg.norm(spread)


@pytest.mark.gpu
@both
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_agrees_with_the_cpu(name: str, precision: Precision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clips = [moving_clip(8, 40, 40, seed) for seed in range(2)]
    rows = {}
    for device, kind in (("cpu", "fp32"), ("cuda:0", precision)):
        made = extractor(name, kind, resize=None, clip_length=8, crop_size=32)  # type: ignore[arg-type]
        made.load(Runtime(device, batch_size=8))
        rows[device] = arrays_of(made, clips)["features"]
    a, b = rows["cpu"].ravel(), rows["cuda:0"].ravel()
    cosine = float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert cosine > (0.99999 if precision == "fp32" else 0.999)
