"""The way of frames to features, with and without what perturbs them."""

from __future__ import annotations

from typing import Any

import pytest

from vadpipe.pipeline.store.recipes import way_of


def frames(side: int, **config: Any) -> dict[str, Any]:
    return {"extractor": "frames", "config": {"size": [side, side], **config}}


def perturb(side: int, source: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"extractor": "perturb", "config": {"size": [side, side], "seed": 3}}
    return made if source is None else {**made, "source": source}


def clip(source: Any = None, weights: str = "w", **config: Any) -> dict[str, Any]:
    made = {"extractor": "vifi_clip", "config": config, "weights": weights, "precision": "fp32"}
    return made if source is None else {**made, "source": source}


@pytest.mark.parametrize(
    ("normal", "perturbed"),
    [
        (frames(64), perturb(64)),
        (frames(64), perturb(64, frames(64))),
        (frames(64, stride=2), perturb(64)),
        (perturb(64), perturb(64, frames(64))),  # traces of a network in both
        (clip(frames(64)), clip(perturb(64, frames(64)))),
        (
            clip(frames(64, interpolation="area")),
            clip(perturb(64, frames(64, interpolation="area"))),
        ),
        (clip(via=[64, 64]), clip(perturb(64), via=[64, 64])),
        (clip(), {**clip(), "perturb": {"kind": "noise"}}),
    ],
)
def test_one_way_for_both_classes(normal: dict[str, Any], perturbed: dict[str, Any]) -> None:
    assert way_of(normal) == way_of(perturbed)


@pytest.mark.parametrize(
    ("normal", "perturbed"),
    [
        (frames(64), perturb(32)),
        (frames(64), perturb(64, frames(32))),  # small pictures, enlarged
        (frames(64, interpolation="area"), perturb(64)),
        (clip(), clip(perturb(64))),  # only one of them was resized first
        (clip(frames(64)), clip(perturb(64), weights="others")),
        (clip(frames(64)), clip(perturb(64), mode="squash")),
    ],
)
def test_another_way(normal: dict[str, Any], perturbed: dict[str, Any]) -> None:
    assert way_of(normal) != way_of(perturbed)
