"""Names that a shell completes: of the registries, of a cache, of a score folder, of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..scores.folder import ScoreFolder

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


def _drawn(ctx: click.Context) -> Iterable[str]:
    from ...data_manifests import DRAWN

    return DRAWN


def _splits(ctx: click.Context) -> Iterable[str]:
    from typing import get_args

    from ...data_manifests.record import VideoRecord

    return get_args(VideoRecord.model_fields["split"].annotation)


def _barred(ctx: click.Context) -> Iterable[str]:
    from ..engine import quarantine

    return ["all", *(entry.path for entry in quarantine.entries(_cache(ctx)).values())]


def _scored_videos(ctx: click.Context) -> Iterable[str]:
    return _scores(ctx).video_ids()


def _columns(ctx: click.Context) -> Iterable[str]:
    from ..scores.part import ROW

    folder = _scores(ctx)
    names = folder.scores(folder.video_ids()[0]).column_names
    return [name for name in names if name not in ROW]


def _maps(ctx: click.Context) -> Iterable[str]:
    folder = _scores(ctx)
    found = (folder.maps(video_id) for video_id in folder.video_ids())
    return next(maps.maps for maps in found if maps is not None)


def _drawn_arrays(ctx: click.Context) -> Iterable[str]:
    from ..show import drawable
    from ..store.feature_sets import store_like

    return drawable(store_like(_cache(ctx), _argument(ctx, "features")))


def _listed_videos(ctx: click.Context) -> Iterable[str]:
    """The videos of the manifest that the line names."""
    from ...data_manifests.table import read_manifest

    return [record.video_id for record in read_manifest(Path(ctx.params["manifest_path"])).records]


def _scores(ctx: click.Context) -> ScoreFolder:
    """The score folder of the line so far; the first where there are several."""
    from ..scores.folder import ScoreFolder

    return ScoreFolder(Path(_argument(ctx, "scores")))


def _argument(ctx: click.Context, name: str) -> str:
    """The first word of the first argument of a command.

    Raises:
        IndexError: the line has none yet.
    """
    named = ctx.params.get(name) or ctx.args  # click reads no argument before an option's value
    return str(named[0] if isinstance(named, tuple | list) else named)


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
drawn_names = _completing(_drawn)
split_names = _completing(_splits)
barred_paths = _completing(_barred)
scored_videos = _completing(_scored_videos)
column_names = _completing(_columns)
map_names = _completing(_maps)
drawn_arrays = _completing(_drawn_arrays)
listed_videos = _completing(_listed_videos)
