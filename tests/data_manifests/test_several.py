"""Several folders of footage in one manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vadpipe.data_manifests.footage import NothingFound, build
from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.several import FootageFolder, build_several


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_normal_recordings_here_and_new_ones_there(tmp_path: Path) -> None:
    touch(tmp_path, "quiet/1.mp4", "quiet/2.mp4", "new/deep/1.mp4")
    made = build_several(
        [FootageFolder(tmp_path / "quiet", "train", 0), FootageFolder(tmp_path / "new", "test")]
    )
    assert made.root == str(tmp_path) and made.unread == ()
    assert [(r.video_id, r.split, r.label, r.anomalies) for r in made.records] == [
        ("quiet__1.mp4", "train", 0, ()),
        ("quiet__2.mp4", "train", 0, ()),
        ("new__deep__1.mp4", "test", None, None),
    ]
    assert all(made.resolve(r.path).is_file() for r in made.records if r.path)


def test_a_file_an_image_folder_and_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4", "b/yard/0.png", "b/yard/1.png")
    folders = [
        FootageFolder(tmp_path / "a" / "x.mp4", train_fraction=0.5),
        FootageFolder(tmp_path / "b/yard"),
    ]
    made = build_several(folders)
    assert [(r.video_id, r.path, r.split) for r in made.records] == [
        ("a__x.mp4.train", "a/x.mp4", "train"),
        ("a__x.mp4.test", "a/x.mp4", "test"),
        ("b__yard", "b/yard", "all"),
    ]


def test_one_of_them_without_footage_does_not_stop_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4", "b/notes.txt", "c/notes.txt")
    made = build_several([FootageFolder(tmp_path / "a"), FootageFolder(tmp_path / "b")])
    assert len(made.records) == 1 and made.unread == (("b", "holds no footage"),)
    with pytest.raises(NothingFound, match=r"no footage in .*b, .*c"):
        build_several([FootageFolder(tmp_path / "b"), FootageFolder(tmp_path / "c")])


@pytest.mark.parametrize("other", ["a", "a/deep", "."])
def test_folders_that_lie_in_each_other_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "a/deep/x.mp4")
    with pytest.raises(ManifestError, match="lies in"):
        build_several([FootageFolder(tmp_path / "a"), FootageFolder(tmp_path / other)])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4")
    with pytest.raises(ManifestError, match="does not exist"):
        build_several([FootageFolder(tmp_path / "a"), FootageFolder(tmp_path / "gone")])


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.lrv"], ["gate/a.mp4", "gate/old/b.mp4", "x.mp4"]),
        (["old"], ["gate/a.mp4", "x.mp4"]),
        (["gate/*"], ["x.mp4"]),
        (["gate/"], ["x.mp4"]),
        (["?.mp4", "c*"], []),
        (["gate/a.mp4", "x.mp4"], ["gate/old/b.mp4"]),
    ],
)
def test_what_is_excluded_is_passed_over(
    tmp_path: Path, patterns: list[str], left: list[str]
) -> None:
    touch(tmp_path, "gate/a.mp4", "gate/old/b.mp4", "x.mp4")
    (tmp_path / "gate" / "c.lrv").write_bytes(b"\0\0\0\x20ftypisom" + bytes(5000))
    if not left:
        with pytest.raises(NothingFound):
            build(tmp_path, exclude=patterns)
        return
    made = build(tmp_path, exclude=patterns)
    assert [r.path for r in made.records] == left
    assert bool(made.unread) is not any(p in ("*.lrv", "gate/*", "gate/") for p in patterns)
    assert [
        r.path for r in build_several([FootageFolder(tmp_path)], exclude=patterns).records
    ] == left


def test_a_pattern_that_excludes_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "x.mp4")
    assert len(build(tmp_path, exclude=("*.lrw",)).records) == 1
    assert "is excluded by *.lrw" in caplog.text
    assert len(build(tmp_path, exclude="*.lrw").records) == 1, "one pattern as a text"


def test_patterns_are_judged_over_all_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a/x.mp4", "b/y.mp4", "b/old.mp4")
    folders = [FootageFolder(tmp_path / "a"), FootageFolder(tmp_path / "b")]
    made = build_several(folders, exclude=("old*", "*d.mp4"))
    assert [r.path for r in made.records] == ["a/x.mp4", "b/y.mp4"] and not caplog.records
    assert len(build_several(folders, exclude="*.lrw").records) == 3, "one pattern as a text"
    (said,) = caplog.records
    assert "/a, " in said.getMessage() and "is excluded by *.lrw" in said.getMessage()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_fraction": 1.5}, "train_fraction 1.5 must be between 0 and 1"),
        ({"train_fraction": "half"}, "train_fraction half must be between 0 and 1"),
        ({"train_fraction": 0.5, "label": 0}, "leave them out"),
        ({"split": "tests"}, "split 'tests': there are train, test"),
        ({"label": 2}, "label 2 must be 0"),
        ({"label": "normal"}, "label 'normal' must be 0"),
    ],
)
def test_options_are_checked_for_one_folder_and_for_several(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    touch(tmp_path, "x.mp4")
    with pytest.raises(ManifestError, match=message):
        build(tmp_path, **options)
    with pytest.raises(ManifestError, match=message):
        build_several([FootageFolder(tmp_path, **options)])
