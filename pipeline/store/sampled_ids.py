"""Which file a sampled content id stands for in a cache: two files may share one.

A sampled id does not see a change between its blocks. The first file that had an id in a cache
keeps it; any other file with that id is named by its whole id, which covers every byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...extractors.footage.video import ProbeRow
from .shard import UNREADABLE, facts_at, frames_of, opened_shard


class SampledIds:
    """Gives each file an id of its own.

    Args:
        cache:
            Root of the cache; its shards say which file they were made of.
        rows:
            All rows of its probe table.
    """

    def __init__(self, cache: Path, rows: Iterable[ProbeRow]) -> None:
        self._cache = cache
        self._owner: dict[str, str] = {}
        for row in rows:
            if row.whole_id not in ("", row.content_id):
                # Two runs at once may have given one id to two files: then the order decides.
                known = self._owner.get(row.content_id, row.whole_id)
                self._owner[row.content_id] = min(known, row.whole_id)

    def settled(self, row: ProbeRow) -> ProbeRow:
        """The row with an id that no other file of the cache has."""
        if row.whole_id in ("", row.content_id):
            return row  # the id covers every byte
        if row.content_id not in self._owner:
            self._owner[row.content_id] = self._of_shards(row.content_id) or row.whole_id
        if self._owner[row.content_id] == row.whole_id:
            return row
        return replace(row, content_id=row.whole_id)

    def _of_shards(self, content_id: str) -> str:
        """The whole id that shards state; "" where there are none, or only older ones."""
        place = f"*/shards/{content_id.partition('-')[2][:2]}/{content_id}/*.h5"
        for path in sorted((self._cache / "features").glob(place)):
            if frames_of(path.name) is None:
                continue
            try:
                with opened_shard(path) as file:
                    whole_id = facts_at(file, path).whole_id
            except UNREADABLE:
                continue
            if whole_id:
                return whole_id
        return ""
