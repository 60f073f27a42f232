"""Parity with the reference implementations: numbers recorded on deterministic parameters."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vadpipe.data_manifests.tracks import Tracks
from vadpipe.detectors.autoencoder import Autoencoder, folded
from vadpipe.detectors.losses import (
    bag_cross_entropy,
    feature_magnitude,
    smoothness,
    sparsity,
)
from vadpipe.detectors.mil import count_parameters
from vadpipe.detectors.reconstruction import psnr
from vadpipe.detectors.rtfm import RTFMConfig, RTFMNetwork, magnitude_losses
from vadpipe.detectors.segments import (
    l2_normalised,
    pool_segments,
    segment_edges,
    sultani_edges,
)
from vadpipe.detectors.ssrl import Aggregation, SSRLConfig, SSRLNetwork
from vadpipe.extractors.device.inference import prepare
from vadpipe.extractors.i3d import ten_crop
from vadpipe.extractors.networks.clip_vit import ClipTower, from_openai
from vadpipe.extractors.networks.i3d import I3d
from vadpipe.extractors.networks.i3d_r50 import I3dR50, I3dR50Ptv
from vadpipe.extractors.networks.inception_i3d import InceptionI3d
from vadpipe.pipeline.metrics.regions import region_curves
from vadpipe.pipeline.scores.scored_boxes import ScoredBoxes

pytestmark = pytest.mark.data

FP32 = 1e-4  # largest difference over the rms of the array, networks in fp32 on a CPU


class Golden:
    """One golden: its parameters by reference key, its inputs and its expected arrays."""

    def __init__(self, folder: Path, name: str, seed: str = "open") -> None:
        self.folder, self.name, self.seed = folder, name, seed
        self.expected: Mapping[str, NDArray[Any]] = np.load(folder / seed / f"{name}.npz")

    @property
    def filler(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("golden_fill", self.folder / "fill.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def parameters(self) -> dict[str, torch.Tensor]:
        keys = json.loads((self.folder / f"{self.name}.keys.json").read_text())
        values = self.filler.fill_all(keys, self.seed)
        return {key: torch.from_numpy(value) for key, value in values.items()}

    def input(self, tag: str) -> torch.Tensor:
        table = json.loads((self.folder / "inputs.json").read_text())[self.name]
        name = f"input/{self.name}/{tag}"
        shape, kind = next((shape, kind) for key, shape, kind in table if key == name)
        return torch.from_numpy(self.filler.signal(name, shape, kind, self.seed))

    def check(self, name: str, found: torch.Tensor, tolerance: float) -> None:
        expected = self.expected[name].astype(np.float64)
        assert tuple(found.shape) == expected.shape
        worst = np.abs(found.double().numpy() - expected).max()
        assert worst / np.sqrt((expected**2).mean()) < tolerance, name

    def check_large(self, name: str, found: torch.Tensor, tolerance: float) -> None:
        """An array that is stored as a shape, every stride-th value and norms."""
        assert list(found.shape) == self.expected[f"{name}.shape"].tolist()
        flat = found.double().flatten()
        self.check(f"{name}.sub", flat[:: int(self.expected[f"{name}.stride"])], tolerance)
        norms = self.expected[f"{name}.norms"]
        values = [flat.norm(), flat.abs().sum(), flat.mean(), flat.min(), flat.max()]
        rms = norms[0] / len(flat) ** 0.5
        scale = np.array([norms[0], norms[1], rms, rms, rms])
        assert (np.abs(np.array([float(v) for v in values]) - norms) < tolerance * scale).all()


# ------------------------------------------------------------------- golden 1, Inception-I3D


@pytest.fixture(scope="module")
def inception(shared: Path) -> Golden:
    return Golden(shared / "golden", "g01_i3d_inception")


@pytest.fixture(scope="module", params=["plain", "prepared"])
def inception_network(request: pytest.FixtureRequest, inception: Golden) -> InceptionI3d:
    network = InceptionI3d()
    network.load_state_dict(inception.parameters(), strict=True)
    if request.param == "plain":
        return network.eval()
    prepare(network, "fp32", "cpu")  # folded batch norms, channels last
    return network


@pytest.mark.parametrize("case", ["t16_112", "t12_128", "t1_64", "t16_224"])
@torch.inference_mode()
def test_inception_i3d(inception: Golden, inception_network: InceptionI3d, case: str) -> None:
    video = inception.input(case)
    last = inception_network.last_map(video)
    assert tuple(last.shape[1:]) == tuple(inception.expected[f"{case}.mixed5c_shape"])
    mean = inception_network(video)
    logits = inception_network.classify(mean)
    inception.check(f"{case}.global_mean", mean[0], FP32)
    inception.check(f"{case}.logits_of_global_mean", logits[0], FP32)
    if case == "t16_224":  # the only one that the reference's fixed pool takes
        inception.check(f"{case}.logits", logits[..., None], FP32)


# ------------------------------------------------------------------- goldens 5 and 6, RTFM, SSRL

GRIDS = {"23": "2x3", "35": "3x5", "47": "4x7"}
KINDS = ("normal", "abnormal")


def relation_keys(reference: str, ours: str) -> list[tuple[str, str]]:
    """Prefixes of the reference's keys and of ours, for one relation network."""
    parts = [(f"conv_{i + 1}.", f"dilated.{i}.") for i in range(3)]
    parts += [("conv_4.", "reduce."), ("conv_5.", "fusion."), ("non_local.W.", "non_local.out.")]
    parts.append(("non_local.", "non_local."))
    return [(f"{reference}.{a}", f"{ours}.{b}") for a, b in parts]


