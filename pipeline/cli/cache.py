"""Commands about the feature sets of a cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...data_manifests.plain_text import one_line
from .names import barred_paths, feature_set_names
from .options import ANY, cache_option, echo, json_option, probe_options, put
from .outcome import outcome, voice

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.group()
def cache() -> None:
    """List, verify, compare and delete the feature sets of a cache."""


@cache.command("ls")
@json_option
@cache_option
def cache_ls(as_json: bool, cache: Path) -> None:
    """List the feature sets: videos, shards, bytes, and days since something was written."""
    from ..tables.cache import feature_sets, feature_sets_lines

    rows = feature_sets(cache)
    lines = feature_sets_lines(rows) or [f"no feature sets in {cache}"]
    echo(lines, {"feature_sets": rows}, as_json)


@cache.command("verify")
@click.argument("names", nargs=-1, shell_complete=feature_set_names)
@click.option(
    "--drop",
    is_flag=True,
    help="Delete broken, misplaced and mixed shards, and write the index again.",
)
@json_option
@cache_option
def cache_verify(names: tuple[str, ...], drop: bool, as_json: bool, cache: Path) -> None:
    """Read every shard; compare it with its checksum, its seal and its place.

    Exit code 1 on any problem. NAMES are full names of feature sets; without any, all are read.
    With --drop, what is broken counts as missing afterwards: extract or import makes it again.
    """
    from ...data_manifests.plain_text import counted
    from ..store.care import drop_shards, problems_of
    from ..store.feature_sets import CURE, chosen_stores, unreadable_sets

    found: list[dict[str, str]] = []
    dropped, say = 0, voice(as_json)

    def say_problem(name: str, text: str) -> None:
        found.append({"feature_set": name, "problem": text})
        say(f"{name}: {text}")  # at once: reading a large cache takes hours

    for name, error in unreadable_sets(cache).items() if not names else ():
        say_problem(name, f"cannot be opened: {error}; {CURE}")
    for store in chosen_stores(cache, names):
        problems = list(problems_of(store))
        for problem in problems:
            say_problem(store.name, problem.text)
        if drop and problems:
            dropped += drop_shards(store, problems)
    lines = [] if found else ["all shards are whole"]
    if drop and found:
        again = "run vadpipe extract, or vadpipe import, to make them again"
        lines = [f"{counted(dropped, 'shard')} dropped; {again}"]
    if lines or as_json:
        echo(lines, {"problems": found, "dropped": dropped}, as_json)
    if found:
        raise click.exceptions.Exit(1)


@cache.command("rebuild")
@click.argument("names", nargs=-1, shell_complete=feature_set_names)
@json_option
@cache_option
def cache_rebuild(names: tuple[str, ...], as_json: bool, cache: Path) -> None:
    """Write the index again, from the shards.

    NAMES are full names of feature sets; without any, all are rebuilt.
    """
    from ...data_manifests.plain_text import counted
    from ..store.feature_sets import chosen_stores

    made, rebuilt, say = [], {}, voice(as_json)
    for store in chosen_stores(cache, names):
        made.append(store.root)
        rebuilt[store.name] = store.rebuild_index()
        say(f"{store.name}\t{counted(rebuilt[store.name], 'shard')}")
    counts = {"feature_sets": len(rebuilt), "shards": sum(rebuilt.values())}
    echo([], outcome(made, counts, shards=rebuilt), as_json)


@cache.command("repair")
@json_option
@cache_option
def cache_repair(as_json: bool, cache: Path) -> None:
    """Delete or make again what is damaged among the derived files; exit code 1 if some is left.

    The index is made from the shards, the recipe of a set from a model that was trained on it.
    Damaged files of the probe, of runs and of batch sizes are deleted: the next run makes them.
    Shards are left to `vadpipe cache verify --drop`.
    """
    from ..repair import repair_cache

    made = repair_cache(cache)
    counts = {"repaired": len(made.done), "left": len(made.left)}
    values = outcome((), counts, warnings=made.left, repaired=made.done)
    echo([*made.done, *made.left] or ["no derived file is damaged"], values, as_json)
    if made.left:
        raise click.exceptions.Exit(1)


@cache.command("quarantine")
@click.option(
    "--release",
    shell_complete=barred_paths,
    multiple=True,
    metavar="PATH",
    help="Allow this file again, `all` for every file; may be repeated.",
)
@json_option
@cache_option
def cache_quarantine(release: tuple[str, ...], as_json: bool, cache: Path) -> None:
    """List the files that took a process down and are refused since, or release them."""
    from ..engine import quarantine

    listed = quarantine.entries(cache)
    wanted = {str(Path(each).absolute()) for each in release if each != "all"}
    if unknown := sorted(wanted - {entry.path for entry in listed.values()}):
        raise click.ClickException(
            f"not in quarantine: {', '.join(map(one_line, unknown))}; nothing is released; "
            "`vadpipe cache quarantine` lists what is there"
        )
    if "all" in release:
        quarantine.release_all(cache)
    lines: list[str] = []
    facts: list[dict[str, Any]] = []
    for entry in listed.values():
        released = "all" in release or entry.path in wanted
        if released:
            quarantine.release(cache, entry.key)
            lines.append(f"released {one_line(entry.path)}")
        elif not release:
            lines.append("\t".join(map(one_line, (entry.path, entry.error, entry.message))))
        facts.append(
            {
                "path": entry.path,
                "error": entry.error,
                "message": entry.message,
                "released": released,
            }
        )
    echo(lines, {"quarantine": facts}, as_json)


@cache.command("compare")
@click.argument("a", shell_complete=feature_set_names)
@click.argument("b", shell_complete=feature_set_names)
@click.option(
    "--manifest",
    "manifest_path",
    type=ANY,
    help="Manifest that names the videos; needed if A or B are files.",
)
@probe_options
@json_option
@cache_option
def cache_compare(
    a: str,
    b: str,
    manifest_path: Path | None,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Say how two feature sets differ: A and B are names in the cache, files or folders.

    \b
    Example:
        vadpipe cache compare imported-1f0c inception_i3d-77ab
        vadpipe cache compare rtfm_i3d /data/other_i3d --manifest ucf.parquet
    """
    from ...data_manifests.table import read_manifest
    from ..importing.compare import compare_features
    from ..probe import probe_files

    listed = None if manifest_path is None else read_manifest(manifest_path)
    probed = None
    if listed is not None:
        probed = probe_files(listed, cache, probing)
    done = compare_features(cache, a, b, manifest=listed, probed=probed)
    echo(done.lines(), done.to_json(), as_json)


