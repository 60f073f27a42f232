"""The drawn plaza: two cameras, crowds with habits, a screen, and events that break one habit.

Three paved lanes lie at three distances from the camera, with lawns between them. All people walk
one way in a lane, at walking speed; some stop for a moment. A lane is where a person covers 1 %,
0.3 % or 0.1 % of the picture. A large screen on the wall shows moving patterns at times, the light
changes, and the crowd comes in waves, so that neither the amount of change nor the fastest place
of a picture says much about what people do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .synthetic_scene import DETAIL, FIGURES, Actor, Brush, Camera, Look, Point, smooth_noise

SIZES = {"1%": 0.01, "0.3%": 0.003, "0.1%": 0.001}  # share of the picture that a person covers
PAUSE = (1.0, 2.5)  # seconds that people stop for
STAY = 4.0  # seconds after which a stop is abnormal
MOST_FIGURES = 255  # numbers that fit into a map of figures
STRIPES = ((206, 44, 58), (34, 92, 180), (236, 196, 62), (44, 150, 92), (238, 238, 232))


@dataclass(frozen=True)
class View(Camera):
    """One of the two cameras, with a height, a tilt and a lens of its own.

    Attributes:
        name: of the scene.
        tall: metres above the ground.
        sky: share of the picture above the horizon.
        lens: focal length as a share of the height of the picture.
        ways: 1 or -1, the way that people walk in the near, the middle and the far lane.
    """

    name: str = "north"
    tall: float = 4.5
    sky: float = 0.1
    lens: float = 1.2
    ways: tuple[int, int, int] = (1, -1, 1)

    @property
    def horizon(self) -> float:
        """Row of the horizon."""
        return self.sky * self.canvas[1]

    def scale(self, z: float) -> float:
        """Pixels a metre at a distance."""
        return self.lens * self.canvas[1] / z

    def ground(self, x: float, z: float) -> Point:
        """Where a point of the ground is seen."""
        return self.canvas[0] / 2 + x * self.scale(z), self.horizon + self.tall * self.scale(z)

    def lane(self, size: str) -> float:
        """Distance of the lane where a person covers that share of the picture."""
        pixels = SIZES[size] * self.height * self.width
        return self.lens * self.height / math.sqrt(pixels / area("walker"))

    @property
    def wall(self) -> float:
        """Distance of the wall at the end of the plaza."""
        return 1.15 * self.lane("0.1%")

    @property
    def screen(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom of the screen on the canvas."""
        width, height = self.canvas
        left = round((0.12 if self.ways[0] > 0 else 0.62) * width)
        return left, round(0.03 * height), left + round(0.26 * width), round(0.23 * height)


def views(height: int, width: int) -> tuple[View, View]:
    """The two cameras."""
    return (
        View(height, width),
        View(height, width, "south", tall=3.6, sky=0.2, lens=1.05, ways=(-1, 1, -1)),
    )


@cache
def area(kind: str) -> float:
    """Square metres that a figure covers, seen from the side; drawn once and counted."""
    unit, size = 100, (600, 400)
    picture, seen = Image.new("RGB", size), Image.new("L", size)
    rng = np.random.default_rng(0)
    look = replace(Look.draw(rng), coat=False, bag=None, tall=1.0)
    speed = 0.0 if kind == "ball" else 1.3
    actor = Actor(kind, 0.0, 1.0, speed, 0.0, 0.0, look, 1.0, 1)
    pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(seen)
    FIGURES[kind](Brush(*pens, (300.0, 350.0), unit, 1.0, 1), actor, 0.0)
    return float((np.asarray(seen) > 0).sum()) / unit**2


@dataclass(frozen=True)
class Mover:
    """A figure, its size, where it stops, and from when on it is abnormal.

    Attributes:
        actor: what moves, as if it never stopped.
        size: times its usual size.
        stop: seconds from and until which it stands; None if it never does.
        abnormal_from: second of the clip; None for normal ones.
    """

    actor: Actor
    size: float = 1.0
    stop: tuple[float, float] | None = None
    abnormal_from: float | None = None

    def stands(self, time: float) -> bool:
        """Whether it stands at a time in seconds."""
        return self.stop is not None and self.stop[0] <= time < self.stop[1]

    def place(self, time: float) -> Point:
        """(x, z) at a time in seconds."""
        if self.stop is None:
            return self.actor.place(time)
        begin, end = self.stop
        return self.actor.place(time - min(max(time - begin, 0.0), end - begin))


