"""Held-out rows: scores of normal videos that training did not see, kept row by row.

A model keeps the quantiles of these rows in its card, from which thresholds come. The rows
themselves are needed where scores are put on another scale (see `quantiles`) or calibrated again
after they were combined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.atomic import write_table
from ...data_manifests.errors import VadpipeError
from ...data_manifests.stored import DamagedFile, parse_json, read_parquet
from ...detectors.base import Scores

FILE = "calibration.parquet"  # its name in a model folder and in a score folder
MOST_FRAMES = 1 << 31  # of a held-out video; a fusion has a byte for each
_ROW = {"video_id": pa.string(), "frame_start": pa.int64(), "frame_stop": pa.int64()}


class HeldOutError(VadpipeError, ValueError):
    """Held-out rows that cannot be used; the message names the file or the column."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of some videos.

    Attributes:
        table: video_id, frame_start, frame_stop and one float64 column for each score column.

    Raises:
        HeldOutError: there are no rows, a column is missing or of another type, or a value is not
            finite.
    """

    table: pa.Table

    def __post_init__(self) -> None:
        names = self.table.column_names
        wanted = {**_ROW, **{name: pa.float64() for name in names if name not in _ROW}}
        wrong = [
            n for n, t in wanted.items() if n not in names or self.table.schema.field(n).type != t
        ]
        if wrong or "score" not in names:
            raise HeldOutError(
                f"held-out rows lack {', '.join(wrong) or 'score'}, or it is no number"
            )
        if nulls := [name for name in _ROW if self.table[name].null_count]:
            raise HeldOutError(f"held-out rows have nulls in {', '.join(nulls)}")
        if not self.table.num_rows:
            raise HeldOutError("there are no held-out rows")
        for name in self.columns:
            if self.table[name].null_count or not np.isfinite(self.values(name)).all():
                raise HeldOutError(f"held-out rows: column {name!r} is not finite")

    @classmethod
    def from_scores(
        cls,
        video_ids: Sequence[str],
        scores: Sequence[Scores],
        fps: Mapping[str, float] | None = None,
    ) -> HeldOut:
        """Collect the scores of held-out videos.

        Args:
            video_ids:
                One for each entry of `scores`; a video may come in several pieces.
            scores:
                With the same columns everywhere.
            fps:
                video_id -> frames per second, where they are known.

        Raises:
            HeldOutError: columns differ between videos, or there are no rows.
        """
        columns = {tuple(sorted(each.columns)) for each in scores}
        if len(columns) > 1:
            raise HeldOutError(f"held-out videos differ in their columns: {sorted(columns)}")
        pieces = [
            pa.table(
                {
                    "video_id": pa.array([video_id] * len(each.frame_start), pa.string()),
                    "frame_start": np.asarray(each.frame_start, np.int64),
                    "frame_stop": np.asarray(each.frame_stop, np.int64),
                    **{name: np.asarray(v, np.float64) for name, v in each.columns.items()},
                }
            )
            for video_id, each in zip(video_ids, scores, strict=True)
        ]
        if not pieces:
            raise HeldOutError("there are no held-out rows")
        table = pa.concat_tables([piece.select(pieces[0].column_names) for piece in pieces])
        if fps is not None:
            known = {video_id: fps[video_id] for video_id in video_ids}
            table = table.replace_schema_metadata({"fps": json.dumps(known)})
        return cls(table)

    @classmethod
    def read(cls, path: Path, cure: str = "delete it and run score again") -> HeldOut | None:
        """What `write` wrote; None without a file.

        Args:
            path:
                The file.
            cure:
                What the message of a damaged file says to do.

        Raises:
            HeldOutError: the file is damaged, or is not what `write` writes.
        """
        if not path.is_file():
            return None
        try:
            held_out = cls(read_parquet(path))
            _ = held_out.fps, held_out.scenes
            start, stop = (held_out.table[n].to_numpy() for n in ("frame_start", "frame_stop"))
            if (start < 0).any() or (stop < start).any() or (stop >= MOST_FRAMES).any():
                raise HeldOutError("held-out rows have frames that no video has")
        except (DamagedFile, OSError) as error:
            raise HeldOutError(f"{error}: {cure}") from error
        except HeldOutError as error:
            raise HeldOutError(f"{path}: {error}: {cure}") from error
        return held_out

    def with_scenes(self, scenes: Mapping[str, str | None]) -> HeldOut:
        """The same rows, noting the scene of each video that has one."""
        known = {video: scenes[video] for video in self.videos if scenes.get(video) is not None}
        notes = {**(self.table.schema.metadata or {}), b"scenes": json.dumps(known).encode()}
        return HeldOut(self.table.replace_schema_metadata(notes))

    def of_videos(self, videos: Sequence[str]) -> HeldOut:
        """The rows of some held-out videos.

        Raises:
            HeldOutError: one has none.
        """
        return HeldOut(pa.concat_tables([self.of_video(video).table for video in videos]))

    def write(self, path: Path) -> None:
        """Write the rows to a file.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        write_table(path, self.table)

    @property
    def fps(self) -> dict[str, float]:
        """video_id -> frames per second; empty in models of earlier versions.

        Raises:
            HeldOutError: a rate is not a positive number.
        """
        try:
            found = parse_json((self.table.schema.metadata or {}).get(b"fps", b"{}"), "fps")
            rates = {str(video_id): float(rate) for video_id, rate in found.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise HeldOutError(f"frame rates of held-out rows are damaged ({error})") from error
        if not all(0 < rate < np.inf for rate in rates.values()):
            raise HeldOutError("frame rates of held-out rows are not positive")
        return rates

    @property
    def scenes(self) -> dict[str, list[str]]:
        """Scene -> its held-out videos; empty where none is named, and in earlier versions.

        Raises:
            HeldOutError: what is noted of scenes is damaged.
        """
        found: dict[str, list[str]] = {}
        try:
            noted = parse_json((self.table.schema.metadata or {}).get(b"scenes", b"{}"), "scenes")
            for video in self.videos:
                if (scene := noted.get(video)) is not None:
                    found.setdefault(str(scene), []).append(video)
        except (AttributeError, DamagedFile) as error:
            raise HeldOutError(f"scenes of held-out rows are damaged ({error})") from error
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns."""
        return tuple(name for name in self.table.column_names if name not in _ROW)

    @property
    def videos(self) -> tuple[str, ...]:
        """The held-out videos, sorted."""
        return tuple(sorted(self.table["video_id"].unique().to_pylist()))

    def values(self, column: str) -> NDArray[np.float64]:
        """All values of a score column: (n,).

        Raises:
            HeldOutError: there is no such column; the message lists those that there are.
        """
        if column not in self.columns:
            raise HeldOutError(
                f"no held-out column {column!r}; there are: {', '.join(self.columns)}"
            )
        return np.asarray(self.table[column].to_numpy(), np.float64)

    def of_video(self, video_id: str) -> HeldOut:
        """The rows of one held-out video.

        Raises:
            HeldOutError: it has none.
        """
        if video_id not in self.rows_of:
            raise HeldOutError(f"there are no held-out rows of {video_id!r}")
        return HeldOut(self.table.take(self.rows_of[video_id]))

    @cached_property
    def rows_of(self) -> dict[str, NDArray[np.int64]]:
        """video_id -> (n,) its rows in order; found once, or each video costs a pass over all."""
        ids = self.table["video_id"].combine_chunks().dictionary_encode()
        codes = ids.indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        pieces = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        return dict(zip(ids.dictionary.to_pylist(), pieces, strict=True))
