"""What a review says of files and cameras."""

from __future__ import annotations

from dataclasses import replace

from tests.pipeline.run.test_archive import listed, row
from vadpipe.pipeline.run.review_kept import Chosen
from vadpipe.pipeline.run.review_said import say_cameras, say_files
from vadpipe.pipeline.store.probe_table import Probed


def test_what_the_probe_finds_is_printed() -> None:
    odd = ("odd_timestamps", "implausible_rate", "short")
    rows = {name: replace(row(10, name), flags=odd) for name in ("a", "b")}
    said: list[str] = []
    say_files(listed(a=None, b=None), Probed(rows), {}, said.append)
    found = [line for line in said if line.endswith(": a, b")]
    assert [line.partition(" (")[0] for line in found] == ["odd_timestamps", "implausible_rate"]
    assert "times repeat or run backwards" in found[0]
    assert not any("short" in line for line in said), "a flag of healthy files"


def test_what_is_gone_still_counts_as_trained() -> None:
    manifest = listed(a="gate", b="gate", c="yard")
    first = manifest.records[0].model_copy(update={"split": "train", "label": 0})
    manifest = manifest.model_copy(update={"records": (first, *manifest.records[1:])})
    probed = Probed({"a": row(60, "a"), "b": row(3600, "b"), "c": row(60, "c")})
    before = Chosen(target="/a", features="motion", model="m")
    said: list[str] = []
    (little,) = say_cameras(before, manifest, probed, said.append)
    assert little.startswith("Little footage trains: gate 60 s.") and little in said
    said.clear()
    own = before.model_copy(update={"hours": {"gate": 4.0, "yard": 0.1}})
    (little,) = say_cameras(own, manifest, probed, said.append, gone=True)
    assert said[0].startswith("camera gate: 2 videos, 4.0 hours trained, ")
    assert little.startswith("Little footage trains: yard 6 minutes.")
    said.clear()  # an earlier version has not kept it: what is left says too little
    assert say_cameras(before, manifest, probed, said.append, gone=True) == []
    assert said[0].startswith("camera gate: 2 videos, 60 minutes are scored")


def test_a_later_run_speaks_of_what_trained_and_not_of_a_first_part() -> None:
    manifest = listed(a="gate", b="gate", gone="gate")
    first = manifest.records[0].model_copy(update={"split": "train", "label": 0})
    manifest = manifest.model_copy(update={"records": (first, *manifest.records[1:])})
    probed = Probed({name: row(3600, name) for name in ("a", "b")})
    said: list[str] = []
    own = Chosen(target="/a", features="motion")
    assert say_cameras(own, manifest, probed, said.append) == []
    assert (
        said[0].startswith("camera gate: 2 videos, 60 minutes train, ")
        and "the first 50 %" in said[1]
    )
    said.clear()
    say_cameras(own.model_copy(update={"model": "m"}), manifest, probed, said.append)
    assert said[0].startswith("camera gate: 2 videos, 60 minutes trained, ")
    assert "by an earlier run still is" in said[1] and "--retrain" in said[1]
    said.clear()
    split = own.model_copy(update={"own_split": True})
    say_cameras(split, manifest, probed, said.append)
    assert said[1] == "normal is what the split train of /a names: it trains, and is not scored"
    said.clear()
    say_cameras(split.model_copy(update={"model": "m"}), manifest, probed, said.append)
    assert "names at the first run: it trained" in said[1] and "first 50 %" not in said[1]
    said.clear()
    given = Chosen(target="/a", model="m")
    assert say_cameras(given, manifest, probed, said.append) == [] and len(said) == 1
