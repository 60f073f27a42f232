"""Perturbations: equal for equal seed, content and frame, and different for others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vadpipe.extractors.clips import Clip, ClipAssembler, ClipRule, Span
from vadpipe.extractors.footage.video import Frame
from vadpipe.extractors.perturbation import Perturbation

SIZE = (8, 12)
RULE = ClipRule(4, 4, "loop", 1, 2)
KINDS = ("noise", "patch_mix", "skip_frames")


def clips_of(rule: ClipRule, n: int = 60) -> list[Clip]:
    """All clips of n frames; every frame is all one number, in three shades."""
    assembler, found = ClipAssembler(rule, Span("x", 0, n, True)), []
    for i in range(n):
        image = np.arange(i, i + SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3).astype(np.uint8)
        found += assembler.push(Frame(i, i / 25, image))
    return found + assembler.finish()


def perturbed(kind: Any, content: str = "a", **settings: Any) -> list[Clip]:
    chosen = Perturbation(kind=kind, **settings)
    return [chosen.apply(clip, content, RULE) for clip in clips_of(chosen.widened(RULE))]


def same(a: list[Clip], b: list[Clip]) -> bool:
    return all(np.array_equal(x.frames, y.frames) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_content_decide(kind: str) -> None:
    first = perturbed(kind)
    assert same(first, perturbed(kind))
    assert not same(first, perturbed(kind, seed=1))
    assert not same(first, perturbed(kind, "b"))
    assert not same(first, clips_of(RULE))


@pytest.mark.parametrize("kind", KINDS)
def test_clips_keep_their_places_and_shape(kind: str) -> None:
    for clip, plain in zip(perturbed(kind), clips_of(RULE), strict=True):
        assert (clip.frame_start, clip.frame_stop) == (plain.frame_start, plain.frame_stop)
        assert clip.frames.shape == plain.frames.shape and clip.frames.dtype == np.uint8
        assert len(clip.index) == len(clip.pts) == len(clip.frames)
        assert clip.index[RULE.before] == clip.frame_start


@pytest.mark.parametrize("kind", ["noise", "patch_mix"])
def test_a_frame_is_the_same_in_every_clip(kind: str) -> None:
    seen: dict[int, np.ndarray] = {}
    for clip in perturbed(kind):
        for index, frame in zip(clip.index.tolist(), clip.frames, strict=True):
            assert np.array_equal(seen.setdefault(index, frame), frame)


def test_noise_stays_within_its_strength() -> None:
    plain, noisy = (
        np.concatenate([c.frames.astype(int) for c in clips])
        for clips in (clips_of(RULE), perturbed("noise", strength=0.1))
    )
    change = noisy - plain
    assert 20 < np.abs(change).max() <= 26
    assert abs(change[(plain > 30) & (plain < 225)].mean()) < 1, "it has no bias"


def test_a_patch_is_half_itself_and_half_another_one() -> None:
    plain, mixed = clips_of(RULE)[3].frames[2], perturbed("patch_mix", strength=0.5)[3].frames[2]
    rows, columns = np.nonzero((plain != mixed).any(2))
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = mixed[box].shape[:2]
    assert height <= SIZE[0] // 2 and width <= SIZE[1] // 2
    halves = (
        (plain[box].astype(int) + plain[y : y + height, x : x + width] + 1) // 2
        for y in range(SIZE[0] - height + 1)
        for x in range(SIZE[1] - width + 1)
    )
    assert any(np.array_equal(half, mixed[box]) for half in halves)


def test_skipped_frames_are_real_ones_at_an_even_pace() -> None:
    paces = set()
    for clip in perturbed("skip_frames", strength=3)[1:-4]:
        (pace,) = set(np.diff(clip.index).tolist())
        paces.add(pace)
        assert np.array_equal(clip.frames[:, 0, 0, 0], clip.index.astype(np.uint8))
    assert paces == {2, 3}


def test_the_stream_is_the_same_in_every_version_of_numpy() -> None:
    """Feature sets are kept for years: these numbers must never change."""
    clip = perturbed("noise", "s1-x", seed=7)[12]
    assert clip.frames[0, 0, :2].tolist() == [[38, 72, 54], [64, 39, 39]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "noise", "strength": 0}, "strength in"),
        ({"kind": "patch_mix", "strength": 1.5}, "strength in"),
        ({"kind": "skip_frames", "strength": 1}, "whole strength from 2"),
        ({"kind": "skip_frames", "strength": 2.5}, "whole strength from 2"),
        ({"kind": "blur"}, "patch_mix"),
        ({}, "kind"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Perturbation.model_validate(settings)


def test_defaults_are_written_out() -> None:
    """The key states the strength, so that another default cannot change old features."""
    assert Perturbation(kind="noise").model_dump(mode="json") == {
        "kind": "noise",
        "strength": 0.1,
        "seed": 0,
    }
