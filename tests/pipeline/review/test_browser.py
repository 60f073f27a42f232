"""The review page in a browser: numbers, threshold, seeking, verdicts, links, and no way out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.browsers import Opened, chromium
from tests.footage import write_video
from tests.page_folders import FPS, HIGH, LOW, NASTY, ScoreFolder, spiky
from tests.pipeline.review.test_scene_checks import CHECKED, checked
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.review import stage
from vadpipe.pipeline.review.chunks import packed_floats
from vadpipe.pipeline.review.data import VideoCurve
from vadpipe.pipeline.review.pictures import Limits
from vadpipe.pipeline.review.stage import write_review
from vadpipe.pipeline.scores.events import EventConfig, find_events
from vadpipe.pipeline.scores.frame_runs import FrameTimes
from vadpipe.pipeline.scores.regions import write_regions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    pages: list[Opened] = []

    def open_page(index: Path, **options: Any) -> Opened:
        pages.append(Opened(browser, index, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


SCORES = {
    "cam1": spiky(10, 3),
    "cam2": np.array([0.5, 1.2, 1.4, 0.6, 1.5, 3.0, 1.5, 0.5, 0.9, 0.5]),
    "quiet": np.linspace(0.1, 0.9, 10),
    "loud": np.tile([0.5, 4.0, 0.5, 0.5], 10) + np.arange(40) / 100,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with footage, maps, boxes and labels; the video lies beside the folder."""
    root = tmp_path_factory.mktemp("site")
    film = write_video(root / "yard & gate.mp4", frames=160)
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    folder = ScoreFolder(root / "scores")
    folder.add("cam1", SCORES["cam1"], truth=((50, 90),), maps=["m"], **where)
    folder.add("cam2", SCORES["cam2"], **where)
    folder.add("quiet", SCORES["quiet"])
    folder.add("loud", SCORES["loud"])
    index = write_review(folder.write(), root / "page", manifest=folder.manifest())
    assert (root / "page" / "media" / "0.webm").is_file()
    return index


def python_events(video: str, high: float = HIGH, low: float = LOW) -> list[Any]:
    score = SCORES[video]
    start = 16 * np.arange(len(score))
    return find_events(start, start + 16, score, FPS, high, min(low, high), EventConfig())


SHOWN = """() => vadpipe.app.state.events().map((e) =>
  ({video: e.video.id, start: e.start, stop: e.stop, at: e.at, peak: e.peak, mean: e.mean}))"""


def check_events(shown: list[dict[str, Any]], high: float) -> None:
    """The events of the page are those that Python finds, at any threshold."""
    for video in SCORES:
        own = sorted((e for e in shown if e["video"] == video), key=lambda e: e["start"])
        expected = python_events(video, high)
        assert len(own) == len(expected), video
        for event, found in zip(own, expected, strict=True):
            assert (event["start"], event["stop"]) == (found.frame_start, found.frame_stop)
            assert (event["at"], event["peak"]) == (found.peak_frame, found.peak_score)
            assert event["mean"] == pytest.approx(found.mean_score, rel=1e-12)


def test_the_rules_of_events_are_those_of_python(opened, site: Path):
    """Random rows with overlaps, gaps, ties and padding: JavaScript finds the same events."""
    tab = opened(site).go()
    rng, problems, expected = np.random.default_rng(0), [], []
    for _ in range(300):
        n = int(rng.integers(1, 60))
        start = rng.integers(0, 400, n)
        stop = start + rng.integers(1, 40, n)
        score = rng.choice([0.0, 0.3, 0.7, 1.0, 1.5, 2.5, math.pi], n)
        high = float(rng.choice([0.3, 0.7, 1.0, 2.0]))
        low = float(rng.choice([0.0, 0.3, high]))
        config = EventConfig(
            merge_seconds=float(rng.choice([0, 0.3, 1, 2.2])),
            min_seconds=float(rng.choice([0, 0.5, 1])),
            pad_seconds=float(rng.choice([0, 0.02, 0.5])),
        )
        fps = float(rng.choice([1.0, 12.5, 25.0, 29.97]))
        low = min(low, high)
        part = pa.table({"frame_start": start, "frame_stop": stop, "score": score})
        curve = VideoCurve.of(part, "score")
        stored = {
            "first": curve.first, "lengths": packed_floats(curve.lengths.astype(np.float64)),
            "values": packed_floats(curve.values), "parts": [],
        }  # fmt: skip
        seconds = config.merge_seconds, config.min_seconds, config.pad_seconds
        times = FrameTimes.of(*seconds, fps)
        problems.append([stored, high, low, [times.gap, times.shortest, times.pad]])
        expected.append(find_events(start, stop, score, fps, high, low, config))
    found = tab.evaluate(
        """(problems) => problems.map(([stored, high, low, lengths]) =>
             vadpipe.curves.findEvents(vadpipe.curves.decode(stored), high, low, lengths))""",
        problems,
    )
    assert sum(map(len, expected)) > 200
    for mine, theirs in zip(found, expected, strict=True):
        assert [(e["start"], e["stop"], e["at"], e["peak"]) for e in mine] == [
            (e.frame_start, e.frame_stop, e.peak_frame, e.peak_score) for e in theirs
        ]
        assert [e["mean"] for e in mine] == pytest.approx([e.mean_score for e in theirs], rel=1e-12)


