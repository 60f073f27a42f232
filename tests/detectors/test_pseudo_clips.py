from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.bags import ArrayRows
from vadpipe.detectors.base import DetectorError, FitOptions
from vadpipe.detectors.flow_mixup import FlowMixup
from vadpipe.detectors.pseudo_clips import FlowClips, FrameClips, SpatialKind
from vadpipe.detectors.row_memory import RowMemory

LENGTH = 4
PATCHES = FlowMixup(least=2, jitter=1)


def numbered(counts: Sequence[int] = (30, 7), shift: int = 0) -> list[np.ndarray]:
    """Frames whose value is 100 times the video plus the frame."""
    return [
        np.full((n, 6, 8, 3), 1, np.uint8)
        * (np.arange(n) + 100 * v + shift).astype(np.uint8)[:, None, None, None]
        for v, n in enumerate(counts)
    ]


def memory(arrays: Sequence[np.ndarray], role: str = "pixels", **options: Any) -> RowMemory:
    return RowMemory(ArrayRows(arrays, role=role), options=FitOptions(**options), threads=1)


def frame_clips(
    kinds: tuple[SpatialKind, ...], share: float = 1.0, counts: Sequence[int] = (30, 7)
) -> FrameClips:
    twin = memory(numbered(counts, shift=50), "perturbed_pixels") if "perturbed" in kinds else None
    return FrameClips(
        *(memory(numbered(counts)), LENGTH, share, 3),
        kinds=kinds,
        twin=twin,
        patches=PATCHES,
        channels=3,
    )


def test_the_target_is_always_the_normal_clip_and_the_share_is_kept() -> None:
    clips = frame_clips(("perturbed",), share=0.4)
    pseudo = []
    for turn in range(60):
        batch = clips.draw(4, turn)
        assert torch.equal(batch.normal, clips.windows.read(clips.windows.draw(4, turn)))
        for i in range(4):
            expected = batch.normal[i] + 50 if batch.pseudo[i] else batch.normal[i]
            assert torch.equal(batch.input[i], expected)
        pseudo += batch.pseudo.tolist()
    assert np.mean(pseudo) == pytest.approx(0.4, abs=0.08)
    again = clips.draw(4, 59)
    assert torch.equal(again.input, batch.input) and again.pseudo.tolist() == pseudo[-4:]


def test_swapped_classes_swap_the_pictures_and_nothing_else() -> None:
    """Which windows are drawn, and which are replaced, does not depend on what is in them."""
    arrays, odd = numbered(), numbered(shift=50)
    batches = []
    for normal, twin in ((arrays, odd), (odd, arrays)):
        clips = FrameClips(
            *(memory(normal), LENGTH, 0.5, 3),
            kinds=("perturbed",),
            twin=memory(twin, "perturbed_pixels"),
            patches=PATCHES,
            channels=3,
        )
        batches.append([clips.draw(4, turn) for turn in range(10)])
    replaced = 0
    for ours, theirs in zip(*batches, strict=True):
        assert np.array_equal(ours.pseudo, theirs.pseudo)
        assert torch.equal(ours.normal + 50, theirs.normal)
        turned = torch.from_numpy(np.where(ours.pseudo, -50, 50))[:, None, None, None, None]
        assert torch.equal(ours.input.int() + turned, theirs.input.int())
        replaced += int(ours.pseudo.sum())
    assert 0 < replaced < 40, "both cases are there"


def test_without_a_share_nothing_is_replaced() -> None:
    clips = frame_clips(("patch", "skip_frames"), share=0.0)
    for turn in range(8):
        batch = clips.draw(3, turn)
        assert batch.others is None and torch.equal(batch.mixed(), batch.normal)


def test_skipped_frames_start_with_the_clip_and_stay_in_the_video() -> None:
    clips = frame_clips(("skip_frames",))
    steps = set()
    for turn in range(40):
        batch = clips.draw(4, turn)
        for normal, given, pseudo in zip(batch.normal, batch.input, batch.pseudo, strict=True):
            own, shown = normal[:, 0, 0, 0].int(), given[:, 0, 0, 0].int()
            step = np.unique(np.diff(shown.numpy()))
            assert shown[0] == own[0] and len(step) == 1
            assert (step[0] > 1) == pseudo
            assert shown[-1] // 100 == own[0] // 100
            steps.add(int(step[0]))
    assert steps == {1, 2, 3, 4, 5}  # 1: no room before the end of the video


