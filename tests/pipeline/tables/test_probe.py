"""What a probe says: a line for each fault, what each means, totals that add up."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.store.failures import Failure
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.tables.probe import MEANINGS, report_lines, report_values, unread_lines

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCES = (
    "extractors/footage/probe_file.py",
    "extractors/footage/image_folder.py",
    "extractors/footage/video.py",
    "pipeline/probe.py",
    "pipeline/engine/span_task.py",
)


def row(name: str, *flags: str, **changes: object) -> ProbeRow:
    """Two hours at 25 frames a second."""
    made = ProbeRow(
        f"/archive/{name}.mp4", f"s1-{name}", "video", 180_000, False, 25.0, 480, 640, 0, 7200.0,
        "h264", "mov", flags=flags,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


PROBED = Probed(
    {
        "sound": row("a"),
        "cut": row("b", "truncated"),
        "worse": row("c", "corrupt_frames", "truncated", damaged=3),
        "copy": row("d", content_id="s1-a"),
    },
    [Failure("bad", "probe", "NotAVideo", "/archive/bad.mp4: the content is no video")],
)


def test_lines_name_the_videos_with_faults_and_no_other() -> None:
    assert report_lines(PROBED) == [
        "video  frames  size     fps     codec  what is wrong",
        "cut    180000  640x480  25.000  h264   truncated",
        "worse  180000  640x480  25.000  h264   corrupt_frames truncated "
        "(3 damaged frames at its start)",
        "bad    -       -        -       -      NotAVideo",
        f"truncated: 2 files, {MEANINGS['truncated']}",
        f"corrupt_frames: 1 file, {MEANINGS['corrupt_frames']}",
        "same content: sound, copy",
        "5 videos: 2 sound, 2 with faults, 1 refused; 8.00 hours, 720,000 frames",
    ]  # fmt: skip


def test_all_videos_are_listed_where_one_asks_for_them() -> None:
    lines = report_lines(PROBED, list_all=True)
    names = [line.split()[0] for line in lines[1:6]]
    assert names == ["sound", "cut", "worse", "copy", "bad"]
    assert lines[1].endswith("  ok")
    assert lines[6:] == report_lines(PROBED)[4:], "the rest is the same"


def test_sound_videos_need_one_line() -> None:
    assert report_lines(Probed({"a": row("a"), "b": row("b")})) == [
        "2 videos: 2 sound, 0 with faults, 0 refused; 4.00 hours, 360,000 frames"
    ]
    assert report_lines(Probed({})) == [
        "0 videos: 0 sound, 0 with faults, 0 refused; 0.00 hours, 0 frames"
    ]


def test_damage_of_a_whole_video_is_no_damage_at_its_start() -> None:
    decoded = Probed({"a": row("a", "corrupt_frames", damaged=3, decoded=True)})
    assert report_lines(decoded)[1].endswith("corrupt_frames (3 damaged frames)")


def test_values_are_plain_json_with_all_videos() -> None:
    values = json.loads(json.dumps(report_values(PROBED)))
    assert list(values["videos"]) == ["sound", "cut", "worse", "copy"]
    assert values["videos"]["worse"]["flags"] == ["corrupt_frames", "truncated"]
    assert values["videos"]["worse"]["damaged"] == 3
    assert "key_frames" not in values["videos"]["sound"], "a day of footage has 100,000"
    assert values["duplicates"] == {"s1-a": ["sound", "copy"]}
    assert values["failures"] == [
        {
            "video_id": "bad",
            "stage": "probe",
            "error": "NotAVideo",
            "message": "/archive/bad.mp4: the content is no video",
        }
    ]


# --------------------------------------------------------------------------------------- flags


def words(node: ast.AST) -> set[str]:
    """Strings of one word, `like_this`, anywhere below a node."""
    return {
        n.value
        for n in ast.walk(node)
        if isinstance(n, ast.Constant)
        and isinstance(n.value, str)
        and re.fullmatch(r"[a-z]+(_[a-z]+)*", n.value)
    }


def named_flags(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "flags"


def flags_of(source: str) -> set[str]:
    """What a source yields as a flag, adds to `flags`, or puts into them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Yield(value=ast.Constant() as value):
                found |= words(value)
            case ast.Call(func=ast.Attribute(value=owner, attr="add" | "update")):
                if named_flags(owner):
                    for argument in node.args:
                        found |= words(argument)
            case ast.Assign(targets=[target], value=value) if named_flags(target):
                found |= words(value)
            case ast.keyword(arg="flags", value=value):
                found |= words(value)
            case _:
                pass
    return found


def test_the_search_for_flags_finds_them() -> None:
    source = """
def timing():
    yield "odd_timestamps"
    yield frame
flags = {"gaps"} if holes else set()
flags.add("short")
others.add("mpeg4")
row = Row(kind="video", flags=() if n else ("length_unknown",))
"""
    assert flags_of(source) == {"odd_timestamps", "gaps", "short", "length_unknown"}


def test_every_flag_has_a_meaning_and_is_documented() -> None:
    emitted = set[str]().union(*(flags_of((REPOSITORY / s).read_text()) for s in SOURCES))
    assert {"truncated", "sequential_only", "gaps", "length_unknown", "short"} <= emitted
    assert emitted == set(MEANINGS), "one is emitted without a meaning, or the other way round"
    text = (REPOSITORY / "docs" / "probe.md").read_text()
    table = text.partition("## Flags")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert documented == emitted


def test_healthy_files_are_not_called_faulty() -> None:
    clips = {f"clip{i}": row(f"c{i}", "sequential_only", "short", "rotated") for i in range(3)}
    meanings = [f"{name}: 3 files, {MEANINGS[name]}" for name in ("sequential_only", "short")]
    lines = report_lines(Probed(clips, []))
    assert lines[:2] == meanings and lines[-1].startswith("3 videos: 3 sound, 0 with faults")
    listed = report_lines(Probed(clips, []), list_all=True)
    assert listed[1].endswith("ok sequential_only short rotated")


def test_a_file_of_several_videos_is_named_once() -> None:
    whole, cut = row("a"), row("b", "truncated")
    failures = [
        Failure(f"bad.{part}", "probe", "NotAVideo", "/archive/bad.mp4: no video")
        for part in ("train", "test")
    ]
    rows = {"a.train": whole, "a.test": whole, "b.train": cut, "b.test": cut}
    lines = report_lines(Probed(rows, failures))
    assert [line.split("  ")[0] for line in lines[1:3]] == [
        "b.train, b.test",
        "bad.train, bad.test",
    ]
    assert lines[-1].startswith("3 videos: 1 sound, 1 with faults, 1 refused; 4.00 hours, 360,000")
    assert not any("same content" in line for line in lines)


def test_files_that_hold_more_than_is_read_are_said_by_every_command() -> None:
    rows = {f"v{i}": row(f"v{i}", "more_video_streams", "short") for i in range(12)}
    probed = Probed({**rows, "joined": row("j", "unread_bytes"), "good": row("g")}, [])
    streams, joined = unread_lines(probed)
    assert streams.startswith("more_video_streams: 12 videos, more than one video stream")
    assert streams.endswith("v8, v9, ...)") and joined.endswith("split it (joined)")
    assert unread_lines(PROBED) == []
