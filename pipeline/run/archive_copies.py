"""Copies in an archive: the same content under several names is looked at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...data_manifests.natural_order import path_key
from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.footage.video import ProbeRow
from .archive_again import TrainedPart


def without_copies(
    manifest: Manifest,
    rows: Mapping[str, ProbeRow],
    known: Collection[str] = (),
    trained: Collection[TrainedPart] = (),
) -> tuple[Manifest, dict[str, str]]:
    """Leave out files whose content is there under another name.

    The name that stays is one that an earlier run knew, else one that trains, else the first in
    natural order. Videos with labels stay: each counts in an evaluation.

    Args:
        manifest:
            What is listed.
        rows:
            video_id -> its file, where it can be read.
        known:
            Paths of an earlier run.
        trained:
            What has trained. Its content is known also where its file is gone.

    Returns:
        The manifest without copies, and path of a copy -> path of what stays.
    """
    same: dict[str, dict[str, list[VideoRecord]]] = {}  # content -> path -> its records
    for record in manifest.records:
        if record.path is not None and (row := rows.get(record.video_id)) is not None:
            same.setdefault(row.content_id, {}).setdefault(record.path, []).append(record)
    for part in trained:
        if part.content_id in same and not part.scored:
            same[part.content_id].setdefault(part.path, [])
    copies: dict[str, str] = {}
    for paths in same.values():
        if len(paths) < 2:
            continue
        kept = min(
            paths,
            key=lambda path: (
                path not in known and bool(paths[path]),
                all(record.split != "train" for record in paths[path]),
                path_key(path),
            ),
        )
        copies |= {
            path: kept
            for path, records in paths.items()
            if path != kept and not any(map(_labelled, records))
        }
    left = tuple(record for record in manifest.records if record.path not in copies)
    return manifest.model_copy(update={"records": left}), copies


def _labelled(record: VideoRecord) -> bool:
    """Whether it has labels of its own; what trains is called normal by its split."""
    return record.split != "train" and (record.label is not None or record.anomalies is not None)


def copies_lines(copies: Mapping[str, str], most: int) -> list[str]:
    """What was left out, one line for each content, for people.

    Args:
        copies:
            See `without_copies`.
        most:
            Lines; the rest is counted.
    """
    by_kept: dict[str, list[str]] = {}
    for copy, kept in copies.items():
        by_kept.setdefault(kept, []).append(copy)
    lines = [f"the same content, looked at once as {k}: {', '.join(c)}" for k, c in by_kept.items()]
    rest = len(lines) - most
    return [
        *lines[:most],
        *([f"copies of {counted(rest, 'more content')} are left out"] if rest > 0 else []),
    ]
