"""One task: damaged frames, headers that lie, early ends; spans change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.drawn_tasks import RUN, clips_of, drawing, expected_rows, null, run, video
from tests.footage import marking, write_coding
from vadpipe.data_manifests import footage
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.extractors.footage.decode import FrameReader
from vadpipe.extractors.footage.errors import CorruptFrames, SeekMismatch
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.extractors.null import NullFeatures
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.engine.journal import read_runs
from vadpipe.pipeline.engine.run_end import end_run, forget_run
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.engine.span_task import Stopped
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files


@pytest.fixture(autouse=True)
def nobody_stops() -> Iterator[None]:
    """What was run before may have left its end."""
    forget_run(RUN)
    yield
    forget_run(RUN)


configs = st.fixed_dictionaries(
    {
        "clip_length": st.integers(1, 9),
        "stride": st.integers(1, 12),
        "before": st.integers(0, 5),
        "after": st.integers(0, 5),
    }
)


@pytest.fixture(scope="module")
def sole(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One file of 120 frames with a key frame every 12: it can be seeked in."""
    return footage.build(write_coding("h264-closed-mp4", tmp_path_factory.mktemp("sole")))


# --------------------------------------------------------------------------------------- spans


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 60),
    lie=st.integers(-20, 40),
    span_frames=st.integers(5, 70),
    config=configs,
    other=configs,
    sequential=st.booleans(),
)
@example(
    n=16, lie=30, span_frames=16, config={"before": 1}, other={"stride": 4}, sequential=False
)  # ends with a span
def test_neither_spans_nor_headers_nor_company_change_a_row(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    lie: int,
    span_frames: int,
    config: dict[str, int],
    other: dict[str, int],
    sequential: bool,
) -> None:
    """Spans planned for n + lie frames of a video of n, two extractors at once."""
    specs = [null(**config), null(**other, tail="loop")]
    promised = max(1, n + lie)
    row = video(promised, sequential=sequential)
    done = run(tmp_path_factory.mktemp("cache"), drawing(n), row, specs, span_frames)
    for number, spec in enumerate(specs):
        clips = clips_of(spec, n)
        features = done.features(number)
        assert features.frame_start.tolist() == [clip.frame_start for clip in clips]
        assert features.frame_stop.tolist() == [clip.frame_stop for clip in clips]
        np.testing.assert_array_equal(features.arrays["statistics"][:], expected_rows(spec, clips))
        assert features.n_frames == n
        assert ("header_mismatch" in features.flags) == (n != promised)
    assert {r.n_frames for r in done.results} - {None} == {n}
    spans = plan_spans("x", promised, span_frames)
    for store in done.stores:
        assert list(store.scan()) == [
            store.shard_path(replace(s, content_id=done.content)) for s in spans
        ]
        listed = {
            row.frame_start for r in done.results for name, row in r.written if name == store.name
        }
        assert listed == {span.frame_start for span in spans}


def test_only_what_is_missing_is_written(tmp_path: Path) -> None:
    specs = [null(), null(stride=5)]
    done = run(tmp_path, drawing(60), video(60), specs, 20)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")}
    gone = done.stores[1].shard_path(Span(done.content, 20, 40, False))
    gone.unlink()
    again = run(tmp_path, drawing(60), video(60), specs, 20)
    (result,) = again.results
    assert [(name, row.frame_start) for name, row in result.written] == [(done.stores[1].name, 20)]
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")}
    assert {p for p in before if after[p] != before[p]} == {gone}


# --------------------------------------------------------------------------------------- damage

BAD = {3, 17, 31, 58}


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(10, 60),
    bad=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    span_frames=st.integers(5, 70),
    config=configs,
    sequential=st.booleans(),
)
def test_skip_leaves_out_the_clips_that_touch_a_damaged_frame_and_no_other(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    bad: set[int],
    span_frames: int,
    config: dict[str, int],
    sequential: bool,
) -> None:
    """Context counts too: what is computed of a clip depends on it."""
    spec = null("skip", **config)
    sound = [clip for clip in clips_of(spec, n) if not bad.intersection(clip.index.tolist())]
    assume(sound)
    row = video(n, sequential=sequential)
    cache = tmp_path_factory.mktemp("cache")
    features = run(cache, drawing(n, bad), row, [spec], span_frames).features()
    assert features.frame_start.tolist() == [clip.frame_start for clip in sound]
    assert features.frame_stop.tolist() == [clip.frame_stop for clip in sound]
    np.testing.assert_array_equal(features.arrays["statistics"][:], expected_rows(spec, sound))


