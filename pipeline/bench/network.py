"""Clips a second of every network and precision, against plain code and against matmul."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...extractors.base import Precision, Runtime
from ...extractors.device.graphs import RUNS_BEFORE
from ...extractors.device.inference import VideoNetwork, available_precisions, load_video_network
from ...extractors.device.micro_batch import MicroBatches
from ...extractors.networks import clip_vit as vifi_clip
from ...extractors.networks import i3d_r50, inception_i3d
from ...extractors.networks.folding import Form
from ...extractors.weights.cards import ResolvedWeights, Weights
from .plain_networks import plain_form
from .race import Contestant, Rate, as_values, hardware, heading, matmul, race

CLIP = (16, 224, 224)
WARM_UPS = RUNS_BEFORE + 1  # with graphs: the last of them records
ItemShape = tuple[int, int, int]  # frames, height, width


@dataclass(frozen=True)
class _Subject:
    """One network: how it is built, its weights, its items, and the FLOPs of one."""

    name: str
    build: Callable[[], nn.Module]
    weights: ResolvedWeights
    item: ItemShape
    flops: float


@dataclass(frozen=True)
class _Entry:
    """A contestant, and what its rate is compared with.

    Attributes:
        subject: the network.
        precision: whose matmul is the limit.
        batch: items a run.
        run: computes a batch.
        note: for people.
        first_layers: how the first layer takes pixels, by its name; empty where it has one way.
    """

    subject: _Subject
    precision: Precision
    batch: int
    run: Callable[[], object]
    note: str = ""
    first_layers: Mapping[str, Form] = field(default_factory=dict)


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

    The plain forms are the networks as public PyTorch code writes them: fp32, colours outermost,
    batch norms by themselves, one item at a time (`plain_networks.py`). Ours run in batches of the
    size that was tried out beforehand; on CUDA also as recorded graphs.

    Args:
        repeats:
            Turns of each contestant.
        device:
            Where.
        names:
            Networks; None takes all.

    Returns:
        Values for machines, and lines for people; both say which form of the first layer was
        the fastest here.
    """
    precisions = available_precisions(device)
    entries: dict[str, _Entry] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that random weights mean nothing
        sizes = MicroBatches(Path(folder) / "tuning.json")
        for subject in subjects(names):
            entries[_plain_name(subject)] = _plain(subject, device)
            for precision in precisions:
                entries |= _ours(subject, precision, device, sizes)
    contestants = [Contestant(n, "items/s", each.batch, each.run) for n, each in entries.items()]
    contestants += [matmul(precision, device) for precision in precisions]
    rates = race(contestants, repeats, device)
    rows = {name: _row(name, rates, entry) for name, entry in entries.items()}
    values = {
        "hardware": hardware(device),
        "repeats": repeats,
        "rates": as_values(rates),
        "networks": rows,
    }
    lines = heading(device, f"best / median of {repeats}, all in turn")
    return values, lines + [_line(name, rate, rows.get(name)) for name, rate in rates.items()]


def _line(name: str, rate: Rate, row: dict[str, Any] | None) -> str:
    line = f"{name:26}{rate}"
    if row is None:
        return f"{line}   the limit"
    line += f"   batch {row['batch']}, {row['gflop']:.1f} GFLOP"
    line += f", {100 * row['of_matmul']:.0f} % of matmul"
    if row["to_plain"] is None:
        return f"{line}, the plain form"
    if forms := sorted(set(row["first_layers"].values())):
        line += f", first layer {' and '.join(forms)}"
    return f"{line}, {row['to_plain']:.2f} x plain{row['note']}"


def _row(name: str, rates: dict[str, Rate], entry: _Entry) -> dict[str, Any]:
    gflop = entry.subject.flops / 1e9
    rate = rates[name].median
    plain = _plain_name(entry.subject)
    return {
        "batch": entry.batch,
        "item": list(entry.subject.item),
        "gflop": gflop,
        "of_matmul": rate * gflop / rates[f"matmul {entry.precision}"].median,
        "to_plain": None if name == plain else rate / rates[plain].median,
        "note": entry.note,
        "first_layers": dict(entry.first_layers),
    }


def _ours(
    subject: _Subject, precision: Precision, device: str, sizes: MicroBatches
) -> dict[str, _Entry]:
    network = _loaded(subject, precision, Runtime(device), sizes)
    batch = network.batch_size(subject.item)
    videos = _pixels(batch, subject, device)
    name = f"{subject.name} {precision}"
    run, forms = _closure(network, videos), network.first_layers(subject.item)
    found = {name: _Entry(subject, precision, batch, run, first_layers=forms)}
    if device != "cpu":
        replayed = _loaded(subject, precision, Runtime(device, cuda_graphs=True), sizes)
        found[f"{name} graph"] = _graph_entry(subject, precision, replayed, videos)
    return found


def _graph_entry(
    subject: _Subject, precision: Precision, network: VideoNetwork, videos: torch.Tensor
) -> _Entry:
    """Run until the network is recorded, so that every turn is a replay; or say why none is."""
    run = _closure(network, videos)
    for _ in range(WARM_UPS):
        run()
    graphs = network.graphs
    used = graphs is not None and bool(graphs.shapes)
    note = "" if used else f", NOT REPLAYED: {graphs.why_not if graphs else 'no graphs here'}"
    return _Entry(subject, precision, len(videos), run, note)


def _loaded(
    subject: _Subject, precision: Precision, runtime: Runtime, sizes: MicroBatches
) -> VideoNetwork:
    return load_video_network(subject.build, subject.weights, precision, runtime, sizes)


def _pixels(batch: int, subject: _Subject, device: str) -> torch.Tensor:
    shape = (batch, *subject.item, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def _closure(network: VideoNetwork, videos: torch.Tensor) -> Callable[[], object]:
    return lambda: network(videos)


def _plain_name(subject: _Subject) -> str:
    return f"plain {subject.name} fp32"


def _plain(subject: _Subject, device: str) -> _Entry:
    network = plain_form(subject.build().eval().to(device))
    video = _pixels(1, subject, device)
    (mean, std) = (torch.tensor(x, device=device) for x in _statistics(subject))

    def loop() -> None:  # with TF32, the default of torch
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            x = (video.float() - mean) / std
            network(x.permute(0, 4, 1, 2, 3).contiguous())

    return _Entry(subject, "fp32", 1, loop)


def _statistics(subject: _Subject) -> tuple[Sequence[float], Sequence[float]]:
    return subject.weights.card.mean, subject.weights.card.std
