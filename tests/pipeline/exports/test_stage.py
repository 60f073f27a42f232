"""Exports of events, each read back by the rules of its format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.cli.export import NAMES, export
from vadpipe.pipeline.exports.elan import XSI
from vadpipe.pipeline.exports.label_studio import CONTROL, OBJECT
from vadpipe.pipeline.exports.stage import FORMATS, export_events
from vadpipe.pipeline.exports.videos import LABEL, ExportError, ScoredEvent, VideoEvents
from vadpipe.pipeline.exports.webvtt import timestamp
from vadpipe.pipeline.scores.checked import ScoreFolderError
from vadpipe.pipeline.scores.events import EVENT_SCHEMA
from vadpipe.pipeline.scores.regions import RegionError
from vadpipe.pipeline.scores.video_tables import VIDEO_SCHEMA

DOCS = Path(__file__).parents[3] / "docs"


def event(
    start: int,
    stop: int,
    *,
    fps: float = 25.0,
    name: str = "e",
    why: str = "",
    words: str = "it is odd",
) -> Any:
    return ScoredEvent(
        event_id=name,
        frame_start=start,
        frame_stop=stop,
        start_s=start / fps,
        end_s=stop / fps,
        peak_frame=start,
        peak_s=start / fps,
        peak_score=1.5,
        mean_score=1.0,
        explain=why,
        words=words,
    )


def video(*events: ScoredEvent, name: str = "door", **facts: Any) -> VideoEvents:
    values = {"path": f"/films/{name}.mp4", "n_frames": 200, "fps": 25.0, "width": 64, "height": 48}
    facts = {"scene": None, "scene_trained": None, **facts}
    return VideoEvents(name, events=events, **{**values, **facts})


WORDS = "a person moves much faster than usual"
TWO = (
    event(10, 35, name="e1", why="person: speed 4.1, limit 2.0", words=WORDS),
    event(150, 200, name="e2"),
)
VIDEOS = (video(*TWO), video(name="yard"))


def texts(name: str, videos: Sequence[VideoEvents] = VIDEOS, media: str | None = None) -> Any:
    return dict(FORMATS[name](videos, media))


# --- each format read back -----------------------------------------------------------------------


def read_webvtt(text: str) -> list[tuple[int, int, str]]:
    """Cues in milliseconds, by the grammar of a WebVTT file."""
    head, *blocks = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    assert "\r" not in text
    cues = []
    for number, block in enumerate(blocks, start=1):
        identifier, times, *lines = block.split("\n")
        assert identifier == str(number)
        found = re.fullmatch(
            r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})",
            times,
        )
        assert found, times
        hours, minutes, seconds, rest, *end = map(int, found.groups())
        start = ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest
        stop = ((end[0] * 60 + end[1]) * 60 + end[2]) * 1000 + end[3]
        assert start < stop
        assert len(lines) == 1
        assert "-->" not in lines[0]
        assert "<" not in lines[0]
        assert not re.search(r"&(?!amp;|lt;|gt;)", lines[0])
        cues.append((start, stop, lines[0]))
    assert [cue[0] for cue in cues] == sorted(cue[0] for cue in cues)
    return cues


def test_webvtt() -> None:
    files = texts("webvtt")
    assert list(files) == ["door.vtt", "yard.vtt"]
    assert read_webvtt(files["yard.vtt"]) == []
    first, second = read_webvtt(files["door.vtt"])
    assert first == (400, 1400, "A person moves much faster than usual")
    assert second == (6000, 8000, "It is odd")


def test_webvtt_of_long_footage_and_short_events() -> None:
    day = event(25 * 3600 * 123, 25 * 3600 * 123 + 1)
    assert read_webvtt(texts("webvtt", [video(day)])["door.vtt"])[0][0] == 123 * 3600 * 1000
    instant = event(3, 4, fps=1e6)
    assert read_webvtt(texts("webvtt", [video(instant)])["door.vtt"])[0][:2] == (0, 1)
    assert timestamp(3_599_999) == "00:59:59.999"


def read_cvat(text: str) -> list[tuple[int, int]]:
    """Intervals [start, stop) by the rule of CVAT: a box holds until the next one of its track."""
    root = ElementTree.fromstring(text)
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    size = int(root.findtext("meta/task/size") or 0)
    labels = [each.text for each in root.findall("meta/task/labels/label/name")]
    intervals = []
    for track in root.findall("track"):
        assert track.get("label") in labels
        boxes = track.findall("box")
        frames = [int(box.attrib["frame"]) for box in boxes]
        assert frames == sorted(set(frames))
        assert all(0 <= frame < size for frame in frames)
        for box in boxes:
            sides = [float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")]
            assert sides[0] < sides[2]
            assert sides[1] < sides[3]
        ends = [f for f, box in zip(frames, boxes, strict=True) if box.get("outside") == "1"]
        intervals.append((frames[0], ends[0] if ends else size))
    return intervals


def test_cvat() -> None:
    files = texts("cvat")
    assert list(files) == ["door.xml", "yard.xml"]
    assert read_cvat(files["door.xml"]) == [(10, 35), (150, 200)]
    assert read_cvat(files["yard.xml"]) == []
    last = [video(event(199, 200)), video(event(198, 199), name="b")]
    assert [read_cvat(text) for text in texts("cvat", last).values()] == [
        [(199, 200)],
        [(198, 199)],
    ]


def test_cvat_needs_the_size_of_frames() -> None:
    with pytest.raises(ExportError, match="yard"):
        texts("cvat", [VIDEOS[0], video(name="yard", width=None)])


def read_elan(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Address of the footage and annotations in milliseconds, by the schema of EAF 3.0."""
    root = ElementTree.fromstring(text)
    assert root.tag == "ANNOTATION_DOCUMENT"
    assert {"AUTHOR", "DATE", "FORMAT", "VERSION"} <= set(root.attrib)
    assert root.get(f"{{{XSI}}}noNamespaceSchemaLocation", "").endswith("EAFv3.0.xsd")
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE"]
    assert [each.tag for each in root] == order  # xsd:sequence
    slots = {
        each.attrib["TIME_SLOT_ID"]: int(each.attrib["TIME_VALUE"])
        for each in root.findall("TIME_ORDER/TIME_SLOT")
    }
    assert len(slots) == len(root.findall("TIME_ORDER/TIME_SLOT"))
    (tier,) = root.findall("TIER")
    (kind,) = root.findall("LINGUISTIC_TYPE")
    assert tier.get("LINGUISTIC_TYPE_REF") == kind.get("LINGUISTIC_TYPE_ID")
    assert kind.get("TIME_ALIGNABLE") == "true"
    found = []
    for each in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
        start, stop = slots[each.attrib["TIME_SLOT_REF1"]], slots[each.attrib["TIME_SLOT_REF2"]]
        assert start < stop
        found.append((start, stop, each.findtext("ANNOTATION_VALUE") or ""))
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.get("MIME_TYPE")
    return media.attrib["MEDIA_URL"], found


