"""Copies of training clips that play faster: normal footage in which only the speed is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...data_manifests.drawn_clips import new_folder
from ...data_manifests.record import Manifest, ManifestError, VideoRecord
from ...data_manifests.table import write_manifest
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.video import ProbeRow, in_order
from ..store.probe_table import Probed

FILE = "manifest.parquet"  # of the copies, in their folder
MARK = ".x"  # between the id of a clip and the speed of its copy


def copy_id(video_id: str, speed: int) -> str:
    """The id of a copy."""
    return f"{video_id}{MARK}{speed}"


def write_fast_copies(
    manifest: Manifest, probed: Probed, folder: Path, speeds: Sequence[int] = (2, 3)
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

    Returns:
        The manifest of the copies, split "validation", all abnormal; it is in the folder too.

    Raises:
        ManifestError: there are no training clips, one cannot be read or is shorter than two frames
            of a copy, a speed is less than 2, or the folder is not empty.
        DecodeError: a clip cannot be read any more.
    """
    records = manifest.select(split="train").records
    if not records or not speeds or min(speeds) < 2:
        raise ManifestError(
            f"fast copies need training clips and speeds of 2 or more; got {len(records)} training "
            f"clips and the speeds {list(speeds)}"
        )
    if lost := [r.video_id for r in records if r.video_id not in probed.rows]:
        raise ManifestError(
            f"{len(lost)} training clips cannot be read: {', '.join(lost[:10])}; run vadpipe "
            "probe, then mend them or take them out of the manifest"
        )
    with new_folder(folder) as unfinished:
        copies: list[VideoRecord] = []
        for record in records:
            copies += _copied(record, probed.rows[record.video_id], unfinished, speeds)
        made = Manifest(dataset=f"{manifest.dataset}-fast", root=str(folder), records=tuple(copies))
        write_manifest(made, unfinished / FILE)
    return made


def _copied(
    record: VideoRecord, row: ProbeRow, folder: Path, speeds: Sequence[int]
) -> list[VideoRecord]:
    """Write the copies of one clip."""
    first, stop = record.frame_range(row.n_frames)
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
