"""Masks and tracks against score folders, without footage: boxes, maps, and what is undefined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.score_folders import write_score_folder
from vadpipe.data_manifests import write_manifest
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.tracks import Tracks, write_tracks
from vadpipe.detectors.base import Scores
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.evaluate import evaluate_runs, evaluate_scores
from vadpipe.pipeline.metrics.places import RegionChoice, stamp_of_places
from vadpipe.pipeline.metrics.results import FrameMetrics
from vadpipe.pipeline.report.stage import write_report
from vadpipe.pipeline.scores.frames import MetricsError
from vadpipe.pipeline.tables.metrics import detail_lines, metrics_lines, runs_lines

N = 10  # frames of each video, 48 x 64 pixels
FOUND = [0, 0, 16, 12]  # where the anomaly of "a" is, in frames 4 to 7


def scores(*, boxes: bool, maps: bool, hit: bool) -> Scores:
    start = np.arange(N)
    score = np.where((start >= 4) & (start < 8), 1.0 + start / 100, start / 100) * hit
    regions = None
    if boxes:
        frames = start[4:8] if hit else start[:2]
        box = FOUND if hit else [40, 30, 60, 40]
        regions = pa.table(
            {
                "frame": frames,
                **{
                    name: pa.array([float(value)] * len(frames), pa.float32())
                    for name, value in zip(("x0", "y0", "x1", "y1"), box, strict=True)
                },
                "score": frames + 0.5,
            }
        )
    drawn = np.zeros((N, 4, 4), np.float32)
    if hit:
        drawn[4:8, 0, 0] = 3.0
    return Scores(start, start + 1, {"score": score}, {"m": drawn} if maps else {}, regions)


def folder(path: Path, *, boxes: bool = False, maps: bool = False) -> Path:
    made = {name: scores(boxes=boxes, maps=maps, hit=name == "a") for name in ("a", "b")}
    return write_score_folder(path, made, None).path


def manifest(root: Path, **fields: Any) -> Manifest:
    """Video a is abnormal in frames 4 to 7, b is normal."""
    a = {"video_id": "a", "path": "a.mp4", "split": "test", "anomalies": ((4, 8),), **fields}
    b = {"video_id": "b", "path": "b.mp4", "split": "test", "anomalies": ()}
    records = tuple(VideoRecord.model_validate(row) for row in (a, b))
    return Manifest(dataset="yard", root=str(root), records=records)


@pytest.fixture
def labelled(tmp_path: Path) -> Manifest:
    (tmp_path / "a.csv").write_text(
        "track_id,frame,x0,y0,x1,y1\n" + "".join(f"0,{f},0,0,16,12\n" for f in range(4, 8))
    )
    (tmp_path / "masks").mkdir()
    for frame in range(N):
        mask = np.zeros((48, 64), np.uint8)
        if 4 <= frame < 8:
            mask[: 12 * (frame - 3), :16] = 255  # a sixteenth of the frame, two, three, four
        Image.fromarray(mask).save(tmp_path / "masks" / f"{frame:03d}.png")
    return manifest(tmp_path, tracks="a.csv", masks="masks")


def measure(path: Path, listed: Manifest, **choice: Any) -> FrameMetrics:
    return evaluate_scores(path, listed, replicates=0, regions=RegionChoice(**choice)).metrics


def test_boxes_of_the_detector_against_the_tracks_of_the_manifest(
    tmp_path: Path, labelled: Manifest
) -> None:
    got = measure(folder(tmp_path / "out", boxes=True), labelled)
    r = got.regions
    assert r is not None
    assert (r.rbdc, r.tbdc) == (1.0, 1.0)  # false alarms of b have the lowest scores
    assert (r.n_regions, r.n_tracks, r.n_detections, r.n_false) == (4, 1, 6, 2)
    assert (r.n_videos, r.n_frames, r.left_out) == (2, 2 * N, ())
    assert r.boxes == "boxes of the detector"
    assert (r.curve.fpr[0], r.curve.fpr[-1], r.curve.rbdr[-1]) == (0, 1, 1)
    assert FrameMetrics.from_json(json.loads(json.dumps(got.to_json()))) == got


def test_a_map_makes_boxes_where_there_are_none_or_by_name(
    tmp_path: Path, labelled: Manifest
) -> None:
    path = folder(tmp_path / "out", maps=True, boxes=True)
    assert measure(path, labelled).regions.boxes == "boxes of the detector"
    chosen = measure(path, labelled, map_name="m", quantile=0.5).regions
    assert chosen.boxes == "components of map m above 0, its quantile 0.5"
    # One cell of 12 x 16 pixels in each of the four frames: exactly the regions.
    assert (chosen.rbdc, chosen.n_detections, chosen.n_false) == (1.0, 4, 0)
    only_maps = folder(tmp_path / "maps", maps=True)
    assert measure(only_maps, labelled, quantile=0.5).regions == chosen
    with pytest.raises(MetricsError, match="no map 'n'"):
        measure(path, labelled, map_name="n")


def test_thirds_by_size_come_from_the_masks(tmp_path: Path, labelled: Manifest) -> None:
    done = evaluate_scores(folder(tmp_path / "out"), labelled, replicates=0)
    sizes = done.metrics.sizes
    assert [(s.n_frames, s.smallest, s.largest) for s in sizes] == [
        (2, 1 / 16, 2 / 16),
        (1, 3 / 16, 3 / 16),
        (1, 4 / 16, 4 / 16),
    ]
    assert [s.micro_auc for s in sizes] == [1.0] * 3
    assert done.metrics.undefined["regions"] == "the detector makes neither boxes nor maps"
    assert any("small (6.25 to 12.5 %)" in line for line in detail_lines(done))


def test_what_cannot_be_read_leaves_metrics_undefined(tmp_path: Path) -> None:
    path = folder(tmp_path / "out", boxes=True)
    got = measure(path, manifest(tmp_path, masks="none", tracks="none.csv"))
    assert (got.sizes, got.regions) == ((), None)
    assert "none" in got.undefined["sizes"] and "none.csv" in got.undefined["regions"]
    (tmp_path / "few").mkdir()
    Image.fromarray(np.ones((48, 64), np.uint8)).save(tmp_path / "few" / "0.png")
    got = measure(path, manifest(tmp_path, masks="few"))
    assert got.undefined["sizes"] == "a has 1 masks for 10 frames"
    assert got.regions is None and "regions" not in got.undefined  # there are no tracks


def test_tracks_of_a_file_replace_those_of_the_manifest(tmp_path: Path, labelled: Manifest) -> None:
    path = folder(tmp_path / "out", boxes=True)
    tracks = tmp_path / "tracks.csv"
    write_tracks(tracks, {"b": Tracks.from_rows(np.array([[0, 0, 40, 30, 60, 40]]))})
    r = measure(path, labelled, tracks=tracks).regions
    assert (r.n_regions, r.left_out, r.n_videos, r.n_frames) == (1, ("a",), 1, N)
    assert r.rbdc == 0.9  # the box of frame 1 comes first: one false alarm in ten frames
    write_tracks(tracks, {"other": Tracks.from_rows(np.array([[0, 0, 40, 30, 60, 40]]))})
    with pytest.raises(MetricsError, match="no region of a measured video"):
        measure(path, labelled, tracks=tracks)
    with pytest.raises(ManifestError, match="does not exist"):
        measure(path, labelled, tracks=tmp_path / "none.csv")


def test_several_folders_and_other_columns(tmp_path: Path, labelled: Manifest) -> None:
    paths = [folder(tmp_path / name, boxes=True) for name in ("one", "two")]
    done = evaluate_runs(paths, labelled, replicates=0)
    assert [run.metrics.regions.rbdc for run in done.runs.values()] == [1.0, 1.0]
    assert "RBDC 100.00\tTBDC 100.00\tsmall AUC 100.00\tmedium AUC" in runs_lines(done)[0]
    made = {
        name: Scores(np.arange(N), np.arange(N) + 1, {"score": np.ones(N), "x": np.ones(N)})
        for name in ("a", "b")
    }
    other = write_score_folder(tmp_path / "three", made, None).path
    got = evaluate_scores(other, labelled, replicates=0, column="x").metrics
    assert got.regions is None and "regions" not in got.undefined  # boxes belong to score


def test_the_commands(tmp_path: Path, labelled: Manifest) -> None:
    listed, tracks = tmp_path / "m.parquet", tmp_path / "tracks.csv"
    write_manifest(labelled, listed)
    path = folder(tmp_path / "out", boxes=True)
    runner = CliRunner()
    made = runner.invoke(cli, ["labels", "tracks", str(listed), "-o", str(tracks), "--json"])
    facts = json.loads(made.output)
    assert (facts["regions"], facts["tracks"], facts["videos"]) == (4, 1, 1)
    command = ["evaluate", str(path), str(listed), "--tracks", str(tracks)]
    shown = runner.invoke(cli, command, catch_exceptions=False)
    assert "RBDC" in shown.output and facts["sha256"] in shown.output
    assert json.loads((path / "metrics.json").read_text())["regions"]["n_tracks"] == 1
    lines = metrics_lines(evaluate_scores(path, labelled, replicates=0))
    assert any(line.startswith("RBDC 100.00   TBDC 100.00   4 regions in 1 tr") for line in lines)


def test_the_page_shows_curves_and_sizes(tmp_path: Path, labelled: Manifest) -> None:
    path = folder(tmp_path / "out", boxes=True)
    evaluate_scores(path, labelled, replicates=0)
    page = write_report(path, manifest=labelled).read_text(encoding="utf-8")
    assert "Found regions, area 100.00 %" in page and 'class="score tracks"' in page
    assert '<table id="sizes">' in page and "6.25 % to 12.50 %" in page
    evaluate_scores(path, manifest(tmp_path), replicates=0)
    page = write_report(path).read_text(encoding="utf-8")
    assert "Found regions" not in page and '<table id="sizes">' not in page


def test_the_stamp_of_masks_and_tracks_follows_their_files(tmp_path: Path) -> None:
    assert stamp_of_places(manifest(tmp_path)) is None
    named = manifest(tmp_path, masks="masks", tracks="a.csv")
    seen = [stamp_of_places(named)]
    (tmp_path / "masks").mkdir()
    for name in ("masks/0.png", "a.csv"):
        (tmp_path / name).write_text("x")
        seen.append(stamp_of_places(named))
        assert stamp_of_places(named) == seen[-1]
        (tmp_path / name).write_text("other")
        seen.append(stamp_of_places(named))
    (tmp_path / "masks" / "0.png").rename(tmp_path / "masks" / "1.png")
    seen.append(stamp_of_places(named))
    assert len({*seen}) == len(seen) == 6
