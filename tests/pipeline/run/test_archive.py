"""What of an archive trains and what is scored, decided from listings and headers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.data_manifests.footage import build
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.run.archive import (
    MOST_HOURS,
    SHARE,
    ArchiveError,
    Camera,
    cameras_of,
    little_footage,
    named_cameras,
    refuse_dates,
    split_by_camera,
    with_folders,
    with_normal,
    without,
)
from vadpipe.pipeline.run.archive_again import (
    trained_parts,
    with_learnt,
    with_new,
    with_other_content,
)


def row(seconds: float, content: str, width: int = 64, height: int = 48) -> ProbeRow:
    n = int(seconds * 25)
    return ProbeRow(
        f"/{content}.mp4", content, "video", n, True, 25.0, height, width, 0, seconds, "h264", "mp4"
    )  # fmt: skip


def listed(**scenes: str | None) -> Manifest:
    records = [
        VideoRecord(video_id=name, path=f"{name}.mp4", split="all", scene=scene)
        for name, scene in scenes.items()
    ]
    return Manifest(dataset="footage", root="/none", records=tuple(records))


def splits(manifest: Manifest) -> dict[str, tuple[str, tuple[float, float]]]:
    return {record.video_id: (record.split, record.part) for record in manifest.records}


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def probed_again(manifest: Manifest, rows: dict[str, ProbeRow]) -> dict[str, ProbeRow]:
    """The same files by the ids that their parts have."""
    return {r.video_id: rows[Path(r.path or "").stem] for r in manifest.records}


WHOLE = (0.0, 1.0)


def test_the_first_files_of_each_camera_train() -> None:
    manifest = listed(a1="a", a2="a", a10="a", b1="b", broken="b")
    rows = {"a1": row(10, "1"), "a2": row(10, "2"), "a10": row(20, "3"), "b1": row(100, "4")}
    assert splits(split_by_camera(manifest, rows)) == {
        "a1": ("train", WHOLE),
        "a2": ("train", WHOLE),
        "a10": ("test", WHOLE),
        "b1.train": ("train", (0.0, 0.5)),
        "b1.test": ("test", (0.5, 1.0)),
        "broken": ("test", WHOLE),
    }
    normal = [r for r in split_by_camera(manifest, rows).records if r.split == "train"]
    assert all(record.label == 0 for record in normal)


def test_copies_count_once_and_are_left_for_scoring() -> None:
    rows = {"a": row(10, "same"), "b": row(10, "same"), "c": row(10, "other")}
    found = splits(split_by_camera(listed(a=None, b=None, c=None), rows))
    assert found == {"a": ("train", WHOLE), "b": ("test", WHOLE), "c": ("test", WHOLE)}


def test_little_footage_of_a_camera_is_said_with_what_it_is_worth() -> None:
    poor, rich = Camera("gate", 0.004, 0.1, 1), Camera("yard", 3.0, 3.0, 2)
    assert little_footage([rich]) == "" == little_footage([Camera("new", 0.0, 5.0, 1)])
    alone = little_footage([poor])
    assert alone.startswith("Little footage trains: 14 s. That")
    assert "most of them will be ordinary" in alone and "hour of normal footage" in alone
    assert little_footage([rich, poor]).startswith("Little footage trains: gate 14 s. That")
    many = little_footage([replace(poor, name=f"c{i}") for i in range(8)])
    assert "c4 14 s, and 3 cameras more." in many


def test_no_more_than_some_hours_of_a_camera_train() -> None:
    rows = {f"v{i}": row(3600, str(i)) for i in range(20)}
    found = split_by_camera(listed(**dict.fromkeys(rows)), rows)
    (camera,) = cameras_of(found, probed_again(found, rows))
    assert camera.training == MOST_HOURS and camera.scored == 20 - MOST_HOURS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.5, 50_000), min_size=1, max_size=8))
def test_shares_are_kept_whatever_the_lengths(seconds: list[float]) -> None:
    rows = {f"v{i}": row(s, str(i)) for i, s in enumerate(seconds)}
    found = split_by_camera(listed(**dict.fromkeys(rows)), rows)
    (camera,) = cameras_of(found, probed_again(found, rows))
    total = sum(seconds) / 3600
    wanted = min(SHARE * total, MOST_HOURS)
    assert 0 < camera.training <= wanted * 1.001 + 1e-9
    assert camera.training >= wanted / 2 * 0.999 and camera.videos == len(seconds)
    assert camera.training + camera.scored == pytest.approx(total)
    times: dict[str | None, list[tuple[float, float]]] = {}
    for record in found.records:
        times.setdefault(record.path, []).append(record.part)
    for parts in times.values():
        assert parts == [WHOLE] or (parts[0][1] == parts[1][0] and parts[0][0] == 0.0)


def labelled(**records: dict[str, object]) -> Manifest:
    made = [
        VideoRecord(**{"video_id": name, "path": f"{name}.mp4", "split": "all", **known})
        for name, known in records.items()
    ]
    return Manifest(dataset="footage", root="/none", records=tuple(made))


def test_known_anomalies_never_train() -> None:
    rows = {name: row(10, name) for name in "abcdef"}
    manifest = labelled(
        a={"label": 1},
        b={"anomalies": ((3, 5),)},
        c={"label": 1, "anomalies": ((240, 250),)},
        d={"label": 0},
        e={},
        f={},
    )
    found = split_by_camera(manifest, rows)
    assert [r.video_id for r in found.records if r.split == "train"] == ["d", "e"]
    for before, now in zip(manifest.records, found.records, strict=True):
        if before.video_id not in "de":
            assert now == before.model_copy(update={"split": "test"}), "labels stay"


def test_only_an_anomaly_in_the_part_that_trains_is_one_too_many() -> None:
    rows = {"a": row(10, "a")}  # 250 frames
    late = split_by_camera(labelled(a={"anomalies": ((125, 130),)}), rows).records
    assert [(r.split, r.part, r.label, r.anomalies) for r in late] == [
        ("train", (0.0, 0.5), 0, ()),
        ("test", (0.5, 1.0), None, ((125, 130),)),
    ]
    for known in ({"anomalies": ((124, 125),)}, {"label": 1}):
        with pytest.raises(ArchiveError, match=r"can train.*--normal"):
            split_by_camera(labelled(a=known), rows)
    normal = split_by_camera(labelled(a={"label": 0, "anomalies": ()}), rows).records
    assert [r.label for r in normal] == [0, 0], "the rest of a normal video is normal"


def test_parts_of_a_file_are_split_inside_themselves() -> None:
    rows = {"a": row(100, "file"), "b": row(100, "file"), "copy": row(100, "file")}
    manifest = labelled(
        a={"path": "1.mp4", "part": (0.0, 0.2)},
        b={"path": "1.mp4", "part": (0.2, 1.0)},
        copy={"path": "2.mp4", "part": (0.1, 0.6)},
    )
    found = split_by_camera(manifest, rows)
    assert splits(found) == {  # 20 s and 80 s count, the copy does not: 50 s are wanted
        "a": ("train", (0.0, 0.2)),
        "b.train": ("train", (0.2, pytest.approx(0.5))),
        "b.test": ("test", (pytest.approx(0.5), 1.0)),
        "copy": ("test", (0.1, 0.6)),
    }


def test_normal_footage_by_parts_and_by_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    root = {"root": str(tmp_path)}
    halves = {"path": "a.mp4", "part": (0.0, 0.5)}, {"path": "a.mp4", "part": (0.5, 1.0)}
    target = labelled(a1=halves[0], a2={**halves[1], "label": 1}, b={}).model_copy(update=root)
    both = with_normal(target, target.model_copy(update={"records": target.records[:2]}))
    assert splits(both) == {
        "a.mp4.1": ("train", (0.0, 0.5)),
        "a.mp4.2": ("test", (0.5, 1.0)),
        "b.mp4": ("test", WHOLE),
    }
    assert [r.label for r in both.records] == [0, 1, None], "an abnormal part is not normal"
    middle = labelled(x={"path": "b.mp4", "part": (0.25, 0.5)}).model_copy(update=root)
    rest = with_normal(labelled(b={"label": 1}).model_copy(update=root), middle)
    assert [(r.split, r.part, r.label) for r in rest.records] == [
        ("test", (0.0, 0.25), None),
        ("train", (0.25, 0.5), 0),
        ("test", (0.5, 1.0), None),
    ]
    Manifest.model_validate(rest.model_dump())
    for known in ({"label": 1}, {"anomalies": ((1, 2),)}):
        with pytest.raises(ArchiveError, match="labelled abnormal"):
            with_normal(target, labelled(b=known).model_copy(update=root))


def test_sizes_tell_cameras_apart_and_keep_their_names() -> None:
    manifest = listed(a="gate", b="gate", c="yard", d="yard", e="yard")
    rows = {
        "a": row(1, "a"), "b": row(1, "b"),
        "c": row(1, "c"), "d": row(1, "d", 320, 240),
    }  # fmt: skip
    named, names = named_cameras(manifest, rows)
    scenes = {record.video_id: record.scene for record in named.records}
    assert scenes == {"a": "gate", "b": "gate", "c": "yard 64x48", "d": "yard 320x240", "e": "yard"}
    # Later a second size comes to a camera whose name is known: that name stays.
    later = listed(a="gate", x="gate", y="gate")
    rows |= {"x": row(1, "x", 320, 240), "y": row(1, "y")}
    named, _ = named_cameras(later, rows, names)
    scenes = {record.video_id: record.scene for record in named.records}
    assert scenes == {"a": "gate", "x": "gate 320x240", "y": "gate"}
    alone, _ = named_cameras(listed(a=None, b=None), rows)
    assert {record.scene for record in alone.records} == {None}


def test_normal_footage_may_lie_inside_or_beside(tmp_path: Path) -> None:
    touch(tmp_path, "all/gate/a.mp4", "all/quiet/b.mp4", "all/quiet/c.mp4", "beside/gate/d.mp4")
    target = with_folders(build(tmp_path / "all"))
    inside = with_normal(target, with_folders(build(tmp_path / "all" / "quiet")))
    assert {r.path: r.split for r in inside.records} == {
        "gate/a.mp4": "test",
        "quiet/b.mp4": "train",
        "quiet/c.mp4": "train",
    }
    assert {r.scene for r in inside.records} == {None}, "normal footage does not say which camera"
    assert inside.root == target.root
    beside = with_normal(target, with_folders(build(tmp_path / "beside")))
    assert beside.root == str(tmp_path)
    assert {r.path: (r.split, r.scene) for r in beside.records}["beside/gate/d.mp4"] == (
        "train",
        "gate",
    )
    assert {r.scene for r in beside.records if r.path == "all/gate/a.mp4"} == {"gate"}
    (normal,) = [r for r in beside.records if r.split == "train"]
    assert normal.anomalies == () and normal.video_id == "beside__gate__d.mp4"


def test_a_later_run_keeps_training_and_scores_what_is_new() -> None:
    rows = {"a": row(10, "1"), "b": row(30, "2"), "c": row(5, "3")}
    first = split_by_camera(listed(a=None, b=None, c=None), rows)
    assert splits(first)["b.train"][0] == "train" or splits(first)["a"][0] == "train"
    later = with_new(first, listed(a=None, b=None, d=None))
    assert splits(later) == {
        **{k: v for k, v in splits(first).items() if k != "c"},
        "d": ("test", WHOLE),
    }
    assert with_new(later, listed(a=None, b=None, d=None)) == later
    # A training file that was let go is neither new nor scored when it comes back.
    train = [r.video_id for r in later.records if r.split == "train"]
    paths = [r.path for r in later.records if r.split == "train"]
    left = without(later, train)
    again = with_new(left, listed(a=None, b=None, d=None), paths)
    assert splits(again) == splits(left)
    moved = listed(a=None).model_copy(update={"root": "/other"})
    with pytest.raises(ManifestError, match="take another folder"):
        with_new(first, moved)


def test_a_name_with_other_content_is_scored_and_nothing_else_moves() -> None:
    rows = {"a": row(10, "1"), "b": row(30, "2"), "c": row(5, "3")}
    now = listed(a=None, b=None, c=None)
    first = split_by_camera(now, rows)
    assert splits(first) == {
        "a": ("train", WHOLE),
        "b.train": ("train", (0.0, pytest.approx(12.5 / 30, abs=1e-6))),
        "b.test": ("test", (pytest.approx(12.5 / 30, abs=1e-6), 1.0)),
        "c": ("test", WHOLE),
    }
    parts = trained_parts(first, probed_again(first, rows))
    paths = [part.path for part in parts]
    assert [(p.path, p.content_id) for p in parts] == [("a.mp4", "1"), ("b.mp4", "2")]
    assert with_other_content(now, rows, parts) == ()
    assert with_new(first, now, paths, parts=parts).records == first.records
    # What cannot be read is not said to be new.
    assert with_other_content(now, {"c": rows["c"]}, parts) == ()
    # One name is used again, the other file has grown: both are scored, all of them.
    grown = rows | {"a": row(10, "other"), "b": row(40, "longer")}
    other = with_other_content(now, grown, parts)
    assert other == ("a.mp4", "b.mp4")
    later = with_new(first, now, paths, parts=parts, other=other)
    assert splits(later) == {"c": ("test", WHOLE), "a": ("test", WHOLE), "b.test": ("test", WHOLE)}
    again = with_new(later, now, paths, parts=parts, other=other)
    assert splits(again) == splits(later)
    # The old files are back: what trained is not scored.
    back = with_new(later, now, paths, parts=parts)
    assert splits(back) == {k: v for k, v in splits(first).items() if k in ("b.test", "c")}


def test_what_a_feedback_has_learnt_trains_and_is_still_scored(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.mp4", "all/b.mp4")
    root = {"root": str(tmp_path / "all")}
    review = labelled(a={"split": "train", "label": 0}, b={"split": "test"})
    review = review.model_copy(update=root)
    event = {"path": "all/b.mp4", "split": "train", "label": 0, "part": (0.25, 0.5)}
    moved = labelled(a={"path": "all/a.mp4", "split": "train"}, b={"path": "all/b.mp4"}, e=event)
    learnt = moved.model_copy(update={"root": str(tmp_path)})
    both, added = with_learnt(review, learnt)
    assert [(r.video_id, r.path, r.part) for r in added] == [("e", "b.mp4", (0.25, 0.5))]
    assert both.records == (*review.records, *added)
    assert with_learnt(both, learnt) == (both, ())
    rows = {"e": row(10, "b")}
    parts = trained_parts(both.model_copy(update={"records": added}), rows, scored=True)
    now = labelled(a={}, b={}).model_copy(update=root)
    assert splits(with_new(both, now, ["a.mp4"], parts=parts)) == splits(both)
    other = with_other_content(now, {"b": row(10, "new")}, parts)
    changed = with_new(both, now, ["a.mp4"], parts=parts, other=other)
    assert splits(changed) == {"a": ("train", WHOLE), "b": ("test", WHOLE)}
    elsewhere = listed(x=None).model_copy(update={"root": str(tmp_path)})
    with pytest.raises(ArchiveError, match="no video of this review"):
        with_learnt(review, elsewhere)


def test_new_files_of_a_normal_folder_are_not_used(tmp_path: Path) -> None:
    touch(tmp_path, "new/a.mp4", "quiet/b.mp4")
    first = with_normal(build(tmp_path / "new"), build(tmp_path / "quiet"))
    touch(tmp_path, "new/c.mp4", "quiet/d.mp4")
    now = with_normal(build(tmp_path / "new"), build(tmp_path / "quiet"))
    later = with_new(first, now)
    assert {r.path: r.split for r in later.records} == {
        "new/a.mp4": "test",
        "quiet/b.mp4": "train",
        "new/c.mp4": "test",
    }


def in_folders(*folders: str) -> Manifest:
    records = tuple(
        VideoRecord(video_id=f"{i}", path=f"{folder}/{i}.mp4", split="test")
        for i, folder in enumerate(folders)
    )
    return with_folders(Manifest(dataset="footage", root="/a", records=records))


@pytest.mark.parametrize(
    "names",
    [
        ("2026-11-29",),
        ("20261129", "20261130"),
        ("2026_11", "2026_12"),
        ("29.11.2026", "30.11.2026"),
        ("2026-11-29T10", "2026-11-29_11-00"),
    ],
)
def test_folders_that_are_dates_are_no_cameras(names: tuple[str, ...]) -> None:
    with pytest.raises(ArchiveError, match=f"the folders are dates \\({names[0]}.*--scene-from"):
        refuse_dates(in_folders(*names))


@pytest.mark.parametrize(
    "names",
    [
        ("gate",),
        ("2026-11-29", "gate"),
        ("20", "21"),
        ("2026-13-01",),
        ("cam2026",),
        ("192.168.1.20",),
    ],
)
def test_other_folders_may_be_cameras(names: tuple[str, ...]) -> None:
    refuse_dates(in_folders(*names))
    refuse_dates(Manifest(dataset="footage", root="/a", records=()))
