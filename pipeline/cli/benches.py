"""What each `vadpipe bench` measures; a bench is imported only when it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .options import echo
from .outcome import voice

Measured = tuple[dict[str, Any], list[str]]  # values for machines, lines for people

COUNTS = {
    "engine": 10_000,  # spans
    "index": 1_000_000,  # shards
    "train": 8,  # videos of each class
    "windows": 32,  # videos
    "shards": 100,
    "ssmtl": 40,  # frames
    "msmg": 40,
    "autoencoder": 40,
    "nearest": 20_000,  # rows
    "scoring": 16,  # videos
    "page": 2_000,  # videos
}
"""What each bench works on where no count is given; the others have none."""

ON_CPU = frozenset({"decode", "engine", "index", "shards", "nearest", "startup", "page"})
"""Benches of what no other device does."""


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

    return bench_engine(spans=asked.count or COUNTS["engine"])


def _index(asked: Asked) -> Measured:
    from ..bench.engine import bench_index

    return bench_index(shards=asked.count or COUNTS["index"])


def _train(asked: Asked) -> Measured:
    from ..bench.train import ProblemSize, bench_train

    size = ProblemSize(pairs=asked.count or COUNTS["train"])
    return bench_train(repeats=asked.repeats or 2, device=asked.device, size=size)


def _windows(asked: Asked) -> Measured:
    from ..bench.windows import bench_windows

    videos, repeats = asked.count or COUNTS["windows"], asked.repeats or 5
    return bench_windows(videos=videos, repeats=repeats, device=asked.device)


def _shards(asked: Asked) -> Measured:
    from ..bench.shards import bench_shards

    return bench_shards(count=asked.count or COUNTS["shards"], repeats=asked.repeats or 10)


def _ssmtl(asked: Asked) -> Measured:
    from ..bench.ssmtl import bench_ssmtl

    frames, repeats = asked.count or COUNTS["ssmtl"], asked.repeats or 3
    return bench_ssmtl(repeats=repeats, device=asked.device, frames=frames)


def _msmg(asked: Asked) -> Measured:
    from ..bench.msmg import MSMGProblem, bench_msmg

    problem = MSMGProblem(frames=asked.count or COUNTS["msmg"])
    return bench_msmg(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _autoencoder(asked: Asked) -> Measured:
    from ..bench.autoencoder import AutoencoderProblem, bench_autoencoder

    problem = AutoencoderProblem(frames=asked.count or COUNTS["autoencoder"])
    return bench_autoencoder(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _startup(asked: Asked) -> Measured:
    from ..bench.startup import bench_startup

    return bench_startup(repeats=asked.repeats or 20)


def _nearest(asked: Asked) -> Measured:
    from ..bench.nearest import bench_nearest

    return bench_nearest(rows=asked.count or COUNTS["nearest"], repeats=asked.repeats or 3)


def _scoring(asked: Asked) -> Measured:
    from ..bench.scoring import ScoringProblem, bench_scoring

    problem = ScoringProblem(videos=asked.count or COUNTS["scoring"])
    return bench_scoring(repeats=asked.repeats or 3, device=asked.device, problem=problem)


def _page(asked: Asked) -> Measured:
    from ..bench.page import bench_page

    return bench_page(videos=asked.count or COUNTS["page"], repeats=asked.repeats or 3)


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


# ------------------------------------------------------------------------------------- checks


def options_of(what: str, asked: Asked) -> dict[str, str | int]:
    """What ratios depend on: the count, and the name and size of the footage."""
    count = asked.count or COUNTS.get(what)
    options: dict[str, str | int] = {} if count is None else {"count": count}
    if asked.footage is not None:
        files = [asked.footage] if asked.footage.is_file() else asked.footage.rglob("*")
        size = sum(each.stat().st_size for each in files if each.is_file())
        options["footage"] = f"{asked.footage.name} ({size:,} bytes)"
    return options


def check_one(
    what: str, path: Path, asked: Asked
) -> tuple[dict[str, Any], list[str], tuple[str, ...]]:
    """Run a bench and compare its ratios with those recorded for a machine of this kind.

    Returns:
        Values for machines, lines for people, and what is worse or was not measured.

    Raises:
        RatioError: there is nothing to compare with.
    """
    from ..bench.compared import compared_lines
    from ..bench.ratios import check_ratios, recorded_ratios

    default = options_of(what, Asked(None, None, asked.device, None))
    before = recorded_ratios(path, what, asked.device, options_of(what, asked), default)
    values, lines = BENCHES[what](asked)
    found = check_ratios(before, what, values)
    worse = (*found.worse, *found.missing)
    more = {"worse": list(worse), "far_above": list(found.far)}
    return {**values, **more}, [*lines, *compared_lines(what), *found.lines], worse


def check_all(path: Path, asked: Asked, as_json: bool) -> tuple[str, ...]:
    """Check every bench that is recorded for a machine of this kind; prints each as it ends.

    One that was recorded with other footage than a drawn scene is named and left out.

    Returns:
        What is worse, with the name of its bench.

    Raises:
        RatioError: nothing is recorded for such a machine, or the file cannot be read.
    """
    from ..bench.race import hardware
    from ..bench.ratios import RatioError, all_recorded, machine_of

    recorded = all_recorded(path, asked.device)
    if not recorded:
        machine = machine_of(hardware(asked.device))
        raise RatioError(
            f"{path} has no ratios of a machine like this ({machine}): record some with "
            "vadpipe bench WHAT --record"
        )
    say = voice(as_json)
    worse: list[str] = []
    everything: dict[str, Any] = {}
    for what, before in sorted(recorded.items()):
        say(f"# {what}")
        if footage := before.options.get("footage"):
            say(f"left out: it was recorded with --footage {footage}")
            everything[what] = None
            continue
        count = before.options.get("count")
        told = replace(asked, count=None if count is None else int(count))
        everything[what], lines, low = check_one(what, path, told)
        say("\n".join(lines))
        worse += [f"{what}: {name}" for name in low]
    worse_line = f"worse: {', '.join(worse)}" if worse else "no ratio is worse than recorded"
    echo([worse_line], {"benches": everything, "worse": worse}, as_json)
    return tuple(worse)
