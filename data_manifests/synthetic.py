"""A small drawn surveillance scene with known anomalies: for the demo, and for tests.

Pedestrians cross a square; in test clips a runner, a cyclist, a cart or a ball crosses too.
`write_scene` draws it (see `synthetic_scene`), `build` reads it back:

    root/
      train/train_01.mp4 ...           normal throughout
      test/test_01.mp4 ...             the last one (of two or more) is normal throughout
      labels/test_01.txt               one 0 / 1 a line, one line a frame
      masks/test_01/000000.png ...     one a frame, 255 where a pixel belongs to an anomaly
      tracks/test_01.csv               track_id,frame,x0,y0,x1,y1 (pixels; x1, y1 not included)
      scene.json                       the arguments; written last

Everything follows from the seed. Training and test clips are drawn with the same functions, noise
and codec, so they differ only in what moves. With the same versions of NumPy, Pillow and FFmpeg,
the same seed writes the same bytes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .intervals import from_labels, mask_labels
from .record import Manifest, ManifestError, VideoRecord, check_count
from .stored import read_json
from .synthetic_scene import (
    ANOMALIES,
    Camera,
    draw_background,
    intruders,
    pedestrians,
    render,
)


def write_scene(
    root: Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = (240, 320),
    n_train: int = 4,
    n_test: int = 4,
    frames: int = 160,
    fps: int = 25,
) -> Path:
    """Draw the data set into an empty or new folder; it appears whole or not at all.

    Args:
        root:
            Target folder.
        seed:
            Decides everything that is drawn.
        size:
            (height, width) in pixels, both even.
        n_train:
            Normal clips.
        n_test:
            Test clips; with two or more, the last one is normal.
        frames:
            Frames of each clip.
        fps:
            Frames per second.

    Returns:
        The folder.

    Raises:
        ManifestError: the folder is not empty, or a number is out of range.
    """
    height, width = size
    if height % 2 or width % 2 or min(size) < 48 or frames < 16 or min(n_train, n_test, fps) < 1:
        raise ManifestError(
            "a synthetic scene needs an even height and width of 48 or more, 16 frames or more "
            f"and at least one clip of each split; got size {size}, {frames} frames, {n_train} + "
            f"{n_test} clips, {fps} fps"
        )
    if seed < 0:
        raise ManifestError(f"seed {seed} is negative: use 0 or more")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ManifestError(f"{root} is not empty: a synthetic scene needs a folder of its own")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = root.with_name(f".{root.name}-{uuid.uuid4().hex}")
    try:
        _draw_all(unfinished, seed, Camera(height, width), n_train, n_test, frames, fps)
        unfinished.replace(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return root


def build(root: Path) -> Manifest:
    """Make the manifest of a scene that `write_scene` wrote.

    Raises:
        ManifestError: the folder is incomplete, or labels, masks and tracks disagree.
    """
    try:
        facts = read_json(root / "scene.json")
        frames, counts = int(facts["frames"]), {s: int(facts[s]) for s in ("train", "test")}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ManifestError(
            f"{root} holds no finished synthetic scene (scene.json: {error!r}): write one with "
            "write_scene into an empty folder"
        ) from error
    records = []
    for split in ("train", "test"):
        paths = sorted((root / split).glob("*.mp4"))
        check_count(f"{root / split}: clips", len(paths), counts[split])
        for path in paths:
            known = {} if split == "train" else _read_labels(root, path.stem, frames)
            records.append(
                VideoRecord.model_validate(
                    {
                        "video_id": path.stem,
                        "path": f"{split}/{path.name}",
                        "split": split,
                        "label": 0,
                        "scene": "square",
                        "expected_frames": frames,
                        "anomalies": (),
                        **known,
                    }
                )
            )
    return Manifest(dataset="synthetic", root=os.path.realpath(root), records=tuple(records))


def _draw_all(
    root: Path, seed: int, camera: Camera, n_train: int, n_test: int, frames: int, fps: int
) -> None:
    background = draw_background(camera, np.random.default_rng([seed, 0]))
    kinds = np.random.default_rng([seed, 1]).permutation(ANOMALIES).tolist()
    for split, count in (("train", n_train), ("test", n_test)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([seed, 2, split == "test", i])
            actors = pedestrians(camera, rng, frames / fps)
            if split == "test" and (i < count - 1 or count == 1):
                chosen = [kinds.pop(0) for _ in range(1 + i % 2)]
                kinds += chosen
                actors += intruders(camera, rng, chosen, frames / fps)
            clip = render(camera, background, actors, rng, frames=frames, fps=fps)
            _write_clip(root, split, f"{split}_{i + 1:02d}", clip, fps)
    facts = {"seed": seed, "size": [camera.height, camera.width], "frames": frames, "fps": fps}
    facts |= {"train": n_train, "test": n_test}
    (root / "scene.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _write_clip(
    root: Path,
    split: str,
    name: str,
    clip: Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    fps: int,
) -> None:
    """Encode a clip; for test clips, write its labels, masks and tracks too."""
    labels, boxes = [], []
    masks = root / "masks" / name
    if split == "test":
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
            if split == "test":
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
    if split == "test":
        for folder in ("labels", "tracks"):
            (root / folder).mkdir(exist_ok=True)
        text = "".join(f"{label}\n" for label in labels)
        (root / "labels" / f"{name}.txt").write_text(text, encoding="utf-8")
        with (root / "tracks" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("track_id", "frame", "x0", "y0", "x1", "y1"))
            writer.writerows(sorted(boxes))


def _read_labels(root: Path, name: str, frames: int) -> dict[str, Any]:
    """Read labels, masks and tracks of a test clip, as fields of its record."""
    try:
        words = (root / "labels" / f"{name}.txt").read_text(encoding="utf-8").split()
        labels = np.array([int(word) for word in words])
        with (root / "tracks" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            tracked = {int(row["frame"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise ManifestError(f"{name}: labels or tracks cannot be read: {error!r}") from error
    check_count(f"{name}: frame labels", len(labels), frames)
    by_pixels = mask_labels(root / "masks" / name)
    check_count(f"{name}: pixel masks", len(by_pixels), frames)
    anomalies = from_labels(labels)
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
