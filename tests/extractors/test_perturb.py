"""Spatial pseudo-anomalies: seeds, places, shapes of objects, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.random_weights import random_weights
from tests.rows import arrays_of
from vadpipe.extractors import perturb
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.draws import Draws
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.frames import Frames, FramesConfig
from vadpipe.extractors.inpainting.contract import InPainter, InPaintingError
from vadpipe.extractors.inpainting.masks import random_mask
from vadpipe.extractors.perturb import Perturb, PerturbConfig
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.store.keys import key_of

SIZE = (32, 48)


def clips(n: int = 6, content: str = "a", reach: int = 0) -> list[Clip]:
    """A bright square of 12 pixels that moves over a dark noisy ground of 40 x 60, and is gone."""
    random = np.random.default_rng(0)
    ground = random.integers(20, 60, (40, 60, 3), dtype=np.uint8)
    frames = np.repeat(ground[None], n, 0)
    for i, frame in enumerate(frames[:6]):
        frame[14:26, 2 + 4 * i : 14 + 4 * i] = 220
    found = []
    for i in range(n):
        index = np.clip(np.arange(i - reach, i + reach + 1), 0, n - 1)
        found.append(Clip(frames[index], index, index / 25, i, i + 1, 0, "/v.mp4", content))
    return found


def made(**settings: Any) -> Perturb:
    config = {"inpainter": "patch_mix", "size": SIZE, "keep_mask": True} | settings
    extractor = Perturb(PerturbConfig.model_validate(config))
    extractor.load(Runtime(threads=1))
    return extractor


def arrays(content: str = "a", n: int = 6, **settings: Any) -> dict[str, Any]:
    extractor = made(**settings)
    return arrays_of(extractor, clips(n, content, extractor.clip_rule.before))


def test_pixels_outside_of_the_mask_are_those_of_the_extractor_frames() -> None:
    """One way for both classes: a network must not tell them apart by how they were resized."""
    found = arrays()
    plain = arrays_of(Frames(FramesConfig(size=SIZE)), clips())["frames"]
    outside = found["mask"] == 0
    assert np.array_equal(found["perturbed"][outside], plain[outside])
    assert (found["perturbed"][~outside] != plain[~outside]).any()
    assert (outside.mean((1, 2)) >= 0.5).all() and not outside.all(axis=(1, 2)).any()


def test_a_mask_depends_on_seed_content_and_frame() -> None:
    masks = arrays()["mask"].astype(bool)
    assert np.array_equal(masks[3], random_mask(Draws("mask", 0, "a", 3), *SIZE))
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    for other in (arrays(seed=1), arrays("b")):
        assert not any(np.array_equal(a, b) for a, b in zip(masks, other["mask"], strict=True))
    held = arrays(hold=3)["mask"]
    assert np.array_equal(held[0], held[2]) and np.array_equal(held[3], held[5])
    assert not np.array_equal(held[2], held[3])


def test_batches_change_nothing() -> None:
    whole, extractor = arrays(), made()
    for i, clip in enumerate(clips()):
        alone = arrays_of(extractor, [clip])
        assert all(np.array_equal(alone[name][0], whole[name][i]) for name in whole)


def test_shapes_of_objects_are_moved_and_others_are_random() -> None:
    found, usual = arrays(n=12, shapes="motion", least_mask=0.0), arrays(n=12)
    shaped = found["shaped"].astype(bool)
    assert shaped[:6].sum() >= 3 and not shaped[8:].any(), "the square is gone"
    areas = found["mask"][shaped].sum((1, 2))
    assert (areas > 20).all() and (areas < 300).all(), "about 12 x 12 of 40 x 60, at 32 x 48"
    assert np.array_equal(found["mask"][~shaped], usual["mask"][~shaped])
    random = arrays(n=12, shapes="motion", least_mask=0.4)  # no object is so large
    assert set(random["shaped"].tolist()) == {0}
    assert np.array_equal(random["mask"], usual["mask"])


def test_shapes_do_not_lie_on_their_object() -> None:
    found, plain = (
        arrays(shapes="motion", least_mask=0.0),
        arrays_of(Frames(FramesConfig(size=SIZE)), clips()),
    )
    bright = plain["frames"].mean(3) > 150
    assert ((found["mask"] > 0) & bright).sum() < 0.55 * (found["mask"] > 0).sum()


def test_the_key_names_all_that_decides() -> None:
    def key(**settings: Any) -> str:
        return key_of(made(**settings).recipe())

    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"inpainter": "telea"},
        {"hold": 2},
        {"random_masks": "class_default"},
        {"shapes": "motion"},
        {"shapes": "motion", "least_mask": 0.1},
    ]
    assert len({key(), *(key(**change) for change in changes)}) == len(changes) + 1
    assert made(shapes="motion").recipe()["shapes"]["config"]["motion_reach"] == 25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inpainter": "latent_diffusion", "size": (64, 80)}, "multiples of 32"),
        ({"inpainter": "telea", "size": (8, 80)}, "sizes from 16 on, not"),
        ({"inpainter": "lama"}, "inpainter"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PerturbConfig.model_validate(settings)


def test_slots_are_those_of_the_settings() -> None:
    def slots(**settings: Any) -> set[str]:
        return set(Perturb.networks_for(PerturbConfig.model_validate(settings)))

    assert slots() == {"inpainter"}
    assert slots(shapes="maskrcnn") == {"inpainter", "shapes"}
    assert slots(inpainter="telea", shapes="motion") == set()
    with pytest.raises(ExtractorError, match="takes no weights"):
        resolve_extractor("perturb:telea", weights="random:0")


def test_work_is_that_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perturb.latent_inpainting, "flops", lambda *asked: 1000.0 * asked[2])
    assert made().flops(40, 60) == 0
    spec = resolve_extractor("perturb", {"steps": 7}, weights="random:0", precision="fp32")
    assert spec.make().flops(40, 60) == 7000
    alone = resolve_extractor("perturb", {"inpainter": "autoencoder"}, weights="random:0")
    assert alone.make().flops(40, 60) == 0, "no steps"


def test_a_video_of_one_frame_is_perturbed() -> None:
    extractor = made(shapes="motion", least_mask=0.0)
    found = arrays_of(extractor, clips(1, reach=extractor.clip_rule.before))
    assert found["shaped"].tolist() == [0], "nothing moves"
    assert 0 < found["mask"].mean() <= 0.5


class Narrow(InPainter):
    def load(self, runtime: Runtime) -> None: ...

    def fill(self, frames: np.ndarray, masks: object, draws: object) -> np.ndarray:
        return frames[:, :, 1:]


def test_an_inpainter_that_returns_another_size_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = replace(perturb.CHOICES["telea"], build=lambda weights, steps: Narrow())
    monkeypatch.setitem(perturb.CHOICES, "telea", choice)
    with pytest.raises(InPaintingError, match="Narrow returned"):
        arrays(inpainter="telea")


def test_a_missing_extra_is_told_when_the_network_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    spec = resolve_extractor("perturb", weights="random:0", precision="fp32")
    with pytest.raises(ExtractorError, match="pip install"):
        spec.make().load(Runtime(threads=1))


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({"inpainter": "telea"}, "cpu"),
        ({"inpainter": "telea", "shapes": "motion"}, "cpu"),
        ({"inpainter": "telea", "shapes": "maskrcnn"}, "cuda:0"),
        ({"inpainter": "latent_diffusion"}, "cuda:0"),
    ],
)
def test_the_device_that_networks_compute_on(settings: dict[str, Any], device: str) -> None:
    weights = random_weights("perturb", settings) or None
    made = resolve_extractor("perturb", settings, weights=weights).make()
    assert made.computed_on("cuda:0") == {device}
