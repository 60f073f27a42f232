"""Names that a shell completes: extractors, detectors, data sets, models, feature sets, cards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """Those of the names that begin with what is typed; none where they cannot be read."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
        try:
            return sorted(name for name in names(ctx) if name.startswith(typed))
        except Exception:  # a traceback would stand in the line that is being typed
            return []

    return complete


def _extractors(ctx: click.Context) -> Iterable[str]:
    from ..registry import EXTRACTORS

    return EXTRACTORS


def _detectors(ctx: click.Context) -> Iterable[str]:
    from ..registry import DETECTORS

    return DETECTORS


def _datasets(ctx: click.Context) -> Iterable[str]:
    from ..registry import DATASETS

    return DATASETS


def _models(ctx: click.Context) -> Iterable[str]:
    from ..models import ModelFolder

    return [folder.path.name for folder in ModelFolder.in_cache(_cache(ctx))]


def _feature_sets(ctx: click.Context) -> Iterable[str]:
    from ..store.feature_sets import set_folders

    return set_folders(_cache(ctx))


def _cards(ctx: click.Context) -> Iterable[str]:
    from ..registry import cards_in_use

    return cards_in_use()


def _cache(ctx: click.Context) -> Path:
    """The cache of the line so far."""
    from ..run.default_cache import default_cache

    named = ctx.params.get("cache")
    return default_cache() if named is None else Path(named)


extractor_names = _completing(_extractors)
detector_names = _completing(_detectors)
dataset_names = _completing(_datasets)
model_names = _completing(_models)
feature_set_names = _completing(_feature_sets)
card_names = _completing(_cards)