def test_a_patch_is_half_of_another_clip_and_the_rest_is_untouched() -> None:
    clips = frame_clips(("patch",))
    changed = 0
    for turn in range(10):
        batch = clips.draw(2, turn)
        mixed = batch.mixed()
        assert batch.others is not None
        for i, (other, mix) in enumerate(zip(batch.others, batch.mixes.values(), strict=True)):
            inside = torch.from_numpy(mix.mask(6, 8))
            normal = batch.normal[i].float()
            assert torch.equal(mixed[i][~inside], normal[~inside])
            expected = (normal + other.float()) / 2  # frames are of one value
            assert torch.equal(mixed[i][inside], expected[inside])
            changed += int((mixed[i] != normal).any())
    assert changed > 10


def test_kinds_are_drawn_alike() -> None:
    clips = frame_clips(("perturbed", "patch", "skip_frames"), counts=(60,))
    mixed = perturbed = 0
    for turn in range(50):
        batch = clips.draw(4, turn)
        mixed += len(batch.mixes)
        perturbed += int((batch.input[:, 0, 0, 0, 0] == batch.normal[:, 0, 0, 0, 0] + 50).sum())
    assert mixed == pytest.approx(67, abs=20) and perturbed == pytest.approx(67, abs=20)


def flow_clips(
    partner: Any = "same_video", share: float = 1.0, counts: Sequence[int] = (12, 12)
) -> FlowClips:
    flow = [
        np.random.default_rng(v).normal(100 * v, 1, (n, 6, 8, 2)).astype(np.float32)
        for v, n in enumerate(counts)
    ]
    return FlowClips(
        *(memory(flow, "flow"), LENGTH, share, 0),
        mixup=PATCHES,
        partner=partner,
        channels=3,
        limit=20.0,
    )


@pytest.mark.parametrize("partner", ["same_video", "other_video"])
def test_flow_is_mixed_with_flow_of_the_right_video(partner: str) -> None:
    clips = flow_clips(partner)
    for turn in range(5):
        batch = clips.draw(3, turn)
        assert batch.others is not None and batch.pseudo.all()
        own = batch.normal.mean((1, 2, 3, 4)) > 50
        theirs = batch.others.mean((1, 2, 3, 4)) > 50
        assert torch.equal(own, theirs if partner == "same_video" else ~theirs)
        before = batch.normal.clone()
        mixed = batch.mixed()
        assert torch.equal(batch.normal, before), "the target is not changed"
        assert not torch.equal(mixed, before)
        assert clips.scaled(mixed).shape == (3, 3, LENGTH, 6, 8)


def test_validation_draws_the_same_batches_each_time_and_none_of_the_training() -> None:
    clips = frame_clips(("perturbed",))
    first, second = ([b.input for b in clips.validation(2, 3, 1.0)] for _ in range(2))
    assert len(first) == 2 and not torch.equal(*first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    trained = [clips.draw(3, turn, 1.0).input for turn in range(20)]
    assert not any(torch.equal(a, b) for a in first for b in trained)


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(DetectorError, match="longest has 3"):
        frame_clips(("patch",), counts=(3, 2))
    with pytest.raises(DetectorError, match="leave it out of the spatial"):
        frame_clips(("skip_frames",), counts=(5,))
    for counts in ((12,), (3, 12)):  # a video of 3 frames has no window to mix in
        with pytest.raises(DetectorError, match=r"'flow' are of one video: .*same_video"):
            flow_clips("other_video", counts=counts)
    short = memory(numbered((30, 6), shift=1), "perturbed_pixels")
    settings: dict[str, Any] = {"kinds": ("perturbed",), "patches": PATCHES, "channels": 3}
    with pytest.raises(DetectorError, match="'v1' has 7 rows of pixels, but 6"):
        FrameClips(memory(numbered()), LENGTH, 0.5, 0, twin=short, **settings)
    small = memory([a[:, :4] for a in numbered()], "perturbed_pixels")
    with pytest.raises(DetectorError, match="take the same way"):
        FrameClips(memory(numbered()), LENGTH, 0.5, 0, twin=small, **settings)


def test_memory_does_not_grow_with_the_number_of_videos() -> None:
    """Rows stay where they are: what is read and held is the windows of the batches."""
    for videos in (2, 40):
        rows = ArrayRows(numbered([20] * videos))
        held = RowMemory(rows, options=FitOptions(memory=0), threads=1)
        clips = FrameClips(
            *(held, LENGTH, 0.5, 0), kinds=("patch",), twin=None, patches=PATCHES, channels=3
        )
        assert not held.resident and rows.reads == 0
        for turn in range(6):
            clips.draw(2, turn)
        assert held.buffers_made <= 3  # of a batch, and of one or two windows of patches
        assert rows.reads <= 6 * 4
