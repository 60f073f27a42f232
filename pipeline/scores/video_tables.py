"""Tables over all videos of a score folder, written piece by piece: memory stays bounded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.atomic import write_atomically
from ...data_manifests.errors import VadpipeError
from ...data_manifests.record import VideoRecord
from ...data_manifests.stored import DamagedFile, parse_json
from ...extractors.footage.video import ProbeRow

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
        """Add the rows of `video_row` and the events of many videos."""
        self._videos(pa.Table.from_pylist(list(videos), schema=VIDEO_SCHEMA))
        self._events(events)


def video_row(record: VideoRecord, row: ProbeRow, part: pa.Table) -> dict[str, Any]:
    """The row of a video in the table of videos, from its part (see `ScoreFolder.scores`)."""
    facts = video_facts(part)
    start, stop = record.frame_range(facts["n_frames"])
    return {
        **{name: getattr(row, name) for name in _ROW_FIELDS},
        **facts,
        "video_id": record.video_id,
        "frame_start": start,
        "frame_stop": stop,
    }


def video_facts(part: pa.Table) -> dict[str, Any]:
    """n_frames, fps and flags of a video, as its part states them (see `ScoreFolder.scores`).

    Raises:
        DamagedFile: it states none, or what no video has.
    """
    facts = parse_json((part.schema.metadata or {}).get(b"video", b""), "a part of the scores")
    try:
        n_frames, fps, flags = (facts[name] for name in ("n_frames", "fps", "flags"))
        good = isinstance(n_frames, int) and 0 <= n_frames < 1 << 62 and 0 < fps < math.inf
        if not good or not all(isinstance(flag, str) for flag in flags):
            raise ValueError("no video has such facts")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"the facts in a part of the scores are damaged ({error})") from error
    return {"n_frames": n_frames, "fps": float(fps), "flags": list(flags)}


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
