"""One video as its data set states it, and the list of them that a run is about."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ID_PATTERN = re.compile(r"[A-Za-z0-9._-]+")


class ManifestError(ValueError):
    """A data set is not what it should be; the message names the video and what to do next."""


class VideoRecord(BaseModel):
    """One video as its data set states it.

    Attributes:
        video_id: `[A-Za-z0-9._-]+`, unique in its manifest.
        path: file or image folder, POSIX style, relative to the manifest's root.
        split: "train", "test", "validation", or "all" for footage without a split.
        label: 1 abnormal, 0 normal, None unknown.
        scene: the camera or place, where the data set names it.
        expected_frames: as the data set states it; None where it does not.
        anomalies: half-open, 0-based [start, stop) frame ranges of the whole file, sorted and
            disjoint; () is known to be normal throughout, None is unknown.
        part: the share of the file that this record is about, as fractions of its frames.
        masks: folder of one pixel mask a frame (non-zero = abnormal), relative to the root.
        tracks: CSV of labelled regions (track_id, frame, x0, y0, x1, y1), relative to the root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    video_id: str
    path: str
    split: Literal["train", "test", "validation", "all"]
    label: Literal[0, 1] | None = None
    scene: str | None = None
    expected_frames: int | None = Field(default=None, gt=0)
    anomalies: tuple[tuple[int, int], ...] | None = None
    part: tuple[float, float] = (0.0, 1.0)
    masks: str | None = None
    tracks: str | None = None

    @field_validator("video_id")
    @classmethod
    def _safe_id(cls, value: str) -> str:
        if not ID_PATTERN.fullmatch(value) or value.startswith("."):
            raise ValueError(
                f"video id {value!r} may only have letters, digits, '.', '_' and '-', "
                "and may not start with a dot"
            )
        return value

    @field_validator("path", "masks", "tracks")
    @classmethod
    def _relative(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = PurePosixPath(value)
        if not value or "\0" in value or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"path {value!r} has to be relative to the root and stay under it")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> VideoRecord:
        start, stop = self.part
        if not 0.0 <= start < stop <= 1.0:
            raise ValueError(f"{self.video_id}: part {self.part} is not 0 <= start < stop <= 1")
        previous = 0
        for begin, end in self.anomalies or ():
            if not previous <= begin < end:
                raise ValueError(
                    f"{self.video_id}: anomalies {self.anomalies} are not sorted, disjoint, "
                    "0-based half-open frame ranges"
                )
            previous = end
        if self.expected_frames is not None and previous > self.expected_frames:
            raise ValueError(
                f"{self.video_id}: an anomaly ends at frame {previous}, but the video has "
                f"{self.expected_frames} frames"
            )
        if self.label == 0 and self.anomalies:
            raise ValueError(f"{self.video_id}: labelled normal, but has anomalies")
        return self

    def frame_range(self, n_frames: int) -> tuple[int, int]:
        """The frames [start, stop) of a video of n_frames that this record is about."""
        return int(self.part[0] * n_frames), int(self.part[1] * n_frames)


class Manifest(BaseModel):
    """The videos of a run.

    Attributes:
        dataset: its name, e.g. "ucsd_ped2".
        root: absolute path of the folder that record paths are relative to.
        records: in the data set's own order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    root: str
    records: tuple[VideoRecord, ...]

    @model_validator(mode="after")
    def _unique(self) -> Manifest:
        twice = [k for k, n in Counter(r.video_id for r in self.records).items() if n > 1]
        if twice:
            raise ValueError(f"video ids are used twice: {', '.join(sorted(twice)[:10])}")
        return self

    def __len__(self) -> int:
        return len(self.records)

    def videos(self) -> Iterator[VideoRecord]:
        """The records in order."""
        return iter(self.records)

    def resolve(self, relative: str) -> Path:
        """The absolute path of a record's path, mask folder or track file.

        Raises:
            ManifestError: it leads out of the root (through a symbolic link).
        """
        root = Path(self.root).resolve()
        path = (root / relative).resolve()
        if not path.is_relative_to(root):
            raise ManifestError(f"{relative!r} leads out of {root}: links may not leave the root")
        return path

    def select(self, *, split: str | None = None, label: int | None = None) -> Manifest:
        """The records of a split and / or a label."""
        kept = tuple(
            r
            for r in self.records
            if (split is None or r.split == split) and (label is None or r.label == label)
        )
        return self.model_copy(update={"records": kept})

    @property
    def digest(self) -> str:
        """sha256 over id, split, label, scene, part and anomalies; never over the root."""
        rows = [
            [r.video_id, r.split, r.label, r.scene, r.part, r.anomalies]
            for r in sorted(self.records, key=lambda r: r.video_id)
        ]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
