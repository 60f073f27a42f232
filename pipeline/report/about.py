"""What the page says of the run and of its metrics: settings, intervals, curves of metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import ValidationError

from ...data_manifests.record import Manifest
from ..metrics.results import FrameMetrics
from ..scores.box_counts import BoxCounts
from ..scores.camera_drift import drift_caveat, drift_lines
from ..scores.columns import SCORE, warnings_of
from ..scores.folder import ScoreFolder
from ..scores.limit import Limit
from ..scores.stored_threshold import StoredThreshold
from ..scores.summary import new_scene_lines


def about_run(
    run: Mapping[str, Any],
    folder: ScoreFolder,
    limit: Limit | None,
    column: str,
    manifest: Manifest | None = None,
) -> dict[str, Any]:
    """What the page says of the run and its model."""
    return {
        "run": {"dataset": "", "created": "", "smooth": None, **run},
        "detector": (run.get("model") or {}).get("detector"),
        "package_version": version("vadpipe"),
        "settings": flatten(run),
        "folder": str(folder.path.absolute()),
        "high": None if limit is None else limit.value,
        "rule": "" if limit is None else limit.rule,
        "column": column,
        "boxes": BoxCounts.of_run(run),
        "warnings": [*warnings_of(folder, column), *_old_value(run), *new_scene_lines(run)],
        "drift": drift_lines(folder, manifest) if column == SCORE else [],
        "drift_caveat": drift_caveat(manifest),
        **_about_trust(run, limit, column),
    }


def _kept(run: Mapping[str, Any]) -> StoredThreshold | None:
    """The threshold that was chosen for the model; None without one, or if it was changed."""
    try:
        return StoredThreshold.model_validate((run.get("model") or {}).get("threshold") or {})
    except ValidationError:
        return None


def _old_value(run: Mapping[str, Any]) -> list[str]:
    """Warns of a value that was chosen for other weights: scores of these have another scale."""
    chosen, stated = _kept(run), run.get("threshold") or {}
    if chosen is None or chosen.rule.value is None or _same_weights(run, chosen):
        return []
    if stated.get("rule") != chosen.rule.rule_in_words():
        return []
    return [
        f"the threshold {chosen.rule.value:.6g} was chosen for other weights of this model: run "
        "vadpipe threshold again, and score"
    ]


def _same_weights(run: Mapping[str, Any], chosen: StoredThreshold) -> bool:
    return bool((run.get("model") or {}).get("weights_sha256") == chosen.weights_sha256)


def _about_trust(run: Mapping[str, Any], limit: Limit | None, column: str) -> dict[str, Any]:
    """What the page says of a threshold that was chosen for the model, if it is the one used.

    It rests on raw scores of these weights: nothing is said of another column or smoothed scores.
    """
    none = {"trust": None, "trust_points": ""}
    chosen, stated = _kept(run), run.get("threshold") or {}
    if chosen is None or limit is None or column != "score" or run.get("smooth") is not None:
        return none
    used = (limit.rule, limit.value, stated.get("low"))
    if used != (chosen.rule.rule_in_words(), chosen.high, chosen.low):
        return none
    if not _same_weights(run, chosen):
        return none
    points = [(point.stated, point.found) for point in chosen.curve if point.stated > 0]
    if not points:
        return {**none, "trust": chosen}
    low = min(stated for stated, _ in points) / 3
    scale = np.log(max(max(pair) for pair in points) * 1.5 / low)
    x, y = (
        [float(np.log(max(value, low) / low) / scale) for value in axis]
        for axis in zip(*points, strict=True)
    )
    return {"trust": chosen, "trust_points": _unit_points(x, y)}


def about_metrics(metrics: FrameMetrics | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the metrics; `extra` names the videos that they leave out."""
    return {
        "metrics": metrics,
        "measured_smooth": extra.get("smooth"),
        **{name: _texts(extra.get(name)) for name in ("unlabelled", "unscored")},
        "roc": None if metrics is None else _roc_points(metrics),
        "region_curves": None if metrics is None else _region_points(metrics),
        "intervals": _intervals(metrics),
    }


def _texts(values: Any) -> list[str]:
    """Names in a file that anyone may have changed; what is no name is left out."""
    return [str(value) for value in values] if isinstance(values, list) else []


def _intervals(metrics: FrameMetrics | None) -> dict[str, str]:
    """Name of a metric -> its bootstrap interval, in words."""
    if metrics is None or metrics.bootstrap is None:
        return {}
    ends = {name: getattr(metrics.bootstrap, name) for name in ("micro_auc", "average_precision")}
    return {name: f"{100 * a:.2f} to {100 * b:.2f} %" for name, (a, b) in ends.items()}


def _roc_points(metrics: FrameMetrics) -> str | None:
    if metrics.roc is None:
        return None
    return _unit_points(metrics.roc.fpr, metrics.roc.tpr)


def _region_points(metrics: FrameMetrics) -> dict[str, str] | None:
    """The curves of regions and of tracks; None where they were not measured."""
    if metrics.regions is None:
        return None
    curve = metrics.regions.curve
    return {name: _unit_points(curve.fpr, getattr(curve, name)) for name in ("rbdr", "tbdr")}


def _unit_points(x: Sequence[float], y: Sequence[float]) -> str:
    """Points of a curve in the unit square, for a drawing of 100 x 100."""
    pairs = zip(x, y, strict=True)
    return " ".join(f"{100 * a:.4g},{100 - 100 * b:.4g}" for a, b in pairs)


def duration(seconds: float) -> str:
    """A length of time for people: `42 s`, `3.5 min`, `24.0 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def flatten(values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Nested settings as groups of (dotted name, text) rows; scalars of the top go into "run"."""
    groups: dict[str, list[tuple[str, str]]] = {"run": []}

    def walk(rows: list[tuple[str, str]], prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, Mapping) and value and depth < 6:
            for key, inner in value.items():
                walk(rows, f"{prefix}.{key}" if prefix else str(key), inner, depth + 1)
        elif isinstance(value, list) and not any(isinstance(v, list | Mapping) for v in value):
            more = f" ... and {len(value) - 50} more" if len(value) > 50 else ""
            rows.append((prefix, ", ".join(map(_plain, value[:50])) + more))
        else:
            rows.append((prefix, _plain(value)))

    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            walk(groups.setdefault(key, []), "", value, 0)
        else:
            walk(groups["run"], key, value, 0)
    return [(name, rows) for name, rows in groups.items() if rows]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 2000 else f"{text[:2000]} ... ({len(text):,} characters)"
