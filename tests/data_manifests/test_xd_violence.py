from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_xd_violence
from vadpipe.data_manifests.counts import count
from vadpipe.data_manifests.record import ID_PATTERN, Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.xd_violence import build, read_annotations, read_categories, video_id

FILM = "City.of.God.2002__#01-24-10_01-25-10_label_B2-0-0"
WEB = "v=S-7rRLrxnVQ__#1_label_G-B2-B6"
CALM = "v=tlFJIG9mTGQ__#00-12-00_00-15-00_label_A"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_xd_violence(tmp_path / "labels")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Annotations of two videos, and nothing else."""
    root = tmp_path / "small"
    root.mkdir()
    (root / "annotations.txt").write_text(f"{FILM} 340 1090\n{WEB}.mp4 0 10 30 45\n")
    return root


def by_id(manifest: Manifest) -> dict[str, VideoRecord]:
    return {r.video_id: r for r in manifest.records}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_records(root: Path) -> None:
    manifest = build(root)
    assert (manifest.dataset, manifest.root, len(manifest)) == ("xd_violence", str(root), 4754)
    train, test = (manifest.select(split=s) for s in ("train", "test"))
    assert (len(train.select(label=1)), len(train.select(label=0))) == (1905, 2049)
    assert (len(test.select(label=1)), len(test.select(label=0))) == (500, 300)
    assert {r.anomalies for r in train.select(label=1).records} == {None}
    assert {r.anomalies for r in manifest.select(label=0).records} == {()}
    videos = by_id(manifest)
    assert videos["v.test_000007__1_label_G-B2-B6"] == VideoRecord(
        video_id="v.test_000007__1_label_G-B2-B6",
        path=None,
        split="test",
        label=1,
        category="G+B2+B6",
        anomalies=((10, 20), (30, 45)),
    )


def test_the_annotations_alone_give_the_violent_test_videos(small: Path) -> None:
    with pytest.raises(ManifestError, match="xd_violence is not complete: train: no video"):
        build(small)
    manifest = build(small, subset=True)
    assert [(r.video_id, r.split, r.category, r.anomalies) for r in manifest.records] == [
        ("City.of.God.2002__01-24-10_01-25-10_label_B2-0-0", "test", "B2", ((340, 1090),)),
        ("v.S-7rRLrxnVQ__1_label_G-B2-B6", "test", "G+B2+B6", ((0, 10), (30, 45))),
    ]


def test_a_video_that_is_short_of_the_lists_shows_in_the_totals(root: Path) -> None:
    path = root / "rgb_test.list"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-5]))
    with pytest.raises(ManifestError, match="test: normal videos: found 299, the data set has 300"):
        build(root)
    assert len(build(root, subset=True)) == 4753


def test_lists_have_names_of_any_form(small: Path) -> None:
    forms = [f"a/b/{CALM}__0.npy", f"{CALM}__4.npy", f"D:\\xd\\{CALM}.mp4", CALM]
    (small / "mine.txt").write_text("\r\n".join(forms), newline="")
    manifest = build(small, train_list="mine.txt", subset=True)
    assert [(r.video_id, r.split, r.label) for r in manifest.select(split="train").records] == [
        ("v.tlFJIG9mTGQ__00-12-00_00-15-00_label_A", "train", 0)
    ]


def test_a_list_that_was_asked_for_has_to_be_there(small: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.txt does not exist"):
        build(small, train_list="gone.txt", subset=True)


def test_splits_may_not_overlap(small: Path) -> None:
    (small / "rgb.list").write_text(f"{CALM}\n")
    (small / "rgb_test.list").write_text(f"{CALM}\n")
    with pytest.raises(ManifestError, match="label_A is in both splits"):
        build(small, subset=True)
    (small / "rgb_test.list").unlink()
    (small / "rgb.list").write_text(f"{FILM}\n")
    with pytest.raises(ManifestError, match=r"rgb\.list: City\.of\.God.* has test annotations"):
        build(small, subset=True)


def test_a_violent_test_video_without_annotation_is_an_error(small: Path) -> None:
    (small / "rgb_test.list").write_text("v=ABCDEFGHIJK__#1_label_B1-0-0\n")
    with pytest.raises(ManifestError, match=r"v=ABCDEFGHIJK.* annotations do not have it"):
        build(small, subset=True)


def test_footage_tells_the_splits_by_its_folders(small: Path, tmp_path: Path) -> None:
    train = "Film.1999__#0-27-42_0-29-01_label_B1-0-0"
    videos = touch(
        tmp_path / "videos",
        f"1-1004/{train}",
        f"test_videos/{CALM}",
        f"test_videos/{FILM}",
        "intro",
    )
    with pytest.raises(ManifestError, match=rf"lacks footage of 1 videos: {re.escape(WEB)}"):
        build(small, footage=videos)
    manifest = build(small, footage=videos, subset=True)
    assert [(r.path, r.split, r.label, r.anomalies) for r in manifest.records] == [
        (f"1-1004/{train}.mp4", "train", 1, None),
        (f"test_videos/{FILM}.mp4", "test", 1, ((340, 1090),)),
        (f"test_videos/{CALM}.mp4", "test", 0, ()),
    ]
    assert all(manifest.resolve(r.path or "").is_file() for r in manifest.records)
    only = build(small, footage=videos / "test_videos", subset=True)
    assert [(r.path, r.split) for r in only.records] == [
        (f"{FILM}.mp4", "test"),
        (f"{CALM}.mp4", "test"),
    ]


def test_footage_and_lists_have_to_agree(small: Path, tmp_path: Path) -> None:
    (small / "rgb.list").write_text("v=ABCDEFGHIJK__#1_label_A\n")
    videos = touch(tmp_path / "a", f"train/{CALM}", f"train/{FILM}")
    with pytest.raises(ManifestError, match=r"tlFJIG9mTGQ.* is not in .*rgb\.list"):
        build(small, footage=videos, subset=True)
    videos = touch(tmp_path / "b", "test/v=ABCDEFGHIJK__#1_label_A")
    with pytest.raises(ManifestError, match="is a training video in a test folder"):
        build(small, footage=videos, subset=True)
    videos = touch(tmp_path / "c", f"one/{FILM}", f"two/{FILM}")
    with pytest.raises(ManifestError, match="exists more than once"):
        build(small, footage=videos, subset=True)
    videos = touch(tmp_path / "d", "other")
    with pytest.raises(ManifestError, match="holds no video of XD-Violence"):
        build(small, footage=videos, subset=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (FILM, "expected pairs of frame numbers"),
        (f"{FILM} 10", "expected pairs of frame numbers"),
        (f"{FILM} 10 x", "expected pairs of frame numbers"),
        (f"{FILM} 20 10", "20..9 ends before it starts"),
        (f"{FILM} 10 10", "10..9 ends before it starts"),
        (f"{FILM} 1 2\n{FILM}.mp4 1 2", "is listed twice"),
        (f"{CALM} 1 2", "its name says normal"),
        ("City.of.God 1 2", "'City.of.God' is not a name of XD-Violence"),
        ("x_label_B3-0-0 1 2", "is not a name of XD-Violence"),
        ("x_label_A-B1-0 1 2", "is not a name of XD-Violence"),
    ],
)
def test_a_bad_line_names_the_video(small: Path, line: str, message: str) -> None:
    (small / "annotations.txt").write_text(line)
    with pytest.raises(ManifestError, match=message):
        build(small, subset=True)


def test_categories() -> None:
    assert read_categories(CALM) == ()
    assert read_categories(WEB) == ("G", "B2", "B6")
    assert read_categories("a_label_A__#1_label_B5-0-0") == ("B5",)


TIMES = st.from_regex(
    r"1|[0-9]{1,2}-[0-9]{2}-[0-9]{2}_[0-9]{1,2}-[0-9]{2}-[0-9]{2}", fullmatch=True
)
YOUTUBE = st.from_regex(r"v=[A-Za-z0-9_-]{11}", fullmatch=True)
FILMS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}", fullmatch=True)
NAMES = st.builds(
    lambda title, time, label: f"{title}__#{time}_label_{label}",
    YOUTUBE | FILMS,
    TIMES,
    st.sampled_from(["A", "B1-0-0", "B2-G-0"]),
)
HASHED = re.compile(r"-[0-9a-f]{8}$")


def name_of(identity: str) -> str:
    """The inverse of `video_id`, as its documentation says."""
    rest, _, labels = identity.rpartition("_label_")
    title, _, time = rest.rpartition("__")
    if re.fullmatch(r"v\.[A-Za-z0-9_-]{11}", title):
        title = f"v={title[2:]}"
    return f"{title}__#{time}_label_{labels}"


@given(NAMES)
def test_the_name_can_be_read_from_the_id(name: str) -> None:
    identity = video_id(name)
    assert ID_PATTERN.fullmatch(identity)
    assert name_of(identity) == name or HASHED.search(identity)


def test_names_of_another_form_get_a_hash() -> None:
    odd = ["v.ABCDEFGHIJK__#1_label_A", "Léon__#1_label_A", "a b__#1_label_A", "a__1_label_B#1"]
    ids = [video_id(name) for name in odd]
    assert all(HASHED.search(i) and ID_PATTERN.fullmatch(i) for i in ids)
    assert len({*ids, video_id("v=ABCDEFGHIJK__#1_label_A")}) == 5


@pytest.mark.data
def test_the_official_annotations(shared: Path) -> None:
    root = shared / "data/labels/xd_violence"
    manifest = build(root, subset=True)
    counts = count(manifest.records)
    assert (len(manifest), counts.abnormal) == (500, 500)
    names = list(read_annotations(root / "XD_Annotation.txt"))
    assert [name_of(r.video_id) for r in manifest.records] == names
    frames = set()  # counted once more, without the library
    for line in (root / "XD_Annotation.txt").read_text().splitlines():
        name, *edges = line.split()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            frames |= {(name, frame) for frame in range(int(start), int(stop))}
    assert counts.abnormal_frames == len(frames)
    classes = {c for r in manifest.records for c in (r.category or "").split("+")}
    assert classes == {"B1", "B2", "B4", "B5", "B6", "G"}