def test_skip_by_hand(tmp_path: Path) -> None:
    """Clips of 16 with a frame of context on either side; frames 16 and 47 touch two each."""
    for span_frames in (16, 1000):
        cache = tmp_path / str(span_frames)
        reader = drawing(96, {16, 47})
        done = run(cache, reader, video(96), [null("skip")], span_frames)
        assert done.features().frame_start.tolist() == [64, 80]
        bare = null("skip", before=0, after=0)
        done = run(cache, reader, video(96), [bare], span_frames)
        assert done.features().frame_start.tolist() == [0, 48, 64, 80]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    "config", [{}, {"stride": 4}, {"clip_length": 5, "stride": 12}], ids=["16", "4", "5 of 12"]
)
@pytest.mark.parametrize("span_frames", [16, 10, 7, 1000])
def test_every_damaged_frame_is_counted_once(
    tmp_path: Path, span_frames: int, config: dict[str, int], sequential: bool
) -> None:
    """Whatever the spans: also frames of context, and frames that no clip of their span needs."""
    row = video(96, sequential=sequential)
    bad = {*BAD, 11, 12, 13, 14, 15, 16}
    done = run(tmp_path, drawing(96, bad), row, [null(**config)], span_frames)
    spans = plan_spans("x", 96, span_frames)
    of_each = [sum(s.frame_start <= i < s.frame_stop for i in bad) for s in spans]
    assert done.damaged() == of_each
    assert sum(result.damaged for result in done.results) == len(bad)
    features = done.features()
    assert features.damaged == len(bad) and "corrupt_frames" in features.flags


@pytest.mark.parametrize("sequential", [False, True])
def test_a_task_that_finds_its_shards_there_counts_their_damage(
    tmp_path: Path, sequential: bool
) -> None:
    """One that is tried again; of one span everything is there, of the others one extractor's."""
    row, specs = video(96, sequential=sequential), [null(), null(stride=4)]
    first = run(tmp_path, drawing(96, BAD), row, specs, 16)
    for path in list(first.stores[1].scan())[1:]:
        path.unlink()
    again = run(tmp_path, drawing(96, BAD), row, specs, 16, attempts=2)
    assert not any(result.written for result in again.results)
    assert sum(len(result.found) for result in again.results) == 5
    for done in (first, again):
        bad = {i for i in BAD if done is first or i >= 16}
        assert sum(result.damaged for result in done.results) == len(bad)


def test_damage_after_the_end_that_the_header_promised_is_counted(tmp_path: Path) -> None:
    done = run(tmp_path, drawing(50, {45}), video(40), [null()], 16)
    assert done.damaged() == [0, 0, 1]


def test_without_damage_nothing_is_counted_and_nothing_flagged(tmp_path: Path) -> None:
    done = run(tmp_path, drawing(40), video(40), [null("skip")], 16)
    assert done.damaged() == [0, 0, 0] and done.features().flags == ()
    assert [r.flags for r in done.results] == [()] * 3


def test_keep_takes_damaged_frames_as_they_are(tmp_path: Path) -> None:
    sound = run(tmp_path / "a", drawing(64), video(64), [null()], 16).features()
    kept = run(tmp_path / "b", drawing(64, BAD), video(64), [null()], 16).features()
    assert np.array_equal(kept.arrays["statistics"][:], sound.arrays["statistics"][:])
    assert (kept.damaged, kept.flags) == (4, ("corrupt_frames",))


@pytest.mark.parametrize("bad", [0, 39, 31])
def test_fail_refuses_the_video_and_says_what_to_do(tmp_path: Path, bad: int) -> None:
    with pytest.raises(CorruptFrames, match=f"frame {bad} is damaged; --on-corrupt skip.*keep"):
        run(tmp_path, drawing(40, {bad}), video(40), [null("fail")], 1000)
    assert not list(tmp_path.rglob("*.h5"))


