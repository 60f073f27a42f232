"""What a cache, its models and score folders hold, as plain values that can be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.store.feature_sets import list_stores
from vadpipe.pipeline.store.holdings import whole_videos
from vadpipe.pipeline.store.keys import canonical_json
from vadpipe.pipeline.store.sharded_array import ShardedArray


def describe_stores(cache: Path) -> dict[str, Any]:
    """Feature sets by name: key, recipe, and every array of every video as it is read."""
    found: dict[str, Any] = {}
    for store in list_stores(cache):
        contents = sorted(set(store.index()["content_id"].to_pylist()))
        found[store.name] = {
            "key": store.key,
            "recipe_sha256": _sha256(canonical_json(store.recipe).encode()),
            "videos": {content: _describe_video(store, content) for content in contents},
        }
    return found


def _describe_video(store: Any, content_id: str) -> dict[str, Any]:
    features = store.read(content_id)
    arrays: dict[str, Any] = {}
    for name, array in features.arrays.items():
        assert isinstance(array, ShardedArray), f"{name}: tables are not described here"
        arrays[name] = describe_array(array[0 : len(array)])
    return {
        "arrays": arrays,
        "frame_start": features.frame_start.tolist(),
        "frame_stop": features.frame_stop.tolist(),
        "n_frames": features.n_frames,
        "fps": features.fps,
        "flags": list(features.flags),
        "damaged": features.damaged,
        "spans": [[start, stop] for start, stop, _ in store.shards(content_id)],
        "complete": bool(whole_videos(store, [content_id])),
    }


def read_arrays(cache: Path, name: str) -> dict[tuple[str, str], NDArray[Any]]:
    """All arrays of a feature set, by content id and name, in memory."""
    (store,) = (store for store in list_stores(cache) if store.name == name)
    found: dict[Any, Any] = {}
    for content in sorted(set(store.index()["content_id"].to_pylist())):
        features = store.read(content)
        found |= {(content, each): array[0 : len(array)] for each, array in features.arrays.items()}
        found[content, "frame_start"] = features.frame_start
        found[content, "frame_stop"] = features.frame_stop
    return found


def describe_models(cache: Path) -> dict[str, Any]:
    """Models by the name of their folder: key, and a hash of every learned array."""
    found: dict[Any, Any] = {}
    for config in sorted((cache / "models").glob("*/config.json")):
        detector, card = ModelFolder(config.parent).load()
        state = {name: describe_array(values) for name, values in detector.state_dict().items()}
        found[config.parent.name] = {
            "key": card["key"],
            "detector": card["detector"],
            "state": state,
            "calibration_sha256": _sha256(canonical_json(card["calibration"]).encode()),
        }
    return found


def describe_scores(out: Path) -> dict[str, Any]:
    """A score folder without paths, times and versions; floats are as exact as JSON is."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    parts = sorted((out / "scores").glob("*.parquet"))
    metrics = out / "metrics.json"
    return {
        "parts": {part.stem: pq.read_table(part).to_pydict() for part in parts},
        "scores": pq.read_table(out / "scores.parquet").to_pydict(),
        "events": pq.read_table(out / "events.parquet").to_pylist(),
        "videos": _without_paths(pq.read_table(out / "videos.parquet")),
        "failures": [
            [row["video_id"], row["stage"], row["error"]]
            for row in pq.read_table(out / "failures.parquet").to_pylist()
        ],
        "maps": {
            part.stem: {
                name: describe_array(values) for name, values in maps_of(out, part.stem).items()
            }
            for part in parts
        },
        "metrics": json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else None,
        "model": run["model"]["key"],
        "threshold": run["threshold"],
        "manifest_digest": run["manifest_digest"],
    }


def maps_of(out: Path, video_id: str) -> dict[str, NDArray[np.float32]]:
    """All maps of a video, whole."""
    maps = ScoreFolder(out).maps(video_id)
    return {} if maps is None else {name: maps.read(name) for name in maps.maps}


def describe_array(values: NDArray[Any]) -> dict[str, Any]:
    """Shape, type and a hash of the values."""
    values = np.ascontiguousarray(values)
    return {
        "shape": list(values.shape),
        "dtype": values.dtype.str,
        "sha256": _sha256(values.tobytes()),
    }


NO_RESULTS = ("path", "signature", "whole_id", "stamp")  # of a row: where, and which file


def describe_probe(cache: Path) -> list[dict[str, Any]]:
    """All probe rows without paths, sorted by content."""
    rows = [
        row
        for part in sorted((cache / "probe").glob("*.parquet"))
        for row in _without_paths(pq.read_table(part))
    ]
    return sorted(rows, key=lambda row: str(row["content_id"]))


def _without_paths(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{k: v for k, v in row.items() if k not in NO_RESULTS} for row in rows]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
