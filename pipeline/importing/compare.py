"""Compare two feature sets video by video, and say in words what differs.

For features that others have extracted: are they of the same network, shifted, in another order of
crops, normalised? Both sides may be feature sets of the cache or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest
from ..bags import import_name
from ..store.feature_sets import list_stores
from ..store.feature_store import FeatureStore
from ..store.holdings import whole_videos
from ..store.probe_table import Probed
from .names import match_files

MAX_ROWS = 2048  # of a video that are compared
SHIFTS = (0, -1, 1, -2, 2, -3, 3)  # rows; of equally good ones the first counts
SAME = 0.9999  # cosine: equal except for rounding
CLOSE = 0.99  # cosine: another decoder, resize or precision
GAIN = 0.5  # a shift or an order counts if it reduces 1 - cosine by this share
UNIT = 0.01  # rows are normalised if all norms are this near to 1 (float16 rounds by 0.001)
SCALED = 0.02  # smaller differences of scale are not worth a line
FLIPS_SWAPPED = (5, 6, 7, 8, 9, 0, 1, 2, 3, 4)

Reader = Callable[[], NDArray[Any]]


class CompareError(VadpipeError, ValueError):
    """There is nothing to compare; the message says what to do next."""


@dataclass(frozen=True)
class VideoDifference:
    """One video in both feature sets.

    Attributes:
        video_id: as in the manifest; its content id without one.
        role: "snippet", "patch/2x3", ...
        shape_a: (rows, ...) of A.
        shape_b: of B.
        dtype_a: of A.
        dtype_b: of B.
        equal: bit by bit.
        cosine_mean: over rows and positions as they stand; None where widths differ.
        cosine_min: the lowest of them; None where widths differ.
        shift: row i of A is row i + shift of B, by the best mean cosine.
        order: position i of A is position order[i] of B; None as they stand.
        best_mean: mean cosine with that shift and order.
        best_min: lowest cosine with that shift and order.
        unrelated: mean cosine of A with another video of B, where there is one: the level of
            features that have nothing in common.
        norm_a: mean L2 norm of the rows of A.
        norm_b: of B.
        unit_a: True if all rows of A have norm 1.
        unit_b: of B.
    """

    video_id: str
    role: str
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    dtype_a: str
    dtype_b: str
    equal: bool = False
    cosine_mean: float | None = None
    cosine_min: float | None = None
    shift: int = 0
    order: tuple[int, ...] | None = None
    best_mean: float | None = None
    best_min: float | None = None
    unrelated: float | None = None
    norm_a: float = 0.0
    norm_b: float = 0.0
    unit_a: bool = False
    unit_b: bool = False


@dataclass(frozen=True)
class Compared:
    """All videos that both sides have.

    Attributes:
        a: name of A.
        b: name of B.
        videos: one row a video and role.
        only_a: how many videos (and roles) B lacks.
        only_b: how many A lacks.
        summary: role -> what differs, in words, the most important first.
    """

    a: str
    b: str
    videos: list[VideoDifference]
    only_a: int
    only_b: int
    summary: dict[str, list[str]]

    def lines(self) -> list[str]:
        """What the command prints."""
        lines = [f"A = {self.a}", f"B = {self.b}"]
        for v in self.videos:
            said = "other widths"
            if v.cosine_mean is not None and v.best_mean is not None:
                said = f"cosine {v.cosine_mean:.4f} (lowest {v.cosine_min:.4f})"
                if v.shift or v.order:
                    said += f", at best {v.best_mean:.4f} with B shifted by {v.shift}"
            lines.append(
                f"{v.video_id}\t{v.role}\t{v.shape_a} {v.dtype_a}\t{v.shape_b} {v.dtype_b}"
            )
            lines[-1] += f"\t{said}"
        for role, sentences in self.summary.items():
            lines += [f"{role}: {sentence}" for sentence in sentences]
        if self.only_a or self.only_b:
            lines.append(f"not compared: {self.only_a} only in A, {self.only_b} only in B")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Side:
    """(content_id, role) -> how to read (rows, ...), and the names of the videos."""

    name: str
    arrays: Mapping[tuple[str, str], Reader]


def compare_features(
    cache: Path,
    a: str,
    b: str,
    *,
    manifest: Manifest | None = None,
    probed: Probed | None = None,
) -> Compared:
    """Compare two feature sets on the videos and roles that both have.

    At most 2,048 rows of a video are read.

    Args:
        cache:
            Root of the cache.
        a:
            A feature set of the cache (its name, as much of its beginning as makes it unique, or
            the name that it was imported under), or a file or folder as for `import_features`.
        b:
            As `a`.
        manifest:
            Names the videos; needed for files.
        probed:
            Their files; needed with a manifest.

    Raises:
        CompareError: a name is unknown or ambiguous, files without a manifest, or no video is in
            both.
        FeatureFileError: files that are no features.
    """
    sides = [_open_side(cache, name, manifest, probed) for name in (a, b)]
    one, two = sides
    both = [key for key in one.arrays if key in two.arrays]
    if not both:
        roles = [sorted({role for _, role in side.arrays}) for side in sides]
        raise CompareError(
            f"no video is in both: {one.name} has {len(one.arrays)} ({', '.join(roles[0])}), "
            f"{two.name} {len(two.arrays)} ({', '.join(roles[1])})"
        )
    ids = {row.content_id: v for v, row in probed.rows.items()} if probed is not None else {}
    place = {content: i for i, content in enumerate(ids)}
    both.sort(key=lambda key: place.get(key[0], len(place)))  # in the order of the manifest
    found: list[VideoDifference] = []
    previous: dict[str, NDArray[Any]] = {}
    for content, role in both:
        x, y = one.arrays[content, role](), two.arrays[content, role]()
        found.append(difference(ids.get(content, content), role, x, y, previous.get(role)))
        previous[role] = y
    by_role: dict[str, list[VideoDifference]] = {}
    for video in found:
        by_role.setdefault(video.role, []).append(video)
    summary = {role: summarise(videos) for role, videos in by_role.items()}
    only = [len(side.arrays) - len(both) for side in sides]
    return Compared(one.name, two.name, found, only[0], only[1], summary)


def difference(
    video_id: str,
    role: str,
    a: NDArray[Any],
    b: NDArray[Any],
    other: NDArray[Any] | None = None,
) -> VideoDifference:
    """Compare the features of one video.

    Args:
        video_id:
            For the result.
        role:
            For the result.
        a:
            (n, D) or (n, positions, D).
        b:
            (m, D) or (m, positions, D). Other numbers of positions are compared by their means.
        other:
            B's features of another video.
    """
    shapes = (a.shape, b.shape, str(a.dtype), str(b.dtype))
    x, y = _positions(a), _positions(b)
    if x.shape[2] != y.shape[2]:
        return VideoDifference(video_id, role, *shapes)
    norm_a, unit_a = _norms(x)
    norm_b, unit_b = _norms(y)
    if x.shape[1] != y.shape[1]:
        x, y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    plain = _cosines(x, y, 0)
    mean = float(plain.mean())
    # A mean over positions does not depend on their order, so the shift is found first.
    flat_x, flat_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    possible = [
        s for s in SHIFTS if _overlap(len(x), len(y), s)[0] < _overlap(len(x), len(y), s)[1]
    ]
    by_shift = {s: float(_cosines(flat_x, flat_y, s).mean()) for s in possible}
    shift = max(possible, key=lambda s: by_shift[s])
    if not _gains(by_shift[0], by_shift[shift]):
        shift = 0
    order = _best_order(x, y, shift)
    best = plain if order is None and shift == 0 else _cosines(x, y, shift, order)
    unrelated = None
    if other is not None and other.shape[-1] == x.shape[2]:
        z = _positions(other).mean(axis=1, keepdims=True)
        unrelated = float(np.mean(_unit(flat_x)[:, 0] @ _unit(z)[:, 0].T))
    return VideoDifference(
        video_id,
        role,
        *shapes,
        equal=a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b)),
        cosine_mean=mean,
        cosine_min=float(plain.min()),
        shift=shift,
        order=order,
        best_mean=float(best.mean()),
        best_min=float(best.min()),
        unrelated=unrelated,
        norm_a=norm_a,
        norm_b=norm_b,
        unit_a=unit_a,
        unit_b=unit_b,
    )


def summarise(videos: Sequence[VideoDifference]) -> list[str]:
    """What differs between two feature sets, in words.

    Args:
        videos:
            Of one role, at least one.
    """
    n = len(videos)
    if all(v.equal for v in videos):
        return [f"equal bit by bit in {counted(n, 'video')}"]
    usable = [v for v in videos if v.best_mean is not None]
    said: list[str] = []
    widths = Counter((v.shape_a[-1], v.shape_b[-1]) for v in videos if v.best_mean is None)
    said += [
        f"different network: {one} numbers a row in A, {two} in B ({k} of {n} videos)"
        for (one, two), k in widths.most_common()
    ]
    if usable:
        said.append(_network(usable))
        said += _shifts(usable) + _orders(usable) + _scales(usable) + _sizes(usable)
    return said


def _network(videos: Sequence[VideoDifference]) -> str:
    cosine = float(np.mean([v.best_mean for v in videos if v.best_mean is not None]))
    others = [v.unrelated for v in videos if v.unrelated is not None]
    chance = f" (unrelated videos: {np.mean(others):.2f})" if others else ""
    if cosine >= SAME:
        return f"same features up to rounding: cosine {cosine:.6f}"
    if cosine >= CLOSE:
        return (
            f"close: cosine {cosine:.4f}{chance}: most likely the same network, with another "
            "decoder, resize or precision"
        )
    return f"different network or preprocessing: cosine {round(cosine, 2) + 0.0:.2f}{chance}"


def _shifts(videos: Sequence[VideoDifference]) -> list[str]:
    found = Counter(v.shift for v in videos)
    return [
        f"shifted by {counted(abs(s), 'row')} in {k} of {len(videos)} videos: row i "
        f"of A is row i {'+' if s > 0 else '-'} {abs(s)} of B"
        for s, k in found.most_common()
        if s
    ]


def _orders(videos: Sequence[VideoDifference]) -> list[str]:
    lines = []
    for order, k in Counter(v.order for v in videos).most_common():
        if order is None:
            continue
        kind = "patches" if videos[0].role.startswith("patch") else "crops"
        if order == FLIPS_SWAPPED and kind == "crops":
            what = "crops in other order: the mirrored half comes first on one side"
        else:
            what = f"{kind} in other order: those of A are {', '.join(map(str, order))} of B"
        lines.append(f"{what} ({k} of {len(videos)} videos)")
    return lines


def _scales(videos: Sequence[VideoDifference]) -> list[str]:
    unit_a, unit_b = (all(getattr(v, f"unit_{side}") for v in videos) for side in "ab")
    if unit_a and unit_b:
        return []
    if unit_a or unit_b:
        return [f"{'A' if unit_a else 'B'} is L2-normalised, {'B' if unit_a else 'A'} is not"]
    alike = [v for v in videos if v.best_mean is not None and v.best_mean >= CLOSE]
    ratios = [v.norm_b / v.norm_a for v in alike if v.norm_a > 0]
    ratio = float(np.median(ratios)) if ratios else 1.0
    return [] if abs(ratio - 1) < SCALED else [f"other scale: B is {ratio:.3g} times A"]


def _sizes(videos: Sequence[VideoDifference]) -> list[str]:
    lines = []
    rows = Counter(v.shape_b[0] - v.shape_a[0] for v in videos)
    others = sum(k for difference, k in rows.items() if difference)
    if others:
        usual = max((d for d in rows if d), key=lambda d: rows[d])
        lines.append(
            f"other numbers of rows in {others} of {len(videos)} videos; most often B has "
            f"{usual:+d}"
        )
    tails = Counter((v.shape_a[1:-1], v.shape_b[1:-1]) for v in videos)
    lines += [
        f"A has {one or 'no'} crops or patches, B {two or 'none'}: means are compared "
        f"({counted(k, 'video')})"
        for (one, two), k in tails.items()
        if one != two
    ]
    types = Counter((v.dtype_a, v.dtype_b) for v in videos)
    lines += [
        f"A is {one}, B is {two} ({counted(k, 'video')})"
        for (one, two), k in types.items()
        if one != two
    ]
    return lines


# ------------------------------------------------------------------------------------ arithmetic


def _positions(values: NDArray[Any]) -> NDArray[np.float32]:
    """(n, D) or (n, P, D) -> (n, P, D) float32."""
    x = np.asarray(values[:MAX_ROWS], np.float32)
    return x[:, None] if x.ndim == 2 else x


def _norms(x: NDArray[np.float32]) -> tuple[float, bool]:
    norms = np.linalg.norm(x, axis=-1)
    return float(norms.mean()), bool((np.abs(norms - 1) < UNIT).all())


def _unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    values = x.astype(np.float64)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.where(norms > 0, norms, 1), np.float64)


def _overlap(n: int, m: int, shift: int) -> tuple[int, int]:
    """Rows [start, stop) of A that have a row `+ shift` in B."""
    return max(0, -shift), min(n, m - shift)


def _cosines(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    shift: int,
    order: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """(rows, positions) cosines; two zero rows are equal."""
    start, stop = _overlap(len(x), len(y), shift)
    one, two = x[start:stop], y[start + shift : stop + shift]
    if order is not None:
        two = two[:, list(order)]
    cosines = (_unit(one) * _unit(two)).sum(axis=-1)
    both_zero = ~one.any(axis=-1) & ~two.any(axis=-1)
    return np.asarray(np.where(both_zero, 1.0, cosines), np.float64)


def _gains(before: float, after: float) -> bool:
    """True if a better cosine is better by more than chance."""
    return before < SAME and 1 - after < GAIN * (1 - before)


def _best_order(
    x: NDArray[np.float32], y: NDArray[np.float32], shift: int
) -> tuple[int, ...] | None:
    """The order of B's positions that fits A best; None as they stand."""
    start, stop = _overlap(len(x), len(y), shift)
    one, two = _unit(x[start:stop]), _unit(y[start + shift : stop + shift])
    table = np.einsum("npd,nqd->pq", one, two, optimize=True) / len(one)
    _, chosen = linear_sum_assignment(-table)
    order = tuple(int(c) for c in chosen)
    if order == tuple(range(len(order))):
        return None
    before, after = float(np.trace(table)), float(table[np.arange(len(order)), chosen].sum())
    return order if _gains(before / len(order), after / len(order)) else None