@cache.command("rm")
@click.argument("name", shell_complete=feature_set_names)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@json_option
@cache_option
def cache_rm(name: str, yes: bool, as_json: bool, cache: Path) -> None:
    """Delete the feature set NAME; the name has to be the full one.

    Sets that cannot be opened are deleted too. While a run writes to a set, it stays.
    """
    from ..store.feature_sets import delete_set, set_folders

    if name in set_folders(cache) and not yes:
        if as_json:
            raise click.UsageError("--json prints nothing else: say --yes")
        click.confirm(f"delete {set_folders(cache)[name]}?", abort=True)
    deleted = str(delete_set(cache, name))
    echo([f"deleted {deleted}"], outcome((), {"deleted": 1}, deleted=[deleted]), as_json)


@cache.command("gc")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    required=True,
    metavar="DAYS",
    help="Delete what nothing was written to for this many days.",
)
@click.option("--keep-models", is_flag=True, help="Delete no model, nor what it was trained on.")
@click.option(
    "--imported",
    is_flag=True,
    help="Delete imported feature sets too: only `vadpipe import` can make them again.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@json_option
@cache_option
def cache_gc(
    older_than: float,
    keep_models: bool,
    imported: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    cache: Path,
) -> None:
    """Delete feature sets, models and unfinished trainings that are old.

    A feature set stays while a model that stays was trained on it, and counts as written when a
    model was trained on it. Imported sets stay without --imported. What a run is using stays.
    Exit code 1 if something could not go.

    \b
    Example:
        vadpipe cache gc --older-than 90 --keep-models
    """
    from ..old_entries import Deleted, delete_entries, list_entries, old_entries
    from ..tables.cache import deleted_lines, old_lines

    old = old_entries(
        list_entries(cache), older_than=older_than, keep_models=keep_models, imported=imported
    )
    asking = bool(old) and not (dry_run or yes)
    if asking and as_json:
        raise click.UsageError("--json prints nothing else: say --yes or --dry-run")
    if asking or (dry_run and not as_json):
        put("\n".join(old_lines(old)))
    if asking:
        click.confirm("delete all of these?", abort=True)
    done = Deleted([], {}) if dry_run else delete_entries(cache, old)
    if as_json or not dry_run:
        now = time.time()
        facts = outcome(
            (),
            {"old": len(old), "deleted": len(done.done), "left": len(done.left)},
            warnings=[f"{name}: {reason}" for name, reason in done.left.items()],
            old=[entry.to_json(now) for entry in old],
            deleted=[entry.name for entry in done.done],
            left=done.left,
        )
        echo(deleted_lines(done), facts, as_json)
    if done.left:
        raise click.exceptions.Exit(1)
