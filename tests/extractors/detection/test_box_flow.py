"""Flow of boxes: statistics of the dense field, ends of a video, the array of `objects`."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tests.extractors.test_optical_flow import texture
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.box_flow import box_flow
from vadpipe.extractors.objects import Objects, ObjectsConfig
from vadpipe.extractors.optical_flow import SpanName, flow_between


def clip_of(numbers: list[int], n_frames: int = 5) -> Clip:
    """A textured patch that moves 3 pixels to the right and 1 down a frame, on a still texture."""
    ground, patch = texture(64, 96), texture(64, 96, 1)
    video = np.stack([ground] * n_frames)
    for t, frame in enumerate(video):
        y, x = 10 + t, 10 + 3 * t
        frame[y : y + 24, x : x + 30] = patch[:24, :30]
    index = np.clip(numbers, 0, n_frames - 1)
    return Clip(video[index], index, index / 25, int(index[len(index) // 2]), 3, 0, "/v.mp4")


INSIDE, STILL = (20, 16, 38, 32), (70, 40, 95, 64)
BOXES = np.array([INSIDE, STILL], np.float32)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_boxes_have_the_speed_and_way_of_what_they_hold(scale: float) -> None:
    moving, still = box_flow(clip_of([1, 2, 3]), 1, BOXES, "dis", scale)
    assert moving == pytest.approx([np.hypot(3, 1), np.hypot(3, 1), 3, 1], abs=0.3)
    assert np.abs(still).max() < 0.1


def test_statistics_equal_those_of_the_dense_field() -> None:
    clip = clip_of([0, 1, 2, 3, 4])
    found = box_flow(clip, 2, BOXES, "farneback", 1.0)
    field = flow_between(clip.frames[[1, 3]], "farneback")[0] / 2
    for row, (x0, y0, x1, y1) in zip(found, (INSIDE, STILL), strict=True):
        u, v = (field[y0:y1, x0:x1, i].ravel() for i in range(2))
        speeds = [float(np.sqrt(a * a + b * b)) for a, b in zip(u, v, strict=True)]
        expected = [np.median(speeds), np.mean(speeds), u.mean(), v.mean()]
        assert row == pytest.approx(expected, abs=1e-5)


def test_the_ends_of_a_video_have_the_flow_over_one_frame() -> None:
    clip = clip_of([-1, 0, 1])
    (field,) = flow_between(clip.frames[1:])
    x0, y0, x1, y1 = INSIDE
    first = box_flow(clip, 1, BOXES[:1], "dis", 1.0)[0]
    assert first[2] == pytest.approx(field[y0:y1, x0:x1, 0].mean(), abs=1e-5)
    assert not box_flow(clip_of([-1, 0, 1], n_frames=1), 1, BOXES, "dis", 1.0).any()


def test_the_flow_to_the_next_frame_as_the_extractor_flow_has_it() -> None:
    """A patch that stands still in frames 1 to 3: around frame 3 there is one step in two."""
    video = clip_of([0, 1, 1, 1, 2]).frames
    index = np.arange(5)
    x0, y0, x1, y1 = INSIDE

    def boxed(at: int, span: SpanName) -> NDArray[np.float32]:
        here = np.clip([at - 1, at, at + 1], 0, 4)
        clip = Clip(video[here], index[here], index[here] / 25, at, at + 1, 0, "/v.mp4")
        return box_flow(clip, 1, BOXES[:1], "dis", 1.0, span)[0]

    fields = flow_between(video)
    for at in range(5):
        field = fields[min(at, 3)][y0:y1, x0:x1]  # the last frame repeats the flow before it
        assert boxed(at, "next")[2:] == pytest.approx(field.mean((0, 1)), abs=1e-5)
    assert np.abs(boxed(2, "next")).max() < 0.1 < 1 < boxed(3, "next")[0]
    assert boxed(3, "around")[2] == pytest.approx(boxed(3, "next")[2] / 2, abs=0.5)
    alone = clip_of([-1, 0, 1], n_frames=1)
    assert not box_flow(alone, 1, BOXES, "dis", 1.0, "next").any()


def test_the_usual_span_is_in_no_key() -> None:
    usual = {"detector": "motion", "flow": "dis"}
    made = [
        Objects(ObjectsConfig.model_validate({**usual, **more}))
        for more in ({}, {"flow_span": "around"}, {"flow_span": "next"})
    ]
    recipes = [each.recipe() for each in made]
    assert recipes[0] == recipes[1] and "flow_span" not in recipes[0]["config"]
    assert recipes[2]["config"] == {**recipes[0]["config"], "flow_span": "next"}
    found = [each.extract([clip_of([*[0] * 23, 0, 1, 2, 3, 4, *[4] * 23])]) for each in made[1:]]
    around, following = (rows["object"].arrays["flow"] for rows in found)
    assert len(around) == len(following) > 0 and not np.array_equal(around, following)
    with pytest.raises(ValidationError, match="flow_span is about flow"):
        ObjectsConfig.model_validate({"detector": "motion", "flow_span": "next"})


def test_objects_keep_the_flow_of_their_boxes() -> None:
    config = ObjectsConfig.model_validate({"detector": "motion", "flow": "dis", "motion_reach": 2})
    extractor = Objects(config)
    (spec,) = [spec for spec in extractor.arrays if spec.name == "flow"]
    assert spec.role == "object/flow" and spec.shape == (4,)
    clip = clip_of([0, 1, 2, 3, 4])
    rows = extractor.extract([clip])["object"]
    assert len(rows) > 0
    expected = box_flow(clip, 2, rows.arrays["boxes"], "dis", 1.0)
    assert np.array_equal(rows.arrays["flow"], expected)


def test_a_neighbour_on_each_side_is_enough() -> None:
    assert Objects(ObjectsConfig(detector="motion", motion_reach=1, flow="dis")).reach == 1
    assert box_flow(clip_of([1, 2, 3]), 1, BOXES[:0], "dis", 1.0).shape == (0, 4)
