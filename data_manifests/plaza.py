"""A drawn benchmark that trivial baselines do not solve: crowds, seven events, three sizes.

`write_plaza` draws it (see `plaza_scene`; `vadpipe draw plaza` on the command line), `build` reads
it back:

    root/
      train/train_01.mp4 ...           normal throughout
      validation/validation_01.mp4 ... with labels, for every choice of a setting
      test/test_01.mp4 ...             every event in every size, and clips without any
      labels/test_01.txt               one 0 / 1 a line, one line a frame
      masks/test_01/000000.png ...     one a frame, 255 where a pixel belongs to an anomaly
      tracks/test_01.csv               track_id,frame,x0,y0,x1,y1 (pixels; x1, y1 not included)
      boxes.parquet                    what an object detector would say of each frame
      plaza.json                       the arguments, and the event of each clip; written last

Everything follows from the seed. With the same versions of NumPy, Pillow and FFmpeg, the same seed
writes the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage

from .drawn_clips import new_folder, read_labels, write_clip
from .plaza_scene import (
    EVENTS,
    LABELS,
    SIZES,
    Mover,
    View,
    crowd,
    draw_plaza,
    happening,
    render,
    views,
)
from .record import Manifest, ManifestError, VideoRecord, check_count
from .settings import in_words
from .stored import read_json

OBTAIN = "It is drawn: `vadpipe draw plaza`."
SPLITS = ("train", "validation", "test")
LEAST_PIXELS = 12  # of a figure that an object detector could find
MISSED = 0.04  # share of figures that it misses
Row = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """One clip before it is drawn.

    Attributes:
        name: of the video.
        split: "train", "validation" or "test".
        scene: the camera.
        event: one of `EVENTS`; None if the clip is normal.
        size: one of `SIZES`; None if the clip is normal.
    """

    name: str
    split: str
    scene: str
    event: str | None
    size: str | None


def write_plaza(
    root: Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = (240, 360),
    n_train: int = 12,
    n_validation: int = 9,
    n_test: int = 27,
    frames: int = 120,
    fps: int = 10,
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
        n_validation:
            Clips for choices; of nine, seven have an event.
        n_test:
            Test clips; of 27, 21 have an event: each of seven in each of three sizes.
        frames:
            Frames of each clip.
        fps:
            Frames per second.

    Returns:
        The folder.

    Raises:
        ManifestError: the folder is not empty, or a number is out of range.
    """
    counts = dict(zip(SPLITS, (n_train, n_validation, n_test), strict=True))
    if any(side % 2 for side in size) or min(size) < 96 or frames < 16 or fps < 1:
        raise ManifestError(
            "a plaza needs an even height and width of 96 or more, 16 frames or more and a "
            f"positive rate; got size {tuple(size)}, {frames} frames, {fps} fps"
        )
    if min(counts.values()) < 1 or seed < 0:
        raise ManifestError(
            f"a plaza needs a clip of each split and a seed of 0 or more; got {counts}, seed {seed}"
        )
    clips = planned(seed, counts)
    with new_folder(root) as unfinished:
        for split in SPLITS:
            (unfinished / split).mkdir(parents=True)
        grounds = {
            view.name: (view, draw_plaza(view, np.random.default_rng([seed, 0, i])))
            for i, view in enumerate(views(*size))
        }
        boxes: list[Row] = []
        for number, clip in enumerate(clips):
            _draw(unfinished, clip, *grounds[clip.scene], [seed, 1, number], frames, fps, boxes)
        pq.write_table(pa.Table.from_pylist(boxes, schema=BOXES), unfinished / "boxes.parquet")
        facts = {"seed": seed, "size": list(size), "frames": frames, "fps": fps, **counts}
        text = json.dumps({**facts, "clips": [asdict(clip) for clip in clips]}, indent=1) + "\n"
        (unfinished / "plaza.json").write_text(text, encoding="utf-8")
    return root


def planned(seed: int, counts: dict[str, int]) -> list[Clip]:
    """What happens in each clip.

    Two of nine validation and test clips are normal. The others have the seven events in turn, each
    with another size when its turn comes again; cameras take turns.
    """
    clips = []
    names = [view.name for view in views(96, 96)]
    for number, split in enumerate(SPLITS):
        order = np.random.default_rng([seed, 2, number]).permutation(list(EVENTS)).tolist()
        happened = 0
        for i in range(counts[split]):
            event = size = None
            if split != "train" and i % 9 not in (3, 8):
                turn, place = divmod(happened, len(order))
                event, size = order[place], list(SIZES)[(place + turn) % len(SIZES)]
                happened += 1
            clips.append(Clip(f"{split}_{i + 1:02d}", split, names[i % 2], event, size))
    return clips