def test_numbers_are_those_of_the_score_folder_and_a_drag_moves_all_events(opened, site: Path):
    page = opened(site, viewport={"width": 1300, "height": 1000})
    tab = page.go("#video/1/cam2")
    table = pq.read_table(site.parents[1] / "scores" / "events.parquet").to_pylist()
    shown = tab.evaluate("() => vadpipe.app.state.events().map((e) => ({...e, video: e.video.id}))")
    for event, row in zip(
        sorted(shown, key=lambda e: e["id"]),
        sorted(table, key=lambda e: e["event_id"]),
        strict=True,
    ):
        assert event["id"] == row["event_id"] and event["video"] == row["video_id"]
        names = ("frame_start", "frame_stop", "peak_frame", "peak_score", "mean_score")
        assert [event[k] for k in ("start", "stop", "at", "peak", "mean")] == [
            row[n] for n in names
        ]
    check_events(shown, HIGH)
    live = tab.evaluate(
        "() => vadpipe.app.state.videos.flatMap((v) => vadpipe.app.state.liveEvents(v)).map("
        "(e) => ({...e, video: e.video.id}))"
    )
    check_events(live, HIGH)  # found again at the threshold of the folder
    assert tab.inner_text("#counted") == f"{len(table)} events"

    box = tab.locator(".chart canvas").bounding_box()
    line = tab.evaluate("() => vadpipe.app.detail.chart.y(vadpipe.app.state.high)")
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + line)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + line + 20)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + line + 40, steps=3)
    tab.mouse.up()
    tab.wait_for_function(f"() => vadpipe.app.state.high < {HIGH}")
    high = tab.evaluate("() => vadpipe.app.state.high")
    check_events(tab.evaluate(SHOWN), high)
    for threshold in (0.55, 1.3, 4.2, 9.0):
        tab.evaluate("(high) => vadpipe.app.high(high)", threshold)
        tab.wait_for_function("(high) => vadpipe.app.state.high === high", arg=threshold)
        check_events(tab.evaluate(SHOWN), threshold)
        said = tab.inner_text("#counted")
        assert int(said.split()[0]) == sum(len(python_events(v, threshold)) for v in SCORES)
    # No event: the list shows moments, on a slow machine when the threshold has rested.
    tab.wait_for_function("() => document.getElementById('found').textContent.endsWith('moments')")
    tab.click("#reset")
    tab.wait_for_function("() => !vadpipe.app.state.moved")
    check_events(tab.evaluate(SHOWN), HIGH)
    assert page.said == []


def test_with_very_many_events_the_list_follows(opened, site: Path):
    """What has to be seen at once is, with the numbers of Python, and then the list."""
    tab = opened(site).go("#video/1/cam2")
    expected = sum(len(python_events(video, 4.2)) for video in SCORES)
    seen = tab.evaluate(
        """async (high) => {
          const {state} = vadpipe.app, list = () => state.entries.length;
          const before = list();
          state.heavy = true;
          vadpipe.app.high(high);
          await new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
          return [document.getElementById("counted").textContent, before, list(),
            state.videos.map((v) => v.shown), vadpipe.app.detail.video.live.length];
        }""",
        4.2,
    )
    each = [len(python_events(video, 4.2)) for video in SCORES]
    assert seen[0] == f"{expected} events" and seen[1] == seen[2] != expected
    assert seen[3] == each and seen[4] == each[1]
    tab.wait_for_function("(high) => vadpipe.app.state.listed === high", arg=4.2)
    assert tab.evaluate("() => vadpipe.app.state.entries.length") == expected
    check_events(tab.evaluate(SHOWN), 4.2)


