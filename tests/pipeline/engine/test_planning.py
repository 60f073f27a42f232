"""Planning: what is on disk is not done again, and what a run costs is known before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic import FRAMES, SIZE
from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.extractors.device import present
from vadpipe.extractors.footage.decode import LEAD
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.video import KeyFrames, ProbeRow, in_order
from vadpipe.pipeline.engine import planning
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import (
    Estimate,
    VideoPlan,
    estimate,
    jobs_of,
    plan_videos,
)
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store import holdings as holdings_module
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import Holdings
from vadpipe.pipeline.store.probe_table import Probed

NULL = resolve_extractor("null")
OTHER = resolve_extractor("null", {"clip_length": 4, "stride": 4, "before": 0, "after": 9})
ENGINE = Engine(span_frames=10)


@pytest.fixture
def held(scene: Manifest, tmp_path: Path) -> tuple[Probed, FeatureStore]:
    """Four videos of 40 frames, whole in shards of 10."""
    probed = probe_files(scene, tmp_path)
    done = extract_features(scene, probed, [NULL], tmp_path, engine=ENGINE)
    return probed, done.stores[0]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Shards that are opened while planning."""
    paths: list[Path] = []
    real = holdings_module.row_of

    def counting(path: Path) -> Any:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(holdings_module, "row_of", counting)
    return paths


def row(n_frames: int = 1000, keys: range | None = None, **changes: Any) -> ProbeRow:
    times = None if keys is None else np.array(keys, np.int64)
    made = ProbeRow(
        "/a.mp4", "s1-" + "0" * 40, "video", n_frames, False, 25.0, 64, 96, 0, n_frames / 25,
        "h264", "mov", key_frames=None if times is None else KeyFrames(times, times, times),
    )  # fmt: skip
    return replace(made, **changes)


def index_parts(store: FeatureStore) -> list[Path]:
    return sorted((store.root / "index").iterdir())


def forget_index(store: FeatureStore) -> None:
    for part in index_parts(store):
        part.unlink()


# --------------------------------------------------------------------------------------- holdings


def test_whole_videos_are_not_planned_and_no_shard_is_opened(
    held: tuple[Probed, FeatureStore], opened: list[Path]
) -> None:
    probed, store = held
    for span_frames in (10, 7, 16, 1000):
        assert plan_videos(probed, [store], span_frames) == []
    assert opened == []


def test_a_shard_that_the_index_does_not_know_is_opened_once(
    held: tuple[Probed, FeatureStore], opened: list[Path]
) -> None:
    """A run that was killed has written it."""
    probed, store = held
    index = store.index()
    forget_index(store)
    assert plan_videos(probed, [store], 10) == []
    assert sorted(opened) == list(store.scan())
    assert store.index() == index, "and is listed from then on"
    opened.clear()
    assert plan_videos(probed, [store], 10) == []
    assert opened == [] and len(index_parts(store)) == 1


def test_a_shard_that_cannot_be_read_is_written_again(
    scene: Manifest, held: tuple[Probed, FeatureStore], tmp_path: Path
) -> None:
    probed, store = held
    broken = next(store.scan())
    whole = broken.read_bytes()
    forget_index(store)
    for damage in (b"", b"no shard", whole[:2000]):
        broken.write_bytes(damage)
        (plan,) = plan_videos(probed, [store], 10)
        assert plan.row.content_id == broken.parent.name
        assert plan.missing == ((0,),) and plan.groups() == [(0,)]
    done = extract_features(scene, probed, [NULL], tmp_path, engine=ENGINE)
    assert done.written == 1 and not done.failures
    assert store.verify() == []


def test_a_shard_that_is_gone_is_written_again_whatever_the_index_says(
    held: tuple[Probed, FeatureStore],
) -> None:
    probed, store = held
    content = next(iter(probed.rows.values())).content_id
    store.shard_path(Span(content, 10, 20, False)).unlink()
    store.shard_path(Span(content, 30, 40, True)).unlink()
    (plan,) = plan_videos(probed, [store], 10)
    assert plan.row.content_id == content and plan.missing == ((1, 3),)
    # spans of another size lack what lies in the holes
    (plan,) = plan_videos(probed, [store], 16)
    assert plan.missing == ((0, 1, 2),)


def test_an_index_of_an_older_version_does_not_know_where_a_video_ends(
    held: tuple[Probed, FeatureStore], opened: list[Path]
) -> None:
    probed, store = held
    index = store.index()
    forget_index(store)
    # The order of names must not matter: this one is read last.
    old = store.root / "index" / "z.parquet"
    pq.write_table(index.drop_columns(["last"]), old)
    assert store.index()["last"].null_count == len(index)
    assert plan_videos(probed, [store], 10) == []
    assert len(opened) == len(index)
    opened.clear()
    assert plan_videos(probed, [store], 10) == []
    assert opened == [] and store.index() == index


