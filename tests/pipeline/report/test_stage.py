"""The report: complete, self-contained, safe with hostile names, open about what is left out."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.footage import moving_picture, write_coding, write_video
from tests.needed import absent
from tests.page_folders import FPS, HIGH, LOW, NASTY, ScoreFolder, spiky
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import SeekMismatch
from vadpipe.extractors.footage.identity import HashMode
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import ProbeRow, in_order
from vadpipe.pipeline.metrics.frame_level import frame_metrics
from vadpipe.pipeline.metrics.results import Alignment
from vadpipe.pipeline.report import thumbnails
from vadpipe.pipeline.report.about import duration, flatten
from vadpipe.pipeline.report.curves import CURVE_POINTS, decimate, timecode
from vadpipe.pipeline.report.heatmaps import (
    LONGEST_SIDE,
    Heatmaps,
    HeatmapStyle,
    draw_heatmap,
    shrink,
    write_picture,
)
from vadpipe.pipeline.report.stage import MAPS, write_report
from vadpipe.pipeline.report.thumbnails import event_thumbnails
from vadpipe.pipeline.scores.events import EventConfig, find_events
from vadpipe.pipeline.scores.folder import ScoreFolderError
from vadpipe.pipeline.scores.frames import MetricsError


class Page(HTMLParser):
    """Tags, visible text, and the text of some elements of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.words: list[str] = []
        self.code: dict[str, str] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] in ("style", "script"):
            self.code[self.inside[-1]] = self.code.get(self.inside[-1], "") + data
        else:
            self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]


@pytest.fixture
def folder(tmp_path: Path) -> ScoreFolder:
    return ScoreFolder(tmp_path / "scores")


# --- the page --------------------------------------------------------------------------------


