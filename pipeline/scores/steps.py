"""From the features of a video to its part of a score folder: read, compute, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data_manifests.record import VideoRecord
from ...detectors.base import Bag, Detector, Scores
from ...detectors.together import ScoresTogether, filled
from ...extractors.footage.video import ProbeRow
from ..bags import StoreBags
from ..store.errors import StoreError
from ..store.feature_store import FeatureStore
from ..store.holdings import whole_videos
from ..store.imported import checksums_of, how_to_import
from ..store.keys import key_of
from .box_counts import boxes_a_frame, count_in, noted
from .folder import ScoreFolder, part_stamp
from .maps import covered_by_grids
from .outputs import checked_scores
from .read_ahead import read_ahead
from .video_tables import described

FRAMES_TOGETHER = 4096  # of videos that are read and scored together: 256 rows of 16 frames
FEWEST = FRAMES_TOGETHER // 32  # that a video counts for: 32 of them at the most


@dataclass(frozen=True)
class PartFacts:
    """What the part of a video is about.

    Attributes:
        stamp: what its scores are made of.
        facts: of the video, as its features know them.
    """

    stamp: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """A video that can be scored.

    Attributes:
        bag: its features.
        part: what its scores are for.
    """

    bag: Bag
    part: PartFacts


@dataclass(frozen=True)
class Computed:
    """A video that was scored; its features are not kept with it.

    Attributes:
        scores: as they are stored.
        part: what they are for.
    """

    scores: Scores
    part: PartFacts


def groups_of(
    detector: Detector[Any], records: Sequence[VideoRecord], rows: Mapping[str, ProbeRow]
) -> Iterator[list[VideoRecord]]:
    """Videos that are read and scored together, in order.

    Args:
        detector:
            Which scores several at once, or one by one.
        records:
            The videos.
        rows:
            Their files; how many frames these have decides, as nothing is opened yet.
    """
    if not isinstance(detector, ScoresTogether):
        return iter([record] for record in records)
    frames = [max(FEWEST, rows[record.video_id].n_frames) for record in records]
    return filled(records, frames, FRAMES_TOGETHER)


class ScoringSteps:
    """The three steps of scoring a video; each may run in another thread.

    Args:
        detector:
            What scores.
        card:
            Of its model.
        imported:
            Feature sets that come from files.
        rows:
            Files of all videos, by video id.
        folder:
            Where scores are written.
        keep_maps:
            Whether maps are written, too.
    """

    def __init__(
        self,
        detector: Detector[Any],
        card: Mapping[str, Any],
        imported: Sequence[FeatureStore],
        rows: Mapping[str, ProbeRow],
        folder: ScoreFolder,
        keep_maps: bool,
    ) -> None:
        self._detector, self._rows = detector, rows
        self._key, self._weights = card["key"], card.get("weights_sha256")
        self._imported = imported
        contents = {row.content_id for row in rows.values()}
        self._whole = {store.key: whole_videos(store, contents) for store in imported}
        self._needs = {role: key_of(recipe) for role, recipe in card["features"].items()}
        self._covered = covered_by_grids(card["features"].values())
        self._folder, self._keep_maps = folder, keep_maps
        self._stamps: dict[str, str] = {}

    def groups(self, records: Sequence[VideoRecord]) -> Iterator[list[VideoRecord]]:
        """Videos that are read and scored together, see `groups_of`."""
        return groups_of(self._detector, records, self._rows)

    def is_current(self, record: VideoRecord, row: ProbeRow) -> bool:
        """Tell whether the scores of a video are there already."""
        try:
            stamp = self._stamp(record, row)
        except StoreError:
            return False  # reading it says why
        # Features that are exchanged later do not fit this stamp: their scores are made again.
        self._stamps[record.video_id] = stamp
        return self._folder.is_current(
            record.video_id, stamp, row, keep_maps=self._keep_maps, weights=self._weights
        )

    def _stamp(self, record: VideoRecord, row: ProbeRow) -> str:
        imported = checksums_of(self._imported, [row.content_id])
        return part_stamp(self._key, record, row, imported.get(row.content_id, []))

    def read(self, record: VideoRecord, row: ProbeRow, stores: Sequence[FeatureStore]) -> Opened:
        """Open the features of a video, and read them where the detector reads them all.

        Raises:
            StoreError: features are missing or damaged.
            DetectorError: the detector needs a role that they lack.
        """
        for store in self._imported:
            if row.content_id not in self._whole[store.key]:
                raise StoreError(f"{store.name} lacks it: {how_to_import(store)}")
        stamp = self._stamps.get(record.video_id) or self._stamp(record, row)
        sources = [*stores, *self._imported]
        by_key = {store.key: store for store in sources}
        chosen = {role: by_key[key] for role, key in self._needs.items()}
        bags = StoreBags([record], {record.video_id: row}, chosen, labels=False)
        bag, read = bags.opened(0)
        features = read.get(sources[0].key) or sources[0].read(row.content_id)
        flags = sorted({*row.flags, *features.flags})
        facts = {"n_frames": features.n_frames, "fps": bag.fps, "flags": flags}
        facts |= noted(boxes_a_frame(bag))
        return Opened(read_ahead(self._detector, bag), PartFacts(stamp, facts))

    def compute(self, videos: Sequence[Opened]) -> list[Computed]:
        """Score videos, together where the detector gains by it.

        Raises:
            DetectorError: the detector cannot score one of them.
            OutputError: what it returned is not what it declares.
        """
        detector, bags = self._detector, [opened.bag for opened in videos]
        if isinstance(detector, ScoresTogether):
            found = detector.score_together(bags)
        else:
            found = [detector.score(bag) for bag in bags]
        return [
            Computed(checked_scores(detector, scores, opened.bag.n_frames), opened.part)
            for opened, scores in zip(videos, found, strict=True)
        ]

    def write(self, record: VideoRecord, row: ProbeRow, computed: Computed) -> None:
        """Write the part of a video, its maps and its regions.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        facts = computed.part.facts
        more = {"whole_id": row.whole_id, "weights": self._weights, **noted(count_in(facts))}
        self._folder.write_scores(
            record.video_id,
            computed.scores,
            computed.part.stamp,
            described(record, row, facts) | more,
            keep_maps=self._keep_maps,
            covered=self._covered,
        )
