"""The attributes of an object: how odd each is next to normal objects, and how that reads.

Every attribute turns the measures of an object into one number, higher = more unusual, with a
meaning that can be said in words: pixels a frame, degrees, box heights, seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from ..extractors.networks.coco import COCO
from .base import DetectorError, State
from .object_measures import Floats, Measures
from .state import stored_array

Name = Literal["speed", "direction", "place", "size", "class", "stay", "deep", "pose", "reid"]

CLASS_FLOOR = 0.15  # a class that scores less than this is not news
PERSPECTIVE = 1.5  # median heights that differ more between near and far places are perspective
EXPONENT = 50.0  # of a ratio of sizes, so that it stays finite


@dataclass(frozen=True)
class Density:
    """How normal objects are remembered.

    Attributes:
        kind: nearest neighbours, or a mixture of Gaussians.
        k: mean over this many nearest ones.
        context: objects of the nearest places that size and direction are compared with.
        components: of a mixture.
        max_rows: objects that a mixture, or vectors, are kept of, evenly chosen.
        moving: share of the median speed below which an object stands.
        perspective: divide speeds by the height of the box; None: if heights depend on the place.
        seed: of mixtures.
    """

    kind: Literal["knn", "gmm"]
    k: int
    context: int
    components: int
    max_rows: int
    moving: float
    perspective: bool | None
    seed: int = 0


class Attribute(ABC):
    """One attribute. What it learned is a `State`, so that folds of training share no memory.

    Class attributes:
        name: of the attribute.
        reads: what it needs of the measures, beside where objects stand and their sides.
        learns: whether values depend on what was learned.
        smallest: of the scale that values are divided by.
        from_median: evidence begins at the median of training frames, not at their limit.
    """

    name: ClassVar[Name]
    reads: ClassVar[frozenset[str]] = frozenset()
    learns: ClassVar[bool] = True
    smallest: ClassVar[float] = 1e-6
    from_median: ClassVar[bool] = False

    @property
    def is_ratio(self) -> bool:
        """Whether twice the limit is twice as unusual: not of densities, which have no zero."""
        return True

    def __init__(self, density: Density) -> None:
        self.density = density

    @abstractmethod
    def fit(self, normal: Measures) -> State:
        """Remember normal objects, one or more.

        Raises:
            DetectorError: they cannot be learned from.
        """

    @abstractmethod
    def values(self, state: State, measures: Measures) -> Floats:
        """How unusual each object is: (n,)."""

    @abstractmethod
    def in_numbers(
        self, value: float, limit: float, state: State, measures: Measures, i: int
    ) -> str:
        """Say the value of object i and the limit of normal objects."""


def _part(values: Floats | None) -> Floats:
    assert values is not None  # `measure` was asked for it
    return values


class Speed(Attribute):
    """Median speed of the box; one-sided, since slow objects are normal."""

    name: ClassVar[Name] = "speed"
    reads: ClassVar[frozenset[str]] = frozenset({"speed"})
    learns: ClassVar[bool] = False  # the unit has to be the same in all parts of the footage
    smallest: ClassVar[float] = 1e-3
    from_median: ClassVar[bool] = True

    def fit(self, normal: Measures) -> State:
        """Decide whether speeds are divided by heights."""
        decided = self.density.perspective
        if decided is None:
            decided = height_ratio(normal) > PERSPECTIVE
        return {"relative": np.array([decided], np.uint8)}

    def values(self, state: State, measures: Measures) -> Floats:
        """Pixels, or box heights times 100, a frame."""
        return self.speeds(bool(state["relative"][0]), measures)

    @staticmethod
    def speeds(relative: bool, measures: Measures) -> Floats:
        """Pixels a frame, or percent of the box's height."""
        speed = _part(measures.speed)
        return speed / np.maximum(measures.sides[:, 1], 1.0) * 100 if relative else speed

    def in_numbers(
        self, value: float, limit: float, state: State, measures: Measures, i: int
    ) -> str:
        """As `speed 4.1 px/frame, training limit 2.0`."""
        unit = "% of its height/frame" if state["relative"][0] else "px/frame"
        return f"speed {value:.1f} {unit}, training limit {limit:.1f}"


