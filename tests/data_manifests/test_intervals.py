from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vadpipe.data_manifests.intervals import (
    frame_labels,
    from_inclusive,
    from_labels,
    mask_labels,
)
from vadpipe.data_manifests.record import ManifestError

LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=60)


def test_published_forms_say_the_same() -> None:
    """Frames 60 .. 179 of 180, counted from 0."""
    labels = [0] * 60 + [1] * 120
    masks = np.zeros((180, 4, 6), np.uint8)
    masks[60:, 3, 5] = 1
    expected = ((60, 180),)
    assert from_inclusive([(61, 180)], first=1, n_frames=180) == expected
    assert from_inclusive([(60, 179)], first=0, n_frames=180) == expected
    assert from_labels(labels) == expected
    assert from_labels(mask_labels(masks)) == expected
    assert frame_labels(expected, 180).tolist() == labels


@given(LABELS)
def test_labels_survive_the_round_trip(labels: list[int]) -> None:
    ranges = from_labels(labels)
    back = frame_labels(ranges, len(labels))
    assert back.tolist() == labels
    assert back.dtype == np.uint8


@given(LABELS, st.sampled_from([0, 1]))
def test_ranges_survive_as_inclusive_intervals(labels: list[int], first: int) -> None:
    ranges = from_labels(labels)
    intervals = [(start + first, stop - 1 + first) for start, stop in ranges]
    assert from_inclusive(intervals[::-1], first=first, n_frames=len(labels)) == ranges  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(-5, 70), st.integers(0, 20)), max_size=8),
    st.integers(1, 60),
    st.sampled_from([0, 1]),
)
def test_any_intervals_mean_the_union_of_their_frames(
    starts: list[tuple[int, int]], n_frames: int, first: int
) -> None:
    """Against frame-by-frame membership; overlap, order and clipping included."""
    intervals = [(start, start + length) for start, length in starts]
    oracle = [any(a <= f + first <= b for a, b in intervals) for f in range(n_frames)]
    ranges = from_inclusive(intervals, first=first, n_frames=n_frames, clip=True)  # type: ignore[arg-type]
    assert frame_labels(ranges, n_frames).tolist() == oracle
    assert all(a[1] < b[0] for a, b in pairwise(ranges))


def test_no_interval_is_normal_throughout() -> None:
    assert from_inclusive([], first=1) == ()
    assert from_labels([0, 0]) == ()
    assert frame_labels((), 3).tolist() == [0, 0, 0]


def test_overlapping_and_touching_intervals_are_merged() -> None:
    assert from_inclusive([(10, 12), (1, 4), (3, 6), (7, 8)], first=1) == ((0, 8), (9, 12))


@pytest.mark.parametrize(
    ("interval", "first"), [((0, 5), 1), ((-1, 5), 0), ((5, 10), 0), ((5, 11), 1)]
)
def test_reaching_out_of_the_video_is_an_error_unless_clipped(
    interval: tuple[int, int], first: int
) -> None:
    with pytest.raises(ManifestError, match="reach out of a video of 10 frames"):
        from_inclusive([interval], first=first, n_frames=10)  # type: ignore[arg-type]
    clipped = from_inclusive([interval], first=first, n_frames=10, clip=True)  # type: ignore[arg-type]
    assert clipped == ((max(interval[0] - first, 0), min(interval[1] - first + 1, 10)),)


def test_without_the_length_only_the_start_is_checked() -> None:
    assert from_inclusive([(1, 10**6)], first=1) == ((0, 10**6),)
    with pytest.raises(ManifestError, match="unknown length"):
        from_inclusive([(0, 5)], first=1)
    with pytest.raises(ManifestError, match="clipping needs the number of frames"):
        from_inclusive([(0, 5)], first=1, clip=True)