def test_everything_is_on_the_page(folder: ScoreFolder, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    identity = probe_video(film).content_id
    where = {"path": str(film), "content_id": identity}
    folder.add("cam1", spiky(10, 3), truth=((50, 90), (130, 140)), flags=("truncated",), **where)
    folder.add("cam2", spiky(10, 6, 9.0), truth=(), **where)
    folder.add("quiet", np.linspace(0, 0.9, 10), truth=())
    folder.failures = [
        {"video_id": "cam9", "stage": "probe", "error": "NoFrames", "message": "nothing in it"}
    ]
    out = write_report(folder.write(), tmp_path / "new" / "r.html", manifest=folder.manifest())
    assert out == tmp_path / "new" / "r.html"
    page = Page(out)
    tiles = page.text.split("Events Scores over time")[0]
    for part in (
        "yard",
        "detector knn",
        "Videos scored 3",
        "Footage 19 s",  # 3 x 160 frames
        "Events 2",
        "Videos failed 1",
        "Micro AUC",
        "1 video with both classes",
        "Anomalies met 1 of 2",
        "very few rows",
    ):
        assert part in tiles, part
    assert "labelled videos: 2, of which 1 on a labelled anomaly and 1 elsewhere" in page.text
    # cam2 has the higher peak; rows 6, 7, 8 are frames 96 to 143.
    first, second = page.text.index("cam2-e1"), page.text.index("cam1-e1")
    assert first < second
    assert "00:00:03.8 to 00:00:05.7" in page.text and "frames 96 to 143" in page.text
    assert len(page.all("img")) == 4  # start and peak of two events
    assert len(page.all("polyline", **{"class": "score"})) == 4  # three curves and the ROC
    assert len(page.all("rect", **{"class": "truth", "height": "100.0"})) == 2
    assert len(page.all("rect", **{"class": "event", "height": "5"})) == 2
    for part in ("truncated", "nothing in it", "NoFrames", "features", "snippet.v", "Score gap"):
        assert part in page.text, part
    assert all(image["alt"] for image in page.all("img"))
    assert all(image.get("aria-label") for image in page.all("svg", role="img"))
    assert {t["scope"] for t in page.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)


def test_the_file_asks_for_nothing(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3), truth=((50, 90),))
    page = Page(write_report(folder.write(), tmp_path, manifest=folder.manifest()))
    assert page.source.startswith("<!doctype html>")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert "url(" not in page.code["style"] and "@import" not in page.code["style"]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.code[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy["content"]


def test_hostile_names_are_shown_not_run(folder: ScoreFolder, tmp_path: Path):
    folder.add(NASTY, spiky(10, 3), path=f"/x/{NASTY}.mp4", flags=(NASTY,))
    folder.failures = [dict.fromkeys(("video_id", "stage", "error", "message"), NASTY)]
    page = Page(write_report(folder.write(dataset=NASTY, command=NASTY, **{NASTY: 1}), tmp_path))
    assert len(page.all("script")) == 1 and "alert" not in page.code["script"]
    assert page.text.count(NASTY) >= 8
    assert NASTY not in page.source and html.escape(NASTY)[:20] in page.source


def test_limits_say_what_they_leave_out(folder: ScoreFolder, tmp_path: Path):
    for k in range(6):
        folder.add(f"cam{k}", spiky(10, 3, 3.0 + k))
        folder.failures.append(
            {"video_id": f"bad{k}", "stage": "probe", "error": "E", "message": "m"}
        )
    path = folder.write()
    page = Page(write_report(path, tmp_path, max_videos=2, max_events=3, max_rows=4))
    for total, shown, what in ((6, 3, "events"), (6, 2, "curves"), (6, 4, "videos")):
        assert f"Shown: {shown} of {total} {what}, " in page.text
        assert f"The other {total - shown} are left out" in page.text
    assert "Shown: 4 of 6 failures." in page.text
    for table in ("events", "scores", "videos", "failures"):
        assert f"{table}.parquet" in page.text
    assert str(path) in page.text
    curves = page.all("figure", **{"class": "curve"})
    assert len(curves) == 2 and {c["id"] for c in curves} == {"v5", "v4"}  # the highest scores
    assert "cam3-e1" in page.text and "cam2-e1" not in page.text
    full = Page(write_report(path, tmp_path))
    assert "left out" not in full.text and len(full.all("figure", **{"class": "curve"})) == 6
    none = Page(write_report(path, tmp_path, max_videos=0, max_events=0, max_rows=0))
    assert "Shown: 0 of 6 events" in none.text and "No event" not in none.text


def test_nothing_scored_and_no_event(folder: ScoreFolder, tmp_path: Path):
    page = Page(write_report(folder.write(), tmp_path))
    assert "Videos scored 0" in page.text and "no video was scored" in page.text
    folder.add("quiet", [0.1, 0.2])
    page = Page(write_report(folder.write(), tmp_path))
    assert "No event: no score stays above the threshold of 2" in page.text
    assert "No video failed." in page.text and "Micro AUC" not in page.text


def test_a_folder_without_events_shows_its_highest_moments(folder: ScoreFolder, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    where = {"path": str(film), "content_id": probe_video(film).content_id, "maps": ["m"]}
    folder.add("cam1", spiky(10, 3, 1.5), truth=((50, 90),), **where)
    folder.add("cam2", spiky(10, 6, 1.2), **where)
    folder.add("flat", np.full(10, 0.1))
    page = Page(write_report(folder.write(), tmp_path, manifest=folder.manifest()))
    assert "Events 0" in page.text and "No event: no score stays above the threshold" in page.text
    assert "lower the threshold: vadpipe threshold MODEL --quantile Q" in page.text
    assert page.text.index("cam1-m1") < page.text.index("cam2-m1") and "flat-m1" not in page.text
    assert page.text.count("Below the threshold.") == 2
    assert len(page.all("img")) == 4 + 2 + 1  # start and peak, a heat-map each, the colours once
    assert "labelled anomaly" in page.text
    assert page.all("a", href="#moments") and page.all("section", id="moments")
    folder.add("cam3", spiky(10, 3, 5.0), **where)
    page = Page(write_report(folder.write(), tmp_path, max_events=2))
    assert "Other unusual moments" in page.text and "cam3-e1" in page.text
    assert "cam1-m1" in page.text and "cam2-m1" in page.text  # at most as many as events


def test_a_peak_above_the_threshold_that_is_too_short_says_so(folder: ScoreFolder, tmp_path: Path):
    score = np.full(100, 0.5)
    score[40:45] = 5.0  # 0.2 s
    folder.add("cam1", score, step=1)
    page = Page(write_report(folder.write(), tmp_path))
    assert "Events 0" in page.text
    assert "Above the threshold, but shorter than an event has to be." in page.text


def test_undefined_metrics_come_with_their_reason(folder: ScoreFolder, tmp_path: Path):
    folder.add("quiet", [0.1, 0.2], truth=())
    page = Page(write_report(folder.write(), tmp_path, manifest=folder.manifest()))
    assert "micro_auc is undefined: all 32 frames are normal" in page.text
    assert "Micro AUC undefined" in page.text


def test_a_part_of_a_file_keeps_the_times_of_the_file(folder: ScoreFolder, tmp_path: Path):
    folder.add("half", spiky(10, 3), first=1600, truth=((0, 90), (1640, 1650)))
    page = Page(write_report(folder.write(), tmp_path, manifest=folder.manifest()))
    assert "01:04.0" in page.text  # the first tick is frame 1600
    (band,) = page.all("rect", **{"class": "truth", "height": "100.0"})
    assert float(band["x"]) == 250.0 and float(band["width"]) == 62.5
    assert "Anomalies met 1 of 1" in page.text


def test_a_day_of_video_is_a_small_picture(folder: ScoreFolder, tmp_path: Path):
    score = np.random.default_rng(0).random(24 * 3600)
    score[[40_000, 70_000]] = 9.0
    folder.add("day", score, step=25)
    out = write_report(folder.write(), tmp_path)
    page = Page(out)
    (curve,) = page.all("polyline", **{"class": "score"})
    points = np.array([p.split(",") for p in curve["points"].split()], dtype=float)
    assert len(points) <= CURVE_POINTS + 2
    peaks = points[points[:, 1] < 8, 0]  # both spikes are drawn, in their place
    assert np.unique(peaks.round()).tolist() == [463, 810]
    assert "24:00:00" in page.text and out.stat().st_size < 100_000


def test_many_videos_and_events(folder: ScoreFolder, tmp_path: Path):
    for k in range(200):
        folder.add(f"cam{k:03}", np.tile(spiky(30, 3, 3 + k / 100), 50), step=8)
    path = folder.write()
    events = pq.read_table(path / "events.parquet").num_rows
    assert events == 200 * 50
    out = write_report(path, tmp_path, max_videos=20, max_events=10)
    assert f"Shown: 10 of {events:,} events" in Page(out).text
    assert out.stat().st_size < 1_000_000


def test_events_too_close_to_tell_apart_become_one_band(folder: ScoreFolder, tmp_path: Path):
    score = np.zeros(200_000)
    score[1000:2000:50] = 3.0
    score[100_000] = 3.0
    folder.add("long", score)
    page = Page(write_report(folder.write(), tmp_path, max_events=1))
    titles = page.text.split("highest score 3")[1]
    assert "20 events" in titles and titles.count("event 0") + titles.count("event 1") == 1
    bands = page.all("rect", **{"class": "event", "height": "5"})
    assert [float(b["x"]) for b in bands] == [5.0, 500.0]
    assert all(float(b["width"]) >= 2 for b in bands)


# --- damaged folders -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["run.json", "videos.parquet", "events.parquet", "failures.parquet"]
)
def test_an_incomplete_folder_is_refused(folder: ScoreFolder, tmp_path: Path, name: str):
    path = folder.write()
    (path / name).unlink()
    with pytest.raises(ScoreFolderError, match=f"no {name} \\(run score\\)"):
        write_report(path, tmp_path)


def test_contradictions_are_refused(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3), truth=((50, 90),))
    folder.add("cam2", spiky(10, 3))
    path = folder.write()
    other = frame_metrics([replace(folder.labelled[0], video_id="cam7")]).to_json()
    (path / "metrics.json").write_text(json.dumps(other))
    with pytest.raises(ScoreFolderError, match="about other videos"):
        write_report(path, tmp_path)
    (path / "metrics.json").write_text("{}")
    with pytest.raises(MetricsError, match="run it again"):
        write_report(path, tmp_path)
    (path / "metrics.json").write_text("[1")
    with pytest.raises(ScoreFolderError, match="damaged"):
        write_report(path, tmp_path)
    (path / "metrics.json").unlink()
    (path / "scores" / "cam2.parquet").unlink()
    with pytest.raises(ScoreFolderError, match=r"cam2.parquet is missing"):
        write_report(path, tmp_path)
    folder.videos = folder.videos[:1]
    with pytest.raises(ScoreFolderError, match="names 'cam2'"):
        write_report(folder.write(), tmp_path)
    (path / "metrics.json").unlink()
    folder.labelled = []
    folder.videos[0]["video_id"] = "../cam1"
    with pytest.raises(ScoreFolderError, match="not a file name"):
        write_report(folder.write(), tmp_path)
    assert not (tmp_path / "report.html").exists()


