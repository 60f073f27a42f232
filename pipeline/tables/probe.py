"""What `probe` prints: a table for people, values for machines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest
from ...extractors.footage.video import ProbeRow
from ..engine.progress import tell
from ..engine.settings import ProbeOptions
from ..probe import probe_files
from ..store.failures import by_reason, some_ids
from ..store.probe_table import Probed, duplicates

# Flags of healthy files: how they are read.
NOTES = frozenset({"short", "sequential_only", "rotated"})

# What holds more footage than is read. Every command that opens footage says so.
MORE = ("more_video_streams", "unread_bytes")

# What a flag means for the extraction that follows; details in docs/probe.md.
MEANINGS = {
    "truncated": "cut off: what is there is used",
    "variable_rate": "frames are not evenly spaced: true times are kept",
    "no_timestamps": "no times in the file: frame number / fps is taken",
    "odd_timestamps": "times repeat or run backwards: frame number / fps is taken",
    "sequential_only": "no trust in seeking: one task decodes it in order",
    "rotated": "turned upright",
    "mirrored": "mirrored by its header, which is not undone",
    "header_mismatch": "the header's frame count is wrong: the decoder is right",
    "corrupt_frames": "damaged frames: see --on-corrupt",
    "implausible_rate": "over 1,000 frames a second, or less than one in 100 s: a damaged or false "
    "header, or high-speed footage",
    "size_changes": "the picture's size changes: scaled to the first",
    "more_video_streams": "more than one video stream: one is read, make a file of each",
    "unread_bytes": "another recording follows in the same file and is not read: split it",
    "short": "fewer than 16 frames: one clip, filled up",
    "gaps": "images are missing: numbered without gaps",
    "length_unknown": "no footage, and the manifest states no length",
}


def report_lines(probed: Probed, *, list_all: bool = False) -> list[str]:
    """A line for each file with a fault, what each flag means, and totals.

    A file is counted and listed once, also where several videos are parts of it.

    Args:
        probed:
            Result of a probe.
        list_all:
            Also list files without fault.
    """
    files: dict[str, tuple[list[str], ProbeRow]] = {}
    for video_id, row in probed.rows.items():
        files.setdefault(row.path or video_id, ([], row))[0].append(video_id)
    refused = by_reason(probed.failures)
    table: list[tuple[str, ...]] = [("video", "frames", "size", "fps", "codec", "what is wrong")]
    flags: Counter[str] = Counter()
    sound = 0
    for ids, row in files.values():
        flags.update(row.flags)
        healthy = NOTES.issuperset(row.flags)
        sound += healthy
        if not healthy or list_all:
            wrong = " ".join(["ok"] * healthy + list(row.flags))
            if row.damaged:
                wrong += f" ({row.damaged} damaged frames{'' if row.decoded else ' at its start'})"
            table.append(
                (
                    some_ids(ids),
                    str(row.n_frames),
                    f"{row.width}x{row.height}",
                    f"{row.fps:.3f}",
                    row.codec,
                    wrong,
                )
            )
    table += [(some_ids(ids), "-", "-", "-", "-", failure.error) for ids, failure in refused]
    lines = _aligned(table) if len(table) > 1 else []
    lines += [
        f"{name}: {counted(count, 'file')}, {MEANINGS[name]}" for name, count in flags.most_common()
    ]
    lines += [f"same content: {', '.join(ids)}" for ids in duplicates(probed).values()]
    rows = [row for _, row in files.values()]
    lines.append(
        f"{counted(len(rows) + len(refused), 'video')}: {sound} sound, {len(rows) - sound} with "
        f"faults, {len(refused)} refused; {sum(r.duration for r in rows) / 3600:,.2f} "
        f"hours, {counted(sum(r.n_frames for r in rows), 'frame')}"
    )
    return lines


def unread_lines(probed: Probed) -> list[str]:
    """A line for each way in which files hold more footage than is read."""
    lines = []
    for flag in MORE:
        found = [video_id for video_id, row in probed.rows.items() if flag in row.flags]
        if found:
            some = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
            lines.append(f"{flag}: {counted(len(found), 'video')}, {MEANINGS[flag]} ({some})")
    return lines


def probe_to_use(listed: Manifest, cache: Path, probing: ProbeOptions) -> Probed:
    """Probe the files that a command is about to use; says which hold more than is read."""
    probed = probe_files(listed, cache, probing)
    for line in unread_lines(probed):
        tell(line)
    return probed


def report_values(probed: Probed) -> dict[str, Any]:
    """The same as plain JSON values, with all videos."""
    return {
        "videos": {
            video_id: {k: v for k, v in row.to_json().items() if k != "key_frames"}
            for video_id, row in probed.rows.items()
        },
        "duplicates": duplicates(probed),
        "failures": [vars(failure) for failure in probed.failures],
    }


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
