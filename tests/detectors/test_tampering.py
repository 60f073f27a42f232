"""tampering: each kind of tampering on a drawn camera, closed forms of the dwell, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bags import Bags
from vadpipe.detectors.base import Bag, DetectorError, Scores, Track
from vadpipe.detectors.scene_model import Measured, SceneModel, watch
from vadpipe.detectors.tampering import CHECKS, Tampering, TamperingConfig
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.scene_checks import SceneChecks, SceneChecksConfig

FPS, STRIDE, ROWS, SIZE = 4.0, 2, 120, (96, 128)  # a row each half second, a minute
Picture = NDArray[np.uint8]


def view(seed: int = 7) -> NDArray[np.float64]:
    """What the camera sees: blocks and lines of many grey values."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (12, 16, 1)).astype(np.float64)
    picture = np.kron(coarse, np.ones((8, 8, 3)))
    picture[::6] -= 25
    return picture


def footage(seed: int, change: Callable[[int, NDArray[np.float64]], NDArray[np.float64]]) -> Bag:
    """Somebody walks by twice; `change` edits each picture before the noise of the camera."""
    random = np.random.default_rng(seed)
    clips, last = [], None
    for row in range(ROWS):
        two = []
        for step in range(2):
            picture = view()
            at = (4 * row + 2 * step + 9 * seed) % 300
            picture[50:80, at : at + 10] = 230
            picture = change(row, picture) + random.normal(0, 2, (*SIZE, 1))
            two.append(np.clip(picture, 0, 255).astype(np.uint8))
        if last is not None and change is frozen and row >= 60:
            two = [last, last]
        last = two[1]
        frames = np.stack([two[0], two[1], two[1]])
        at = row * STRIDE
        index = np.array([max(at - 1, 0), at, at + 1])
        clips.append(Clip(frames, index, index / FPS, at, at + 1))
    rows = SceneChecks(SceneChecksConfig(stride=STRIDE)).extract(clips)["frame"]
    tracks = {
        role: Track(rows.arrays[role], rows.frame_start, rows.frame_stop)
        for role in ("checks", "thumbnail")
    }
    return Bag(f"v{seed}", None, ROWS * STRIDE, FPS, tracks)


