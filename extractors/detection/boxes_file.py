"""Object detector `boxes`: boxes that were found elsewhere, from a CSV, Parquet or COCO JSON file.

A row of CSV or Parquet is an object: `video`, `frame` (from 0), `x0`, `y0`, `x1`, `y1` (pixels; x1
and y1 are not included), and optionally `score`, `objectness` and `classes`. `classes` holds
probabilities as text, `person:0.9;bicycle:0.05`; a Parquet file may hold lists of 80 numbers. A row
without coordinates says that the video is known, though it may have no objects. COCO JSON needs
`videos` (id, name) and images with `video_id` and `frame_id` (from 0); annotations may have a
`score`.

`video` is the end of the path of the footage, with or without suffix: `Test/Test001` stands for
`/data/ped2/Test/Test001`. A file stands in the place of a network: `--weights detector=FILE`. Its
hash is part of the key, its place is not.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.stored import parse_json
from ..base import Runtime
from ..clips import Clip
from ..errors import ExtractorError
from ..networks.coco import COCO
from ..weights.cards import BYTES, Arrays, LayoutError, ResolvedWeights, Weights, WeightsError
from ..weights.kept import read_converted
from .contract import Detections, ObjectDetector, detections_of
from .video_names import check_distinct, name_of

Row = Mapping[str, Any]
NEEDED = ("video", "frame", "x0", "y0", "x1", "y1")
MOST_ROWS = 50_000_000  # a few bytes of Parquet can claim any number
MOST_FRAMES = 1 << 40  # of a video
SORTED_COLUMNS = 4  # that are copied at once
MOST_PIXELS = 1 << 24  # of a coordinate: float32 holds no whole pixels after it
BOM = b"\xef\xbb\xbf"  # that spreadsheets put before UTF-8
_NO_CLASSES = np.zeros(len(COCO), np.float32)
OPTIONAL = ("score", "objectness", "classes")


class BoxesFile(ObjectDetector):
    """Looks boxes up by the path of the footage and the number of the frame.

    Args:
        weights:
            The converted file.
    """

    def __init__(self, weights: ResolvedWeights) -> None:
        self._weights = weights
        self._arrays: Arrays = {}
        self._names: dict[str, int] = {}  # name of a video -> its number

    def load(self, runtime: Runtime) -> None:
        """Read the converted file.

        Raises:
            WeightsError: random boxes were asked for, or the file is damaged.
        """
        if self._weights.path is None:
            raise WeightsError(
                "there are no random boxes: give a file (--weights detector=FILE), or take another "
                "object detector"
            )
        self._arrays = read_converted(self._weights.path)[0]
        names = self._arrays["videos"].tobytes().decode().split("\n")
        self._names = {name: i for i, name in enumerate(names)}

    def computed_on(self, device: str) -> frozenset[str]:
        """Nowhere: there is no network."""
        return frozenset()

    def detect(self, clip: Clip, at: int) -> Detections:
        """The boxes that the file has for a frame.

        Raises:
            ExtractorError: the file does not have the video, or has several by that name.
        """
        number, arrays = self._video(clip.video), self._arrays
        low, high = np.searchsorted(arrays["video"], [number, number + 1])
        frames = arrays["frame"][low:high]
        first, stop = low + np.searchsorted(frames, [clip.index[at], clip.index[at] + 1])
        chosen = slice(first, stop)
        return detections_of(
            arrays["boxes"][chosen],
            arrays["scores"][chosen],
            arrays["objectness"][chosen],
            arrays["classes"][chosen],
        )

    def check_end(self, video: str, n_frames: int) -> None:
        """Refuse boxes after the end of a video: they belong to other footage, or to other frames.

        Raises:
            ExtractorError: there are some.
        """
        number, arrays = self._video(video), self._arrays
        low, high = np.searchsorted(arrays["video"], [number, number + 1])
        last = int(arrays["frame"][high - 1]) if high > low else -1  # frames are sorted
        if last >= n_frames:
            name = list(self._names)[number]
            raise ExtractorError(
                f"the boxes file has boxes in frame {last} of {name}, but {video} "
                f"has the frames 0 to {n_frames - 1}: are its frames counted from 0, and at the "
                "frame rate of this file?"
            )

    def check_videos(self, paths: Sequence[str]) -> None:
        """Refuse a name of the file that stands for several videos of a run.

        Raises:
            ExtractorError: there is one.
            WeightsError: the converted file cannot be read.
        """
        if (path := self._weights.path) is None:
            return  # `load` says that there are no random boxes
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as opened:
                names = opened.get_tensor("videos").tobytes().decode().split("\n")
        except (SafetensorError, OSError, ValueError) as error:
            again = "remove it and give the original again"
            raise WeightsError(f"{path} is damaged ({error}): {again}") from error
        check_distinct(paths, {name: i for i, name in enumerate(names)})

    def _video(self, path: str) -> int:
        """The number of a video in the file: of the longest name that its path ends with."""
        name = name_of(path, self._names)
        if name is None:
            some = list(self._names)[:3]
            raise ExtractorError(
                f"the boxes file has no video that {path} ends with; it has "
                f"{', '.join(some)}{' ...' if len(self._names) > 3 else ''}. A video "
                "without objects needs a row without coordinates"
            )
        return self._names[name]


# ------------------------------------------------------------------------------------- reading


def from_file(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Convert a boxes file to arrays, sorted by video and frame.

    Returns:
        videos: (bytes,) uint8, names joined by newlines; video: (n,) int64, number of the name;
        frame: (n,) int64; boxes: (n, 4); scores, objectness: (n,); classes: (n, 80) float32.

    Raises:
        LayoutError: the file is of no known kind, or a row cannot be read; it says which.
    """
    content = arrays[BYTES].tobytes().removeprefix(BOM)
    head = content.lstrip()[:1]
    read: Callable[[bytes], Iterator[tuple[str, Row]]]
    read = _parquet if content[:4] == b"PAR1" else _coco if head in (b"{", b"[") else _csv
    names: dict[str, int] = {}
    found = _Found()
    for place, row in read(content):
        try:
            video = names.setdefault(_name(row["video"]), len(names))
            if any(row[side] not in (None, "") for side in NEEDED[2:]):
                found.add(video, *_numbers(row))
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            text = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise LayoutError(f"{place}: {text}") from error
    if not names:
        raise LayoutError("it names no video")
    return {"videos": np.frombuffer("\n".join(names).encode(), np.uint8), **found.arrays()}


