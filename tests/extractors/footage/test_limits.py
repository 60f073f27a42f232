"""Limits for a file: what is at the limit passes, what is over it is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vadpipe.extractors.footage.errors import MissingFile, OverLimit
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.video import ProbeRow


def row(**changes: Any) -> ProbeRow:
    """A minute of 64 x 96."""
    facts: dict[str, Any] = {
        "path": "/archive/gate.mp4",
        "content_id": "s1-x",
        "kind": "video",
        "n_frames": 1500,
        "decoded": False,
        "fps": 25.0,
        "height": 64,
        "width": 96,
        "rotation": 0,
        "duration": 60.0,
        "codec": "h264",
        "container": "mov",
    }
    return ProbeRow(**{**facts, **changes})


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1000))
    DecodeLimits(bytes=1000).check_file(path)
    with pytest.raises(OverLimit, match=r"a\.mp4: 1,000 bytes.* limit of 999;.*--limit bytes=N"):
        DecodeLimits(bytes=999).check_file(path)


def test_a_folder_has_no_size_of_its_own(tmp_path: Path) -> None:
    DecodeLimits(bytes=1).check_file(tmp_path)


def test_a_file_that_is_gone_is_missing_and_not_too_large(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.mp4: cannot be read: No such file"):
        DecodeLimits().check_file(tmp_path / "gone.mp4")


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (1, 6144)])
def test_pictures_are_measured_by_their_area(height: int, width: int) -> None:
    DecodeLimits(pixels=6144).check_picture(Path("a"), height, width)
    with pytest.raises(OverLimit, match=f"{width} x {height} pixels.*--limit pixels=N"):
        DecodeLimits(pixels=6143).check_picture(Path("a"), height, width)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"duration": 60.1}, "hours"),  # by its time stamps
        ({"n_frames": 1501}, "hours"),  # by its frames, whatever its time stamps say
        ({"n_frames": 2001, "fps": 1e6, "duration": 0.002}, "frames"),
        ({"n_frames": 1_000_001, "fps": 50_001.0, "duration": 20.0}, "rate"),
        ({"height": 65}, "pixels"),
    ],
)
def test_a_probed_video_is_refused_by_its_length_and_its_pictures(
    changes: dict[str, Any], option: str
) -> None:
    limits = DecodeLimits(pixels=6144, hours=1 / 60, frames=2000, rate=50_000)
    if option == "rate":
        limits = DecodeLimits(rate=50_000)
    for sound in ({}, {"duration": 0.0}, {"height": 96, "width": 64}):
        limits.check(row(**sound))
    message = rf"^/archive/gate\.mp4: .*raise the limit: --limit {option}=N$"
    with pytest.raises(OverLimit, match=message):
        limits.check(row(**changes))
    DecodeLimits(rate=1e6).check(row(**changes))


def test_the_defaults_let_a_month_of_8k_pass_and_no_more() -> None:
    month = 31 * 24 * 3600.0
    frames = round(month * 25)
    DecodeLimits().check(row(height=8192, width=8192, duration=month, n_frames=frames))
    for changes in ({"width": 8193}, {"duration": month + 1}, {"n_frames": frames + 1}):
        largest = {"height": 8192, "width": 8192, "duration": month, "n_frames": frames}
        with pytest.raises(OverLimit):
            DecodeLimits().check(row(**{**largest, **changes}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": 0},
        {"hours": 0},
        {"bytes": 0},
        {"seconds": 0},
        {"seconds": -1},
        {"memory": 1 << 20},  # a decoder would not even start
        {"frames": 0},
        {"rate": 0},
        {"decode_hours": 0},
        {"clip_memory": 0},
        {"pixel": 10},
        {"hours": "long"},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DecodeLimits.model_validate(wrong)
