"""What was tried out on a machine: kept, read again, damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vadpipe.data_manifests.stored import DamagedFile
from vadpipe.extractors.device.micro_batch import MicroBatches
from vadpipe.extractors.device.tuning import MOST_ITEMS, Tuning, read_tuning


def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tuning.json"
    tuning = Tuning(path)
    assert tuning.find("net") is None
    tuning.note("net", 4, keep=True)
    tuning.note("form", "folded", keep=True)
    tuning.note("net", 2, keep=False)
    assert tuning.find("net") == 2, "of this process only"
    other = Tuning(path)
    assert other.find("net") == 4 and other.find("form") == "folded"
    assert json.loads(path.read_text()) == {"net": 4, "form": "folded"}


def test_what_others_find_is_read_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    one, two = Tuning(path), Tuning(path)
    one.note("a", 8, keep=True)
    one.note("a", 4, keep=False)
    two.note("b", "pairs", keep=True)
    assert one.find("b") == "pairs" and one.find("a") == 4
    assert read_tuning(path) == {"a": 8, "b": "pairs"}


DAMAGED = ["", "{", "[1]", '{"a": "b"}', '{"a": 0}', '{"a": true}', '{"a": null}', "\x00"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_measured_again(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(text)
    with pytest.raises(DamagedFile):
        read_tuning(path)
    assert MicroBatches(path).size("net", "cpu", 2, lambda n: 0.001) == 2
    assert list(json.loads(path.read_text()).values()) == [2]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sizes = MicroBatches(tmp_path / "file" / "tuning.json")
    assert sizes.size("net", "cpu", 2, lambda n: 0.001) == 2


def test_sizes_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text('{"net": 99999999}')
    assert read_tuning(tmp_path / "tuning.json") == {"net": MOST_ITEMS}