class Stay(Attribute):
    """Seconds for which it has been where it is."""

    name: ClassVar[Name] = "stay"
    reads: ClassVar[frozenset[str]] = frozenset({"stay"})
    learns: ClassVar[bool] = False
    smallest: ClassVar[float] = 0.5

    def fit(self, normal: Measures) -> State:
        """Nothing to learn besides the limit."""
        return {}

    def values(self, state: State, measures: Measures) -> Floats:
        """Seconds."""
        return _part(measures.stay)

    def in_numbers(
        self, value: float, limit: float, state: State, measures: Measures, i: int
    ) -> str:
        """As `stays for 6.0 s, training limit 2.4`."""
        return f"stays for {value:.1f} s, training limit {limit:.1f}"


class ClassNovelty(Attribute):
    """A class that normal footage does not have, or not as surely."""

    name: ClassVar[Name] = "class"
    reads: ClassVar[frozenset[str]] = frozenset({"classes"})

    def fit(self, normal: Measures) -> State:
        """Keep the highest value of each class."""
        return {"ceiling": np.maximum(_part(normal.classes).max(0), CLASS_FLOOR)}

    def _excess(self, state: State, measures: Measures) -> Floats:
        ceiling = state["ceiling"]
        excess = np.maximum(_part(measures.classes) - ceiling, 0.0)
        return np.asarray(excess / np.maximum(1 - ceiling, 1e-3))

    def values(self, state: State, measures: Measures) -> Floats:
        """Largest excess over the training maximum, as a share of what is left up to 1."""
        return np.asarray(self._excess(state, measures).max(1, initial=0.0))

    def in_numbers(
        self, value: float, limit: float, state: State, measures: Measures, i: int
    ) -> str:
        """As `bicycle 0.90, training never above 0.60`."""
        best = self._newest(state, measures, i)
        seen = float(_part(measures.classes)[i, best])
        return f"{COCO[best]} {seen:.2f}, training never above {state['ceiling'][best]:.2f}"

    def kind_of(self, state: State, measures: Measures, i: int) -> str:
        """The class of object i that is most above its training maximum."""
        return COCO[self._newest(state, measures, i)]

    def _newest(self, state: State, measures: Measures, i: int) -> int:
        return int(self._excess(state, measures.take(np.array([i])))[0].argmax())


class Mixture(Attribute):
    """Base of attributes that may also be a mixture of Gaussians."""

    @property
    def is_ratio(self) -> bool:
        """Only distances."""
        return self.density.kind == "knn"

    @abstractmethod
    def points(self, measures: Measures) -> Floats:
        """What a mixture is fitted to: (n, D), of similar scale."""

    @abstractmethod
    def remember(self, normal: Measures) -> State:
        """What neighbours are searched in."""

    @abstractmethod
    def apart(self, state: State, measures: Measures) -> Floats:
        """Distance to neighbours: (n,)."""

    @abstractmethod
    def distance_words(self, value: float, limit: float) -> str:
        """Say a distance."""

    def fit(self, normal: Measures) -> State:
        """Keep normal objects, or a mixture of them."""
        if self.density.kind == "knn":
            return self.remember(normal)
        points = self.points(normal)[_even(len(normal), self.density.max_rows)]
        mean, scale = points.mean(0), np.maximum(points.std(0), 1e-6)
        wide = points.shape[1] > 8  # a full covariance of long vectors cannot be estimated
        mixture = GaussianMixture(
            min(self.density.components, len(points)),
            covariance_type="diag" if wide else "full",
            reg_covar=1e-3,
            random_state=self.density.seed,
        ).fit((points - mean) / scale if len(points) > 1 else np.zeros((2, points.shape[1])))
        factor = mixture.precisions_cholesky_
        return {
            **{"mean": mean, "scale": scale, "weights": mixture.weights_},
            **{"means": mixture.means_, "factor": factor},
        }

    def values(self, state: State, measures: Measures) -> Floats:
        """Distances, or negative log densities."""
        if not len(measures):
            return np.zeros(0)
        if self.density.kind == "knn":
            return self.apart(state, measures)
        mixture = GaussianMixture(
            len(state["weights"]), covariance_type="full" if state["factor"].ndim == 3 else "diag"
        )
        mixture.weights_, mixture.means_ = state["weights"], state["means"]
        mixture.precisions_cholesky_ = state["factor"]
        points = (self.points(measures) - state["mean"]) / state["scale"]
        return np.asarray(-mixture.score_samples(points), np.float64)

    def in_numbers(
        self, value: float, limit: float, state: State, measures: Measures, i: int
    ) -> str:
        """The distance, or the density."""
        if self.density.kind == "knn":
            return self.distance_words(value, limit)
        return f"{self.name}: -log density {value:.1f}, training limit {limit:.1f}"


