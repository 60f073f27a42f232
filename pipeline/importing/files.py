"""Feature files that others have written (npy, npz, text), read without trusting them.

Nothing is unpickled. A header counts only if the size of the file agrees with it. Every size is
checked against a limit before memory is allocated.
"""

from __future__ import annotations

import codecs
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...data_manifests import pets2009
from ...data_manifests.errors import VadpipeError
from ...data_manifests.memory import check_memory
from ...data_manifests.natural_order import path_key
from ...data_manifests.plain_text import one_line
from ...data_manifests.record import ManifestError
from ...extractors.weights.kept import file_sha256

SUFFIXES = (".npy", ".npz", ".txt")
MAX_ARRAY_BYTES = 8 << 30  # the longest video of UCF-Crime with ten crops in float32 has 5 GB
MAX_TEXT_BYTES = 256 << 20
MAX_LINE_BYTES = 16 << 20  # a million numbers
MAX_MEMBERS = 100_000  # of one archive
CHECK_BYTES = 64 << 20  # searched for NaN at a time
LISTED = 5


class FeatureFileError(VadpipeError, ValueError):
    """A feature file that cannot be used; the message names it and says what to do next."""


@dataclass(frozen=True)
class Header:
    """What a file says of its array: (shape, dtype), before anything is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class FeatureFile:
    """One array in a file.

    Attributes:
        path: the file.
        name: what names the video, without folders and suffix.
        member: the array's name in an archive; None where the file is the array.
    """

    path: Path
    name: str
    member: str | None = None

    @property
    def label(self) -> str:
        """For messages and provenance: `X_i3d.npy`, `archive.npz:Abuse/Abuse001_x264`."""
        inside = "" if self.member is None else f":{self.member.removesuffix('.npy')}"
        return one_line(f"{self.path.name}{inside}")  # names may hold anything, or be no UTF-8

    @property
    def is_text(self) -> bool:
        """True for lines of numbers."""
        return self.path.suffix.lower() == ".txt"

    def header(self) -> Header:
        """Shape and dtype, checked against the size of the file.

        Raises:
            FeatureFileError: no array of float16, float32 or float64, cut off, empty or too large.
        """
        if self.is_text:
            return _checked(self, self._text_header())
        with self._opened() as (stream, size):
            header = _read_header(self, stream)
            needed = stream.tell() + math.prod(header.shape) * header.dtype.itemsize
            if needed != size:
                raise FeatureFileError(
                    f"{self.label}: has {size:,} bytes, its header states {needed:,}: it is cut "
                    "off or damaged; copy it again"
                )
        return header

    def read(self) -> NDArray[Any]:
        """The array, float16 or float32 in the byte order of this machine.

        float64 becomes float32. An `.npy` is memory-mapped.

        Raises:
            FeatureFileError: as `header` raises it; or a value is not finite.
            OutOfMemory: the array needs more memory than there is.
        """
        header = self.header()
        self._check_memory(header)
        try:
            values = self._values(header)
        except (FeatureFileError, MemoryError):
            raise
        except Exception as error:  # zlib, zip and npy each have errors of their own
            raise FeatureFileError(f"{self.label}: cannot be read: {error}") from error
        if values.shape != header.shape:
            raise FeatureFileError(f"{self.label}: changed while it was read; try again")
        kind = np.float16 if header.dtype.itemsize == 2 else np.float32
        with np.errstate(over="ignore"):  # values too large for float32 become inf, found below
            values = values.astype(kind, copy=False)
        step = max(1, CHECK_BYTES // max(1, values[:1].nbytes))
        for start in range(0, len(values), step):
            bad = ~np.isfinite(values[start : start + step]).reshape(
                len(values[start : start + step]), -1
            )
            rows = np.flatnonzero(bad.any(axis=1))
            if len(rows):
                raise FeatureFileError(
                    f"{self.label}: NaN or infinite values, first in row {start + rows[0]}: the "
                    "features were stored too small or made wrongly; get them again"
                )
        return values

    def sha256(self) -> str:
        """Of the whole file (of the archive, for a member)."""
        return file_sha256(self.path)

    def _check_memory(self, header: Header) -> None:
        """An array of an archive is unpacked into memory; others are, where they are converted."""
        count = math.prod(header.shape)
        mapped = self.member is None and not self.is_text
        needed = 0 if mapped else count * header.dtype.itemsize
        if header.dtype.itemsize == 8 or not header.dtype.isnative:
            needed += 4 * count
        check_memory(needed, self.label, "import it on a machine with more memory")

    def _values(self, header: Header) -> NDArray[Any]:
        if self.is_text:
            return self._numbers(header)
        if self.member is None:
            return cast(NDArray[Any], np.load(self.path, mmap_mode="r", allow_pickle=False))
        with self._opened() as (stream, _):
            return npy.read_array(stream, allow_pickle=False)

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, int]]:
        """The npy stream and its size in bytes."""
        if self.member is None:
            with self.path.open("rb") as file:
                yield file, self.path.stat().st_size
            return
        try:
            stats = self.path.stat()
            archive = _archive(self.path, stats.st_size, stats.st_mtime_ns)
            info = archive.getinfo(self.member)
            member = archive.open(info)
        except Exception as error:  # a damaged zip can raise almost any error
            raise FeatureFileError(f"{self.label}: cannot be unpacked: {error}") from error
        with member:
            yield cast(BinaryIO, member), info.file_size

    def _text_header(self) -> Header:
        rows = width = 0
        for number, line in self._lines():
            if not width and (b"," in line or b";" in line):
                raise FeatureFileError(
                    f"{self.label}: its numbers are separated by commas or semicolons: write "
                    "spaces between them, and points as decimal marks"
                )
            width = width or len(line.split())
            rows = number
        if not rows:
            raise FeatureFileError(f"{self.label}: is empty")
        return Header((rows, width), np.dtype(np.float32))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are not blank, numbered from 1. A list of them would be many times the file.

        Raises:
            FeatureFileError: the file or a line is too long, or it is text in UTF-16.
        """
        if self.path.stat().st_size > MAX_TEXT_BYTES:
            raise FeatureFileError(f"{self.label}: a text of more than {MAX_TEXT_BYTES:,} bytes")
        number = 0
        with self.path.open("rb") as file:
            head = file.read(len(codecs.BOM_UTF8))
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise FeatureFileError(f"{self.label}: is text in UTF-16: save it as UTF-8")
            file.seek(len(head) if head == codecs.BOM_UTF8 else 0)
            while part := file.readline(MAX_LINE_BYTES + 1):
                if len(part) > MAX_LINE_BYTES:
                    raise FeatureFileError(
                        f"{self.label}: has a line of more than {MAX_LINE_BYTES:,} bytes"
                    )
                for line in part.splitlines():  # old systems end lines with CR alone
                    if line.strip():
                        number += 1
                        yield number, line

    def _numbers(self, header: Header) -> NDArray[np.float32]:
        rows, number = np.empty(header.shape, np.float32), 0
        for number, line in self._lines():
            if number > len(rows):
                raise FeatureFileError(f"{self.label}: changed while it was read; try again")
            try:
                values = np.array(line.split(), dtype=np.float64)
            except ValueError:
                values = np.empty(0)
            if len(values) != header.shape[1]:
                raise FeatureFileError(
                    f"{self.label}, line {number}: is not {header.shape[1]} numbers as in the "
                    "first line"
                )
            with np.errstate(over="ignore"):  # becomes inf, which `read` refuses
                rows[number - 1] = values
        if number < len(rows):  # the rest of `rows` was never written
            raise FeatureFileError(f"{self.label}: changed while it was read; try again")
        return rows


