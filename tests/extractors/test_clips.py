"""Spans, clips and tails."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vadpipe.extractors.clips import (
    Clip,
    ClipAssembler,
    ClipRule,
    Span,
    Tail,
    clip_count,
    plan_spans,
    run_length,
)
from vadpipe.extractors.footage.errors import FrameOrderError
from vadpipe.extractors.footage.video import Frame


def numbered(number: int) -> Frame:
    return Frame(number, number / 10, np.full((1, 1, 3), number % 251, np.uint8))


def assemble(rule: ClipRule, span: Span, n_frames: int) -> list[Clip]:
    """What the engine does: push from `first_frame` until done or the video ends."""
    assembler = ClipAssembler(rule, span)
    clips = []
    for number in range(assembler.first_frame, n_frames):
        if assembler.done:
            break
        clips += assembler.push(numbered(number))
    if not assembler.done:
        clips += assembler.finish()
    assert assembler.done and assembler.finish() == []
    return clips


def slow_clips(n: int, rule: ClipRule) -> list[tuple[int, int, list[int]]]:
    """(start, stop, source numbers) of every clip of a video, from the definition."""
    clips = []
    for start in range(0, n, rule.stride):
        if rule.tail == "drop" and start + rule.length > n:
            continue
        if rule.tail == "loop" and start > 0:
            covered = start - rule.stride + rule.length  # by the clip before
            if covered >= n:
                continue
        real = [i for i in range(start, start + rule.length) if i < n]
        core = list(real)
        while len(core) < rule.length:
            core.append(real[(len(core)) % len(real)])
        before = [max(i, 0) for i in range(start - rule.before, start)]
        after = [
            min(i, n - 1) for i in range(start + rule.length, start + rule.length + rule.after)
        ]
        clips.append((start, start + len(real), before + core + after))
    return clips


rules = st.builds(
    ClipRule,
    length=st.integers(1, 9),
    stride=st.integers(1, 12),
    tail=st.sampled_from(["loop", "drop"]),
    before=st.integers(0, 7),
    after=st.integers(0, 7),
)


@settings(max_examples=300, deadline=None)
@given(n=st.integers(0, 50), rule=rules, span_frames=st.integers(1, 60), lie=st.integers(-20, 20))
@example(n=17, rule=ClipRule(16, 16, "loop"), span_frames=16, lie=0)
@example(n=16, rule=ClipRule(16, 16, "loop", 3, 3), span_frames=5, lie=16)
def test_the_size_of_a_span_changes_nothing(
    n: int, rule: ClipRule, span_frames: int, lie: int
) -> None:
    """Spans planned for n + lie frames (headers lie) of a video of n give the oracle's clips."""
    spans = plan_spans("s1-x", max(0, n + lie), span_frames)
    clips = [clip for span in spans for clip in assemble(rule, span, n)]
    want = slow_clips(n, rule)
    assert [(c.frame_start, c.frame_stop, c.index.tolist()) for c in clips] == want
    assert clip_count(n, rule) == len(want)
    for clip in clips:
        assert clip.index.dtype == np.int64 and clip.frames.dtype == np.uint8
        assert clip.frames.shape == (rule.before + rule.length + rule.after, 1, 1, 3)
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], clip.index % 251)
        np.testing.assert_array_equal(clip.pts, clip.index / 10)


@given(n=st.integers(0, 400), length=st.integers(1, 40))
def test_counts_are_ceil_and_floor(n: int, length: int) -> None:
    assert clip_count(n, ClipRule(length, length, "loop")) == -(-n // length)
    assert clip_count(n, ClipRule(length, length, "drop")) == n // length


@given(n=st.integers(1, 60), rule=rules)
def test_a_loop_covers_every_frame_that_a_clip_can_hold(n: int, rule: ClipRule) -> None:
    loop = replace(rule, tail="loop", before=0, after=0)
    covered = {i for _, _, index in slow_clips(n, loop) for i in index}
    holdable = {i for i in range(n) if i % loop.stride < loop.length or loop.stride <= loop.length}
    assert covered == holdable


def test_the_tail_by_hand() -> None:
    (first, last) = assemble(ClipRule(4, 4, "loop", 1, 2), Span("x", 0, 6, True), 6)
    assert first.index.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert last.index.tolist() == [3, 4, 5, 4, 5, 5, 5]
    assert (last.frame_start, last.frame_stop) == (4, 6)
    (only,) = assemble(ClipRule(8, 8, "loop"), Span("x", 0, 3, True), 3)
    assert only.index.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert assemble(ClipRule(8, 8, "drop"), Span("x", 0, 3, True), 3) == []


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 50),
    rule=rules,
    span_frames=st.integers(1, 60),
    bad=st.sets(st.integers(0, 49), max_size=5),
)
def test_a_clip_counts_the_damaged_frames_that_it_is_made_of(
    n: int, rule: ClipRule, span_frames: int, bad: set[int]
) -> None:
    """Also those of its context; one that is repeated counts once."""
    clips = []
    for span in plan_spans("s1-x", n, span_frames):
        assembler = ClipAssembler(rule, span)
        for number in range(assembler.first_frame, n):
            clips += assembler.push(replace(numbered(number), corrupt=number in bad))
        clips += assembler.finish()
    assert [clip.damaged for clip in clips] == [
        len(bad.intersection(sources)) for _, _, sources in slow_clips(n, rule)
    ]