class Place(Mixture):
    """Where the foot of the box stands."""

    name: ClassVar[Name] = "place"
    smallest: ClassVar[float] = 0.05

    def points(self, measures: Measures) -> Floats:
        """The foot."""
        return measures.foot

    def remember(self, normal: Measures) -> State:
        """All feet."""
        return {"foot": normal.foot}

    def apart(self, state: State, measures: Measures) -> Floats:
        """Distance to the nearest places, in heights of the box."""
        distance, _ = _nearest_places(state["foot"], measures.foot, self.density.k)
        return np.asarray(distance.mean(1) / np.maximum(measures.sides[:, 1], 1.0))

    def distance_words(self, value: float, limit: float) -> str:
        """In heights of the box."""
        return f"place {value:.2f} box heights from any used, training limit {limit:.2f}"


class Size(Mixture):
    """Width and height, next to objects of nearby places."""

    name: ClassVar[Name] = "size"
    smallest: ClassVar[float] = 0.05

    def points(self, measures: Measures) -> Floats:
        """Foot and log sides."""
        return np.concatenate([measures.foot, _log(measures.sides)], axis=1)

    def remember(self, normal: Measures) -> State:
        """Feet and log sides."""
        return {"foot": normal.foot, "sides": _log(normal.sides)}

    def apart(self, state: State, measures: Measures) -> Floats:
        """Larger log ratio of a side to that of the most similar objects of nearby places."""
        _, near = _nearest_places(state["foot"], measures.foot, self.density.context)
        ratio = np.abs(state["sides"][near] - _log(measures.sides)[:, None]).max(2)
        return _smallest_mean(ratio, self.density.k)

    def distance_words(self, value: float, limit: float) -> str:
        """As a factor."""
        factor, most = np.exp(np.minimum([value, limit], EXPONENT))
        return f"size off by a factor of {factor:.2f}, training limit {most:.2f}"


class Direction(Mixture):
    """Where an object moves to, next to what moves at nearby places; standing ones have none."""

    name: ClassVar[Name] = "direction"
    reads: ClassVar[frozenset[str]] = frozenset({"speed", "heading"})
    smallest: ClassVar[float] = 1.0

    def points(self, measures: Measures) -> Floats:
        """Foot and heading."""
        return np.concatenate([measures.foot, _part(measures.heading)], axis=1)

    def remember(self, normal: Measures) -> State:
        """Feet and headings."""
        return {"foot": normal.foot, "heading": _part(normal.heading)}

    def fit(self, normal: Measures) -> State:
        """Keep what moves; speeds are compared a box height, since far objects seem slow."""
        speed = Speed.speeds(True, normal)
        slowest = max(self.density.moving * float(np.median(speed)), 1e-6)
        moves = speed >= slowest
        if not moves.any():
            raise DetectorError(
                "no object of the training videos moves: leave direction out of the attributes"
            )
        moving = normal.take(moves)
        state = super().fit(moving)
        # A log density may have any sign, so that of the most usual direction stands for none.
        calm = 0.0 if self.density.kind == "knn" else float(super().values(state, moving).min())
        return {"slowest": np.array([slowest]), "calm": np.array([calm]), **state}

    def values(self, state: State, measures: Measures) -> Floats:
        """Of standing objects the smallest value there is: they are never odd."""
        moves = Speed.speeds(True, measures) >= state["slowest"][0]
        moves &= np.any(_part(measures.heading) != 0, axis=1)
        found = np.full(len(measures), float(state["calm"][0]))
        found[moves] = super().values(state, measures.take(moves))
        return found

    def apart(self, state: State, measures: Measures) -> Floats:
        """Degrees to the most similar directions of nearby places."""
        _, near = _nearest_places(state["foot"], measures.foot, self.density.context)
        cosine = (state["heading"][near] * _part(measures.heading)[:, None]).sum(2)
        return _smallest_mean(np.degrees(np.arccos(np.clip(cosine, -1, 1))), self.density.k)

    def distance_words(self, value: float, limit: float) -> str:
        """In degrees."""
        return f"direction {value:.0f} degrees off, training limit {limit:.0f}"


