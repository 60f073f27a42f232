"""Scores of videos that the target of a run does not list: they are kept until they are pruned.

A listing may be short because a disk is not mounted, because files were moved, or because the
target is another one. None of this says that the scores are wrong.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data_manifests.footage import find_footage
from ...data_manifests.natural_order import natural_key
from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.stored import DamagedFile, parse_json
from ..store.failures import Failure
from ..store.probe_table import Probed
from .folder import SCORE_VERSION, ScoreFolder, ScoreFolderError
from .part import is_of_weights
from .video_tables import VIDEO_SCHEMA, table_facts

NAMED = 10  # videos that a message names


# Errors of a file that cannot be looked at; they say nothing of what is in it.
UNREACHED = ("FileNotFoundError", "MissingFile", "PermissionError", "OSError", "ManifestError")
TAKEN = "NameTaken"  # error of a file whose name has the scores of another one


@dataclass(frozen=True)
class KeptParts:
    """Parts that a run does not make: of videos that are not listed, or cannot be reached.

    Attributes:
        rows: of the table of videos, one for each part of this model, in natural order.
        others: videos that are not listed, with parts that no table can have: of another model or
            version, damaged, or of a run of version 0.1 that was killed.
        goes: videos that are not listed and whose results are to be deleted.
        unlisted: the videos of `rows` that are not listed.
        lost: folders that held such videos and hold no footage now.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    others: tuple[str, ...] = ()
    goes: tuple[str, ...] = ()
    unlisted: frozenset[str] = frozenset()
    lost: tuple[Failure, ...] = ()


def without_taken(folder: ScoreFolder, manifest: Manifest, probed: Probed) -> Probed:
    """Refuse files whose names have the scores of other files: these would be written over.

    Two targets may hold files of one name. A file at the place of the scored one, or of its
    content, is that video, and is scored again where something has changed.

    Args:
        folder:
            The score folder.
        manifest:
            The videos of the run.
        probed:
            Their files.

    Returns:
        The files that may be scored; the others are failures.
    """
    there = set(folder.video_ids()) & probed.rows.keys()
    known = _known_rows(folder) if there else {}
    taken: list[Failure] = []
    for record in manifest.records:
        if record.video_id not in there:
            continue
        row = probed.rows[record.video_id]
        scored = known.get(record.video_id) or _facts(folder, record.video_id)
        content, path = scored.get("content_id"), scored.get("path")
        if content in (None, row.content_id) or (path and path == row.path):
            continue
        message = (
            f"{folder.path} holds the scores of another file of this name, {path or 'imported'}: "
            "write to another folder, or delete its part in scores/"
        )
        taken.append(Failure(record.video_id, "score", TAKEN, message))
    names = {failure.video_id for failure in taken}
    rows = {video_id: row for video_id, row in probed.rows.items() if video_id not in names}
    return replace(probed, rows=rows, failures=[*probed.failures, *taken])


def kept_parts(
    folder: ScoreFolder,
    manifest: Manifest,
    probed: Probed,
    card: Mapping[str, Any],
    *,
    prune: bool = False,
    most: bool = False,
) -> KeptParts:
    """What becomes of the parts that a run does not make. Nothing is deleted here.

    Args:
        folder:
            The score folder.
        manifest:
            The videos of the run.
        probed:
            Their files. If one cannot be reached, nothing says that its scores are out of date.
        card:
            Of the model: `key`, and `weights_sha256` if it is known.
        prune:
            Delete the results of videos that are not listed.
        most:
            Allow that these are more than half.

    Raises:
        ScoreFolderError: more than half of the results would go, and `most` is not set.
    """
    listed = {record.video_id for record in manifest.records}
    unreached = {f.video_id for f in probed.failures if f.error in (*UNREACHED, TAKEN)}
    rows, others = own_and_other_parts(
        folder, listed - unreached, card["key"], card.get("weights_sha256")
    )
    others = [video_id for video_id in others if video_id not in listed]
    goes: list[str] = []
    if prune:
        goes = _prunable([r for r in rows if r["video_id"] not in listed], others, manifest)
        _check_share(folder, goes, most)
    rows = [row for row in rows if row["video_id"] not in goes]
    unlisted = [row for row in rows if row["video_id"] not in listed]
    # A model that was trained on the shorter listing is another one, but the folder is lost too.
    of_others = [_facts(folder, video_id) for video_id in others if video_id not in goes]
    return KeptParts(
        rows=tuple(rows),
        others=tuple(video_id for video_id in others if video_id not in goes),
        goes=tuple(goes),
        unlisted=frozenset(row["video_id"] for row in unlisted),
        lost=tuple(lost_folders(manifest, [*unlisted, *(f for f in of_others if "path" in f)])),
    )


def prune_parts(folder: ScoreFolder, kept: KeptParts) -> list[str]:
    """Delete the results that are to go.

    Returns:
        Lines that say what was deleted, and which parts are in no table.
    """
    lines = [f"deleted: the results of {video_id}" for video_id in kept.goes]
    if kept.goes:
        folder.keep_only(set(folder.video_ids()).difference(kept.goes))
    if kept.others:
        lines.append(
            f"results of {counted(len(kept.others), 'video')} that are not listed now are of "
            "another model or version: they stay on the disk, but are in no table and on no page "
            f"({_some(kept.others)})"
        )
    return lines


