"""What a feature set holds of videos: the one answer to "is this video whole?"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import h5py

from ...extractors.clips import Span
from .errors import StoreError
from .feature_store import FeatureStore
from .shard import UNREADABLE, ShardRow, facts_at, row_of


class Holdings:
    """What a store holds of some videos, from the names of the shards and from the index.

    No shard that the index lists is opened. One that it does not list (its run was killed, or an
    older version did not note where a video ends) is opened once; one that cannot be read counts as
    missing, so that it is written again.

    Args:
        store:
            The feature set.
        contents:
            Content ids of the videos.
    """

    def __init__(self, store: FeatureStore, contents: Iterable[str]) -> None:
        self.store = store
        self._unlisted: list[ShardRow] = []
        self._known: dict[str, dict[tuple[int, int], bool | None]] = {}
        self._seen: dict[str, tuple[list[tuple[int, int]], bool]] = {}
        index = store.index(list(contents))
        names = ("content_id", "frame_start", "frame_stop", "last")
        for content, start, stop, last in zip(
            *(index[name].to_pylist() for name in names), strict=True
        ):
            self._known.setdefault(content, {})[start, stop] = last

    def whole(self, content_id: str) -> bool:
        """Whether the shards hold all of the video, up to where the decoder ended."""
        return self._look(content_id)[1]

    def missing(self, content_id: str, spans: Sequence[Span]) -> tuple[int, ...]:
        """Indices of the spans that are not there; none if the video is whole."""
        shards, whole = self._look(content_id)
        if whole:  # also where the header promised more frames than the spans were planned for
            return ()
        return tuple(i for i, span in enumerate(spans) if not covers(shards, span))

    def reach(self, content_id: str) -> int:
        """The first frame that the shards do not hold, as far as they follow on each other."""
        at = 0
        for start, stop in self._look(content_id)[0]:
            if start <= at < stop:
                at = stop
        return at

    def list_unlisted(self) -> None:
        """Put the shards that had to be opened into the index.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        self.store.add_index_part(self._unlisted)
        self._unlisted = []

    def _look(self, content_id: str) -> tuple[list[tuple[int, int]], bool]:
        """(frame_start, frame_stop) of the readable shards, sorted, and whether they are all."""
        if content_id in self._seen:
            return self._seen[content_id]
        known = self._known.get(content_id, {})
        shards: list[tuple[int, int]] = []
        at, ends = 0, False
        for start, stop, path in self.store.shards(content_id):
            last = known.get((start, stop))
            if last is None:
                try:
                    row = row_of(path)
                except UNREADABLE:
                    continue
                self._unlisted.append(row)
                last = bool(row.last)
            shards.append((start, stop))
            if start <= at < stop:
                at, ends = stop, last
        self._seen[content_id] = shards, ends
        return shards, ends


def whole_videos(store: FeatureStore, contents: Collection[str]) -> set[str]:
    """Those of the videos (content ids) of which the store holds everything; writes nothing."""
    holdings = Holdings(store, contents)
    return {content for content in contents if holdings.whole(content)}


def ending_of(store: FeatureStore, content_id: str) -> tuple[int, set[str]]:
    """Length and flags of a video that is whole, as its last shard states them; opens that shard.

    Raises:
        StoreError: no shard is the last one.
    """
    for _, _, path in reversed(store.shards(content_id)):
        with h5py.File(path, "r") as file:
            facts = facts_at(file, path)
            if facts.last:
                return facts.n_frames, set(facts.flags)
    raise StoreError(f"{store.name} has no whole features of {content_id}; run vadpipe extract")


def covers(shards: Sequence[tuple[int, int]], span: Span) -> bool:
    """Whether (frame_start, frame_stop) of sorted shards hold all frames of a span."""
    at = span.frame_start
    for start, stop in shards:
        if start <= at < stop:
            at = stop
        if at >= span.frame_stop:
            return True
    return False
