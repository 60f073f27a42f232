from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic import write_ucf_crime
from vadpipe.data_manifests.counts import count
from vadpipe.data_manifests.intervals import frame_labels, from_inclusive
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.ucf_crime import CLIPPED, build, read_annotations

ANNOTATIONS = "Temporal_Anomaly_Annotation.txt"
ABUSE = "Abuse901_x264.mp4  Abuse  50  149  -1  -1  "


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_ucf_crime(tmp_path / "labels")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")


def by_id(manifest: Manifest) -> dict[str, VideoRecord]:
    return {r.video_id: r for r in manifest.records}


def footage(folder: Path, manifest: Manifest) -> Path:
    """Empty files for all videos of a manifest."""
    for r in manifest.records:
        normal = ("Training" if r.split == "train" else "Testing") + "_Normal_Videos_Anomaly"
        path = folder / "part 1" / (r.category or normal) / f"{r.video_id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_records(root: Path) -> None:
    manifest = build(root, frame_counts="frames.txt")
    assert (manifest.dataset, manifest.root, len(manifest)) == ("ucf_crime", str(root), 1900)
    videos = by_id(manifest)
    assert videos["Abuse001_x264"] == VideoRecord(
        video_id="Abuse001_x264", path=None, split="train", label=1, category="Abuse"
    )
    assert videos["Normal_Videos001_x264"] == VideoRecord(
        video_id="Normal_Videos001_x264", path=None, split="train", label=0, anomalies=()
    )
    assert videos["Abuse901_x264"] == VideoRecord(
        video_id="Abuse901_x264",
        path=None,
        split="test",
        label=1,
        category="Abuse",
        expected_frames=1000,
        anomalies=((50, 150),),
    )
    assert videos["Normal_Videos_001_x264"].expected_frames == 1000
    assert {r.expected_frames for r in build(root).records} == {None}


def test_normal_training_videos_alone(root: Path, tmp_path: Path) -> None:
    """Abnormal ones are not even looked for in the footage; test videos stay."""
    whole, normal = build(root), build(root, normal_only=True)
    wanted = [r for r in whole.records if r.split == "test" or r.label == 0]
    assert list(normal.records) == wanted and len(wanted) == 800 + 290
    folder = footage(tmp_path / "videos", normal)
    found = build(root, footage=folder, normal_only=True)
    assert [r.video_id for r in found.records] == [r.video_id for r in wanted]
    assert all(r.path for r in found.records)


def test_events_that_reach_the_end_are_clipped_with_and_without_frame_counts(root: Path) -> None:
    """Explosion033 has 3,154 frames and an event up to 3,156."""
    name = "Explosion901_x264"
    edit(root / ANNOTATIONS, f"{name}.mp4  Explosion  50  149", f"{name}.mp4  Explosion  900  2000")
    edit(
        root / "frames.txt",
        f"{name}.mp4 1000 Explosion 50 149",
        f"{name}.mp4 1000 Explosion 900 2000",
    )
    counted = by_id(build(root, frame_counts="frames.txt", subset=True))
    assert counted[name].anomalies == ((900, 1000),)
    assert by_id(build(root, subset=True))[name].anomalies == ((900, 2001),)
    for path in (root / ANNOTATIONS, root / "frames.txt"):
        path.write_text(path.read_text().replace(name, "Explosion033_x264"))
    assert CLIPPED["Explosion033_x264"] == 3154
    edit(root / ANNOTATIONS, "900  2000", "900  3156")
    assert by_id(build(root, subset=True))["Explosion033_x264"].anomalies == ((900, 3154),)


def test_an_event_after_the_end_is_an_error(root: Path) -> None:
    edit(root / ANNOTATIONS, ABUSE, ABUSE.replace("50  149", "1000  1200"))
    edit(
        root / "frames.txt",
        "Abuse901_x264.mp4 1000 Abuse 50 149",
        "Abuse901_x264.mp4 1000 Abuse 1000 1200",
    )
    with pytest.raises(ManifestError, match="Abuse901_x264: all events lie after its 1000 frames"):
        build(root, frame_counts="frames.txt")