# --- thumbnails ------------------------------------------------------------------------------


def shown_frame(source: str | None) -> int:
    """Which moving picture a thumbnail is."""
    assert source is not None and source.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=float)
    errors = [np.abs(pixels - moving_picture(k)).mean() for k in range(120)]
    return int(np.argmin(errors))


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("films")
    for name in ("h264-closed-mp4", "mpeg2-ts", "h264-open-ts"):
        write_coding(name, path)
    (path / "images").mkdir()
    for k in range(120):
        Image.fromarray(moving_picture(k)).save(path / "images" / f"{k:03}.png")
    return path


@pytest.mark.parametrize(
    "name", ["h264-closed-mp4.mp4", "mpeg2-ts.ts", "h264-open-ts.ts", "images"]
)
def test_thumbnails_show_the_frames_asked_for(films: Path, name: str):
    row = probe_video(films / name)
    pictures = event_thumbnails(films / name, row.content_id, [119, 3, 60, 61, 3])
    assert sorted(pictures) == [3, 60, 61, 119]
    assert [shown_frame(pictures[k].source) for k in (3, 60, 61, 119)] == [3, 60, 61, 119]


def counted_reads(monkeypatch) -> list[tuple[int, int]]:
    reads: list[tuple[int, int]] = []

    def counting(row: ProbeRow, start: int, stop: int):
        reads.append((start, stop))
        return read_frames(row, start, stop)

    monkeypatch.setattr(thumbnails, "guarded_frames", counting)
    return reads