BOXES = pa.schema(
    [("video", pa.string()), ("frame", pa.int32())]
    + [(side, pa.float32()) for side in ("x0", "y0", "x1", "y1", "score", "objectness")]
    + [("classes", pa.string())]
)


def _draw(
    root: Path,
    clip: Clip,
    view: View,
    background: Image.Image,
    seed: Sequence[int],
    frames: int,
    fps: int,
    boxes: list[Row],
) -> None:
    """Draw and write one clip; its boxes are added to those of the clips before it."""
    rng, seconds = np.random.default_rng(seed), frames / fps
    movers = crowd(view, rng, seconds)
    if clip.event is not None and clip.size is not None:
        movers = [happening(view, rng, clip.event, clip.size, seconds), *movers[:-1]]
    drawn = render(view, background, movers, rng, frames=frames, fps=fps)
    finder = np.random.default_rng([*seed, 1])

    def labelled() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        for frame, (picture, figures) in enumerate(drawn):
            boxes.extend(_found(clip, frame, figures, movers, finder))
            begin = movers[0].abnormal_from if movers else None
            abnormal = begin is not None and frame / fps >= begin
            yield picture, (figures == 1).astype(np.uint8) if abnormal else np.zeros_like(figures)

    write_clip(root, clip.split, clip.name, labelled(), fps=fps, labelled=clip.split != "train")


def _found(
    clip: Clip,
    frame: int,
    figures: NDArray[np.uint8],
    movers: Sequence[Mover],
    rng: np.random.Generator,
) -> Iterator[Row]:
    """Boxes of what is seen in a frame, as an object detector would return them.

    A row without coordinates says that the detector has looked at the video.
    """
    name = f"{clip.split}/{clip.name}"
    if frame == 0:
        yield {"video": name, "frame": None}
    counts = np.bincount(figures.ravel(), minlength=len(movers) + 1)
    for number, place in enumerate(ndimage.find_objects(figures), start=1):
        if place is None or counts[number] < LEAST_PIXELS or rng.random() < MISSED:
            continue
        rows, columns = place
        sides = np.array([columns.start, rows.start, columns.stop, rows.stop], np.float64)
        reach = np.array([sides[2] - sides[0], sides[3] - sides[1]] * 2)
        sides = sides + rng.normal(0, 0.02, 4) * reach
        score = float(rng.beta(12, 2))
        sure, other = float(rng.uniform(0.85, 0.98)), float(rng.uniform(0.0, 0.08))
        label = LABELS[movers[number - 1].actor.kind]
        second = "bicycle" if label == "person" else "person"
        yield {
            "video": name,
            "frame": frame,
            **dict(
                zip(("x0", "y0", "x1", "y1"), np.sort(sides.reshape(2, 2), 0).ravel(), strict=True)
            ),
            "score": score,
            "objectness": score,
            "classes": f"{label}:{sure:.3f};{second}:{other:.3f}",
        }


def build(root: Path) -> Manifest:
    """Make the manifest of a plaza that `write_plaza` drew.

    The category of a clip with an event is the event and its size, such as "runner+0.3%".

    Raises:
        ManifestError: the folder is incomplete, or labels, masks and tracks disagree.
    """
    try:
        facts = read_json(root / "plaza.json")
        frames, counts = int(facts["frames"]), {split: int(facts[split]) for split in SPLITS}
        clips = [Clip(**clip) for clip in facts["clips"]]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ManifestError(
            f"{root} holds no finished plaza (plaza.json: {error!r}): draw one with vadpipe draw "
            "plaza"
        ) from error
    try:
        return Manifest(
            dataset="plaza",
            root=os.path.realpath(root),
            records=tuple(_records(root, clips, counts, frames)),
        )
    except ValidationError as error:
        raise ManifestError(
            f"{root} holds no finished plaza (plaza.json: {in_words(error)}): draw one with "
            "vadpipe draw plaza"
        ) from error


def _records(
    root: Path, clips: list[Clip], counts: dict[str, int], frames: int
) -> Iterator[VideoRecord]:
    for split in SPLITS:
        paths = sorted((root / split).glob("*.mp4"))
        check_count(f"{root / split}: clips", len(paths), counts[split])
        own = [clip for clip in clips if clip.split == split]
        if [clip.name for clip in own] != [path.stem for path in paths]:
            raise ManifestError(f"{root / split} holds other clips than plaza.json: draw it again")
        for clip in own:
            known = {} if split == "train" else read_labels(root, clip.name, frames)
            category = None if clip.event is None else f"{clip.event}+{clip.size}"
            values = {
                "video_id": clip.name,
                "path": f"{split}/{clip.name}.mp4",
                "split": split,
                "label": 0,
                "scene": clip.scene,
                "category": category,
                "expected_frames": frames,
                "anomalies": (),
                **known,
            }
            yield VideoRecord.model_validate(values)