class _Found:
    """Rows as flat arrays: as objects they would take several times the memory."""

    def __init__(self) -> None:
        self._whole = {"video": array("q"), "frame": array("q")}
        self._parts = {name: array("f") for name in ("boxes", "scores", "objectness", "classes")}

    def add(
        self,
        video: int,
        frame: int,
        box: list[float],
        score: float,
        objectness: float,
        classes: NDArray[np.float32],
    ) -> None:
        """Add a row.

        Raises:
            ValueError: there are too many.
        """
        if len(self._whole["video"]) >= MOST_ROWS:
            raise ValueError(f"there are more than {MOST_ROWS:,} rows")
        self._whole["video"].append(video)
        self._whole["frame"].append(frame)
        self._parts["boxes"].extend(box)
        self._parts["scores"].append(score)
        self._parts["objectness"].append(objectness)
        self._parts["classes"].frombytes(classes.tobytes())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows, sorted by video and frame; of one frame in the order of the file."""
        arrays: dict[str, NDArray[Any]]
        arrays = {name: np.asarray(rows, np.int64) for name, rows in self._whole.items()}
        arrays |= {name: np.asarray(rows, np.float32) for name, rows in self._parts.items()}
        arrays["boxes"] = arrays["boxes"].reshape(-1, 4)
        arrays["classes"] = arrays["classes"].reshape(-1, len(COCO))
        order = np.lexsort((arrays["frame"], arrays["video"]))
        for values in arrays.values():
            # In place and a few columns at a time: a second copy would not fit into memory.
            columns = values[:, None] if values.ndim == 1 else values
            for first in range(0, columns.shape[1], SORTED_COLUMNS):
                some = columns[:, first : first + SORTED_COLUMNS]
                some[:] = some[order]
        return arrays


def _name(value: Any) -> str:
    """The name of a video; accents of one kind, as systems write them in two.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"video {value!r} is no text")
    name = unicodedata.normalize("NFC", str(value)).strip().strip("/")
    if not name or any(character in name for character in "\n\r\0"):
        raise ValueError(f"{value!r} is no name of a video")
    name.encode()  # half of a character is a ValueError
    return name


def _numbers(row: Row) -> tuple[int, list[float], float, float, NDArray[np.float32]]:
    """Frame, box, score, objectness and classes of a row.

    Raises:
        ValueError: one of them is impossible.
    """
    frame = _whole(row["frame"])
    box = [_number(row[side]) for side in NEEDED[2:]]
    score = _share(row, "score", 1.0)
    if frame < 0:
        raise ValueError(f"frame {frame} is negative")
    if frame >= MOST_FRAMES:
        raise ValueError(f"frame {frame} is none that a video has")
    if not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"box {box}: x0 <= x1 and y0 <= y1 are needed, and finite numbers")
    if max(map(abs, box)) > MOST_PIXELS:
        raise ValueError(f"box {box} has places that no picture has")
    return frame, box, score, _share(row, "objectness", score), _classes(row.get("classes"))