def probe_in_order(path: Path, hash_mode: HashMode) -> ProbeRow:
    return in_order(probe_video(path, hash_mode=hash_mode))


def test_one_seek_an_event_and_one_pass_where_seeking_fails(films: Path, monkeypatch):
    monkeypatch.setattr(thumbnails, "SAME_SEEK", 20)
    reads = counted_reads(monkeypatch)
    row = probe_video(films / "h264-closed-mp4.mp4")
    assert row.key_frames is not None
    event_thumbnails(Path(row.path), row.content_id, [10, 25, 70, 80])
    assert reads == [(10, 26), (70, 81)]
    reads.clear()
    event_thumbnails(Path(row.path), row.content_id, [10, 25, 70, 80], probe=probe_in_order)
    assert reads == [(10, 81)]


def test_far_frames_of_files_without_seeking_are_left_out(films: Path, monkeypatch):
    reads = counted_reads(monkeypatch)
    row = probe_video(films / "mpeg2-ts.ts")
    pictures = event_thumbnails(
        Path(row.path), row.content_id, [10, 50], probe=probe_in_order, in_order_frames=50
    )
    assert shown_frame(pictures[10].source) == 10 and reads == [(10, 11)]
    assert pictures[50].source is None and "beyond frame 50" in pictures[50].reason


def test_a_seek_that_misses_is_read_from_the_start(films: Path):
    row = probe_video(films / "h264-closed-mp4.mp4")
    assert row.key_frames is not None
    keys = replace(row.key_frames, pts=row.key_frames.pts + 1, dts=row.key_frames.dts + 1)
    wrong = replace(row, key_frames=keys)
    with pytest.raises(SeekMismatch):
        list(read_frames(wrong, 100, 111))
    pictures = event_thumbnails(
        Path(row.path),
        row.content_id,
        [100, 110],
        probe=lambda path, hash_mode: wrong,
    )
    assert [shown_frame(pictures[k].source) for k in (100, 110)] == [100, 110]


def test_a_full_hash_is_compared_with_a_full_hash(films: Path):
    row = probe_video(films / "h264-closed-mp4.mp4", hash_mode="full")
    assert event_thumbnails(Path(row.path), row.content_id, [5])[5].source is not None


