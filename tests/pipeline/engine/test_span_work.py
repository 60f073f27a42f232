"""Batches of a span: how they grow, what fits into one, rows that are refused or ragged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.drawn_tasks import SMALL, clips_of, drawing, expected_rows, run, video
from vadpipe.extractors.base import ArraySpec, Rows, Runtime, one_row_each
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.null import NullFeatures
from vadpipe.pipeline.engine import span_work
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.registry import EXTRACTORS


class Recording(NullFeatures):
    """Remembers how many clips it was given at once."""

    name: ClassVar[str] = "recording"
    batch_size: ClassVar[int] = 8
    gpu_batch_size: ClassVar[int] = 20
    given: ClassVar[list[int]] = []

    def extract(self, clips: Any) -> Any:
        self.given.append(len(clips))
        return super().extract(clips)


class Infinite(NullFeatures):
    """Rows that no file should hold."""

    name: ClassVar[str] = "infinite"

    def extract(self, clips: Any) -> Any:
        return {"snippet": one_row_each(clips, {"statistics": np.full((len(clips), 8), np.inf)})}


class Ragged(NullFeatures):
    """The clip at frame f has f % 3 rows."""

    name: ClassVar[str] = "ragged"

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        return (ArraySpec("at", "int64", ("object",), (), role="object", ragged=True),)

    def extract(self, clips: Any) -> Any:
        of = np.array([c.frame_start for c in clips for _ in range(c.frame_start % 3)], np.int64)
        return {"object": Rows(of, of + 1, {"at": 10 * of}, clip_start=of)}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Registers the extractors above; gives what `recording` was given."""
    place = "fakes_of_test_span_work"
    monkeypatch.setitem(sys.modules, f"vadpipe.extractors.{place}", sys.modules[__name__])
    for kind in (Recording, Infinite, Ragged):
        monkeypatch.setitem(EXTRACTORS._places, kind.name, f"{place}:{kind.__name__}")
    monkeypatch.setattr(Recording, "given", [])
    return Recording.given


SINGLE = {"clip_length": 1, "stride": 1, "before": 0, "after": 0}
BYTES = SMALL[0] * SMALL[1] * 3  # of such a clip


@pytest.mark.parametrize(
    ("device", "batch_size", "given"),
    [
        ("cpu", None, [1, 2, 4, 8, 8, 8, 8, 1]),
        ("cuda:0", None, [1, 2, 4, 8, 16, 9]),  # at most 20
        ("cpu", 1, [1] * 40),
        ("cpu", 7, [7, 7, 7, 7, 7, 5]),
        ("cpu", 100, [40]),
        ("cuda:0", 30, [30, 10]),
    ],
)
def test_batches_grow_unless_their_size_is_given(
    tmp_path: Path, fakes: list[int], device: str, batch_size: int | None, given: list[int]
) -> None:
    """Nothing here touches CUDA."""
    spec = resolve_extractor("recording", SINGLE)
    runtime = Runtime(device, 1, batch_size)
    done = run(tmp_path, drawing(40), video(40), [spec], 1000, runtime)
    assert Recording.given == given
    np.testing.assert_array_equal(
        done.features().arrays["statistics"][:], expected_rows(spec, clips_of(spec, 40))
    )


def test_a_batch_on_a_gpu_goes_up_to_its_own_size(tmp_path: Path, fakes: list[int]) -> None:
    spec = resolve_extractor("recording", SINGLE)
    run(tmp_path, drawing(100), video(100), [spec], 1000, Runtime("cuda:0", 1))
    assert Recording.given == [1, 2, 4, 8, 16, 20, 20, 20, 9]


@pytest.mark.parametrize(
    ("room", "given"),
    [(3 * BYTES, [1, 2, 3, 3, 1]), (4 * BYTES - 1, [1, 2, 3, 3, 1]), (1, [1] * 10)],
)
def test_a_batch_has_no_more_pixels_than_fit(
    tmp_path: Path,
    fakes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    given: list[int],
) -> None:
    monkeypatch.setattr(span_work, "CALL_BYTES", room)
    run(tmp_path, drawing(10), video(10), [resolve_extractor("recording", SINGLE)], 1000)
    assert Recording.given == given


def test_every_span_begins_small(tmp_path: Path, fakes: list[int]) -> None:
    run(tmp_path, drawing(20), video(20), [resolve_extractor("recording", SINGLE)], 10)
    assert Recording.given == [1, 2, 4, 3] * 2


def test_numbers_that_are_not_finite_leave_no_shard(tmp_path: Path, fakes: list[int]) -> None:
    with pytest.raises(ExtractorError, match="'statistics': values are not finite"):
        run(tmp_path, drawing(40), video(40), [resolve_extractor("infinite")], 1000)
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("span_frames", [1000, 12, 5])
def test_ragged_rows_come_back_whole(tmp_path: Path, fakes: list[int], span_frames: int) -> None:
    """Also where a span has no clip: with 5 frames a span, and clips every 8."""
    spec = resolve_extractor("ragged", {"clip_length": 4, "stride": 8})
    done = run(tmp_path, drawing(40), video(40), [spec], span_frames)
    features = done.features()
    assert features.arrays["at"][:].tolist() == [80, 80, 160, 320, 320]
