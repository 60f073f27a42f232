"""Labels check: which video differs from what is stated, and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_ucf_crime, write_ucsd_ped2
from vadpipe.data_manifests import ucf_crime, ucsd_ped2, write_manifest
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import Span
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.labels import Found, _verdict, check_labels
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.scores.folder import ScoreFolderError
from vadpipe.pipeline.scores.video_tables import VIDEO_SCHEMA
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.shard import VideoFacts

SPEC = ArraySpec("x", "float16", ("snippet", "feature"), (2,), role="snippet")
RECIPE = {"extractor": "toy", "version": 1, "arrays": [SPEC.to_json()]}


def record(video_id: str, frames: int | None = None, **fields: Any) -> VideoRecord:
    values = {"video_id": video_id, "path": None, "split": "test", "expected_frames": frames}
    return VideoRecord.model_validate({**values, **fields})


def manifest(*records: VideoRecord) -> Manifest:
    return Manifest(dataset="any", root="/data", records=records)


def row(video_id: str, kind: str = "features") -> ProbeRow:
    """A file as probed; only its identity and kind matter here."""
    facts = {"path": "", "n_frames": 0, "decoded": False, "fps": 25.0, "height": 0, "width": 0}
    facts |= {"rotation": 0, "duration": 0.0, "codec": "", "container": "", "flags": ()}
    return ProbeRow(content_id=f"m1-{video_id}", kind=kind, **facts)


def put(
    store: FeatureStore,
    video_id: str,
    rows: int,
    n_frames: int,
    *,
    snippet: int = 16,
    segments: bool = False,
    open_ended: bool = False,
) -> None:
    """Features of a video: snippets that end with it, or an even division of it."""
    if segments:
        edges = np.arange(rows + 1) * n_frames // rows
        starts, stops = edges[:-1], edges[1:]
    else:
        starts = np.arange(rows) * snippet
        stops = np.minimum(starts + snippet, n_frames)
    flags = () if not segments else ("length_unknown", "segments") if open_ended else ("segments",)
    facts = VideoFacts(25.0, n_frames, flags)
    span = Span(f"m1-{video_id}", 0, n_frames, last=True)
    x = np.zeros((rows, 2), np.float16)
    rows = {"snippet": Rows(starts, stops, {"x": x})}
    store.add_index_part([store.write(span, rows, [SPEC], facts, {"vadpipe": "0"})])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(tmp_path / "cache", RECIPE)
    store.create()
    return store


def score_folder(folder: Path, **videos: tuple[int, str, list[tuple[int, int]]]) -> Path:
    """video id -> frames, kind, rows [start, stop)."""
    (folder / "scores").mkdir(parents=True)
    facts = {"frame_start": 0, "fps": 25.0, "flags": []}
    listed = [
        {"video_id": v, "n_frames": n, "frame_stop": n, "kind": kind, **facts}
        for v, (n, kind, _) in videos.items()
    ]
    pq.write_table(pa.Table.from_pylist(listed, schema=VIDEO_SCHEMA), folder / "videos.parquet")
    for video_id, (_, _, rows) in videos.items():
        start, stop = zip(*rows, strict=True)
        part = pa.table({"frame_start": start, "frame_stop": stop, "score": [0.5] * len(rows)})
        pq.write_table(part, folder / f"scores/{video_id}.parquet")
    return folder


def snippets(n: int) -> list[tuple[int, int]]:
    return [(16 * i, 16 * i + 16) for i in range(n)]


def test_features_without_footage(store: FeatureStore) -> None:
    """Stated frames against rows; for 250 frames 16 rows are padded and 15 are cut."""
    videos = manifest(
        record("same", 250),
        record("ceil", 250),
        record("floor", 250),
        record("cut", 250),
        record("long", 250),
        record("short", 250),
        record("segments", 250),
        record("whole", 250),
        record("other", 250),
        record("absent", 250),
    )
    put(store, "same", 16, 250)
    put(store, "ceil", 16, 256)
    put(store, "floor", 15, 240)
    put(store, "cut", 15, 250)
    put(store, "long", 17, 272)
    put(store, "short", 14, 224)
    put(store, "segments", 32, 512, segments=True, open_ended=True)
    put(store, "other", 32, 249, segments=True)
    put(store, "whole", 32, 250, segments=True)
    rows = {r.video_id: row(r.video_id) for r in videos.records}
    done = check_labels(videos, store=store, probe_rows=rows)
    (source,) = done.sources
    assert {v.video_id: (v.verdict, v.off) for v in source.videos} == {
        "same": ("same", 0),
        "ceil": ("ceil", 6),
        "floor": ("floor", -10),
        "cut": ("floor", -10),
        "long": ("length", 22),
        "short": ("length", -26),
        "segments": ("segments", 0),
        "whole": ("same", 0),
        "other": ("length", -1),
        "absent": ("missing", 0),
    }
    assert not done.ok
    assert done.lines()[-5:] == [
        "long\ttest\t250 frames stated, found 272\t+22 frames",
        "short\ttest\t250 frames stated, found 224\t-26 frames",
        "other\ttest\t250 frames stated, found 249\t-1 frames",
        "absent\ttest\tmissing",
        f"{store.name}: 10 videos: 2 of the stated length, 1 padded to whole snippets, "
        "2 cut to whole snippets, 1 in segments, of unknown length, 3 of another length, 1 missing",
    ]


def test_footage_has_to_have_exactly_the_stated_frames(store: FeatureStore) -> None:
    videos = manifest(record("same", 250), record("ceil", 250), record("whole", 250))
    put(store, "same", 16, 250)
    put(store, "ceil", 16, 256)
    put(store, "whole", 32, 249, segments=True)
    rows = {r.video_id: row(r.video_id, "video") for r in videos.records}
    (source,) = check_labels(videos, store=store, probe_rows=rows).sources
    assert [(v.verdict, v.off) for v in source.videos] == [
        ("same", 0),
        ("length", 6),
        ("length", -1),
    ]


def test_a_part_of_the_shards_is_no_video(store: FeatureStore) -> None:
    facts = VideoFacts(25.0, None)
    starts = np.arange(0, 64, 16)
    x = np.zeros((4, 2), np.float16)
    span = Span("m1-a", 0, 64, last=False)
    store.write(
        span, {"snippet": Rows(starts, starts + 16, {"x": x})}, [SPEC], facts, {"vadpipe": "0"}
    )
    (source,) = check_labels(
        manifest(record("a", 128)), store=store, probe_rows={"a": row("a")}
    ).sources
    assert source.videos[0].verdict == "missing"


def test_a_broken_shard_and_a_file_that_cannot_be_opened_are_named(store: FeatureStore) -> None:
    put(store, "a", 4, 64)
    next(store.scan()).write_bytes(b"no HDF5")
    videos = manifest(record("a", 64), record("b", 64))
    done = check_labels(videos, store=store, probe_rows={"a": row("a")})
    assert [v.verdict for v in done.sources[0].wrong] == ["unreadable", "unreadable"]
    assert "b\ttest\tits file cannot be opened: see vadpipe probe" in done.lines()


@pytest.mark.parametrize(
    ("kind", "rows", "frames", "verdict", "off"),
    [
        ("video", 7, 100, "unstated", 0),
        ("video", 7, 99, "length", -1),
        ("features", 7, 112, "unstated", 0),
        ("features", 6, 96, "unstated", 0),  # cut: the video may have up to 111 frames
        ("features", 5, 80, "length", -20),
    ],
)
def test_labels_must_not_reach_beyond_a_video_of_unstated_length(
    store: FeatureStore, kind: str, rows: int, frames: int, verdict: str, off: int
) -> None:
    put(store, "a", rows, frames)
    videos = manifest(record("a", label=1, anomalies=((90, 100),)))
    done = check_labels(videos, store=store, probe_rows={"a": row("a", kind)})
    assert [(v.verdict, v.off) for v in done.sources[0].videos] == [(verdict, off)]
    if verdict == "length":
        assert done.lines()[-2] == f"a\ttest\tlabels up to 100, found {frames}\t{off:+d} frames"


@given(n=st.integers(1, 5000), snippet=st.integers(1, 64))
def test_rows_that_are_padded_or_cut_fit_and_no_others(n: int, snippet: int) -> None:
    """n = ceil(N / s) and n = floor(N / s) rows of s frames, by their definitions."""
    for rows in range(max(1, n // snippet - 2), n // snippet + 4):
        verdict, off = _verdict(n, 0, Found(rows * snippet, rows, snippet, open=False))
        assert off == rows * snippet - n
        if rows * snippet == n:
            assert verdict == "same"
        elif rows == -(-n // snippet):
            assert verdict == "ceil"
        elif rows == n // snippet:
            assert verdict == "floor"
        else:
            assert verdict == "length"


def test_scores(tmp_path: Path) -> None:
    scores = score_folder(
        tmp_path / "out",
        a=(250, "video", [(0, 100), (100, 250)]),
        b=(260, "video", [(0, 260)]),
        c=(256, "features", snippets(16)),
        x=(10, "video", [(0, 10)]),
    )
    (scores / "scores/b.parquet").write_bytes(b"no Parquet")
    videos = manifest(
        *(record(v, 250) for v in "abcd"), record("t", 99, split="train", label=0, anomalies=())
    )
    done = check_labels(videos, scores=scores)
    (source,) = done.sources
    assert [(v.video_id, v.verdict, v.off) for v in source.videos] == [
        ("a", "same", 0),
        ("b", "unreadable", 0),
        ("c", "ceil", 6),
        ("d", "missing", 0),
    ]
    assert source.unlisted == ("x",)
    assert "x\t-\tnot in the manifest" in done.lines()
    only = manifest(record("a", 250), record("x", 10), record("c", 256))
    fixed = score_folder(
        tmp_path / "ok",
        a=(250, "video", [(0, 250)]),
        x=(10, "video", [(0, 10)]),
        c=(256, "features", snippets(16)),
    )
    assert check_labels(only, scores=fixed).ok
    with pytest.raises(ScoreFolderError, match=r"not a score folder: it has no videos\.parquet"):
        check_labels(only, scores=tmp_path)


def test_totals(tmp_path: Path) -> None:
    whole = ucf_crime.build(write_ucf_crime(tmp_path))
    done = check_labels(whole)
    assert done.ok
    assert done.lines() == [
        "train: 800 normal and 810 abnormal videos",
        "test: 150 normal and 140 abnormal videos, 84,331 abnormal frames",
        "these are the totals of ucf_crime",
    ]
    less = whole.model_copy(update={"records": whole.records[1:]})
    done = check_labels(less)
    assert not done.ok
    assert done.differences == (
        "train: abnormal videos: found 809, the data set has 810",
        "train: videos of Abuse: found 47, the data set has 48",
    )
    assert done.lines()[-1] == "a subset, or a split of your own, is checked with --subset"
    assert check_labels(less, subset=True).ok
    assert check_labels(less, split="test").ok
    assert check_labels(less, subset=True).lines()[-1] == "totals are not compared"
    with pytest.raises(ManifestError, match="no videos of split 'validation'"):
        check_labels(less, split="validation")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["labels", "check", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_command(tmp_path: Path) -> None:
    """Decoded Ped2 clips; then one clip says that it has more frames than there are."""
    root = write_ucsd_ped2(tmp_path / "ped2", train=[1], test=[2])
    listed = ucsd_ped2.build(root, subset=True)
    cache = tmp_path / "cache"
    store = FeatureStore(cache, RECIPE)
    store.create()
    rows = probe_files(listed, cache).rows
    for video in listed.records:
        n = video.expected_frames
        assert n is not None
        span = Span(rows[video.video_id].content_id, 0, n, last=True)
        starts = np.arange(0, n, 16)
        x = np.zeros((len(starts), 2), np.float16)
        facts = VideoFacts(25.0, n)
        stops = np.minimum(starts + 16, n)
        made = {"snippet": Rows(starts, stops, {"x": x})}
        store.add_index_part([store.write(span, made, [SPEC], facts, {"vadpipe": "0"})])
    path = write_manifest(listed, tmp_path / "ped2.csv")
    common = (path, "--features", "toy", "--cache", cache)
    code, text = run(*common)
    assert code == 1
    assert "train: normal videos: found 1, the data set has 16" in text
    code, text = run(*common, "--subset")
    assert code == 0, text
    assert f"{store.name}: 2 videos: 2 of the stated length" in text
    path.write_text(path.read_text().replace(",180,", ",181,"))
    code, text = run(*common, "--subset")
    assert code == 1
    assert "Test002\ttest\t181 frames stated, found 180\t-1 frames" in text
    code, text = run(*common, "--subset", "--json")
    assert code == 1
    values = json.loads(text)
    assert (values["ok"], values["sources"][0]["videos"][1]["off"]) == (False, -1)
    code, _ = run(path, "--features", "other", "--cache", cache)
    assert code == 1