def test_pictures_that_cannot_be_had_have_a_reason(films: Path, tmp_path: Path):
    film = films / "h264-closed-mp4.mp4"
    row = probe_video(film)
    pictures = event_thumbnails(film, row.content_id, [5, 500])
    assert pictures[5].source is not None
    assert pictures[500].source is None and "ends before" in pictures[500].reason
    other = event_thumbnails(film, "s1-" + "0" * 40, [5])[5]
    assert other.source is None and "not the file that was scored" in other.reason
    whole = event_thumbnails(film, row.content_id, [5], whole_id="f1-" + "0" * 40)[5]
    assert whole.source is None and whole.reason == other.reason, "samples alone are equal"
    same = event_thumbnails(film, row.content_id, [5], whole_id=row.whole_id)[5]
    assert same.source is not None
    gone = event_thumbnails(tmp_path / "gone.mp4", row.content_id, [5])[5]
    assert gone.source is None and "MissingFile" in gone.reason
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"\0" * 5000)
    assert event_thumbnails(junk, row.content_id, [5])[5].source is None


def test_a_page_with_missing_pictures(folder: ScoreFolder, tmp_path: Path):
    folder.add("gone", spiky(10, 3))
    page = Page(write_report(folder.write(), tmp_path))
    assert not page.all("img")
    assert "No pictures. MissingFile: /gone.mp4" in page.text


def test_a_big_picture_becomes_small():
    source = thumbnails.jpeg(np.zeros((1080, 1920, 3), np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert image.size == (256, 144)


# --- heat-maps -------------------------------------------------------------------------------

SCALES = ("attention/2x3", "attention/3x5", "attention/4x7")


def heatmaps_of(page: Page) -> list[str]:
    """The heat-maps of a page, as data URIs."""
    return [i["src"] or "" for i in page.all("img") if (i["alt"] or "").startswith("heat-map")]


@pytest.fixture
def film(films: Path) -> dict[str, Any]:
    path = films / "h264-closed-mp4.mp4"
    return {"path": str(path), "content_id": probe_video(path).content_id}


def frame_of(film: dict[str, Any], number: int) -> np.ndarray:
    with read_frames(probe_video(Path(film["path"])), number, number + 1) as frames:
        return next(iter(frames)).image


def test_every_map_lies_over_the_peak_frame(folder: ScoreFolder, tmp_path: Path, film):
    folder.add("cam1", spiky(7, 3), maps=SCALES, **film)
    folder.add("cam2", spiky(7, 2), **film)  # its detector gave none
    path = folder.write()
    page = Page(write_report(path, tmp_path))
    peak = folder.events["cam1"][0].peak_frame
    expected = Heatmaps(path, ["cam1", "cam2"], HeatmapStyle()).of("cam1", [peak])[peak]
    assert [h.name for h in expected] == list(SCALES)
    pixels = frame_of(film, peak)
    drawn = [thumbnails.jpeg(draw_heatmap(pixels, h, HeatmapStyle())) for h in expected]
    assert heatmaps_of(page) == drawn
    for heatmap in expected:
        assert f"{heatmap.name}: {heatmap.low:.4g} to {heatmap.high:.4g}" in page.text
    assert "quantiles 0.01 and 0.999 of all videos" in page.text
    assert "Patches are shown as they are" in page.text
    assert len(page.all("img")) == 4 + 3 + 1  # thumbnails, heat-maps, colours
    assert not (tmp_path / "heatmaps").exists()


def test_the_style_is_that_asked_for(folder: ScoreFolder, tmp_path: Path, film):
    folder.add("cam1", spiky(7, 3), maps=["m"], **film)
    style = HeatmapStyle(upsample="bilinear", scale="frame", colours="viridis", alpha=0.8)
    page = Page(write_report(folder.write(), tmp_path, style=style))
    peak = folder.events["cam1"][0].peak_frame
    (expected,) = Heatmaps(folder.path, ["cam1"], style).of("cam1", [peak])[peak]
    drawn = thumbnails.jpeg(draw_heatmap(frame_of(film, peak), expected, style))
    assert heatmaps_of(page) == [drawn]
    assert "interpolated" in page.text and "of the picture itself" in page.text


def test_no_frame_is_decoded_twice(folder: ScoreFolder, tmp_path: Path, film, monkeypatch):
    folder.add("cam1", spiky(7, 3), **film)
    reads = counted_reads(monkeypatch)
    write_report(folder.write(), tmp_path)
    before = reads.copy()
    reads.clear()
    folder.videos.clear()
    folder.add("cam1", spiky(7, 3), maps=SCALES, **film)
    write_report(folder.write(), tmp_path, heatmap_files=True)
    assert reads == before and len(reads) == 1


def test_without_maps_there_is_no_word_of_them(folder: ScoreFolder, tmp_path: Path, film):
    folder.add("cam1", spiky(7, 3), **film)
    page = Page(write_report(folder.write(), tmp_path, heatmap_files=True))
    assert "eat-map" not in page.text and len(page.all("img")) == 2
    assert not (tmp_path / "heatmaps").exists()


def test_files_of_the_highest_events_of_each_video(folder: ScoreFolder, tmp_path: Path, film):
    score = np.full(120, 0.5)
    score[[10, 50, 90]] = (5.0, 9.0, 7.0)
    folder.add("cam1", score, maps=["a/b", "c"], step=1, **film)
    folder.add("cam2", score - 1, maps=["c"], step=1, **film)
    path = folder.write()
    config = EventConfig(min_seconds=0.0, merge_seconds=0.0)
    for video_id, values in (("cam1", score), ("cam2", score - 1)):
        start = np.arange(120)
        folder.events[video_id] = find_events(start, start + 1, values, FPS, HIGH, LOW, config)
    folder.write()
    stale = tmp_path / "heatmaps" / "cam9" / "000000001_c.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier page")
    page = Page(write_report(path, tmp_path, heatmap_files=True, max_heatmap_files=2))
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("heatmaps/*/*.png"))
    assert files == [
        "heatmaps/cam1/000000050_a-b.png",
        "heatmaps/cam1/000000050_c.png",
        "heatmaps/cam1/000000090_a-b.png",
        "heatmaps/cam1/000000090_c.png",
        "heatmaps/cam2/000000050_c.png",
        "heatmaps/cam2/000000090_c.png",
    ]
    assert len(heatmaps_of(page)) == 3 * 2 + 3  # the page has them all
    style = HeatmapStyle()
    (heatmap,) = Heatmaps(path, ["cam1", "cam2"], style).of("cam2", [90])[90]
    write_picture(tmp_path / "x.png", frame_of(film, 90), heatmap, style)
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / files[-1]).read_bytes()
    write_report(path, tmp_path)  # a page alone leaves the files alone
    assert (tmp_path / files[0]).is_file()


