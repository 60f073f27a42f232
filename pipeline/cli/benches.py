"""What each `vadpipe bench` measures; a bench is imported only when it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measured = tuple[dict[str, Any], list[str]]  # values for machines, lines for people


@dataclass(frozen=True)
class Asked:
    """What the options of the command say; None where it is left to the bench.

    Attributes:
        repeats: turns, runs or starts.
        count: of what the bench works on.
        device: where networks compute.
        footage: a video or a folder.
    """

    repeats: int | None
    count: int | None
    device: str
    footage: Path | None


def _decode(asked: Asked) -> Measured:
    from ..bench.decode import bench_decode

    return bench_decode(asked.footage, repeats=asked.repeats or 3)


def _network(asked: Asked) -> Measured:
    from ..bench.network import bench_network

    return bench_network(repeats=asked.repeats or 3, device=asked.device)


def _extract(asked: Asked) -> Measured:
    from ..bench.extract import bench_extract

    return bench_extract(asked.footage, repeats=asked.repeats or 1, device=asked.device)


def _objects(asked: Asked) -> Measured:
    from ..bench.objects import bench_objects

    return bench_objects(asked.footage, repeats=asked.repeats or 1, device=asked.device)


def _engine(asked: Asked) -> Measured:
    from ..bench.engine import bench_engine

    return bench_engine(spans=asked.count or 10_000)


def _index(asked: Asked) -> Measured:
    from ..bench.engine import bench_index

    return bench_index(shards=asked.count or 1_000_000)


def _train(asked: Asked) -> Measured:
    from ..bench.train import ProblemSize, bench_train

    size = ProblemSize(pairs=asked.count or 8)
    return bench_train(repeats=asked.repeats or 2, device=asked.device, size=size)


def _windows(asked: Asked) -> Measured:
    from ..bench.windows import bench_windows

    videos, repeats = asked.count or 32, asked.repeats or 5
    return bench_windows(videos=videos, repeats=repeats, device=asked.device)


def _shards(asked: Asked) -> Measured:
    from ..bench.shards import bench_shards

    return bench_shards(count=asked.count or 100, repeats=asked.repeats or 10)


def _ssmtl(asked: Asked) -> Measured:
    from ..bench.ssmtl import bench_ssmtl

    frames, repeats = asked.count or 40, asked.repeats or 3
    return bench_ssmtl(repeats=repeats, device=asked.device, frames=frames)


def _msmg(asked: Asked) -> Measured:
    from ..bench.msmg import MSMGProblem, bench_msmg

    problem = MSMGProblem(frames=asked.count or 40)
    return bench_msmg(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _autoencoder(asked: Asked) -> Measured:
    from ..bench.autoencoder import AutoencoderProblem, bench_autoencoder

    problem = AutoencoderProblem(frames=asked.count or 40)
    return bench_autoencoder(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _startup(asked: Asked) -> Measured:
    from ..bench.startup import bench_startup

    return bench_startup(repeats=asked.repeats or 20)


def _nearest(asked: Asked) -> Measured:
    from ..bench.nearest import bench_nearest

    return bench_nearest(rows=asked.count or 20_000, repeats=asked.repeats or 3)


def _scoring(asked: Asked) -> Measured:
    from ..bench.scoring import ScoringProblem, bench_scoring

    problem = ScoringProblem(videos=asked.count or 16)
    return bench_scoring(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _page(asked: Asked) -> Measured:
    from ..bench.page import bench_page

    return bench_page(videos=asked.count or 2000, repeats=asked.repeats or 3)


BENCHES: dict[str, Callable[[Asked], Measured]] = {
    "decode": _decode,
    "network": _network,
    "extract": _extract,
    "objects": _objects,
    "engine": _engine,
    "index": _index,
    "train": _train,
    "windows": _windows,
    "shards": _shards,
    "ssmtl": _ssmtl,
    "msmg": _msmg,
    "autoencoder": _autoencoder,
    "startup": _startup,
    "nearest": _nearest,
    "scoring": _scoring,
    "page": _page,
}
