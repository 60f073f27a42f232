"""Tracks of others in the cache: which file is whose, what is refused, and the command."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vadpipe.data_manifests import Manifest, VideoRecord, write_manifest
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.import_features import Imported
from vadpipe.pipeline.import_tracks import import_tracks, parse_size
from vadpipe.pipeline.importing.files import FeatureFileError
from vadpipe.pipeline.importing.mot import read_mot
from vadpipe.pipeline.probe import Probed, probe_files
from vadpipe.pipeline.store.feature_sets import store_like

LINES = "1,1,0,0,10,10,0.5\n2,1,3,0,10,10,0.5\n2,2,20,5,4,8,1\n"


def listed(*videos: str, frames: int | None = 6, **fields: Any) -> Manifest:
    rows = [
        {"video_id": v, "path": None, "split": "train", "expected_frames": frames, **fields}
        for v in videos
    ]
    records = tuple(VideoRecord.model_validate(row) for row in rows)
    return Manifest(dataset="toy", root="/nowhere", records=records)


def bring(tmp_path: Path, manifest: Manifest, *sources: Path, **options: Any) -> Imported:
    cache = tmp_path / "cache"
    options = {"name": "t", "frame_size": (20, 40), **options}
    return import_tracks(manifest, probe_files(manifest, cache), sources, cache, **options)


def test_tracks_are_read_back_as_objects(tmp_path: Path) -> None:
    (tmp_path / "MOT-01" / "gt").mkdir(parents=True)
    (tmp_path / "MOT-01" / "gt" / "gt.txt").write_text(LINES)
    (tmp_path / "b.txt").write_text("")
    done = bring(tmp_path, listed("MOT-01", "b", "c"), tmp_path / "MOT-01", tmp_path / "b.txt")
    assert (done.videos, done.missing, done.written) == (["MOT-01", "b"], ["c"], 2)
    (store,) = done.stores
    rows = probe_files(listed("MOT-01", "b"), tmp_path / "cache").rows
    kept = store.read(rows["MOT-01"].content_id)
    assert kept.n_frames == 6
    assert kept.arrays["objects"][:].tolist() == [1, 2, 0, 0, 0, 0]
    assert kept.arrays["track"][:].tolist() == [1, 2, 1]  # in a frame, by falling score
    np.testing.assert_array_equal(kept.arrays["velocity"][:], [[3, 0], [0, 0], [3, 0]])
    assert len(store.read(rows["b"].content_id).arrays["boxes"]) == 0


def test_a_second_import_writes_nothing_and_other_tracks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(LINES)
    first = bring(tmp_path, listed("a"), path)
    again = bring(tmp_path, listed("a"), path)
    assert (first.written, again.written, again.videos) == (1, 0, ["a"])
    path.write_text(LINES + "4,1,3,0,10,10\n")
    other = bring(tmp_path, listed("a"), path)
    assert other.videos == [] and "other tracks of this video" in other.failures[0].message
    assert bring(tmp_path, listed("a"), path, name="u").written == 1
    (failure,) = bring(tmp_path, listed("a"), path, name="u", fps=10).failures
    assert "with 25 frames per second, not 10" in failure.message
    assert bring(tmp_path, listed("a"), path, name="w", dry_run=True).written == 0


def test_without_a_stated_length_the_last_box_ends_the_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    done = bring(tmp_path, listed("a", frames=None), tmp_path / "a.txt")
    row = probe_files(listed("a", frames=None), tmp_path / "cache").rows["a"]
    kept = done.stores[0].read(row.content_id)
    assert kept.n_frames == 2 and "length_unknown" in kept.flags
    (tmp_path / "a.txt").write_text("900000000000,1,0,0,4,4\n")
    done = bring(tmp_path, listed("a", frames=None), tmp_path / "a.txt", name="far")
    assert "in frame 900,000,000,000, and the length of its video is unknown" in (
        done.failures[0].message
    )


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("9,1,0,0,4,4\n", {}, "box in frame 9, but the video has 6 frames"),
        (LINES, {"frame_size": None}, "--frame-size"),
        ("1,1,0,0,4\n", {}, "line 1"),
    ],
)
def test_one_bad_file_costs_its_own_video(
    tmp_path: Path, text: str, options: dict[str, Any], reason: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    done = bring(tmp_path, listed("a"), tmp_path / "a.txt", **options)
    assert done.videos == [] and reason in done.failures[0].message


def test_a_file_without_memory_costs_its_own_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(LINES)

    def read(path: Path) -> Any:
        if path.stem == "a":
            raise OutOfMemory("a.txt needs more")
        return read_mot(path)

    tracks = import_module("vadpipe.pipeline.import_tracks")  # the package has a function so called
    monkeypatch.setattr(tracks, "read_mot", read)
    done = bring(tmp_path, listed("a", "b"), tmp_path / "a.txt", tmp_path / "b.txt")
    assert done.videos == ["b"] and done.failures[0].message == "a.txt needs more"


def test_names_that_fit_none_or_several(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(LINES)
    with pytest.raises(FeatureFileError, match="no file fits a video of toy"):
        bring(tmp_path, listed("a"), tmp_path / "x.txt")
    with pytest.raises(FeatureFileError, match="does not exist"):
        bring(tmp_path, listed("a"), tmp_path / "none")
    with pytest.raises(FeatureFileError, match="HEIGHTxWIDTH"):
        parse_size("480")
    (tmp_path / "a.txt").write_text(LINES)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text(LINES)
    done = bring(tmp_path, listed("a"), tmp_path / "a.txt", tmp_path / "sub", tmp_path / "x.txt")
    assert done.videos == ["a"]
    assert sorted(f.error for f in done.failures) == ["UnknownVideo"] * 2


def test_a_folder_of_the_mot_challenge_has_its_tracks_in_gt(tmp_path: Path) -> None:
    """Boxes of det have no ids: they are no second file of the video."""
    for kind, text in (("gt", LINES), ("det", "1,-1,0,0,10,10,0.5\n")):
        (tmp_path / "M" / kind).mkdir(parents=True)
        (tmp_path / "M" / kind / f"{kind}.txt").write_text(text)
    done = bring(tmp_path, listed("M"), tmp_path / "M")
    assert (done.videos, done.failures) == (["M"], [])


def test_hidden_files_are_left_out_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.txt").write_text(LINES)
    (tmp_path / "in" / "sub" / "._a.txt").write_bytes(b"\0Mac OS X")
    done = bring(tmp_path, listed("a"), tmp_path / "in")
    assert (done.videos, done.failures) == (["a"], [])


def test_footage_says_size_and_rate(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    row = ProbeRow("/a.mp4", "s1-" + "ab" * 20, "video", 6, False, 10.0, 20, 40, 0, 0.6, "", "")
    done = import_tracks(
        listed("a"),
        Probed({"a": row}, []),
        [tmp_path / "a.txt"],
        tmp_path / "cache",
        name="t",
        frame_size=(5, 5),
        fps=3,
    )
    kept = done.stores[0].read(row.content_id)
    assert kept.arrays["frame_size"][:1].tolist() == [[20, 40]]
    assert kept.fps == 10.0


def test_the_command(tmp_path: Path) -> None:
    write_manifest(listed("a"), tmp_path / "m.parquet")
    (tmp_path / "a.txt").write_text(LINES)
    command = ["import", str(tmp_path / "m.parquet"), str(tmp_path / "a.txt"), "--mot"]
    command += ["--name", "t", "--frame-size", "20x40", "--cache", str(tmp_path / "cache")]
    shown = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert shown.exit_code == 0 and "1 shard written" in shown.output
    assert store_like(tmp_path / "cache", "imported").recipe["config"]["format"] == "mot"
    wrong = CliRunner().invoke(cli, [*command, "--grid", "2x3"])
    assert wrong.exit_code == 2 and "mean nothing with --mot" in wrong.output