def test_two_events_are_merged_where_they_touch(root: Path) -> None:
    edit(root / ANNOTATIONS, ABUSE, ABUSE.replace("50  149  -1  -1", "50  99  100  149"))
    assert by_id(build(root))["Abuse901_x264"].anomalies == ((50, 150),)
    edit(root / ANNOTATIONS, "50  99  100  149", "120  149  50  99")
    assert by_id(build(root, subset=True))["Abuse901_x264"].anomalies == ((50, 100), (120, 150))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (ANNOTATIONS, ABUSE, "", "test: videos of Abuse: found 1, the data set has 2"),
        (ANNOTATIONS, ABUSE, ABUSE.replace("149", "150"), "found 84,332, the data set has 84,331"),
        (ANNOTATIONS, ABUSE, ABUSE + "\n" + ABUSE, "Abuse901_x264 is listed twice"),
        (
            ANNOTATIONS,
            ABUSE,
            ABUSE.replace("149", "-1"),
            "Abuse901_x264: frames 50 -1 .* do not fit",
        ),
        (ANNOTATIONS, ABUSE, ABUSE.replace("50  149", "-1  -1"), "Abuse901_x264: .* do not fit"),
        (ANNOTATIONS, ABUSE, ABUSE.replace("  Abuse", "  Normal"), "Abuse901_x264: .* do not fit"),
        (ANNOTATIONS, ABUSE, ABUSE.replace("  Abuse", "  Abuser"), "'Abuser' is not a class"),
        (
            ANNOTATIONS,
            ABUSE,
            ABUSE.replace("50", "149.5"),
            "Abuse901_x264: expected a class and four",
        ),
        (ANNOTATIONS, ABUSE, ABUSE.replace("50", "200"), "Abuse901_x264: interval 200..149 ends"),
        (ANNOTATIONS, ABUSE, "Abuse901_x264.mp4", "Abuse901_x264: expected a class and four"),
        (ANNOTATIONS, "Abuse901", "Abuse001", "Abuse001_x264 is in both splits"),
        ("Anomaly_Train.txt", "Abuse/Abuse001_x264.mp4\n", "", "videos of Abuse: found 47"),
        ("Anomaly_Train.txt", "Abuse/Abuse001", "Abuse/Abuse002", "Abuse002_x264 is listed twice"),
        (
            "Anomaly_Train.txt",
            "Abuse/Abuse001",
            "Fun/Abuse001",
            "'Fun/Abuse001_x264.mp4' is not a line",
        ),
        ("Anomaly_Train.txt", "Abuse/Abuse001", "Abuse/../x", "is not a line like"),
        (
            "frames.txt",
            "Abuse901_x264.mp4 1000",
            "Abuse901_x264.mp4 0",
            "'0' is not a number of frames",
        ),
        ("frames.txt", "Abuse901_x264.mp4 1000", "Abuse901_x264.mp4 1001", "1,111,809"),
        (
            "frames.txt",
            "Abuse/Abuse901",
            "Abuse/Abuse900",
            "Abuse900_x264 is listed twice, or is not a",
        ),
        (
            "frames.txt",
            "901_x264.mp4 1000 Abuse 50",
            "901_x264.mp4 1000 Abuse 51",
            "Abuse901_x264 has other",
        ),
        (
            "frames.txt",
            "Abuse/Abuse901_x264.mp4 1000 Abuse 50 149 -1 -1 \n",
            "",
            "count of Abuse901_x264",
        ),
    ],
)
def test_labels_that_are_not_the_official_ones(
    root: Path, file: str, old: str, new: str, message: str
) -> None:
    edit(root / file, old, new)
    with pytest.raises(ManifestError, match=message):
        build(root, frame_counts="frames.txt" if file == "frames.txt" else None)


def test_missing_lines_are_fine_in_a_subset(root: Path) -> None:
    edit(root / ANNOTATIONS, ABUSE, "")
    assert len(build(root, subset=True)) == 1899


def test_footage_is_found_at_any_depth(root: Path, tmp_path: Path) -> None:
    videos = footage(tmp_path / "videos", build(root))
    manifest = build(root, footage=videos)
    assert manifest.root == str(videos)
    assert by_id(manifest)["Abuse001_x264"].path == "part 1/Abuse/Abuse001_x264.mp4"
    assert all(manifest.resolve(r.path or "").is_file() for r in manifest.records)
    assert manifest.digest == build(root).digest
    # A relative folder counts from the root.
    assert build(root, footage="../videos") == manifest


def test_missing_footage_is_named_or_left_out(root: Path, tmp_path: Path) -> None:
    videos = footage(tmp_path / "videos", build(root))
    (videos / "part 1/Abuse/Abuse001_x264.mp4").unlink()
    with pytest.raises(ManifestError, match="lacks footage of 1 videos: Abuse001_x264"):
        build(root, footage=videos)
    some = build(root, footage=videos, subset=True)
    assert len(some) == 1899
    assert "Abuse001_x264" not in by_id(some)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="empty holds no video of UCF-Crime"):
        build(root, footage=tmp_path / "empty", subset=True)


def test_of_several_files_the_one_in_its_folder_is_taken(root: Path, tmp_path: Path) -> None:
    """The archive holds some normal videos a second time, in Normal_Videos_event."""
    videos = footage(tmp_path / "videos", build(root))
    again = videos / "Normal_Videos_event/Normal_Videos_001_x264.mp4"
    again.parent.mkdir()
    again.touch()
    path = by_id(build(root, footage=videos))["Normal_Videos_001_x264"].path
    assert path == "part 1/Testing_Normal_Videos_Anomaly/Normal_Videos_001_x264.mp4"
    third = videos / "part 2/Testing_Normal_Videos_Anomaly/Normal_Videos_001_x264.mp4"
    third.parent.mkdir(parents=True)
    third.touch()
    with pytest.raises(ManifestError, match="Normal_Videos_001_x264 exists more than once"):
        build(root, footage=videos)


