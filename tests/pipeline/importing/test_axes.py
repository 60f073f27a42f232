"""The axis of the rows: judged over all files of a family, or asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.importing.axes import Grid, OpenedFile, read_axes
from vadpipe.pipeline.importing.files import FeatureFile, FeatureFileError

Shapes = list[tuple[int, ...]]


def opened(
    shapes: Shapes, frames: list[int] | None = None, grid: Grid | None = None, split: str = "train"
) -> list[OpenedFile]:
    """Files of these shapes; 0 frames are an unknown length."""
    return [
        OpenedFile(
            (f"v{i}",),
            split,
            ProbeRow("", f"m1-{i}", "features", n, True, 25.0, 0, 0, 0, 0.0, "", ""),
            grid,
            (FeatureFile(Path(f"v{i}.npy"), f"v{i}"),),
            shape,
            "float32",
        )
        for i, (shape, n) in enumerate(zip(shapes, frames or [0] * len(shapes), strict=True))
    ]


def axes(files: list[OpenedFile]) -> list[int]:
    found = read_axes(files, None, 16)
    assert None not in found
    return [reading.axis for reading in found if reading is not None]


@pytest.mark.parametrize(
    ("shapes", "frames", "expected"),
    [
        ([(3, 64), (5, 64), (64, 64)], [48, 80, 1024], 0),
        ([(64, 3), (64, 5), (64, 64)], [48, 80, 1024], 1),  # the last one fits both ways
        ([(64, 3), (64, 5), (64, 9)], None, 1),
        ([(2048, 32), (2048, 32)], [999, 1234], 1),  # segments
        ([(32, 2048)], [999], 0),
        ([(62, 32)], [1000], 0),
        ([(1, 10, 64), (1, 7, 64), (1, 5, 64)], None, 1),  # batch first: 10 and 5 are no crops
        ([(1, 10, 64), (7, 10, 64)], None, 0),
        ([(10, 9, 64), (10, 10, 64), (10, 5, 64)], None, 1),  # crops first
        ([(10, 64, 9), (10, 64, 10), (10, 64, 5)], [144, 160, 80], 2),
        ([(10, 10, 64)], [16 * 10, ], None),
        ([(10, 32, 64)], None, 1),
    ],
)  # fmt: skip
def test_what_is_the_same_in_all_files_is_no_row(
    shapes: Shapes, frames: list[int] | None, expected: int | None
) -> None:
    files = opened(shapes, frames)
    if expected is None:
        with pytest.raises(FeatureFileError, match=r"--row-axis 0.* or .*--row-axis 1"):
            axes(files)
    else:
        assert set(axes(files)) == {expected}


@pytest.mark.parametrize(
    ("shapes", "frames"),
    [
        ([(64, 64)], [1024]),
        ([(64, 64)], None),
        ([(1024, 17)], None),  # 1024 is the width of published networks
        ([(1, 10, 64)], None),
        ([(64, 10), (64, 12)], None),
        ([(64, 32), (64, 32)], None),
        ([(10, 2048, 40)], None),
        ([(32, 64)], [1024]),  # 32 segments, or the 64 snippets
    ],
)
def test_what_nothing_decides_is_asked(shapes: Shapes, frames: list[int] | None) -> None:
    with pytest.raises(
        FeatureFileError, match=r"not certain.*Nothing was written\. Say --row-axis"
    ):
        read_axes(opened(shapes, frames), None, 16)
    found = read_axes(opened(shapes, frames), 1, 16)
    assert all(reading is not None and reading.axis == 1 for reading in found)


def test_other_splits_say_what_the_width_is() -> None:
    test = opened([(1024, 17)], split="test")
    assert axes([*opened([(3, 1024), (7, 1024)]), *test]) == [0, 0, 1]


def test_most_files_of_other_videos_are_no_family() -> None:
    with pytest.raises(FeatureFileError, match="2 of 3 files could not be used"):
        read_axes(opened([(3, 64), (5, 64), (7, 64)], [48, 900, 990]), None, 16)


def test_segments_among_snippets_are_known_by_crops_and_width() -> None:
    shapes: Shapes = [(3, 10, 64), (10, 32, 64), (7, 10, 64)]
    assert axes(opened(shapes)) == [0, 1, 0]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(3, 64), (3, 10, 64)], [0, 0]),
        ([(3, 10, 64), (3, 64)], [0, 0]),
        ([(3, 10, 64), (10, 32, 64)], [0, 1]),
        ([*[(32, 2048)] * 3, (32, 10, 2048)], [0, 0, 0, 0]),
        ([(7, 10, 64), (10, 64, 9)], [0, 2]),
    ],
)
def test_a_reading_that_only_another_file_has_is_no_doubt(
    shapes: Shapes, expected: list[int]
) -> None:
    assert axes(opened(shapes)) == expected


def test_a_question_about_several_files_names_each() -> None:
    with pytest.raises(
        FeatureFileError,
        match=r"is v0.npy 32 rows of 64 numbers \(--row-axis 0\) or 64 rows of 32 numbers "
        r"\(--row-axis 1\) or v1.npy 64 rows of 10 x 32 numbers \(--row-axis 2\)\?",
    ):
        axes(opened([(32, 64), (10, 32, 64)], [1024, 1024]))


def test_patches() -> None:
    assert axes(opened([(3, 6, 64), (6, 6, 64)], grid=(2, 3))) == [0, 0]
    assert axes(opened([(6, 9, 64), (6, 6, 64), (6, 7, 64)], grid=(2, 3))) == [1, 1, 1]


def test_an_axis_that_a_shape_lacks() -> None:
    assert read_axes(opened([(3, 64)]), 2, 16) == [None]