def find_files(
    sources: Sequence[Path],
) -> tuple[list[FeatureFile], dict[Path, FeatureFileError]]:
    """The arrays in files and folders, and the archives that cannot be opened.

    Folders are searched with all below them, except hidden files; only names are read. In an
    archive with `NNN_x` and `NNN_yf` (PETS 2009) the arrays `_x` are features, named as
    `data_manifests.pets2009` names the videos.

    Raises:
        FeatureFileError: a source does not exist or has another suffix.
    """
    found: list[FeatureFile] = []
    broken: dict[Path, FeatureFileError] = {}
    for source in sources:
        if source.is_dir():
            inside = [p for p in source.rglob("*") if not _hidden(p.relative_to(source))]
            paths = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file()]
            paths.sort(key=lambda p: path_key(p.as_posix()))
        elif not source.is_file():
            raise FeatureFileError(f"{source} does not exist")
        elif source.suffix.lower() not in SUFFIXES:
            raise FeatureFileError(f"{source}: features come as {', '.join(SUFFIXES)}")
        else:
            paths = [source]
        for path in dict.fromkeys(paths):
            if path.suffix.lower() != ".npz":
                found.append(FeatureFile(path, path.stem))
                continue
            try:
                found += _members(path)
            except FeatureFileError as error:
                broken[path] = error
    return list(dict.fromkeys(found)), broken


def listing(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


@lru_cache(maxsize=4)
def _archive(path: Path, size: int, modified: int) -> zipfile.ZipFile:
    """An archive that stays open, so that its directory is read once for all members."""
    return zipfile.ZipFile(path)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _members(path: Path) -> list[FeatureFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist()]
    except Exception as error:  # a damaged zip can raise almost any error
        raise FeatureFileError(f"{path.name}: is no npz archive: {error}") from error
    if len(members) > MAX_MEMBERS:
        raise FeatureFileError(f"{path.name}: has {len(members):,} members; refused")
    arrays = [name for name in members if name.endswith(".npy")]
    if pets2009.is_archive(arrays):
        try:
            videos = pets2009.read_archive(path)
        except ManifestError as error:
            raise FeatureFileError(str(error)) from error
        return [FeatureFile(path, v.video_id, f"{v.number}_x.npy") for v in videos]
    return [FeatureFile(path, a.removesuffix(".npy").rpartition("/")[2], a) for a in arrays]


def _read_header(file: FeatureFile, stream: BinaryIO) -> Header:
    try:
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"format {version}, not 1.0 or 2.0")
    except Exception as error:  # a hostile header can make the parser raise anything
        raise FeatureFileError(f"{file.label}: is no npy array: {error}") from error
    return _checked(file, Header(shape, dtype))


def _checked(file: FeatureFile, header: Header) -> Header:
    """The header, if it is one of a feature array.

    Raises:
        FeatureFileError: another dtype, an empty array, or too large.
    """
    if header.dtype.hasobject:
        raise FeatureFileError(
            f"{file.label}: holds Python objects (a pickle), which are never loaded: save each "
            "video's array by itself"
        )
    if header.dtype.kind != "f" or header.dtype.itemsize > 8:
        raise FeatureFileError(
            f"{file.label}: is {header.dtype}; features are float16, float32 or float64"
        )
    if not header.shape or min(header.shape) < 1:
        raise FeatureFileError(f"{file.label}: is empty: its shape is {header.shape}")
    size = math.prod(header.shape) * header.dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise FeatureFileError(f"{file.label}: {size:,} bytes are more than {MAX_ARRAY_BYTES:,}")
    return header