def test_maps_without_footage_are_drawn_alone(folder: ScoreFolder, tmp_path: Path):
    folder.add("gone", spiky(7, 3), maps=["m"])
    folder.add("imported", spiky(7, 3, 4.0), maps=["m"], path="", kind="features", width=0)
    page = Page(write_report(folder.write(), tmp_path, heatmap_files=True))
    assert "No pictures. There is no footage, only imported features" in page.text
    assert "No pictures. MissingFile: /gone.mp4" in page.text
    assert "imported features, no footage" in page.text and "without its frame" in page.text
    peak = folder.events["gone"][0].peak_frame
    (heatmap,) = Heatmaps(folder.path, ["gone", "imported"], HeatmapStyle()).of("gone", [peak])[
        peak
    ]
    picture = draw_heatmap(np.zeros((144, 256, 3), np.uint8), heatmap, HeatmapStyle(alpha=1.0))
    assert heatmaps_of(page)[0] == thumbnails.jpeg(picture) and len(heatmaps_of(page)) == 2
    assert not (tmp_path / "heatmaps").exists()


@pytest.mark.parametrize(("path", "size"), [("", 0), (None, None)])
def test_features_without_footage_or_maps(folder: ScoreFolder, tmp_path: Path, path, size):
    folder.add("f", spiky(7, 3), path=path, kind="features", width=size, height=size)
    page = Page(write_report(folder.write(), tmp_path))
    assert "No pictures. There is no footage" in page.text and not page.all("img")
    assert "Scores over time" in page.text and "f-e1" in page.text


