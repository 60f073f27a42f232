"""What `vadpipe cache ls` and `cache gc` print."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from ...data_manifests.plain_text import counted
from ..old_entries import DAY, Deleted, Entry, users_of_sets
from ..store.feature_sets import list_stores, unreadable_sets

WORDS = {"features": "feature set", "model": "model", "unfinished": "unfinished training"}


def in_days(days: float) -> str:
    """How long ago something was, in whole days: `today`, `1 day ago`, `12 days ago`."""
    return "today" if days < 1 else f"{counted(int(days), 'day')} ago"


def feature_sets(cache: Path) -> list[dict[str, Any]]:
    """The feature sets of a cache: videos, shards, bytes, days, models; broken ones say why."""
    now = time.time()
    users = users_of_sets(cache)
    rows: list[dict[str, Any]] = [
        {"name": name, "broken": f"cannot be opened: {error}"}
        for name, error in unreadable_sets(cache).items()
    ]
    for store in list_stores(cache):
        table, by = store.index(), users.get(store.name, {})
        # Each run adds a part to the index, so that no shard need be looked at.
        changed = max([0.0, *by.values(), *map(_written, (store.root / "index").glob("*.parquet"))])
        rows.append(
            {
                "name": store.name,
                "videos": pc.count_distinct(table["content_id"]).as_py(),
                "shards": table.num_rows,
                "bytes": pc.sum(table["size"]).as_py() or 0,
                "needed_by": list(by),
            }
        )
        if changed:  # else it has no index
            rows[-1]["days"] = round(max(0.0, now - changed) / DAY, 2)
    return rows


def _written(path: Path) -> float:
    """When a file was written; 0 where it is gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def feature_sets_lines(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each."""
    return ["\t".join(_cells(row)) for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    if "broken" in row:
        return [row["name"], row["broken"]]
    counts = [counted(row[noun + "s"], noun) for noun in ("video", "shard")]
    cells = [row["name"], *counts, counted(row["bytes"], "byte")]
    if "days" in row:
        cells.append(f"written {in_days(row['days'])}")
    if users := len(row["needed_by"]):
        cells.append(counted(users, "model"))
    return cells


def old_lines(old: Collection[Entry]) -> list[str]:
    """What would be deleted, one line for each and the sum."""
    now = time.time()
    lines = [
        f"{WORDS[entry.kind]}\t{entry.name}\t{counted(entry.size, 'byte')}"
        f"\twritten {in_days(entry.days(now))}"
        for entry in old
    ]
    total = counted(sum(entry.size for entry in old), "byte")
    return [*lines, f"in all {counted(len(old), 'folder')}, {total}"]


def deleted_lines(done: Deleted) -> list[str]:
    """What went and what stays."""
    lines = [f"deleted {WORDS[entry.kind]} {entry.name}" for entry in done.done]
    lines += [f"{name} stays: {why}" for name, why in done.left.items()]
    freed = counted(sum(entry.size for entry in done.done), "byte")
    return [*lines, f"{freed} freed"]
