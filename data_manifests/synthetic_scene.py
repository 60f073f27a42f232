"""The drawn square: what moves on it, and how it looks through a camera.

A fixed camera looks down on a square in front of a brick wall. Pedestrians walk, pair up, stand,
or come and go through a door. Anomalies are a runner, a cyclist, a cart and a bouncing ball. Places
are in metres on the ground, so that sizes and speeds fit the distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

ANOMALIES = ("runner", "cyclist", "cart", "ball")
DETAIL = 2  # drawn this many times larger, then reduced, for smooth edges
CAMERA_HEIGHT = 4.5  # metres
NEAR, FAR, WALL = 7.6, 13.4, 16.0  # metres from the camera: where people walk, and the wall
DOOR = 1.8  # metres to the right of the middle of the picture
SKIN: tuple[Colour, ...] = ((236, 200, 175), (205, 158, 124), (150, 104, 74), (98, 66, 48))
HAIR: tuple[Colour, ...] = ((40, 30, 25), (90, 60, 38), (170, 140, 95), (120, 118, 116))
CLOTH: tuple[Colour, ...] = (
    *((178, 44, 46), (44, 72, 140), (52, 104, 70), (222, 216, 204), (60, 62, 68), (196, 150, 60)),
    *((112, 60, 110), (90, 140, 170), (200, 110, 80), (36, 38, 52)),
)
TROUSERS: tuple[Colour, ...] = ((38, 44, 66), (60, 58, 56), (104, 92, 76), (30, 30, 32))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the horizon; metres in, pixels of the enlarged canvas out.

    A point is (x metres to the right, z metres away); figures add their height above ground.
    """

    height: int
    width: int

    @property
    def canvas(self) -> tuple[int, int]:
        """(width, height) of the enlarged canvas, in pixels."""
        return DETAIL * self.width, DETAIL * self.height

    @property
    def horizon(self) -> float:
        """Row of the horizon."""
        return 0.1 * self.canvas[1]

    def scale(self, z: float) -> float:
        """Pixels a metre at a distance."""
        return 1.2 * self.canvas[1] / z

    def ground(self, x: float, z: float) -> Point:
        """Where a point of the ground is seen."""
        return self.canvas[0] / 2 + x * self.scale(z), self.horizon + CAMERA_HEIGHT * self.scale(z)

    def reach(self, z: float) -> float:
        """Metres from the middle to the border of the picture."""
        return self.canvas[0] / 2 / self.scale(z)


