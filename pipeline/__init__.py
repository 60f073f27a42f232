"""Order, cache, execution, metrics, reports, command line: the stages, callable from Python."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data_manifests.record import Manifest
    from ..data_manifests.table import read_manifest, write_manifest
    from .choose import rank_settings
    from .choosing.fast_copies import write_fast_copies
    from .compare import compare_scores
    from .drift import find_drift
    from .engine.extractor_spec import resolve_extractor
    from .engine.settings import Engine, ProbeOptions
    from .evaluate import evaluate_runs, evaluate_scores
    from .exports.stage import export_events
    from .extract import extract_features
    from .feedback import apply_feedback, fit_again, keep_rule
    from .fuse import fuse_scores
    from .import_features import import_features
    from .import_tracks import import_tracks
    from .labels import check_labels
    from .probe import probe_files
    from .render import render_video
    from .report.stage import write_report
    from .review.stage import write_review
    from .run.config import RunConfig, load_run
    from .run.manifests import build_manifest
    from .run.run import run
    from .score import score_footage
    from .scores.events import EventConfig
    from .scores.smoothing import Smoothing
    from .show import show_features
    from .threshold import fit_threshold
    from .train import train_detector

# Name -> the module that it is imported from on first use, so that commands start without it.
EXPORTED = {
    "Engine": ".engine.settings",
    "EventConfig": ".scores.events",
    "Manifest": "..data_manifests.record",
    "ProbeOptions": ".engine.settings",
    "RunConfig": ".run.config",
    "Smoothing": ".scores.smoothing",
    "apply_feedback": ".feedback",
    "build_manifest": ".run.manifests",
    "check_labels": ".labels",
    "compare_scores": ".compare",
    "evaluate_runs": ".evaluate",
    "evaluate_scores": ".evaluate",
    "export_events": ".exports.stage",
    "extract_features": ".extract",
    "find_drift": ".drift",
    "fit_again": ".feedback",
    "fit_threshold": ".threshold",
    "fuse_scores": ".fuse",
    "import_features": ".import_features",
    "import_tracks": ".import_tracks",
    "keep_rule": ".feedback",
    "load_run": ".run.config",
    "probe_files": ".probe",
    "rank_settings": ".choose",
    "read_manifest": "..data_manifests.table",
    "render_video": ".render",
    "resolve_extractor": ".engine.extractor_spec",
    "run": ".run.run",
    "score_footage": ".score",
    "show_features": ".show",
    "train_detector": ".train",
    "write_fast_copies": ".choosing.fast_copies",
    "write_manifest": "..data_manifests.table",
    "write_report": ".report.stage",
    "write_review": ".review.stage",
}

__all__ = [
    "Engine",
    "EventConfig",
    "Manifest",
    "ProbeOptions",
    "RunConfig",
    "Smoothing",
    "apply_feedback",
    "build_manifest",
    "check_labels",
    "compare_scores",
    "evaluate_runs",
    "evaluate_scores",
    "export_events",
    "extract_features",
    "find_drift",
    "fit_again",
    "fit_threshold",
    "fuse_scores",
    "import_features",
    "import_tracks",
    "keep_rule",
    "load_run",
    "probe_files",
    "rank_settings",
    "read_manifest",
    "render_video",
    "resolve_extractor",
    "run",
    "score_footage",
    "show_features",
    "train_detector",
    "write_fast_copies",
    "write_manifest",
    "write_report",
    "write_review",
]


def __getattr__(name: str) -> Any:
    """Import a stage or type at its first use, so that commands start without its libraries."""
    if name not in EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(EXPORTED[name], __name__), name)
    if not isinstance(found, type):
        found = _taking_text(found)
    globals()[name] = found  # the next use does not come here
    return found


def _taking_text(function: Any) -> Any:
    """A stage that takes text for each of its paths: in a notebook a path is mostly typed."""
    from functools import wraps
    from inspect import signature

    takes = signature(function)
    paths = [name for name, each in takes.parameters.items() if "Path" in str(each.annotation)]
    if not paths:
        return function

    @wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        given = takes.bind(*args, **named)
        for name in paths:
            if name in given.arguments:
                given.arguments[name] = _as_path(given.arguments[name])
        return function(*given.args, **given.kwargs)

    return called


def _as_path(value: Any) -> Any:
    from pathlib import Path

    if isinstance(value, list | tuple):
        return [_as_path(each) for each in value]
    return Path(value) if isinstance(value, str) else value


def __dir__() -> list[str]:
    return sorted({*globals(), *EXPORTED})


class _Room(ModuleType):
    """Keeps exported functions in place of the modules of the same name, `run` for example.

    The import system sets each module as an attribute of its package, so the name would be the
    function or the module, whichever is imported last.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in EXPORTED and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
