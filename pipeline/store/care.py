"""Care of a feature set: what is wrong with its shards, and letting go of those that are broken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...data_manifests.atomic import remove_anything
from ...extractors.clips import Span
from .errors import StoreError
from .facts import check_place
from .shard import UNREADABLE, frames_of, reason_of, verify_shard
from .sharded_array import forget_maps

if TYPE_CHECKING:
    from .feature_store import FeatureStore

MAKERS = ("vadpipe", "torch", "ffmpeg", "device")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a feature set.

    Attributes:
        text: one line.
        shards: what has to go, so that it is made again; none where the index alone is wrong.
    """

    text: str
    shards: tuple[Path, ...] = ()


def problems_of(store: FeatureStore) -> Iterator[Problem]:
    """Read every shard of a store and compare it with its checksum, its seal and its place.

    Yields:
        Broken and misplaced shards, shards of one video that were made of different files, shards
        that the index does not list, listed ones that are gone, mixed versions or devices.
    """
    for path, error in store.shard_index.damaged():
        yield Problem(f"damaged: {path}: {error} (run vadpipe cache repair)")
    index = store.index()
    names = ("content_id", "frame_start", "frame_stop")
    listed = set(zip(*(index[name].to_pylist() for name in names), strict=True))
    makers: dict[str, set[str]] = defaultdict(set)
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in store.scan():
        frames = frames_of(path.name)
        assert frames is not None  # `scan` finds no others
        place = (path.parent.name, *frames)
        try:
            facts = verify_shard(path)
        except UNREADABLE as error:
            yield Problem(f"broken: {path}: {reason_of(path, error)}", (path,))
            continue
        except MemoryError as error:
            yield Problem(f"not verified: {error}")
            continue
        try:
            check_place(facts, path, frames)
        except StoreError:
            frames_said = f"{facts.frame_start}-{facts.frame_stop}"
            yield Problem(
                f"misplaced: {path} belongs to {facts.content_id} {frames_said} {facts.key}",
                (path,),
            )
            continue
        if place not in listed:
            yield Problem(f"not indexed: {path} (run vadpipe cache rebuild)")
        listed.discard(place)
        if facts.whole_id:
            files[facts.content_id][facts.whole_id].append(path)
        for field in MAKERS:
            makers[field].add(facts.maker.get(field, "?"))
    for content, by_file in sorted(files.items()):
        if len(by_file) > 1:
            shards = tuple(path for paths in by_file.values() for path in paths)
            yield Problem(f"mixed: shards of {content} were made of different files", shards)
    for content, start, stop in sorted(listed):
        path = store.shard_path(Span(content, start, stop, False))
        if not path.is_file():  # else it is broken, and named above
            yield Problem(f"gone: {path} is in the index (run vadpipe cache rebuild)")
    for field, values in makers.items():
        if len(values) > 1:
            versions = ", ".join(sorted(values))
            yield Problem(f"mixed: shards were made with several versions of {field}: {versions}")


def drop_shards(store: FeatureStore, problems: Sequence[Problem]) -> int:
    """Delete the shards that have to go and write the index again; returns how many went.

    They count as missing then: `extract`, or `import`, makes them again.
    """
    gone = sorted({path for problem in problems for path in problem.shards})
    for path in gone:
        remove_anything(path)
    for folder in {path.parent for path in gone}:
        forget_maps(folder)
    store.rebuild_index()
    return len(gone)
