"""Score folders: stamps, the lock, tables written together, errors for damaged files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import Scores
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.scores.events import EVENT_SCHEMA
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError, part_stamp
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.video_tables import EVENT_TABLE, SCORE_SCHEMA, VIDEO_TABLE, video_row
from vadpipe.pipeline.store.failures import Failure

RECORD = VideoRecord(video_id="v", path="v.mp4", split="test", part=(0.0, 0.5))


def row(path: str = "/v.mp4", content_id: str = "s1-" + "0" * 40) -> ProbeRow:
    facts = (0, 1.6, "h264", "mp4")  # rotation, seconds, codec, container
    return ProbeRow(path, content_id, "video", 40, True, 25.0, 48, 64, *facts)


ROW = row()
FACTS = {"n_frames": 40, "fps": 25.0, "flags": ["rotated"]}


def scores(n: int = 5, maps: bool = True) -> Scores:
    start = np.arange(n) * 8
    values = {"m": np.zeros((n, 2, 3), np.float32)} if maps else {}
    return Scores(start, start + 8, {"score": np.arange(n) / 10, "other": np.ones(n)}, values)


@pytest.fixture
def folder(tmp_path: Path) -> ScoreFolder:
    """One video, whole."""
    made = ScoreFolder(tmp_path / "out")
    with made.locked() as problem:
        assert problem is None
        made.write_scores("v", scores(), "stamp", FACTS)
        with made.tables("knn", ["score", "other"]) as tables:
            part = made.scores("v")
            tables.add_scores(part)
            tables.add([video_row(RECORD, ROW, part)], EVENT_SCHEMA.empty_table())
        made.write_failures([Failure("w", "score", "E", "why")])
        made.write_run({"threshold": {"high": 0.5}, "model": {"supervision": "weak"}})
    return made


def test_what_is_written_is_read(folder: ScoreFolder) -> None:
    part = folder.scores("v")
    assert part.column_names == ["video_id", "frame_start", "frame_stop", "score", "other"]
    assert part["score"].to_pylist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert pq.read_table(folder.path / "scores.parquet").to_pylist() == part.to_pylist()
    assert pq.read_schema(folder.path / "scores.parquet").metadata[b"detector"] == b"knn"
    (video,) = folder.videos()
    assert video == {
        **{"video_id": "v", "path": "/v.mp4", "content_id": ROW.content_id, "kind": "video"},
        **{"n_frames": 40, "fps": 25.0, "height": 48, "width": 64, "flags": ["rotated"]},
        **{"frame_start": 0, "frame_stop": 20, "scene": None, "scene_trained": None},
    }
    assert folder.events() == []
    assert folder.failures() == [
        {"video_id": "w", "stage": "score", "error": "E", "message": "why"}
    ]
    assert folder.run()["model"] == {"supervision": "weak"}
    assert folder.metrics() is None
    folder.write_metrics({"micro_auc": None})
    assert folder.metrics() == {"micro_auc": None}
    folder.remove_metrics()
    folder.remove_metrics()
    assert folder.metrics() is None
    assert folder.held_out() is None
    folder.write_held_out(HeldOut.from_scores(["n"], [scores(maps=False)]))
    held_out = folder.held_out()
    assert held_out is not None and held_out.columns == ("score", "other")
    folder.write_held_out(None)
    assert folder.held_out() is None, "rows of another model are gone"
    assert folder.read_map("v", "m", 1, 3).shape == (2, 2, 3)
    hidden = sorted(p.name for p in folder.path.iterdir() if p.name.startswith("."))
    assert hidden == [".lock"]


def test_tables_without_videos_have_their_columns(tmp_path: Path) -> None:
    folder = ScoreFolder(tmp_path)
    with folder.tables("knn"):
        pass
    schemas = {"scores": SCORE_SCHEMA, "videos": VIDEO_TABLE, "events": EVENT_TABLE}
    for name, schema in schemas.items():
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert table.schema.equals(schema) and not table.num_rows


def test_tables_that_are_not_finished_leave_the_old_ones(folder: ScoreFolder) -> None:
    before = {p.name: p.read_bytes() for p in folder.path.glob("*.parquet")}
    with pytest.raises(KeyboardInterrupt), folder.tables("x", ["score", "other"]) as tables:
        tables.add_scores(folder.scores("v"))
        raise KeyboardInterrupt
    assert {p.name: p.read_bytes() for p in folder.path.glob("*.parquet")} == before
    assert not list(folder.path.glob(".tables-*"))


# --- stamps ----------------------------------------------------------------------------------


def test_the_stamp_changes_with_all_that_scores_are_made_of() -> None:
    stamps = [
        part_stamp("key", RECORD, ROW, []),
        part_stamp("other", RECORD, ROW, []),
        part_stamp("key", RECORD.model_copy(update={"part": (0.5, 1.0)}), ROW, []),
        part_stamp("key", RECORD, row(content_id="s1-" + "1" * 40), []),
        part_stamp("key", RECORD, ROW, ["checksum"]),
    ]
    assert len(set(stamps)) == len(stamps)
    assert part_stamp("key", RECORD, row("/moved.mp4"), []) == stamps[0]
    assert json.loads(stamps[0]) == {
        "score_version": 2,
        "model": "key",
        "content_id": ROW.content_id,
        "part": [0.0, 0.5],
    }


def test_a_part_is_current_with_its_stamp_and_its_maps(folder: ScoreFolder) -> None:
    assert folder.is_current("v", "stamp", keep_maps=True)
    assert not folder.is_current("v", "other", keep_maps=True)
    assert not folder.is_current("w", "stamp", keep_maps=True)
    (folder.path / "maps" / "v.h5").write_bytes(b"broken")
    assert not folder.is_current("v", "stamp", keep_maps=False)
    (folder.path / "maps" / "v.h5").unlink()
    assert folder.is_current("v", "stamp", keep_maps=False)
    assert not folder.is_current("v", "stamp", keep_maps=True), "it had maps"
    folder.write_scores("v", scores(maps=False), "stamp", FACTS)
    assert folder.is_current("v", "stamp", keep_maps=True), "its detector makes none"


def boxes() -> pa.Table:
    values = {"frame": [3], "x0": [0.0], "y0": [0.0], "x1": [4.0], "y1": [4.0], "score": [0.5]}
    return pa.table(values)


def test_a_part_is_current_with_its_regions(folder: ScoreFolder) -> None:
    assert folder.regions("v") is None
    folder.write_scores("v", replace(scores(), regions=boxes()), "stamp", FACTS)
    found = folder.regions("v")
    assert found is not None and found["score"].to_pylist() == [0.5]
    assert folder.is_current("v", "stamp", keep_maps=True)
    path = folder.path / "regions" / "v.parquet"
    whole = path.read_bytes()
    path.write_bytes(b"broken")
    assert not folder.is_current("v", "stamp", keep_maps=True)
    path.unlink()
    assert not folder.is_current("v", "stamp", keep_maps=True)
    folder.write_scores("v", scores(), "stamp", FACTS)
    assert folder.is_current("v", "stamp", keep_maps=True)
    path.write_bytes(whole)
    assert not folder.is_current("v", "stamp", keep_maps=True), "its detector makes none"
    folder.keep_only([])
    assert not path.exists()


def test_a_damaged_part_is_scored_again(folder: ScoreFolder) -> None:
    (folder.path / "scores" / "v.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert not folder.is_current("v", "stamp", keep_maps=True)


def test_parts_and_maps_of_other_videos_go(folder: ScoreFolder) -> None:
    folder.write_scores("w", scores(), "stamp", FACTS)
    folder.keep_only(["w"])
    left = [p.name for name in ("scores", "maps") for p in (folder.path / name).iterdir()]
    assert left == ["w.parquet", "w.h5"]


# --- the lock --------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from vadpipe.pipeline.scores.folder import ScoreFolder
with ScoreFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_lets_go_of_the_lock(tmp_path: Path) -> None:
    folder = ScoreFolder(tmp_path / "out")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ScoreFolderError, match="another run is at work"), folder.locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    leftover = folder.path / ".tables-left"
    leftover.mkdir()
    with folder.locked() as problem:
        assert problem is None and not leftover.exists()


# --- what is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["videos", "events", "failures"])
def test_tables_say_what_is_wrong_with_them(folder: ScoreFolder, name: str) -> None:
    path = folder.path / f"{name}.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ScoreFolderError, match=rf"{name}.parquet is damaged.*run score again"):
        getattr(folder, name)()
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(ScoreFolderError, match=rf"{name}.parquet has no column .*run score again"):
        getattr(folder, name)()
    path.unlink()
    with pytest.raises(ScoreFolderError, match=rf"not a score folder: it has no {name}.parquet"):
        getattr(folder, name)()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 nothing PAR1", "is damaged.*delete it and run score again"),
        (None, "is missing: run score again"),
        (pa.table({"frame_start": [0], "frame_stop": [8]}), "has no column score"),
        (pa.table({n: pa.array([], pa.int64()) for n in SCORE_SCHEMA.names}), "has no scores"),
    ],
    ids=["damaged", "missing", "columns", "empty"],
)
def test_parts_say_what_is_wrong_with_them(folder: ScoreFolder, content: Any, message: str) -> None:
    path = folder.path / "scores" / "v.parquet"
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    with pytest.raises(ScoreFolderError, match=message):
        folder.scores("v")


@pytest.mark.parametrize("video_id", ["../v", "a/b", "/etc/passwd"])
def test_ids_that_are_paths_are_refused(folder: ScoreFolder, video_id: str) -> None:
    for look in (folder.scores, folder.maps, folder.regions):
        with pytest.raises(ScoreFolderError, match="not a file name"):
            look(video_id)
    with pytest.raises(ScoreFolderError, match="not a file name"):
        folder.write_scores(video_id, scores(), "stamp", FACTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", r"run\.json is damaged .*: run score again"),
        ("[1]", r"is not a JSON object\): run score again"),
        ('{"model": []}', None),
        ('{"model": [1]}', "model is not an object"),
        ('{"threshold": "high"}', "threshold is not an object"),
        (None, r"has no run\.json \(run score\)"),
    ],
)
def test_run_files_say_what_is_wrong_with_them(
    folder: ScoreFolder, text: str | None, message: str | None
) -> None:
    folder.run_file.unlink()
    if text is not None:
        folder.run_file.write_text(text)
    if message is None:
        assert folder.run() == {"model": []} and folder.threshold() is None
        return
    for look in (folder.run, folder.threshold):
        with pytest.raises(ScoreFolderError, match=message):
            look()


def test_damaged_metrics_say_so(folder: ScoreFolder) -> None:
    folder.metrics_file.write_text("[1")
    with pytest.raises(ScoreFolderError, match=r"metrics\.json is damaged .*run evaluate again"):
        folder.metrics()


@pytest.mark.parametrize(
    ("threshold", "value"),
    [({"high": 2}, 2.0), ({"high": None}, None), ({}, None), (None, None), ({"high": "x"}, None)],
)
def test_the_threshold_is_a_number_or_none(
    folder: ScoreFolder, threshold: Any, value: float | None
) -> None:
    folder.write_run({"threshold": threshold})
    assert folder.threshold() == value
    folder.run_file.write_text('{"threshold": {"high": NaN}}')
    assert folder.threshold() is None


def test_the_part_is_written_after_the_maps(
    folder: ScoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies between them leaves a part that is not current."""
    real, calls = os.fsync, []

    def dying(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:  # file and folder of the maps, then the part
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(os, "fsync", dying)
    with pytest.raises(KeyboardInterrupt):
        folder.write_scores("v", scores(), "new", FACTS)
    assert not folder.is_current("v", "new", keep_maps=True)
    assert not folder.is_current("v", "stamp", keep_maps=True)


# -------------------------------------------------------------------------- of which file it is


def stamp(*imported: str) -> str:
    return part_stamp("model", RECORD, ROW, imported)


def test_scores_of_another_file_are_not_current(folder: ScoreFolder) -> None:
    """As many frames and the same content id: a sampled id may stand for another file by now."""
    of_this = replace(ROW, whole_id="f1-" + "a" * 40)
    folder.write_scores("v", scores(), stamp(), FACTS | {"whole_id": of_this.whole_id})

    def current(file: ProbeRow | None) -> bool:
        return folder.is_current("v", stamp(), file, keep_maps=True)

    assert current(None) and current(ROW) and current(of_this)
    assert not current(replace(of_this, whole_id="f1-" + "b" * 40))
    assert current(replace(of_this, n_frames=3)), "the same bytes, whatever a header states"


@pytest.mark.parametrize("n_frames", [40, 39])
@pytest.mark.parametrize("imported", [(), ("checksum",)])
def test_scores_of_an_older_version_have_the_length_of_the_file(
    folder: ScoreFolder, n_frames: int, imported: tuple[str, ...]
) -> None:
    """What others have extracted has a length of its own."""
    file = replace(ROW, whole_id="f1-" + "a" * 40, n_frames=n_frames)
    folder.write_scores("v", scores(), stamp(*imported), FACTS)
    same = folder.is_current("v", stamp(*imported), file, keep_maps=True)
    assert same == (n_frames == 40 or bool(imported))


def test_parts_that_were_exchanged_are_refused(folder: ScoreFolder) -> None:
    """Two copies of one file have the same stamp, but each part names its video."""
    folder.write_scores("w", scores(), "stamp", FACTS)
    parts = [folder.path / "scores" / f"{name}.parquet" for name in "vw"]
    first, second = (part.read_bytes() for part in parts)
    parts[0].write_bytes(second)
    parts[1].write_bytes(first)
    for name, other in (("v", "w"), ("w", "v")):
        with pytest.raises(ScoreFolderError, match=f"holds the scores of '{other}': delete it"):
            folder.scores(name)


BOX = {"frame": [0], "x0": [0.0], "y0": [0.0], "x1": [4.0], "y1": [4.0], "score": [1.0]}


def without_names(folder: ScoreFolder) -> None:
    """Maps and boxes as version 0.1 wrote them: they do not say which video they are of."""
    for path in (folder.path / "maps").iterdir():
        with h5py.File(path, "r+") as file:
            del file.attrs["video_id"]
    for path in (folder.path / "regions").iterdir():
        table = pq.read_table(path)
        kept = {k: v for k, v in table.schema.metadata.items() if k != b"video_id"}
        pq.write_table(table.replace_schema_metadata(kept), path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("stamped", [False, True])
def test_maps_and_boxes_that_were_exchanged_are_refused(
    tmp_path: Path, old: bool, stamped: bool
) -> None:
    """Also where a stamp does not tell; files of older versions are told by their content."""
    folder = ScoreFolder(tmp_path)
    stamps = {}
    for number, video_id in enumerate("ab"):
        found = replace(scores(), regions=pa.table(BOX))
        stamps[video_id] = part_stamp("k", RECORD, row(content_id=f"s1-{number:040d}"), [])
        stamps[video_id] = stamps[video_id] if stamped else "same"
        folder.write_scores(video_id, found, stamps[video_id], FACTS)
    if old:
        without_names(folder)
    readers = (folder.maps, folder.regions)
    assert all(read("a") is not None for read in readers)
    for kind, suffix in (("maps", "h5"), ("regions", "parquet")):
        a, b = (tmp_path / kind / f"{name}.{suffix}" for name in "ab")
        a.rename(tmp_path / "other")
        b.rename(a)
        (tmp_path / "other").rename(b)
    if old and not stamped:
        return  # nothing in them tells
    for video_id in "ab":
        for read in readers:
            with pytest.raises(VadpipeError, match=rf"{video_id}\.(h5|parquet) .*run score again"):
                read(video_id)
        assert not folder.is_current(video_id, stamps[video_id], keep_maps=True)
