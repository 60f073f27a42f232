"""Two data sets in one manifest: train on one, test on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from vadpipe.data_manifests.cross import build
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.table import write_manifest


def video(name: str, split: str, **facts: object) -> VideoRecord:
    return VideoRecord.model_validate(
        {"video_id": name, "path": f"{split}/{name}", "split": split, **facts}
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    a = Manifest(
        dataset="a",
        root=str(tmp_path / "sets" / "a"),
        records=(
            *(video(f"{i:02d}", "train", label=0) for i in range(3)),
            video("t", "test", anomalies=((1, 2),)),
        ),
    )
    b = Manifest(
        dataset="b",
        root=str(tmp_path / "sets" / "b"),
        records=(
            video("n", "train", label=0),
            video("01", "test", masks="m/01", tracks="t/01.csv", anomalies=((3, 5),)),
            video("u", "test", anomalies=()),
        ),
    )
    write_manifest(a, tmp_path / "a.parquet")
    write_manifest(b, tmp_path / "b.csv")
    return tmp_path


def test_training_videos_of_one_and_test_videos_of_the_other(root: Path) -> None:
    made = build(root, train="a.parquet", test="b.csv")
    assert made.dataset == "a-to-b" and made.root == str(root)
    assert [(r.video_id, r.split, r.path) for r in made.records] == [
        ("00", "train", "sets/a/train/00"),
        ("01", "train", "sets/a/train/01"),
        ("02", "train", "sets/a/train/02"),
        ("b.01", "test", "sets/b/test/01"),
        ("u", "test", "sets/b/test/u"),
    ]
    found = made.records[3]
    assert (found.masks, found.tracks) == ("sets/b/m/01", "sets/b/t/01.csv")
    assert found.anomalies == ((3, 5),) and made.records[4].anomalies == ()


def test_a_model_of_the_training_set_alone_is_that_of_both(root: Path) -> None:
    """Training records keep what their digest covers, so the cache has the model already."""
    from vadpipe.data_manifests.table import read_manifest

    alone = read_manifest(root / "a.parquet").select(split="train")
    assert build(root, train="a.parquet", test="b.csv").select(split="train").digest == alone.digest


def test_shots_are_the_first_training_videos(root: Path) -> None:
    made = build(root, train="a.parquet", test="a.parquet", shots=2)
    assert [r.video_id for r in made.records] == ["00", "01", "t"]
    for wrong in (0, 4):
        with pytest.raises(ManifestError, match="it is 1 to 3"):
            build(root, train="a.parquet", test="b.csv", shots=wrong)


def test_training_videos_of_the_target_are_there_to_adapt_with(root: Path) -> None:
    made = build(root, train="a.parquet", test="b.csv", adaptation=True)
    assert [(r.video_id, r.split, r.path) for r in made.select(split="validation").records] == [
        ("n", "validation", "sets/b/train/n")
    ]
    without = build(root, train="a.parquet", test="b.csv")
    for split in ("train", "test"):  # the source's model and the target's scores stay what they are
        assert made.select(split=split).records == without.select(split=split).records
    same = build(root, train="a.parquet", test="a.parquet", adaptation=True)
    assert [r.video_id for r in same.select(split="validation").records] == ["a.00", "a.01", "a.02"]


def test_a_target_without_training_videos_cannot_be_adapted_to(root: Path) -> None:
    only = Manifest(dataset="c", root=str(root / "sets"), records=(video("x", "test"),))
    write_manifest(only, root / "c.csv")
    with pytest.raises(ManifestError, match=r"c\.csv has no videos of split train"):
        build(root, train="a.parquet", test="c.csv", adaptation=True)


def test_footage_elsewhere_and_missing_splits_are_errors(root: Path) -> None:
    with pytest.raises(ManifestError, match="folder above the footage of both"):
        build(root / "sets" / "a", train=str(root / "a.parquet"), test=str(root / "b.csv"))
    only = Manifest(dataset="c", root=str(root / "sets"), records=(video("x", "all"),))
    write_manifest(only, root / "c.csv")
    with pytest.raises(ManifestError, match=r"c\.csv has no videos of split train"):
        build(root, train="c.csv", test="b.csv")
    with pytest.raises(ManifestError, match=r"c\.csv has no videos of split test"):
        build(root, train="a.parquet", test="c.csv")
