"""Drawn clips on disk: videos, and labels, masks and tracks of what is abnormal in them.

root/
  SPLIT/NAME.mp4
  labels/NAME.txt               one 0 / 1 a line, one line a frame
  masks/NAME/000000.png ...     one a frame, 255 where a pixel belongs to an anomaly
  tracks/NAME.csv               track_id,frame,x0,y0,x1,y1 (pixels; x1, y1 not included)
"""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .intervals import from_labels, mask_labels
from .record import ManifestError, check_count


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """Fill an empty or new folder; it appears whole or not at all.

    Yields:
        The folder to write into, beside the final one.

    Raises:
        ManifestError: the folder is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ManifestError(f"{root} is not empty: name a new or an empty folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = root.with_name(f".{root.name}-{uuid.uuid4().hex}")
    try:
        yield unfinished
        unfinished.replace(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_clip(
    root: Path,
    split: str,
    name: str,
    clip: Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    *,
    fps: int,
    labelled: bool,
) -> None:
    """Encode a clip as `split/name.mp4`.

    Args:
        root:
            Folder of the data set.
        split:
            Its folder is there.
        name:
            Of the video.
        clip:
            Pictures (H, W, 3), and maps (H, W) of the tracks of anomalies in them (0 = none).
        fps:
            Frames per second.
        labelled:
            Whether labels, masks and tracks are written too.
    """
    labels, boxes = [], []
    masks = root / "masks" / name
    if labelled:
        masks.mkdir(parents=True)
    # x264's output depends on its number of threads; small closed GOPs make seeking cheap and safe.
    options = {"crf": "18", "preset": "veryfast", "threads": "1", "bf": "0"}
    with av.open(str(root / split / f"{name}.mp4"), "w") as container:
        stream = None
        for frame, (picture, tracks) in enumerate(clip):
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.gop_size = "yuv420p", 12
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if labelled:
                Image.fromarray((tracks > 0).astype(np.uint8) * 255).save(
                    masks / f"{frame:06d}.png"
                )
                labels.append(int(tracks.any()))
                for track in np.unique(tracks[tracks > 0]):
                    rows, columns = np.nonzero(tracks == track)
                    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                    boxes.append((int(track), frame, *map(int, box)))
        if stream is not None:
            container.mux(stream.encode())
    if labelled:
        for folder in ("labels", "tracks"):
            (root / folder).mkdir(exist_ok=True)
        text = "".join(f"{label}\n" for label in labels)
        (root / "labels" / f"{name}.txt").write_text(text, encoding="utf-8")
        with (root / "tracks" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("track_id", "frame", "x0", "y0", "x1", "y1"))
            writer.writerows(sorted(boxes))


def read_labels(root: Path, name: str, frames: int) -> dict[str, Any]:
    """Read labels, masks and tracks of a clip, as fields of its record.

    Raises:
        ManifestError: they are missing, or disagree.
    """
    try:
        words = (root / "labels" / f"{name}.txt").read_text(encoding="utf-8").split()
        labels = np.array([int(word) for word in words])
        anomalies = from_labels(labels)
        with (root / "tracks" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            tracked = {int(row["frame"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise ManifestError(
            f"{root}, {name}: labels or tracks cannot be read: {error!r}"
        ) from error
    check_count(f"{root / 'labels' / name}.txt: frame labels", len(labels), frames)
    by_pixels = mask_labels(root / "masks" / name)
    check_count(f"{root / 'masks' / name}: pixel masks", len(by_pixels), frames)
    if (by_pixels != labels).any() or tracked != set(np.flatnonzero(labels).tolist()):
        raise ManifestError(
            f"{name}: labels, pixel masks and tracks disagree: draw the scene again"
        )
    return {
        "label": int(bool(anomalies)),
        "anomalies": anomalies,
        "masks": f"masks/{name}",
        "tracks": f"tracks/{name}.csv",
    }