def test_elan() -> None:
    files = texts("elan", [video(*TWO, path="/films/a b#1.mp4"), VIDEOS[1]])
    assert list(files) == ["door.eaf", "yard.eaf"]
    address, found = read_elan(files["door.eaf"])
    assert unquote(urlparse(address).path) == "/films/a b#1.mp4"
    assert urlparse(address).scheme == "file"
    assert [each[:2] for each in found] == [(400, 1400), (6000, 8000)]
    assert found[0][2].endswith("limit 2.0")
    assert read_elan(files["yard.eaf"])[1] == []


def test_fiftyone() -> None:
    files = {name: json.loads(text) for name, text in texts("fiftyone").items()}
    labels, paths = files["labels.json"], files["data.json"]
    assert set(labels) == {"classes", "labels"}
    assert paths == {"door": "/films/door.mp4", "yard": "/films/yard.mp4"}
    assert set(labels["labels"]) == set(paths)
    assert labels["labels"]["yard"] == []
    for each in labels["labels"]["door"]:
        assert each["label"] in labels["classes"]
        first, last = each["support"]  # counted from 1, both in the event
        assert 1 <= first <= last <= 200
    assert [each["support"] for each in labels["labels"]["door"]] == [[11, 35], [151, 200]]


def test_label_studio() -> None:
    tasks = json.loads(texts("label_studio", media="https://cam.example/films/")["tasks.json"])
    config = re.search(r"```xml\n(.*?)```", (DOCS / "export.md").read_text(), re.DOTALL)
    assert config is not None
    view = ElementTree.fromstring(config[1])
    (control,), (player,) = view.findall("TimelineLabels"), view.findall("Video")
    assert [each.get("value") for each in control.findall("Label")] == [LABEL]
    assert (control.get("name"), player.get("name")) == (CONTROL, OBJECT)
    for task, each in zip(tasks, VIDEOS, strict=True):
        assert task["data"][str(player.get("value")).removeprefix("$")].endswith(
            f"{each.video_id}.mp4"
        )
        (prediction,) = task["predictions"]
        ids = [result["id"] for result in prediction["result"]]
        assert len(set(ids)) == len(ids)
        for result in prediction["result"]:
            assert result["from_name"] == control.get("name")
            assert result["to_name"] == control.get("toName") == player.get("name")
            assert result["type"] == "timelinelabels"
            assert set(result["value"]) == {"ranges", "timelinelabels"}
    ranges = [r["value"]["ranges"] for r in tasks[0]["predictions"][0]["result"]]
    assert ranges == [[{"start": 11, "end": 35}], [{"start": 151, "end": 200}]]
    assert tasks[0]["data"]["video"] == "https://cam.example/films/door.mp4"


