from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.extractors.base import ArraySpec, Rows, one_row_each
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.null import NullConfig, NullFeatures
from vadpipe.pipeline.engine.rows import GatheredRows, check_promises, checked_rows

MEAN = ArraySpec("mean", "float16", ("snippet", "feature"), (2,), role="snippet")
BOX = ArraySpec("box", "float32", ("object", "side"), (4,), role="object", ragged=True)
KIND = ArraySpec("kind", "int64", ("object",), (), ragged=True)


class Both(NullFeatures):
    """One row a clip on one axis, any number on the other."""

    name: ClassVar[str] = "both"

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        return (MEAN, BOX, KIND)


BOTH = Both(NullConfig())


def clips(*starts: int) -> list[Clip]:
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    return [Clip(pixels, np.arange(s, s + 4), np.arange(4.0), s, s + 4) for s in starts]


def found(*starts: int, counts: tuple[int, ...]) -> dict[str, Rows]:
    of = np.repeat(np.array(starts, np.int64), counts)
    boxes = {"box": np.ones((len(of), 4)), "kind": np.arange(len(of))}
    return {
        "snippet": one_row_each(clips(*starts), {"mean": np.zeros((len(starts), 2))}),
        "object": Rows(of, of + 1, boxes, clip_start=of),
    }


def test_rows_are_cast_for_storage() -> None:
    rows = checked_rows(BOTH, clips(0, 8), found(0, 8, counts=(2, 0)))
    assert rows["snippet"].arrays["mean"].dtype == np.float16
    assert rows["object"].arrays["box"].shape == (2, 4) and len(rows["object"]) == 2


def gathered(pieces: Sequence[Rows], specs: Sequence[ArraySpec]) -> Rows:
    rows = GatheredRows(specs)
    for piece in pieces:
        rows.add(piece)
    return rows.rows()


@given(st.lists(st.integers(0, 40), max_size=12))
def test_gathered_batches_are_what_joining_them_is(counts: list[int]) -> None:
    """Also where arrays have grown, with room to spare, and moved."""
    rng, at, pieces = np.random.default_rng(0), 0, []
    for count in counts:
        times = np.arange(at, at + count)
        boxes = rng.uniform(size=(count, 4)).astype(np.float32)
        pieces.append(Rows(times, times + 1, {"box": boxes, "kind": times}, clip_start=times))
        at += count
    whole = gathered(pieces, [BOX, KIND])
    boxes = np.concatenate([np.empty((0, 4), np.float32), *(p.arrays["box"] for p in pieces)])
    assert np.array_equal(whole.arrays["box"], boxes) and whole.arrays["box"].flags.c_contiguous
    for values in (whole.frame_start, whole.frame_stop - 1, whole.clip_start, whole.arrays["kind"]):
        assert values is not None and np.array_equal(values, np.arange(at))


def test_batches_are_joined_in_order() -> None:
    pieces = [
        checked_rows(BOTH, clips(*s), found(*s, counts=c))["object"]
        for s, c in (((0, 8), (2, 1)), ((16,), (0,)), ((24,), (3,)))
    ]
    whole = gathered(pieces, [BOX, KIND])
    assert whole.frame_start.tolist() == [0, 0, 8, 24, 24, 24]
    assert whole.clip_start is not None and whole.clip_start.tolist() == [0, 0, 8, 24, 24, 24]
    assert whole.arrays["kind"].tolist() == [0, 1, 2, 0, 1, 2]


def test_no_batch_is_no_row_of_the_promised_shape() -> None:
    nothing = gathered([], [BOX, KIND])
    assert nothing.arrays["box"].shape == (0, 4) and nothing.arrays["kind"].dtype == np.int64
    assert nothing.clip_start is not None and len(nothing.clip_start) == 0
    assert gathered([], [MEAN]).clip_start is None


