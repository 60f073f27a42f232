"""A comparison of systems as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...data_manifests.atomic import write_text
from ...data_manifests.plain_text import counted, one_line
from ..compare import METRICS, CompareError, Comparison, System

# Metric -> its name in the head of a table, and whether it is a share.
_SHOWN = {
    "micro_auc": ("micro AUC", True),
    "macro_auc_padded": ("macro AUC padded", True),
    "macro_auc_valid": ("macro AUC valid-only", True),
    "average_precision": ("AP", True),
    "latency_aware_ap": ("latency-aware AP", True),
    "rbdc": ("RBDC", True),
    "tbdc": ("TBDC", True),
    "event_precision": ("event precision", True),
    "event_recall": ("event recall", True),
    "event_f1": ("event F1", True),
    "false_alarms_per_hour": ("false alarms an hour", False),
    "median_delay": ("median delay, s", False),
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#!])")
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes what begins so
SUFFIXES = (".md", ".csv", ".json")


def comparison_lines(done: Comparison) -> list[str]:
    """Markdown: what was measured, a table of metrics, and one of how the scores were made.

    Shares are in percent. A metric that no system has is left out; one that a system lacks is "-".
    """
    names = [name for name in METRICS if any(s.metrics[name] is not None for s in done.systems)]
    aligned = f", alignment {done.alignment}" if done.alignment else ""
    measured = f"{counted(done.n_videos, 'video')}, {counted(done.n_frames, 'frame')}"
    lines = [
        f"{measured}, {done.n_abnormal:,} of them abnormal{aligned}; score column "
        f"{_cell(done.column)}. AUC, AP, RBDC, TBDC, precision, recall and F1 in percent.",
        "",
        *_table(
            ["system", *(_SHOWN[name][0] for name in names)],
            ([s.name, *(_number(s, name) for name in names)] for s in done.systems),
        ),
        "",
        *_table(
            [
                "system",
                "detector",
                "seed",
                "features",
                "threshold",
                "smoothing",
                "vadpipe",
                "commit",
            ],
            (_origin(system) for system in done.systems),
        ),
    ]
    if done.without_labels:
        named = ", ".join(map(_cell, done.without_labels))
        lines += [
            "",
            f"Measured by an earlier version: {named}. It kept no digest of the labels, so these "
            "are compared by numbers of frames alone; run vadpipe evaluate again.",
        ]
    unmeasured = [_cell(system.name) for system in done.systems if not system.measured]
    return lines + (["", f"Not measured: {', '.join(unmeasured)}."] if unmeasured else [])


def comparison_csv(done: Comparison) -> str:
    """One line a system: names, all metrics as plain numbers, how the scores were made.

    Texts that a spreadsheet would compute get an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    origin = ("scores", "detector", "seed", "settings", "features", "fused", "threshold")
    writer.writerow(["system", *METRICS, *origin, "smooth", "version", "commit"])
    for s in done.systems:
        settings = json.dumps(s.settings, sort_keys=True)
        writer.writerow(
            [
                _text(s.name),
                *("" if s.metrics[name] is None else repr(s.metrics[name]) for name in METRICS),
                *map(_text, (s.scores, s.detector, "" if s.seed is None else str(s.seed))),
                *map(_text, (settings, _features(s), ", ".join(s.fused), s.threshold)),
                *map(_text, (s.smooth or "", s.version, s.commit or "")),
            ]
        )
    return out.getvalue()


def write_comparison(done: Comparison, path: Path) -> None:
    """Write a comparison in the form that the end of the name says.

    Raises:
        CompareError: the name ends otherwise.
        CannotWrite: the disk is full or read-only.
    """
    suffix = path.suffix.lower()
    if suffix == ".md":
        text = "\n".join([*comparison_lines(done), ""])
    elif suffix == ".csv":
        text = comparison_csv(done)
    elif suffix == ".json":
        text = json.dumps(done.to_json(), indent=1) + "\n"
    else:
        raise CompareError(f"{path} has to end with one of {', '.join(SUFFIXES)}")
    write_text(path, text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[_cell(text) for text in row] for row in rows]
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]


def _number(system: System, name: str) -> str:
    value, share = system.metrics[name], _SHOWN[name][1]
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if share else f"{value:.3g}"


def _origin(system: System) -> list[str]:
    features = _features(system) or ", ".join(system.fused)
    seed = "-" if system.seed is None else str(system.seed)
    commit = "-" if system.commit is None else system.commit[:12] + system.commit[40:]
    return [
        *(system.name, system.detector, seed, features or "-", system.threshold or "-"),
        *(system.smooth or "-", system.version or "-", commit),
    ]


def _features(system: System) -> str:
    return ", ".join(f"{role} {store}" for role, store in system.features.items())


def _cell(text: str) -> str:
    """A text that stays in its cell and means nothing in Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def _text(text: str) -> str:
    shown = one_line(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
