"""Objects end to end: shares follow from the rates, and each row says what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.footage import write_coding
from vadpipe.data_manifests import footage
from vadpipe.extractors.objects import Objects
from vadpipe.pipeline.bench import objects
from vadpipe.pipeline.bench.objects import ASKED, CASES, SOURCE_RATE, Case, bench_objects
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.probe import probe_files

FEW = {
    "boxes": CASES["boxes"],
    "boxes, stride 3": CASES["boxes, stride 3"],
    "tiles, stride 3": CASES["tiles, stride 3"],
    "crops and flow": CASES["crops and flow"],
}


def test_shares_follow_from_the_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CASES", FEW)
    path = write_coding("h264-closed-mp4", tmp_path, 12)
    values, lines = bench_objects(path, detector="motion", repeats=2)
    rows = values["cases"]
    assert rows.keys() == FEW.keys() - {"tiles, stride 3"}, "motion looks at no tiles"
    for name, row in rows.items():
        assert row["frames_per_second"] == max(row["runs"]) and len(row["runs"]) == 2
        assert row["share_of_alone"] == pytest.approx(row["frames_per_second"] / row["alone"])
        assert values["share_of_the_detector"][name] == row["share_of_alone"]
        assert row["networks"] is None, "motion has no network"
        assert 0 <= row["share_of_writing"] <= 1 and row["objects_a_frame"] >= 0
    assert len(lines) == 2 + len(rows)
    assert f"(target {SOURCE_RATE:.0f})" in lines[3] and "target" not in lines[2]
    assert f"asked {ASKED} %" in lines[3] and "asked" not in lines[4], "flow is work of its own"


def test_a_stride_multiplies_what_the_networks_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Footage goes by three times as fast as frames are looked at."""
    monkeypatch.setattr(objects, "CASES", {"a": Case(), "b": Case({"stride": 3})})
    monkeypatch.setattr(objects, "_alone", lambda *_: (10.0, 20.0))
    path = write_coding("h264-closed-mp4", tmp_path, 12)
    values, lines = bench_objects(path, detector="motion")
    a, b = values["cases"]["a"], values["cases"]["b"]
    assert (a["alone"], a["networks"]) == (10, 20) and (b["alone"], b["networks"]) == (30, 60)
    assert b["share_of_networks"] == pytest.approx(b["frames_per_second"] / 60)
    assert "of the networks alone, 60.0" in lines[-1]


def test_the_networks_alone_see_frames_of_all_videos_and_their_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, Any]] = []
    extract = Objects.extract

    def watched(self: Objects, clips: Any) -> Any:
        seen.extend((clip.video, clip.frame_start, self.config.teacher) for clip in clips)
        return extract(self, clips)

    monkeypatch.setattr(objects, "ALONE", 7)
    folder = tmp_path / "footage"
    for name, frames in (("one", 12), ("two", 9)):
        (folder / name).mkdir(parents=True)
        write_coding("h264-closed-mp4", folder / name, frames)
    monkeypatch.setattr(Objects, "extract", watched)
    probed = probe_files(footage.build(folder), tmp_path / "cache")
    spec = objects._spec("motion", {"teacher": "efficientnet_lite0"}, Engine())
    alone, networks = objects._alone(spec, probed, Engine())
    assert networks is not None and 0 < alone < networks, "the device has no part in boxes"
    assert len({video for video, _, _ in seen}) == 2
    assert sorted({first for _, first, _ in seen}) == [0, 3, 6, 9]
    assert {teacher for _, _, teacher in seen} == {"efficientnet_lite0"}


def test_what_the_networks_do_is_what_their_settings_say() -> None:
    tiles = CASES["tiles and flow, stride 3"].of_networks
    assert tiles == {"tile_scale": 3.0, "score": 0.1, "min_height": 12.0}
    assert CASES["crops and teacher"].of_networks == {"teacher": "efficientnet_lite0"}