def split_file(root: Path, values: Any) -> Path:
    path = root / "split.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def test_another_split(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ids with and without folder; a test video that is trained on loses its frame labels."""
    split_file(
        root,
        {
            "train": ["Abuse/Abuse901_x264", "Normal_Videos_001_x264.mp4", "Abuse001_x264"],
            "test": ["x/Arson901_x264", "Arson/Arson001_x264", "y/Arson901_x264"],
        },
    )
    with caplog.at_level(logging.WARNING):
        manifest = build(root, split_file="split.json")
    assert [(r.video_id, r.split, r.label, r.anomalies) for r in manifest.records] == [
        ("Abuse901_x264", "train", 1, None),
        ("Normal_Videos_001_x264", "train", 0, ()),
        ("Abuse001_x264", "train", 1, None),
        ("Arson901_x264", "test", 1, ((50, 150),)),
        ("Arson001_x264", "test", 1, None),
    ]
    assert "lists Arson901_x264 twice" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": ["Abuse/Abuse999_x264"]}, "'Abuse/Abuse999_x264' is not a video of UCF-Crime"),
        (
            {"train": ["Abuse001_x264"], "test": ["a/Abuse001_x264"]},
            "Abuse001_x264 is in two splits",
        ),
        ({"dev": []}, "must be of the form"),
        ({"train": "Abuse001_x264"}, "must be of the form"),
        ({"train": [1]}, "must be of the form"),
        ([], "must be of the form"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_split_file_is_an_error(root: Path, values: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        build(root, split_file=split_file(root, values))


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.json does not exist"):
        build(root, split_file="gone.json")
    with pytest.raises(ManifestError, match=r"gone\.txt does not exist"):
        build(root, frame_counts="gone.txt")
    (root / ANNOTATIONS).unlink()
    with pytest.raises(ManifestError, match=f"{ANNOTATIONS} does not exist"):
        build(root)


@settings(deadline=None, max_examples=200)
@given(
    line=st.text(max_size=40)
    | st.from_regex(
        r"[A-Z][a-z]*[0-9]{3}_x264\.mp4  (Abuse|Normal)(  -?[0-9]{1,11}){4}", fullmatch=True
    )
)
def test_any_line_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / ANNOTATIONS
    path.write_text(line, encoding="utf-8", newline="")
    try:
        found = read_annotations(path)
    except ManifestError:
        return
    for category, events in found.values():
        assert bool(events) == (category is not None)


@pytest.mark.data
def test_golden_totals(shared: Path) -> None:
    root = shared / "data/labels/ucf_crime"
    golden = json.loads((shared / "golden/g12_ground_truth.json").read_text())["ucf_crime"]["test"]
    manifest = build(root, frame_counts="urdmu_annotation_with_frame_counts.txt")
    test = manifest.select(split="test")
    assert (len(manifest), len(manifest.select(split="train", label=1))) == (1900, 810)
    totals = count(test.records)
    assert (totals.abnormal, totals.normal) == (golden["abnormal"], golden["normal"])
    assert totals.frames == golden["frames_real"]
    assert totals.abnormal_frames == golden["abnormal_frames_0based_inclusive_clipped"]
    annotations = read_annotations(root / ANNOTATIONS)
    events = [len(a.events) for a in annotations.values()]
    assert (sum(events), events.count(2)) == (golden["events"], golden["videos_with_two_events"])
    per_video, padded = {}, {"ceil": 0, "floor": 0}
    for record in test.records:
        n = record.expected_frames
        assert n is not None and record.anomalies is not None
        whole = -(-n // 16) * 16
        padded["ceil"] += whole
        padded["floor"] += n // 16 * 16
        events_of = annotations[record.video_id].events
        in_whole = from_inclusive(events_of, first=0, n_frames=whole, clip=True)
        counted = [int(frame_labels(r, whole).sum()) for r in (record.anomalies, in_whole)]
        per_video[record.video_id] = [n, *counted]
    assert per_video == golden["per_video"]
    assert padded == {"ceil": golden["frames_ceil16"], "floor": golden["frames_floor16"]}
    in_whole_total = sum(v[2] for v in per_video.values())
    assert in_whole_total == golden["abnormal_frames_0based_inclusive_in_ceil16"]
    late = [
        (name.removesuffix(".mp4"), n)
        for name, _, n in golden["events_ending_at_or_after_last_frame"]
    ]
    assert dict(late) == CLIPPED
    # Without the frame counts the labels are the same.
    assert build(root).digest == manifest.digest


@pytest.mark.data
def test_the_split_of_the_c3d_features(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """272 names, of which two test videos are listed twice; all test videos have frame labels."""
    manifest = build(
        shared / "data/labels/ucf_crime", split_file=shared / "data/ucf_crime_c3d/split.json"
    )
    train, test = (count(manifest.select(split=s).records) for s in ("train", "test"))
    assert (train.normal, train.abnormal) == (111, 133)
    assert (test.normal, test.abnormal, test.abnormal_frames) == (17, 9, 1409)
    assert "Normal_Videos_289_x264 twice" in caplog.text
    assert "Normal_Videos_929_x264 twice" in caplog.text
