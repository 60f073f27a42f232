"""Scores of SSMTL: of objects (eq. 6), of frames by their objects, and of frames alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ..extractors.networks.coco import COCO
from .base import Bag, DetectorError, Scores
from .cells import cell_means
from .map_memory import even_blocks, items_at_once
from .object_links import fill_between
from .object_maps import ObjectMapConfig, Objects, gaussian, read_objects, score_frames
from .plain_words import named
from .ssmtl_network import SSMTLNetwork, Task
from .ssmtl_tracks import PictureLayout, classes_of, pictures_of

Floats = NDArray[np.float64]

AT_ONCE = 32  # objects or frames that go through the network together, at most
CELLS = (16, 16)  # of the map of the error
ODD = "moves or looks in an unusual way"  # the tasks have no limits: none of them is the reason
WORDS: dict[Task, str] = {
    "arrow": "backward {:.2f}",
    "irregularity": "irregular {:.2f}",
    "middle": "middle frame off by {:.3f}",
    "distillation": "classes off by {:.4f}",
    "continuity": "a frame missing {:.2f}",
    "localisation": "gap not placed {:.2f}",
    "estimation": "missing frame unlike the clip {:.3f}",
}


def score_objects(
    bag: Bag,
    network: SSMTLNetwork,
    layout: PictureLayout,
    t: int,
    weights: Mapping[Task, float],
    config: ObjectMapConfig,
    *,
    fill: bool,
) -> Scores:
    """Score each object, and the frames by their objects.

    Args:
        bag:
            The video.
        network:
            In evaluation mode.
        layout:
            Of what it reads.
        t:
            Frames before and after.
        weights:
            Of the tasks.
        config:
            How objects become frames.
        fill:
            Whether boxes are made for frames between rows.

    Raises:
        DetectorError: an array is missing or does not fit.
    """
    objects = read_objects(bag)
    terms = object_terms(bag, network, layout, t)
    for name, values in terms.items():
        if len(values) != len(objects):
            raise DetectorError(
                f"video {bag.video_id!r} has {len(values)} crops, but {len(objects)} boxes: "
                "extract its objects again"
            )
        if not np.isfinite(values).all():
            raise DetectorError(f"video {bag.video_id!r}: {name} of an object is not finite")
    total = averaged(terms, weights)
    score, maps = score_frames(objects, total, config)
    regions = _regions(bag, objects, total, terms)
    columns: dict[str, Floats] = {"score": score}
    columns.update({name: objects.maxima(each) for name, each in terms.items()})
    return Scores(
        objects.frame_start,
        objects.frame_stop,
        columns,
        {"objects": maps},
        fill_between(regions, objects.frame_start, bag.n_frames) if fill else regions,
    )


def object_terms(
    bag: Bag, network: SSMTLNetwork, layout: PictureLayout, t: int
) -> dict[Task, Floats]:
    """Compute the terms of eq. 6 for each object of a video: task -> (n,)."""
    device = next(network.parameters()).device
    crops = pictures_of(bag, layout, t)
    classes = classes_of(bag) if "distillation" in network.tasks else None
    middle = crops.array.shape[1] // 2
    found: dict[Task, list[Floats]] = {task: [] for task in network.tasks}
    for first, stop in even_blocks(len(crops), _at_once(network, crops.array.shape[2:4], t)):
        part = crops.rows(first, stop)[:, middle - t : middle + t + 1]
        frames = torch.from_numpy(np.ascontiguousarray(part)).to(device)
        said = None
        if classes is not None:
            said = torch.from_numpy(np.asarray(classes.rows(first, stop), np.float32)).to(device)
        for task, values in network.scores(frames, said)[0].items():
            found[task].append(values.double().cpu().numpy())
    return {task: np.concatenate([np.zeros(0), *parts]) for task, parts in found.items()}


def _at_once(network: SSMTLNetwork, picture: Sequence[int], t: int) -> int:
    """Objects, or frames with their neighbours, of a block; two where one has too large maps."""
    each = network.encoder.map_bytes(2 * t + 1, *picture)
    return max(2, items_at_once(AT_ONCE, each, next(network.parameters()).device))


def averaged(terms: Mapping[Task, Floats], weights: Mapping[Task, float]) -> Floats:
    """Average the terms of the tasks: (n,). With equal weights this is eq. 6."""
    total = sum(weights[task] for task in terms)
    return np.asarray(sum(weights[task] * values for task, values in terms.items()) / total)


def score_frames_alone(
    bag: Bag,
    network: SSMTLNetwork,
    layout: PictureLayout,
    t: int,
    weights: Mapping[Task, float],
    config: ObjectMapConfig,
) -> Scores:
    """Score each whole frame (Sect. 3.5); the first and the last frame are repeated at the ends.

    See `score_objects`; of the config, only the Gaussian is used.

    Raises:
        DetectorError: pictures are missing or do not fit.
    """
    device = next(network.parameters()).device
    pictures = pictures_of(bag, layout, t)
    found: dict[Task, list[Floats]] = {task: [] for task in network.tasks}
    errors = []
    size = _at_once(network, pictures.array.shape[1:3], t)
    for first, stop in even_blocks(len(pictures), size):
        begin, end = max(0, first - t), min(stop + t, len(pictures))
        block = torch.from_numpy(pictures.rows(begin, end)).to(device)
        middles = np.arange(first, stop)[:, None] + np.arange(-t, t + 1)
        index = torch.from_numpy(np.clip(middles, 0, len(pictures) - 1) - begin).to(device)
        values, error = network.scores(block[index], None)
        for task, each in values.items():
            found[task].append(each.double().cpu().numpy())
        if "middle" in network.tasks:
            errors.append(cell_means(error.cpu().numpy(), CELLS).astype(np.float32))
    terms = {task: np.concatenate([np.zeros(0), *parts]) for task, parts in found.items()}
    score = gaussian(averaged(terms, weights), pictures.frame_start, config.smooth)
    columns: dict[str, Floats] = {"score": score}
    columns.update({name: each for name, each in terms.items()})
    return Scores(
        pictures.frame_start,
        pictures.frame_stop,
        columns,
        {"error": np.concatenate(errors)} if errors else {},
    )


def _regions(bag: Bag, objects: Objects, scores: Floats, terms: Mapping[Task, Floats]) -> pa.Table:
    """One row for each object: its box, its own score, its class, and what the tasks say."""
    corners = objects.boxes.astype(np.float32)
    labels: list[str | None] = [None] * len(objects)
    if len(objects) and "object/classes" in bag.tracks:
        classes = classes_of(bag).rows()
        best, seen = classes.argmax(1).tolist(), classes.max(1) > 0
        labels = [COCO[b] if s else None for b, s in zip(best, seen, strict=True)]
    reasons = [
        "; ".join(WORDS[task].format(values[i]) for task, values in terms.items())
        for i in range(len(objects))
    ]
    table = pa.table(
        {
            "frame": objects.frame_start[objects.row],
            **dict(zip(("x0", "y0", "x1", "y1"), corners.T, strict=True)),
            "score": scores,
            "label": pa.array(labels, pa.string()),
            "explain": pa.array(reasons, pa.string()),
            "words": pa.array([f"{named(label)} {ODD}" for label in labels], pa.string()),
        }
    )
    kept = (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    return table.filter(pa.array(kept))