@dataclass(frozen=True)
class Look:
    """Colours and build of one figure."""

    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    bag: Colour | None
    coat: bool
    tall: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Draw a random look."""
        skin, hair, top, trousers, bag = (
            choice[rng.integers(len(choice))] for choice in (SKIN, HAIR, CLOTH, TROUSERS, CLOTH)
        )
        bag_or_none = bag if rng.random() < 0.4 else None
        return cls(
            skin, hair, top, trousers, bag_or_none, rng.random() < 0.3, rng.uniform(0.9, 1.1)
        )


@dataclass(frozen=True)
class Actor:
    """Something that moves in a straight line: at (x, z) at time `when`, with speed (vx, vz).

    `track` is 0 for normal actors; `phase` is where the step, wheel or bounce starts, in radians.
    """

    kind: str
    x: float
    z: float
    vx: float
    vz: float
    when: float
    look: Look
    phase: float
    track: int = 0

    def place(self, time: float) -> Point:
        """(x, z) at a time in seconds."""
        return self.x + self.vx * (time - self.when), self.z + self.vz * (time - self.when)


def pedestrians(camera: Camera, rng: np.random.Generator, seconds: float) -> list[Actor]:
    """Normal activity: about four pedestrians, and 0.6 more a second; some walk in pairs."""
    actors: list[Actor] = []
    for _ in range(4 + round(0.6 * seconds + rng.uniform(-1, 1))):
        z, when = rng.uniform(NEAR, FAR), rng.uniform(0, seconds)
        x = rng.uniform(-0.9, 0.9) * camera.reach(z)
        speed, way = rng.uniform(0.9, 1.6), rng.choice([-1.0, 1.0])
        vx, vz = way * speed, way * speed * rng.uniform(-0.25, 0.25)
        habit = rng.random()
        if habit < 0.15:  # stands about
            vx = vz = 0.0
        elif habit < 0.35:  # to or from the door
            x, vx, vz = DOOR + rng.uniform(-0.3, 0.3), 0.12 * way, way * speed
        phase = rng.uniform(0, 2 * math.pi)
        actors.append(Actor("walker", x, z, vx, vz, when, Look.draw(rng), phase))
        if 0.35 <= habit < 0.55:  # two who walk together
            beside = (x + 0.25, z + 0.55, vx, vz, when)
            actors.append(Actor("walker", *beside, Look.draw(rng), phase + rng.uniform(1, 2)))
    return actors


def intruders(
    camera: Camera, rng: np.random.Generator, kinds: list[str], seconds: float
) -> list[Actor]:
    """Anomalies that come in from the left or the right, one after the other, near or far."""
    speeds = {"runner": 4.6, "cyclist": 4.4, "cart": 3.2, "ball": 5.0}
    actors = []
    far = rng.random() < 0.5
    for track, kind in enumerate(kinds, start=1):
        z = rng.uniform(FAR - 1.2, FAR) if far else rng.uniform(NEAR, NEAR + 1.2)
        far = not far
        way, speed = rng.choice([-1.0, 1.0]), speeds[kind] * rng.uniform(0.9, 1.1)
        when = seconds * (rng.uniform(0.2, 0.3) + 0.2 * (track - 1))
        start = -way * (camera.reach(z) + 1.3)  # as long as half a cart: comes in from outside
        phase = rng.uniform(0, 2 * math.pi)
        look = Look.draw(rng)
        actors.append(Actor(kind, start, z, way * speed, 0.0, when, look, phase, track))
    return actors


def draw_background(camera: Camera, rng: np.random.Generator) -> Image.Image:
    """The empty scene: brick wall with windows and a door, grass, paving, lamp posts."""
    width, height = camera.canvas
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = CAMERA_HEIGHT * 1.2 * height / np.maximum(rows - camera.horizon, 1)
    across = (columns - width / 2) * depth / (1.2 * height)
    foot = camera.ground(0, WALL)[1]
    metre = camera.scale(WALL)
    bricks_up, bricks_across = (foot - rows) / (0.3 * metre), (columns - width / 2) / (0.7 * metre)
    joint = (bricks_up % 1 < 0.14) | ((bricks_across + 0.5 * (bricks_up // 1)) % 1 < 0.06)
    path = ((depth > 7.0) & (depth < 14.2)) | (np.abs(across - DOOR) < 0.9)
    tile = (across % 1.2 < 0.05) | (depth % 1.2 < 0.07)
    wall = rows < foot
    colours = np.select(
        [(wall & joint)[..., None], wall[..., None], (path & tile)[..., None], path[..., None]],
        [(150, 138, 128), (146, 98, 82), (138, 134, 128), (166, 162, 154)],
        (94, 118, 70),
    ).astype(np.float32)
    grain = sum(
        amount * smooth_noise(rng, camera.canvas, cells)
        for cells, amount in ((6, 9), (40, 7), (160, 6))
    )
    colours += np.where(wall | path, 0.7, 1.6)[..., None] * np.asarray(grain)[..., None]
    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image, "RGBA")
    for x in (-7.5, -5.0, -2.5, 4.6, 7.1):
        left, bottom = camera.ground(x, WALL)[0], foot - 1.3 * metre
        box = (left, bottom - 1.5 * metre, left + 1.2 * metre, bottom)
        pen.rectangle(box, fill=(70, 84, 96), outline=(214, 208, 196), width=DETAIL * 2)
        pen.line((left, bottom, left + 1.2 * metre, bottom), fill=(90, 82, 76), width=DETAIL * 2)
    left = camera.ground(DOOR - 0.6, WALL)[0]
    pen.rectangle((left, foot - 2.2 * metre, left + 1.2 * metre, foot), fill=(58, 44, 36))
    pen.rectangle((0, foot, width, foot + 0.15 * metre), fill=(40, 50, 34, 90))
    for x in (-4.4, 5.6):
        (base_x, base_y), unit = camera.ground(x, 14.6), camera.scale(14.6)
        pen.line((base_x, base_y, base_x, base_y - 4 * unit), fill=(50, 54, 56), width=DETAIL * 2)
        lamp = (base_x - 0.2 * unit, base_y - 4.2 * unit, base_x + 0.2 * unit, base_y - 3.8 * unit)
        pen.ellipse(lamp, fill=(232, 228, 205))
    return image


def render(
    camera: Camera,
    background: Image.Image,
    actors: list[Actor],
    rng: np.random.Generator,
    *,
    frames: int,
    fps: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw a clip.

    Yields:
        A picture (H, W, 3) uint8, and the map (H, W) uint8 of the tracks seen in it (0 = none).
    """
    shape = (camera.height, camera.width)
    sensor = rng.normal(0, 2.2, (shape[0] + 64, shape[1] + 64)).astype(np.float32)
    dawn = rng.uniform(0, 2 * math.pi)
    for frame in range(frames):
        time = frame / fps
        picture, tracks = background.copy(), Image.new("L", background.size)
        pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(tracks)
        seen = [(actor.place(time), actor) for actor in actors]
        for (x, z), actor in sorted(seen, key=lambda row: -row[0][1]):
            if 2 < z < WALL and abs(x) < camera.reach(z) + 3:
                facing = -1.0 if actor.vx < 0 else 1.0
                brush = Brush(*pens, camera.ground(x, z), camera.scale(z), facing, actor.track)
                FIGURES[actor.kind](brush, actor, time)
        light = 1 + 0.05 * math.sin(dawn + 2 * math.pi * time / 20)
        top, left = rng.integers(64, size=2)
        noise = sensor[top : top + shape[0], left : left + shape[1], None]
        pixels = np.asarray(picture.reduce(DETAIL), dtype=np.float32) * light + noise
        yield pixels.clip(0, 255).astype(np.uint8), np.asarray(tracks)[::DETAIL, ::DETAIL]


