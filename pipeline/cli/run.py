"""Commands about whole runs: run, bench, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import ANY, FILE, OUT, cache_option, echo, finish, json_option, set_option

if TYPE_CHECKING:
    from ..store.failures import Failure


@click.command()
@click.argument("run_file", type=FILE)
@set_option
@click.option("--dry-run", is_flag=True, help="Print the stages and do nothing.")
def run(run_file: Path, settings: tuple[str, ...], dry_run: bool) -> None:
    """Run everything that a TOML file describes, from manifest to report.

    \b
    Example:
        vadpipe run ped2.toml --set seed=1
    """
    from ..run.config import load_run
    from ..run.stages import execute, plan

    config = load_run(run_file, settings)
    stages = plan(config)
    if dry_run:
        for stage in stages:
            needs = ", ".join(stage.needs) or "-"
            click.echo(f"{stage.name}\tneeds {needs}\t{stage.key[:12]}\t{stage.target}")
        return
    failures: list[Failure] = []
    for stage, result in execute(stages):
        for line in result.lines:
            click.echo(f"{stage.name}: {line}")
        failures += result.failures
    unique = list({(f.video_id, f.stage): f for f in failures}.values())
    finish(unique, config.out / "failures.parquet")


@click.command()
@click.argument(
    "what", type=click.Choice(["decode", "network", "extract", "engine", "index", "train"])
)
@click.option(
    "--repeats", type=click.IntRange(1), help="Turns (3), runs (1), or training steps (2)."
)
@click.option("--count", type=click.IntRange(1), help="Spans of engine, shards of index.")
@click.option("--device", default="cpu", help="Of networks.")
@click.option(
    "--footage",
    type=ANY,
    help="Of decode and extract; else a scene is drawn.",
)
@json_option
def bench(
    what: str,
    repeats: int | None,
    count: int | None,
    device: str,
    footage: Path | None,
    as_json: bool,
) -> None:
    """Measure speed side by side in one run, and say how far it is from what the machine can do.

    \b
    decode   frames/s out of a video
    network  clips/s of every network and precision, against plain code and matmul
    extract  end to end: waiting of the device, patch cubes, memory
    engine   what a span costs beside its task (--count 10000)
    index    an index of --count 1000000 shards
    train    the weakly supervised detectors at paper size
    """
    from ..bench.decode import bench_decode
    from ..bench.engine import bench_engine, bench_index
    from ..bench.extract import bench_extract
    from ..bench.network import bench_network
    from ..bench.train import bench_train

    match what:
        case "decode":
            values, lines = bench_decode(footage, repeats=repeats or 3)
        case "network":
            values, lines = bench_network(repeats=repeats or 3, device=device)
        case "extract":
            values, lines = bench_extract(footage, repeats=repeats or 1, device=device)
        case "engine":
            values, lines = bench_engine(spans=count or 10_000)
        case "index":
            values, lines = bench_index(shards=count or 1_000_000)
        case _:
            values, lines = bench_train(steps=repeats or 2, device=device)
    echo(lines, values, as_json)


@click.command()
@click.option("-o", "--out", type=OUT, default=Path("demo"))
@click.option("--seed", type=int, default=0)
@click.option("--device", default="cpu")
@cache_option
def demo(out: Path, seed: int, device: str, cache: Path) -> None:
    """Draw a small surveillance scene, then run everything on it; prints AUC and the report."""
    from ..run.demo import run_demo

    for line in run_demo(out, cache, seed=seed, device=device):
        click.echo(line)