def renamed(
    parameters: Mapping[str, torch.Tensor], prefixes: list[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    found = {}
    for key, value in parameters.items():
        old, new = next((a, b) for a, b in prefixes if key.startswith(a))
        found[new + key.removeprefix(old)] = value
    assert len(found) == len(parameters)
    return found


@pytest.fixture(scope="module")
def g05(shared: Path) -> Golden:
    return Golden(shared / "golden", "g05_rtfm")


@pytest.fixture(scope="module")
def g06(shared: Path) -> Golden:
    return Golden(shared / "golden", "g06_ssrl")


@pytest.fixture
def rtfm_network(g05: Golden) -> RTFMNetwork:
    network = RTFMNetwork(2048, RTFMConfig(dropout=0.0))
    prefixes = [*relation_keys("Aggregate", "vtr"), ("fc", "classifier.fc")]
    network.load_state_dict(renamed(g05.parameters(), prefixes), strict=True)
    return network.eval()


@torch.inference_mode()
def test_relation_network(g05: Golden, rtfm_network: RTFMNetwork) -> None:
    assert rtfm_network.vtr is not None
    assert count_parameters(rtfm_network.vtr) == 23_603_968
    g05.check_large("aggregate", rtfm_network.vtr(g05.input("aggregate")), FP32)


@pytest.mark.parametrize("case", ["T32", "T7"])
@torch.inference_mode()
def test_rtfm_scores(g05: Golden, rtfm_network: RTFMNetwork, case: str) -> None:
    bags = rtfm_network(g05.input(f"infer_{case}").transpose(1, 2))
    selected = rtfm_network.select(bags, slice(None), 3)
    g05.check(f"infer_{case}.scores", bags.scores[..., None], FP32)
    g05.check(f"infer_{case}.logits_per_crop", bags.logits[0], FP32)
    g05.check(f"infer_{case}.magnitudes", bags.magnitudes, FP32)
    g05.check(f"infer_{case}.bag_score", selected.score[:, None], FP32)
    assert selected.index.tolist() == g05.expected[f"infer_{case}.topk_index"].tolist()


@pytest.mark.parametrize("case", ["bag_eval", "bag_train_nodrop"])
def test_rtfm_bags_and_losses(g05: Golden, rtfm_network: RTFMNetwork, case: str) -> None:
    rtfm_network.train(case == "bag_train_nodrop")
    config = RTFMConfig(dropout=0.0)
    batch = torch.cat([g05.input("bag_normal"), g05.input("bag_abnormal")]).transpose(1, 2)
    with torch.no_grad():
        bags = rtfm_network(batch)
        halves = {
            "normal": rtfm_network.select(bags, slice(0, 2), 3),
            "abnormal": rtfm_network.select(bags, slice(2, None), 3),
        }
        terms = magnitude_losses(rtfm_network, bags, config)
    g05.check(f"{case}.scores", bags.scores[..., None], FP32)
    g05.check(f"{case}.magnitudes", bags.magnitudes, FP32)
    for name, selected in halves.items():
        expected = g05.expected[f"{case}.index_{name}"].tolist()
        assert selected.index.tolist() == expected
        g05.check(f"{case}.score_{name}", selected.score[:, None], FP32)
        g05.check(f"{case}.feat_{name}_norms", selected.features.norm(dim=-1), FP32)
    g05.check_large(f"{case}.feat_abnormal", halves["abnormal"].features, FP32)
    for ours, theirs in (
        ("classification", "cls"),
        ("magnitude", "magnitude_weighted"),
        ("sparsity", "sparsity"),
        ("smoothness", "smooth"),
        ("total", "total"),
    ):
        expected = float(g05.expected[f"{case}.loss_{theirs}"])
        assert terms[ours].item() == pytest.approx(expected, rel=FP32), ours
    if case == "bag_train_nodrop":
        assert rtfm_network.vtr is not None
        state = rtfm_network.vtr.dilated[0][2].state_dict()
        for name in ("running_mean", "running_var"):
            g05.check(f"{case}.after.Aggregate.conv_1.2.{name}", state[name], FP32)


@pytest.mark.parametrize("case", ["loss_B3", "loss_B1"])
def test_rtfm_losses_and_their_gradients(g05: Golden, case: str) -> None:
    def leaf(values: torch.Tensor) -> torch.Tensor:
        return values.requires_grad_()

    score = {n: leaf(0.02 + 0.96 * g05.input(f"{case}/score_{n}").double()) for n in KINDS}
    scale = {"normal": 4.0, "abnormal": 20.0}
    feat = {n: leaf(scale[n] * g05.input(f"{case}/feat_{n}").double()) for n in KINDS}
    scores = leaf(g05.input(f"{case}/abnormal_scores").double())
    rows = scores.view(-1, 32)
    terms = {
        "cls": bag_cross_entropy(score["normal"][:, 0], score["abnormal"][:, 0]),
        "magnitude": feature_magnitude(feat["normal"], feat["abnormal"]),
        "sparsity": 8e-3 * sparsity(rows),
        "smooth": 8e-4 * smoothness(rows, across=True),
    }
    total = terms["cls"] + 1e-4 * terms["magnitude"] + terms["sparsity"] + terms["smooth"]
    total.backward()  # type: ignore[no-untyped-call]
    for name, value in {**terms, "total": total}.items():
        assert abs(value.item() - float(g05.expected[f"{case}.{name}"])) < 1e-9, name
    for name in KINDS:
        for kind, leaves in (("score", score), ("feat", feat)):
            gradient = leaves[name].grad
            assert gradient is not None
            if kind == "feat":
                gradient = gradient[..., ::4]
            expected = g05.expected[f"{case}.grad_{kind}_{name}"]
            assert np.abs(gradient.numpy() - expected).max() < 1e-9, (kind, name)
    assert scores.grad is not None
    expected = g05.expected[f"{case}.grad_abnormal_scores"]
    assert np.abs(scores.grad.numpy() - expected).max() < 1e-9


@pytest.fixture(scope="module")
def ssrl_network(g06: Golden) -> SSRLNetwork:
    network = SSRLNetwork(2048, list(GRIDS.values()), SSRLConfig())
    assert count_parameters(network) == 192_015_105
    prefixes = [*relation_keys("Aggregate_clip", "vtr"), ("classfier.", "classifier.")]
    for i, scale in enumerate(GRIDS.values()):
        prefixes += relation_keys(f"Aggregate_patch.{i}", f"psr.{scale}")
        prefixes.append((f"patch_to_clip.{i}.", f"mpa.{scale}.conv."))
        prefixes.append((f"linear_out.{i}.", f"mpa.{scale}.linear."))
    network.load_state_dict(renamed(g06.parameters(), prefixes), strict=True)
    return network.eval()


@pytest.mark.parametrize("case", ["T4", "T32"])
@torch.inference_mode()
def test_ssrl(g06: Golden, ssrl_network: SSRLNetwork, case: str) -> None:
    channels = g06.input(case).transpose(1, 2)  # (1, T, 59, 2048)
    x, *patches = channels.split([10, 6, 15, 28], dim=2)
    for (tag, scale), part in zip(GRIDS.items(), patches, strict=True):
        relation = ssrl_network.relation(scale)
        assert relation is not None
        related = relation(part[0])
        g06.check_large(f"{case}.psr_{tag}", related, FP32)
        aggregate = ssrl_network.mpa[scale]
        assert isinstance(aggregate, Aggregation)
        if tag == "23":
            maps = aggregate.conv(related.view(len(related), 2, 3, -1))
            g06.check_large(f"{case}.mpa_conv_23", maps.permute(0, 3, 1, 2), FP32)
        g06.check_large(f"{case}.mpa_{tag}", aggregate(related)[None], FP32)
        x = ssrl_network.add(scale, x, part)
    assert ssrl_network.vtr is not None
    sequences = x[0].transpose(0, 1)
    g06.check_large(f"{case}.vtr", ssrl_network.vtr(sequences), FP32)
    bags = ssrl_network(x)
    g06.check(f"{case}.scores", bags.scores[..., None], FP32)
    g06.check(f"{case}.logits_per_crop", bags.logits[0], FP32)
    g06.check(f"{case}.magnitudes", bags.magnitudes, FP32)


# ------------------------------------------------------------------- golden 7, LNTRA's autoencoder


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("case", ["t16_s64", "t8_s32"])
@torch.inference_mode()
def test_autoencoder(shared: Path, channels: int, case: str) -> None:
    golden = Golden(shared / "golden", f"g07_lntra_ae_c{channels}")
    network = Autoencoder(channels)
    prefixes = [("encoder.encoder.", "encoder."), ("decoder.decoder.", "decoder.")]
    network.load_state_dict(renamed(golden.parameters(), prefixes), strict=True)
    network.eval()
    windows = golden.input(case).clamp(-1, 1)
    out = network(windows)
    golden.check_large(f"{case}.output", folded(network)(windows), FP32)
    golden.check_large(f"{case}.output", out, FP32)
    golden.check_large(f"{case}.code", network.encoder(windows), FP32)
    middle = windows.shape[2] // 2
    error = (out - windows)[:, :, middle].square().mean()
    golden.check(f"{case}.mse_mid_frame", error, FP32)
    golden.check(f"{case}.psnr_mid_frame", psnr(error), FP32)


# ------------------------------------------------------------------- golden 10, 32 segments


@pytest.mark.parametrize("n", [1, 5, 16, 31, 32, 33, 100, 1001])
def test_segments(shared: Path, n: int) -> None:
    golden = Golden(shared / "golden", "g10_segments")
    x = golden.input(f"n{n}").numpy() + np.float32(0.01)
    assert segment_edges(n).tolist() == golden.expected[f"n{n}.rtfm_edges"].tolist()
    assert np.abs(pool_segments(x) - golden.expected[f"n{n}.rtfm"]).max() < 1e-6
    edges = (sultani_edges(n) + 1).tolist()
    assert edges == golden.expected[f"n{n}.sultani_edges_1based"].ravel().tolist()
    pooled = l2_normalised(pool_segments(x, resampling="sultani"))
    assert np.abs(pooled - golden.expected[f"n{n}.sultani_l2"]).max() < 1e-6


# ------------------------------------------------------------------- golden 4, CLIP ViT-B/16


@pytest.mark.parametrize("kind", ["plain", "prepared"])
@torch.inference_mode()
def test_clip_vit_b16(shared: Path, kind: str) -> None:
    golden = Golden(shared / "golden", "g04_clip_vit_b16")
    arrays = {key: value.numpy() for key, value in golden.parameters().items()}
    state = {name: torch.from_numpy(value) for name, value in from_openai(arrays).items()}
    network: torch.nn.Module = ClipTower().eval()
    network.load_state_dict(state, strict=True)
    if kind == "prepared":
        network = prepare(network, "fp32", "cpu")
    images = golden.input("images")[:, :, None]
    golden.check("embedding", network(images), FP32)
    if kind == "prepared":
        return  # its activations are parts of the linear layers
    for module in list(network.modules()):
        if hasattr(module, "act"):
            module.act = torch.nn.GELU()
    with pytest.raises(AssertionError, match="embedding"):  # 0.03 away
        golden.check("embedding", network(images), 0.02)


# ----------------------------------------------------------- goldens 2 and 3, I3D ResNet-50


def i3d_r50(golden: Golden, build: type[I3d], kind: str) -> I3d:
    network = build()
    network.load_state_dict(golden.parameters(), strict=True)
    if kind == "prepared":
        prepare(network, "fp32", "cpu")  # folded batch norms, channels last
    return network.eval()


@pytest.fixture(scope="module")
def r50(shared: Path) -> Golden:
    return Golden(shared / "golden", "g02_i3d_r50")


@pytest.fixture(scope="module", params=["plain", "prepared"])
def r50_network(request: pytest.FixtureRequest, r50: Golden) -> I3d:
    return i3d_r50(r50, I3dR50, request.param)


@pytest.mark.parametrize("case", ["t16_112", "t16_120", "t16_160x168"])
@torch.inference_mode()
def test_i3d_r50(r50: Golden, r50_network: I3d, case: str) -> None:
    video = r50.input(case)
    assert tuple(r50_network.last_map(video).shape[1:]) == tuple(r50.expected[f"{case}.map_shape"])
    mean = r50_network(video)
    r50.check(f"{case}.global_mean", mean[0], FP32)
    r50.check(f"{case}.logits", r50_network.classify(mean)[0], FP32)


@pytest.fixture(scope="module")
def r50_ptv(shared: Path) -> Golden:
    return Golden(shared / "golden", "g03_i3d_r50_ptv")


@pytest.fixture(scope="module", params=["plain", "prepared"])
def r50_ptv_network(request: pytest.FixtureRequest, r50_ptv: Golden) -> I3d:
    return i3d_r50(r50_ptv, I3dR50Ptv, request.param)


@pytest.mark.parametrize("case", ["t8_112", "t16_120", "t8_224"])
@torch.inference_mode()
def test_i3d_r50_ptv(r50_ptv: Golden, r50_ptv_network: I3d, case: str) -> None:
    video = r50_ptv.input(case)
    last = r50_ptv_network.last_map(video)
    assert tuple(last.shape[1:]) == tuple(r50_ptv.expected[f"{case}.map_shape"])
    mean = r50_ptv_network(video)
    r50_ptv.check(f"{case}.global_mean", mean[0], FP32)
    if case == "t8_224":  # the only one that the reference's fixed pool takes
        r50_ptv.check(f"{case}.logits", r50_ptv_network.classify(mean)[0], FP32)


# ----------------------------------------------------------------------- golden 11, ten crops


@pytest.mark.parametrize(
    ("case", "size"),
    [("12x16", (8, 8)), ("13x17", (8, 8)), ("15x19", (8, 8)), ("9x12", (7, 10))],
)
def test_ten_crop(shared: Path, case: str, size: tuple[int, int]) -> None:
    golden = Golden(shared / "golden", "g11_tencrop")
    picture = golden.input(case).permute(1, 2, 0)
    crops = torch.stack(ten_crop(picture, size)).permute(0, 3, 1, 2)
    expected = golden.expected[f"{case}_crop{size[0]}x{size[1]}.crops"]
    assert crops.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(crops.numpy(), expected)


# ------------------------------------------------------------------- golden 8, RBDC and TBDC


def region_cases(shared: Path) -> tuple[Golden, list[str]]:
    golden = Golden(shared / "golden", "g08_rbdc_tbdc")
    return golden, [str(name) for name in golden.expected["edge.names"]]


def half_open(rows: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Boxes whose last pixel counts in, as boxes that end one after it."""
    moved = rows.copy()
    moved[:, first + 2 : first + 4] += 1
    return moved


def test_rbdc_and_tbdc(shared: Path) -> None:
    golden, names = region_cases(shared)
    assert len(names) == 16
    for name in names:
        case = f"edge.{name}"
        tracks, detections = {}, {}
        for key in golden.expected:
            if key.startswith(f"{case}.tracks."):
                tracks[key.rpartition(".")[2]] = Tracks.from_rows(
                    half_open(golden.expected[key], 2)
                )
            elif key.startswith(f"{case}.detections."):
                detections[key.rpartition(".")[2]] = ScoredBoxes.from_rows(
                    half_open(golden.expected[key], 1)
                )
        n_frames = int(golden.expected[f"{case}.num_frames"])
        found = region_curves(tracks, detections, n_frames)
        for ours, theirs in (
            ("n_regions", "n_regions"),
            ("n_tracks", "n_tracks"),
            ("n_false", "n_fp"),
            ("n_matched", "n_true_detections"),
            ("n_neutral", "n_neutral"),
            ("regions_found", "n_tp_regions"),
            ("tracks_found", "tracks_found"),
        ):
            assert getattr(found, ours) == int(golden.expected[f"{case}.{theirs}"]), (name, ours)
        for curve in ("fpr", "rbdr", "tbdr"):
            expected = golden.expected[f"{case}.{curve}"]
            assert getattr(found, curve).shape == expected.shape, (name, curve)
            assert np.abs(getattr(found, curve) - expected).max() < 1e-9, (name, curve)
        assert abs(found.rbdc - float(golden.expected[f"{case}.rbdc"])) < 1e-9, name
        assert abs(found.tbdc - float(golden.expected[f"{case}.tbdc"])) < 1e-9, name
