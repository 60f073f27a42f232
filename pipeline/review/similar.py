"""Which events resemble each other: by their objects, by features of the cache, or by pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted
from ..scores.folder import ScoreFolder
from ..store.errors import StoreError
from ..store.feature_store import FeatureStore
from ..store.shard import UNREADABLE
from .object_vectors import object_vectors
from .picture_vectors import WORDS as PICTURES
from .picture_vectors import picture_vectors

NEAR = 8  # neighbours of an event
NAMED = 5  # videos in a message
LEAST_WIDTH = 16  # of a vector that says what is seen; boxes and speeds have fewer numbers
MOST_VALUES = 1 << 26  # of one row, and of all vectors: 512 MiB in double precision
BLOCK = 256  # rows of the matrix of likenesses that are in memory at once
Found = dict[str, Any]
Near = list[list[list[float]]]  # of each event: number and likeness of others


def similar_events(
    folder: ScoreFolder,
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    ranked: Sequence[Mapping[str, Any]],
    cache: Path | None,
    most: int,
    pictures: Sequence[Path | None] = (),
) -> Found:
    """The nearest neighbours of the highest events and moments.

    They are compared by the first of these that two of them have. (1) The object of the peak, where
    the score folder has boxes: see `object_vectors`. (2) Features: the vector of an event is the
    mean of the rows that cover its peak frame (of the nearest row, where none does), over all
    positions and crops; they are those of the first role of the model that is in the cache. (3)
    Their pictures: see `picture_vectors`.

    Args:
        folder:
            The score folder.
        run:
            Its `run.json`.
        rows:
            Its table of videos.
        numbers:
            video_id -> its number in the page.
        ranked:
            Events and moments, highest peak first.
        cache:
            Root of the cache; None where it is not known.
        most:
            How many of them are compared.
        pictures:
            Of the first of them; None where there is none.

    Returns:
        `video` and `at` (peak frame) of each, `near`: for each the numbers of others with their
        likeness, highest first; `by`: what is compared, in words, "" without any; `reason`: why an
        event is not among them.
    """
    wanted = list(ranked[:most])
    videos = {row["video_id"]: row for row in rows}
    vectors, chosen, words, damaged = object_vectors(folder, videos, wanted)
    near, known, by, reason = [], [wanted[k] for k in chosen], "", ""
    if len(known) > 1 and words:
        near = closest(vectors, NEAR)
        by = ", ".join(words)
        reason = "No box was found in it, or it is beyond the number of those that are compared."
    elif wanted:
        reason = "there is no cache to take their features from"
        features = None
        if cache is not None:
            contents = {video: row["content_id"] for video, row in videos.items()}
            features, known, reason = _vectors(_stores(run, cache), wanted, contents)
        if features is not None:
            near = neighbours(features, NEAR)
            by = "what the detector sees (features in the cache)"
        else:
            places = [str(videos[e["video_id"]].get("scene") or e["video_id"]) for e in wanted]
            shown = [*pictures, *[None] * len(wanted)][: len(wanted)]
            vectors, chosen = picture_vectors(shown, places)
            known = [wanted[k] for k in chosen]
            if len(known) > 1 and vectors.any():  # else no camera has two
                near, by = neighbours(vectors, NEAR), PICTURES
                reason = "It has no picture to compare by."
    known = known if near else []
    return {
        "video": [numbers[event["video_id"]] for event in known],
        "at": [event["peak_frame"] for event in known],
        "near": near,
        "by": by,
        "reason": _with_damaged(reason, damaged),
    }


def _with_damaged(reason: str, damaged: Sequence[str]) -> str:
    """Why an event is not compared, with the videos whose files cannot be read."""
    if not damaged:
        return reason
    some = ", ".join(damaged[:NAMED]) + (", ..." if len(damaged) > NAMED else "")
    said = f"Boxes or scores of {counted(len(damaged), 'video')} cannot be read ({some})."
    return f"{reason.rstrip('.')}. {said}" if reason else said


def neighbours(vectors: NDArray[np.float64], most: int) -> Near:
    """For each row the other rows with the highest cosine, after the mean of all is taken away.

    Only cosines above zero count: what points the other way is not alike.

    Args:
        vectors:
            (n, D).
        most:
            Neighbours of a row.

    Returns:
        For each row: [number, cosine] of others, highest first.
    """
    centred = vectors - vectors.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    return _highest(len(unit), most, lambda some: unit[some] @ unit.T)


def closest(vectors: NDArray[np.float64], most: int) -> Near:
    """For each row the other rows at the least distance.

    The likeness is 1 at no distance and 0 at the root mean square distance of all pairs; only what
    is above zero counts.

    Args:
        vectors:
            (n, D), not all equal.
        most:
            Neighbours of a row.

    Returns:
        For each row: [number, likeness] of others, highest first.
    """
    squares = (vectors**2).sum(axis=1)
    n = len(vectors)
    usual = 2 * (n * squares.sum() - (vectors.sum(axis=0) ** 2).sum()) / (n * (n - 1))

    def likeness(some: slice) -> NDArray[np.float64]:
        apart = squares[some, None] + squares - 2 * vectors[some] @ vectors.T
        return np.asarray(1 - np.maximum(apart, 0.0) / usual)

    return _highest(n, most, likeness)


def _highest(n: int, most: int, likeness: Callable[[slice], NDArray[np.float64]]) -> Near:
    """The `most` highest of each row of an (n, n) matrix that is made block by block."""
    found: Near = []
    for first in range(0, n, BLOCK):
        some = slice(first, min(first + BLOCK, n))
        values = likeness(some)
        own = np.arange(some.start, some.stop)
        values[own - first, own] = -np.inf
        order = np.argsort(-values, axis=1, kind="stable")[:, :most]
        for row, near in zip(values, order.tolist(), strict=True):
            found.append([[k, round(float(row[k]), 4)] for k in near if row[k] > 0])
    return found


def _stores(run: Mapping[str, Any], cache: Path) -> list[tuple[FeatureStore, Mapping[str, Any]]]:
    """The arrays that the model reads and that are vectors, of its feature sets in the cache."""
    recipes = (run.get("model") or {}).get("features") or {}
    found: list[tuple[FeatureStore, Mapping[str, Any]]] = []
    for role, recipe in recipes.items() if isinstance(recipes, dict) else ():
        try:
            store = FeatureStore(cache, recipe)
            specs = store.array_specs() if store.root.is_dir() else []
            own = [s for s in specs if s["role"] == role or str(s["role"]).startswith(f"{role}/")]
            found += [(store, s) for s in own if s["shape"] and s["shape"][-1] >= LEAST_WIDTH]
        except (VadpipeError, LookupError, TypeError, ValueError, AttributeError):
            continue  # run.json of a fusion, or changed by hand: nothing is compared with it
    return found


def _vectors(
    stores: Sequence[tuple[FeatureStore, Mapping[str, Any]]],
    wanted: Sequence[Mapping[str, Any]],
    contents: Mapping[str, str],
) -> tuple[NDArray[np.float64] | None, list[Mapping[str, Any]], str]:
    """(n, D) of the events whose features are there, these events, and why others have none."""
    if not stores:
        return (
            None,
            [],
            ("the cache holds no features of this model, or none that are vectors to compare by"),
        )
    found: list[NDArray[np.float64]] = []
    known: list[Mapping[str, Any]] = []
    store, spec, missing = *stores[0], 0
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for event in wanted:
        by_video.setdefault(event["video_id"], []).append(event)
    for video_id, events in by_video.items():
        try:
            features = store.read(contents[video_id])
            times = features.times[spec["dims"][0]]
            array = features.arrays[spec["name"]]
            some = [_vector(array, times, event["peak_frame"]) for event in events]
        except (StoreError, *UNREADABLE):
            missing += 1
            continue
        found += some
        known += events
    width = found[0].shape if found else ()
    if len(found) < 2 or any(vector.shape != width for vector in found):
        return None, [], f"{store.name} holds the features of too few of them"
    order = {id(event): k for k, event in enumerate(wanted)}
    ranked = sorted(range(len(known)), key=lambda k: order[id(known[k])])
    vectors = np.stack([found[k] for k in ranked])
    reason = f"{store.name} lacks the features of {counted(missing, 'video')}" if missing else ""
    return vectors, [known[k] for k in ranked], reason


def _vector(array: Any, times: Any, frame: int) -> NDArray[np.float64]:
    """The mean of the rows that cover a frame, over all but the last axis: (D,)."""
    first, stop = np.asarray(times.frame_start), np.asarray(times.frame_stop)
    if not len(first):
        raise StoreError("the video has no rows")
    distance = np.maximum(np.maximum(first - frame, frame - stop + 1), 0)
    at = np.flatnonzero(distance == distance.min())
    values = np.asarray(array[int(at[0]) : int(at[-1]) + 1], np.float64)[at - at[0]]
    if values.ndim < 2 or not 0 < values.size <= MOST_VALUES or not np.isfinite(values).all():
        raise StoreError("its rows are no vectors")
    return np.asarray(values.reshape(-1, values.shape[-1]).mean(axis=0))
