"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.needed import absent, fetched
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.weights.cards import BYTES, Converter

REPOSITORY = Path(__file__).resolve().parent.parent

# On a busy machine an example has no deadline, and may take long to draw.
settings.register_profile(
    "busy",
    max_examples=100 if os.environ.get("VADPIPE_SOAK") == "1" else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("busy")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared material: footage, labels and golden numbers that are not part of the project."""
    path = Path(os.environ.get("VADPIPE_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (path / "golden").is_dir():
        absent(f"shared material is absent: {path} (set VADPIPE_TEST_DATA)")
    return path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The synthetic data set, tiny; the tests must not change its files."""
    root = tmp_path_factory.mktemp("scene") / "scene"
    write_tiny_scene(root)
    return synthetic.build(root)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch: sums come out the same, and test processes do not share cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def real_weights() -> str:
    """The name of the real I3D weights; they have to be fetched first (`make test` does)."""
    from vadpipe.extractors.networks.inception_i3d import CARDS

    fetched(CARDS)
    return CARDS[0].name


@pytest.fixture(scope="session", autouse=True)
def own_batch_sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests try out is not what this machine should remember, and they try few sizes."""
    from vadpipe.extractors.device import inference, micro_batch
    from vadpipe.extractors.device.micro_batch import MicroBatches

    sizes = MicroBatches(tmp_path_factory.mktemp("tuning") / "tuning.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "shared_sizes", lambda _: sizes)
        patch.setattr(micro_batch, "LONG_SECONDS", 0.05)
        yield


@pytest.fixture(autouse=True)
def weights_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the process of `guarded_read`, which takes a second and has its own tests."""
    from vadpipe.extractors.weights import kept

    monkeypatch.setattr(kept, "guarded_arrays", read_here)


def read_here(path: Path, folder: Path, convert: Converter | None = None) -> dict[str, Any]:
    """`guarded_arrays` in this process."""
    from vadpipe.extractors.weights.read import read_arrays

    if convert is None:
        return read_arrays(path)
    return convert({BYTES: np.fromfile(path, np.uint8)})
