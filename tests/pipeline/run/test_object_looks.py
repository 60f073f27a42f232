"""A look for objects: a few frames of several videos, whatever files are broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.footage import moving_picture, write_video
from tests.pipeline.run.test_archive import listed, row
from vadpipe.data_manifests import footage
from vadpipe.extractors.footage.errors import SeekMismatch
from vadpipe.extractors.footage.video import KeyFrames, in_order
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.run import object_looks
from vadpipe.pipeline.run.object_looks import (
    FRAMES,
    IN_ORDER,
    MOST_VIDEOS,
    places_in,
    shares_with_objects,
    spread,
)


class Finder:
    """In place of the network: an object where a picture's mean is above 100."""

    arrays = (SimpleNamespace(name="objects", role="frame/objects"),)

    def extract(self, clips: Any) -> Any:
        means = [clip.frames.mean() > 100 for clip in clips]
        return {"frame": SimpleNamespace(arrays={"objects": np.array(means, np.int32)})}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_looks, "resolve_extractor", lambda *_, **__: None)
    monkeypatch.setattr(object_looks, "prepared", lambda *_: Finder())


def test_videos_are_spread_over_all_that_train() -> None:
    few = list(listed(a=None, b=None).records)
    assert spread(few) == few
    many = list(listed(**{f"v{i}": None for i in range(100)}).records)
    chosen = spread(many)
    assert len(chosen) == MOST_VIDEOS and chosen[0] is many[0] and chosen[-1] is many[-1]


def test_places_are_key_frames_of_the_part_that_trains() -> None:
    (record,) = listed(a=None).records
    first_half = record.model_copy(update={"part": (0.0, 0.5)})
    video = row(40, "1")  # 1,000 frames
    assert places_in(first_half, video, 4) == [62, 187, 312, 437]
    keys = np.array([0, 100, 180, 300, 430, 520], np.int64)
    seekable = replace(video, key_frames=KeyFrames(keys, keys, keys))
    assert places_in(first_half, seekable, 4) == [0, 180, 300, 430]
    last_half = record.model_copy(update={"part": (0.5, 1.0)})
    assert all(place >= 500 for place in places_in(last_half, seekable, 4))
    assert max(places_in(record, in_order(video), 4)) < IN_ORDER
    assert places_in(record, row(0.2, "2"), FRAMES) == [0, 1, 2, 3, 4]


def test_shares_are_of_frames_all_over_a_video(looks: None, tmp_path: Path) -> None:
    """Its first half is empty; another camera cannot be read, and one has to be read in order."""
    pictures = [np.full((48, 64, 3), 20 if i < 60 else 200, np.uint8) for i in range(120)]
    write_video(tmp_path / "a.mp4", frames=iter(pictures))
    write_video(tmp_path / "b.mp4", frames=(moving_picture(i) for i in range(30)))
    manifest = footage.build(tmp_path)
    rows = dict(probe_files(manifest, tmp_path / "cache").rows)
    a, b = manifest.records
    (tmp_path / "b.mp4").unlink()
    steps: list[float] = []
    samples = {"gate": [a], "gone": [b]}
    found = shares_with_objects(samples, rows, tmp_path, Engine(threads=1), steps.append)
    assert found == {"gate": 0.5, "gone": 0.0}
    assert sum(steps) == 2 * FRAMES
    rows["a.mp4"] = in_order(rows["a.mp4"])
    assert shares_with_objects({"gate": [a]}, rows, tmp_path, Engine(threads=1))["gate"] == 0.5


def test_a_file_that_cannot_be_seeked_in_is_read_in_order(
    looks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", frames=(moving_picture(i) for i in range(30)))
    manifest = footage.build(tmp_path)
    probed = probe_files(manifest, tmp_path / "cache").rows
    real, asked = object_looks.guarded_frames, []

    def mismatched(video: Any, start: int, *rest: Any, **options: Any) -> Any:
        asked.append((start, video.sequential_only))
        if not video.sequential_only and start > 10:
            raise SeekMismatch("frames of other times")
        return real(video, start, *rest, **options)

    monkeypatch.setattr(object_looks, "guarded_frames", mismatched)
    steps: list[float] = []
    shares_with_objects(
        {"gate": list(manifest.records)}, probed, tmp_path, Engine(threads=1), steps.append
    )
    assert asked[-1][1] and [each for each in asked if each[1]] == asked[-1:]
    assert sum(steps) == FRAMES