@dataclass(frozen=True)
class Brush:
    """Draws in metres around the point where a figure stands: (forward, up).

    Everything is drawn on the picture, and with its track number on the map of tracks. On both,
    figures in front hide figures behind them.
    """

    picture: ImageDraw.ImageDraw
    tracks: ImageDraw.ImageDraw
    foot: Point
    scale: float
    facing: float
    track: int

    def at(self, point: Point) -> Point:
        """Metres to canvas pixels."""
        return (
            self.foot[0] + self.facing * point[0] * self.scale,
            self.foot[1] - point[1] * self.scale,
        )

    def shadow(self, length: float) -> None:
        """A soft patch on the ground; it is not part of the figure."""
        (x, y), half = self.at((0.1, 0)), length * self.scale
        self.picture.ellipse((x - half, y - 0.22 * half, x + half, y + 0.22 * half), (0, 0, 0, 80))

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        corners = [self.at(p) for p in points]
        self.picture.polygon(corners, fill=colour)
        self.tracks.polygon(corners, fill=self.track)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle."""
        (x, y), r = self.at(centre), max(radius * self.scale, 1)
        self.picture.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        self.tracks.ellipse((x - r, y - r, x + r, y + r), fill=self.track)

    def limb(self, points: list[Point], thick: float, colour: Colour) -> None:
        """A line with round joints and ends."""
        corners, wide = [self.at(p) for p in points], max(round(thick * self.scale), 1)
        self.picture.line(corners, fill=colour, width=wide)
        self.tracks.line(corners, fill=self.track, width=wide)
        for point in points:
            self.disc(point, thick / 2, colour)


def draw_walker(brush: Brush, actor: Actor, time: float) -> None:
    """A person on foot, who stands if the speed is zero."""
    speed = math.hypot(actor.vx, actor.vz)
    side = abs(actor.vx) / speed if speed else 0.3
    brush.shadow(0.35)
    step = actor.phase + 2 * math.pi * time * (0.55 + 0.3 * speed)
    swing = 0.42 * min(speed, 1.5) if speed else 0.0
    _body(brush, actor.look, step, side=side, swing=swing, flex=0.7, lean=0.03, elbow=0.3)


def draw_runner(brush: Brush, actor: Actor, time: float) -> None:
    """A runner: long steps, bent arms, leaning forward, in the air between steps."""
    brush.shadow(0.4)
    step = actor.phase + 2 * math.pi * time * 1.45
    _body(brush, actor.look, step, side=1.0, swing=0.95, flex=1.5, lean=0.22, elbow=1.5, hop=0.1)


def draw_cyclist(brush: Brush, actor: Actor, time: float) -> None:
    """A bicycle and its rider."""
    look, turn = actor.look, actor.phase - time * abs(actor.vx) / 0.34
    brush.shadow(0.8)
    frame, tyre = look.bag or (150, 40, 40), (28, 28, 30)
    for hub in ((-0.52, 0.34), (0.52, 0.34)):
        rim = [_polar(hub, 0.34, math.pi * k / 9) for k in range(19)]
        brush.limb(rim, 0.06, tyre)
        for k in range(4):
            brush.limb([_polar(hub, 0.32, turn + k * math.pi / 2), hub], 0.02, (140, 140, 140))
    crank, saddle, bars = (-0.05, 0.32), (-0.2, 0.92), (0.42, 1.02)
    brush.limb([(-0.52, 0.34), crank, (0.36, 0.8), saddle, crank], 0.05, frame)
    brush.limb([(0.52, 0.34), (0.36, 0.8), bars], 0.05, frame)
    shoulder = (0.16, 1.46)
    for half, shade in ((math.pi, 0.7), (0.0, 1.0)):
        pedal = _polar(crank, 0.17, 0.5 * turn + half)
        knee = (0.5 * (saddle[0] + pedal[0]) + 0.24, 0.5 * (saddle[1] + pedal[1]) + 0.1)
        brush.limb([saddle, knee, pedal], 0.13, _shade(look.trousers, shade))
    brush.limb([saddle, shoulder], 0.27, look.top)
    brush.limb([shoulder, (0.3, 1.16), bars], 0.09, _shade(look.top, 0.85))
    _head(brush, look, (0.26, 1.7))


def draw_cart(brush: Brush, actor: Actor, time: float) -> None:
    """A small open delivery cart with its driver."""
    look, turn = actor.look, actor.phase - time * abs(actor.vx) / 0.3
    brush.shadow(1.4)
    brush.limb([(0.25, 1.0), (0.2, 1.35)], 0.34, look.top)
    _head(brush, look, (0.22, 1.62))
    body = _shade(look.bag or (205, 205, 200), 0.95)
    brush.polygon([(-1.3, 0.35), (-1.3, 1.15), (-0.15, 1.15), (-0.1, 0.75), (0.7, 0.8)], body)
    brush.polygon([(-1.3, 0.35), (0.7, 0.85), (1.15, 0.75), (1.25, 0.35)], body)
    brush.limb([(-1.25, 0.45), (1.2, 0.45)], 0.12, _shade(body, 0.6))
    for post in ([(-0.2, 1.1), (-0.2, 1.95)], [(1.0, 0.8), (0.7, 1.95)]):
        brush.limb(post, 0.06, (60, 60, 60))
    brush.polygon([(-0.4, 1.92), (-0.35, 2.05), (0.85, 2.05), (0.95, 1.92)], _shade(body, 0.8))
    for hub in ((-0.85, 0.3), (0.8, 0.3)):
        brush.disc(hub, 0.3, (28, 28, 30))
        brush.disc(hub, 0.13, (150, 150, 150))
        brush.limb([hub, _polar(hub, 0.2, turn)], 0.05, (90, 90, 90))


def draw_ball(brush: Brush, actor: Actor, time: float) -> None:
    """A ball thrown from outside the picture, which bounces across and turns."""
    bounce = ((time - actor.when) / 0.9 + actor.phase) % 1
    centre = (0.0, 0.22 + 4 * 1.3 * bounce * (1 - bounce))
    turn = -9 * time
    brush.shadow(0.2)
    brush.disc(centre, 0.22, actor.look.top)
    for k in range(3):
        brush.limb([centre, _polar(centre, 0.17, turn + k * 2.1)], 0.06, (225, 220, 210))


FIGURES = {
    "walker": draw_walker,
    "runner": draw_runner,
    "cyclist": draw_cyclist,
    "cart": draw_cart,
    "ball": draw_ball,
}


def _body(
    brush: Brush,
    look: Look,
    step: float,
    *,
    side: float,
    swing: float,
    flex: float,
    lean: float,
    elbow: float,
    hop: float = 0.0,
) -> None:
    """A figure on foot, far limbs first.

    Args:
        brush: draws at the place of the figure.
        look: colours and build.
        step: radians, one turn is two steps.
        side: 1 seen from the side, 0 from the front or the back.
        swing: radians that a leg swings forward and back.
        flex: radians that the knee bends while a leg swings forward.
        lean: metres that the shoulders are ahead of the hips.
        elbow: radians that the elbow is bent.
        hop: metres off the ground between two steps.
    """
    tall, apart = look.tall, 0.09 * (1 - side)
    legs = []
    for half in (0.0, math.pi):
        thigh = swing * math.sin(step + half)
        shin = thigh - flex * min(swing, 1.0) * max(0.0, math.cos(step + half))
        knee = (side * 0.44 * math.sin(thigh), -0.44 * math.cos(thigh))
        ankle = (knee[0] + side * 0.44 * math.sin(shin), knee[1] - 0.44 * math.cos(shin))
        legs.append((thigh, knee, ankle))
    hip = 0.06 - min(ankle[1] for _, _, ankle in legs) + hop * abs(math.sin(step))  # on the ground

    def body(x: float, y: float) -> Point:
        return tall * x, tall * (hip + y)

    shoulder = (lean, 0.5)
    sides = list(zip(legs, (-1, 1), (0.72, 1.0), strict=True))

    def arm(thigh: float, sign: int, shade: float) -> None:
        x, upper = shoulder[0] + sign * (apart + 0.14 * (1 - side)), -0.8 * thigh
        joint = (x + side * 0.28 * math.sin(upper), shoulder[1] - 0.04 - 0.28 * math.cos(upper))
        lower = upper + elbow
        hand = (joint[0] + side * 0.26 * math.sin(lower), joint[1] - 0.26 * math.cos(lower))
        sleeve = [body(x, shoulder[1] - 0.04), body(*joint), body(*hand)]
        brush.limb(sleeve, 0.095 * tall, _shade(look.top, 0.85 * shade))
        brush.disc(body(*hand), 0.055 * tall, _shade(look.skin, shade))

    arm(legs[0][0], -1, 0.75)
    for (_, knee, ankle), sign, shade in sides:
        leg = [body(sign * apart, 0), body(knee[0] + sign * apart, knee[1])]
        leg.append(body(ankle[0] + sign * apart, ankle[1]))
        brush.limb(leg, 0.14 * tall, _shade(look.trousers, shade))
        toe = (ankle[0] + sign * apart + 0.05 + 0.08 * side, ankle[1] - 0.02)
        brush.limb([leg[-1], body(*toe)], 0.09 * tall, _shade((44, 36, 32), shade))
    broad, hem = 0.13 + 0.08 * (1 - side), -0.28 if look.coat else -0.04
    torso = [(lean - broad, 0.46), (lean - 0.7 * broad, 0.53), (lean + 0.7 * broad, 0.53)]
    torso += [(lean + broad, 0.46), (0.9 * broad, hem), (-0.9 * broad, hem)]
    if look.bag is not None:
        brush.limb([body(lean - broad, 0.4), body(-broad, 0.14)], 0.2 * tall, look.bag)
    brush.polygon([body(*p) for p in torso], look.top)
    arm(legs[1][0], 1, 1.0)
    _head(brush, look, body(1.4 * lean + 0.02 * side, 0.71))


def _head(brush: Brush, look: Look, centre: Point) -> None:
    x, y = centre
    brush.limb([(x, y), (x - 0.02, y - 0.16)], 0.09, _shade(look.skin, 0.85))
    brush.disc((x - 0.03, y + 0.025), 0.125, look.hair)
    brush.disc((x + 0.025, y - 0.025), 0.095, look.skin)


def _polar(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(round(c * factor), 255) for c in colour)
    return red, green, blue


def smooth_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: int
) -> NDArray[np.float32]:
    """Smooth noise of about unit size, (height, width), with `cells` cells across the width."""
    width, height = size
    coarse = rng.normal(size=(max(cells * height // width, 2), cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
