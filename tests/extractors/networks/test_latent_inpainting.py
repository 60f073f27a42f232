"""Latent diffusion: CompVis's names and shapes at the published size, its numbers at a tiny one."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.extractors.networks.compvis import Checkpoint
from vadpipe.extractors.networks.latent_inpainting import (
    CARDS,
    PUBLISHED,
    LatentInpainting,
    Layout,
    MissingExtra,
    flops,
    from_compvis,
)
from vadpipe.extractors.weights.cards import LayoutError
from vadpipe.extractors.weights.read import read_arrays

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Layout(16, (1, 2), 1, 2, 8, (1, 2), 16, 8)


@cache
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(TINY).eval()


def arrays_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def loaded(arrays: dict[str, np.ndarray]) -> LatentInpainting:
    network = LatentInpainting(TINY).eval()
    network.load_state_dict({n: torch.from_numpy(a) for n, a in from_compvis(arrays, TINY).items()})
    return network


def test_names_and_shapes_at_the_published_size() -> None:
    """On the meta device: a file of this size has 1.7 GB of weights."""
    with torch.device("meta"):
        theirs, ours = Checkpoint(PUBLISHED), LatentInpainting()
    file = {
        f"state_dict/{name}": np.broadcast_to(np.int8(0), tuple(value.shape))
        for name, value in theirs.state_dict().items()
    }
    assert file["state_dict/model.diffusion_model.output_blocks.2.2.in_layers.2.weight"].shape == (
        *(1024, 1024),
        *(3, 3),
    )
    found = {name: array.shape for name, array in from_compvis(file).items()}
    assert found == {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    numbers = sum(int(np.prod(shape)) for name, shape in found.items() if name[:5] == "unet.")
    assert 380e6 < numbers < 400e6, "387 million weights, as published"


def test_a_picture_is_that_of_the_reference() -> None:
    torch.manual_seed(1)
    pictures, noise = torch.rand(2, 3, 16, 24), torch.randn(2, 3, 8, 12)
    masks = (torch.rand(2, 1, 16, 24) < 0.4).float()
    with torch.no_grad():
        wanted = checkpoint().paint(pictures, masks, noise, 5)
        found = loaded(arrays_of(checkpoint()))(pictures, masks, noise, 5)
    assert wanted.std() > 0.05
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_autoencoder_alone_is_that_of_the_reference() -> None:
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    codes = checkpoint().first_stage_model
    with torch.no_grad():
        wanted = ((codes.decode(codes.encode(pictures * 2 - 1)) + 1) / 2).clamp(0, 1)
        found = loaded(arrays_of(checkpoint())).reconstruct(pictures)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_averaged_weights_come_first() -> None:
    plain = arrays_of(checkpoint())
    means = {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": array * 0.5
        for name, array in plain.items()
        if name.startswith("model.")
    }
    extra = {
        **{
            "betas": np.linspace(0.0015**0.5, 0.0205**0.5, 1000) ** 2,
            "model_ema.decay": np.ones(()),
        },
        **{
            f"cond_stage_model.{n}": a for n, a in arrays_of(checkpoint().first_stage_model).items()
        },
    }
    whole = plain | means | extra
    found = from_compvis(whole, TINY)
    usual = from_compvis(plain, TINY)
    assert found.keys() == usual.keys()
    for name, array in found.items():
        assert np.array_equal(array, usual[name] * (0.5 if name.startswith("unet.") else 1.0))
    del means[next(iter(means))]
    with pytest.raises(LayoutError, match="averaged weights, but none of"):
        from_compvis(plain | means, TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_stage_model.encoder.mid.attn_1.q.weight": np.ones((3, 3))}, "1 arrays that"),
        ({"betas": np.linspace(0.001, 0.02, 1000)}, "schedule of noise"),
        ({"betas": np.ones(10)}, "schedule of noise"),
    ],
)
def test_other_files_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        from_compvis(arrays_of(checkpoint()) | change, TINY)
    with pytest.raises(LayoutError, match="no latent diffusion"):
        from_compvis({"conv.weight": np.ones(3)}, TINY)


class ModelCheckpoint:
    """Stands for the class of Lightning by this name, which is a key in its files."""


def test_a_lightning_file_is_read_without_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ModelCheckpoint, "__module__", "pytorch_lightning.callbacks.model_checkpoint"
    )
    module = type(sys)("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "last.ckpt"
    tree = {
        "epoch": 3,
        "state_dict": checkpoint().state_dict(),
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.ones(1), "dirpath": "/x"}},
        "optimizer_states": [],
    }
    torch.save(tree, path)
    monkeypatch.undo()
    found = from_compvis(read_arrays(path), TINY)
    assert np.array_equal(
        found["vq.encoder.conv_in.weight"],
        checkpoint().first_stage_model.encoder.conv_in.weight.detach().numpy(),
    )


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vadpipe\[diffusion\]'.*inpainter=telea"):
        LatentInpainting(TINY)


def test_work_is_counted_for_each_step() -> None:
    one, two, more = (flops(32, 64, steps, TINY) for steps in (1, 2, 12))
    assert 0 < two - one < one, "the autoencoder is counted once"
    assert more - two == pytest.approx(10 * (two - one))


def test_the_card_can_be_resolved() -> None:
    (card,) = CARDS
    assert card.sha256 is None and card.name.startswith("latent_diffusion.")
    assert PUBLISHED.shrink == 4 and PUBLISHED.multiple == 32
