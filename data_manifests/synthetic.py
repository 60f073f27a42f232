"""A small drawn surveillance scene with known anomalies: for the demo, and for tests.

Pedestrians cross a square; in test clips a runner, a cyclist, a cart or a ball crosses too.
`write_scene` draws it (see `synthetic_scene`), `build` reads it back:

    root/
      train/train_01.mp4 ...           normal throughout
      test/test_01.mp4 ...             the last one (of two or more) is normal throughout
      labels/test_01.txt               one 0 / 1 a line, one line a frame
      masks/test_01/000000.png ...     one a frame, 255 where a pixel belongs to an anomaly
      tracks/test_01.csv               track_id,frame,x0,y0,x1,y1 (pixels; x1, y1 not included)
      boxes.csv                        what a detector would find: all figures, with COCO classes
      scene.json                       the arguments; written last

Everything follows from the seed. Training and test clips are drawn with the same functions, noise
and codec, so they differ only in what moves. With the same versions of NumPy, Pillow and FFmpeg,
the same seed draws the same pictures and writes the same labels, masks, tracks and boxes. x264 is
not that exact, even with one thread: now and then it encodes a picture in another way, so the bytes
of a clip, and its content id, may differ between two drawings.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from .drawn_boxes import Row, boxes_of_clip, write_boxes
from .drawn_clips import new_folder, read_labels, write_clip
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

OBTAIN = "It is drawn: `vadpipe demo` draws one, or write_scene in Python."


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
    with new_folder(root) as unfinished:
        _draw_all(unfinished, seed, Camera(height, width), n_train, n_test, frames, fps)
    return root


def build(root: Path) -> Manifest:
    """Make the manifest of a scene that `write_scene` wrote.

    Raises:
        ManifestError: the folder is incomplete, or labels, masks and tracks disagree.
    """
    try:
        facts = read_json(root / "scene.json")
        frames, counts = int(facts["frames"]), {s: int(facts[s]) for s in ("train", "test")}
        if not 0 < frames < 1 << 40:
            raise ValueError(f"{frames} frames")
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
            known = {} if split == "train" else read_labels(root, path.stem, frames)
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
    boxes: list[Row] = []
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
            name = f"{split}_{i + 1:02d}"
            write_clip(root, split, name, clip, fps=fps, labelled=split == "test")
            boxes += boxes_of_clip(
                f"{split}/{name}",
                camera,
                actors,
                np.random.default_rng([seed, 3, split == "test", i]),
                frames=frames,
                fps=fps,
            )
    write_boxes(root / "boxes.csv", boxes)
    facts = {"seed": seed, "size": [camera.height, camera.width], "frames": frames, "fps": fps}
    facts |= {"train": n_train, "test": n_test}
    (root / "scene.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
