from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vadpipe.data_manifests.record import (
    Manifest,
    ManifestError,
    VideoRecord,
    check_count,
    image_files,
    label_lines,
)


def record(video_id: str = "a", **fields: object) -> VideoRecord:
    return VideoRecord.model_validate(
        {"video_id": video_id, "path": "a.mp4", "split": "train", **fields}
    )


def manifest(root: str, *records: VideoRecord) -> Manifest:
    return Manifest(dataset="test", root=root, records=records)


@pytest.mark.parametrize("video_id", ["a", "Train001", "x.mp4", "a_b-c.d", "0", "a" * 200])
def test_safe_ids_are_taken(video_id: str) -> None:
    assert record(video_id).video_id == video_id


@pytest.mark.parametrize("video_id", ["", ".a", "..", "a/b", "a b", "ü", "a\n", "a\0", "a" * 201])
def test_unsafe_ids_are_refused(video_id: str) -> None:
    with pytest.raises(ValidationError, match="video id"):
        record(video_id)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\0b", "a\nb", "\udcff"])
@pytest.mark.parametrize("field", ["path", "masks", "tracks"])
def test_paths_stay_under_the_root_and_can_be_stored(path: str, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        record(**{field: path})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": (0.5, 0.5)}, "part"),
        ({"part": (-0.1, 0.5)}, "part"),
        ({"part": (0.0, 1.1)}, "part"),
        ({"part": (0.0, float("nan"))}, "part"),
        ({"anomalies": ((5, 5),)}, "anomalies"),
        ({"anomalies": ((-1, 5),)}, "anomalies"),
        ({"anomalies": ((0, 5), (4, 6))}, "anomalies"),
        ({"anomalies": ((7, 9), (4, 6))}, "anomalies"),
        ({"anomalies": ((0, 5),), "expected_frames": 4}, "ends at frame 5"),
        ({"anomalies": ((0, 5),), "label": 0}, "labelled normal"),
        ({"label": 2}, "label"),
        ({"split": "dev"}, "split"),
        ({"expected_frames": 0}, "expected_frames"),
        ({"scene": "  "}, "scene is blank"),
        ({"scene": "a\tb"}, "control characters"),
        ({"category": " "}, "category is blank"),
        ({"category": "B1\n"}, "control characters"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_contradictory_record_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record(**fields)


@given(
    fraction=st.floats(0.01, 0.99),
    n_frames=st.integers(1, 10_000),
)
def test_two_parts_share_the_frames_without_gap_or_overlap(fraction: float, n_frames: int) -> None:
    first = record(part=(0.0, fraction)).frame_range(n_frames)
    second = record(part=(fraction, 1.0)).frame_range(n_frames)
    assert (first[0], second[1]) == (0, n_frames)
    assert first[1] == second[0]


def test_ids_used_twice_are_named() -> None:
    with pytest.raises(ValidationError, match=r"more than once: a, c; give every video"):
        manifest("/data", *(record(i) for i in "abcaca"))


def test_many_ids_used_twice_are_counted() -> None:
    ids = [f"v{i:02d}" for i in range(13)]
    with pytest.raises(ValidationError, match=r"v09 and 3 more"):
        manifest("/data", *(record(i) for i in ids + ids))


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert manifest("footage").root == str(tmp_path / "footage")


@pytest.mark.parametrize("root", ["", "a\0b"])
def test_a_root_that_cannot_be_one_is_refused(root: str) -> None:
    with pytest.raises(ValidationError, match="root"):
        manifest(root)


def test_a_data_set_name_is_safe() -> None:
    with pytest.raises(ValidationError, match="data set name"):
        Manifest(dataset="a,b", root="/data", records=())


def test_resolve_says_when_the_root_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="mount it, or read the manifest with root="):
        manifest(str(tmp_path / "gone")).resolve("a.mp4")


def test_resolve_follows_no_link_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.mp4").touch()
    (root / "real.mp4").touch()
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "in.mp4").symlink_to("real.mp4")
    assert manifest(str(root)).resolve("in.mp4") == root / "real.mp4"
    with pytest.raises(ManifestError, match="links may not leave the root"):
        manifest(str(root)).resolve("out.mp4")


def test_links_that_lead_nowhere_or_in_a_circle_are_paths_all_the_same(tmp_path: Path) -> None:
    """Whoever opens the file says what is wrong with it; the other videos of a manifest go on."""
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    (tmp_path / "c.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "d").symlink_to("d")
    listed = manifest(str(tmp_path))
    assert not listed.resolve("a.mp4").exists() and not listed.resolve("d/x.mp4").exists()
    assert listed.resolve("c.mp4") == tmp_path / "nowhere.mp4"
    with pytest.raises(ManifestError, match="is not a folder here"):
        manifest(str(tmp_path / "d")).resolve("a.mp4")


def test_select() -> None:
    whole = manifest(
        "/data", record("a", label=0), record("b", split="test", label=1), record("c", split="test")
    )
    assert [r.video_id for r in whole.select(split="test").records] == ["b", "c"]
    assert [r.video_id for r in whole.select(label=0).records] == ["a"]
    assert len(whole.select(split="test", label=1)) == 1


def test_digest_covers_the_labels_and_neither_root_nor_order() -> None:
    a, b = record("a", label=0), record("b", label=1, anomalies=((1, 2),))
    digest = manifest("/data", a, b).digest
    assert manifest("/elsewhere", b, a).digest == digest
    for free in ({"path": None}, {"category": "Abuse"}, {"expected_frames": 9}):
        assert manifest("/data", a, b.model_copy(update=free)).digest == digest
    for change in ({"label": None}, {"anomalies": ((1, 3),)}, {"split": "test"}, {"scene": "x"}):
        assert manifest("/data", a, b.model_copy(update=change)).digest != digest
    unknown, normal = b.model_copy(update={"anomalies": None}), record("b", label=1, anomalies=())
    assert manifest("/data", unknown).digest != manifest("/data", normal).digest


def test_image_files_are_pictures_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.JPG", "1.png", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in image_files(tmp_path)] == ["1.png", "9.JPG", "10.jpg"]


def test_check_count() -> None:
    check_count("frames", 3, 3)
    with pytest.raises(ManifestError, match="v1: frames: found 2, but the data set has 3"):
        check_count("v1: frames", 2, 3)


def test_label_lines(tmp_path: Path) -> None:
    """Line ends of any system, blank lines, a byte order mark, no newline at the end."""
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa  b \r\n\r\n c\nd\u2028e".encode())
    assert label_lines(path) == ["a  b", "c", "d\u2028e"]
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(ManifestError, match=r"list\.txt is not text in UTF-8"):
        label_lines(path)
    with path.open("wb") as file:
        file.truncate((1 << 24) + 1)
    with pytest.raises(ManifestError, match="is larger than"):
        label_lines(path)
    with pytest.raises(ManifestError, match="does not exist"):
        label_lines(tmp_path / "gone.txt")
