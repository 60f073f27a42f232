"""Data files of the review page: what goes in comes out, and nothing of it can run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.page_folders import NASTY
from vadpipe.pipeline.review.chunks import packed, packed_floats, script_of
from vadpipe.pipeline.review.data import SPARK, VideoCurve, event_values, link_to, why_unlinked
from vadpipe.pipeline.scores.frames import expand_to_frames


def values_of(script: str) -> tuple[str, Any]:
    """Name and values of a data file, read as a browser reads them."""
    assert script.startswith("vadpipe.receive(") and script.endswith(");\n")
    inner = script.removeprefix("vadpipe.receive(").removesuffix(");\n")
    name, text = json.loads(f"[{inner}]")
    return name, json.loads(text)


def unpacked(stored: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(stored["data"]), f"<{stored['kind']}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_values_come_back_and_no_character_can_end_the_script(values):
    script = script_of("page", values)
    assert values_of(script) == ("page", values)
    assert script.isascii() and script.count("\n") == 1 and "<" not in script


def test_hostile_texts_stay_inside_of_the_string():
    for text in (NASTY, "</script>", '");alert(1)//', "\\", "\u2028\u2029", "\udcff", "__proto__"):
        script = script_of("page", {text: text})
        assert values_of(script)[1] == {text: text}
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_of("page", [float("nan")])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_numbers_keep_every_bit(values):
    array = np.array(values, np.float64)
    stored = packed_floats(array)
    assert (unpacked(stored) == array).all()
    single = (
        array.astype(np.float32).astype(np.float64)
        if np.abs(array).max(initial=0) < 1e38
        else array
    )
    assert packed_floats(single)["kind"] == (
        "f4" if np.abs(array).max(initial=0) < 1e38 else stored["kind"]
    )


def test_whole_numbers_are_packed_little_endian():
    assert base64.b64decode(packed(np.array([1, 258]), "u4")) == b"\1\0\0\0\2\1\0\0"


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.5, 2.0])),
        min_size=1,
        max_size=25,
    )
)
def test_a_curve_holds_every_frame(tmp_path_factory, windows):
    start, length, score = (np.array(each) for each in zip(*windows, strict=True))
    part = pa.table({"frame_start": start, "frame_stop": start + length, "score": score})
    curve = VideoCurve.of(part, "score")
    frames = expand_to_frames(start, start + length, score, start.min(), (start + length).max())
    assert curve.first == start.min()
    assert (np.repeat(curve.values, curve.lengths) == frames).all()
    assert (np.diff(curve.values) != 0).all()
    spark = curve.spark()
    assert spark.shape == (SPARK,) and spark.max() == frames.max() == curve.highest
    edges = np.linspace(0, len(frames), SPARK + 1)
    for k, value in enumerate(spark):
        a, b = int(edges[k]), max(int(np.ceil(edges[k + 1])), int(edges[k]) + 1)
        assert value == frames[a:b].max()


def test_other_columns_are_parts_of_the_curve():
    start, score = 8 * np.arange(9), np.arange(9.0)
    columns = {"frame_start": start, "frame_stop": start + 8, "score": score, "loud": score**2}
    curve = VideoCurve.of(pa.table({**columns, "odd": np.full(9, np.nan)}), "score")
    assert list(curve.parts) == ["loud"]  # what is not finite is left out
    at, values = curve.parts["loud"]
    assert values.max() == 64.0 and at[0] == 0 and at[-1] == 64  # where the last run begins


def test_links_are_relative_and_lead_to_the_file(tmp_path: Path):
    page = tmp_path / "out" / "review"
    film = tmp_path / "a film #1?.mp4"
    film.write_bytes(b"x")
    assert link_to(str(film), page) == "../../a%20film%20%231%3F.mp4"
    beside = page / "javascript:alert(1)"
    page.mkdir(parents=True)
    beside.write_bytes(b"x")
    assert link_to(str(beside), page) == "./javascript%3Aalert%281%29"
    assert link_to("", page) is None and link_to(str(tmp_path / "gone.mp4"), page) is None
    assert link_to(str(tmp_path), page) is None  # a folder of pictures
    assert link_to("/proc/version", page) is None  # nothing but the root in common
    why = {
        "": (str(film), "video"), "none": ("", None), "images": (str(tmp_path), "images"),
        "gone": (str(tmp_path / "gone.mp4"), "video"), "apart": ("/proc/version", "video"),
    }  # fmt: skip
    said = [why_unlinked(path, kind, link_to(path, page)) for path, kind in why.values()]
    assert said == list(why)


def test_events_stand_column_by_column():
    row = {
        "video_id": "b", "event_id": "b-e1", "frame_start": 1, "frame_stop": 9, "peak_frame": 4,
        "peak_score": 2.5, "mean_score": 1.5, "explain": "x" * 1000, "words": "it is odd",
    }  # fmt: skip
    values = event_values([row, {**row, "explain": None}], {"a": 0, "b": 1}, moments=False)
    assert values["video"] == [1, 1] and values["at"] == [4, 4] and values["peak"] == [2.5, 2.5]
    assert values["words"] == {"0": "it is odd", "1": "it is odd"}
    assert list(values["explain"]) == ["0"] and len(values["explain"]["0"]) == 400