@dataclass(frozen=True)
class Event:
    """Something abnormal that can happen.

    Attributes:
        figure: what is seen.
        habit: what it breaks: "speed", "class", "direction", "place" or "duration".
        speed: metres a second.
        way: 1 along the lane, -1 against it.
        aside: distance of the place, as a share of the lane's distance.
        label: COCO's class that a network would see.
    """

    figure: str
    habit: str
    speed: float
    way: int = 1
    aside: float = 1.0
    label: str = "person"


EVENTS = {
    "runner": Event("runner", "speed", 4.4),
    "cyclist": Event("cyclist", "class", 3.4, label="bicycle"),
    "cart": Event("cart", "class", 1.3, label="truck"),
    "ball": Event("ball", "class", 4.6, label="sports ball"),
    "wrong_way": Event("walker", "direction", 1.3, way=-1),
    "lawn": Event("walker", "place", 1.3, aside=1.15),
    "loiterer": Event("walker", "duration", 1.3),
}
LABELS = {"walker": "person", **{event.figure: event.label for event in EVENTS.values()}}


def crowd(view: View, rng: np.random.Generator, seconds: float) -> list[Mover]:
    """Normal people: each lane has its own flow in waves, alone or in groups of up to four."""
    movers: list[Mover] = []
    for size, way in zip(SIZES, view.ways, strict=True):
        z = view.lane(size)
        edge = view.reach(z) + 0.5
        crossing = 2 * edge / 0.9  # seconds of the slowest, so that the lane is full at the start
        wave, phase = rng.uniform(4, 9), rng.uniform(0, 2 * math.pi)
        rate = rng.uniform(0.08, 0.5)  # groups a second
        when = -crossing
        while (when := when + rng.exponential(1 / rate)) < seconds:
            if rng.random() > 0.5 + 0.5 * math.sin(2 * math.pi * when / wave + phase):
                continue
            speed = rng.uniform(0.9, 1.6)
            for beside in range(int(rng.choice(4, p=[0.55, 0.25, 0.12, 0.08])) + 1):
                x, depth = -way * (edge + 0.5 * beside), z * rng.uniform(0.965, 1.035)
                look, step = Look.draw(rng), rng.uniform(0, 2 * math.pi)
                actor = Actor("walker", x, depth, way * speed, 0.0, when, look, step)
                movers.append(Mover(actor, stop=_pause(rng, when, edge / speed)))
    rng.shuffle(movers)
    return movers[:MOST_FIGURES]


def _pause(rng: np.random.Generator, when: float, half: float) -> tuple[float, float] | None:
    """One in ten stops for a moment, half a way and more after the start."""
    begin, length = when + half * rng.uniform(0.6, 1.4), rng.uniform(*PAUSE)
    return (begin, begin + length) if rng.random() < 0.1 else None


def happening(view: View, rng: np.random.Generator, name: str, size: str, seconds: float) -> Mover:
    """An event of that name in the lane of that size; it comes in after a fifth of the clip.

    A loiterer is in the picture from the start, as the stop is abnormal only after a while.
    """
    event = EVENTS[name]
    z = view.lane(size) * (event.aside if size != "0.1%" else 2 - event.aside)
    way = event.way * view.ways[list(SIZES).index(size)]
    speed = event.speed * rng.uniform(0.9, 1.1)
    edge, when = view.reach(z) + 0.3, seconds * rng.uniform(0.2, 0.4)
    stop, abnormal = None, 0.0
    if event.habit == "duration":
        edge, when = view.reach(z) * rng.uniform(0.3, 0.7), 0.0
        stop = (rng.uniform(0.3, 1.5), seconds + 1)
        abnormal = stop[0] + STAY
    look, step = Look.draw(rng), rng.uniform(0, 2 * math.pi)
    actor = Actor(event.figure, -way * edge, z, way * speed, 0.0, when, look, step)
    grown = math.sqrt(area("walker") / area(event.figure))  # a cart becomes a small robot
    return Mover(actor, grown, stop, abnormal)


# ------------------------------------------------------------------------------------- drawing


def draw_plaza(view: View, rng: np.random.Generator) -> Image.Image:
    """The empty plaza: wall with windows, lawns, paved lanes, the dark screen."""
    width, height = view.canvas
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = view.tall * view.lens * height / np.maximum(rows - view.horizon, 1)
    across = (columns - width / 2) * depth / (view.lens * height)
    foot, metre = view.ground(0, view.wall)[1], view.scale(view.wall)
    wall = rows < foot
    lanes = [view.lane(size) for size in SIZES]
    paved = np.any([np.abs(depth / z - 1) < 0.08 for z in lanes], axis=0)
    joint = (across % 1.0 < 0.05) | (np.log(depth) % 0.05 < 0.004)
    window = ((foot - rows) / metre % 3.2 > 1.8) & ((columns / metre) % 2.6 > 1.5)
    colours = np.select(
        [(wall & window)[..., None], wall[..., None], (paved & joint)[..., None], paved[..., None]],
        [(84, 96, 110), (176, 164, 146), (132, 130, 126), (164, 160, 152)],
        (98, 124, 76),
    ).astype(np.float32)
    grain = sum(
        n * smooth_noise(rng, view.canvas, cells) for cells, n in ((6, 8), (50, 6), (200, 5))
    )
    colours += np.asarray(grain)[..., None]
    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    left, top, right, bottom = view.screen
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 6, top - 6, right + 5, bottom + 5), fill=(40, 40, 44))
    pen.rectangle((left, top, right - 1, bottom - 1), fill=(16, 18, 24))
    return image


