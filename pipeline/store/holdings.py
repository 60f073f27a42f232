"""What a feature set holds of videos: the one answer to "is this video whole?"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...extractors.clips import Span
from ...extractors.footage.video import ProbeRow
from .errors import StoreError
from .feature_store import FeatureStore
from .shard import UNREADABLE, ShardRow, facts_at, opened_shard, row_of


class _Listed(NamedTuple):
    """What the index says of a shard, see `ShardRow`; None where it is of an older version."""

    last: bool | None
    n_frames: int | None
    whole_id: str | None


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
        self._known: dict[str, dict[tuple[int, int], _Listed]] = {}
        self._seen: dict[str, tuple[list[tuple[int, int]], tuple[int, int] | None]] = {}
        index = store.index(list(contents))
        names = ("content_id", "frame_start", "frame_stop", "last", "n_frames", "whole_id")
        for content, start, stop, *listed in zip(
            *(index[name].to_pylist() for name in names), strict=True
        ):
            self._known.setdefault(content, {})[start, stop] = _Listed(*listed)

    def whole(self, content_id: str) -> bool:
        """Whether the shards hold all of the video, up to where the decoder ended."""
        return self._look(content_id)[1] is not None

    def missing(self, content_id: str, spans: Sequence[Span]) -> tuple[int, ...]:
        """Indices of the spans that are not there; none if the video is whole."""
        shards, ending = self._look(content_id)
        if ending is not None:  # also where the spans reach beyond the end, as a header promised
            return ()
        return tuple(i for i, span in enumerate(spans) if not covers(shards, span))

    def reach(self, content_id: str) -> int:
        """The first frame that the shards do not hold, as far as they follow on each other."""
        at = 0
        for start, stop in self._look(content_id)[0]:
            if start <= at < stop:
                at = stop
        return at

    def agrees(self, row: ProbeRow, *counts: int) -> bool:
        """Whether what is there of a video was made of the file that was probed.

        Shards say of which file they were made. Those of older versions do not: for them, the
        number of frames is all that can be compared.

        Args:
            row:
                The file.
            counts:
                Numbers of frames of which the decoder's, or the planned one, is one; none are not
                compared.
        """
        content = row.content_id
        shards, ending = self._look(content)
        if not row.whole_id:
            return True  # a row made by hand: there is nothing to compare with
        known = self._known.get(content, {})
        stated = {known[shard].whole_id or "" for shard in shards} - {""}
        if not stated <= {row.whole_id}:
            return False
        if ending is None or not counts:
            return True
        last, path = known[ending], self.store.shard_path(Span(content, *ending, True))
        if last.n_frames is None:
            last = self._open(content, ending, path) or last
        if last.n_frames in counts:
            return True
        if not stated:
            return False
        if ending[1] in counts:  # as planned: the decoder returned another number, and would again
            return True
        try:  # a header that lies is no contradiction where the file is proven to be the same
            return "header_mismatch" in ending_of(self.store, content)[1]
        except UNREADABLE:
            return False

    def _open(self, content_id: str, frames: tuple[int, int], path: Path) -> _Listed | None:
        """What a shard says itself, and note it for the index; None if it cannot be read."""
        try:
            row = row_of(path)
        except UNREADABLE:
            return None
        self._unlisted.append(row)
        listed = _Listed(row.last, row.n_frames, row.whole_id)
        self._known.setdefault(content_id, {})[frames] = listed
        return listed

    def list_unlisted(self) -> None:
        """Put the shards that had to be opened into the index.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        self.store.add_index_part(self._unlisted)
        self._unlisted = []

    def _look(self, content_id: str) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        """(frame_start, frame_stop) of the readable shards, sorted, and of the one that ends it.

        The second is None where they are not all.
        """
        if content_id in self._seen:
            return self._seen[content_id]
        known = self._known.get(content_id, {})
        shards: list[tuple[int, int]] = []
        at = 0
        ending: tuple[int, int] | None = None
        for start, stop, path in self.store.shards(content_id):
            listed = known.get((start, stop))
            if listed is None or listed.last is None:
                listed = self._open(content_id, (start, stop), path)
            if listed is None:
                continue
            shards.append((start, stop))
            if start <= at < stop:
                at, ending = stop, (start, stop) if listed.last else None
        self._seen[content_id] = shards, ending
        return shards, ending


def current_videos(store: FeatureStore, rows: Iterable[ProbeRow]) -> set[str]:
    """Content ids of which the store holds everything, made of these very files; writes nothing.

    What others have extracted has lengths of its own.
    """
    rows = list(rows)
    holdings = Holdings(store, [row.content_id for row in rows])
    plain = "source" not in store.recipe and store.recipe["extractor"] != "imported"
    return {
        row.content_id
        for row in rows
        if holdings.whole(row.content_id)
        and holdings.agrees(row, *((row.n_frames,) if plain else ()))
    }


def whole_videos(store: FeatureStore, contents: Collection[str]) -> set[str]:
    """Those of the videos (content ids) of which the store holds everything; writes nothing."""
    holdings = Holdings(store, contents)
    return {content for content in contents if holdings.whole(content)}


def ending_of(store: FeatureStore, content_id: str) -> tuple[int, set[str]]:
    """Length and flags of a video that is whole, as its last shard states them; opens that shard.

    Raises:
        StoreError: no shard is the last one, or one is damaged.
    """
    for _, _, path in reversed(store.shards(content_id)):
        with opened_shard(path) as file:
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
