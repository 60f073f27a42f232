"""Decoding rates: the same frames by every way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.footage import write_coding
from vadpipe.pipeline.bench import decode as bench_decode
from vadpipe.pipeline.bench import pixels
from vadpipe.pipeline.bench.ratios import RATIOS


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are measured on frames of 1080p otherwise."""
    monkeypatch.setattr(pixels, "SIZE", (32, 64))
    monkeypatch.setattr(pixels, "FRAMES", 20)


def test_every_way_gives_all_frames(tmp_path: Path) -> None:
    path = write_coding("h264-closed-mp4", tmp_path, 40)
    assert bench_decode.decode_alone(path, 1) == 40
    row = bench_decode.probe_video(path)
    assert {name: run() for name, run in bench_decode._ways(row, 1).items()} == {
        "alone": 40,
        "in this process": 40,
        "in a process of its own": 40,
    }


def test_shares_are_of_the_decoder_alone(tmp_path: Path) -> None:
    path = write_coding("mpeg4-avi", tmp_path, 40)
    values, lines = bench_decode.bench_decode(path, repeats=1)
    best = max(r["median"] for n, r in values["rates"].items() if n.startswith("alone"))
    kinds = [name.partition(",")[0] for name in RATIOS["decode"](values)]
    assert {"copies", "reading", "256x455", "480x840"} < set(kinds)
    for name, share in values["of_decoder_alone"].items():
        assert share == pytest.approx(values["rates"][name]["median"] / best)
    assert "mpeg4" in lines[1] and values["video"]["n_frames"] == 40


def test_without_footage_a_scene_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_decode, "DRAWN_FRAMES", 60)
    values, _ = bench_decode.bench_decode(repeats=1)
    assert values["video"]["n_frames"] == 60