def own_and_other_parts(
    folder: ScoreFolder, listed: Collection[str], key: str, weights: str | None = None
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The parts of videos that are not listed: rows of those of this model, ids of the others."""
    wanted = sorted(set(folder.video_ids()) - set(listed), key=natural_key)
    known = _known_rows(folder) if wanted else {}
    rows: list[Mapping[str, Any]] = []
    others = []
    for video_id in wanted:
        row = _row_of(folder, video_id, key, weights, known)
        if row is None:
            others.append(video_id)
        else:
            rows.append(row)
    return rows, others


def check_model(folder: ScoreFolder, key: str, *, replace: bool = False) -> None:
    """Refuse to add to the scores of another model: no table could hold both.

    Args:
        folder:
            The score folder.
        key:
            Of the model.
        replace:
            Do not refuse: these scores are to be written over.

    Raises:
        ScoreFolderError: there are such scores.
    """
    if replace:
        return
    try:
        model = folder.run().get("model") or {}
        key_there = model.get("key")
        name = model.get("detector")
    except ScoreFolderError:  # not written yet, or damaged: the parts know
        keys = (_stamp(folder, video_id).get("model") for video_id in folder.video_ids())
        key_there = next((other for other in keys if other not in (None, key)), key)
        name = None
    if key_there not in (None, key) and next(iter(folder.video_ids()), None) is not None:
        raise ScoreFolderError(
            f"{folder.path} holds the scores of another model ({name or 'key'} "
            f"{str(key_there)[:12]}): write to another folder, or delete this one"
        )


def _prunable(
    rows: Iterable[Mapping[str, Any]], others: list[str], manifest: Manifest
) -> list[str]:
    """Videos that are not listed, without those in a folder that could not be read."""
    root = Path(manifest.root)
    unread = [root / place for place, _ in manifest.unread]
    goes = [
        row["video_id"]
        for row in rows
        if not any(Path(row["path"] or "/").is_relative_to(place) for place in unread)
    ]
    return goes + ([] if unread else others)  # where others lay is not known


def _check_share(folder: ScoreFolder, goes: Sequence[str], most: bool) -> None:
    count = len(folder.video_ids())
    if 2 * len(goes) > count and not most:
        raise ScoreFolderError(
            f"pruning would delete the results of {len(goes)} of {count} videos in {folder.path}: "
            f"{_some(goes)}. See that everything is mounted and that this is the right target; to "
            "delete them add --yes"
        )


def lost_folders(manifest: Manifest, rows: Iterable[Mapping[str, Any]]) -> list[Failure]:
    """Folders below the root that held scored videos and hold no footage now.

    A file that is gone from a folder that holds others was deleted or moved. A folder without any
    footage may be a disk that is not mounted. What is named in `manifest.unread` is left out.

    Args:
        manifest:
            What is listed.
        rows:
            Of scored videos that are not listed.
    """
    root = Path(os.path.realpath(manifest.root))
    alive = {root}
    for record in manifest.records:
        if record.path is not None:
            alive.update((root / record.path, *(root / record.path).parents))
    lost: dict[Path, list[str]] = {}
    for row in rows:
        path = Path(row["path"] or "/")
        if path.is_relative_to(root) and (not _is_there(path) or _behind_link(root, path)):
            # The outermost folder in which nothing is listed. An image folder may be one itself.
            inside = [p for p in reversed(path.parents) if p.is_relative_to(root)]
            inside += [path] if row["kind"] == "images" and _is_folder(path) else []
            folder = next((p for p in inside if p not in alive), None)
            if folder is not None:
                lost.setdefault(folder, []).append(row["video_id"])
    unread = [root / place for place, _ in manifest.unread]
    return [
        Failure(
            "*",
            "list",
            "FolderLost",
            f"{folder}: held {len(videos)} scored videos ({_some(videos)}) and "
            + (
                "is a link now, which is not followed: put the folder there"
                if folder.is_symlink()
                else "holds no footage now: mount it again"
            )
            + ". Their scores are kept; if they should go, run vadpipe score with --prune",
        )
        for folder, videos in lost.items()
        if not any(map(folder.is_relative_to, unread))
        and (folder.is_symlink() or not _holds_footage(folder))
    ]


def _row_of(
    folder: ScoreFolder,
    video_id: str,
    key: str,
    weights: str | None,
    known: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any] | None:
    try:
        notes = folder.notes(video_id)
        facts = table_facts(notes)  # of version 0.1: without the content
    except (ScoreFolderError, DamagedFile):
        return None
    stamp = _stamp_in(notes)
    if not stamp or stamp.get("model") != key or stamp.get("score_version") != SCORE_VERSION:
        return None
    if not is_of_weights(notes, weights):
        return None
    row = facts if facts.keys() >= set(VIDEO_SCHEMA.names) else known.get(video_id)
    if row is None or row["content_id"] != stamp.get("content_id"):
        return None
    return {**row, "video_id": video_id}


def _known_rows(folder: ScoreFolder) -> dict[str, Mapping[str, Any]]:
    try:
        return {row["video_id"]: row for row in folder.videos()}
    except ScoreFolderError:  # parts of this version know the same
        return {}


def _facts(folder: ScoreFolder, video_id: str) -> Mapping[str, Any]:
    """What a part says of its video; empty where it cannot be read."""
    try:
        return folder.facts(video_id)
    except (ScoreFolderError, DamagedFile):
        return {}


def _stamp(folder: ScoreFolder, video_id: str) -> Mapping[str, Any]:
    """What a part was made of; empty where it cannot be read."""
    try:
        return _stamp_in(folder.notes(video_id))
    except ScoreFolderError:
        return {}


def _stamp_in(notes: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    try:
        stamp = parse_json(notes.get(b"vadpipe", b""), "a part of the scores")
    except DamagedFile:
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or _holds_footage(path)
    except OSError:
        return False


def _behind_link(root: Path, path: Path) -> bool:
    """Whether a folder on the way to a file became a link, which no listing follows."""
    return any(p.is_symlink() for p in path.parents if p != root and p.is_relative_to(root))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _holds_footage(folder: Path) -> bool:
    try:
        return bool(find_footage(folder).videos)
    except (ManifestError, OSError):
        return False


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
