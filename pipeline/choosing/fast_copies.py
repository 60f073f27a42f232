"""Copies of training clips that play faster: normal footage in which only the speed is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...data_manifests.drawn_clips import new_folder
from ...data_manifests.record import ID_LENGTH, Manifest, ManifestError, VideoRecord
from ...data_manifests.table import write_manifest
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.video import ProbeRow, in_order
from ..store.probe_table import Probed
from .copy_sources import CopySource, write_sources

FILE = "manifest.parquet"  # of the copies, in their folder
FRAME_BYTES = 1024  # of a PNG beside its pixels
MARK = ".x"  # between the id of a clip and the speed of its copy


def copy_id(video_id: str, speed: int) -> str:
    """The id of a copy."""
    return f"{video_id}{MARK}{speed}"


def training_clips(manifest: Manifest) -> tuple[VideoRecord, ...]:
    """The records of split "train".

    Raises:
        ManifestError: there are none.
    """
    records = manifest.select(split="train").records
    if not records:
        raise ManifestError(
            f"no training clips: {manifest.dataset} has {len(manifest.records)} videos, none of "
            "split train, and choose looks at no others; make a manifest with training videos, as "
            "vadpipe manifest footage --normal DIR"
        )
    return records


def bytes_of_copies(manifest: Manifest, probed: Probed, speeds: Sequence[int]) -> int:
    """Most bytes that the copies take: their pixels, as if PNG made them no smaller.

    Raises:
        ManifestError: as `write_fast_copies`.
    """
    total = 0
    for record in _readable(manifest, probed, speeds):
        row = probed.rows[record.video_id]
        frames = sum(len(range(*_frames(record, row), speed)) for speed in set(speeds))
        total += frames * (row.height * (3 * row.width + 1) + FRAME_BYTES)
    return total


def write_fast_copies(
    manifest: Manifest,
    probed: Probed,
    folder: Path,
    speeds: Sequence[int] = (2, 3),
    *,
    max_bytes: int | None = None,
) -> Manifest:
    """Write copies of the training clips with every 2nd, 3rd, ... frame only.

    A copy is a folder of PNG files, so its pixels are those of the clip. It has no frame rate of
    its own: say the clip's with `--image-fps` wherever the copies are read.

    Args:
        manifest:
            The data set; only records of split "train" are looked at.
        probed:
            The files of these records.
        folder:
            An empty or new folder; it appears whole or not at all.
        speeds:
            2 takes every second frame.
        max_bytes:
            Refuse to write more than this (see `bytes_of_copies`); copies are pixels, so there is
            no default.

    Returns:
        The manifest of the copies, split "validation", all abnormal; it is in the folder too, with
        a list of what they were made of.

    Raises:
        ManifestError: there are no training clips, one cannot be read or is shorter than two frames
            of a copy, its id is too long for a copy, a speed is less than 2, the copies may take
            more than `max_bytes` or it was not given, or the folder is not empty.
        DecodeError: a clip cannot be read any more.
    """
    records = _readable(manifest, probed, speeds)
    most = bytes_of_copies(manifest, probed, speeds)
    if max_bytes is None:
        raise ManifestError(
            f"fast copies are pixels: at most about {most:,} bytes. To confirm, say --max-bytes "
            f"{most}"
        )
    if most > max_bytes:
        raise ManifestError(
            f"the copies may take about {most:,} bytes, more than --max-bytes {max_bytes:,}"
        )
    with new_folder(folder) as unfinished:
        copies: list[VideoRecord] = []
        sources: dict[str, CopySource] = {}
        for record in records:
            row = probed.rows[record.video_id]
            copies += _copied(record, row, unfinished, speeds)
            for speed in set(speeds):
                source = CopySource(
                    content_id=row.content_id, frames=_frames(record, row), speed=speed
                )
                sources[copy_id(record.video_id, speed)] = source
        made = Manifest(dataset=f"{manifest.dataset}-fast", root=str(folder), records=tuple(copies))
        write_sources(sources, unfinished)
        write_manifest(made, unfinished / FILE)
    return made


def _frames(record: VideoRecord, row: ProbeRow) -> tuple[int, int]:
    return record.frame_range(row.n_frames)


def _readable(manifest: Manifest, probed: Probed, speeds: Sequence[int]) -> tuple[VideoRecord, ...]:
    """The training clips, all of which can be copied."""
    records = training_clips(manifest)
    if not speeds or min(speeds) < 2:
        raise ManifestError(f"fast copies need speeds of 2 or more; got {list(speeds)}")
    longest = max((record.video_id for record in records), key=len)
    if (over := len(copy_id(longest, max(speeds))) - ID_LENGTH) > 0:
        raise ManifestError(
            f"the id of the copy of {longest} would be longer than {ID_LENGTH} characters: "
            f"shorten the id of the clip by {over}"
        )
    if lost := [r.video_id for r in records if r.video_id not in probed.rows]:
        raise ManifestError(
            f"{len(lost)} training clips cannot be read: {', '.join(lost[:10])}; run vadpipe "
            "probe, then mend them or take them out of the manifest"
        )
    return records


def _copied(
    record: VideoRecord, row: ProbeRow, folder: Path, speeds: Sequence[int]
) -> list[VideoRecord]:
    """Write the copies of one clip."""
    first, stop = _frames(record, row)
    copies = []
    for speed in sorted(set(speeds)):
        frames = len(range(first, stop, speed))
        if frames < 2:
            raise ManifestError(
                f"{record.video_id} has {stop - first} frames, too few to play {speed} times as "
                "fast: leave it out of the manifest, or take a lower speed"
            )
        name = copy_id(record.video_id, speed)
        (folder / name).mkdir(parents=True)
        copies.append(
            VideoRecord(
                **{"video_id": name, "path": name, "split": "validation", "label": 1},
                **{"scene": record.scene, "category": f"x{speed}", "expected_frames": frames},
            )
        )
    with guarded_frames(in_order(row), first, stop) as reader:
        for frame in reader:
            past = frame.index - first
            for speed in set(speeds):
                if past % speed == 0:
                    place = folder / copy_id(record.video_id, speed) / f"{past // speed:06d}.png"
                    Image.fromarray(frame.image).save(place, compress_level=1)
    return copies
