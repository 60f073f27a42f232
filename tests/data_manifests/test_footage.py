from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_footage
from vadpipe.data_manifests.footage import (
    LEAST_BYTES,
    NothingFound,
    build,
    by_name,
    find_footage,
    locate,
    safe_id,
)
from vadpipe.data_manifests.record import ID_LENGTH, ManifestError, VideoRecord


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def ids(root: Path) -> list[str]:
    return [r.video_id for r in build(root).records]


def test_a_tree_of_videos_and_image_folders(tmp_path: Path) -> None:
    manifest = build(write_footage(tmp_path))
    assert [(r.video_id, r.path) for r in manifest.records] == [
        ("gate__morning.mp4", "gate/morning.mp4"),
        ("gate__night.mp4", "gate/night.mp4"),
        ("yard", "yard"),
    ]
    assert manifest.dataset == "footage"
    assert manifest.root == str(tmp_path)
    for record in manifest.records:
        assert manifest.resolve(record.path).exists()
        assert (record.split, record.label, record.anomalies) == ("all", None, None)


def test_natural_order_folder_by_folder(tmp_path: Path) -> None:
    touch(tmp_path, "cam10/1.mp4", "cam2/10.mp4", "cam2/9.MKV", "cam2.avi", "b.webm")
    assert [r.path for r in build(tmp_path).records] == [
        *("b.webm", "cam2/9.MKV", "cam2/10.mp4", "cam2.avi", "cam10/1.mp4")
    ]


@pytest.mark.parametrize("name", ["day.avi", "day.AVI"])
def test_one_file(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "other.avi")
    manifest = build(tmp_path / name)
    assert [(r.video_id, r.path) for r in manifest.records] == [(name, name)]
    assert manifest.root == str(tmp_path)


def test_the_root_itself_may_be_an_image_folder(tmp_path: Path) -> None:
    touch(tmp_path, "yard/0.png", "yard/1.png")
    manifest = build(tmp_path / "yard")
    assert [(r.video_id, r.path) for r in manifest.records] == [("yard", "yard")]
    assert manifest.root == str(tmp_path)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.mp4")
    (tmp_path / "link").symlink_to("real")
    assert build(tmp_path / "link").root == str(tmp_path / "real")


def test_an_image_folder_is_not_searched_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "clip/0.jpg", "clip/1.tif", "clip/masks/0.png", "clip/masks/1.png")
    assert ids(tmp_path) == ["clip"]
    assert "skipped 'clip/masks': lies in an image folder" in caplog.text


def test_thumbnails_beside_videos_are_no_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "a.jpg", "b.jpg", "deeper/c.mp4")
    listing = find_footage(tmp_path)
    assert listing.videos == ("a.mp4", "b.mp4", "deeper/c.mp4")
    assert listing.others == {".jpg": 2}


def test_one_picture_is_no_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "poster/a.jpg")
    assert ids(tmp_path) == ["a.mp4"]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4", "c/.0.png", "c/.1.png")
    listing = find_footage(tmp_path)
    assert listing.videos == ("a.mp4",)
    assert listing.skipped == ()


def test_links_are_never_followed_and_always_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside, root = touch(tmp_path / "outside", "secret.mp4"), touch(tmp_path / "root", "a.mp4")
    (root / "file.mp4").symlink_to(outside / "secret.mp4")
    (root / "folder").symlink_to(outside)
    (root / "circle").symlink_to(root)
    (root / "broken.mp4").symlink_to("nowhere")
    assert ids(root) == ["a.mp4"]
    assert [name for name, _ in find_footage(root).skipped] == [
        *("broken.mp4", "circle", "file.mp4", "folder")
    ]
    assert caplog.text.count("is a symbolic link") == 4


def test_links_to_pictures_make_no_image_folder(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a.mp4", "clip/0.png")
    (root / "clip/1.png").symlink_to("0.png")
    assert ids(root) == ["a.mp4"]


def test_what_is_neither_file_nor_folder_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    listing = find_footage(tmp_path)
    assert listing.videos == ("a.mp4",)
    assert listing.skipped == (("pipe.mp4", "is neither a file nor a folder"),)


def test_names_that_no_manifest_can_hold_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "new\nline.mp4")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xfc.mp4"))).touch()
    listing = find_footage(tmp_path)
    assert listing.videos == ("a.mp4",)
    assert [name for name, _ in listing.skipped] == ["latin-\udcfc.mp4", "new\nline.mp4"]


def test_a_folder_that_cannot_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.mp4", "locked/b.mp4")
    plain = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    listing = find_footage(tmp_path)
    assert listing.videos == ("a.mp4",)
    assert listing.skipped == (("locked", "cannot be read: Permission denied"),)


