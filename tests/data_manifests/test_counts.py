from __future__ import annotations

import pytest

from vadpipe.data_manifests import ucsd_ped2
from vadpipe.data_manifests.counts import OFFICIAL, check_totals, count, differences
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord


def record(video_id: str, split: str = "test", **fields: object) -> VideoRecord:
    return VideoRecord.model_validate(
        {"video_id": video_id, "path": None, "split": split, **fields}
    )


def ped2(*records: VideoRecord) -> Manifest:
    return Manifest(dataset="ucsd_ped2", root="/data", records=records)


def test_the_numbers_of_ped2_are_those_of_its_clips() -> None:
    train, test = (OFFICIAL["ucsd_ped2"][split] for split in ("train", "test"))
    assert (train.normal, train.frames) == (16, sum(ucsd_ped2.TRAIN_FRAMES))
    assert (test.abnormal, test.frames) == (12, sum(ucsd_ped2.TEST_FRAMES))
    assert test.abnormal_frames == sum(ucsd_ped2.TEST_ABNORMAL)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_classes_of_ucf_crime_add_up(split: str) -> None:
    counts = OFFICIAL["ucf_crime"][split]
    assert len(counts.categories) == 13
    assert sum(counts.categories.values()) == counts.abnormal


def test_count() -> None:
    a = record("a", label=1, expected_frames=20, anomalies=((2, 5), (9, 12)), category="B1")
    b = record("b", label=0, expected_frames=10, anomalies=())
    found = count([a, b])
    assert (found.normal, found.abnormal, found.frames, found.abnormal_frames) == (1, 1, 30, 6)
    assert found.categories == {"B1": 1}
    unknown = count([a, b, record("c")])
    assert (unknown.normal, unknown.abnormal) == (1, 1)
    assert (unknown.frames, unknown.abnormal_frames) == (None, None)


def test_what_is_unknown_is_not_compared_and_what_differs_is_named() -> None:
    videos = [record(f"v{i}", label=1) for i in range(12)]
    assert differences(ped2(*videos)) == []
    assert differences(ped2(*videos[1:])) == [
        "test: abnormal videos: found 11, the data set has 12"
    ]
    known = [r.model_copy(update={"expected_frames": 100, "anomalies": ((0, 9),)}) for r in videos]
    assert differences(ped2(*known)) == [
        "test: frames: found 1,200, the data set has 2,010",
        "test: abnormal frames: found 108, the data set has 1,648",
    ]


def test_a_class_that_is_short_is_named() -> None:
    records = [
        record(f"{name}{i}", label=1, category=name)
        for name, n in OFFICIAL["ucf_crime"]["test"].categories.items()
        for i in range(n - (name == "Arson"))
    ]
    records += [record("x", label=1, category="Piracy")]
    records += [record(f"n{i}", label=0) for i in range(150)]
    manifest = Manifest(dataset="ucf_crime", root="/data", records=tuple(records))
    assert differences(manifest) == [
        "test: videos of Arson: found 8, the data set has 9",
        "test: videos of Piracy: found 1, the data set has 0",
    ]


def test_a_missing_split_is_an_error_of_the_whole_data_set_only() -> None:
    videos = [record(f"v{i}", label=1) for i in range(12)]
    with pytest.raises(ManifestError, match="ucsd_ped2 is not complete: train: no video"):
        check_totals(ped2(*videos))
    whole = ped2(*videos, *(record(f"t{i}", "train", label=0) for i in range(16)))
    assert check_totals(whole) is whole


def test_other_data_sets_are_not_compared() -> None:
    assert differences(Manifest(dataset="footage", root="/data", records=(record("a"),))) == []