def _number(value: Any) -> float:
    """A number as files write them: neither true nor 1_000 is one.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _whole(value: Any) -> int:
    """A whole number; 3.0 is one, as columns with gaps are written with a point."""
    number = _number(value)
    if not number.is_integer():
        raise ValueError(f"frame {value} is no whole number")
    return int(number)


def _share(row: Row, name: str, default: float) -> float:
    value = default if row.get(name) in (None, "") else _number(row[name])
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value} is not in 0 to 1")
    return value


def _classes(value: Any) -> NDArray[np.float32]:
    if value is None or value == "":
        return _NO_CLASSES
    found = np.zeros(len(COCO), np.float32)
    if isinstance(value, str):
        seen = set()
        for part in filter(None, (part.strip() for part in value.split(";"))):
            name, _, probability = part.partition(":")
            name = name.strip()
            if name not in COCO:
                raise ValueError(f"{name!r} is none of the 80 classes of COCO (docs: objects)")
            if name in seen:
                raise ValueError(f"{name!r} has two probabilities")
            seen.add(name)
            found[COCO.index(name)] = _number(probability or 1.0)
    else:
        if not isinstance(value, Sequence):
            raise ValueError(f"classes {value!r} is neither text nor a list of {len(COCO)} numbers")
        if len(value) != len(COCO):
            raise ValueError(f"classes has {len(value)} numbers instead of {len(COCO)}")
        found[:] = value
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError("class probabilities are not in 0 to 1")
    return found


def _csv(content: bytes) -> Iterator[tuple[str, Row]]:
    try:
        content.decode()  # all of it, before a row is judged
        lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")  # decodes bit by bit
        reader = csv.DictReader(lines)
        _check_columns(reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise LayoutError(f"line {reader.line_num} has more fields than the first one")
            if None in row.values():
                raise LayoutError(
                    f"line {reader.line_num} has fewer fields than the first one: the file may be "
                    "cut off"
                )
            yield f"line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(
            f"it is neither CSV, nor Parquet, nor COCO JSON in UTF-8 ({error})"
        ) from error


def _parquet(content: bytes) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        _check_columns(file.schema_arrow.names)
        if file.metadata.num_rows > MOST_ROWS:
            raise LayoutError(f"it has {file.metadata.num_rows:,} rows, more than {MOST_ROWS:,}")
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1
    except LayoutError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise LayoutError(f"it is a damaged Parquet file ({error})") from error


def _check_columns(names: Any) -> None:
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise LayoutError(f"it has the columns {', '.join(twice)} more than once")
    if missing := [name for name in NEEDED if name not in names]:
        raise LayoutError(f"it lacks the columns {', '.join(missing)}")
    if extra := [name for name in names if name not in NEEDED + OPTIONAL]:
        raise LayoutError(
            f"it has the columns {', '.join(extra)}, which mean nothing here; there are: "
            f"{', '.join(NEEDED + OPTIONAL)}"
        )


def _coco(content: bytes) -> Iterator[tuple[str, Row]]:
    try:
        tree = parse_json(content, "the boxes file")
        videos = _by_id(tree["videos"], "video", "name")
        classes = _by_id(tree.get("categories", []), "category", "name")
        pictures = _by_id(tree["images"], "image", "video_id", "frame_id")
        if len({_name(name) for (name,) in videos.values()}) < len(videos):
            raise ValueError("two videos have one name")
        places = {key: (*_at(videos, v, "video"), frame) for key, (v, frame) in pictures.items()}
        if len(set(places.values())) < len(places):
            raise ValueError("two images are the same frame of a video")
        for (name,) in videos.values():
            yield f"video {name!r}", {"video": name, **dict.fromkeys(NEEDED[1:])}
        annotations = list(tree.get("annotations", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = str(error) if isinstance(error, ValueError) else repr(error)
        raise LayoutError(
            f"it is not COCO JSON with videos, images (video_id, frame_id) and annotations: {text}"
        ) from error
    for number, each in enumerate(annotations):
        place = f"annotation {number}"
        try:
            yield place, _annotation(each, places, classes)
        except KeyError as error:
            raise LayoutError(f"{place} has no {error}") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise LayoutError(f"{place}: {error}") from error


def _by_id(entries: Any, kind: str, *wanted: str) -> dict[Any, tuple[Any, ...]]:
    """id -> the wanted values of each entry.

    Raises:
        ValueError: two entries have one id.
    """
    found: dict[Any, tuple[Any, ...]] = {}
    for each in entries:
        if each["id"] in found:
            raise ValueError(f"{kind} {each['id']!r} is there twice")
        found[each["id"]] = tuple(each[name] for name in wanted)
    return found


def _at(found: Mapping[Any, tuple[Any, ...]], key: Any, kind: str) -> tuple[Any, ...]:
    if key not in found:
        raise ValueError(f"{key!r} is the id of no {kind}")
    return found[key]


def _annotation(
    each: Mapping[str, Any],
    places: Mapping[Any, tuple[Any, ...]],
    classes: Mapping[Any, tuple[Any, ...]],
) -> Row:
    """The row of an annotation."""
    video, frame = _at(places, each["image_id"], "image")
    x, y, width, height = (_number(side) for side in each["bbox"])
    score, category = each.get("score"), each.get("category_id")
    known = objectness = None
    if category is not None:
        (label,) = _at(classes, category, "category")
        known, objectness = f"{label}:{1.0 if score is None else score}", 1.0
    row = dict(zip(NEEDED, (video, frame, x, y, x + width, y + height), strict=True))
    return {**row, "score": score, "objectness": objectness, "classes": known}


CARDS = (
    Weights(
        name="boxes.file",
        file="boxes.csv",
        sha256=None,
        sources=(),
        layout="boxes (CSV, Parquet or COCO JSON)",
        licence="that of your own file",
        origin="boxes of objects that were found elsewhere, --weights detector=FILE",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        convert=from_file,
        opaque=True,
    ),
)
