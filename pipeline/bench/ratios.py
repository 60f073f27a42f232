"""Ratios that a bench has to keep: measured in one run, recorded for each kind of machine.

Rates differ from machine to machine and from day to day. Ratios of contestants that take turns
hardly do, so they are what is recorded and compared, never times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, FiniteFloat

from ...data_manifests.atomic import write_atomically
from ...data_manifests.choices import choices
from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted
from ...data_manifests.stored import read_json
from .race import hardware
from .startup import BASES
from .windows import OLD

RECORDED = Path(__file__).with_name("ratios.json")
TOLERANCE = 0.2  # what may be lost: machines of one kind differ by less, busy ones by more
FAR = 1.5  # times the recorded ratio is no noise: the record is too low to guard anything

Values = Mapping[str, Any]


class Recorded(BaseModel):
    """Ratios of one bench on one kind of machine.

    Attributes:
        date: day of the run.
        torch: its version.
        processor: of the machine, for people.
        options: what the bench was told; a check has to be told the same.
        ratios: by name; a higher one is better.
    """

    date: str
    torch: str
    processor: str
    options: dict[str, str | int]
    ratios: dict[str, FiniteFloat]


class RatioFile(BaseModel):
    """All that is recorded.

    Attributes:
        format: of the file.
        machines: kind of machine -> bench -> its ratios.
    """

    format: Literal[1] = 1
    machines: dict[str, dict[str, Recorded]]


class RatioError(VadpipeError, ValueError):
    """Ratios that cannot be compared: none are recorded, or the file is damaged."""


def _train(values: Values) -> dict[str, float]:
    found = {}
    for name, facts in values["train"].items():
        for stage, row in facts["stages"].items():
            found[f"{name}, {stage}: of matmul"] = row["share_of_matmul"]
            if row["to_published"] is not None and not name.startswith("published"):
                found[f"{name}, {stage}: to published"] = row["to_published"]
    for name, row in values["score"].items():
        found[f"{name}, scoring: of matmul"] = row["share_of_matmul"]
    return found


def _network(values: Values) -> dict[str, float]:
    found = {}
    for name, row in values["networks"].items():
        if row["to_plain"] is not None:  # the plain forms guard nothing
            found[f"{name}: of matmul"] = row["of_matmul"]
            found[f"{name}: to plain"] = row["to_plain"]
    return found


def _extract(values: Values) -> dict[str, float]:
    found = {f"{name}: of matmul": run["of_matmul"] for name, run in values["best"].items()}
    return {**found, "whole frames to patch cubes": 1 / values["patch_cubes_cost_a_flop"]}


def _startup(values: Values) -> dict[str, float]:
    rows = values["commands"].items()
    return {
        f"import click to {name}": 1 / row["to_click"] for name, row in rows if name not in BASES
    }


def _shards(values: Values) -> dict[str, float]:
    rates = values["seconds"]
    before = rates["format 2, before"]["median"]
    return {
        f"{name}: to before": before / rate["median"]
        for name, rate in rates.items()
        if name not in ("format 2, before", "bytes alone")
    }


def _engine(values: Values) -> dict[str, float]:
    return {
        f"{name}: share of the task": row["task_ms"] / (row["task_ms"] + row["scheduling_ms"])
        for name, row in values["ways"].items()
    }


def _named(key: str) -> Callable[[Values], dict[str, float]]:
    return lambda values: {f"{name}: {key}": float(x) for name, x in values[key].items()}


def _decode(values: Values) -> dict[str, float]:
    found, pixels = _named("of_decoder_alone")(values), values["pixels"]
    for what in ("copies", "reading"):
        (first, slowest), *others = ((name, row["median"]) for name, row in pixels[what].items())
        found |= {f"{what}, {name}: to {first}": slowest / ms for name, ms in others}
    for name, row in pixels["resizing"].items():
        before, _, place = name.partition(" by the ")
        if place == "decoder":
            reader = pixels["resizing"][f"{before} by the reader"]
            found[f"{name}: to the reader"] = reader["median"] / row["median"]
    return found


def _autoencoder(values: Values) -> dict[str, float]:
    return {
        name: ratio
        for key in ("share_of_convolutions", "bf16_to_fp32")
        for name, ratio in _named(key)(values).items()
    }


def _ssmtl(values: Values) -> dict[str, float]:
    keys = ("share_of_convolutions", "network_share_of_convolutions")
    return {key: values[key] for key in keys} | _named("of_matmul")(values)


def _windows(values: Values) -> dict[str, float]:
    others = {name: ratio for name, ratio in values["to_version_0_1"].items() if name != OLD}
    return _named("to_version_0_1")({"to_version_0_1": others}) | _named("of_copying")(values)


def _nearest(values: Values) -> dict[str, float]:
    return {"to scikit-learn": values["ratio"], "of matmul": values["share_of_matmul"]}


def _scoring(values: Values) -> dict[str, float]:
    rows = values["detectors"].items()
    found = {f"{name}: to one after the other": row["ratio"] for name, row in rows}
    short = values["short"].items()
    return found | {f"{name}: short videos together": row["together"] for name, row in short}


RATIOS: dict[str, Callable[[Values], dict[str, float]]] = {
    "autoencoder": _autoencoder,
    "decode": _decode,
    "engine": _engine,
    "extract": _extract,
    "msmg": _named("share_of_convolutions"),
    "nearest": _nearest,
    "network": _network,
    "objects": _named("share_of_the_detector"),
    "scoring": _scoring,
    "shards": _shards,
    "ssmtl": _ssmtl,
    "startup": _startup,
    "train": _train,
    "windows": _windows,
}
"""Bench -> its ratios by name; a higher one is better. A bench without any has times only."""


def machine_of(hardware: Mapping[str, Any]) -> str:
    """Name the kind of machine: the GPU, or the instructions of the processor and the threads."""
    if "gpu" in hardware:
        return str(hardware["gpu"])
    # private in torch, so a version may lack them
    checks = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
    able = [name for name, check in checks.items() if getattr(torch.cpu, check, bool)()]
    instructions = able[0] if able else torch.backends.cpu.get_cpu_capability()
    return f"{instructions}, {hardware['threads']} threads"


@dataclass(frozen=True)
class Comparison:
    """What a check found.

    Attributes:
        lines: for people, one a ratio.
        worse: ratios that are too far below the recorded ones.
        far: ratios so far above the recorded ones that these guard nothing.
        missing: recorded ratios that the run has not measured.
        unrecorded: measured ratios that nothing is recorded of: they are not guarded.
    """

    lines: tuple[str, ...]
    worse: tuple[str, ...]
    missing: tuple[str, ...]
    unrecorded: tuple[str, ...] = ()
    far: tuple[str, ...] = ()


def recorded_ratios(
    path: Path,
    what: str,
    device: str,
    options: Mapping[str, str | int],
    defaults: Mapping[str, str | int] | None = None,
) -> Recorded:
    """Find what is recorded for a machine of this kind; to be called before a bench runs.

    Args:
        path:
            File of ratios.
        what:
            The bench.
        device:
            Where it will run.
        options:
            What it will be told.
        defaults:
            What it takes where it is told nothing.

    Raises:
        RatioError: the bench has no ratios, none are recorded for such a machine or for other
            options, or the file cannot be read.
    """
    must_have_ratios(what)
    defaults = defaults or {}
    machine = machine_of(hardware(device))
    found = all_recorded(path, device).get(what)
    if found is None:
        raise RatioError(
            f"{path} has no ratios of {what} on a machine like this ({machine}): record them "
            "with --record"
        )
    if {**defaults, **found.options} != {**defaults, **options}:
        raise RatioError(
            f"the ratios of {what} were recorded with {_options(found.options)}, not with "
            f"{_options(options)}: give the same, or record them again"
        )
    return found


def all_recorded(path: Path, device: str) -> dict[str, Recorded]:
    """Bench -> what is recorded for a machine of this kind.

    Raises:
        RatioError: the file cannot be read.
    """
    return _read(path).machines.get(machine_of(hardware(device)), {})


def _options(options: Mapping[str, str | int]) -> str:
    return " ".join(f"--{name} {value}" for name, value in options.items()) or "no option"


def check_ratios(
    recorded: Recorded, what: str, values: Values, tolerance: float = TOLERANCE
) -> Comparison:
    """Compare the ratios of a run with recorded ones.

    Args:
        recorded:
            See `recorded_ratios`.
        what:
            The bench.
        values:
            What the bench returned.
        tolerance:
            Share of a recorded ratio that may be lost.
    """
    measured = _ratios(what, values)
    lines, worse, far = [], [], []
    for name, before in recorded.ratios.items():
        now = measured.get(name)
        if now is None:
            continue
        low = now < before * (1 - tolerance)
        high = now > before * FAR
        worse += [name] if low else []
        far += [name] if high else []
        mark = "  WORSE" if low else "  FAR ABOVE" if high else ""
        lines.append(f"{name:52} {now:8.2f}, recorded {before:8.2f}{mark}")
    missing = [name for name in recorded.ratios if name not in measured]
    lines += [f"{name:52} not measured, though recorded" for name in missing]
    unrecorded = [name for name in measured if name not in recorded.ratios]
    lines += [f"{name:52} {measured[name]:8.2f}, not recorded" for name in unrecorded]
    lines.append(
        f"{len(worse)} of {len(recorded.ratios)} ratios are worse than recorded by more than "
        f"{100 * tolerance:.0f} % ({recorded.date}, {recorded.processor}, torch {recorded.torch})"
    )
    if far:
        lines.append(
            f"{counted(len(far), 'ratio')} far above the recorded: record {what} again (--record), "
            "for a loss down to the old ratio would not be noticed"
        )
    return Comparison(tuple(lines), tuple(worse), tuple(missing), tuple(unrecorded), tuple(far))


def record_ratios(path: Path, what: str, values: Values, options: Mapping[str, str | int]) -> str:
    """Write the ratios of a run for this kind of machine; other entries of the file stay.

    Returns:
        A line for people.

    Raises:
        RatioError: the bench has no ratios, or the file cannot be read.
        CannotWrite: the disk is full or read-only.
    """
    measured = _ratios(what, values)
    kept = _read(path) if path.exists() else RatioFile(machines={})
    machine = machine_of(values["hardware"])
    kept.machines.setdefault(machine, {})[what] = Recorded(
        date=datetime.now(UTC).date().isoformat(),
        torch=str(values["hardware"]["torch"]),
        processor=str(values["hardware"].get("gpu", values["hardware"]["processor"])),
        options=dict(options),
        ratios={name: round(value, 3) for name, value in measured.items()},
    )
    text = json.dumps(kept.model_dump(), indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))
    return f"{counted(len(measured), 'ratio')} of {what} on {machine}: {path}"


def must_have_ratios(what: str) -> None:
    """Tell before a bench runs whether it has ratios.

    Raises:
        RatioError: it has times only.
    """
    if what not in RATIOS:
        raise RatioError(
            f"bench {what} has times only, which no other machine repeats; those with ratios are "
            f"{choices(sorted(RATIOS), what)}"
        )


def _ratios(what: str, values: Values) -> dict[str, float]:
    must_have_ratios(what)
    return RATIOS[what](values)


def _read(path: Path) -> RatioFile:
    try:
        return RatioFile.model_validate(read_json(path))
    except FileNotFoundError:
        raise RatioError(f"there is no file of ratios {path}: record some with --record") from None
    except (OSError, ValueError) as error:  # damage and pydantic's errors are ValueErrors
        raise RatioError(
            f"{path} cannot be read as a file of ratios ({error}): delete it, and record the "
            "ratios again with --record"
        ) from error
