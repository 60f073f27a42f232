"""Quarantine: what has taken a process down is not opened again until the user releases it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from distributed import KilledWorker

from vadpipe.data_manifests.record import Manifest
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.errors import (
    CorruptFrames,
    DecodeError,
    DecoderCrash,
    DecoderHang,
    DecoderKilled,
    DecoderMemory,
    OverLimit,
)
from vadpipe.pipeline import probe as probe_stage
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine import quarantine, span_task
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.engine.quarantine import Quarantine, Quarantined, belongs_there
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.probe import probe_files

NULL = resolve_extractor("null")
RETRY = Engine(retry_quarantined=True)


def copied(scene: Manifest, path: Path) -> Manifest:
    """A data set of one video: a copy of the first."""
    record = scene.records[0]
    path.write_bytes(scene.resolve(record.path).read_bytes())
    records = (record.model_copy(update={"path": path.name}),)
    return Manifest(dataset="toy", root=str(path.parent), records=records)


@pytest.fixture
def hostile(scene: Manifest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Paths that hang whoever decodes them; empty the set and they are sound."""
    bad = {str(scene.resolve(scene.records[0].path))}
    real = probe_stage.guarded_probe

    def refuse(path: Any) -> None:
        if str(path) in bad:
            raise DecoderHang(f"{path}: nothing was decoded for 60 seconds")

    def guarded_frames(row: Any, *args: Any, **_: Any) -> Any:
        refuse(row.path)
        return read_frames(row, *args)

    def guarded_probe(path: Path, **options: Any) -> Any:
        refuse(path)
        return real(path, **options)

    monkeypatch.setattr(span_task, "guarded_frames", guarded_frames)
    monkeypatch.setattr(probe_stage, "guarded_probe", guarded_probe)
    return bad


# --------------------------------------------------------------------------------------- entries


def test_what_is_put_in_is_there_until_it_is_released(tmp_path: Path) -> None:
    assert quarantine.entries(tmp_path) == {}
    quarantine.add(tmp_path, "s1-a", "/a.mp4", DecoderHang("nothing came"))
    quarantine.add(tmp_path, "2|sampled|0|1|/b c.mp4", "/b c.mp4", DecoderCrash("SIGSEGV"))
    a = Quarantine("s1-a", "/a.mp4", "DecoderHang", "nothing came")
    b = Quarantine("2|sampled|0|1|/b c.mp4", "/b c.mp4", "DecoderCrash", "SIGSEGV")
    assert quarantine.entries(tmp_path) == {a.key: a, b.key: b}
    quarantine.release(tmp_path, "nobody")
    quarantine.release(tmp_path, a.key)
    assert quarantine.entries(tmp_path) == {b.key: b}
    quarantine.release(tmp_path, b.key)
    quarantine.release(tmp_path, b.key)
    assert quarantine.entries(tmp_path) == {}


def test_the_last_reason_counts(tmp_path: Path) -> None:
    quarantine.add(tmp_path, "s1-a", "/a.mp4", DecoderHang("nothing came"))
    quarantine.add(tmp_path, "s1-a", "/moved/a.mp4", DecoderMemory())
    (entry,) = quarantine.entries(tmp_path).values()
    assert (entry.path, entry.error) == ("/moved/a.mp4", "DecoderMemory")
    assert entry.message == "DecoderMemory()", "an error without words is no blank"


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{}", b'{"key": "k"}', b"\xff", b"null"])
def test_damaged_entries_are_left_out(tmp_path: Path, damage: bytes) -> None:
    quarantine.add(tmp_path, "s1-a", "/a.mp4", DecoderHang(""))
    (tmp_path / "quarantine" / "0.json").write_bytes(damage)
    assert list(quarantine.entries(tmp_path)) == ["s1-a"]


def test_a_key_is_no_path(tmp_path: Path) -> None:
    quarantine.add(tmp_path, "../../x/\0\n", "/a.mp4", DecoderHang(""))
    (path,) = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert path.parent == tmp_path / "quarantine"
    assert list(quarantine.entries(tmp_path)) == ["../../x/\0\n"]


def test_only_what_takes_a_process_down_belongs_there() -> None:
    worker: Any = None
    killed = KilledWorker("task", worker, 1)
    assert all(map(belongs_there, [DecoderHang(), DecoderCrash(), DecoderMemory(), killed]))
    assert not belongs_there(DecoderKilled()), "another process killed it"
    others = [DecodeError(), OverLimit(), CorruptFrames(), MemoryError(), OSError(), ValueError()]
    assert not any(map(belongs_there, others))
    assert not belongs_there(Quarantined())


# --------------------------------------------------------------------------------------- stages


