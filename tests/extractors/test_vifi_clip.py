"""CLIP's image tower: against its definition, the layouts of its files, pixels, extractor."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.rows import arrays_of
from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.clips import Clip, ClipRule
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.networks import clip_vit as vifi_clip
from vadpipe.extractors.networks.clip_vit import (
    CARDS,
    ClipTower,
    frame_flops,
    from_openai,
    from_vifi_clip,
)
from vadpipe.extractors.vifi_clip import ViFiClipConfig, ViFiClipFeatures
from vadpipe.extractors.weights.cards import LayoutError, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.read import read_arrays
from vadpipe.extractors.weights.slots import NETWORK

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*not trained"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:"),
]

BY_NAME = {card.name: card for card in CARDS}
VIFI, OPENAI = BY_NAME["vifi_clip.k400"], BY_NAME["vifi_clip.openai"]
RANDOM = ResolvedWeights(VIFI, "random:0", None)
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def shapes(depth: int = 12, width: int = 768, tokens: int = 197) -> dict[str, tuple[int, ...]]:
    """The image tower by the public names, without a prefix."""
    block = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    return {
        "class_embedding": (width,),
        "positional_embedding": (tokens, width),
        "proj": (width, 512),
        "conv1.weight": (width, 3, 16, 16),
        "ln_pre.weight": (width,),
        "ln_pre.bias": (width,),
        "ln_post.weight": (width,),
        "ln_post.bias": (width,),
        **{
            f"transformer.resblocks.{i}.{name}": shape
            for i in range(depth)
            for name, shape in block.items()
        },
    }


def fill(named: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Numbers that float16 holds exactly; scaled so that no layer explodes."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in named.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            value *= (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value *= 0.1
        state[name] = value.half().float()
    return state


def openai_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    text = {"text_projection": (512, 512), "ln_final.weight": (512,), "logit_scale": ()}
    text["transformer.resblocks.0.attn.in_proj_weight"] = (1536, 512)
    sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    return {
        **{f"visual.{name}": value.half() for name, value in state.items()},
        **{name: torch.rand(shape).half() for name, shape in text.items()},
        **{name: torch.tensor(size) for name, size in sizes.items()},
    }


def nest(state: Mapping[str, Tensor]) -> nn.Module:
    """A module whose state dict this is."""
    root = nn.Module()
    for name, value in state.items():
        *path, leaf = name.split(".")
        place = root
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.register_buffer(leaf, value)
    return root


def write_openai(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.jit.save(torch.jit.script(nest(openai_layout(state))), path)
    return path


class CfgNode(dict):  # type: ignore[type-arg]
    """As in yacs: a dict with settings of its own."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.__dict__["__immutable__"] = True


CfgNode.__module__ = "yacs.config"


def write_vifi_clip(path: Path, state: Mapping[str, Tensor], **more: Any) -> Path:
    """What that trainer saves; yacs can be imported while it is written, but not afterwards."""
    checkpoint = {
        "model": {
            "module.logit_scale": torch.tensor(4.6),
            "module.prompt_learner.complete_text_embeddings": torch.rand(4, 512),
            **{f"module.image_encoder.{name}": value for name, value in state.items()},
            "module.text_encoder.text_projection": torch.rand(512, 512),
            **more,
        },
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 2.2e-5, "betas": (0.9, 0.98), "params": [0]}],
        },
        "lr_scheduler": {"base_values": [2.2e-5], "t_initial": 100},
        "max_accuracy": 83.9,
        "epoch": 29,
        "config": CfgNode({"DATA": CfgNode({"NUM_FRAMES": 16}), "OUTPUT": None}),
    }
    module = ModuleType("yacs.config")
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", module)
        torch.save(checkpoint, path)
    return path


@pytest.fixture(autouse=True)
def no_yacs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yacs", None)
    monkeypatch.setitem(sys.modules, "yacs.config", None)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return fill(shapes())