def test_boxes_likeness_and_numbers(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    folder = ScoreFolder(tmp_path / "scores")
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    for name in ("cam1", "cam2"):
        folder.add(name, spiky(10, 3), **where)
        boxes = {"frame": [70, 71], "x0": [1.0, 10.0], "y0": [2.0, 20.0], "x1": [5.0, 40.0]}
        more = {"y1": [6.0, 50.0], "score": [1.0, 3.0], "label": ["", NASTY]}
        more["explain"] = ["slow", "speed 4.1 px/frame"]
        more["words"] = ["it stays", f"{NASTY} moves faster than usual"]
        write_regions(folder.path / "regions" / f"{name}.parquet", pa.table({**boxes, **more}), "")
    near = {"video": [0, 1], "at": [71, 71], "near": [[[1, 0.75]], [[0, 0.75]]], "reason": ""}
    near["by"] = "what it is, where it is"
    monkeypatch.setattr(stage, "similar_events", lambda *_: near)
    page = opened(write_review(folder.write(), tmp_path / "page"))
    tab = page.go("#event/0/71/cam1")
    tab.click(".choices button:has-text('Boxes')")
    box = tab.locator(".boxes rect")
    assert box.count() == 1
    corners = [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")]
    assert corners == [10, 20, 30, 30]
    assert tab.locator(".boxes").get_attribute("viewBox") == "0 0 96 64"
    assert NASTY in tab.locator(".boxes title").text_content()
    assert not tab.is_visible(".numbers")
    why, exact = tab.locator(".why").all()
    assert why.inner_text() == f"{NASTY} moves faster than usual"
    assert not exact.is_visible()
    tab.check("#expert")
    assert "Compared by what it is, where it is." in tab.inner_text(".more")
    assert exact.inner_text().endswith(": speed 4.1 px/frame")
    assert "likeness 0.75" in tab.inner_text(".more")
    assert "48 to 95, peak at 71" in tab.inner_text(".numbers")
    tab.click(".more .card")
    assert tab.evaluate("() => vadpipe.app.detail.video.id") == "cam2"
    assert page.said == []


def test_events_at_another_threshold_keep_their_words(opened, tmp_path: Path):
    """Found again they have no id; without boxes it is said what a high score means."""
    folder = ScoreFolder(tmp_path / "scores")
    for name in ("cam1", "cam2"):
        folder.add(name, spiky(10, 3), kind="images", path=str(tmp_path))
    box = {"frame": [70], "x0": [1.0], "y0": [2.0], "x1": [5.0], "y1": [6.0], "score": [1.0]}
    box |= {"explain": ["stay 9 s"], "words": ["a car stays longer than usual"]}
    write_regions(folder.path / "regions" / "cam1.parquet", pa.table(box), "")
    model = {"detector": "knn", "words": "something moves fast"}
    page = opened(write_review(folder.write(model=model), tmp_path / "page"))
    tab = page.go("#event/0/71/cam1")
    tab.evaluate("() => vadpipe.app.high(2.5)")
    tab.wait_for_function("() => vadpipe.app.state.listed === 2.5")
    said = {}
    for video in ("cam1", "cam2"):
        tab.evaluate(
            """(id) => { const {app} = vadpipe, video = app.state.byId.get(id);
              app.detail.show(video, video.live[0]); }""",
            video,
        )
        said[video] = tab.locator(".why").first.inner_text()
    assert tab.evaluate("() => vadpipe.app.detail.entry.id") is None
    assert said == {"cam1": "A car stays longer than usual", "cam2": "Something moves fast"}
    for text, videos in (("car stays", ["cam1"]), ("something", ["cam2"]), ("stay 9", ["cam1"])):
        tab.fill("#filter", text)
        found = "(text) => vadpipe.app.state.filter.text === text"
        tab.wait_for_function(found, arg=text)
        assert tab.evaluate("() => vadpipe.app.state.entries.map((e) => e.video.id)") == videos
    tab.fill("#filter", "")
    assert tab.evaluate("() => vadpipe.app.state.videos.map((v) => v.unlinked)") == ["images"] * 2
    assert page.said == []


def test_what_a_damaged_file_costs_is_said(opened, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    folder = ScoreFolder(tmp_path / "scores")
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    folder.add("cam1", spiky(10, 3), **where)
    for name in ("regions/cam1.parquet", "maps/cam1.h5"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_bytes(b"no such file format")
    page = opened(write_review(folder.write(), tmp_path / "page"))
    said = page.go("#event/0/71/cam1").inner_text(".player .note")
    assert "No boxes." in said
    assert "No heat-maps." in said
    assert page.said == []


def test_clicks_seek_the_preview_and_the_video(opened, site: Path):
    page = opened(site, viewport={"width": 1300, "height": 1000})
    tab = page.go("#event/0/71/cam1")
    shown = "() => vadpipe.app.detail.player.frame()"
    chart = tab.locator(".chart canvas").bounding_box()

    def click(frame: int) -> None:
        x = tab.evaluate("(frame) => vadpipe.app.detail.chart.x(frame + 0.5)", frame)
        tab.mouse.click(chart["x"] + x, chart["y"] + 100)

    tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert tab.get_attribute("video", "src") == "media/0.webm" or "media" in tab.get_attribute(
        "video", "src"
    )
    click(60)
    tab.wait_for_function(f"() => Math.abs(({shown})() - 60) <= 1")
    assert "media/" in tab.get_attribute("video", "src")
    tab.click(".choices button:has-text('Video')")
    tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert tab.get_attribute("video", "src") == "../yard%20%26%20gate.mp4"
    click(150)
    tab.wait_for_function(f"() => Math.abs(({shown})() - 150) <= 1")
    tab.hover(".chart canvas", position={"x": chart["width"] / 2, "y": 90})
    assert "score" in tab.inner_text(".tip") and "frame" in tab.inner_text(".tip")
    tab.click(".choices button:has-text('Heat-map')")
    tab.wait_for_function("() => document.querySelector('.still img').naturalWidth > 0")
    assert "-0.jpg" in tab.get_attribute(".still img", "src")
    tab.click(".still")
    assert tab.locator("dialog .big img").count() == 1
    tab.keyboard.press("Escape")
    assert page.said == []
    folder = site.parent
    outside = {path for path in page.asked if not path.is_relative_to(folder)}
    assert outside == {folder.parent / "yard & gate.mp4"}


def test_verdicts_by_keys_are_kept_filtered_and_exported(opened, site: Path, tmp_path: Path):
    page = opened(site)
    tab = page.go()
    tab.keyboard.press("j")
    first = tab.evaluate("() => [vadpipe.app.detail.video.id, vadpipe.app.detail.entry.at]")
    tab.keyboard.press("r")
    tab.fill("textarea", '=SUM(A1) "no", just wind\nreally')
    tab.keyboard.press("Escape")
    tab.keyboard.press("j")
    second = tab.evaluate("() => [vadpipe.app.detail.video.id, vadpipe.app.detail.entry.at]")
    assert second != first
    tab.keyboard.press("a")
    tab.fill(".border input[aria-label=Begins]", "0:01.0")
    tab.press(".border input[aria-label=Begins]", "Enter")
    tab.keyboard.press("Escape")
    assert tab.evaluate("() => vadpipe.app.state.verdicts.kept.size") == 2
    with_download = {}
    tab.click(".menu summary")
    for kind in ("csv", "json"):
        with tab.expect_download() as waiting:
            tab.click(f"#save-{kind}")
        waiting.value.save_as(tmp_path / f"v.{kind}")
        with_download[kind] = (tmp_path / f"v.{kind}").read_text(encoding="utf-8")
    values = json.loads(with_download["json"])
    by_key = {(v["video_id"], v["peak_frame"]): v for v in values["verdicts"]}
    assert values["format"] == "vadpipe verdicts" and values["threshold"] == HIGH
    assert by_key[tuple(first)]["verdict"] == "reject" and "wind" in by_key[tuple(first)]["note"]
    assert by_key[tuple(second)]["corrected_start"] == 25
    rows = list(csv.DictReader(with_download["csv"].splitlines()))
    assert len(rows) == 2 and rows[0]["video_id"] in SCORES
    (note,) = [row["note"] for row in rows if row["note"]]
    assert set(rows[0]) == set(values["verdicts"][0]) and rows[0]["moment"] == "false"
    assert [row["by"] for row in rows] == [verdict["by"] for verdict in values["verdicts"]]
    assert note == '\'=SUM(A1) "no", just wind really'  # no spreadsheet computes it

    tab = page.go()  # the same profile, loaded again
    assert tab.inner_text("#judged") == "2 judged"
    tab.select_option("#verdict", "reject")
    assert tab.inner_text("#found") == "1 event"
    assert tab.evaluate("() => vadpipe.app.state.entries[0].at") == first[1]
    tab.select_option("#verdict", "any")
    tab.fill("#filter", "cam2")
    assert {e for e in tab.evaluate("() => vadpipe.app.state.entries.map((e) => e.video.id)")} == {
        "cam2"
    }
    tab.fill("#filter", "nowhere")
    assert tab.is_visible("#empty")
    tab.press("#filter", "Escape")  # the text stays where the filter does
    assert tab.input_value("#filter") == "nowhere"
    tab.fill("#filter", "")
    tab.set_input_files("#read", str(tmp_path / "v.json"))
    tab.wait_for_function(
        "() => document.getElementById('problem').textContent === '2 verdicts read.'"
    )
    tab.set_input_files("#read", {"name": "x.json", "mimeType": "", "buffer": b"[1]"})
    tab.wait_for_function(
        "() => document.getElementById('problem').textContent.includes('no file of')"
    )
    assert page.said == []


def test_verdicts_stay_when_videos_come_and_files_change(opened, tmp_path: Path):
    """One place keeps them for all pages of a model; a page shows those of its own files."""

    numbers = count()

    def written(*names: str, content: str = "0", key: str = "k") -> Path:
        folder = ScoreFolder(tmp_path / f"scores-{next(numbers)}")
        for name in names:
            folder.add(name, spiky(10, 3), content_id="s1-" + content * 40)
        return write_review(folder.write(model={"key": key}), tmp_path / "page")

    kept = "() => [...vadpipe.app.state.verdicts.kept.values()].map((v) => [v.video_id, v.verdict])"
    page = opened(written("cam1"))
    tab = page.go("#event/0/71/cam1")
    tab.keyboard.press("r")
    saved = tab.evaluate("() => vadpipe.app.state.verdicts.json(1)")
    (verdict,) = json.loads(saved)["verdicts"]
    assert verdict["content_id"] == "s1-" + "0" * 40
    written("cam0", "cam1")
    tab = page.go("#event/0/71/cam0")
    assert tab.evaluate(kept) == [["cam1", "reject"]]
    tab.keyboard.press("a")
    written("cam1", content="1")  # another film of that name
    tab = page.go("#event/0/71/cam1")
    assert tab.evaluate(kept) == []
    tab.keyboard.press("u")

    def read(text: str) -> str:
        file = {"name": "v.json", "mimeType": "", "buffer": text.encode()}
        tab.evaluate("() => { document.getElementById('problem').textContent = ''; }")
        tab.set_input_files("#read", file)
        tab.wait_for_function("() => document.getElementById('problem').textContent")
        return str(tab.inner_text("#problem"))

    assert "0 verdicts read. 1 left out" in read(saved)
    written("cam0", "cam1")
    tab = page.go()
    assert sorted(tab.evaluate(kept)) == [["cam0", "accept"], ["cam1", "reject"]]
    assert read(saved) == "1 verdict read."
    written("cam1", key="other")
    tab = page.go()
    assert "page of another model" in read(saved) and tab.evaluate(kept) == []
    assert "column error, this page shows score" in read(saved.replace('"score"', '"error"'))
    assert page.said == []


def test_verdicts_about_an_earlier_model_hold_where_its_event_was(opened, tmp_path: Path):
    """The peak of the next model lies elsewhere: what is said of it there replaces the old."""

    def written(name: str, at: int, **model: Any) -> tuple[Path, Any]:
        folder = ScoreFolder(tmp_path / name)
        folder.add("cam1", spiky(10, at))
        folder.add("cam2", spiky(10, 3))
        return write_review(folder.write(model=model), tmp_path / "page"), folder.events["cam1"][0]

    kept = (
        "() => [...vadpipe.app.state.verdicts.kept.values()]"
        ".map((v) => [v.video_id, v.peak_frame, v.verdict, v.note, v.by])"
    )
    index, event = written("one", 3, key="k")
    page = opened(index)
    tab = page.go(f"#event/0/{event.peak_frame}/cam1")
    tab.keyboard.press("a")
    tab.evaluate("() => vadpipe.app.state.verdicts.put(vadpipe.app.detail.entry, {note: 'mind'})")
    old = ["cam1", event.peak_frame, "accept", "mind", "k"]
    assert tab.evaluate(kept) == [old]
    file = json.loads(tab.evaluate("() => vadpipe.app.state.verdicts.json(1)"))
    # Its event is wider, so that the next peak lies in it.
    tab.evaluate(
        "() => { const {verdicts} = vadpipe.app.state, [v] = verdicts.stored();"
        " localStorage.setItem(verdicts.place, JSON.stringify([{...v, frame_stop: 160}])); }"
    )
    index, later = written("two", 6, key="l", trained_on={"feedback_on": ["k"]})
    assert later.peak_frame != event.peak_frame
    tab = page.go(f"#event/0/{later.peak_frame}/cam1")
    assert tab.evaluate(kept) == [old]
    tab.wait_for_selector(".verdict.accept[aria-pressed=true]")
    assert tab.input_value("#event textarea, .noted textarea") == "mind"
    assert file["page"] == tab.evaluate("() => vadpipe.app.state.page.id")
    tab.keyboard.press("r")
    assert tab.evaluate(kept) == [["cam1", later.peak_frame, "reject", "mind", "l"]]
    index, _ = written("three", 6, key="l")  # of no earlier model: another page
    assert page.go().evaluate(kept) == []
    assert page.said == []


def test_a_new_camera_is_said_below_its_videos_and_events(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    folder.add("cam1", spiky(10, 3))
    folder.add("cam2", spiky(10, 3))
    path = folder.write()
    table = pq.read_table(path / "videos.parquet")
    known = pa.array([video == "cam2" for video in table["video_id"].to_pylist()])
    pq.write_table(table.append_column("scene_trained", known), path / "videos.parquet")
    page = opened(write_review(path, tmp_path / "page"))
    said = "new camera, the model was not trained on it"
    for place in ("#event/0/71/cam1", "#video/0/cam1"):
        assert said in page.go(place).inner_text("body")
    for place in ("#event/1/71/cam2", "#video/1/cam2"):
        assert said not in page.go(place).inner_text("body")
    assert page.said == []


def test_without_previews_the_video_follows_and_borders_are_frames(opened, tmp_path: Path):
    film = write_video(tmp_path / "yard.mp4", frames=160)
    folder = ScoreFolder(tmp_path / "scores")
    score = np.full(10, 0.5)
    score[[1, 7]] = 5.0, 4.0
    where = {"path": str(film), "content_id": probe_video(film).content_id}
    folder.add("cam1", score, **where)
    folder.add("gone", score)
    (first, second) = folder.events["cam1"]
    limits = Limits(pictures=0, clips=0)
    page = opened(write_review(folder.write(), tmp_path / "page", limits=limits))
    tab = page.go(f"#event/0/{first.peak_frame}/cam1")
    shown = "() => vadpipe.app.detail.player.frame()"
    near = "Math.abs(vadpipe.app.detail.player.frame() - {}) <= 1"
    tab.wait_for_function(f"() => {near.format(first.frame_start)}")
    tab.click(f".chip-event >> nth={1}")
    assert tab.evaluate("() => vadpipe.app.detail.entry.at") == second.peak_frame
    tab.wait_for_function(f"() => {near.format(second.frame_start)}")
    titles = [tab.get_attribute(f".verdict.{name}", "title") for name in ("accept", "reject")]
    assert titles == [
        "Accept: this is unusual.",
        "Reject: false alarm; vadpipe feedback learns it as normal.",
    ]
    tab.click("#help")
    assert "learns it as normal" in tab.inner_text("dialog.help")
    tab.keyboard.press("Escape")
    assert tab.evaluate("() => vadpipe.app.detail.player.film.paused")
    tab.focus("#expert")
    tab.keyboard.press("Space")
    assert tab.is_checked("#expert")
    assert tab.evaluate("() => vadpipe.app.detail.player.film.paused")
    # Before the start of the event "Ends" is refused: so go on by some frames.
    tab.evaluate(f"() => vadpipe.app.detail.player.seek({second.frame_start + 7})")
    tab.wait_for_function(f"() => {near.format(second.frame_start + 7)}")
    frame = tab.evaluate(shown)
    kept = "() => [...vadpipe.app.state.verdicts.kept.values()][0]"
    tab.click(".border:has(input[aria-label=Ends]) button")
    assert tab.evaluate(kept)["corrected_stop"] == frame + 1
    tab.click(".border:has(input[aria-label=Begins]) button")
    assert tab.evaluate(kept)["corrected_start"] == frame
    tab = page.go(f"#event/1/{first.peak_frame}/gone")
    assert tab.is_disabled(".border >> nth=0 >> button")
    assert page.said == []


def test_a_video_has_the_threshold_of_its_scene_until_the_slider_moves(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    folder.add("cam1", spiky(10, 3))
    folder.add("cam2", spiky(10, 3))
    scenes = {"gate": {"high": 4.0, "low": 3.0}, "bare": {"high": 9.0}}
    path = folder.write(threshold={"high": HIGH, "low": LOW, "scenes": scenes})
    table = pq.read_table(path / "videos.parquet")
    own = pa.array(["gate", "yard"], pa.string())
    pq.write_table(table.append_column("scene", own), path / "videos.parquet")
    page = opened(write_review(path, tmp_path / "page"))
    tab = page.go("#video/0/cam1")
    levels = "() => vadpipe.app.state.videos.map((v) => vadpipe.app.state.levels(v))"
    common = {"high": HIGH, "low": LOW}
    assert tab.evaluate(levels) == [{"high": 4, "low": 3}, common]
    threshold = (
        "() => document.querySelector('.numbers').textContent.match(/Threshold([0-9.]+)/)[1]"
    )
    assert tab.evaluate(threshold) == "4"
    tab.evaluate("() => vadpipe.app.high(1.5)")
    tab.wait_for_function("() => vadpipe.app.state.high === 1.5")
    assert tab.evaluate(levels) == [{"high": 1.5, "low": LOW}] * 2
    tab.evaluate("(high) => vadpipe.app.high(high)", HIGH)
    tab.wait_for_function(f"() => vadpipe.app.state.high === {HIGH}")
    assert tab.evaluate(levels) == [{"high": 4, "low": 3}, common]
    assert page.said == []


def test_links_lists_and_a_phone(opened, site: Path):
    page = opened(site, viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab = page.go()
    assert tab.is_visible("#list") and not tab.is_visible("#main")
    tab.click("#tab-videos")
    names = tab.locator("#video-list .row strong").all_inner_texts()
    assert names == ["cam1", "loud", "cam2", "quiet"]  # by peak
    tab.click("#video-list .row >> nth=2")
    assert tab.evaluate("() => location.hash") == "#video/1/cam2"
    assert tab.is_visible(".chart canvas") and not tab.is_visible("#video-list")
    tab.click("button.back")
    assert tab.is_visible("#video-list")
    tab = page.go("#event/99/71/cam1")  # the name counts, the number may be another one
    assert tab.evaluate("() => vadpipe.app.detail.entry.id") == "cam1-e1"
    assert "very unusual" in tab.inner_text("h2") or "unusual" in tab.inner_text("h2")
    tab = page.go("#event/99/5/gone")
    assert "not on the page" in tab.inner_text("#problem")
    assert page.said == []


def test_a_link_to_an_event_of_a_later_file(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "FIRST_EVENTS", 1)
    folder = ScoreFolder(tmp_path / "scores")
    for k in range(3):
        folder.add(f"cam{k}", spiky(10, 3, 9.0 - k))
    page = opened(write_review(folder.write(), tmp_path / "page"))
    tab = page.go("#event/2/71/cam2")
    assert tab.evaluate("() => vadpipe.app.detail.entry.id") == "cam2-e1"
    assert tab.evaluate("() => vadpipe.app.state.entries.map((e) => e.video.id)") == [
        "cam0", "cam1", "cam2",
    ]  # fmt: skip
    assert page.said == []


def test_hostile_names_are_shown_and_never_run(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    names = [NASTY, "__proto__", "a\u202eb\x1b[31m", "%00", "'\"`${alert(1)}"]
    for k, name in enumerate(names):
        folder.add(name, spiky(10, 3, 3.0 + k), path=f"/x/{NASTY}.mp4", flags=(NASTY,))
    folder.failures = [dict.fromkeys(("video_id", "stage", "error", "message"), NASTY)]
    index = write_review(folder.write(dataset=NASTY), tmp_path / "page")
    page = opened(index)
    tab = page.go()
    assert NASTY in tab.title()
    assert NASTY in tab.inner_text("#list")
    assert "a\\u202eb\\u001b[31m" in tab.inner_text("#list")
    tab.check("#expert")
    for k in range(len(names)):
        tab.keyboard.press("j")
        assert tab.evaluate("() => vadpipe.app.detail.video.id") == names[-1 - k]
        tab.keyboard.press("u")
    assert NASTY in tab.inner_text(".numbers")
    tab.evaluate(
        "(text) => vadpipe.app.state.verdicts.put(vadpipe.app.detail.entry, {note: text})", NASTY
    )
    tab = page.go(tab.evaluate("() => location.hash"))
    assert tab.input_value("textarea") == NASTY
    assert tab.inner_text("#judged") == "5 judged"
    assert tab.locator("script[src]").count() == tab.locator("script").count()
    assert page.said == []
    assert all(path.is_relative_to(index.parent) for path in page.asked)


def test_a_folder_without_a_file_says_so(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    folder.add("cam1", spiky(10, 3))
    index = write_review(folder.write(), tmp_path / "page")
    (tmp_path / "page" / "data" / "scores-0.js").unlink()
    tab = opened(index).go()
    assert "scores-0.js is missing or damaged: copy the whole folder" in tab.inner_text("#problem")
    index.with_name("data").joinpath("page.js").write_text("vadpipe.receive('page', '{');")
    other = opened(index).tab
    other.goto(index.as_uri())
    other.wait_for_selector("#problem:not([hidden])")
    assert "page.js is missing or damaged" in other.inner_text("#problem")


def test_checks_of_the_camera_stand_apart(opened, tmp_path: Path):
    main = ScoreFolder(tmp_path / "scores")
    main.add("cam1", spiky(10, 3))
    main.add("cam2", spiky(10, 3))
    checks = checked(tmp_path / "checks", {"cam1": {"covered": spiky(10, 3)}, "cam2": {}})
    index = write_review(main.write(), tmp_path / "page", scene_checks=checks.write(model=CHECKED))
    page = opened(index)
    tab = page.go()
    assert tab.inner_text("#counted") == "2 events" and tab.inner_text("#found") == "2 events"
    assert "the camera was covered" in tab.inner_text(".overview")
    tab.select_option("#kind", "checks")
    assert tab.inner_text("#found") == "1 scene check"
    assert "the camera was covered" in tab.inner_text("#list .row")
    tab.click("#list .row")
    assert tab.evaluate("() => location.hash") == "#check/0/71/cam1"
    assert "no event of the detector" in tab.inner_text(".detail header")
    assert not tab.is_visible(".judge") and not tab.is_visible(".more")
    tab.keyboard.press("r")
    assert tab.evaluate("() => vadpipe.app.state.verdicts.kept.size") == 0
    assert tab.is_checked(".legend label:has-text('scene checks') input")
    # The event of the detector at the same frame is another one.
    tab.click(".events-of >> nth=0 >> button")
    assert tab.evaluate("() => location.hash") == "#event/0/71/cam1"
    tab.keyboard.press("r")
    assert tab.evaluate("() => vadpipe.app.state.verdicts.kept.size") == 1
    tab = page.go("#check/9/71/cam1")
    assert "the camera was covered" in tab.inner_text("h2")
    # The threshold of the page does not move them.
    tab.evaluate("() => vadpipe.app.high(100)")
    tab.wait_for_function("() => vadpipe.app.state.high === 100")
    assert "the camera was covered" in tab.inner_text("h2")
    tab.select_option("#kind", "checks")
    assert tab.inner_text("#found") == "1 scene check" and tab.inner_text("#counted") == "0 events"
    assert page.said == []
    bare = opened(write_review(main.path, tmp_path / "bare")).go()
    assert bare.locator("#kind option").all_inner_texts() == ["Events", "All moments"]


def test_two_tabs_keep_each_others_verdicts(opened, tmp_path: Path):
    """Of two verdicts about one moment the later one counts, also where it was taken back."""
    folder = ScoreFolder(tmp_path / "scores")
    for name in ("cam1", "cam2", "cam3"):
        folder.add(name, spiky(10, 3))
    page = opened(write_review(folder.write(), tmp_path / "page"))
    one = page.go("#event/0/71/cam1")
    two = page.another("#event/1/71/cam2")
    kept = (
        "() => Object.fromEntries([...vadpipe.app.state.verdicts.kept.values()]"
        ".map((v) => [v.video_id, v.verdict]))"
    )
    stored = (
        "() => JSON.parse(localStorage.getItem(vadpipe.app.state.verdicts.place))"
        ".filter((v) => v.verdict).map((v) => [v.video_id, v.verdict]).sort()"
    )
    one.keyboard.press("r")
    two.wait_for_function("() => document.getElementById('judged').textContent === '1 judged'")
    two.keyboard.press("a")
    one.wait_for_function("() => document.getElementById('judged').textContent === '2 judged'")
    assert one.evaluate(kept) == two.evaluate(kept) == {"cam1": "reject", "cam2": "accept"}
    # A tab that has heard of nothing (its event comes later) overwrites nothing either.
    one.evaluate(
        """() => {
          const {verdicts} = vadpipe.app.state;
          const list = verdicts.stored().filter((v) => v.video_id !== "cam2");
          const later = (s) => new Date(Date.now() - s * 1000).toISOString();
          const other = {...list[0], video_id: "cam3", verdict: "unsure", when: later(1)};
          const old = {...list[0], verdict: "accept", when: later(3600)};
          const fast = {...list[0], video_id: "cam2", verdict: "unsure", when: "no time"};
          localStorage.setItem(verdicts.place, JSON.stringify([old, other, fast]));
          verdicts.save();
        }"""
    )
    expected = [["cam1", "reject"], ["cam2", "accept"], ["cam3", "unsure"]]
    assert one.evaluate(stored) == expected
    # Taken back in one tab, it does not come back from the other.
    one.keyboard.press("r")
    two.wait_for_function("() => !vadpipe.app.state.verdicts.kept.has('71@cam1')")
    two.keyboard.press("u")
    assert two.evaluate(stored) == [["cam2", "unsure"], ["cam3", "unsure"]]
    one.wait_for_function("() => vadpipe.app.state.verdicts.of('cam2', 71).verdict === 'unsure'")
    # The open event of the other tab shows what was said of it, but not over what is typed.
    two.evaluate("() => vadpipe.app.go('event/0/71/cam1')")
    one.keyboard.press("a")
    two.wait_for_selector(".verdict.accept[aria-pressed=true]")
    two.fill("textarea", "a long")
    one.fill("textarea", "note")
    one.keyboard.press("Escape")
    two.wait_for_function("() => vadpipe.app.state.verdicts.of('cam1', 71).note === 'note'")
    assert two.input_value("textarea") == "a long"
    assert page.said == []


def test_lists_are_used_by_the_keyboard_and_say_so(opened, site: Path):
    page = opened(site)
    tab = page.go()
    tab.focus("#list .space")
    named = "document.activeElement.getAttribute('aria-activedescendant')"
    active = f"() => document.getElementById({named})"
    place = f"{active}.getAttribute('aria-posinset')"
    assert tab.evaluate(place) == "1"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowUp")
    assert tab.evaluate(place) == "2" and tab.evaluate("() => location.hash") == ""
    tab.keyboard.press("Enter")
    second = tab.evaluate("() => vadpipe.app.state.entries[1].at")
    assert tab.evaluate("() => vadpipe.app.detail.entry.at") == second
    assert tab.evaluate(f"{active}.getAttribute('aria-selected')") == "true"
    tab.keyboard.press("End")
    count = tab.evaluate("() => vadpipe.app.state.entries.length")
    assert tab.evaluate(place) == str(count)
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(place) == str(count)
    tab.keyboard.press("Home")
    assert tab.evaluate(place) == "1"
    tab.click("#tab-videos")
    tab.focus("#video-list .space")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.evaluate("() => location.hash").startswith("#video/")
    assert tab.get_attribute("#slider", "aria-valuetext") == (
        f"{HIGH:g}, {tab.inner_text('#counted')}"
    )
    fields = "button, input, select, textarea, video, canvas"
    unnamed = """(fields) => [...document.querySelectorAll(fields)]
      .filter((e) => !e.closest('[hidden]') && !(e.ariaLabel || e.textContent.trim() || e.title
        || e.labels?.length || e.placeholder)).map((e) => e.outerHTML)"""
    assert tab.evaluate(unnamed, fields) == []
    assert page.said == []


CHOSEN = "() => document.getElementById('camera').selectedOptions[0].textContent"


def two_cameras(tmp_path: Path, names: tuple[str, str], **threshold: Any) -> Path:
    folder = ScoreFolder(tmp_path / "scores")
    folder.add("cam1", SCORES["cam1"])
    folder.add("cam2", SCORES["cam2"])
    path = folder.write(threshold={"high": HIGH, "low": LOW, **threshold})
    table = pq.read_table(path / "videos.parquet")
    own = pa.array(names, pa.string())
    pq.write_table(table.append_column("scene", own), path / "videos.parquet")
    return write_review(path, tmp_path / "page")


def test_one_camera_alone_has_a_threshold_of_its_own(opened, tmp_path: Path):
    page = opened(two_cameras(tmp_path, ("gate", NASTY)))
    tab = page.go("#video/0/cam1")
    high = 1.3  # there cam2 has other events than at HIGH
    assert python_events("cam2", high) != python_events("cam2")
    options = "() => [...document.getElementById('camera').options].map((o) => o.textContent)"
    assert tab.evaluate(options) == ["all 2 cameras", NASTY, "gate"]
    levels = "() => vadpipe.app.state.videos.map((v) => vadpipe.app.state.levels(v).high)"
    counted = "() => document.getElementById('counted').textContent"

    def wait(one: float, other: float) -> None:
        tab.wait_for_function(f"() => String(({levels})()) === '{one:g},{other:g}'")
        both = len(python_events("cam1", one)) + len(python_events("cam2", other))
        tab.wait_for_function(f"() => ({counted})() === '{both} event{'s'[: both != 1]}'")
        shown = sorted((e["video"], e["start"], e["stop"]) for e in tab.evaluate(SHOWN))
        found = [("cam1", e) for e in python_events("cam1", one)]
        found += [("cam2", e) for e in python_events("cam2", other)]
        assert shown == [(video, e.frame_start, e.frame_stop) for video, e in found]
        assert tab.evaluate("() => vadpipe.app.state.entries.length") == both

    wait(HIGH, HIGH)
    tab.select_option("#camera", label=NASTY)
    assert not tab.is_visible("#reset")
    tab.evaluate("(high) => vadpipe.app.high(high)", high)
    wait(HIGH, high)
    assert tab.is_visible("#reset") and tab.input_value("#slider") == str(
        tab.evaluate("(high) => vadpipe.app.toPlace(high)", high)
    )
    tab.click("summary:has-text('Verdicts')")
    with tab.expect_download() as saved:
        tab.click("#save-json")
    values = json.loads(Path(saved.value.path()).read_text())
    assert values["threshold"] == HIGH
    assert values["thresholds"] == [{"camera": NASTY, "threshold": high}]
    # The line in the curve of another camera is that camera's.
    tab.evaluate("() => vadpipe.app.detail.chart.on.high(2.5)")
    assert tab.evaluate(CHOSEN) == "gate"
    wait(2.5, high)
    assert "it moves camera gate alone" in tab.inner_text(".legend")
    tab.click("#reset")
    wait(HIGH, high)
    tab.select_option("#camera", label="all 2 cameras")
    assert tab.is_visible("#reset"), "a camera has still a threshold of its own"
    tab.evaluate("() => vadpipe.app.high(1.6)")
    wait(1.6, 1.6)
    tab.click("#reset")
    wait(HIGH, HIGH)
    assert not tab.is_visible("#reset") and page.said == []


def test_a_camera_goes_back_to_the_threshold_of_its_scene(opened, tmp_path: Path):
    scenes = {"gate": {"high": 2.5, "low": 1.2}}
    tab = opened(two_cameras(tmp_path, ("gate", "yard"), scenes=scenes)).go("#video/0/cam1")
    levels = "() => vadpipe.app.state.levels(vadpipe.app.state.videos[0])"
    assert tab.evaluate(levels) == {"high": 2.5, "low": 1.2}
    tab.select_option("#camera", label="gate")
    for high, low in ((1.1, 1.1), (3.5, 1.2), (2.5, 1.2)):
        tab.evaluate("(high) => vadpipe.app.high(high)", high)
        tab.wait_for_function("(high) => vadpipe.app.state.listed === high", arg=high)
        assert tab.evaluate(levels) == {"high": high, "low": low}
    assert tab.evaluate("() => vadpipe.app.state.moved") is False


def test_the_line_of_a_video_without_a_scene_moves_all(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    for name in ("cam1", "cam2", "lone"):
        folder.add(name, SCORES["cam1"])
    path = folder.write(threshold={"high": HIGH, "low": LOW})
    table = pq.read_table(path / "videos.parquet")
    own = pa.array(["gate", "yard", None], pa.string())
    pq.write_table(table.append_column("scene", own), path / "videos.parquet")
    page = opened(write_review(path, tmp_path / "page"))
    tab = page.go("#video/2/lone")
    levels = "() => String(vadpipe.app.state.videos.map((v) => vadpipe.app.state.levels(v).high))"
    tab.select_option("#camera", label="gate")
    tab.evaluate("() => vadpipe.app.high(2.5)")
    tab.wait_for_function(f"() => ({levels})() === '2.5,{HIGH:g},{HIGH:g}'")
    assert "it moves all 2 cameras" in tab.inner_text(".legend")
    tab.evaluate("() => vadpipe.app.detail.chart.on.high(1.3)")
    tab.wait_for_function(f"() => ({levels})() === '1.3,1.3,1.3'")
    assert tab.evaluate(CHOSEN) == "all 2 cameras" and page.said == []


def test_a_camera_goes_back_to_where_all_were_moved(opened, tmp_path: Path):
    tab = opened(two_cameras(tmp_path, ("gate", "yard"))).go("#video/0/cam1")
    levels = "() => String(vadpipe.app.state.videos.map((v) => vadpipe.app.state.levels(v).high))"
    tab.evaluate("() => vadpipe.app.high(1.6)")
    tab.wait_for_function(f"() => ({levels})() === '1.6,1.6'")
    tab.select_option("#camera", label="gate")
    tab.evaluate("() => vadpipe.app.high(2.5)")
    tab.wait_for_function(f"() => ({levels})() === '2.5,1.6'")
    tab.click("#reset")
    tab.wait_for_function(f"() => ({levels})() === '1.6,1.6'")
    assert not tab.is_visible("#reset")


def test_one_camera_has_nothing_to_choose(opened, site: Path):
    assert not opened(site).go("").is_visible("#camera")


def test_the_threshold_says_which_cameras_it_moves(opened, tmp_path: Path):
    folder = ScoreFolder(tmp_path / "scores")
    folder.add("cam1", spiky(10, 3))
    folder.add("cam2", spiky(10, 3))
    path = folder.write(
        threshold={"high": HIGH, "low": LOW, "scenes": {"gate": {"high": 4.0, "low": 3.0}}}
    )
    table = pq.read_table(path / "videos.parquet")
    own = pa.array(["gate", "yard"], pa.string())
    pq.write_table(table.append_column("scene", own), path / "videos.parquet")
    tab = opened(write_review(path, tmp_path / "page")).go("#video/0/cam1")
    assert tab.evaluate(CHOSEN) == "all 2 cameras"
    drag = "threshold of camera gate, drag it: it moves all 2 cameras"
    assert drag in tab.inner_text(".legend")
    tab.evaluate("() => vadpipe.app.high(1.5)")
    tab.wait_for_function("() => vadpipe.app.state.high === 1.5")
    tab.wait_for_function("() => !document.querySelector('.legend').innerText.includes('gate')")
    assert "threshold, drag it: it moves all 2 cameras" in tab.inner_text(".legend")