def changed(axis: str, **values: Any) -> dict[str, Rows]:
    rows = found(0, 8, counts=(1, 1))
    return rows | {axis: replace(rows[axis], **values)}


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ({"snippet": found(0, counts=(1,))["snippet"]}, "it promises"),
        (changed("object", arrays={"box": np.ones((2, 4))}), "promised are"),
        (changed("object", frame_stop=np.array([1])), "has 2 rows, but"),
        (changed("object", arrays={"box": np.ones((3, 4)), "kind": np.arange(2)}), "but .*box"),
        (changed("object", clip_start=None), "clip_start must name a clip"),
        (changed("object", clip_start=np.array([0, 7])), "clip_start must name a clip"),
        (changed("object", clip_start=np.array([8, 0])), "clip_start goes back"),
        (changed("object", frame_start=np.array([8, 0])), "frame_start goes back"),
        (changed("object", frame_stop=np.array([9, 1])), "frame_stop goes back"),
        (changed("snippet", arrays={"mean": np.full((2, 2), 1e9)}), "not finite in float16"),
        (changed("snippet", arrays={"mean": np.zeros((2, 3))}), r"are \(3,\), promised are \(2,\)"),
        (changed("snippet", arrays={"mean": [[0, 0], [0, 0]]}), "array of numbers, not list"),
        (changed("snippet", arrays={"mean": np.full((2, 2), "a")}), "array of numbers, not <U1"),
        (
            changed("object", arrays={"box": np.ones((2, 4)), "kind": np.array([0.5, 1.0])}),
            "'kind' has values that int64 cannot hold",
        ),
        (changed("object", frame_start=np.array([0.5, 8.5])), "frame_start has to be .* whole"),
        (changed("object", frame_start=np.array([-1, 8])), "begin at 0 or later"),
        (changed("object", frame_stop=np.array([0, 9])), "end after that"),
        (None, "it returned NoneType"),
        ({"snippet": np.zeros(2), "object": None}, "it returned 'snippet' -> ndarray"),
        ({**found(0, 8, counts=(1, 1)), "snippet": found(0, counts=(1,))["snippet"]}, "not ragged"),
    ],
)
def test_what_breaks_the_promise_is_named(rows: Any, match: str) -> None:
    with pytest.raises(ExtractorError, match=match):
        checked_rows(BOTH, clips(0, 8), rows)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "a/b"}, "'a/b' is no name of a data set"),
        ({"dtype": "object"}, "'mean' has numbers of the type 'object'"),
        ({"dims": ("snippet",)}, r"has the axes \('snippet',\), but sizes \(2,\)"),
        ({"shape": (0,)}, "an axis without values"),
        ({"grid": (2, 3)}, r"no grid of 2 x 3: its sizes are \(2,\)"),
        ({"name": "box", "role": "object"}, "two have the name 'box'; two have the role 'object'"),
        ({"ragged": True, "dims": ("object", "side")}, None),
        ({"dims": ("object", "side")}, "some of axis 'object' are ragged and some are not"),
    ],
)
def test_descriptions_of_arrays_that_contradict_each_other(
    changes: dict[str, Any], match: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_promises(BOTH)
    arrays = (replace(MEAN, **changes), BOX, KIND)
    monkeypatch.setattr(Both, "arrays", property(lambda _: arrays))
    if match is None:
        check_promises(BOTH)
        return
    with pytest.raises(ExtractorError, match=f"arrays of both: .*{match}"):
        check_promises(BOTH)


def test_an_array_of_pixels_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = replace(MEAN, name="p", dtype="uint8", dims=("frame", *"yxc"), shape=(4, 6, 3))
    monkeypatch.setattr(Both, "pixel_array", "p")
    monkeypatch.setattr(Both, "arrays", property(lambda _: (pictures,)))
    check_promises(BOTH)
    for wrong in ((), (MEAN,), (replace(pictures, dtype="float32"),)):
        monkeypatch.setattr(Both, "arrays", property(lambda _, wrong=wrong: wrong))
        with pytest.raises(ExtractorError, match="pixel_array 'p' is none of"):
            check_promises(BOTH)