@pytest.fixture(scope="module")
def tower(state: dict[str, Tensor]) -> ClipTower:
    arrays = {f"visual.{name}": value.numpy() for name, value in state.items()}
    with torch.device("meta"):
        network = ClipTower().eval().requires_grad_(False)
    tensors = {name: torch.from_numpy(value) for name, value in from_openai(arrays).items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network


def clip(frame: NDArray[np.uint8]) -> Clip:
    return Clip(frame[None], np.array([0]), np.array([0.0]), 0, 1)


def frames(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth random pictures."""
    small = np.random.default_rng(0).integers(0, 256, (n, 7, 9, 3)).astype(np.uint8)
    pictures = [Image.fromarray(each).resize((width, height), Image.BICUBIC) for each in small]
    return np.stack([np.asarray(picture) for picture in pictures])


def extractor(
    weights: ResolvedWeights = RANDOM, precision: Precision = "fp32", **config: Any
) -> ViFiClipFeatures:
    return ViFiClipFeatures(
        ViFiClipConfig(**config), weights={NETWORK: weights}, precision=precision
    )


@pytest.fixture(scope="module")
def loaded() -> ViFiClipFeatures:
    made = extractor(dtype="float32")
    made.load(Runtime(batch_size=8))
    return made


def cosine(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# ----------------------------------------------------------------------------------- network


def oracle(image: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The definition, one step after the other, by the public names: (3, 224, 224) -> (512)."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]

    patches = [
        image[:, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16].flatten()
        for i in range(14)
        for j in range(14)
    ]
    tokens = torch.stack(patches) @ state["conv1.weight"].flatten(1).T
    x = torch.cat([state["class_embedding"][None], tokens]) + state["positional_embedding"]
    x = norm(x, "ln_pre")
    for i in range(12):
        block = f"transformer.resblocks.{i}"
        packed = norm(x, f"{block}.ln_1") @ state[f"{block}.attn.in_proj_weight"].T
        q, k, v = (packed + state[f"{block}.attn.in_proj_bias"]).split(768, dim=1)
        heads = []
        for head in range(12):
            part = slice(64 * head, 64 * head + 64)
            weights = (q[:, part] @ k[:, part].T / 8).softmax(1)
            heads.append(weights @ v[:, part])
        out = torch.cat(heads, 1) @ state[f"{block}.attn.out_proj.weight"].T
        x = x + out + state[f"{block}.attn.out_proj.bias"]
        hidden = norm(x, f"{block}.ln_2") @ state[f"{block}.mlp.c_fc.weight"].T
        hidden = hidden + state[f"{block}.mlp.c_fc.bias"]
        hidden = hidden / (1 + (-1.702 * hidden).exp())
        x = x + hidden @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    return norm(x[:1], "ln_post")[0] @ state["proj"]


@torch.inference_mode()
def test_tower_is_what_clip_defines(tower: ClipTower, state: dict[str, Tensor]) -> None:
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = tower(images[:, :, None])
    assert found.dtype == torch.float32 and found.shape == (2, 512)
    for row, image in zip(found, images, strict=True):
        expected = oracle(image, state)
        assert (row - expected).abs().max() < 1e-4 * expected.square().mean().sqrt()


def test_every_activation_is_quick_gelu(tower: ClipTower) -> None:
    x = torch.linspace(-6, 6, 101)
    activations = [module.act for module in tower.modules() if hasattr(module, "act")]
    assert len(activations) == 12
    for activation in activations:
        torch.testing.assert_close(activation(x), x * torch.sigmoid(1.702 * x))
        assert (activation(x) - nn.functional.gelu(x)).abs().max() > 0.01


def test_size_and_work(tower: ClipTower) -> None:
    assert sum(p.numel() for p in tower.parameters()) == 86_192_640
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        ClipTower().eval()(torch.empty(1, 3, 1, 224, 224))
    assert extractor().flops(480, 856) == frame_flops() == counter.get_total_flops()


# ----------------------------------------------------------------------------------- layouts


def test_two_layouts_of_equal_weights_give_bit_equal_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vifi_clip, "BLOCKS", 2)  # smaller files
    state = fill(shapes(depth=2))
    files = [
        write_vifi_clip(tmp_path / "best.pth", state),
        write_openai(tmp_path / "ViT-B-16.pt", state),
    ]
    found = [resolve(CARDS, str(path)) for path in files]  # the card follows from the layout
    assert [weights.card.name for weights in found] == [VIFI.name, OPENAI.name]
    # with the pixels of one card, as the two differ in them
    clips = [clip(frame) for frame in frames(2, 240, 360)]
    rows = []
    for weights in found:
        made = extractor(replace(weights, card=VIFI))
        made.load(Runtime(batch_size=8))
        rows.append(arrays_of(made, clips)["features"])
    assert np.ptp(rows[0]) > 1
    assert np.array_equal(rows[0], rows[1])


@pytest.fixture
def small() -> dict[str, Tensor]:
    return fill(shapes(depth=2, width=16, tokens=5))


def test_files_of_all_layouts(small: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(openai_layout(small), tmp_path / "plain.pt")
    torch.save({"state_dict": openai_layout(small)}, tmp_path / "nested.pt")
    vifi = from_vifi_clip(read_arrays(write_vifi_clip(tmp_path / "vifi.pth", small)))
    script = write_openai(tmp_path / "script.pt", small)
    others = [from_openai(read_arrays(tmp_path / f"{name}.pt")) for name in ("plain", "nested")]
    for found in [*others, from_openai(read_arrays(script))]:
        assert found.keys() == vifi.keys() and len(found) == len(small)
        for name, value in found.items():
            assert value.dtype == np.float32
            assert np.array_equal(value, vifi[name]), name
    assert np.array_equal(vifi["tower.head.weight"].T, small["proj"])
    assert np.array_equal(vifi["tower.cls_token"][0, 0], small["class_embedding"])
    name = "transformer.resblocks.1.attn.in_proj_weight"
    assert np.array_equal(vifi["tower.blocks.1.attn.qkv.weight"], small[name])


def test_files_that_do_not_belong_here(small: dict[str, Tensor], tmp_path: Path) -> None:
    openai = {name: value.numpy() for name, value in openai_layout(small).items()}
    with pytest.raises(LayoutError, match=r"it has no arrays image_encoder\.\*"):
        from_vifi_clip(openai)
    with pytest.raises(LayoutError, match=r"it has no arrays visual\.\*"):
        from_openai({"text_projection": openai["text_projection"]})
    with pytest.raises(LayoutError, match=r"'visual\.layer1\.0"):  # a CLIP ResNet
        from_openai({**openai, "visual.layer1.0.conv1.weight": openai["logit_scale"]})
    prompt = {"module.image_encoder.transformer.resblocks.1.VPT_shallow": torch.rand(8, 16)}
    path = write_vifi_clip(tmp_path / "prompts.pth", small, **prompt)
    with pytest.raises(WeightsError, match=r"visual prompts .*VPT_shallow"):
        resolve(CARDS, str(path))


def test_another_size_or_a_missing_array_is_refused(
    small: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = resolve(CARDS, str(write_openai(tmp_path / "small.pt", small)))
    with pytest.raises(WeightsError, match=r"lacks tower\.blocks\.10"):
        extractor(weights).load(Runtime(batch_size=8))
    whole = {name: torch.empty(1) for name in shapes()}
    whole["positional_embedding"] = torch.zeros(577, 768)  # of 384 x 384: nothing is interpolated
    path = tmp_path / "large.pt"
    torch.save({f"visual.{name}": value for name, value in whole.items()}, path)
    with pytest.raises(WeightsError, match=r"pos_embed is \(1, 577, 768\)"):
        extractor(resolve(CARDS, str(path))).load(Runtime(batch_size=8))


# ----------------------------------------------------------------------------------- hostile


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_code_in_a_checkpoint_is_never_run(small: dict[str, Tensor], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for evil in (Call(os.system, f"touch {marker}"), CfgNode({"a": Call(Path.touch, marker)})):
        path = write_vifi_clip(tmp_path / "evil.pth", small, **{"module.evil": evil})
        with pytest.raises(WeightsError, match="cannot read weights"):
            resolve(CARDS, f"{VIFI.name}={path}")
        assert not marker.exists()


def test_a_tampered_file_is_refused_by_its_hash(
    small: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(tmp_path))
    write_openai(tmp_path / OPENAI.file, small)
    with pytest.raises(WeightsError, match=f"the card says {OPENAI.sha256}"):
        resolve(CARDS, OPENAI.name)


def test_cards() -> None:
    assert OPENAI.sha256 is not None and OPENAI.sha256 in OPENAI.sources[0].url  # type: ignore[union-attr]
    for card, mean, std in [
        (VIFI, IMAGENET_MEAN, IMAGENET_STD),
        (BY_NAME["vifi_clip.k400_zero_shot"], IMAGENET_MEAN, IMAGENET_STD),
        (OPENAI, CLIP_MEAN, CLIP_STD),
    ]:
        np.testing.assert_allclose(np.array(card.mean) / 255, mean, rtol=1e-12)
        np.testing.assert_allclose(np.array(card.std) / 255, std, rtol=1e-12)
    assert CARDS[0] is VIFI  # what Rai et al. use
    with pytest.raises(WeightsError, match=r"vadpipe weights fetch vifi_clip\.k400"):
        resolve(CARDS, None)


# ------------------------------------------------------------------------------------ pixels


def pillow(frame: NDArray[np.uint8], size: tuple[int, int], how: Any) -> NDArray[np.int64]:
    picture = Image.fromarray(frame).resize(size[::-1], how)
    return np.asarray(picture).astype(np.int64)


@pytest.mark.parametrize("size", [(480, 856), (240, 360), (720, 405), (224, 224)])
@pytest.mark.parametrize(
    ("card", "side", "how", "levels"),
    [(VIFI, 256, Image.BILINEAR, 1), (OPENAI, 224, Image.BICUBIC, 2)],
)
def test_pixels_are_those_of_pillow(
    card: Any, side: int, how: Any, levels: int, size: tuple[int, int]
) -> None:
    frame = frames(1, *size)[0]
    weights = ResolvedWeights(card, "random:0", None)
    found = extractor(weights).pixels([torch.from_numpy(frame[None])])[0]
    assert found.shape == (1, 224, 224, 3) and found.dtype == torch.uint8
    height, width = (side * length // min(size) for length in size)
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = pillow(frame, (height, width), how)[top : top + 224, left : left + 224]
    assert np.abs(found[0].numpy() - expected).max() <= levels

    squashed = extractor(weights, mode="squash").pixels([torch.from_numpy(frame[None])])[0]
    expected = pillow(frame, (224, 224), how)
    assert np.abs(squashed[0].numpy() - expected).max() <= levels


def test_via_forgets_the_resolution() -> None:
    """A frame and its copy of 256 x 256, as in-painted ones are, become the same pixels."""
    frame = torch.from_numpy(frames(1, 480, 856))
    made = extractor(**ViFiClipFeatures.presets["pseudo_anomaly"])
    plain = extractor(mode="squash")
    copy = torch.nn.functional.interpolate(
        frame.permute(0, 3, 1, 2), (256, 256), mode="bilinear", antialias=True
    )
    copy = copy.permute(0, 2, 3, 1)
    assert torch.equal(made.pixels([frame]), made.pixels([copy]))
    assert torch.equal(made.pixels([frame]), plain.pixels([copy]))
    assert not torch.equal(made.pixels([frame]), plain.pixels([frame]))


# --------------------------------------------------------------------------------- extractor


def test_a_row_is_the_network_on_normalised_pixels(loaded: ViFiClipFeatures) -> None:
    (frame,) = frames(1, 240, 360)
    values = loaded.pixels([torch.from_numpy(frame[None])])[0, 0].numpy() / 255.0  # (224, 224, 3)
    values = (values - IMAGENET_MEAN) / IMAGENET_STD
    with torch.device("meta"):
        network = ClipTower().eval()
    tensors = load_tensors(RANDOM, network.state_dict())
    network.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, assign=True)
    image = torch.from_numpy(values).float().permute(2, 0, 1)
    with torch.inference_mode():
        expected = network(image[None, :, None]).numpy()
    found = arrays_of(loaded, [clip(frame)])["features"]
    assert np.abs(found - expected).max() < 1e-4 * np.sqrt((expected**2).mean())


def test_rows_know_nothing_of_their_neighbours(loaded: ViFiClipFeatures) -> None:
    clips = [clip(frame) for frame in frames(3, 240, 360)]
    whole = np.asarray(arrays_of(loaded, clips)["features"])
    assert whole.shape == (3, 512) and whole.dtype == np.float32
    scale = np.sqrt((whole**2).mean())
    assert np.abs(whole[:1] - whole[1:]).max(axis=1).min() > 0.1 * scale
    order = [2, 0, 1]
    shuffled = arrays_of(loaded, [clips[i] for i in order])["features"]
    assert np.abs(shuffled - whole[order]).max() < 1e-5 * scale
    single = np.concatenate([np.asarray(arrays_of(loaded, [one])["features"]) for one in clips])
    assert np.abs(single - whole).max() < 1e-5 * scale


def test_l2_scales_and_does_nothing_else(loaded: ViFiClipFeatures) -> None:
    clips = [clip(frame) for frame in frames(2, 240, 360)]
    raw = np.asarray(arrays_of(loaded, clips)["features"])
    made = extractor(normalise="l2")
    made._loaded, made._place = loaded._loaded, loaded._place
    unit = np.asarray(arrays_of(made, clips)["features"])
    assert np.linalg.norm(raw, axis=1).min() > 2
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


def test_bf16_agrees_with_fp32(loaded: ViFiClipFeatures) -> None:
    clips = [clip(frame) for frame in frames(4, 240, 360)]
    made = extractor(precision="bf16")
    made.load(Runtime(batch_size=8))
    found = np.asarray(arrays_of(made, clips)["features"])
    expected = np.asarray(arrays_of(loaded, clips)["features"])
    assert found.dtype == np.float32
    assert cosine(found, expected).min() > 0.9998  # measured: 0.9999
    assert not np.array_equal(found, expected)


def test_frames_and_roles() -> None:
    (array,) = extractor(stride=4).arrays
    assert (array.role, array.dims, array.shape) == ("frame", ("frame", "feature"), (512,))
    assert array.dtype == "float16"
    rule = extractor(stride=4).clip_rule
    assert (rule.length, rule.stride, rule.before, rule.after) == (1, 4, 0, 0)
    assert extractor().clip_rule == ClipRule(1, 1)


def test_recipe_names_what_the_card_decides() -> None:
    vifi = extractor().recipe()
    openai = extractor(replace(RANDOM, card=OPENAI)).recipe()
    assert vifi["pixels"]["short_side"] == 256 and openai["pixels"]["short_side"] == 224
    assert "bicubic" in openai["pixels"]["resize"]
    assert vifi["pixels"]["mean"] != openai["pixels"]["mean"]


def test_load_comes_first() -> None:
    with pytest.raises(ExtractorError, match="call load"):
        extractor().extract([clip(frames(1, 240, 360)[0])])