@pytest.mark.parametrize(
    "interval",
    [(5, 4), (1,), (1, 2, 3), (1.5, 2), ("1", "2"), (float("nan"), 2), (None, 2), (1, np.inf)],
)
def test_what_is_no_interval_is_an_error(interval: tuple[int, ...]) -> None:
    with pytest.raises(ManifestError, match="interval"):
        from_inclusive([interval], first=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "vector"),
        ([[0, 1]], "vector"),
        (1, "vector"),
        ([0, 2, 2], r"frame 1 has .*2.* \(2 such frames\)"),
        ([0, -1], "frame 1"),
        ([0.5], "frame 0"),
        ([0, float("nan")], "frame 1"),
        (["0", "1"], "0 or 1"),
    ],
)
def test_what_is_no_label_vector_is_an_error(labels: object, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        from_labels(labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_labels_of_any_dtype(dtype: type) -> None:
    assert from_labels(np.array([0, 1, 1, 0, 1], dtype)) == ((1, 3), (4, 5))


@pytest.mark.parametrize(
    ("ranges", "n_frames", "message"),
    [
        ([(0, 5)], 4, "reach out of a video of 4 frames"),
        ([(-1, 2)], 4, "reach out"),
        ([(2, 2)], 4, "holds no frame"),
        ([(3, 2)], 4, "holds no frame"),
        ([], 0, "0 frames"),
    ],
)
def test_frame_labels_refuses(ranges: list[tuple[int, int]], n_frames: int, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        frame_labels(ranges, n_frames)


def test_frame_labels_clips_on_request() -> None:
    assert frame_labels([(-2, 1), (3, 9), (20, 30)], 5, clip=True).tolist() == [1, 0, 0, 1, 1]


def test_one_pixel_makes_a_frame_abnormal(tmp_path: Path) -> None:
    """In every file type and colour mode that masks come in; names sorted as numbers."""
    for i, (suffix, mode) in enumerate([("png", "1"), ("bmp", "L"), ("tif", "RGB"), ("png", "P")]):
        for abnormal in (False, True):
            image = Image.new(mode, (5, 4))
            if mode == "P":
                image.putpalette([0, 0, 0, 200, 0, 0])
            if abnormal:
                image.putpixel((2, 3), (0, 0, 1) if mode == "RGB" else 1)
            image.save(tmp_path / f"{2 * i + abnormal + 5}.{suffix}")
    assert mask_labels(tmp_path).tolist() == [0, 1] * 4


def test_an_opaque_picture_without_marks_is_normal(tmp_path: Path) -> None:
    Image.new("RGBA", (5, 4), (0, 0, 0, 255)).save(tmp_path / "0.png")
    assert mask_labels(tmp_path).tolist() == [0]


def test_a_palette_whose_first_entry_is_white_is_read_by_colour(tmp_path: Path) -> None:
    image = Image.new("P", (5, 4), 0)
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "0.bmp")
    assert mask_labels(tmp_path).tolist() == [1]


def test_bad_masks_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        mask_labels(tmp_path / "gone")
    with pytest.raises(ManifestError, match="no masks found in"):
        mask_labels(tmp_path)
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ManifestError, match=r"0\.png cannot be read"):
        mask_labels(tmp_path)


@pytest.mark.parametrize("mask", [np.zeros((0, 4)), np.full((2, 2), np.nan), -np.ones((2, 2))])
def test_an_array_that_is_no_mask_is_an_error(mask: np.ndarray) -> None:
    with pytest.raises(ManifestError, match="mask 1 is empty or has values"):
        mask_labels([np.zeros((2, 2)), mask])


@pytest.mark.data
def test_shanghaitech_label_vectors_give_the_official_counts(shared: Path) -> None:
    golden = json.loads((shared / "golden/g12_ground_truth.json").read_text(encoding="utf-8"))
    expected = golden["shanghaitech_occ"]["per_video"]
    for name, (n_frames, n_abnormal) in expected.items():
        labels = np.load(shared / f"data/labels/shanghaitech/test_frame_mask/{name}.npy")
        ranges = from_labels(labels)
        assert len(labels) == n_frames
        assert sum(stop - start for start, stop in ranges) == n_abnormal
        assert (frame_labels(ranges, n_frames) == labels).all()


@pytest.mark.data
def test_ucf_crime_intervals_give_the_official_count(shared: Path) -> None:
    """84,331 abnormal frames: 0-based, inclusive, clipped to the real lengths."""
    folder = shared / "data/labels/ucf_crime"
    lengths = {}
    for line in (folder / "urdmu_annotation_with_frame_counts.txt").read_text().splitlines():
        words = line.split()
        lengths[words[0].rpartition("/")[2]] = int(words[1])
    total, clipped = 0, 0
    for line in (folder / "Temporal_Anomaly_Annotation.txt").read_text().splitlines():
        name, _, *numbers = line.split()
        n_frames = lengths[name]
        pairs = [(int(a), int(b)) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        pairs = [pair for pair in pairs if pair != (-1, -1)]
        total += sum(b - a for a, b in from_inclusive(pairs, first=0, n_frames=n_frames, clip=True))
        clipped += sum(last >= n_frames for _, last in pairs)
    assert (len(lengths), total, clipped) == (290, 84_331, 7)