def test_csv_and_json_keep_every_number() -> None:
    odd = event(1, 3, fps=29.97, name="e1")
    videos = [video(odd, fps=29.97)]
    (row,) = csv.DictReader(io.StringIO(texts("csv", videos)["events.csv"], newline=""))
    (stored,) = json.loads(texts("json", videos)["events.json"])["videos"]
    for name in ("start_s", "end_s", "peak_score", "mean_score"):
        assert float(row[name]) == stored["events"][0][name] == getattr(odd, name)
    assert (row["frame_start"], row["frame_stop"]) == ("1", "3")
    assert float(row["fps"]) == stored["fps"] == 29.97
    assert (row["scene"], row["scene_trained"]) == ("", "")
    known = [replace(videos[0], scene="=gate", scene_trained=False)]
    (row,) = csv.DictReader(io.StringIO(texts("csv", known)["events.csv"], newline=""))
    (stored,) = json.loads(texts("json", known)["events.json"])["videos"]
    assert (row["scene"], row["scene_trained"]) == ("'=gate", "false")
    assert (stored["scene"], stored["scene_trained"]) == ("=gate", False)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@SUM(A1)"])
def test_a_spreadsheet_computes_no_name(text: str) -> None:
    videos = [video(event(1, 2, why=text), name="v", path=text)]
    (row,) = csv.DictReader(io.StringIO(texts("csv", videos)["events.csv"], newline=""))
    assert row["path"] == row["explain"] == f"'{text}"


# --- names and words of any kind ------------------------------------------------------------------

# Also bytes that are not UTF-8, as names of files have; other surrogates are in no name.
LETTERS = st.characters(exclude_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF
)
WORDS = st.text(LETTERS, max_size=30)


@example("\udcff\x00\x1b[2J-->", "v\udcff")  # bytes that are not UTF-8
@example("]]>&<script>\ufffe", "<b>--> & =")
@given(WORDS, WORDS.map(lambda text: text.replace("/", "").replace("\0", "") or "v"))
def test_no_word_breaks_a_format(why: str, name: str) -> None:
    if name in (".", ".."):
        name = "v"
    videos = [video(event(10, 35, why=why), name=name, path=f"/films/{name}")]
    for media in (None, "https://cam.example/films"):
        read_webvtt(texts("webvtt", videos, media)[f"{name}.vtt"])
        assert read_cvat(texts("cvat", videos, media)[f"{name}.xml"]) == [(10, 35)]
        assert len(read_elan(texts("elan", videos, media)[f"{name}.eaf"])[1]) == 1
        for kind in ("fiftyone", "json", "label_studio"):
            for text in texts(kind, videos, media).values():
                json.loads(text)
        (row,) = csv.DictReader(io.StringIO(texts("csv", videos, media)["events.csv"], newline=""))
        assert row["frame_stop"] == "35"
        for kind in NAMES:
            for text in texts(kind, videos, media).values():
                text.encode()  # also with names that are not UTF-8


