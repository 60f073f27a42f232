"""Which events resemble each other, by the features of their peaks that the cache still has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

NEAR = 8  # neighbours of an event
LEAST_WIDTH = 16  # of a vector that says what is seen; boxes and speeds have fewer numbers
MOST_VALUES = 1 << 26  # of one row, and of all vectors: 512 MiB in double precision
Found = dict[str, Any]


def similar_events(
    folder: ScoreFolder,
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    ranked: Sequence[Mapping[str, Any]],
    cache: Path | None,
    most: int,
) -> Found:
    """The nearest neighbours of the highest events and moments.

    The vector of an event is the mean of the rows that cover its peak frame (of the nearest row,
    where none does), over all positions and crops; the features are those of the first role of the
    model that is in the cache. Vectors are compared by cosine after the mean of all is taken away:
    what all footage of a camera has in common tells nothing.

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

    Returns:
        `video` and `at` (peak frame) of each, `near`: for each the numbers of others with their
        cosine, highest first, and `reason`: why there are none.
    """
    wanted = list(ranked[:most])
    reason, vectors, known = "there is no cache to take their features from", None, wanted
    if cache is not None and wanted:
        contents = {row["video_id"]: row["content_id"] for row in rows}
        vectors, known, reason = _vectors(_stores(run, cache), wanted, contents)
    near = [] if vectors is None else neighbours(vectors, NEAR)
    known = known if near else []
    return {
        "video": [numbers[event["video_id"]] for event in known],
        "at": [event["peak_frame"] for event in known],
        "near": near,
        "reason": reason,
    }


def neighbours(vectors: NDArray[np.float64], most: int) -> list[list[list[float]]]:
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
    found = []
    for at in range(len(unit)):
        cosine = unit @ unit[at]
        cosine[at] = -np.inf
        order = [k for k in np.argsort(-cosine, kind="stable")[:most] if cosine[k] > 0]
        found.append([[int(k), round(float(cosine[k]), 4)] for k in order])
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
