"""Every bench says what its rows are compared with, or why they are not."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from vadpipe.pipeline.bench.compared import COMPARED, compared_lines
from vadpipe.pipeline.cli import benches
from vadpipe.pipeline.cli.benches import BENCHES
from vadpipe.pipeline.cli.run import bench


def test_every_bench_is_there() -> None:
    assert set(COMPARED) == set(BENCHES)


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_nothing_is_left_out_without_a_reason(name: str) -> None:
    for text in (COMPARED[name].limit, COMPARED[name].plain):
        assert text and (not text.startswith("none") or len(text.partition(": ")[2]) > 20)
    assert len(compared_lines(name)) == 2


def test_the_command_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"hardware": {}}
    monkeypatch.setitem(benches.BENCHES, "page", lambda asked: (values, ["a row"]))
    done = CliRunner().invoke(bench, ["page"])
    assert done.exit_code == 0, done.output
    first, *others = done.output.splitlines()
    assert first == "a row" and others == compared_lines("page")
