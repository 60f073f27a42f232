"""Clips a second of every network and precision, against plain code and against matmul."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...extractors.base import Runtime
from ...extractors.device.inference import VideoNetwork, available_precisions, load_video_network
from ...extractors.device.micro_batch import MicroBatches
from ...extractors.networks import clip_vit as vifi_clip
from ...extractors.networks import i3d_r50, inception_i3d
from ...extractors.networks.inception_i3d import InceptionI3d, Mixed
from ...extractors.weights.cards import ResolvedWeights, Weights
from .race import Contestant, Rate, as_values, hardware, heading, matmul, race

CLIP = (16, 224, 224)
PLAIN = "plain inception_i3d fp32"
ItemShape = tuple[int, int, int]  # frames, height, width


@dataclass(frozen=True)
class _Subject:
    """One network: how it is built, its weights, its items, and the FLOPs of one."""

    name: str
    build: Callable[[], nn.Module]
    weights: ResolvedWeights
    item: ItemShape
    flops: float


def subjects(names: Sequence[str] | None = None) -> list[_Subject]:
    """All networks, with random weights: speed does not depend on them."""
    found = [
        _Subject(b.name, b.build, _random_weights(b.cards[0]), CLIP, b.flops(*CLIP))
        for b in (inception_i3d.BACKBONE, i3d_r50.BACKBONE, i3d_r50.BACKBONE_PTV)
    ]
    frame = (1, vifi_clip.SIDE, vifi_clip.SIDE)
    weights = _random_weights(vifi_clip.CARDS[0])
    flops = vifi_clip.frame_flops()
    found.append(_Subject("vifi_clip", vifi_clip.ClipTower, weights, frame, flops))
    return [each for each in found if names is None or each.name in names]


def _random_weights(card: Weights) -> ResolvedWeights:
    return ResolvedWeights(card, "random:0", None)


def bench_network(
    *, repeats: int = 3, device: str = "cpu", names: Sequence[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Items a second of the networks in every precision that the device has.

    The plain loop is Inception-I3D as public PyTorch implementations write it: fp32, NCDHW, batch
    norm by itself, zero-padded max pools, one clip at a time. Ours run in batches of the size that
    was tried out beforehand.

    Args:
        repeats:
            Turns of each contestant.
        device:
            Where.
        names:
            Networks; None takes all.

    Returns:
        Values for machines, and lines for people.
    """
    precisions = available_precisions(device)
    contestants, items = [], {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that random weights mean nothing
        sizes = MicroBatches(Path(folder) / "tuning.json")
        chosen = subjects(names)
        for subject in chosen:
            for precision in precisions:
                network = load_video_network(
                    subject.build, subject.weights, precision, Runtime(device), sizes
                )
                batch = network.batch_size(subject.item)
                name = f"{subject.name} {precision}"
                items[name] = (subject, batch)
                videos = torch.randint(
                    0, 256, (batch, *subject.item, 3), dtype=torch.uint8, device=device
                )
                run = _closure(network, videos)
                contestants.append(Contestant(name, "items/s", batch, run))
        if any(subject.name == "inception_i3d" for subject in chosen):
            contestants.append(_plain_loop(device))
        contestants += [matmul(precision, device) for precision in precisions]
        rates = race(contestants, repeats, device)
    rows = {name: _row(name, rates, *about) for name, about in items.items()}
    values = {
        "hardware": hardware(device),
        "repeats": repeats,
        "rates": as_values(rates),
        "networks": rows,
    }
    lines = heading(device, f"best / median of {repeats}, all in turn")
    for name, rate in rates.items():
        line = f"{name:26}{rate}"
        if name in rows:
            row = rows[name]
            line += f"   batch {row['batch']}, {row['gflop']:.1f} GFLOP"
            line += f", {100 * row['of_matmul']:.0f} % of matmul"
            if row["to_plain"] is not None:
                line += f", {row['to_plain']:.2f} x plain"
        lines.append(line)
    return values, lines


def _row(name: str, rates: dict[str, Rate], subject: _Subject, batch: int) -> dict[str, Any]:
    precision = name.rpartition(" ")[2]
    gflop = subject.flops / 1e9
    rate = rates[name].median
    plain = rates.get(PLAIN) if subject.name == "inception_i3d" else None
    return {
        "batch": batch,
        "item": list(subject.item),
        "gflop": gflop,
        "of_matmul": rate * gflop / rates[f"matmul {precision}"].median,
        "to_plain": None if plain is None else rate / plain.median,
    }


def _closure(network: VideoNetwork, videos: torch.Tensor) -> Callable[[], object]:
    return lambda: network(videos)


def _plain_loop(device: str) -> Contestant:
    plain = InceptionI3d().eval().to(device)
    for module in plain.modules():  # torch's pool, padded
        if isinstance(module, Mixed):
            module.pool = _padded_max_pool
    video = torch.randint(0, 256, (*CLIP, 3), dtype=torch.uint8, device=device)

    def loop() -> None:  # with TF32, the default of torch
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            x = (video.permute(3, 0, 1, 2)[None].float() - 127.5) / 127.5
            plain(x.contiguous())

    return Contestant(PLAIN, "items/s", 1, loop)


def _padded_max_pool(x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool3d(functional.pad(x, (1,) * 6), 3, 1)
