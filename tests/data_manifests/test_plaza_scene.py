"""The plaza: sizes as promised, habits of the crowd, events that break one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vadpipe.data_manifests.plaza_scene import (
    EVENTS,
    PAUSE,
    SIZES,
    STAY,
    Mover,
    Screen,
    View,
    area,
    crowd,
    draw_plaza,
    happening,
    render,
    views,
)

SECONDS = 12.0
NORTH, SOUTH = views(240, 360)
BOTH = pytest.mark.parametrize("view", [NORTH, SOUTH], ids=["north", "south"])


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EVENTS)
def test_an_event_covers_its_share_of_the_picture(view: View, size: str, name: str) -> None:
    """Alone in the middle; about, as thin parts of small figures are a pixel wide."""
    event = happening(view, generator(1), name, size, SECONDS)
    look = replace(event.actor.look, tall=1.0, coat=False, bag=None)
    still = replace(event, actor=replace(event.actor, x=0.0, when=0.5, look=look), stop=None)
    blank = draw_plaza(views(24, 36)[0], generator()).resize(view.canvas)
    *_, (_, figures) = render(view, blank, [still], generator(), frames=6, fps=10)
    aside = {"1%": 1.15, "0.3%": 1.15, "0.1%": 0.85}[size] if name == "lawn" else 1.0
    expected = SIZES[size] / aside**2
    assert (figures == 1).mean() == pytest.approx(expected, rel=0.4)


@BOTH
def test_people_keep_to_their_lane_way_and_speed(view: View) -> None:
    lanes = {view.lane(size): way for size, way in zip(SIZES, view.ways, strict=True)}
    movers = [mover for seed in range(5) for mover in crowd(view, generator(seed), SECONDS)]
    assert len(movers) > 60
    for mover in movers:
        lane = min(lanes, key=lambda z: abs(z - mover.actor.z))
        assert abs(mover.actor.z / lane - 1) <= 0.035
        assert 0.9 <= mover.actor.vx * lanes[lane] <= 1.6
        assert mover.abnormal_from is None and mover.actor.kind == "walker"
        if mover.stop is not None:
            assert PAUSE[0] <= mover.stop[1] - mover.stop[0] <= PAUSE[1] < STAY
    assert 0.03 < np.mean([mover.stop is not None for mover in movers]) < 0.2


@BOTH
@pytest.mark.parametrize("name", EVENTS)
def test_an_event_breaks_its_habit_and_no_other(view: View, name: str) -> None:
    habit = EVENTS[name].habit
    lanes = [view.lane(size) for size in SIZES]
    for size, lane, way in zip(SIZES, lanes, view.ways, strict=True):
        event = happening(view, generator(2), name, size, SECONDS)
        assert (abs(event.actor.z / lane - 1) > 0.1) == (habit == "place")
        assert min(abs(event.actor.z / z - 1) for z in lanes) > 0.1 or habit != "place"
        assert (event.actor.vx * way < 0) == (habit == "direction")
        walks = abs(event.actor.vx) <= 1.6
        assert walks or habit == "speed" or name in ("cyclist", "ball")
        assert (event.actor.kind != "walker") == (habit in ("class", "speed"))
        assert (event.stop is not None) == (habit == "duration")


def test_who_stops_goes_on_afterwards_from_the_same_place() -> None:
    event = happening(NORTH, generator(), "wrong_way", "1%", SECONDS)
    actor = replace(event.actor, x=-2.0, vx=1.0, when=0.0)
    mover = Mover(actor, stop=(1.0, 3.0))
    assert [mover.place(t)[0] for t in (0.0, 1.0, 2.0, 3.0, 4.0)] == [-2.0, -1.0, -1.0, -1.0, 0.0]
    assert [mover.stands(t) for t in (0.5, 1.0, 2.9, 3.0)] == [False, True, True, False]


@pytest.mark.parametrize("size", SIZES)
def test_a_loiterer_is_abnormal_after_a_while_and_stays_in_the_picture(size: str) -> None:
    for seed in range(5):
        event = happening(SOUTH, generator(seed), "loiterer", size, SECONDS)
        assert event.stop is not None and event.abnormal_from == event.stop[0] + STAY
        assert event.abnormal_from < 0.5 * SECONDS and event.stop[1] > SECONDS
        x, z = event.place(SECONDS)
        assert abs(x) < 0.9 * SOUTH.reach(z)


@BOTH
def test_the_screen_is_dark_at_times_and_moves_at_others(view: View) -> None:
    left, top, right, bottom = view.screen
    assert 0 < left < right < view.canvas[0] and 0 < top < bottom < view.ground(0, view.wall)[1]
    screen = Screen(view, generator(3), 60.0)
    shown = [screen.picture(t) for t in np.arange(0, 60, 0.5)]
    assert 0.4 < np.mean([picture is not None for picture in shown]) < 0.95
    moving = next(t for t in np.arange(0, 60, 0.5) if screen.picture(t) and screen.picture(t + 0.1))
    first, second = screen.picture(moving), screen.picture(moving + 0.1)
    assert first is not None and second is not None
    assert first.size == (right - left, bottom - top)
    assert (np.asarray(first) != np.asarray(second)).mean() > 0.05


def test_the_map_of_figures_is_where_figures_are_drawn() -> None:
    view = views(96, 144)[0]
    background = draw_plaza(view, generator())
    people = [mover for mover in crowd(view, generator(7), 4.0) if mover.actor.when < 0]

    def last(movers: list[Mover]) -> tuple[np.ndarray, np.ndarray]:
        *_, drawn = render(view, background, movers, generator(1), frames=2, fps=10)
        return drawn

    picture, figures = last(people)
    empty, nothing = last([])
    changed = np.abs(picture.astype(int) - empty).max(-1) > 60
    assert changed.any() and not nothing.any() and figures.max() <= len(people)
    assert (figures[changed] > 0).mean() > 0.8, "the rest is edges and shadows"


def test_areas_are_those_of_figures_of_usual_size() -> None:
    assert area("walker") == pytest.approx(0.5, abs=0.1)
    assert area("ball") == pytest.approx(np.pi * 0.22**2, rel=0.05)
    assert area("ball") < area("walker") < area("cyclist") < area("cart")
