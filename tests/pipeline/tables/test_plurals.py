"""Singular and plural of what is counted, wherever a line counts something."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import vadpipe.data_manifests
from vadpipe.data_manifests.plain_text import counted
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.data_manifests.scenes import scene_lines
from vadpipe.pipeline import doctor
from vadpipe.pipeline.bench import ratios
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.planning import Estimate
from vadpipe.pipeline.exports import stage as exports
from vadpipe.pipeline.import_features import Imported
from vadpipe.pipeline.scores import trust
from vadpipe.pipeline.tables.features import estimate_line, found_lines, imported_lines

ROOT = Path(vadpipe.data_manifests.__file__).resolve().parents[1]
HANDWRITTEN = re.compile(
    r"""(['"])\1 if [^{}\n]+ else ['"]s['"]|['"]s['"] if [^{}\n]+[<>!]=? ?1 else"""
)


def records(n: int) -> tuple[VideoRecord, ...]:
    return tuple(
        VideoRecord(video_id=f"{scene}{i}", path=f"{scene}{i}", split="test", scene=scene)
        for scene in "abcd"[:n]
        for i in range(n)
    )


def exported(n: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        done = SimpleNamespace(events=n, videos=n, files=[Path("f")] * n)
        patch.setattr(exports, "export_events", lambda *_, **__: done)
        return CliRunner().invoke(cli, ["export", ".", "-o", "out"]).stdout


def examined(n: int) -> str:
    found = [doctor.Finding("c", state, "s", "") for state in ("problem", "warning")] * n
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "examine", lambda cache: found)
        return CliRunner().invoke(cli, ["doctor"]).stdout.splitlines()[-1]


def recorded(n: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratios, "_ratios", lambda *_: {str(i): 1.0 for i in range(n)})
        patch.setattr(ratios, "machine_of", lambda hardware: "machine")
        patch.setattr(ratios, "write_atomically", lambda *_: None)
        values = {"hardware": {"torch": "2", "processor": "p"}}
        return ratios.record_ratios(Path("/none/ratios.json"), "shards", values, {})


LINES: dict[str, tuple[Callable[[int], str], tuple[str, ...]]] = {
    "scenes": (
        lambda n: "\n".join(scene_lines(Manifest(dataset="d", root="/", records=records(n)))),
        ("scene", "video"),
    ),
    "export": (exported, ("event", "video", "file")),
    "doctor": (examined, ("problem", "warning")),
    "ratios": (recorded, ("ratio",)),
    "trust": (lambda n: trust._rate(n, 1.0), ("event",)),
    "estimate": (
        lambda n: estimate_line(Estimate(n, n, n, n, 1.0, n, 1.5)),
        ("video", "shard", "frame", "clip", "byte"),
    ),
    "import": (
        lambda n: "\n".join(
            found_lines(Imported(layouts={"snippets": n}))
            + imported_lines(Imported(videos=["v"] * n, bytes=n), dry_run=True)
        ),
        ("video", "byte"),
    ),
}


@pytest.mark.parametrize("kind", LINES)
def test_one_is_singular_and_two_are_plural(kind: str) -> None:
    line, nouns = LINES[kind]
    for noun in nouns:
        assert re.search(rf"\b1 {noun}\b", line(1)), line(1)
        assert re.search(rf"\b2 {noun}s\b", line(2)), line(2)
    assert not re.search(r"\b1 \w+s\b(?<!hours)", line(1)), line(1)


def test_nouns_that_take_more_than_an_s() -> None:
    assert [counted(n, "copy", "copies") for n in (0, 1, 2000)] == [
        *("0 copies", "1 copy", "2,000 copies")
    ]


def test_no_line_makes_its_own_plural() -> None:
    rooms = ("data_manifests", "extractors", "detectors", "pipeline")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    wrong = [str(path) for path in files if HANDWRITTEN.search(path.read_text(encoding="utf-8"))]
    assert len(files) > 100 and not wrong


def test_the_check_above_sees_them() -> None:
    assert HANDWRITTEN.search("f\"{n} event{'' if n == 1 else 's'}\"")
    assert HANDWRITTEN.search("f\"{n} row{'s' if n > 1 else ''}\"")
    assert not HANDWRITTEN.search("counted(n, 'event')")
