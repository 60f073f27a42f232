"""Recorded ratios: what is compared, what counts as worse, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from vadpipe.pipeline.bench.race import hardware
from vadpipe.pipeline.bench.ratios import (
    RATIOS,
    RECORDED,
    RatioError,
    Recorded,
    check_ratios,
    machine_of,
    must_have_ratios,
    record_ratios,
    recorded_ratios,
)
from vadpipe.pipeline.cli.benches import BENCHES, Asked, options_of
from vadpipe.pipeline.cli.run import bench


def machine() -> dict[str, Any]:
    """Asked in each test: others change the number of threads."""
    return {**hardware(), "torch": "2.14.1"}


NONE: dict[str, str | int] = {}


def shards(now: float) -> dict[str, Any]:
    seconds = {"format 2, before": {"median": 4.0}, "format 3, sealed": {"median": now}}
    return {"hardware": machine(), "seconds": seconds}


def recorded(**ratios: float) -> Recorded:
    return Recorded(date="2026-01-01", torch="2", processor="p", options={}, ratios=ratios)


SEALED = "format 3, sealed: to before"
BEFORE = recorded(**{SEALED: 2.0})


def test_a_ratio_that_falls_by_more_than_the_tolerance_is_worse() -> None:
    assert check_ratios(BEFORE, "shards", shards(2.0)).worse == ()
    assert check_ratios(BEFORE, "shards", shards(2.45)).worse == ()
    slower = check_ratios(BEFORE, "shards", shards(2.55))
    assert slower.worse == (SEALED,)
    assert any(line.endswith("WORSE") for line in slower.lines)
    assert check_ratios(BEFORE, "shards", shards(2.55), tolerance=0.3).worse == ()


def test_a_ratio_far_above_the_recorded_one_is_said_because_it_guards_nothing() -> None:
    quicker = check_ratios(BEFORE, "shards", shards(1.3))  # 3.08
    assert quicker.far == (SEALED,) and not quicker.worse
    assert any(line.endswith("FAR ABOVE") for line in quicker.lines)
    assert "1 ratio far above the recorded: record shards again (--record)" in quicker.lines[-1]
    assert check_ratios(BEFORE, "shards", shards(1.4)).far == ()  # 2.86


def test_times_that_all_change_alike_change_nothing() -> None:
    slow = shards(2.0)
    for row in slow["seconds"].values():
        row["median"] *= 50
    assert check_ratios(BEFORE, "shards", slow).worse == ()


def test_a_ratio_that_is_gone_is_said() -> None:
    before = recorded(**{SEALED: 2.0, "gone": 1.0})
    assert check_ratios(before, "shards", shards(2.0)).missing == ("gone",)


def test_a_ratio_that_is_not_recorded_is_said() -> None:
    done = check_ratios(recorded(), "shards", shards(2.0))
    assert done.unrecorded == (SEALED,) and not done.worse and not done.missing
    assert done.lines[0] == f"{SEALED:52}     2.00, not recorded"
    assert check_ratios(BEFORE, "shards", shards(2.0)).unrecorded == ()


def test_decoding_is_guarded_by_copies_sparse_reading_and_resizing_too() -> None:
    def times(**medians: float) -> dict[str, Any]:
        return {name.replace("_", " "): {"median": ms} for name, ms in medians.items()}

    values = {
        "of_decoder_alone": {"alone, 1 threads": 1.0},
        "pixels": {
            "copies": times(three_copies=6.0, one_copy=2.0),
            "reading": times(every_frame=8.0, every_16th=2.0),
            "resizing": times(
                **{"8x8, resized by the reader": 3.0, "8x8, resized by the decoder": 2.0}
            ),
        },
    }
    measured = RATIOS["decode"](values)
    assert measured == {
        "alone, 1 threads: of_decoder_alone": 1.0,
        "copies, one copy: to three copies": 3.0,
        "reading, every 16th: to every frame": 4.0,
        "8x8, resized by the decoder: to the reader": 1.5,
    }
    before = recorded(**measured)
    for what, name in (("copies", "one copy"), ("reading", "every 16th")):
        slower = json.loads(json.dumps(values))
        slower["pixels"][what][name]["median"] *= 1.5
        (worse,) = check_ratios(before, "decode", slower).worse
        assert worse.startswith(f"{what}, {name}: ")


def test_what_a_bench_compares_with_itself_is_no_ratio() -> None:
    rows = {"version 0.1": 1.0, "mapped": 20.0}
    values = {"to_version_0_1": rows, "of_copying": {"mapped": 0.8}}
    assert RATIOS["windows"](values) == {
        "mapped: to_version_0_1": 20.0,
        "mapped: of_copying": 0.8,
    }


@pytest.mark.parametrize("what", ["decode", "startup", "nearest"])
def test_what_only_the_cpu_does_takes_no_other_device(what: str) -> None:
    done = CliRunner().invoke(bench, [what, "--device", "cuda"])
    assert done.exit_code == 2
    assert "leave --device out" in done.output


def test_bf16_of_the_autoencoder_is_guarded() -> None:
    values = {"share_of_convolutions": {"a bf16: t": 0.5}, "bf16_to_fp32": {"a bf16: t": 2.0}}
    measured = RATIOS["autoencoder"](values)
    assert measured == {"a bf16: t: share_of_convolutions": 0.5, "a bf16: t: bf16_to_fp32": 2.0}


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    said = record_ratios(path, "shards", shards(2.0), {"count": 4})
    assert said.startswith("1 ratio of shards")
    found = recorded_ratios(path, "shards", "cpu", {"count": 4})
    assert found.ratios == {SEALED: 2.0}
    assert found.options == {"count": 4}
    with pytest.raises(RatioError, match="recorded with --count 4, not with no option"):
        recorded_ratios(path, "shards", "cpu", NONE)
    default: dict[str, str | int] = {"count": 4}
    assert recorded_ratios(path, "shards", "cpu", NONE, default).ratios == {SEALED: 2.0}
    record_ratios(path, "shards", shards(2.0), NONE)  # a record of an earlier version
    assert recorded_ratios(path, "shards", "cpu", {"count": 4}, default).options == {}


def test_machines_have_entries_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    elsewhere = {**shards(1.0), "hardware": {**machine(), "gpu": "NVIDIA H200"}}
    record_ratios(path, "shards", elsewhere, NONE)
    with pytest.raises(RatioError, match="no ratios of shards"):
        recorded_ratios(path, "shards", "cpu", NONE)
    record_ratios(path, "shards", shards(2.0), NONE)
    assert recorded_ratios(path, "shards", "cpu", NONE).ratios == {SEALED: 2.0}
    assert machine_of({**machine(), "threads": 99}) != machine_of(machine())


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
    with pytest.raises(RatioError, match=r"ratios\.json"):
        recorded_ratios(path, "shards", "cpu", NONE)
    with pytest.raises(RatioError, match=r"ratios\.json"):
        record_ratios(path, "shards", shards(2.0), NONE)
    assert path.read_text() == text


def test_what_cannot_be_compared_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(RatioError, match="times only"):
        must_have_ratios("index")
    with pytest.raises(RatioError, match="there is no file"):
        recorded_ratios(tmp_path / "none.json", "shards", "cpu", NONE)


def test_every_bench_but_index_and_page_has_ratios() -> None:
    (what,) = (p for p in bench.params if isinstance(p, click.Argument))
    assert isinstance(what.type, click.Choice)
    assert set(what.type.choices) - set(RATIOS) == {"index", "page"}


def test_the_shipped_file_holds_ratios_of_known_benches() -> None:
    machines = json.loads(RECORDED.read_text())["machines"]
    assert machines
    for entries in machines.values():
        assert set(entries) <= set(RATIOS)
        for entry in entries.values():
            assert all(value > 0 for value in Recorded(**entry).ratios.values())


def run(path: Path, now: float, *options: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setitem(BENCHES, "shards", lambda _: (shards(now), ["a line"]))
    return CliRunner().invoke(bench, ["shards", *options, "--ratios", str(path)])


def test_the_command_ends_with_code_1_where_a_ratio_has_fallen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ratios.json"
    for now, option, code in ((2.0, "--record", 0), (2.0, "--check", 0), (3.0, "--check", 1)):
        done = run(path, now, option, monkeypatch=monkeypatch)
        assert done.exit_code == code, done.output
        assert "a line" in done.output


def test_options_that_say_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ratios.json"
    assert run(path, 2.0, monkeypatch=monkeypatch).exit_code == 2
    assert run(path, 2.0, "--check", "--record", monkeypatch=monkeypatch).exit_code == 2
    assert not path.exists()


def nearest(now: float) -> dict[str, Any]:
    return {"hardware": machine(), "ratio": now, "share_of_matmul": 0.5}


def check_all(path: Path, *options: str) -> Result:
    return CliRunner().invoke(bench, ["--check", "--ratios", str(path), *options])


def test_a_check_without_a_name_runs_all_that_is_recorded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "ratios.json", []
    now = {"shards": shards(2.0), "nearest": nearest(2.0)}

    def measure(what: str) -> Any:
        return lambda told: (asked.append((what, told.count)) or now[what], [f"{what} ran"])

    for what in now:
        monkeypatch.setitem(BENCHES, what, measure(what))
        record_ratios(path, what, now[what], {"count": 7} if what == "nearest" else NONE)
    record_ratios(
        path,
        "windows",
        {"hardware": machine(), "to_version_0_1": {}, "of_copying": {}},
        {"footage": "f"},
    )
    elsewhere = {**shards(1.0), "hardware": {**machine(), "gpu": "NVIDIA H200"}}
    record_ratios(
        path,
        "decode",
        {
            **elsewhere,
            "of_decoder_alone": {},
            "pixels": {
                "copies": {"a": {"median": 1}},
                "reading": {"a": {"median": 1}},
                "resizing": {},
            },
        },
        NONE,
    )
    done = check_all(path)
    assert done.exit_code == 0, done.output
    assert asked == [("nearest", 7), ("shards", None)]
    assert "no ratio is worse than recorded" in done.output
    assert "left out: it was recorded with --footage f" in done.output
    now["nearest"] = nearest(1.0)
    done = check_all(path, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["worse"] == ["nearest: to scikit-learn"]


def test_a_check_of_all_needs_records_of_such_a_machine(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    elsewhere = {**shards(1.0), "hardware": {**machine(), "gpu": "NVIDIA H200"}}
    record_ratios(path, "shards", elsewhere, NONE)
    done = check_all(path)
    assert isinstance(done.exception, RatioError)
    assert "has no ratios of a machine like this" in str(done.exception)


@pytest.mark.parametrize("options", [[], ["--record"], ["--check", "--count", "3"]])
def test_without_a_name_only_a_check_of_all_makes_sense(options: list[str]) -> None:
    done = CliRunner().invoke(bench, options)
    assert done.exit_code == 2
    assert "name what is measured" in done.output


def test_footage_of_another_size_is_other_footage(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"
    for file, size in ((one, 10), (other, 2000)):
        file.parent.mkdir()
        file.write_bytes(bytes(size))
    asked = [Asked(None, None, "cpu", file) for file in (one, other, one.parent)]
    assert [options_of("decode", each)["footage"] for each in asked] == [
        "clip.mp4 (10 bytes)",
        "clip.mp4 (2,000 bytes)",
        "a (10 bytes)",
    ]
    assert options_of("shards", Asked(None, None, "cpu", None)) == {"count": 100}
