"""The record of one video as its data set states it, and the manifest: all records of a run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .errors import VadpipeError
from .natural_order import natural_key

ID_PATTERN = re.compile(r"[A-Za-z0-9._-]+")
ID_LENGTH = 200  # ids become file names: leaves room for a suffix within 255 bytes
# Control characters, and bytes of file names that are not UTF-8 (Python shows them as surrogates).
UNSTORABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
LABEL_BYTES = 1 << 24  # lists and annotation files are far smaller
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


class ManifestError(VadpipeError, ValueError):
    """A data set is not what it should be; the message names the video and what to do next."""


def image_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order; hidden files are not pictures."""
    found = (
        p
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return sorted(found, key=lambda p: natural_key(p.name))


def label_lines(path: Path) -> list[str]:
    """The lines of a list or annotation file, stripped; blank ones are left out.

    Line ends of any system, a byte order mark and a missing last newline are accepted.

    Raises:
        ManifestError: there is no such file, it is too large, or it is not text in UTF-8.
    """
    if not path.is_file():
        raise ManifestError(f"{path} does not exist: get it with the labels of the data set")
    if path.stat().st_size > LABEL_BYTES:
        raise ManifestError(
            f"{path} is larger than {LABEL_BYTES} bytes: it is not a list of labels"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not text in UTF-8: {error}") from error
    return [line for line in map(str.strip, text.split("\n")) if line]


def check_count(what: str, found: int, expected: int) -> None:
    """Compare a count with what the data set states.

    Raises:
        ManifestError: they differ.
    """
    if found != expected:
        raise ManifestError(
            f"{what}: found {found}, but the data set has {expected}; "
            "get it again, or check that this is the right one"
        )


class VideoRecord(BaseModel):
    """One video as its data set states it.

    Attributes:
        video_id: `[A-Za-z0-9._-]+`, at most 200 characters, unique in its manifest.
        path: file or image folder, POSIX style, relative to the manifest's root; None where
            there are features of the video but no footage.
        split: "train", "test", "validation", or "all" for footage without a split.
        label: 1 abnormal, 0 normal, None unknown.
        scene: the camera or place, where the data set names it.
        category: the data set's own class of anomaly ("Abuse", "B1"), several joined with "+".
        expected_frames: as the data set states it; None where it does not.
        anomalies: half-open, 0-based [start, stop) frame ranges of the whole file, sorted and
            disjoint; () is known to be normal throughout, None is unknown.
        part: the share of the file that this record describes, as fractions of its frames.
        masks: pixel masks, one a frame (non-zero = abnormal), see `masks.py`; relative to the root.
        tracks: labelled regions of the video, see `tracks.py`; relative to the root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    video_id: str
    path: str | None
    split: Literal["train", "test", "validation", "all"]
    label: Literal[0, 1] | None = None
    scene: str | None = None
    category: str | None = None
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
                f"video id {value!r:.200} may only have letters, digits, '.', '_' and '-', "
                "and may not start with a dot"
            )
        if len(value) > ID_LENGTH:
            raise ValueError(f"video id {value!r:.200} is longer than {ID_LENGTH} characters")
        return value

    @field_validator("scene", "category")
    @classmethod
    def _named_group(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not value.strip():
            raise ValueError(f"{info.field_name} is blank: leave it out where there is none")
        return value if value is None else _storable(value)

    @field_validator("path", "masks", "tracks")
    @classmethod
    def _relative(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = PurePosixPath(value)
        if not value or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"path {value!r:.200} must be relative to the root and stay under it")
        return _storable(value)

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
        """Return the frames [start, stop), in a video of n_frames, that this record describes."""
        return int(self.part[0] * n_frames), int(self.part[1] * n_frames)


class Manifest(BaseModel):
    """The videos of a run.

    Attributes:
        dataset: name of the data set, e.g. "ucsd_ped2".
        root: folder that record paths are relative to; a relative one is made absolute.
        records: in the data set's own order.
        unread: (relative path, reason) of what could not be read while a folder was listed: there
            may be more videos. Not part of the digest, and not written with the manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    root: str
    records: tuple[VideoRecord, ...]
    unread: tuple[tuple[str, str], ...] = ()

    @field_validator("dataset")
    @classmethod
    def _named(cls, value: str) -> str:
        if not ID_PATTERN.fullmatch(value):
            raise ValueError(
                f"data set name {value!r:.200} may only have letters, digits, '.', '_', '-'"
            )
        return value

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value:
            raise ValueError("the root is empty: name the folder that the paths are relative to")
        return str(Path(_storable(value)).absolute())

    @model_validator(mode="after")
    def _unique(self) -> Manifest:
        twice = sorted(k for k, n in Counter(r.video_id for r in self.records).items() if n > 1)
        if twice:
            more = f" and {len(twice) - 10} more" if len(twice) > 10 else ""
            raise ValueError(
                f"video ids are used more than once: {', '.join(twice[:10])}{more}; "
                "give every video an id of its own"
            )
        return self

    def __len__(self) -> int:
        return len(self.records)

    def resolve(self, relative: str) -> Path:
        """The absolute path of a record's path, mask folder or track file.

        Raises:
            ManifestError: the root does not exist, or a symbolic link leads out of it.
        """
        root = Path(os.path.realpath(self.root))
        if not root.is_dir():
            raise ManifestError(
                f"the root {self.root} of manifest {self.dataset!r} is not a folder here: "
                "mount it, or read the manifest with root=FOLDER"
            )
        path = Path(os.path.realpath(root / relative))
        if not path.is_relative_to(root):
            raise ManifestError(
                f"{relative!r:.200} leads out of {root}: links may not leave the root"
            )
        return path

    def select(self, *, split: str | None = None, label: int | None = None) -> Manifest:
        """Return a manifest of the records with this split and this label; None accepts all."""
        kept = tuple(
            r
            for r in self.records
            if (split is None or r.split == split) and (label is None or r.label == label)
        )
        return self.model_copy(update={"records": kept})

    @property
    def digest(self) -> str:
        """sha256 over id, split, label, scene, part and anomalies; never over the root.

        Paths and categories are left out, because no model sees them.
        """
        rows = [
            [r.video_id, r.split, r.label, r.scene, r.part, r.anomalies]
            for r in sorted(self.records, key=lambda r: r.video_id)
        ]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def _storable(text: str) -> str:
    """Return the text if Parquet, CSV and the file system can all store it."""
    if UNSTORABLE.search(text):
        raise ValueError(f"{text!r:.200} has control characters or is not UTF-8: rename it")
    return text
