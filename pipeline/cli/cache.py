"""Commands about the feature sets of a cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...data_manifests.plain_text import one_line
from .options import ANY, cache_option, echo, json_option, probe_options, put

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.group()
def cache() -> None:
    """List, verify, compare and delete the feature sets of a cache."""


@cache.command("ls")
@cache_option
def cache_ls(cache: Path) -> None:
    """List the feature sets: videos, shards and bytes of each."""
    import pyarrow.compute as pc

    from ..store.feature_sets import list_stores, unreadable_sets

    for name, error in unreadable_sets(cache).items():
        put(f"{name}\tcannot be opened: {error}")
    for store in list_stores(cache):
        table = store.index()
        size = pc.sum(table["size"]).as_py() or 0
        videos = pc.count_distinct(table["content_id"]).as_py()
        put(f"{store.name}\t{videos} videos\t{table.num_rows} shards\t{size:,} bytes")


@cache.command("verify")
@click.argument("names", nargs=-1)
@click.option(
    "--drop",
    is_flag=True,
    help="Delete broken, misplaced and mixed shards, and write the index again.",
)
@cache_option
def cache_verify(names: tuple[str, ...], drop: bool, cache: Path) -> None:
    """Read every shard; compare it with its checksum, its seal and its place.

    Exit code 1 on any problem. NAMES are full names of feature sets; without any, all are read.
    With --drop, what is broken counts as missing afterwards: extract or import makes it again.
    """
    from ..store.care import drop_shards, problems_of
    from ..store.feature_sets import CURE, chosen_stores, unreadable_sets

    found = dropped = 0
    for name, error in unreadable_sets(cache).items() if not names else ():
        put(f"{name}: cannot be opened: {error}; {CURE}")
        found += 1
    for store in chosen_stores(cache, names):
        problems = list(problems_of(store))
        for problem in problems:
            put(f"{store.name}: {problem.text}")
        found += len(problems)
        if drop and problems:
            dropped += drop_shards(store, problems)
    if drop and found:
        shards = "1 shard" if dropped == 1 else f"{dropped} shards"
        put(f"{shards} dropped; run vadpipe extract, or vadpipe import, to make them again")
    if found:
        raise click.exceptions.Exit(1)
    put("all shards are whole")


@cache.command("rebuild")
@click.argument("names", nargs=-1)
@cache_option
def cache_rebuild(names: tuple[str, ...], cache: Path) -> None:
    """Write the index again, from the shards.

    NAMES are full names of feature sets; without any, all are rebuilt.
    """
    from ..store.feature_sets import chosen_stores

    for store in chosen_stores(cache, names):
        put(f"{store.name}\t{store.rebuild_index()} shards")


@cache.command("repair")
@cache_option
def cache_repair(cache: Path) -> None:
    """Delete or make again what is damaged among the derived files; exit code 1 if some is left.

    The index is made from the shards, the recipe of a set from a model that was trained on it.
    Damaged files of the probe, of runs and of batch sizes are deleted: the next run makes them.
    Shards are left to `vadpipe cache verify --drop`.
    """
    from ..repair import repair_cache

    made = repair_cache(cache)
    for line in [*made.done, *made.left] or ["no derived file is damaged"]:
        put(line)
    if made.left:
        raise click.exceptions.Exit(1)


@cache.command("quarantine")
@click.option(
    "--release",
    multiple=True,
    metavar="PATH",
    help="Allow this file again, `all` for every file; may be repeated.",
)
@cache_option
def cache_quarantine(release: tuple[str, ...], cache: Path) -> None:
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
    for entry in listed.values():
        if "all" in release or entry.path in wanted:
            quarantine.release(cache, entry.key)
            put(f"released {one_line(entry.path)}")
        elif not release:
            put("\t".join(map(one_line, (entry.path, entry.error, entry.message))))


@cache.command("compare")
@click.argument("a")
@click.argument("b")
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
@click.argument("name")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@cache_option
def cache_rm(name: str, yes: bool, cache: Path) -> None:
    """Delete the feature set NAME; the name has to be the full one.

    Sets that cannot be opened are deleted too. While a run writes to a set, it stays.
    """
    from ..store.feature_sets import delete_set, set_folders

    if name in set_folders(cache) and not yes:
        click.confirm(f"delete {set_folders(cache)[name]}?", abort=True)
    put(f"deleted {delete_set(cache, name)}")
