"""Tables over all videos of a score folder, written piece by piece: memory stays bounded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.atomic import write_atomically
from ...data_manifests.errors import VadpipeError
from ...data_manifests.record import VideoRecord
from ...data_manifests.stored import DamagedFile, parse_json
from ...extractors.footage.video import ProbeRow
from .events import EVENT_SCHEMA

_ROW_FIELDS = ("path", "content_id", "kind", "height", "width")
VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("kind", pa.string()),
        ("n_frames", pa.int64()),
        ("fps", pa.float64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("flags", pa.list_(pa.string())),
    ]
)
# What the table has besides, null where it is not known: the camera, and whether the model was
# trained on it. Tables of earlier versions lack both.
SCENE_FIELDS = (("scene", pa.string()), ("scene_trained", pa.bool_()))
VIDEO_TABLE = pa.schema([*VIDEO_SCHEMA, *SCENE_FIELDS])
EVENT_TABLE = pa.schema([*EVENT_SCHEMA, *SCENE_FIELDS])


def camera_of(video: Mapping[str, Any]) -> dict[str, Any]:
    """`SCENE_FIELDS` of a row of the table of videos: the camera of its events and moments."""
    return {name: video.get(name) for name, _ in SCENE_FIELDS}


SCORE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("score", pa.float64()),
    ]
)


class ColumnsError(VadpipeError, ValueError):
    """The score columns of a video are not those of the run."""


class Tables:
    """The tables of all videos of a run, written piece by piece: memory stays bounded."""

    def __init__(
        self,
        scores: Callable[[pa.Table], None],
        videos: Callable[[pa.Table], None],
        events: Callable[[pa.Table], None],
        schema: pa.Schema,
    ) -> None:
        self._scores, self._videos, self._events = scores, videos, events
        self._schema = schema

    def add_scores(self, part: pa.Table) -> None:
        """Add the rows of one video, see `ScoreFolder.scores`.

        Raises:
            ColumnsError: it has other columns than the table.
        """
        names = self._schema.names
        if sorted(part.column_names) != sorted(names):
            raise ColumnsError(
                f"the scores have the columns {', '.join(part.column_names[3:])}, the detector "
                f"declares {', '.join(names[3:])}: delete their part and run score again"
            )
        self._scores(part.select(names).cast(self._schema))

    def add(self, videos: Sequence[Mapping[str, Any]], events: pa.Table) -> None:
        """Add the rows of `video_row` and the events of many videos, with their scenes."""
        self._videos(pa.Table.from_pylist(list(videos), schema=VIDEO_TABLE))
        rows = {row["video_id"]: row for row in videos}
        own = [rows[video_id] for video_id in events["video_id"].to_pylist()]
        for at, (name, kind) in enumerate(SCENE_FIELDS, start=len(EVENT_SCHEMA)):
            events = events.add_column(at, name, pa.array([row.get(name) for row in own], kind))
        self._events(events)


def described(record: VideoRecord, row: ProbeRow, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a video in the table of videos.

    Args:
        record:
            The video.
        row:
            Its file.
        facts:
            n_frames, fps and flags, as the features of the video say; other keys are not used.
    """
    start, stop = record.frame_range(facts["n_frames"])
    return {
        **{name: getattr(row, name) for name in _ROW_FIELDS},
        **{name: facts[name] for name in ("n_frames", "fps", "flags")},
        "video_id": record.video_id,
        "scene": record.scene,
        "frame_start": start,
        "frame_stop": stop,
    }


def video_row(record: VideoRecord, row: ProbeRow, part: pa.Table) -> dict[str, Any]:
    """The row of a video in the table of videos, from its part (see `ScoreFolder.scores`)."""
    return described(record, row, table_facts(part.schema.metadata or {}))


def table_facts(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What a part states of its video: n_frames, fps, flags; if it is newer than 0.1, its row.

    Args:
        metadata:
            Of the part.

    Raises:
        DamagedFile: it states nothing, or what no video has.
    """
    facts = parse_json(metadata.get(b"video", b""), "a part of the scores")
    try:
        n_frames, fps, flags = (facts[name] for name in ("n_frames", "fps", "flags"))
        good = isinstance(n_frames, int) and 0 <= n_frames < 1 << 62 and 0 < fps < math.inf
        if not good or not all(isinstance(flag, str) for flag in flags):
            raise ValueError("no video has such facts")
        more = {} if "content_id" not in facts else _whole_row(facts)
        more |= {"scene": facts["scene"]} if isinstance(facts.get("scene"), str) else {}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"the facts in a part of the scores are damaged ({error})") from error
    return {**more, "n_frames": n_frames, "fps": float(fps), "flags": list(flags)}


def _whole_row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `VIDEO_SCHEMA` in the facts of a part."""
    row: dict[str, Any] = pa.Table.from_pylist([dict(facts)], schema=VIDEO_SCHEMA).to_pylist()[0]
    if any(value is None for value in row.values()):
        raise ValueError("a value is missing")
    if not 0 <= row["frame_start"] <= row["frame_stop"]:
        raise ValueError("no video has such frames")
    return row


@contextmanager
def growing(path: Path, schema: pa.Schema, prefix: str) -> Iterator[Callable[[pa.Table], None]]:
    """Write a table of many pieces; it gets its name at the end.

    Args:
        path:
            The table.
        schema:
            Of a table without pieces.
        prefix:
            Of the folder next to `path` in which it grows.

    Yields:
        A function that adds a piece.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder:
        writer: pq.ParquetWriter | None = None
        temporary = Path(folder) / path.name

        def add(table: pa.Table) -> None:
            nonlocal writer
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)

        yield add
        if writer is None:
            add(schema.empty_table())
        assert writer is not None
        writer.close()
        write_atomically(path, lambda p: temporary.rename(p))


@contextmanager
def growing_tables(
    scores: Path, videos: Path, events: Path, schema: pa.Schema, prefix: str
) -> Iterator[Tables]:
    """Write the tables of scores, videos and events of a run, see `growing`.

    Args:
        scores:
            The table of scores.
        videos:
            That of videos.
        events:
            That of events.
        schema:
            Of the scores.
        prefix:
            See `growing`.
    """
    with ExitStack() as files:
        yield Tables(
            files.enter_context(growing(scores, schema, prefix)),
            files.enter_context(growing(videos, VIDEO_TABLE, prefix)),
            files.enter_context(growing(events, EVENT_TABLE, prefix)),
            schema,
        )