def test_what_fail_has_left_is_taken_up_by_keep(tmp_path: Path) -> None:
    """Both have one key: spans without damage are there already."""
    with pytest.raises(CorruptFrames):
        run(tmp_path, drawing(64, {40}), video(64), [null("fail")], 16)
    left = sorted(path.name for path in tmp_path.rglob("*.h5"))
    assert left == ["000000000-000000016.h5", "000000016-000000032.h5"]
    done = run(tmp_path, drawing(64, {40}), video(64), [null("keep")], 16)
    assert [result.written[0][1].frame_start for result in done.results] == [32, 48]
    assert done.features().frame_start.tolist() == [0, 16, 32, 48]


@pytest.mark.parametrize("span_frames", [1000, 16])
def test_a_video_whose_clips_are_all_damaged_fails(
    sole: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span_frames: int
) -> None:
    """Whatever the spans; without rows, nothing could be scored."""
    bad = range(0, 120, 8)
    monkeypatch.setattr(span_task, "guarded_frames", marking(bad))
    engine = Engine(span_frames=span_frames)
    probed = probe_files(sole, tmp_path)
    done = extract_features(sole, probed, [null("skip")], tmp_path, engine=engine)
    assert [f.error for f in done.failures] == ["ExtractorError"]
    message = done.failures[0].message
    assert "all clips of the video have damaged frames (15 of 120)" in message
    assert "--on-corrupt keep" in message
    assert not done.rows


@pytest.mark.parametrize("span_frames", [1000, 16])
def test_a_video_that_is_too_short_fails(sole: Manifest, tmp_path: Path, span_frames: int) -> None:
    """Whatever the spans."""
    engine = Engine(span_frames=span_frames)
    spec = null(clip_length=999, tail="drop")
    done = extract_features(sole, probe_files(sole, tmp_path), [spec], tmp_path, engine=engine)
    assert [f.error for f in done.failures] == ["ExtractorError"]
    message = done.failures[0].message
    assert "120 frames, fewer than one clip of 999" in message and "--set tail=loop" in message
    assert not done.rows