def test_extraction_goes_on_without_it_until_it_is_retried(
    scene: Manifest, tmp_path: Path, hostile: set[str]
) -> None:
    paths = set(hostile)
    hostile.clear()
    probed = probe_files(scene, tmp_path)
    hostile |= paths
    bad, *others = [r.video_id for r in scene.records]
    first = extract_features(scene, probed, [NULL], tmp_path)
    assert [(f.video_id, f.error) for f in first.failures] == [(bad, "DecoderHang")]
    assert list(first.rows) == others and first.written == len(others)
    (entry,) = quarantine.entries(tmp_path).values()
    assert entry.key == probed.rows[bad].content_id and {entry.path} == hostile

    # it is not opened again, even where it would go well now
    hostile.clear()
    second = extract_features(scene, probed, [NULL], tmp_path)
    assert [(f.video_id, f.error) for f in second.failures] == [(bad, "Quarantined")]
    message = second.failures[0].message
    assert "DecoderHang (" in message and "vadpipe cache quarantine --release" in message
    assert second.written == 0 and list(second.rows) == others

    # a retry that goes wrong puts it back
    hostile |= paths
    third = extract_features(scene, probed, [NULL], tmp_path, engine=RETRY)
    assert [f.error for f in third.failures] == ["DecoderHang"]
    assert list(quarantine.entries(tmp_path)) == [entry.key]

    hostile.clear()
    fourth = extract_features(scene, probed, [NULL], tmp_path, engine=RETRY)
    assert not fourth.failures and fourth.written == 1
    assert quarantine.entries(tmp_path) == {}
    assert not extract_features(scene, probed, [NULL], tmp_path).failures


def test_a_copy_of_a_quarantined_video_is_not_opened_either(
    scene: Manifest, tmp_path: Path, hostile: set[str]
) -> None:
    hostile.clear()
    record = scene.records[0]
    twice = copied(scene, tmp_path / "copy.mp4")
    probed = probe_files(twice, tmp_path / "cache")
    content = probed.rows[record.video_id].content_id
    quarantine.add(tmp_path / "cache", content, "/elsewhere.mp4", DecoderCrash("SIGSEGV"))
    done = extract_features(twice, probed, [NULL], tmp_path / "cache")
    assert [f.error for f in done.failures] == ["Quarantined"]
    assert "/elsewhere.mp4" in done.failures[0].message


def test_probing_goes_on_without_it_until_it_is_retried(
    scene: Manifest, tmp_path: Path, hostile: set[str]
) -> None:
    bad, *others = [r.video_id for r in scene.records]
    first = probe_files(scene, tmp_path)
    assert [(f.video_id, f.stage, f.error) for f in first.failures] == [
        (bad, "probe", "DecoderHang")
    ]
    assert list(first.rows) == others and first.fresh == len(others)
    (entry,) = quarantine.entries(tmp_path).values()
    assert {entry.path} == hostile

    paths = set(hostile)
    hostile.clear()
    second = probe_files(scene, tmp_path)
    assert [(f.video_id, f.error) for f in second.failures] == [(bad, "Quarantined")]
    assert second.fresh == 0 and list(second.rows) == others

    hostile |= paths
    assert [
        f.error for f in probe_files(scene, tmp_path, ProbeOptions(retry_quarantined=True)).failures
    ] == ["DecoderHang"]
    assert list(quarantine.entries(tmp_path)) == [entry.key]

    hostile.clear()
    fourth = probe_files(scene, tmp_path, ProbeOptions(retry_quarantined=True))
    assert not fourth.failures and fourth.fresh == 1
    assert quarantine.entries(tmp_path) == {}


def test_a_file_that_was_mended_is_another_file(
    scene: Manifest, tmp_path: Path, hostile: set[str]
) -> None:
    """The probe knows files by path, size and time."""
    path = tmp_path / "a.mp4"
    alone = copied(scene, path)
    hostile.add(str(path))
    assert [f.error for f in probe_files(alone, tmp_path / "cache").failures] == ["DecoderHang"]
    hostile.clear()
    assert [f.error for f in probe_files(alone, tmp_path / "cache").failures] == ["Quarantined"]
    os.utime(path, (1, 1))
    assert not probe_files(alone, tmp_path / "cache").failures


# --------------------------------------------------------------------------------------- commands


def test_the_command_lists_and_releases(tmp_path: Path) -> None:
    def invoke(*options: str) -> Result:
        arguments = ["cache", "quarantine", "--cache", str(tmp_path), *options]
        return CliRunner().invoke(cli, arguments, catch_exceptions=False)

    def run(*options: str) -> list[str]:
        result = invoke(*options)
        assert result.exit_code == 0
        return result.stdout.splitlines()

    assert run() == []
    for name in "abc":
        quarantine.add(tmp_path, f"s1-{name}", f"/{name}.mp4", DecoderHang("nothing came"))
    assert sorted(run()) == [f"/{name}.mp4\tDecoderHang\tnothing came" for name in "abc"]
    assert run("--release", "/b.mp4") == ["released /b.mp4"]
    wrong = invoke("--release", "/b.mp4", "--release", "/a.mp4")
    assert wrong.exit_code == 1 and "not in quarantine: /b.mp4; nothing" in wrong.stderr
    assert set(quarantine.entries(tmp_path)) == {"s1-a", "s1-c"}
    assert sorted(run("--release", "all")) == ["released /a.mp4", "released /c.mp4"]
    assert run() == [] and not list((tmp_path / "quarantine").glob("*.json"))


def test_an_entry_says_all_that_is_known(tmp_path: Path) -> None:
    quarantine.add(tmp_path, "s1-a", "/a.mp4", DecoderHang("nothing came"))
    (path,) = (tmp_path / "quarantine").iterdir()
    assert json.loads(path.read_text()) == {
        "key": "s1-a",
        "path": "/a.mp4",
        "error": "DecoderHang",
        "message": "nothing came",
    }
