"""Recorded ratios: what is compared, what counts as worse, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from vadpipe.pipeline.bench.ratios import (
    RATIOS,
    RECORDED,
    RatioError,
    check_ratios,
    machine_of,
    must_have_ratios,
    record_ratios,
)
from vadpipe.pipeline.cli.run import bench

HARDWARE = {"threads": 2, "torch": "2.14.1"}


def shards(now: float) -> dict[str, Any]:
    seconds = {"format 2, before": {"median": 4.0}, "format 3, sealed": {"median": now}}
    return {"hardware": HARDWARE, "seconds": seconds}


def test_a_ratio_that_falls_by_more_than_the_tolerance_is_worse(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    said = record_ratios(path, "shards", shards(2.0))
    assert said.startswith("2 ratios of shards")
    assert check_ratios(path, "shards", shards(2.0)).worse == ()
    assert check_ratios(path, "shards", shards(2.45)).worse == ()
    slower = check_ratios(path, "shards", shards(2.55))
    assert slower.worse == ("format 3, sealed: to before",)
    assert any(line.endswith("WORSE") for line in slower.lines)
    assert check_ratios(path, "shards", shards(2.55), tolerance=0.3).worse == ()


def test_times_that_all_change_alike_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    record_ratios(path, "shards", shards(2.0))
    slow = shards(2.0)
    for row in slow["seconds"].values():
        row["median"] *= 50
    assert check_ratios(path, "shards", slow).worse == ()


def test_a_ratio_that_is_gone_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    record_ratios(path, "shards", shards(2.0))
    values = shards(2.0)
    del values["seconds"]["format 3, sealed"]
    found = check_ratios(path, "shards", values)
    assert found.missing == ("format 3, sealed: to before",)


def test_machines_and_benches_have_entries_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    record_ratios(path, "shards", shards(2.0))
    elsewhere = {**shards(1.0), "hardware": {**HARDWARE, "gpu": "NVIDIA H200"}}
    with pytest.raises(RatioError, match="no ratios of shards"):
        check_ratios(path, "shards", elsewhere)
    record_ratios(path, "shards", elsewhere)
    assert check_ratios(path, "shards", shards(2.0)).worse == ()
    assert check_ratios(path, "shards", elsewhere).worse == ()
    assert machine_of({**HARDWARE, "threads": 3}) != machine_of(HARDWARE)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[" * 5000, "\x00"),
        *('{"format": 1}', '{"format": 2, "machines": {}}', '{"format": 1, "machines": 3}'),
        '{"format": 1, "machines": {"m": {"shards": {"ratios": {}}}}}',
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ratios.json"
    path.write_text(text)
    for call in (check_ratios, record_ratios):
        with pytest.raises(RatioError, match=r"ratios\.json"):
            call(path, "shards", shards(2.0))
    assert path.read_text() == text


def test_what_has_no_ratios_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(RatioError, match="times only"):
        must_have_ratios("index")
    with pytest.raises(RatioError, match="there is no file"):
        check_ratios(tmp_path / "none.json", "shards", shards(2.0))


def test_every_bench_but_index_has_ratios() -> None:
    (what,) = (p for p in bench.params if isinstance(p, click.Argument))
    assert isinstance(what.type, click.Choice)
    assert set(what.type.choices) - set(RATIOS) == {"index"}


def test_the_shipped_file_holds_ratios_of_known_benches() -> None:
    machines = json.loads(RECORDED.read_text())["machines"]
    assert machines
    for entries in machines.values():
        assert set(entries) <= set(RATIOS)
        for entry in entries.values():
            assert all(value > 0 for value in entry["ratios"].values())


def test_the_command_ends_with_code_1_where_a_ratio_has_fallen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ratios.json"
    for now, options, code in ((2.0, "--record", 0), (2.0, "--check", 0), (3.0, "--check", 1)):
        monkeypatch.setattr(
            "vadpipe.pipeline.cli.run._run_bench", lambda *_, now=now: (shards(now), ["a line"])
        )
        done = CliRunner().invoke(bench, ["shards", options, "--ratios", str(path)])
        assert done.exit_code == code, done.output
        assert "a line" in done.output
