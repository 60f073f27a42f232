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

from vadpipe.extractors.inception_i3d import InceptionI3d
from vadpipe.extractors.inference import prepare

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