def test_damaged_maps_cost_no_page(folder: ScoreFolder, tmp_path: Path, film):
    folder.add("cam1", spiky(7, 3), maps=["m"], **film)
    folder.add("cam2", spiky(7, 2), maps=["m"], **film)
    (folder.path / "maps" / "cam1.h5").write_bytes(b"nothing")
    page = Page(write_report(folder.write(), tmp_path))
    assert len(page.all("img")) == 4 + 1 + 1
    assert "left out of the scale of heat-maps" in page.text
    assert "No heat-maps. StoreError" in page.text and "cam1.h5 is damaged" in page.text


def test_many_maps_are_counted_and_hostile_names_escaped(folder: ScoreFolder, tmp_path: Path, film):
    folder.add("cam1", spiky(7, 3), maps=[NASTY, *(f"m{k}" for k in range(8))], **film)
    page = Page(write_report(folder.write(), tmp_path, heatmap_files=True))
    assert len(heatmaps_of(page)) == MAPS
    assert "Maps that are not drawn: 3 (the first 6 are)" in page.text
    assert len(page.all("script")) == 1 and NASTY in page.text and NASTY not in page.source
    names = [p.name for p in (tmp_path / "heatmaps" / "cam1").iterdir()]
    assert len(names) == MAPS and all(set("<>&'\"").isdisjoint(n) for n in names)


def test_a_big_frame_is_reduced_for_page_and_file(folder: ScoreFolder, tmp_path: Path):
    big = [np.full((600, 1200, 3), 10 * k, np.uint8) for k in range(20)]
    film = write_video(tmp_path / "big.mp4", frames=big)
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    folder.add("cam1", [0.0, 9.0], step=10, maps=["m"], **where)
    events = find_events([0, 10], [10, 20], [0.0, 9.0], FPS, HIGH, LOW, EventConfig(min_seconds=0))
    folder.events["cam1"] = events
    page = Page(write_report(folder.write(), tmp_path, heatmap_files=True))
    with Image.open(io.BytesIO(base64.b64decode(heatmaps_of(page)[0].split(",")[1]))) as image:
        assert image.size == (256, 128)
    with Image.open(tmp_path / "heatmaps" / "cam1" / "000000014_m.png") as image:
        assert image.width == LONGEST_SIDE
    assert shrink(big[0], LONGEST_SIDE).shape == (480, 960, 3)


# --- metrics ---------------------------------------------------------------------------------


def test_all_metrics_are_on_the_page(folder: ScoreFolder, tmp_path: Path):
    rng = np.random.default_rng(0)
    for k in range(6):
        folder.add(f"cam{k}", rng.random(10), truth=((50, 90),) if k < 4 else ())
    labelled = [
        replace(video, category=("Abuse", "Theft")[k % 2] if k < 4 else None)
        for k, video in enumerate(folder.labelled)
    ]
    alignment = Alignment(
        used="pad16", asked="auto", rows="snippets of 16 frames", pad_label="last",
        exact_micro_auc=0.5, pad16_micro_auc=0.625,
    )  # fmt: skip
    measured = frame_metrics(labelled, threshold=0.9, replicates=50, seed=3, alignment=alignment)
    path = folder.write()
    values = {**measured.to_json(), "n_padding": 7, "unlabelled": [], "unscored": []}
    (path / "metrics.json").write_text(json.dumps(values))
    page = Page(write_report(path, tmp_path))
    assert measured.bootstrap is not None and measured.false_alarms is not None
    low, high = measured.bootstrap.micro_auc
    assert page.text.count(f"{100 * low:.2f} to {100 * high:.2f} %") == 2  # tile and table
    low, high = measured.bootstrap.average_precision
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in page.text
    for part in (
        "95 % interval",
        "160 of them labelled abnormal",
        "7 frames after the ends",
        "Scores are snippets of 16 frames, put on frames with pad16 (asked: auto)",
        "with exact : 50.00 %, with pad16 : 62.50 %",
        f"Micro AUC, abnormal videos {100 * (measured.abnormal_videos_auc or 0):.2f} %",
        f"False alarms {100 * (measured.false_alarms.rate or 0):.2f} %",
        "frames of normal videos: 2 with a score above 0.9",
        "50 bootstrap draws of whole videos (4 with abnormal frames, 2 without; seed 3)",
    ):
        assert part in page.text, part
    for row in measured.categories:
        auc, precision = (100 * (v or 0) for v in (row.micro_auc, row.average_precision))
        assert f"{row.category} 2 80 of 320 {auc:.2f} % {precision:.2f} %" in page.text
    assert len(page.all("table", id="categories")) == 1


