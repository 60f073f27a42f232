"""What of an archive is taken as normal, and what is scored: cameras, shares, files that are new.

Everything is decided from listings and headers, before a frame is computed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...data_manifests.errors import VadpipeError
from ...data_manifests.footage import records_of
from ...data_manifests.natural_order import path_key
from ...data_manifests.record import Manifest, VideoRecord
from ...data_manifests.scenes import FOLDER, SceneRule
from ...data_manifests.settings import Settings
from ...extractors.footage.video import ProbeRow
from ..scores.rules import in_time

SHARE = 0.5  # of each camera's footage that trains where nothing is known to be normal
LITTLE_HOURS = 0.25  # of a camera that train: so little shows hardly any of what is normal
MOST_HOURS = 4.0  # of each camera that trains; more makes training slow, not better
# 2026-11-29, 20261129, 2026_11, 29.11.2026, and any of them before a time
DATE = re.compile(
    r"(?:(?:19|20)\d\d[-_. ]?(?:0[1-9]|1[0-2])(?:[-_. ]?(?:0[1-9]|[12]\d|3[01]))?"
    r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?:[-_. T].*)?"
)
UNNAMED = "-"  # stands for the camera of footage without a scene
Part = tuple[float, float]


class ArchiveError(VadpipeError, ValueError):
    """A review that cannot begin; the message says what to do."""


@dataclass(frozen=True)
class Camera:
    """The footage of one camera.

    Attributes:
        name: the scene, or `UNNAMED`.
        training: hours that train.
        scored: hours that are scored.
        videos: files and image folders.
    """

    name: str
    training: float
    scored: float
    videos: int


class CameraName(Settings):
    """What a camera is called.

    Attributes:
        scene: of its videos, by folder or file name; None where they name none.
        size: of its frames, "768x576".
        name: what it is called; None where nothing has to be told apart.
    """

    scene: str | None
    size: str
    name: str | None


def with_folders(manifest: Manifest) -> Manifest:
    """Name the scene of each video by the first folder that it lies in; those named stay."""
    rule = SceneRule(FOLDER)
    records = tuple(
        record
        if record.scene is not None or record.path is None
        else record.model_copy(update={"scene": rule.scene_of(record.path)})
        for record in manifest.records
    )
    return manifest.model_copy(update={"records": records})


def refuse_dates(manifest: Manifest) -> None:
    """Refuse folders of days as cameras: each day would be one, and half of it would train.

    Args:
        manifest:
            Of `with_folders`.

    Raises:
        ArchiveError: all folders that videos lie in are named by dates.
    """
    folders = {r.scene for r in manifest.records if r.scene is not None}
    if folders and all(DATE.fullmatch(name) for name in folders):
        listed = ", ".join(sorted(folders)[:3])
        raise ArchiveError(
            f"the folders are dates ({listed}), and each day would be a camera of its own: say by "
            "--scene-from which part of a path names the camera, as '([^/_.]+)[^/]*$' for gate in "
            f"2026-11-29/gate_2.mp4, or take the folders as they are by --scene-from {FOLDER}"
        )


def named_cameras(
    manifest: Manifest, rows: Mapping[str, ProbeRow], known: Sequence[CameraName] = ()
) -> tuple[Manifest, tuple[CameraName, ...]]:
    """Tell cameras apart by the size of their frames: a scene with two sizes becomes two.

    Args:
        manifest:
            With scenes.
        rows:
            The files that can be read.
        known:
            What earlier cameras are called: they keep their names.

    Returns:
        The manifest with the names as scenes, and all names, those that were known first.
    """
    names = {(each.scene, each.size): each.name for each in known}
    sizes: dict[str | None, set[str]] = {}
    for scene, size in names:
        sizes.setdefault(scene, set()).add(size)
    for record in manifest.records:
        if (row := rows.get(record.video_id)) is not None:
            sizes.setdefault(record.scene, set()).add(_size(row))

    def named(record: VideoRecord) -> VideoRecord:
        if (row := rows.get(record.video_id)) is None:
            return record
        key = (record.scene, _size(row))
        alone = len(sizes[record.scene]) < 2
        names.setdefault(key, record.scene if alone else " ".join(filter(None, key)))
        return record.model_copy(update={"scene": names[key]})

    records = tuple(map(named, manifest.records))
    found = tuple(
        CameraName(scene=scene, size=size, name=name) for (scene, size), name in names.items()
    )
    return manifest.model_copy(update={"records": records}), found


def _size(row: ProbeRow) -> str:
    return f"{row.width}x{row.height}"


def with_normal(target: Manifest, normal: Manifest) -> Manifest:
    """Join footage to be judged with footage that is known to be normal, for training.

    Normal footage may lie in the other folder. Ids come from the path below the folder that holds
    both.

    Where the normal footage names no scene, none is used: it could not be told which camera it is.
    Normal footage that is labelled abnormal does not train. A part of a file that trains is not
    judged; the rest of the file is.

    Args:
        target:
            Of the folder to be judged.
        normal:
            Of the normal one.

    Raises:
        ArchiveError: all of the normal footage is labelled abnormal.
    """
    known = [record for record in normal.records if _may_be_normal(record)]
    if normal.records and not known:
        raise ArchiveError(
            f"nothing below {normal.root} can train: all {len(normal.records)} videos of the "
            "normal footage are labelled abnormal; name footage that is normal"
        )
    apart = any(record.scene is not None for record in normal.records)
    places: dict[tuple[Path, Part], VideoRecord] = {}
    quiet: dict[Path, list[Part]] = {}  # file -> its parts that train
    for record in known:
        if record.path is not None:
            update: dict[str, Any] = {"split": "train", "label": 0, "anomalies": ()}
            place = normal.resolve(record.path)
            places[place, record.part] = record.model_copy(update=update)
            quiet.setdefault(place, []).append(record.part)
    for record in target.records:
        if record.path is not None:
            place = target.resolve(record.path)
            for part in left_of(record.part, quiet.get(place, ())):
                update = {"split": "test", "part": part}
                if part != record.part:
                    update["label"] = None  # of the whole: it does not say in which part
                places[place, part] = record.model_copy(update=update)
    cut = Counter(place for place, _ in places)
    numbers: Counter[Path] = Counter()
    root = Path(target.root)
    while not Path(normal.root).is_relative_to(root):
        root = root.parent
    records = []
    for (place, _), record in sorted(
        places.items(), key=lambda item: (path_key(str(item[0][0])), item[0][1])
    ):
        path = PurePosixPath(place.relative_to(root).as_posix())
        (made,) = records_of(str(path), "all", None, None)
        numbers[place] += 1
        number = f".{numbers[place]}" if cut[place] > 1 else ""
        update = {"video_id": f"{made.video_id}{number}", "path": made.path}
        update["scene"] = record.scene if apart else None
        records.append(record.model_copy(update=update))
    unread = tuple(
        ((Path(manifest.root) / place).relative_to(root).as_posix(), reason)
        for manifest in (target, normal)
        for place, reason in manifest.unread
    )
    return Manifest(dataset="footage", root=str(root), records=tuple(records), unread=unread)


def split_by_camera(manifest: Manifest, rows: Mapping[str, ProbeRow]) -> Manifest:
    """Take the first part of each camera's footage for training, the rest for scoring.

    The files of a camera are taken in natural order, `SHARE` of its hours and at most
    `MOST_HOURS`. A first file that is longer is cut into two parts. Copies count once. Footage that
    is labelled abnormal is left for scoring, as are videos with a known anomaly in the part that
    would train.

    Args:
        manifest:
            Videos with scenes.
        rows:
            The files that can be read; others are left for scoring, which names them.

    Raises:
        ArchiveError: nothing is left to train on.
    """
    cameras: dict[str | None, list[VideoRecord]] = {}
    for record in manifest.records:
        cameras.setdefault(record.scene, []).append(record)
    cut: dict[str, float] = {}  # video id -> share of it that trains
    for records in cameras.values():
        cut |= _first_part(sorted(records, key=lambda r: path_key(r.path or r.video_id)), rows)
    if not cut:
        raise ArchiveError(
            f"nothing below {manifest.root} can train: all videos that can be read are labelled "
            "abnormal, have an anomaly where they begin, or last no time; name footage that is "
            "known to be normal with --normal, or a model with --model"
        )
    made: list[VideoRecord] = []
    for record in manifest.records:
        share = cut.get(record.video_id)
        if share is None:
            made.append(record.model_copy(update={"split": "test"}))
        elif share == 1.0:
            made.append(record.model_copy(update={"split": "train", "label": 0, "anomalies": ()}))
        else:
            first, rest = _cut(record.part, share)
            label = 0 if record.label == 0 else None
            made += [
                record.model_copy(update={"video_id": f"{record.video_id}.{split}", **known})
                for split, known in (
                    ("train", {"split": "train", "label": 0, "anomalies": (), "part": first}),
                    ("test", {"split": "test", "label": label, "part": rest}),
                )
            ]
    return manifest.model_copy(update={"records": tuple(made)})


def scored_whole(manifest: Manifest, *, keep_training: bool) -> Manifest:
    """Score all videos, or all but those that train."""
    records = tuple(
        record
        if keep_training and record.split == "train"
        else record.model_copy(update={"split": "test"})
        for record in manifest.records
    )
    return manifest.model_copy(update={"records": records})


def _first_part(records: Sequence[VideoRecord], rows: Mapping[str, ProbeRow]) -> dict[str, float]:
    """Video id -> share of it (of its part of a file) that trains, of one camera."""
    seen: dict[str, list[Part]] = {}  # content -> its parts that were counted
    own: list[tuple[VideoRecord, float]] = []
    for record in records:
        row = rows.get(record.video_id)
        if row is None or row.duration <= 0 or record.label == 1:
            continue
        counted = seen.setdefault(row.content_id, [])
        if not any(_meet(record.part, part) for part in counted):
            counted.append(record.part)
            own.append((record, row.duration * (record.part[1] - record.part[0])))
    wanted = min(SHARE * sum(seconds for _, seconds in own), MOST_HOURS * 3600)
    found: dict[str, float] = {}
    taken = 0.0
    for record, seconds in own:
        whole = taken + seconds <= wanted
        if not whole and taken >= wanted / 2:  # the whole files before it are enough
            break
        share = 1.0 if whole else round((wanted - taken) / seconds, 6)
        part = _cut(record.part, share)[0]
        if share <= 0 or _abnormal(record, part, rows[record.video_id].n_frames):
            continue
        found[record.video_id] = share
        if not whole:
            break
        taken += seconds
    return found


def _cut(part: Part, share: float) -> tuple[Part, Part]:
    """The first share of a part of a file, and the rest."""
    start, stop = part
    middle = stop if share == 1.0 else start + share * (stop - start)
    return (start, middle), (middle, stop)


def _meet(one: Part, other: Part) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def left_of(part: Part, without: Collection[Part]) -> list[Part]:
    """What is left of a part of a file without others."""
    left = [part]
    for other in without:
        left = [
            (start, stop)
            for each in left
            for start, stop in (
                (each[0], min(each[1], other[0])),
                (max(each[0], other[1]), each[1]),
            )
            if start < stop
        ]
    return left


def _abnormal(record: VideoRecord, part: Part, n_frames: int) -> bool:
    """Whether a known anomaly lies in a part of a video."""
    start, stop = part[0] * n_frames, part[1] * n_frames
    return any(begin < stop and start < end for begin, end in record.anomalies or ())


def _may_be_normal(record: VideoRecord) -> bool:
    """Whether no label says that footage is abnormal; where its frames are not counted yet."""
    return record.label != 1 and not record.anomalies


def without(manifest: Manifest, videos: Collection[str]) -> Manifest:
    """A manifest without some of its videos, by their ids."""
    left = tuple(record for record in manifest.records if record.video_id not in videos)
    return manifest.model_copy(update={"records": left})


def cameras_of(manifest: Manifest, rows: Mapping[str, ProbeRow]) -> list[Camera]:
    """How much of each camera trains and is scored, of the files that can be read."""
    hours: dict[str, list[float]] = {}
    paths: dict[str, set[str]] = {}
    for record in manifest.records:
        if (row := rows.get(record.video_id)) is None:
            continue
        name = record.scene or UNNAMED
        own = hours.setdefault(name, [0.0, 0.0])
        paths.setdefault(name, set()).add(record.path or record.video_id)
        share = record.part[1] - record.part[0]
        own[record.split != "train"] += share * row.duration / 3600
    return [Camera(n, own[0], own[1], len(paths[n])) for n, own in hours.items()]


def hours_of(manifest: Manifest, rows: Mapping[str, ProbeRow]) -> dict[str, float]:
    """Camera -> hours of it that train, of the files that can be read; those that do."""
    return {c.name: c.training for c in cameras_of(manifest, rows) if c.training > 0}


def little_footage(cameras: Sequence[Camera]) -> str:
    """What a result is worth where little footage has trained, in a sentence; "" where enough has.

    Cameras of which nothing trains are not counted: that is said elsewhere.
    """
    poor = [camera for camera in cameras if 0 < camera.training < LITTLE_HOURS]
    if not poor:
        return ""
    most = 5
    each = ", ".join(f"{camera.name} {in_time(camera.training / 24)}" for camera in poor[:most])
    if len(cameras) == 1:
        each = in_time(poor[0].training / 24)
    rest = f", and {len(poor) - most} cameras more" if len(poor) > most else ""
    return (
        f"Little footage trains: {each}{rest}. That shows hardly any of what is normal "
        "there, so the events are what is rarest in these files, and most of them will be "
        "ordinary. Give an hour of normal footage of each camera, better a day."
    )
