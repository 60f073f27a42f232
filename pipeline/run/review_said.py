"""What a review says of files and cameras, line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest
from ..scores.rules import in_time
from ..store.failures import some_ids
from ..store.probe_table import Probed
from ..tables.probe import MEANINGS, MORE, NOTES
from .archive import MOST_HOURS, SHARE, UNNAMED, cameras_of, little_footage
from .archive_copies import copies_lines
from .review_kept import Chosen

NAMED = 5  # files in a message
Say = Callable[[str], None]


def say_files(listed: Manifest, probed: Probed, copies: Mapping[str, str], say: Say) -> None:
    """How much footage there is, what is wrong with its files, and copies."""
    length = in_time(sum(row.duration for row in probed.rows.values()) / 86_400)
    say(f"footage: {counted(len(probed.rows), 'video')}, {length}, below {listed.root}")
    for failure in probed.failures[:NAMED]:
        say(f"cannot be used: {failure.video_id}: {failure.message}")
    if len(probed.failures) > NAMED:
        say(f"  and {len(probed.failures) - NAMED} more")
    cut = [(name, row) for name, row in probed.rows.items() if "truncated" in row.flags]
    for name, row in cut[:NAMED]:
        say(f"cut off, what is there is used: {name} ({in_time(row.duration / 86_400)})")
    if len(cut) > NAMED:
        say(f"  and {len(cut) - NAMED} more")
    for flag, meaning in MEANINGS.items():
        if flag in NOTES or flag in ("truncated", *MORE):  # `MORE` is said by the probe
            continue
        names = [name for name, row in probed.rows.items() if flag in row.flags]
        if names:
            say(f"{flag} ({meaning}): {some_ids(names)}")
    for line in copies_lines(copies, NAMED):
        say(line)


def say_cameras(
    chosen: Chosen, manifest: Manifest, probed: Probed, say: Say, *, gone: bool = False
) -> list[str]:
    """Say what trains and what is scored, with the risk of it; returns what the page says too.

    Args:
        chosen:
            With a model, which has trained before, or without one, which trains now.
        manifest:
            With splits and scenes.
        probed:
            Its files.
        say:
            Called with each line.
        gone:
            Whether files that trained are gone, so that those of the manifest say too little.
    """
    cameras, kept = cameras_of(manifest, probed.rows), chosen.model is not None
    given = kept and chosen.features is None  # of its own footage
    if kept and chosen.hours is not None:
        cameras = [replace(each, training=chosen.hours.get(each.name, 0.0)) for each in cameras]
    unknown = kept and chosen.hours is None and gone  # trained by an earlier version
    for camera in cameras:
        name = "one camera" if camera.name == UNNAMED and len(cameras) == 1 else camera.name
        trains = (
            ""
            if given or unknown
            else f"{in_time(camera.training / 24)} {'trained' if kept else 'train'}, "
        )
        say(
            f"camera {name}: {counted(camera.videos, 'video')}, {trains}"
            f"{in_time(camera.scored / 24)} are scored"
        )
    if given:
        return []
    if chosen.own_split:
        say(
            f"normal is what the split train of {chosen.target} names"
            f"{' at the first run' if kept else ''}: it {'trained' if kept else 'trains'}, and is "
            "not scored"
        )
    elif chosen.normal is None:
        taken = (
            "what was taken as normal by an earlier run still is,"
            if kept
            else f"the first {100 * SHARE:g} % of each camera's footage (at most {MOST_HOURS:g} "
            "hours) is taken as normal,"
        )
        say(
            f"nothing is known to be normal: {taken} and is not scored. What is unusual in it will "
            "be missed later; name footage that is known to be normal with --normal"
            f"{' and --retrain' if kept else ''}"
        )
    little = "" if unknown else little_footage(cameras)
    if little:
        say(little)
    return [little] if little else []
