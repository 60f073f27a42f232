"""Which training videos may stand for unseen ones: copies count once, cameras stay known.

Scores of videos that training did not see give a threshold its meaning. A video is not unseen if a
copy of it was trained on: its scores are near the lowest, and so is the threshold. A video that is
the only one of its camera is too new: without it the model has never seen that camera, and the
threshold is above the scores of real events.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data_manifests.record import VideoRecord
from ...detectors.base import DetectorError

NAMES = 10  # of videos or scenes in one message
HELD_BACK = "held back from training: "  # how the method of a calibration by chance begins


MOST = 0.9  # of the normal videos that may be held back


@dataclass(frozen=True)
class Unseen:
    """The training videos without copies, and which of them may stand for unseen ones.

    Attributes:
        records: what is trained on.
        copies: video_id of a copy -> the record that stays.
        apart: indices of records no two of which share a frame: each may be left out. Ascending.
        normal: indices of records that are not labelled abnormal, by their ids.
        drawn: indices of records that are held back from training, where some are; ascending.
        as_ever: whether `drawn` is what chance alone has drawn.
        lone: scene -> its only video; empty if there is one video in all.
        warnings: what is odd about the videos.
        trained_only: ids of records that stand for no unseen video, sorted.
    """

    records: tuple[VideoRecord, ...]
    copies: Mapping[str, str]
    apart: tuple[int, ...]
    normal: tuple[int, ...]
    drawn: tuple[int, ...]
    as_ever: bool
    lone: Mapping[str, str]
    warnings: tuple[str, ...]
    share: float
    trained_only: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        records: Sequence[VideoRecord],
        contents: Mapping[str, str],
        share: float,
        seed: int,
        trained_only: Collection[str] = (),
    ) -> Unseen:
        """Look at the training videos, and draw those that are held back.

        A video is passed over if another that stays shares frames with it, or if it is the last
        one of its scene. Where every video would be, the first ones drawn are taken all the same.

        Args:
            records:
                The training records.
            contents:
                video_id -> content id.
            share:
                Of the normal videos; what is drawn is rounded up.
            seed:
                Of the draw.
            trained_only:
                Videos that are trained on and stand for no unseen one, by their ids.

        Raises:
            DetectorError: the share or the seed is out of range.
        """
        if not 0 <= share <= MOST:
            raise DetectorError(f"holdout is a share from 0 to {MOST}, not {share}")
        if seed < 0:
            raise DetectorError(f"a seed is 0 or more, not {seed}")
        copies = copies_in(records, contents)
        left = [record for record in records if record.video_id not in copies]
        asked = [i for i, r in enumerate(left) if r.video_id not in trained_only]
        normal = sorted((i for i in asked if left[i].label != 1), key=lambda i: left[i].video_id)
        order = [int(i) for i in np.random.default_rng(seed).permutation(normal)]
        count = int(np.ceil(share * len(normal)))
        drawn = _draw(left, contents, order, count)
        return cls(
            records=tuple(left),
            copies=copies,
            apart=tuple(sorted(set(asked).intersection(_apart(left, contents)))),
            normal=tuple(normal),
            drawn=tuple(sorted(drawn)),
            as_ever=drawn == order[:count],
            lone=_lone([left[i] for i in asked]),
            warnings=tuple(_oddities(records, contents, copies)),
            share=share,
            trained_only=tuple(sorted({r.video_id for r in left}.intersection(trained_only))),
        )

    @property
    def about(self) -> dict[str, Any]:
        """What the card of a model says of the videos: copies, and scenes where some are named."""
        scenes = sorted({record.scene for record in self.records if record.scene})
        known = {"copies": dict(self.copies), "scenes": scenes}
        return {name: each for name, each in known.items() if each}

    def special(self, leaves_out: bool) -> bool:
        """Whether scenes or shared frames decide what is held out, and not chance alone.

        Args:
            leaves_out:
                Each video is left out in turn; else some are held back.
        """
        if leaves_out:
            return bool(self.lone) or len(self.apart) < len(self.records)
        return not self.as_ever

    def check_held_back(self) -> None:
        """Check that there is a normal video to hold back, and another one.

        Raises:
            DetectorError: there is not.
        """
        if self.share and len(self.normal) < 2:
            raise DetectorError(
                "a threshold needs normal videos that are held back from training: the manifest "
                f"has only {len(self.normal)} normal training video; --holdout 0 does without"
            )

    def left_out(self, short: Sequence[str]) -> tuple[str, list[str]]:
        """How each video was left out, and why the scores may not be those of new footage.

        Args:
            short:
                Videos that were too short to leave out a part of them.
        """
        if len(self.apart) == 1:
            return "leave one fifth of the video out", []
        if not self.lone:
            return "leave one video out", []
        scenes = _scenes(self.lone)
        warnings = [
            f"one training video of a scene ({scenes}): without it the camera would be new, so "
            "fifths of it were left out instead, and the threshold may be too low for another day; "
            "train on a second video of each"
        ]
        if short:
            warnings.append(
                f"{listed(short)}: the only video of its scene and too short to leave out a part, "
                "so the threshold knows nothing of that camera; train on a longer or second video"
            )
        return "leave one video out; of the only video of a scene, one fifth", warnings

    def held_back(self) -> tuple[str, list[str]]:
        """Which videos were held back, and why the scores may not be those of new footage."""
        if not self.drawn:
            return "the normal training videos themselves (too low for new ones)", [
                "it comes from the training videos themselves, and is too low for new ones; train "
                "with a hold-out above 0"
            ]
        drawn = [self.records[i] for i in self.drawn]
        names = ", ".join(sorted(record.video_id for record in drawn))
        kept = {r.scene for i, r in enumerate(self.records) if i not in set(self.drawn)}
        new = {r.scene: r.video_id for r in drawn if r.scene is not None and r.scene not in kept}
        warnings = []
        if new:
            warnings.append(
                f"all training videos of a scene were held back ({_scenes(new)}): the model has "
                "not seen the camera, and the threshold may be above real events; train on a "
                "second video of each"
            )
        return f"{HELD_BACK}{names}", warnings


def copies_in(records: Sequence[VideoRecord], contents: Mapping[str, str]) -> dict[str, str]:
    """Records that add no footage to the others.

    Args:
        records:
            The training records.
        contents:
            video_id -> content id.

    Returns:
        video_id of a copy -> the record that stays: one of the same content and label, whose part
        of it is the same or larger. Of equal ones the first stays.
    """
    kept: dict[tuple[str, int | None], list[VideoRecord]] = defaultdict(list)
    copies: dict[str, str] = {}
    for record in sorted(records, key=lambda r: r.part[0] - r.part[1]):  # stable: longest first
        group = kept[contents[record.video_id], record.label]
        whole = [r for r in group if r.part[0] <= record.part[0] and record.part[1] <= r.part[1]]
        if whole:
            copies[record.video_id] = whole[0].video_id
        else:
            group.append(record)
    return {r.video_id: copies[r.video_id] for r in records if r.video_id in copies}


def _overlaps(
    records: Sequence[VideoRecord], contents: Mapping[str, str]
) -> Iterator[tuple[int, int]]:
    """Pairs i < j of records that share frames."""
    groups: dict[str, list[int]] = defaultdict(list)
    for j, record in enumerate(records):
        group = groups[contents[record.video_id]]
        for i in group:
            other = records[i]
            if record.part[0] < other.part[1] and other.part[0] < record.part[1]:
                yield i, j
        group.append(j)


def _apart(records: Sequence[VideoRecord], contents: Mapping[str, str]) -> list[int]:
    """The first records of which no two share a frame."""
    shared = set(_overlaps(records, contents))
    gone: set[int] = set()
    for i, j in sorted(shared):
        if i not in gone:
            gone.add(j)
    return [i for i in range(len(records)) if i not in gone]


def _draw(
    records: Sequence[VideoRecord],
    contents: Mapping[str, str],
    order: Sequence[int],
    count: int,
) -> list[int]:
    """The first `count` of an order that may be held back, in that order."""
    shared = {i for pair in _overlaps(records, contents) for i in pair}
    left = Counter(record.scene for record in records)
    drawn: list[int] = []
    for i in order:
        scene = records[i].scene
        if len(drawn) < count and i not in shared and (scene is None or left[scene] > 1):
            drawn.append(i)
            left[scene] -= 1
    return drawn or list(order[:count])


def _lone(records: Sequence[VideoRecord]) -> dict[str, str]:
    if len(records) < 2:
        return {}
    counts = Counter(record.scene for record in records)
    return {r.scene: r.video_id for r in records if r.scene is not None and counts[r.scene] == 1}


def _oddities(
    records: Sequence[VideoRecord], contents: Mapping[str, str], copies: Mapping[str, str]
) -> Iterator[str]:
    if copies:
        named = [f"{copy} = {kept}" for copy, kept in copies.items()]
        yield (
            f"{len(copies)} of {len(records)} training videos are copies of others, and count once "
            f"with them: {listed(named)}"
        )
    for i, j in _overlaps(records, contents):
        if records[i].label != records[j].label:
            both = f"{records[i].video_id} and {records[j].video_id}"
            yield f"{both} show the same frames with different labels: mend the manifest"


def _scenes(videos: Mapping[str, str]) -> str:
    """Scenes and their videos, for a message."""
    named = [f"{scene} ({video})" for scene, video in videos.items()]
    return f"{len(named)} {'scene' if len(named) == 1 else 'scenes'}: {listed(named)}"


def listed(names: Iterable[str]) -> str:
    """The first names, and how many follow."""
    every = list(names)
    more = f" and {len(every) - NAMES} more" if len(every) > NAMES else ""
    return ", ".join(every[:NAMES]) + more