def test_metrics_of_older_versions_are_shown(folder: ScoreFolder, tmp_path: Path):
    folder.add("cam1", spiky(10, 3), truth=((50, 90),))
    path = folder.write()
    new = ("abnormal_videos_auc", "categories", "false_alarms", "bootstrap", "alignment")
    values = json.loads((path / "metrics.json").read_text())
    values = {k: v for k, v in values.items() if k not in (*new, "n_padding")}
    (path / "metrics.json").write_text(json.dumps(values))
    page = Page(write_report(path, tmp_path))
    assert "Average precision" in page.text and "interval" not in page.text
    assert not page.all("table", id="categories")


# --- helpers ---------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, -3.5]), min_size=1, max_size=400),
    st.integers(4, 60),
)
@settings(max_examples=200, deadline=None)
def test_decimation_keeps_ends_and_extremes(values, limit):
    values = np.array(values)
    index, kept = decimate(values, limit)
    assert (kept == values[index]).all() and (np.diff(index) > 0).all()
    assert len(index) <= limit
    assert (index[0], index[-1]) == (0, len(values) - 1)
    assert (kept.min(), kept.max()) == (values.min(), values.max())
    if len(values) <= limit:  # nothing is lost: the polyline is the same
        assert (np.interp(np.arange(len(values)), index, kept) == values).all()


def test_decimation_keeps_every_bin_s_extremes():
    values = np.random.default_rng(0).normal(size=100_000)
    index, _ = decimate(values, 1500)
    edges = np.linspace(0, 100_000, 750).astype(int)
    for a, b in pairwise(edges):
        assert {a + int(values[a:b].argmin()), a + int(values[a:b].argmax())} <= set(index.tolist())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00.0"),
        (59.99, "00:00:59.9"),
        (0.3, "00:00:00.3"),
        (3661.25, "01:01:01.2"),
        (108_000, "30:00:00.0"),
    ],
)
def test_timecode(seconds, text):
    assert timecode(seconds) == text
    assert timecode(seconds, tenths=False) == text[:-2]


def test_duration():
    assert [duration(s) for s in (0, 42.4, 90, 86_400)] == ["0 s", "42 s", "1.5 min", "24.0 h"]


def test_flatten():
    values = {
        "a": 1,
        "b": {"c": None, "d": {"e": "x", "f": [1, "y"]}, "g": {}},
        "h": [{"i": 1}],
        "j": list(range(60)),
        "k": "z" * 3000,
    }
    groups = dict(flatten(values))
    assert groups["b"] == [("c", "null"), ("d.e", "x"), ("d.f", "1, y"), ("g", "{}")]
    run = dict(groups["run"])
    assert (run["a"], run["h"]) == ("1", '[{"i": 1}]')
    assert run["j"].endswith("49 ... and 10 more") and run["k"].endswith("(3,000 characters)")


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    absent("no Chromium on PATH: the page is not opened in a browser")


def open_page(browser: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what the console said."""
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
def test_a_browser_has_nothing_to_complain_about(
    folder: ScoreFolder, tmp_path: Path, browser: str, films: Path
):
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('I am heard')</script>")
    assert any("I am heard" in line for line in open_page(browser, bad, tmp_path / "p1")[1])

    film = films / "h264-closed-mp4.mp4"
    identity = probe_video(film).content_id
    where = {"path": str(film), "content_id": identity, "maps": SCALES}
    folder.add("cam1", spiky(7, 3), truth=((50, 90),), **where)
    folder.add(NASTY, spiky(7, 2), path=NASTY)
    values = folder.write(dataset=NASTY)
    records = folder.manifest()
    document, console = open_page(
        browser, write_report(values, tmp_path, manifest=records), tmp_path / "p2"
    )
    assert console == []
    assert document.count('<button type="button">') == 10  # the policy let our script run
    assert '<p><label>Show videos with <input id="filter"' in document  # no longer hidden
    assert document.count("<script>") == 1
