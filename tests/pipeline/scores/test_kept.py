"""Results of videos that are not listed: what stays, what may go, and what is a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vadpipe.data_manifests.footage import build
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.detectors.base import Scores
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.scores.events import events_table
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError, part_stamp
from vadpipe.pipeline.scores.kept import (
    KeptParts,
    check_model,
    kept_parts,
    prune_parts,
    without_taken,
)
from vadpipe.pipeline.scores.video_tables import described
from vadpipe.pipeline.store.failures import Failure
from vadpipe.pipeline.store.probe_table import Probed

SCORES = Scores(np.array([0]), np.array([8]), {"score": np.array([0.5])})


class Cameras:
    """A folder of empty video files, all of them scored."""

    def __init__(self, root: Path, *paths: str) -> None:
        self.root, self.folder = root / "archive", ScoreFolder(root / "out")
        self.add(*paths)
        for record in self.listed().records:
            assert record.path is not None
            kind = "video" if (self.root / record.path).is_file() else "images"
            self.score(record, self.root / record.path, kind)

    def add(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).touch()

    def listed(self) -> Manifest:
        return build(self.root)

    def score(self, record: VideoRecord, path: Path, kind: str, key: str = "k") -> None:
        row = ProbeRow(str(path), "s1-0", kind, 8, True, 25.0, 4, 4, 0, 0.3, "h264", "mp4")  # type: ignore[arg-type]
        facts = described(record, row, {"n_frames": 8, "fps": 25.0, "flags": []})
        self.folder.write_scores(record.video_id, SCORES, part_stamp(key, record, row, []), facts)

    def kept(self, manifest: Manifest | None = None, **options: bool) -> KeptParts:
        return kept_parts(
            self.folder, manifest or self.listed(), Probed({}), {"key": "k"}, **options
        )


def ids(kept: KeptParts) -> list[str]:
    return [row["video_id"] for row in kept.rows]


CAMERAS = ("cam1/a.mp4", "cam1/b.mp4", "cam2/c.mp4", "cam2/deep/d.mp4", "e.mp4")


@pytest.fixture
def cameras(tmp_path: Path) -> Cameras:
    return Cameras(tmp_path, *CAMERAS)


def test_what_is_listed_is_not_kept(cameras: Cameras) -> None:
    assert cameras.kept() == KeptParts()


def test_a_deleted_file_is_no_failure(cameras: Cameras) -> None:
    (cameras.root / "cam1/a.mp4").unlink()
    kept = cameras.kept()
    assert ids(kept) == ["cam1__a.mp4"] and kept.unlisted == {"cam1__a.mp4"}
    assert not kept.lost and not kept.goes and not kept.others


@pytest.mark.parametrize("how", ["empty", "gone", "other files"])
def test_a_folder_without_footage_is_a_failure(cameras: Cameras, how: str) -> None:
    shutil.rmtree(cameras.root / "cam2")
    if how != "gone":
        (cameras.root / "cam2").mkdir()
    if how == "other files":
        (cameras.root / "cam2" / "NOT_MOUNTED.txt").touch()
    kept = cameras.kept()
    assert ids(kept) == ["cam2__c.mp4", "cam2__deep__d.mp4"]
    (failure,) = kept.lost  # of the outermost folder only
    assert failure.error == "FolderLost"
    assert f"{cameras.root / 'cam2'}: held 2 scored videos (cam2__c.mp4, " in failure.message
    assert not cameras.kept(prune=True).lost, "they go, as was asked for"


@pytest.mark.parametrize("place", ["cam2", "cam2/deep"])
def test_a_folder_that_became_a_link_is_a_failure(cameras: Cameras, place: str) -> None:
    """No listing follows it, though its files can be reached."""
    (cameras.root / place).rename(cameras.root.parent / "elsewhere")
    (cameras.root / place).symlink_to(cameras.root.parent / "elsewhere")
    kept = cameras.kept()
    assert "cam2__deep__d.mp4" in ids(kept)
    (failure,) = kept.lost
    assert failure.error == "FolderLost" and f"{cameras.root / place}: held" in failure.message
    assert "is a link now" in failure.message


def test_an_image_folder_that_is_empty_now_is_a_failure(tmp_path: Path) -> None:
    cameras = Cameras(tmp_path, "a.mp4", "yard/0.png", "yard/1.png")
    for picture in (cameras.root / "yard").iterdir():
        picture.unlink()
    kept = cameras.kept()
    assert ids(kept) == ["yard"]
    assert [str(cameras.root / "yard") in failure.message for failure in kept.lost] == [True]


def test_another_target_is_no_failure(cameras: Cameras, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.mp4").touch()
    for manifest in (
        build(tmp_path / "elsewhere"),
        build(cameras.root / "cam1"),
        build(cameras.root / "e.mp4"),
        cameras.listed().model_copy(update={"records": cameras.listed().records[:1]}),
    ):
        kept = cameras.kept(manifest)
        assert kept.rows and not kept.lost


def video(path: Path | str, content: str) -> ProbeRow:
    return ProbeRow(str(path), content, "video", 8, True, 25.0, 4, 4, 0, 0.3, "h264", "mp4")


@pytest.mark.parametrize("in_table", [True, False], ids=["finished run", "killed run"])
def test_a_file_of_the_same_name_elsewhere_writes_over_nothing(
    cameras: Cameras, in_table: bool
) -> None:
    manifest = cameras.listed()
    ours, theirs = manifest.records[0].video_id, manifest.records[1].video_id
    if in_table:
        rows = [cameras.folder.facts(name) for name in cameras.folder.video_ids()]
        with cameras.folder.locked(), cameras.folder.tables("knn") as tables:
            tables.add(rows, events_table({}))
    elsewhere = Path("/elsewhere")
    files = {ours: video(cameras.root / "cam1/a.mp4", "s1-1"), theirs: video(elsewhere, "s1-1")}
    probed = without_taken(cameras.folder, manifest, Probed(files))
    assert list(probed.rows) == [ours], "a file that was changed at its place is scored again"
    (failure,) = probed.failures
    assert (failure.video_id, failure.error) == (theirs, "NameTaken")
    assert str(cameras.root / "cam1/b.mp4") in failure.message
    kept = kept_parts(cameras.folder, manifest, probed, {"key": "k"})
    assert ids(kept) == [theirs], "its scores stay in all tables"
    moved = Probed({theirs: video(elsewhere, "s1-0")})
    assert without_taken(cameras.folder, manifest, moved) == moved, "an archive that was moved"


def test_imported_videos_of_another_data_set_write_over_nothing(cameras: Cameras) -> None:
    manifest = cameras.listed()
    record = manifest.records[0]
    cameras.score(record, Path(), "features")
    imported = Probed({record.video_id: video("", "m1-1")})
    assert not without_taken(cameras.folder, manifest, imported).rows


def test_stray_pictures_and_unmounted_cameras(cameras: Cameras) -> None:
    for name in ("cam1", "cam2"):
        shutil.rmtree(cameras.root / name)
        (cameras.root / name).mkdir()
    (cameras.root / "e.mp4").unlink()
    cameras.add("a.png", "b.png")
    kept = cameras.kept()
    assert len(kept.rows) == 5 and len(kept.lost) == 2


def test_what_could_not_be_read_is_never_pruned(
    cameras: Cameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cameras.root / "e.mp4").unlink()
    plain = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "cam2":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    kept = cameras.kept(prune=True)
    assert kept.goes == ("e.mp4",) and ids(kept) == ["cam2__c.mp4", "cam2__deep__d.mp4"]
    assert not kept.lost, "the listing is a failure already"


def test_pruning_most_needs_a_second_word(cameras: Cameras) -> None:
    for name in ("cam1/a.mp4", "cam1/b.mp4"):
        (cameras.root / name).unlink()
    goes = cameras.kept(prune=True).goes
    assert goes == ("cam1__a.mp4", "cam1__b.mp4")
    (cameras.root / "cam2/c.mp4").unlink()
    with pytest.raises(ScoreFolderError, match=r"results of 3 of 5 videos .*add --yes"):
        cameras.kept(prune=True)
    kept = cameras.kept(prune=True, most=True)
    assert len(cameras.folder.video_ids()) == 5, "nothing is deleted before it is said"
    assert prune_parts(cameras.folder, kept) == [
        f"deleted: the results of {name}" for name in (*goes, "cam2__c.mp4")
    ]
    assert sorted(cameras.folder.video_ids()) == ["cam2__deep__d.mp4", "e.mp4"]


def test_files_that_cannot_be_reached_are_kept_and_bad_ones_are_not(cameras: Cameras) -> None:
    failures = [
        Failure("e.mp4", "probe", "FileNotFoundError", "gone"),
        Failure("cam1__a.mp4", "probe", "NotAVideo", "text"),
    ]
    kept = kept_parts(
        cameras.folder, cameras.listed(), Probed({}, failures), {"key": "k"}, prune=True
    )
    assert ids(kept) == ["e.mp4"] and not kept.unlisted and not kept.goes


def test_parts_of_other_models_are_in_no_table(cameras: Cameras) -> None:
    manifest = cameras.listed()
    for record in manifest.records[:2]:
        cameras.score(record, Path("/x"), "video", key="other")
    with pytest.raises(ScoreFolderError, match=r"another model \(key other\)"):
        check_model(cameras.folder, "k")
    for name in ("cam1/a.mp4", "cam2/c.mp4"):
        (cameras.root / name).unlink()
    others = [r.video_id for r in manifest.records[:2] if not (cameras.root / r.path).exists()]  # type: ignore[operator]
    kept = cameras.kept()
    assert list(kept.others) == others and "in no table" in prune_parts(cameras.folder, kept)[0]
    assert prune_parts(cameras.folder, kept)[0].startswith(f"results of {len(others)} video")
    assert set(others) < set(cameras.kept(prune=True).goes)


def test_a_folder_is_lost_whatever_model_has_scored_it(cameras: Cameras) -> None:
    """A recipe trains another model on the shorter listing."""
    shutil.rmtree(cameras.root / "cam2")
    kept = kept_parts(cameras.folder, cameras.listed(), Probed({}), {"key": "other"})
    assert not kept.rows and list(kept.others) == ["cam2__c.mp4", "cam2__deep__d.mp4"]
    (failure,) = kept.lost
    assert failure.error == "FolderLost" and "cam2: held 2 scored videos" in failure.message


def test_parts_of_version_0_1_are_known_from_the_table(cameras: Cameras) -> None:
    """They do not say what they are of."""
    rows = []
    for record in cameras.listed().records:
        facts = cameras.folder.facts(record.video_id)
        rows.append(facts)
        stamp = cameras.folder.stamp(record.video_id)
        old = {name: facts[name] for name in ("n_frames", "fps", "flags")}
        cameras.folder.write_scores(record.video_id, SCORES, stamp, old)
    (cameras.root / "e.mp4").unlink()
    assert cameras.kept().others == ("e.mp4",)
    with cameras.folder.tables("test") as tables:
        tables.add(rows, tables_without_events())
    (kept,) = cameras.kept().rows
    unknown = {"scene": None, "scene_trained": None}
    assert kept == {**next(row for row in rows if row["video_id"] == "e.mp4"), **unknown}


def tables_without_events() -> object:
    from vadpipe.pipeline.scores.events import events_table

    return events_table({})


def test_the_model_of_a_folder(cameras: Cameras) -> None:
    check_model(cameras.folder, "k")
    check_model(ScoreFolder(cameras.root / "none"), "k")
    cameras.folder.write_run({"model": {"key": "other", "detector": "knn"}})
    with pytest.raises(ScoreFolderError, match=r"another model \(knn other\)"):
        check_model(cameras.folder, "k")
