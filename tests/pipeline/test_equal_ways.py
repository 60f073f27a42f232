"""Normal and perturbed frames take one way: through the store, and through feature extractors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.chain import run_chain
from tests.random_weights import random_weights
from vadpipe.extractors import perturb
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.detection.runs import decode_masks
from vadpipe.extractors.draws import Draws
from vadpipe.extractors.footage.decode import FrameReader
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading
from vadpipe.extractors.inpainting.contract import InPainter
from vadpipe.extractors.inpainting.masks import (
    ShapeLimits,
    moved_shape,
    random_mask,
    resized_mask,
)
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from vadpipe.pipeline.store.feature_store import FeatureStore

FOOTAGE = (40, 60)  # of the decoded frames
SIZE = (32, 48)
CONTENT = "s1-" + "cd" * 20

pytestmark = pytest.mark.usefixtures("one_thread")


class Untouched(InPainter):
    """Fills every mask with what the picture shows there."""

    def load(self, runtime: Runtime) -> None: ...

    def fill(
        self, frames: NDArray[np.uint8], masks: NDArray[np.bool_], draws: Sequence[Draws]
    ) -> NDArray[np.uint8]:
        assert masks.any(axis=(1, 2)).all(), "every picture has something to fill"
        return frames.copy()


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = replace(perturb.CHOICES["telea"], build=lambda weights, steps: Untouched())
    monkeypatch.setitem(perturb.CHOICES, "telea", choice)


def footage(n: int) -> tuple[ProbeRow, Any]:
    """A video of a bright square that moves over noise for 6 frames, and its decoder."""
    random = np.random.default_rng(0)
    frames = np.repeat(random.integers(20, 60, (1, *FOOTAGE, 3), dtype=np.uint8), n, 0)
    for i, frame in enumerate(frames[:6]):
        frame[14:26, 2 + 4 * i : 14 + 4 * i] = 220

    def reader(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        shown = (Frame(i, i / 25, frames[i], False) for i in range(start, n))
        return FrameReader(row, shown, Reading())

    row = ProbeRow(
        "/drawn.mp4", CONTENT, "video", n, False, 25.0, *FOOTAGE, 0, n / 25, "h264", "mov"
    )
    return row, reader


def spec(name: str, source: ExtractorSpec | None = None, **settings: Any) -> ExtractorSpec:
    store = None if source is None else stores_of([source], Path("cache"))[0]
    weights = random_weights(name, settings) or None
    return resolve_extractor(name, settings, weights=weights, source=store, precision="fp32")


def arrays(store: FeatureStore) -> dict[str, NDArray[Any]]:
    return {name: values[:] for name, values in store.read(CONTENT).arrays.items()}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("name", "settings", "frames"),
    [
        ("inception_i3d", {"clip_length": 8, "stride": 8, "resize": (64, 64)}, 8),
        ("vifi_clip:squash", {}, 2),
    ],
)
def test_frames_that_nothing_was_painted_into_have_the_features_of_frames(
    name: str, settings: dict[str, Any], frames: int, tmp_path: Path
) -> None:
    """Resizing, storing and reading back leave no trace that tells the classes apart."""
    row, reader = footage(frames)
    normal = spec("frames", size=SIZE)
    odd = spec("perturb:telea", normal, size=SIZE, seed=3)
    direct = spec("perturb:telea", size=SIZE, seed=3)  # of footage
    chain = [normal, direct, odd, spec(name, normal, **settings), spec(name, odd, **settings)]
    stores = [run_chain(tmp_path, row, [each], 5, reader)[0] for each in chain]
    pictures, painted_of_footage, painted, ours, theirs = (arrays(each) for each in stores)
    assert np.array_equal(pictures["frames"], painted["perturbed"])
    assert np.array_equal(pictures["frames"], painted_of_footage["perturbed"])
    assert ours.keys() == theirs.keys()
    for array, values in ours.items():
        assert values.dtype == theirs[array].dtype
        assert np.isfinite(values).all() and np.ptp(values) > 0
        assert np.array_equal(values, theirs[array]), array


def test_shapes_are_those_that_a_stored_set_of_objects_has(tmp_path: Path) -> None:
    """`perturb` finds objects itself; the masks are those of `objects` on the same pictures."""
    n, limits = 12, ShapeLimits(least_mask=0.0)
    row, reader = footage(n)
    normal = spec("frames", size=SIZE)
    objects = spec("objects", normal, **perturb.SHAPE_MAKERS["motion"])
    settings = {"size": SIZE, "shapes": "motion", "least_mask": 0.0, "keep_mask": True, "seed": 5}
    odd = spec("perturb:telea", normal, **settings)
    run_chain(tmp_path, row, [normal], 5, reader)
    found, painted = run_chain(tmp_path, row, [objects, odd], 5)
    stored, masks = arrays(found), arrays(painted)
    runs_at = found.read(CONTENT).times["run"].frame_start
    for i in range(n):
        runs = stored["mask_runs"][runs_at == i]
        shapes = decode_masks(runs, int(stored["objects"][i]), *SIZE)
        draws = Draws("shape", 5, CONTENT, i)
        moved = moved_shape(resized_mask(shapes, *SIZE), draws, limits)
        assert bool(masks["shaped"][i]) == (moved is not None)
        expected = random_mask(Draws("mask", 5, CONTENT, i), *SIZE) if moved is None else moved
        assert np.array_equal(masks["mask"][i] > 0, expected)
    assert 3 <= masks["shaped"].sum() < n, "pictures with a shape, and pictures without"
