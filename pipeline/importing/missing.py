"""Write what an import has found: the shards that are not there, under the lock of their set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..store.errors import StoreError
from ..store.failures import Failure, describe_failure
from ..store.feature_store import FeatureStore, VideoFeatures
from ..store.holdings import Holdings
from ..store.locks import writing
from ..store.shard import ShardRow
from .files import FeatureFileError

OTHERWISE = "import under another --name, or delete that set with vadpipe cache rm"


@dataclass(frozen=True)
class Found:
    """What was found for one content.

    Attributes:
        content_id: the content.
        video_ids: its videos.
        write: writes the shard and returns its row. It is told whether the store has the content;
            then it compares, writes nothing and returns None.
    """

    content_id: str
    video_ids: Sequence[str]
    write: Callable[[bool], ShardRow | None]


def write_missing(
    store: FeatureStore,
    found: Sequence[Found],
    failures: list[Failure],
    advance: Callable[[float], None] = lambda done: None,
) -> int:
    """Write the shards of an import; what a killed import has written is listed first.

    Args:
        store:
            The feature set; it is made if it is not there.
        found:
            What to write, in order.
        failures:
            Videos whose file cannot be read or differs from what is there are added.
        advance:
            Called with 1 after each.

    Returns:
        Shards written.

    Raises:
        StoreError: the set was deleted meanwhile.
    """
    with writing([store.root]):
        store.create()
        written: list[ShardRow] = []
        contents = {each.content_id for each in found}
        holdings = Holdings(store, contents)
        whole = {content for content in contents if holdings.whole(content)}
        holdings.list_unlisted()
        try:
            for each in found:
                try:
                    if (row := each.write(each.content_id in whole)) is not None:
                        written.append(row)
                        whole.add(row.content_id)
                except Exception as error:  # one bad file never stops a run
                    failures += [describe_failure(v, "import", error) for v in each.video_ids]
                advance(1)
        finally:
            store.add_index_part(written)
        if not store.is_there():
            store.create()
            raise StoreError(f"{store.name} was deleted meanwhile: run the same command again")
        return len(written)


def check_rate(label: str, store: FeatureStore, kept: VideoFeatures, fps: float | None) -> None:
    """Check that a video in a store has the frame rate that was asked for.

    Args:
        label:
            Of its file.
        store:
            The feature set.
        kept:
            What it holds of the video.
        fps:
            Frames per second; None: none was asked for.

    Raises:
        FeatureFileError: it has another one.
    """
    if fps is not None and kept.fps != fps:
        raise FeatureFileError(
            f"{label}: {store.name} holds this video with {kept.fps:g} frames per second, not "
            f"{fps:g}: {OTHERWISE}"
        )