def test_a_video_ends_where_the_decoder_said_so(held: tuple[Probed, FeatureStore]) -> None:
    """Spans that a header promises beyond the end are not missing.

    That the probe states other numbers now, which no shard explains, is no header's promise: these
    features are made again.
    """
    probed, store = held
    longer = {v: replace(r, n_frames=95) for v, r in probed.rows.items()}
    for plan in plan_videos(replace(probed, rows=longer), [store], 10):
        assert plan.again == (True,) and plan.missing == (tuple(range(10)),)
    content = next(iter(probed.rows.values())).content_id
    holdings = Holdings(store, [content])
    assert holdings.missing(content, plan_spans(content, 95, 10)) == ()
    assert holdings.missing("s1-other", plan_spans("s1-other", 25, 10)) == (0, 1, 2)


def test_features_without_footage_are_not_planned(tmp_path: Path) -> None:
    probed = Probed({"a": row(kind="features"), "b": row(25, content_id="s1-b")})
    (plan,) = plan_videos(probed, stores_of([NULL], tmp_path), 10)
    assert plan.row.content_id == "s1-b"
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_the_same_footage_is_planned_once(tmp_path: Path) -> None:
    probed = Probed({v: row(25, path=f"/{v}.mp4") for v in "abc"})
    (plan,) = plan_videos(probed, stores_of([NULL], tmp_path), 10)
    assert len(plan.spans) == 3


def test_each_extractor_lacks_its_own_spans(held: tuple[Probed, FeatureStore]) -> None:
    probed, store = held
    content = next(iter(probed.rows.values())).content_id
    store.shard_path(Span(content, 20, 30, False)).unlink()
    other = stores_of([OTHER], store.root.parent.parent)[0]
    plans = {p.row.content_id: p for p in plan_videos(probed, [store, other], 10)}
    assert len(plans) == len(probed.rows)
    for found, plan in plans.items():
        assert plan.missing == ((2,) if found == content else (), (0, 1, 2, 3))
        assert replace(plan, row=row(40)).groups() == [(0,), (1,), (2,), (3,)]


# --------------------------------------------------------------------------------------- jobs


def plan_of(video: ProbeRow, span_frames: int, *missing: tuple[int, ...]) -> VideoPlan:
    spans = tuple(plan_spans(video.content_id, video.n_frames, span_frames))
    return VideoPlan(video, spans, missing)


def jobs(plan: VideoPlan, *, engine: Engine = ENGINE) -> list[Any]:
    specs = [NULL, OTHER][: len(plan.missing)]
    return list(jobs_of(plan, specs, Path("/cache"), engine, Runtime("cpu", 3, 7)))


def test_a_job_is_one_span_and_says_who_lacks_it() -> None:
    plan = plan_of(row(40), 10, (0, 2), (2, 3))
    made = jobs(plan, engine=Engine(limits=DecodeLimits(hours=5)))
    assert [job.spans for job in made] == [(plan.spans[i],) for i in (0, 2, 3)]
    assert [job.missing for job in made] == [((0,), ()), ((0,), (0,)), ((), (0,))]
    assert [job.frames for job in made] == [10, 10, 10]
    for job in made:
        assert (job.store_root, job.specs, job.runtime) == (
            "/cache",
            (NULL, OTHER),
            Runtime("cpu", 3, 7),
        )
        assert job.limits.hours == 5 and job.decode_threads >= 1


def test_a_video_without_seeking_is_one_job_whose_numbers_count_within_it() -> None:
    plan = plan_of(in_order(row(60)), 10, (1, 4), (2, 4, 5))
    assert plan.groups() == [(1, 2, 4, 5)]
    (job,) = jobs(plan)
    assert job.spans == tuple(plan.spans[i] for i in (1, 2, 4, 5))
    assert job.missing == ((0, 2), (1, 2, 3))
    assert job.frames == 40
    for wanted, numbers in zip(plan.missing, job.missing, strict=True):
        assert [job.spans[n] for n in numbers] == [plan.spans[i] for i in wanted]


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 80),
    span_frames=st.integers(1, 30),
    drawn=st.lists(st.sets(st.integers(0, 79)), min_size=1, max_size=2),
    sequential=st.booleans(),
)
def test_jobs_cover_what_is_missing_and_no_more(
    n: int, span_frames: int, drawn: list[set[int]], sequential: bool
) -> None:
    video = in_order(row(n)) if sequential else row(n)
    count = len(plan_spans("s1-x", n, span_frames))
    missing = [tuple(sorted({i % count for i in wanted})) for wanted in drawn]
    plan = plan_of(video, span_frames, *missing)
    done: list[list[Span]] = [[] for _ in missing]
    for job in jobs(plan) if any(missing) else []:
        for spans, numbers in zip(done, job.missing, strict=True):
            spans += [job.spans[i] for i in numbers]
    assert done == [[plan.spans[i] for i in wanted] for wanted in missing]