# ------------------------------------------------------------------------------------ sides


def _open_side(cache: Path, name: str, manifest: Manifest | None, probed: Probed | None) -> _Side:
    stores = list_stores(cache)
    found = [s for s in stores if import_name(s) == name]  # one import may be several sets
    found = found or [s for s in stores if s.name.startswith(name)]
    listed = ", ".join(s.name for s in found or stores) or "none"
    if found and Path(name).exists():
        raise CompareError(f"{name!r} is a feature set and a path: write ./{name} for the path")
    if found:
        if len(found) > 1 and import_name(found[0]) != name:
            raise CompareError(f"{name!r} may be any of {listed}: write more of the name")
        arrays: dict[tuple[str, str], Reader] = {}
        for store in found:
            own = _stored(store)
            if not own.keys().isdisjoint(arrays):
                raise CompareError(
                    f"{name!r} is several sets of the same videos: name one: {listed}"
                )
            arrays |= own
        return _Side(" + ".join(s.name for s in found), arrays)
    if not Path(name).exists():
        raise CompareError(f"{name!r} is neither a path nor a feature set of {cache}: {listed}")
    if manifest is None or probed is None:
        raise CompareError(f"{name} are files: name their videos with --manifest MANIFEST")
    matched = match_files(manifest, probed, [Path(name)])
    if not matched.found:
        why = f": {matched.failures[0].message}" if matched.failures else ""
        raise CompareError(f"{name}: no file fits a video of {manifest.dataset}{why}")
    return _Side(name, {(f.row.content_id, f.role): f.read for f in matched.found})


def _stored(store: FeatureStore) -> dict[tuple[str, str], Reader]:
    """The arrays with a role of all whole videos of a feature set."""
    contents = {path.parent.name for path in store.scan()}
    whole = sorted(whole_videos(store, contents))
    names: dict[str, str] = {}
    if whole:
        names = {spec["role"]: spec["name"] for spec in store.array_specs() if spec["role"]}

    def read(content: str, name: str) -> NDArray[Any]:
        return store.read(content).arrays[name][:MAX_ROWS]

    return {
        (content, role): partial(read, content, name)
        for content in whole
        for role, name in names.items()
    }
