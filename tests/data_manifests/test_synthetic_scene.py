from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vadpipe.data_manifests.synthetic_scene import (
    ANOMALIES,
    CAMERA_HEIGHT,
    DETAIL,
    FAR,
    FIGURES,
    NEAR,
    Actor,
    Brush,
    Camera,
    Look,
    draw_background,
    intruders,
    pedestrians,
    render,
)

CAMERA = Camera(120, 160)
LOOK = Look((205, 158, 124), (40, 30, 25), (178, 44, 46), (38, 44, 66), None, False, 1.0)


def drawn(
    *actors: Actor, frames: int = 1, fps: int = 25, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(T, H, W, 3) and (T, H, W) of a clip in front of grey."""
    grey = Image.new("RGB", CAMERA.canvas, (128, 128, 128))
    rng = np.random.default_rng(seed)
    clip = list(render(CAMERA, grey, list(actors), rng, frames=frames, fps=fps))
    return np.stack([p for p, _ in clip]), np.stack([t for _, t in clip])


def actor(kind: str, *, x: float = 0.0, z: float = 10.0, vx: float = 0.0, track: int = 1) -> Actor:
    return Actor(kind, x, z, vx, 0.0, 0.0, LOOK, 0.5, track)


def test_the_camera_is_a_pinhole() -> None:
    """Twice as far: half as large, and half as far below the horizon."""
    assert CAMERA.scale(16.0) == CAMERA.scale(8.0) / 2
    assert CAMERA.ground(0, 16)[1] - CAMERA.horizon == pytest.approx(
        (CAMERA.ground(0, 8)[1] - CAMERA.horizon) / 2
    )
    assert CAMERA.ground(0, 8)[1] - CAMERA.horizon == CAMERA_HEIGHT * CAMERA.scale(8)
    assert CAMERA.ground(CAMERA.reach(9), 9)[0] == pytest.approx(CAMERA.canvas[0])
    assert CAMERA.canvas == (160 * DETAIL, 120 * DETAIL)


def test_actors_move_in_straight_lines() -> None:
    walker = Actor("walker", 1.0, 10.0, 2.0, -0.5, 3.0, LOOK, 0.0)
    assert walker.place(3.0) == (1.0, 10.0)
    assert walker.place(5.0) == (5.0, 9.0)


@pytest.mark.parametrize("kind", sorted(FIGURES))
@pytest.mark.parametrize("z", [NEAR, FAR])
def test_figures_have_their_size_and_stand_on_the_ground(kind: str, z: float) -> None:
    """Heights in metres, seen through the camera."""
    tallest = {"walker": 1.75, "runner": 1.75, "cyclist": 1.85, "cart": 2.05, "ball": 1.75}
    speed = 0.0 if kind == "walker" else 3.0
    _, tracks = drawn(actor(kind, x=-1.0, z=z, vx=speed), frames=20)
    rows = np.nonzero(tracks.any(axis=(0, 2)))[0]
    metre = CAMERA.scale(z) / DETAIL
    foot = CAMERA.ground(0, z)[1] / DETAIL
    assert (rows[-1] + 1 - foot) / metre == pytest.approx(0, abs=0.25)
    assert (foot - rows[0]) / metre == pytest.approx(tallest[kind], abs=0.25)


def test_steps_do_not_slip_into_the_ground() -> None:
    """The lower foot of a walker is on the ground in every frame."""
    _, tracks = drawn(actor("walker", x=-1.5, vx=1.2), frames=40)
    lowest = [np.nonzero(frame.any(axis=1))[0][-1] for frame in tracks]
    assert np.ptp(lowest) <= 1


def test_legs_swing() -> None:
    """A walker is wide at times and narrow at others; a person who stands is not."""

    def widths(vx: float) -> list[int]:
        _, tracks = drawn(actor("walker", z=NEAR, vx=vx), frames=30)
        lower = tracks[:, int(CAMERA.ground(0, NEAR)[1] / DETAIL) - 8 :]
        return [np.ptp(np.nonzero(frame.any(axis=0))[0]) for frame in lower]

    assert max(widths(1.4)) > 1.8 * min(widths(1.4))
    assert len(set(widths(0.0))) == 1


def test_what_is_in_front_hides_what_is_behind() -> None:
    behind, before = actor("walker", z=10.0, track=1), actor("cart", z=8.0, track=2)
    _, alone = drawn(behind)
    for order in ((behind, before), (before, behind)):
        _, both = drawn(*order)
        assert 0 < (both == 1).sum() < 0.7 * (alone == 1).sum()
        assert not ((both == 1) & (alone != 1)).any()


def test_a_normal_figure_hides_an_anomaly_and_has_no_track() -> None:
    _, tracks = drawn(actor("walker", z=10.0), actor("cart", z=8.0, track=0))
    _, alone = drawn(actor("walker", z=10.0))
    assert 0 < tracks.sum() < 0.7 * alone.sum()


def test_facing_mirrors_a_figure() -> None:
    canvas = (80, 60)  # the foot is in the middle
    maps = []
    for facing in (1.0, -1.0):
        picture, tracks = Image.new("RGB", canvas), Image.new("L", canvas)
        pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(tracks)
        brush = Brush(*pens, foot=(40.0, 55.0), scale=25.0, facing=facing, track=1)
        FIGURES["cart"](brush, actor("cart", vx=2.0), 0.3)
        maps.append(np.asarray(tracks) > 0)
    right, left = maps
    assert (right != right[:, ::-1]).mean() > 0.02
    assert (right != left[:, ::-1]).mean() < 0.02


def test_a_shadow_is_no_part_of_the_figure() -> None:
    picture, tracks = Image.new("RGB", (60, 60), (200, 200, 200)), Image.new("L", (60, 60))
    pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(tracks)
    Brush(*pens, foot=(30.0, 30.0), scale=20.0, facing=1.0, track=1).shadow(1.0)
    assert np.asarray(picture).min() < 200
    assert np.asarray(tracks).max() == 0


def test_light_changes_slowly_and_noise_is_that_of_a_sensor() -> None:
    pixels, _ = drawn(frames=50)
    means = pixels.mean(axis=(1, 2, 3))
    assert np.ptp(means) > 2
    assert np.abs(np.diff(means)).max() < 1
    flicker = np.diff(pixels.astype(np.float32), axis=0).std() / math.sqrt(2)
    assert flicker == pytest.approx(2.2, abs=0.2)


def test_pedestrians_walk_like_pedestrians() -> None:
    """Speeds of people, in view at their time, and more of them the longer it takes."""
    crowd = [a for seed in range(40) for a in pedestrians(CAMERA, np.random.default_rng(seed), 6.4)]
    assert {a.kind for a in crowd} == {"walker"}
    assert {a.track for a in crowd} == {0}
    speeds = np.array([math.hypot(a.vx, a.vz) for a in crowd])
    assert speeds.max() < 1.75
    assert 0.05 < (speeds == 0).mean() < 0.25
    assert min(speeds[speeds > 0]) >= 0.9
    assert {np.sign(a.vx) for a in crowd} == {-1, 0, 1}
    assert all(abs(a.x) < CAMERA.reach(a.z) + 0.3 for a in crowd)
    few = pedestrians(CAMERA, np.random.default_rng(0), 2.0)
    many = pedestrians(CAMERA, np.random.default_rng(0), 60.0)
    assert len(few) < len(many) / 3


def test_intruders_come_in_from_outside_near_and_far() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = intruders(CAMERA, rng, list(ANOMALIES), 6.4)
        assert [a.kind for a in found] == list(ANOMALIES)
        assert [a.track for a in found] == [1, 2, 3, 4]
        assert all(abs(a.x) > CAMERA.reach(a.z) and a.x * a.vx < 0 for a in found)
        assert all(abs(a.vx) > 2.5 for a in found)
        near = [a.z < (NEAR + FAR) / 2 for a in found]
        assert near in ([True, False] * 2, [False, True] * 2)


def test_the_background_is_seeded_and_has_texture() -> None:
    first, again, other = (
        np.asarray(draw_background(CAMERA, np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    height = len(first)
    wall, paving, grass = first[: height // 4], first[height // 2 : -40], first[-10:, :60]
    assert wall.mean(axis=(0, 1)).argmax() == 0  # red bricks
    assert grass.mean(axis=(0, 1)).argmax() == 1
    assert all(area.std(axis=(0, 1)).min() > 3 for area in (wall, paving, grass))


def test_the_same_seed_draws_the_same_clip() -> None:
    walker = actor("walker", vx=1.0)
    assert (drawn(walker, frames=3)[0] == drawn(walker, frames=3)[0]).all()
    assert (drawn(walker, frames=3)[0] != drawn(walker, frames=3, seed=1)[0]).any()