def test_other_suffixes_are_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.mp4", *(f"{i}.idx" for i in range(3)), "README")
    with caplog.at_level(logging.WARNING):
        build(tmp_path)
    assert [r.getMessage() for r in caplog.records] == [
        "skipped files whose suffix is not that of a video: .idx (3), no suffix (1)"
    ]


MP4 = b"\0\0\0\x20ftypisom" + bytes(5000)


def test_recorders_names_are_videos(tmp_path: Path) -> None:
    names = ["ch01.dav", "ch02.264", "ch03.H265", "clip.3g2", "raw.y4m", "tape.dv", "x.qt"]
    touch(tmp_path, *names)
    assert [r.path for r in build(tmp_path).records] == names


@pytest.mark.parametrize("name", ["cam.mp4.part", "cam", "cam.bin", "GOPR0001.LRV", "cam.dat"])
def test_likely_footage_of_another_suffix_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.mp4", "notes.bin", "deeper/b.mp4")
    (tmp_path / "deeper" / name).write_bytes(MP4)
    manifest = build(tmp_path)
    assert [r.path for r in manifest.records] == ["a.mp4", "deeper/b.mp4"]
    ((path, reason),) = manifest.unread
    assert path == f"deeper/{name}" and "likely footage" in reason and "(mp4)" in reason
    assert "vadpipe manifest footage --exclude" in reason
    assert find_footage(tmp_path).others == {".bin": 1}


@pytest.mark.parametrize("name", ["x.txt", "x.json", "x.npy", "x.gif", "IMG_1.CR3", ".x.bin"])
def test_files_that_lie_beside_footage_are_not_opened(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / name).write_bytes(MP4)
    assert build(tmp_path).unread == ()


def test_small_files_are_not_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.bin").write_bytes(MP4[: LEAST_BYTES - 1])
    assert build(tmp_path).unread == ()


def test_one_file_may_have_any_suffix_if_its_content_is_a_video(tmp_path: Path) -> None:
    (tmp_path / "export.bin").write_bytes(MP4)
    assert [r.path for r in build(tmp_path / "export.bin").records] == ["export.bin"]
    (tmp_path / "other.bin").write_bytes(bytes(5000))
    with pytest.raises(ManifestError, match="no footage"):
        build(tmp_path / "other.bin")


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.idx")
    for root in (tmp_path, tmp_path / "a.idx"):
        with pytest.raises(ManifestError, match=r"no footage in .*\.mp4.*\.jpg.*: \.idx \(1\)"):
            build(root)
    with pytest.raises(ManifestError, match="does not exist"):
        build(tmp_path / "gone")


def test_a_part_of_each_video_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    manifest = build(tmp_path, train_fraction=0.6)
    assert [(r.video_id, r.path, r.split, r.label, r.part) for r in manifest.records] == [
        ("a.mp4.train", "a.mp4", "train", 0, (0.0, 0.6)),
        ("a.mp4.test", "a.mp4", "test", None, (0.6, 1.0)),
        ("b.mp4.train", "b.mp4", "train", 0, (0.0, 0.6)),
        ("b.mp4.test", "b.mp4", "test", None, (0.6, 1.0)),
    ]
    # Anomalies are those of the whole file, of which the caller said nothing.
    assert {r.anomalies for r in manifest.records} == {None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_fraction": 0.0}, "between 0 and 1"),
        ({"train_fraction": 1.0}, "between 0 and 1"),
        ({"train_fraction": float("nan")}, "between 0 and 1"),
        ({"train_fraction": 0.5, "split": "train"}, "leave them out"),
        ({"train_fraction": 0.5, "label": 0}, "leave them out"),
    ],
)
def test_options_that_contradict(tmp_path: Path, options: dict[str, object], message: str) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(ManifestError, match=message):
        build(tmp_path, **options)  # type: ignore[arg-type]


def test_split_and_label_of_all_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    normal = build(tmp_path, split="train", label=0).records
    assert {(r.split, r.label, r.anomalies) for r in normal} == {("train", 0, ())}
    abnormal = build(tmp_path, split="test", label=1).records
    assert {(r.split, r.label, r.anomalies) for r in abnormal} == {("test", 1, None)}


def test_an_id_does_not_depend_on_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "x/a b.mp4", "day.mp4", "a__b.mp4")
    before = ids(tmp_path)
    touch(tmp_path, "x/a_b.mp4", "day.avi", "day/0.png", "day/1.png", "a/b.mp4", "Day.mp4")
    after = ids(tmp_path)
    assert set(before) < set(after)
    assert len(after) == len(set(after)) == 8


