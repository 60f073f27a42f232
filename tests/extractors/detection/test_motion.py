"""Motion: drawn squares are found where they are, and what stands still is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.motion import Motion, MotionSettings, smooth_grey

SETTINGS = MotionSettings(reach=6, samples=5, threshold=15, area=20)


def clip(places: list[tuple[int, int]], noise: float = 0.0, side: int = 12) -> Clip:
    """A bright square at these (row, column) places over a dark gradient, frame by frame."""
    rng = np.random.default_rng(0)
    back = np.add.outer(np.arange(60), np.arange(80)) * 0.5 + 20
    frames = []
    for row, column in places:
        picture = back + rng.normal(0, noise, back.shape)
        picture[row : row + side, column : column + side] = 200
        frames.append(np.repeat(np.clip(picture, 0, 255)[..., None], 3, 2).astype(np.uint8))
    n = len(places)
    return Clip(np.stack(frames), np.arange(n), np.arange(n) / 25, 6, 7)


def test_a_moving_square_is_one_box_around_it() -> None:
    found = Motion(SETTINGS).detect(clip([(20, 5 + 5 * t) for t in range(13)], noise=1.0), 6)
    assert len(found) == 1
    assert np.abs(found.boxes[0] - [35, 20, 47, 32]).max() <= 2
    assert found.scores[0] > 0.9 and not found.classes.any()


def test_a_still_square_is_background_and_two_far_ones_are_two_boxes() -> None:
    assert len(Motion(SETTINGS).detect(clip([(20, 30)] * 13, noise=2.0), 6)) == 0
    one, other = clip([(5, 5 * t) for t in range(13)]), clip([(40, 60 - 5 * t) for t in range(13)])
    both = np.maximum(one.frames, other.frames)
    found = Motion(SETTINGS).detect(Clip(both, one.index, one.pts, 6, 7), 6)
    assert len(found) == 2


def test_an_object_that_starts_to_move_leaves_no_box_behind() -> None:
    """It stood there for half of the clip: the frame difference alone would see both places."""
    found = Motion(SETTINGS).detect(clip([(20, 10)] * 6 + [(20, 10 + 7 * t) for t in range(7)]), 6)
    assert len(found) <= 1


def test_an_object_at_the_border_keeps_its_whole_box() -> None:
    places = [(0, 8 + 10 * t) for t in range(7)] + [(45, 5 * t) for t in range(7, 13)]
    found = Motion(SETTINGS).detect(clip(places), 6)
    assert len(found) == 1 and np.abs(found.boxes[0] - [68, 0, 80, 12]).max() <= 2
    assert found.boxes[0, 1] == 0 and found.boxes[0, 2] == 80


def test_small_blobs_are_dropped() -> None:
    tiny = clip([(20, 5 + 5 * t) for t in range(13)], side=2)
    assert len(Motion(SETTINGS).detect(tiny, 6)) == 0


def test_foreground_is_where_the_square_is() -> None:
    found = Motion(SETTINGS).foreground(clip([(20, 5 + 5 * t) for t in range(13)]), 6)
    assert found[21:31, 36:46].all() and found.sum() <= 14 * 14


def clip_at(places: list[tuple[int, int]], frame: int) -> Clip:
    """The clip of one frame of a whole video: its first and last frame are repeated."""
    video = clip(places)
    index = np.clip(np.arange(frame - 6, frame + 7), 0, len(places) - 1)
    return Clip(video.frames[index], index, index / 25, frame, frame + 1)


@pytest.mark.parametrize("length", [3, 4, 13, 40])
def test_a_moving_square_is_found_in_every_frame_of_a_video(length: int) -> None:
    """A square that never covers its place in another frame, so every frame shows it whole."""
    places = [(14 * (t % 4), 14 * (t // 4 % 5)) for t in range(length)]
    for frame in (0, 1, length // 2, length - 2, length - 1):
        found = Motion(SETTINGS).detect(clip_at(places, frame), 6)
        row, column = places[frame]
        assert len(found) == 1, f"frame {frame} of {length}"
        assert np.abs(found.boxes[0] - [column, row, column + 12, row + 12]).max() <= 2


def test_the_middle_of_a_video_is_as_a_slow_oracle_says() -> None:
    video = clip([(20, 5 + 4 * t) for t in range(13)], noise=6.0)
    grey = np.stack([smooth_grey(frame) for frame in video.frames])
    background = np.median(grey[[0, 3, 6, 9, 12]], axis=0)
    both = np.minimum(np.abs(grey[6] - grey[5]), np.abs(grey[6] - grey[7]))
    change = np.maximum(np.abs(grey[6] - background), both) > SETTINGS.threshold
    closed = ndimage.binary_closing(np.pad(change, 1), np.ones((3, 3), bool))[1:-1, 1:-1]
    assert np.array_equal(Motion(SETTINGS).foreground(video, 6), closed)


def test_two_frames_show_where_an_object_is_and_where_it_was() -> None:
    found = Motion(SETTINGS).foreground(clip_at([(10, 10), (40, 60)], 0), 6)
    assert found[12:20, 12:20].all() and found[42:50, 62:70].all()


def test_repeated_frames_of_a_short_video_have_no_motion() -> None:
    one = clip([(20, 20)])
    still = Clip(np.repeat(one.frames, 13, 0), np.zeros(13, int), np.zeros(13), 0, 1)
    assert len(Motion(SETTINGS).detect(still, 6)) == 0


def test_grey_is_that_of_rec_601() -> None:
    picture = np.zeros((5, 5, 3), np.uint8)
    picture[..., 1] = 100
    assert np.allclose(smooth_grey(picture), 58.7, atol=1e-3)