def test_damage_by_hand() -> None:
    assembler = ClipAssembler(ClipRule(4, 4, "loop", 1, 1), Span("x", 0, 9, True))
    clips = [
        clip
        for number in range(9)
        for clip in assembler.push(replace(numbered(number), corrupt=number in (4, 8)))
    ]
    clips += assembler.finish()
    # 0 0123 4 | 3 4567 8 | 7 8888 8
    assert [clip.damaged for clip in clips] == [1, 2, 1]


def test_frames_have_to_come_in_order() -> None:
    rule, span = ClipRule(4, 4, before=2), Span("x", 8, 16, False)
    assembler = ClipAssembler(rule, span)
    assert assembler.first_frame == 6
    for wrong in (0, 5, 7, 8):
        with pytest.raises(FrameOrderError, match="6"):
            assembler.push(numbered(wrong))
    assembler.push(numbered(6))
    with pytest.raises(FrameOrderError):
        assembler.push(numbered(6))
    assembler.finish()
    with pytest.raises(FrameOrderError, match="end"):
        assembler.push(numbered(7))


@pytest.mark.parametrize("stride", [1, 4, 9])
def test_the_buffer_holds_one_clip_and_its_context(stride: int) -> None:
    rule = ClipRule(4, stride, before=2, after=3)
    assembler = ClipAssembler(rule, Span("x", 0, 500, True))
    held = 0
    for number in range(500):
        assembler.push(numbered(number))
        held = max(held, len(assembler._buffer))
    assert held <= 2 + 4 + 3


def test_a_span_without_a_clip_start_is_done_at_once() -> None:
    assert ClipAssembler(ClipRule(4, 20), Span("x", 5, 15, False)).done


@given(n=st.integers(0, 300), span_frames=st.integers(1, 100))
def test_spans_tile_the_video(n: int, span_frames: int) -> None:
    spans = plan_spans("s1-x", n, span_frames)
    assert [s.last for s in spans] == [False] * (len(spans) - 1) + [True]
    assert spans[0].frame_start == 0 and spans[-1].frame_stop == n
    assert all(s.frame_start % span_frames == 0 for s in spans)
    assert all(a.frame_stop == b.frame_start for a, b in pairwise(spans))
    assert all(s.frame_stop - s.frame_start <= span_frames for s in spans)
    assert len(spans) == max(1, -(-n // span_frames))


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"stride": 0}, {"before": -1}, {"after": -1}, {"tail": "pad"}]
)
def test_rules_and_spans_that_make_no_sense(wrong: dict[str, int | Tail]) -> None:
    with pytest.raises(ValueError):
        ClipRule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        plan_spans("s1-x", 10, 0)


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 60),
    rule=rules,
    span_frames=st.integers(1, 60),
    more=st.sets(st.integers(0, 59)),
)
def test_frames_that_no_clip_needs_may_be_left_out(
    n: int, rule: ClipRule, span_frames: int, more: set[int]
) -> None:
    """Any of them may come nevertheless: a damaged one, or one that another extractor needs."""
    width = rule.before + rule.length + rule.after
    clips = []
    for span in plan_spans("s1-x", n, span_frames):
        assembler = ClipAssembler(rule, span)
        for number in range(assembler.first_frame, n):
            if (number + rule.before) % rule.stride < width or number in more:
                clips += assembler.push(numbered(number))
        clips += assembler.finish(n)
    assert [(c.frame_start, c.frame_stop, c.index.tolist()) for c in clips] == slow_clips(n, rule)


def test_frames_that_a_clip_needs_may_not_be_left_out() -> None:
    assembler = ClipAssembler(ClipRule(2, 8, before=1), Span("x", 0, 40, True))
    for number in (0, 1, 7):
        assembler.push(numbered(number))
    with pytest.raises(FrameOrderError, match="frame 9 comes where 8 belongs"):
        assembler.push(numbered(9))
    assembler.push(numbered(8))
    with pytest.raises(FrameOrderError, match="ends where frame 9 belongs"):
        assembler.finish(20)


def test_how_many_frames_make_a_clip_of_their_own() -> None:
    assert run_length([ClipRule(16, 16)]) == 16
    assert run_length([ClipRule(2, 16, after=1)] * 2) == 3, "what lies between is not read"
    assert run_length([ClipRule(1, 1)]) == 1
    assert run_length([ClipRule(16, 8)]) == 0
    assert run_length([ClipRule(2, 16, before=1)]) == 0, "the first clip begins elsewhere"
    assert run_length([ClipRule(16, 16), ClipRule(8, 8)]) == run_length([]) == 0