class Vector(Mixture):
    """Base of attributes that are a long vector, compared by its direction.

    Class attributes:
        word: what it is, for people.
    """

    word: ClassVar[str]

    def vectors(self, measures: Measures) -> Floats:
        """(n, D) as stored."""
        return _part(vars(measures)[self.name])

    def points(self, measures: Measures) -> Floats:
        """Of length 1."""
        vectors = self.vectors(measures)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(length, 1e-12))

    def remember(self, normal: Measures) -> State:
        """Some of them, in float32."""
        chosen = _even(len(normal), self.density.max_rows)
        return {"bank": self.points(normal.take(chosen)).astype(np.float32)}

    def apart(self, state: State, measures: Measures) -> Floats:
        """Euclidean distance to the nearest vectors."""
        bank, points = state["bank"].astype(np.float64), self.points(measures)
        if bank.shape[1] != points.shape[1]:
            raise DetectorError(
                f"vectors of {self.name} have {points.shape[1]} numbers, the model has "
                f"{bank.shape[1]}: score features of the same extractor"
            )
        k = min(self.density.k, len(bank))
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank)
        return np.asarray(search.kneighbors(points)[0].mean(1), np.float64)

    def distance_words(self, value: float, limit: float) -> str:
        """Without a unit."""
        return f"{self.word} {value:.2f} from any seen, training limit {limit:.2f}"


class Deep(Vector):
    """The appearance, as a classifier sees it."""

    name: ClassVar[Name] = "deep"
    reads: ClassVar[frozenset[str]] = frozenset({"deep"})
    word: ClassVar[str] = "appearance"
    smallest: ClassVar[float] = 0.01


class Pose(Vector):
    """The pose."""

    name: ClassVar[Name] = "pose"
    reads: ClassVar[frozenset[str]] = frozenset({"pose"})
    word: ClassVar[str] = "pose"
    smallest: ClassVar[float] = 0.01


class Reid(Vector):
    """Who it is, as a network that tells persons apart sees it."""

    name: ClassVar[Name] = "reid"
    reads: ClassVar[frozenset[str]] = frozenset({"reid"})
    word: ClassVar[str] = "looks"
    smallest: ClassVar[float] = 0.01


KINDS: tuple[type[Attribute], ...] = (
    *(Speed, Direction, Place, Size, ClassNovelty, Stay, Deep, Pose, Reid),
)
ATTRIBUTES: dict[Name, type[Attribute]] = {kind.name: kind for kind in KINDS}


def height_ratio(normal: Measures) -> float:
    """Ratio of the median heights of near and far objects, the outer thirds by their feet.

    Not the spread of all heights: a detector of small objects also returns parts of people.
    """
    feet, heights = normal.foot[:, 1], normal.sides[:, 1]
    far, near = np.quantile(feet, [1 / 3, 2 / 3])
    medians = [float(np.median(heights[part])) for part in (feet <= far, feet >= near)]
    return max(medians) / max(min(medians), 1.0)


_SHAPES: dict[str, tuple[int | None, ...]] = {
    "relative": (1,),
    **dict.fromkeys(("foot", "sides", "heading"), (None, 2)),
    **dict.fromkeys(("bank", "means"), (None, None)),
    **dict.fromkeys(("ceiling", "mean", "scale", "weights"), (None,)),
    **dict.fromkeys(("slowest", "calm"), (1,)),
}


def checked_learned(state: State) -> State:
    """What an attribute learned, as a file has it.

    Raises:
        DetectorError: an array is none that an attribute learns, or not of its type or shape.
    """
    for name, values in state.items():
        shape = _SHAPES.get(name)
        if name == "factor":  # of a mixture: full or diagonal
            shape = (None,) * (3 if values.ndim == 3 else 2)
        if shape is None:
            raise DetectorError(f"no attribute learns {name!r}")
        stored_array(state, name, "uint8" if name == "relative" else ("float32", "float64"), shape)
    if len({len(state[name]) for name in ("foot", "sides", "heading") if name in state}) > 1:
        raise DetectorError("feet, sides and headings are of different objects")
    return state


def _log(sides: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(sides, 1.0)))


def _even(rows: int, most: int) -> NDArray[np.int64]:
    """Numbers of rows to keep, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))


def _nearest_places(bank: Floats, feet: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Distances to the k nearest places, and their numbers: (n, k) both; k is at most all."""
    wanted = list(range(1, min(k, len(bank)) + 1))
    distance, near = cKDTree(bank).query(feet, k=wanted)
    return np.asarray(distance, np.float64), np.asarray(near, np.int64)


def _smallest_mean(values: Floats, k: int) -> Floats:
    """Mean of the k smallest values: (n, m) -> (n,)."""
    k = min(k, values.shape[1])
    return np.asarray(np.partition(values, k - 1, axis=1)[:, :k].mean(1))