def test_jobs_are_made_when_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of footage has more spans than need to be in memory."""
    made: list[int] = []
    real = planning.row_for_span

    def counting(video: ProbeRow, start: int, stop: int) -> ProbeRow:
        made.append(start)
        return real(video, start, stop)

    monkeypatch.setattr(planning, "row_for_span", counting)
    plan = plan_of(row(1000, range(0, 1000, 10)), 10, tuple(range(100)))
    lazy = jobs_of(plan, [NULL], Path("/cache"), ENGINE, Runtime())
    assert isinstance(lazy, Iterator) and made == []
    next(lazy)
    next(lazy)
    assert len(made) == 2
    assert len(list(lazy)) == 98


def test_a_job_carries_the_key_frames_of_its_span_alone() -> None:
    """The first one of all for the times, those that seeking needs, and up to the last clip."""
    every = 10
    plan = plan_of(row(100_000, range(0, 100_000, every)), 100, (0, 500, 999), (500,))
    for job in jobs(plan):
        keys = job.row.key_frames
        (span,) = job.spans
        assert keys is not None and len(keys.index) <= 100 // every + LEAD + 8
        assert keys.index[0] == 0
        start = span.frame_start
        first = max(0, min(-(-start // 16) * 16 - 1, -(-start // 4) * 4))  # with its context
        last = span.frame_stop + max(16 + 1, 4 + 9)  # clips and context reach beyond the span
        needed = range(max(0, first // every - LEAD) * every, min(last, 99_999) + 1, every)
        assert set(needed) <= set(keys.index.tolist())


def test_threads_of_decoders_are_shared_among_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "cpu_count", lambda: 16)
    monkeypatch.setattr(present, "cuda_count", lambda: 4)
    plan = plan_of(row(40), 10, (0,))
    for engine, threads in [
        (Engine(streams=2), 8),
        (Engine(workers=2, streams=2), 4),
        (Engine(workers=40), 1),
        (Engine(device="cuda:0,cuda:1,cuda:2,cuda:3", streams=4), 1),
    ]:
        (job,) = jobs(plan, engine=engine)
        assert job.decode_threads == threads, engine


# --------------------------------------------------------------------------------------- costs


def written_bytes(store: FeatureStore) -> int:
    """Of all arrays in all shards."""
    size = 0
    for path in store.scan():
        with h5py.File(path) as file:
            size += sum(dataset.nbytes for dataset in file["snippet"].values())
    return size


@pytest.mark.parametrize("span_frames", [7, 16, 1000])
def test_the_estimate_is_what_is_written(scene: Manifest, tmp_path: Path, span_frames: int) -> None:
    probed = probe_files(scene, tmp_path)
    specs = [NULL, OTHER]
    plans = plan_videos(probed, stores_of(specs, tmp_path), span_frames)
    cost = estimate(plans, specs)
    done = extract_features(scene, probed, specs, tmp_path, engine=Engine(span_frames=span_frames))
    assert cost.bytes == sum(map(written_bytes, done.stores))
    assert cost.rows == sum(sum(s.index()["rows"].to_pylist()) for s in done.stores)
    assert cost.spans == done.written and cost.videos == len(scene)
    assert cost.frames == len(scene) * FRAMES
    assert cost.hours == pytest.approx(len(scene) * FRAMES / 25 / 3600)
    assert estimate(plan_videos(probed, done.stores, span_frames), specs) == Estimate(
        0, 0, 0, 0, 0.0, 0, 0.0
    )


def test_only_what_is_missing_costs(held: tuple[Probed, FeatureStore]) -> None:
    probed, store = held
    content = next(iter(probed.rows.values())).content_id
    path = store.shard_path(Span(content, 30, 40, True))
    with h5py.File(path) as file:
        axis = file["snippet"]
        rows, size = len(axis["statistics"]), sum(d.nbytes for d in axis.values())
    path.unlink()
    cost = estimate(plan_videos(probed, [store], 10), [NULL])
    assert cost == Estimate(1, 1, rows, size, 0.0, 10, 10 / 25 / 3600)


def test_hours_are_those_of_each_video_at_its_own_rate() -> None:
    plans = [plan_of(row(3600 * 25), 16_384, (0, 1, 2, 3, 4, 5)), plan_of(row(600), 16_384, (0,))]
    plans[1] = replace(plans[1], row=replace(plans[1].row, fps=10.0))
    cost = estimate(iter(plans), [NULL])
    assert cost.hours == pytest.approx(1 + 60 / 3600)
    assert cost.frames == 3600 * 25 + 600


def test_work_grows_with_the_clips_and_their_size() -> None:
    spec = resolve_extractor("inception_i3d:native", weights="random:0", precision="fp32")
    plan = plan_of(row(64, height=SIZE[0], width=SIZE[1]), 16, (0, 1, 2, 3))
    per_clip = spec.make().flops(*SIZE)
    cost = estimate([plan], [spec])
    assert per_clip > 0 and cost.rows == 4
    assert cost.flops == pytest.approx(4 * per_clip)
    large = replace(plan, row=replace(plan.row, height=2 * SIZE[0], width=2 * SIZE[1]))
    assert estimate([large], [spec]).flops > 3 * cost.flops
