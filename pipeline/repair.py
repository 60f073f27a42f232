"""Repair of a cache: derived files that are damaged are deleted or made again; no result is lost.

What a run derives from something else can be made from it again: the index from the shards, rows of
the probe from the footage, the recipe of a feature set from the card of a model that was trained
on it. What is a source (shards, models, scores) is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data_manifests.atomic import remove_anything
from ..data_manifests.errors import VadpipeError
from ..data_manifests.plain_text import counted
from ..data_manifests.stored import DamagedFile
from ..extractors.base import TUNING
from ..extractors.device.tuning import read_tuning
from .engine import quarantine
from .engine.journal import read_run
from .engine.sources import source_recipes
from .models import ModelFolder
from .store.feature_sets import CURE, list_stores, unreadable_sets
from .store.feature_store import FeatureStore
from .store.probe_table import probe_parts, read_probes


@dataclass
class Repaired:
    """What a repair did.

    Attributes:
        done: one line for each file that was deleted or made again.
        left: one line for each problem that it cannot solve, with what does.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def repair_cache(cache: Path) -> Repaired:
    """Delete or make again what is damaged among the derived files of a cache.

    Args:
        cache:
            Root of the cache.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    made = Repaired()
    runs = sorted((cache / "runs").glob("*.json"))
    _delete(made, probe_parts(cache), read_probes, "its files are probed again")
    _delete(made, runs, read_run, "status no longer shows that run")
    _delete(
        made, [cache / TUNING], read_tuning, "what was tried out on a machine is tried out again"
    )
    _restore_recipes(made, cache)
    for store in list_stores(cache):
        if damaged := [path.name for path, _ in store.shard_index.damaged()]:
            shards = store.rebuild_index()
            made.done.append(
                f"{store.name}: the index was made again, {counted(shards, 'shard')} "
                f"({', '.join(damaged)})"
            )
    for path in quarantine.barred(cache).damaged.values():
        made.left.append(
            f"{path} is damaged: its file stays barred; vadpipe cache quarantine --release all"
        )
    return made


def _delete(
    made: Repaired, paths: Iterable[Path], read: Callable[[Path], object], effect: str
) -> None:
    for path in paths:
        try:
            read(path)
        except (DamagedFile, OSError) as error:
            broken_link = path.is_symlink() and not path.exists()
            if isinstance(error, DamagedFile) or broken_link:
                remove_anything(path)
                made.done.append(f"deleted: {error}; {effect}")
            elif not isinstance(error, FileNotFoundError):
                made.left.append(f"{path} cannot be read: {error}")


def _restore_recipes(made: Repaired, cache: Path) -> None:
    """Write the spec.json of sets again whose recipe a model or another set still has."""
    unreadable = unreadable_sets(cache)
    known = {store.name: store for store in _known(cache)} if unreadable else {}
    for name, error in unreadable.items():
        if name in known:
            known[name].create()
            made.done.append(f"{name}: spec.json was written again from a recipe that holds it")
        else:
            made.left.append(f"{name} cannot be opened: {error}; {CURE}")


def _known(cache: Path) -> Iterator[FeatureStore]:
    """Every feature set that a recipe in this cache names."""
    recipes: list[Mapping[str, Any]] = [store.recipe for store in list_stores(cache)]
    for folder in ModelFolder.in_cache(cache):
        try:
            card = folder.card()
            recipes += [*card["features"].values(), *card.get("twins", {}).values()]
        except VadpipeError:
            continue  # a model is a source: its use is an error that names it
    for recipe in recipes:
        for each in (recipe, *source_recipes(recipe)):
            yield FeatureStore(cache, each)