class Screen:
    """Patterns that run over the screen, with pauses: most of what moves in a picture.

    Args:
        view:
            The camera.
        rng:
            Decides when and what.
        seconds:
            Length of the clip.
    """

    def __init__(self, view: View, rng: np.random.Generator, seconds: float) -> None:
        left, top, right, bottom = view.screen
        self._width = right - left
        self._shown: list[tuple[float, float, NDArray[np.uint8], float]] = []
        time = rng.uniform(-4, 1)
        while time < seconds:
            end = time + rng.uniform(2, 6)
            pattern = _stripes(rng, bottom - top, 2 * self._width)
            speed = DETAIL * rng.choice([-1, 1]) * view.width * rng.uniform(0.2, 0.7)
            self._shown.append((time, end, pattern, speed))
            time = end + rng.uniform(0.5, 3)

    def picture(self, time: float) -> Image.Image | None:
        """What it shows at a time in seconds; None while it is dark."""
        for begin, end, pattern, speed in self._shown:
            if begin <= time < end:
                rolled = np.roll(pattern, round(speed * (time - begin)), axis=1)
                return Image.fromarray(np.ascontiguousarray(rolled[:, : self._width]))
        return None


def _stripes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Wavy stripes that repeat after `width`, (height, width, 3)."""
    rows, columns = np.mgrid[0:height, 0:width]
    turn = 2 * math.pi * (columns / width * rng.integers(1, 4) + rows / height * rng.integers(1, 3))
    bands = columns / width * rng.integers(6, 14) + rng.uniform(0.2, 0.8) * np.sin(turn)
    palette = np.array(STRIPES, np.uint8)[rng.permutation(len(STRIPES))[: rng.integers(2, 5)]]
    return np.asarray(palette[np.floor(bands * len(palette)).astype(int) % len(palette)])


def render(
    view: View,
    background: Image.Image,
    movers: list[Mover],
    rng: np.random.Generator,
    *,
    frames: int,
    fps: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw a clip.

    Yields:
        A picture (H, W, 3) uint8, and the map (H, W) uint8 of the figures in it: i + 1 where
        `movers[i]` is seen, 0 elsewhere.
    """
    shape = (view.height, view.width)
    sensor = rng.normal(0, 3.0, (shape[0] + 64, shape[1] + 64)).astype(np.float32)
    screen = Screen(view, rng, frames / fps)
    cloud, dawn = 1.0, rng.uniform(0, 2 * math.pi)
    for frame in range(frames):
        time = frame / fps
        picture, figures = background.copy(), Image.new("L", background.size)
        if (shown := screen.picture(time)) is not None:
            picture.paste(shown, view.screen[:2])
        pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(figures)
        seen = [(mover.place(time), number) for number, mover in enumerate(movers, start=1)]
        for (x, z), number in sorted(seen, key=lambda row: -row[0][1]):
            if abs(x) < view.reach(z) + 2:
                _draw(pens, view, movers[number - 1], number, (x, z), time)
        if rng.random() < 0.05:
            cloud = rng.uniform(0.92, 1.08)
        light = cloud * (1 + 0.03 * math.sin(dawn + 2 * math.pi * time / 15))
        top, left = rng.integers(64, size=2)
        noise = sensor[top : top + shape[0], left : left + shape[1], None]
        pixels = np.asarray(picture.reduce(DETAIL), dtype=np.float32) * light + noise
        yield pixels.clip(0, 255).astype(np.uint8), np.asarray(figures)[::DETAIL, ::DETAIL]


def _draw(
    pens: tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw],
    view: View,
    mover: Mover,
    number: int,
    place: Point,
    time: float,
) -> None:
    actor = mover.actor
    scale, facing = view.scale(place[1]) * mover.size, -1.0 if actor.vx < 0 else 1.0
    brush = Brush(*pens, view.ground(*place), scale, facing, number)
    if mover.stands(time):
        actor = replace(actor, vx=0.0)
    FIGURES[actor.kind](brush, actor, time)
