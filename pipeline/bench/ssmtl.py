"""Scoring of objects by SSMTL, against what its 3-D convolutions alone allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...detectors.base import Bag, Track
from ...detectors.object_maps import read_objects, score_frames
from ...detectors.ssmtl import SSMTL, SSMTLConfig
from ...detectors.ssmtl_network import SSMTLNetwork
from ...extractors.networks.cnn3d import Architecture, count_flops, layers_of
from .convolutions import recorded
from .race import Contestant, Rate, as_values, hardware, heading, matmul, race

SIDE, EACH = 64, 5  # pixels of a crop; objects a frame (Sect. 6.2)
BATCH = {"cpu": 16, "cuda": 32}  # objects, about as many as scoring takes together
FRAME = (240, 360)  # of Ped2
ASKED = 40  # % of the rate of the convolutions
FRAMES_PER_SECOND = 23  # with the detector and shallow+narrow on a GTX 1080 Ti (Sect. 6.2)
ALONE, NETWORK, WHOLE, MAP = "3-D convolutions alone", "network", "scoring", "map"


def bench_ssmtl(
    *,
    repeats: int = 3,
    device: str = "cpu",
    frames: int = 40,
    architecture: Architecture = "shallow+narrow",
) -> tuple[dict[str, Any], list[str]]:
    """Score a video with five objects a frame, and run the parts of that alone, in turn.

    Args:
        repeats:
            Turns of each.
        device:
            Where the network runs.
        frames:
            Of the video.
        architecture:
            Of the network; its weights are random.

    Returns:
        Values for machines, and lines for people.
    """
    bag, detector = drawn_objects(frames), _detector(architecture, device)
    objects, config = read_objects(bag), detector.config
    scores = np.random.default_rng(0).uniform(size=len(objects))
    detector.score(bag)  # the first one folds batch norms
    network, batch = detector.folded, BATCH[torch.device(device).type]
    crops = torch.from_numpy(bag.tracks["object/crops"].rows(0, batch)).to(device)
    classes = torch.full((len(crops), 80), 0.01, device=device)
    with torch.inference_mode():
        convolutions = recorded(network, lambda: network.scores(crops, classes))

        def alone() -> None:
            for conv, x in convolutions:
                conv(x)

        count = float(len(objects))
        rates = race(
            [
                Contestant(ALONE, "objects/s", len(crops), alone),
                Contestant(
                    NETWORK, "objects/s", len(crops), lambda: network.scores(crops, classes)
                ),
                Contestant(WHOLE, "objects/s", count, lambda: detector.score(bag)),
                Contestant(MAP, "frames/s", frames, lambda: score_frames(objects, scores, config)),
                matmul("fp32", device),
            ],
            repeats,
            device,
        )
    layers = layers_of(architecture)
    gflop = sum(count_flops(layers, t, SIDE) for t in (2 * config.t + 1, 2 * config.t, 1)) / 1e9
    best = {name: rate.best for name, rate in rates.items()}
    of_matmul = {name: gflop * best[name] / best["matmul fp32"] for name in (ALONE, NETWORK, WHOLE)}
    values: dict[str, Any] = {
        "hardware": hardware(device),
        "architecture": architecture,
        "gflop_of_convolutions": gflop,
        "rates": as_values(rates),
        "of_matmul": of_matmul,
        "share_of_convolutions": best[WHOLE] / best[ALONE],
        "network_share_of_convolutions": best[NETWORK] / best[ALONE],
        "frames_per_second": best[WHOLE] / EACH,
        "map_milliseconds": 1e3 / best[MAP],
        "map_share": best[WHOLE] / EACH / best[MAP],
    }
    what = f"{architecture}, {frames} frames with {EACH} objects of {SIDE} x {SIDE}, fp32"
    lines = heading(device, what, f"best / median of {repeats}, all in turn")
    return values, [*lines, *_rows(rates, of_matmul), *_summary(values, best[ALONE])]


def _summary(values: Mapping[str, Any], alone: float) -> list[str]:
    gflop = values["gflop_of_convolutions"]
    return [
        f"3-D convolutions: {gflop:.2f} GFLOP an object, {gflop * alone:.1f} GFLOP/s",
        f"scoring: {100 * values['share_of_convolutions']:.0f} % (asked {ASKED} %) of the rate of "
        f"the convolutions (network {100 * values['network_share_of_convolutions']:.0f} %), "
        f"{values['frames_per_second']:.1f} frames/s (target {FRAMES_PER_SECOND})",
        f"map: {values['map_milliseconds']:.2f} ms a frame (paper: under 1 ms), "
        f"{100 * values['map_share']:.1f} % of scoring",
    ]


def _rows(rates: Mapping[str, Rate], of_matmul: Mapping[str, float]) -> list[str]:
    more = {
        name: f"   {100 * rates[name].best / rates[ALONE].best:.0f} % of the convolutions, "
        f"{100 * share:.0f} % of matmul"
        for name, share in of_matmul.items()
    }
    more |= {MAP: "   beside the network, see below", "matmul fp32": "   the limit"}
    return [f"{name:24}{rate}{more[name]}" for name, rate in rates.items()]


def drawn_objects(frames: int, side: int = SIDE) -> Bag:
    """A video in memory with random crops, boxes and classes, `EACH` in every frame."""
    rng = np.random.default_rng(0)
    every = np.arange(frames, dtype=np.int64)
    frame = np.repeat(every, EACH)
    n = len(frame)
    corner = rng.uniform(0, 200, (n, 2))
    arrays: dict[str, NDArray[Any]] = {
        "object/boxes": np.concatenate([corner, corner + 30], axis=1).astype(np.float32),
        "object/crops": rng.integers(0, 256, (n, 7, side, side, 3), dtype=np.uint8),
        "object/classes": rng.uniform(size=(n, 80)).astype(np.float16),
    }
    tracks = {role: Track(values, frame, frame + 1) for role, values in arrays.items()}
    sizes = np.tile(np.array(FRAME, np.int32), (frames, 1))
    tracks["frame/size"] = Track(sizes, every, every + 1)
    tracks["frame/objects"] = Track(np.full(frames, EACH, np.int32), every, every + 1)
    return Bag("drawn", None, frames, 10.0, tracks)


def _detector(architecture: Architecture, device: str) -> SSMTL:
    """A detector with random weights, as if it had been trained."""
    config = SSMTLConfig(architecture=architecture, imagenet_teacher=False)
    torch.manual_seed(0)
    network = SSMTLNetwork(architecture, config.deep_pools, config.in_order, SIDE, 80)
    state = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    detector = SSMTL(config)
    detector.load_state_dict({"sizes": np.array([SIDE, 80]), **state})
    detector.to(device)
    return detector