def normal(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture


def frozen(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture  # `footage` repeats the last picture


def dark(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture * 0.3 if row >= 60 else picture


def covered(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.1 * picture + 110 if row >= 60 else picture


def blurred(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5)) if row >= 60 else picture


def moved(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.roll(picture, (20, 30), (0, 1)) if row >= 60 else picture


def left(row: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    if row >= 30:
        picture[10:26, 90:106] = 5
    return picture


@pytest.fixture(scope="module")
def camera() -> Tampering:
    detector = Tampering(TamperingConfig(left_seconds=10, frozen_seconds=5))
    detector.fit(Bags([footage(seed, normal) for seed in range(3)]), device="cpu", seed=0)
    return detector


def test_normal_footage_stays_near_the_limits_of_training(camera: Tampering) -> None:
    scores = camera.score(footage(9, normal))
    assert set(scores.columns) == {"score", *CHECKS}
    assert scores.columns["score"].max() < 1.2
    assert scores.maps["left"].shape == (ROWS, 24, 32)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dark", dark),
        ("covered", covered),
        ("blurred", blurred),
        ("moved", moved),
        ("frozen", frozen),
        ("left", left),
    ],
)
def test_each_kind_is_found_by_its_own_check(
    camera: Tampering,
    name: str,
    change: Callable[[int, NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    scores = camera.score(footage(9, change))
    assert scores.columns["score"][:30].max() < 1.2  # nothing has happened yet
    end = slice(-15, None)
    assert scores.columns[name][end].min() > 1.5
    others = {check for check in CHECKS if scores.columns[check][end].max() > 1.2} - {name}
    # A covered lens hides all edges, a picture that stands keeps whoever is in it, and a blurred
    # one has other greys at every border.
    also = {"covered": {"moved", "blurred"}, "frozen": {"left"}, "blurred": {"left"}}
    assert others <= also.get(name, set())


def test_the_map_says_where_something_was_left(camera: Tampering) -> None:
    where = camera.score(footage(9, left)).maps["left"][-1] > 1
    rows, columns = np.nonzero(where)
    # 16 pixels from (10, 90) of 96 x 128 in cells of 4 x 4
    assert rows.min() >= 2 and rows.max() <= 6
    assert columns.min() >= 22 and columns.max() <= 26
    assert len(rows) >= 9


def model(**changes: float) -> SceneModel:
    whole = SceneModel(
        background=np.full((24, 32), 100.0),
        cells=np.full((24, 32), 15.0),
        usual=np.zeros(3),
        limits=np.ones(3),
        ends=np.array([0.1, 5.0, 10.0]),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def measured(pictures: Picture, change: NDArray[np.float64] | None = None) -> Measured:
    n = len(pictures)
    ones = np.ones(n)
    return Measured(
        np.arange(n) * 2.0, ones, ones, ones, ones if change is None else change, pictures
    )


def test_a_dwell_is_counted_in_seconds_and_starts_again_with_another_object() -> None:
    pictures = np.full((10, 24, 32), 100, np.uint8)  # a row every 2 seconds
    pictures[2:5, 3:5, 3:5] = 200
    pictures[5:9, 3:5, 3:5] = 10
    pictures[2:, 20, 20] = 250  # one cell alone is noise
    stay = watch(measured(pictures), model()).stay
    # The second object counts once the first one has been away for more than three seconds.
    assert stay[:, 3, 3].tolist() == [0, 0, 0, 2, 4, 0, 0, 0, 2, 0]
    assert not stay[:, 20, 20].any()


def test_a_passer_by_or_a_flash_does_not_end_a_dwell() -> None:
    pictures = np.full((9, 24, 32), 100, np.uint8)
    pictures[2:, 3:5, 3:5] = 200
    pictures[4, 2:9, 2:9] = 10  # somebody walks in front of it
    pictures[6] = 100
    pictures[6, ::2] = 20  # more than half of the picture
    pictures[6, 1::2, :8] = 20
    stay = watch(measured(pictures), model()).stay
    assert stay[:, 3, 3].tolist() == [0, 0, 0, 2, 0, 6, 0, 10, 12]


def test_doubled_frames_are_no_frozen_picture() -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(90, 110, (5, 24, 32)).astype(np.uint8)
    zeros = np.zeros(5)  # the frame before each row is the same frame again
    assert not watch(measured(pictures, zeros), model()).still.any()


def test_a_picture_that_is_new_as_a_whole_holds_no_object() -> None:
    pictures = np.full((5, 24, 32), 100, np.uint8)
    pictures[:, :, :20:2] = 200
    pictures[:, ::2] = 10
    assert not watch(measured(pictures), model()).stay.any()


def test_a_still_picture_is_counted_from_its_last_change() -> None:
    change = np.array([0.0, 0.0, 1.0, 0.0, 0.01, 0.5, 0.0])
    pictures = np.full((7, 24, 32), 100, np.uint8)
    still = watch(measured(pictures, change), model()).still
    assert still.tolist() == [0, 2, 0, 2, 4, 0, 2]


def test_held_out_scores_are_those_of_the_other_videos() -> None:
    videos = [footage(seed, normal) for seed in range(3)]
    videos[2] = replace(footage(2, dark), video_id="dark")
    detector = Tampering(TamperingConfig())
    scored = detector.held_out_scores(Bags(videos), seed=0)
    assert scored is not None
    assert scored[2].columns["dark"].max() > 1.5  # its own darkness is no limit
    assert scored[0].columns["dark"].max() < 1
    alone = replace(videos[0], scene="gate")
    assert detector.held_out_scores(Bags([*videos, alone]), seed=0) is None


def test_a_model_is_stored_and_loaded(camera: Tampering) -> None:
    again = Tampering(camera.config)
    again.load_state_dict(camera.state_dict())
    one, two = (each.score(footage(9, left)) for each in (camera, again))
    same(one, two)


def same(one: Scores, two: Scores) -> None:
    assert all(np.array_equal(one.columns[name], two.columns[name]) for name in one.columns)
    assert np.array_equal(one.maps["left"], two.maps["left"])


def test_scenes_have_limits_of_their_own() -> None:
    gate = [replace(footage(seed, normal), scene="gate") for seed in range(2)]
    night = [replace(footage(seed, lambda _, p: p * 0.3), scene="night") for seed in range(2)]
    detector = Tampering(TamperingConfig())
    detector.fit(Bags([*gate, *night]), device="cpu", seed=0)
    assert detector.score(night[0]).columns["dark"].max() <= 1
    assert detector.score(replace(night[0], scene="gate")).columns["dark"].max() > 1
    with pytest.raises(DetectorError, match="which has no training video"):
        detector.score(replace(gate[0], scene="yard"))


def test_the_score_is_the_largest_of_the_chosen_checks() -> None:
    detector = Tampering(TamperingConfig(checks=("dark", "frozen")))
    detector.fit(Bags([footage(0, normal), footage(1, normal)]), device="cpu", seed=0)
    columns = detector.score(footage(9, blurred)).columns
    assert columns["blurred"].max() > 1.5
    expected = np.maximum(columns["dark"], columns["frozen"])
    assert np.array_equal(columns["score"], expected)


@pytest.mark.parametrize("rows", [0, 1])
def test_short_videos(camera: Tampering, rows: int) -> None:
    whole = footage(9, normal)
    short = replace(
        whole,
        tracks={
            role: Track(t.rows()[:rows], t.frame_start[:rows], t.frame_stop[:rows])
            for role, t in whole.tracks.items()
        },
    )
    if rows:
        assert len(camera.score(short).columns["score"]) == 1
    else:
        with pytest.raises(DetectorError, match="has no rows"):
            camera.score(short)


def test_other_features_are_refused(camera: Tampering) -> None:
    whole = footage(9, normal)
    track = whole.tracks["checks"]
    wrong = replace(track, array=track.rows()[:, :3])
    with pytest.raises(DetectorError, match="features of scene_checks are needed"):
        camera.score(replace(whole, tracks={**whole.tracks, "checks": wrong}))
    with pytest.raises(DetectorError, match="no training videos"):
        Tampering(TamperingConfig()).fit(Bags([]), device="cpu", seed=0)
    with pytest.raises(DetectorError, match="not fitted"):
        Tampering(TamperingConfig()).score(whole)