# --- the stage and its command --------------------------------------------------------------------


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A score folder with two videos, of which one has an event."""
    folder = tmp_path / "scores"
    folder.mkdir()
    rows = [
        {
            "video_id": name,
            "path": f"/films/{name}.mp4",
            "content_id": "s1-" + "0" * 40,
            "kind": "video",
            "n_frames": 200,
            "fps": 25.0,
            "height": 48,
            "width": 64,
            "frame_start": 0,
            "frame_stop": 200,
            "flags": [],
        }
        for name in ("door", "yard")
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=VIDEO_SCHEMA), folder / "videos.parquet")
    found = {**vars(TWO[0]), "video_id": "door"}
    events = pa.Table.from_pylist([found], schema=EVENT_SCHEMA)
    pq.write_table(events, folder / "events.parquet")
    (folder / "run.json").write_text("{}")
    return folder


def test_every_format_has_a_folder_and_other_files_stay(scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "webvtt").mkdir(parents=True)
    (out / "webvtt" / "mine.vtt").write_text("mine")
    done = export_events(scores, out, NAMES)
    assert (done.videos, done.events) == (2, 1)
    assert {path.parent.name for path in done.files} == set(NAMES) == set(FORMATS)
    assert all(path.is_file() for path in done.files)
    assert (out / "webvtt" / "mine.vtt").read_text() == "mine"
    before = {path: path.read_bytes() for path in done.files}
    export_events(scores, out, NAMES)
    assert before == {path: path.read_bytes() for path in done.files}


def test_the_command(scores: Path, tmp_path: Path) -> None:
    arguments = [str(scores), "-f", "csv", "-f", "elan", "-o", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(export, arguments)
    assert done.exit_code == 0, done.output
    values = json.loads(done.output)
    assert (values["events"], len(values["files"])) == (1, 3)
    said = CliRunner().invoke(export, [str(scores), "-f", "csv", "-o", str(tmp_path / "o")])
    assert said.output.startswith("1 event of 2 videos, 1 file: ")


def test_what_is_no_score_folder_is_refused(tmp_path: Path, scores: Path) -> None:
    with pytest.raises(ScoreFolderError):
        export_events(tmp_path, tmp_path / "out", ["csv"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match="webvtt"):
        export_events(scores, tmp_path / "out", ["webvt"])
    (scores / "events.parquet").write_bytes(b"PAR1")
    with pytest.raises(ScoreFolderError, match=r"events\.parquet"):
        export_events(scores, tmp_path / "out", ["csv"])


def test_a_format_that_cannot_be_written_leaves_no_other(scores: Path, tmp_path: Path) -> None:
    table = pq.read_table(scores / "videos.parquet")
    unknown = table.set_column(6, "height", pa.nulls(len(table), pa.int64()))
    pq.write_table(unknown, scores / "videos.parquet")
    with pytest.raises(ExportError, match="size of the frames"):
        export_events(scores, tmp_path / "out", NAMES)
    assert not (tmp_path / "out").exists()


def test_a_column_that_is_not_there_or_has_no_threshold_is_an_error(
    scores: Path, tmp_path: Path
) -> None:
    (scores / "scores").mkdir()
    rows = {"frame_start": [0], "frame_stop": [200], "score": [1.0], "speed": [2.0]}
    for name in ("door", "yard"):
        pq.write_table(pa.table(rows), scores / "scores" / f"{name}.parquet")
    with pytest.raises(ScoreFolderError, match="speeed"):
        export_events(scores, tmp_path / "out", ["csv"], column="speeed")
    with pytest.raises(ExportError, match="no held-out rows"):
        export_events(scores, tmp_path / "out", ["csv"], column="speed")


def test_damaged_boxes_of_another_column_are_an_error(tmp_path: Path) -> None:
    near = rows([1.0] * 12, near=[0.0] * 4 + [9.0] * 4 + [0.0] * 4)
    normal = {f"n{i}": rows(np.arange(9), near=np.arange(9) / 10) for i in range(3)}
    folder = write_score_folder(tmp_path / "two", {"v": near}, normal)
    assert len(export_events(folder.path, tmp_path / "out", ["csv"], column="near").files) == 1
    (folder.path / "regions").mkdir(exist_ok=True)
    (folder.path / "regions" / "v.parquet").write_bytes(b"damaged")
    with pytest.raises(RegionError, match=r"v\.parquet"):
        export_events(folder.path, tmp_path / "no", ["csv"], column="near")
    assert not (tmp_path / "no").exists()


def test_captions_have_a_score_and_a_reason() -> None:
    assert event(1, 2, why="fast").caption == "anomaly, score 1.5: fast"
    assert event(1, 2).caption == "anomaly, score 1.5"
    assert event(1, 2, why="fast", words="it moves\x1b").sentence == "It moves\\x1b"
    assert math.isclose(event(1, 2).end_s, 0.08)