def test_ids_are_readable() -> None:
    assert safe_id("cam1/2024-05-01_12.30.mp4") == "cam1__2024-05-01_12.30.mp4"
    assert safe_id("Hof 3/a.avi") == "Hof_3__a.avi-2cb1bdcb"
    assert safe_id(".frames").startswith("_frames-")


NAME = st.text(st.sampled_from("ab_ -ü."), min_size=1, max_size=5).filter(
    lambda name: name not in (".", "..")
)
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATH | PATH.map(lambda path: path + "x" * 250), unique=True, max_size=30))
def test_ids_are_safe_and_different_for_different_paths(paths: list[str]) -> None:
    found = [safe_id(path) for path in paths]
    assert len(set(found)) == len(paths)
    for video_id in found:
        longest = f"{video_id}.train"
        assert len(longest) <= ID_LENGTH
        assert VideoRecord(video_id=longest, path="a", split="all").video_id == longest


@pytest.mark.data
def test_real_footage(shared: Path) -> None:
    assert "vtest.avi" in ids(shared / "data/footage")
    assert len(build(shared / "data/ucsd_ped2").records) == 16 + 6 + 6


def test_names_without_suffix(tmp_path: Path) -> None:
    """A dot in the name of an image folder is no suffix."""
    touch(tmp_path, "x/a.b.mp4", "y/a.b.AVI", "z/a.b/0.jpg", "z/a.b/1.jpg", "c.mkv")
    assert by_name(find_footage(tmp_path)) == {
        "c": ["c.mkv"],
        "a.b": ["x/a.b.mp4", "y/a.b.AVI", "z/a.b"],
    }


def test_videos_of_a_data_set_are_located(tmp_path: Path) -> None:
    listing = find_footage(touch(tmp_path, "deep/er/a.mp4", "x/b.mp4", "y/b.mp4", "other.mp4"))
    assert locate(listing, {"b": "y", "a": "nowhere"}) == {"b": "y/b.mp4", "a": "deep/er/a.mp4"}
    for folder in (None, "z"):
        with pytest.raises(ManifestError, match=r"b exists more than once .*: x/b\.mp4, y/b\.mp4"):
            locate(listing, {"b": folder})
    wanted = {"a": None, **{f"v{i:02d}": None for i in range(12)}}
    with pytest.raises(ManifestError, match=r"lacks footage of 12 videos: v00, .*, v09 and 2 more"):
        locate(listing, wanted)
    assert locate(listing, wanted, subset=True) == {"a": "deep/er/a.mp4"}


@pytest.mark.parametrize(
    "footage",
    [
        ("cam1/a.mp4", "cam2/b.mp4"),
        ("cam1/2024/05/a.mp4",),
        ("cam1/0.jpg", "cam1/1.jpg", "cam1/2.jpg"),
        ("cam1/x/0.jpg", "cam1/x/1.jpg", "cam1/x/2.jpg", "cam1/x/3.jpg"),
    ],
)
def test_stray_pictures_hide_no_footage(
    tmp_path: Path, footage: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, *footage)
    before = find_footage(tmp_path).videos
    touch(tmp_path, "a.png", "b.png")
    after = find_footage(tmp_path)
    assert after.videos == before and after.root == tmp_path
    reason = "its 2 pictures are no video: footage lies in its subfolders"
    assert after.skipped == ((".", reason),)
    build(tmp_path)
    assert reason in caplog.text


def test_pictures_may_hide_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b.png", "locked/b.mp4")
    plain = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    listing = find_footage(tmp_path)
    assert listing.videos == ()
    assert listing.unread == (("locked", "cannot be read: Permission denied"),)
    with pytest.raises(NothingFound) as found:
        build(tmp_path)
    assert dict(found.value.manifest.unread).keys() == {"locked", "."}
    touch(tmp_path, "a.mp4")
    assert build(tmp_path).unread == listing.unread


def test_more_pictures_than_the_masks_below_them_are_a_video(tmp_path: Path) -> None:
    touch(tmp_path, *(f"clip/{i}.jpg" for i in range(3)), *(f"clip/gt/{i}.png" for i in range(3)))
    assert ids(tmp_path) == ["clip"]


def test_a_deep_tree_of_pictures_is_listed(tmp_path: Path) -> None:
    """Each folder has two pictures; the deepest has a video."""
    deep = "/".join(["d"] * 300)
    touch(tmp_path, f"{deep}/a.mp4")
    for depth in range(300):
        touch(tmp_path, *("/".join(["d"] * depth + [name]) for name in ("0.png", "1.png")))
    assert [r.path for r in build(tmp_path).records] == [f"{deep}/a.mp4"]