@pytest.mark.parametrize("policy", ["keep", "skip"])
def test_a_short_video_with_damage_is_short_all_the_same(
    sole: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Taking damaged frames would not help."""
    monkeypatch.setattr(span_task, "guarded_frames", marking({7}))
    spec = null(policy, clip_length=999, tail="drop")
    done = extract_features(sole, probe_files(sole, tmp_path), [spec], tmp_path)
    (failure,) = done.failures
    assert "120 frames, fewer than one clip of 999" in failure.message
    assert "--on-corrupt" not in failure.message


def test_the_run_names_the_videos_with_damage(
    sole: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_task, "guarded_frames", marking(BAD))
    (video_id,) = (r.video_id for r in sole.records)
    for span_frames in (16, 1000):
        cache = tmp_path / str(span_frames)
        engine = Engine(span_frames=span_frames)
        done = extract_features(sole, probe_files(sole, cache), [null()], cache, engine=engine)
        assert done.damaged == {video_id: 4}
        assert done.notes == {video_id: ("corrupt_frames",)}
    failed = extract_features(sole, probe_files(sole, tmp_path), [null("fail")], tmp_path)
    assert [f.error for f in failed.failures] == ["CorruptFrames"]
    assert not failed.damaged and not failed.rows


def test_an_extractor_may_refuse_a_video_by_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is that of the decoder, not that of the header; only the last span meets it."""
    ends: list[tuple[str, int]] = []
    monkeypatch.setattr(NullFeatures, "check_end", lambda _, *end: ends.append(end))
    run(tmp_path, drawing(20), video(22), [null()], 8)
    assert ends == [("/drawn.mp4", 20)]


def test_a_seek_that_turns_out_wrong_does_the_video_once_more_in_order(
    sole: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first pass has found is forgotten: its frames may have been others."""
    probed = probe_files(sole, tmp_path)
    ((video_id, row),) = probed.rows.items()
    assert not row.sequential_only and row.key_frames is not None
    mark = marking(BAD)
    engine = Engine(span_frames=16)
    monkeypatch.setattr(span_task, "guarded_frames", mark)
    right = extract_features(sole, probed, [null()], tmp_path / "right", engine=engine)
    seeks: list[int] = []

    def lying(asked: ProbeRow, start: int = 0, **options: Any) -> FrameReader:
        if not asked.sequential_only and start > 60:
            seeks.append(start)
            raise SeekMismatch(f"frame {start} is not where the table says")
        return mark(asked, start, **options)

    monkeypatch.setattr(span_task, "guarded_frames", lying)
    cache = tmp_path / "wrong"
    done = extract_features(sole, probed, [null()], cache, engine=engine)
    assert seeks and not done.failures
    assert done.notes == {video_id: ("corrupt_frames", "sequential_only")}
    ours, theirs = (d.stores[0].read(row.content_id) for d in (done, right))
    assert np.array_equal(ours.arrays["statistics"][:], theirs.arrays["statistics"][:])
    assert ours.damaged == theirs.damaged == 4
    assert done.damaged == right.damaged == {video_id: 4}
    assert done.stores[0].verify() == []
    (state,) = read_runs(cache)
    assert (state.videos_done, state.videos) == (1, 1)
    assert state.frames_done <= state.frames and state.spans_done <= state.spans


# --------------------------------------------------------------------------------------- the end


def test_a_run_that_ends_ends_its_tasks(tmp_path: Path) -> None:
    read: list[int] = []

    def stop_at_20(number: int) -> None:
        read.append(number)
        if number == 20:
            end_run(RUN)

    with pytest.raises(Stopped):
        run(tmp_path, drawing(1000, on_frame=stop_at_20), video(1000), [null()], 1000)
    assert read == list(range(21)), "the frame that it was at is the last one"
    assert not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob("*.tmp"))


def test_what_was_written_before_the_end_stays(tmp_path: Path) -> None:
    def stop_at_40(number: int) -> None:
        if number == 40:
            end_run(RUN)

    row = video(1000, sequential=True)
    with pytest.raises(Stopped):
        run(tmp_path, drawing(1000, on_frame=stop_at_40), row, [null()], 16)
    assert sorted(p.name for p in tmp_path.rglob("*.h5")) == [
        "000000000-000000016.h5",
        "000000016-000000032.h5",
    ]
    forget_run(RUN)
    done = run(tmp_path, drawing(1000), row, [null()], 16)
    assert done.features().frame_start.tolist() == list(range(0, 1000, 16))


def test_a_run_that_is_over_does_not_begin(tmp_path: Path) -> None:
    end_run(RUN)
    with pytest.raises(Stopped):
        run(tmp_path, drawing(40), video(40), [null()], 1000)


def test_the_end_of_another_run_ends_nothing(tmp_path: Path) -> None:
    def end_the_other(number: int) -> None:
        end_run("another run")

    try:
        done = run(tmp_path, drawing(100, on_frame=end_the_other), video(100), [null()], 1000)
    finally:
        forget_run("another run")
    assert done.features().n_frames == 100


def test_a_process_keeps_a_few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for last: a worker of a cluster outlives many runs."""
    monkeypatch.setattr(span_task, "_prepared", {})
    monkeypatch.setattr(span_task, "MOST_PREPARED", 3)
    specs = [null(stride=n) for n in (1, 2, 3, 4)]
    runtime = Runtime("cpu", 1)
    first, second, _ = (span_task.prepared(spec, runtime) for spec in specs[:3])
    assert span_task.prepared(specs[0], runtime) is first
    span_task.prepared(specs[3], runtime)
    assert span_task.prepared(specs[0], runtime) is first
    assert span_task.prepared(specs[1], runtime) is not second
    assert len(span_task._prepared) == 3


def test_all_networks_of_one_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_task, "_prepared", {})
    monkeypatch.setattr(span_task, "MOST_PREPARED", 2)
    loads: list[int] = []
    monkeypatch.setattr(NullFeatures, "load", lambda extractor, runtime: loads.append(1))
    specs = [null(stride=n) for n in (2, 3, 4, 5)]
    run(tmp_path, drawing(60), video(60), specs, 10)
    assert len(loads) == 4
