"""Commands about whole runs: run, bench, demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .benches import BENCHES, ON_CPU, Asked, check_all, check_one, options_of
from .options import (
    ANY,
    FILE,
    OUT,
    cache_option,
    device_option,
    echo,
    finish,
    json_option,
    seed_option,
    set_option,
)
from .outcome import outcome, voice

if TYPE_CHECKING:
    from ..run.run import Run


@click.command()
@click.argument("run_file", type=FILE)
@set_option
@click.option(
    "--only",
    multiple=True,
    metavar="NODE",
    help="Run this node, or all nodes of a section, and what they need; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Print the graph with its cost; run no node.")
@json_option
def run(
    run_file: Path, settings: tuple[str, ...], only: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Run everything that a TOML file describes: features, trainings, scores, fusions, pages.

    RUN_FILE is the TOML file; --set changes a key in it, as section.key=value, or as
    section.NAME.key=value where there are several. What is done is not done again.

    \b
    Example:
        vadpipe run ped2.toml --set seed=1
        vadpipe run ped2.toml --dry-run
        vadpipe run ped2.toml --only score-knn
    """
    from ..run.config import load_run
    from ..run.execute import chosen_nodes
    from ..run.graph import plan
    from ..run.listing import ended_lines, graph_lines, graph_values
    from ..run.resolved import resolve_run
    from ..run.run import run_nodes

    resolved = resolve_run(load_run(run_file, settings), write=not dry_run)
    nodes = chosen_nodes(plan(resolved), only)
    if dry_run:
        echo(graph_lines(resolved, nodes), graph_values(resolved, nodes), as_json)
        return
    say = voice(as_json)
    done = run_nodes(resolved, nodes, tell=lambda end: say("\n".join(ended_lines(end))))
    echo(done.lines(), _values(done), as_json)
    _end(done)


@click.command()
@click.argument("what", type=click.Choice(list(BENCHES)), required=False)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    metavar="N",
    help="Repeats: turns of decode, network, ssmtl, msmg and autoencoder (3), runs of extract and "
    "objects (1), turns of train (2), nearest (3), scoring (3), windows (5) and shards (10), "
    "starts of startup (20), openings of page (3).",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="Spans of engine (10000), shards of index (1000000), videos of windows (32), shards of "
    "shards (100), videos of each class of train (8), rows of nearest (20000), videos of "
    "scoring (16) and page (2000), or frames of ssmtl, msmg and autoencoder (40).",
)
@device_option
@click.option(
    "--footage",
    type=ANY,
    help="Video for decode, or video or folder for extract and objects. Without it a scene is "
    "drawn.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Compare the ratios of this run with those recorded on a machine of this kind; code 1 if "
    "one has fallen by more than a fifth.",
)
@click.option("--record", is_flag=True, help="Record the ratios of this run for such machines.")
@click.option(
    "--ratios",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File of recorded ratios (the one that vadpipe comes with).",
)
@json_option
def bench(
    what: str | None,
    repeats: int | None,
    count: int | None,
    device: str,
    footage: Path | None,
    check: bool,
    record: bool,
    ratios: Path | None,
    as_json: bool,
) -> None:
    """Measure speed side by side in one run, against what the machine can do.

    WHAT is one of:

    \b
    decode   frames/s out of a video
    network  clips/s of every network and precision, against plain code and matmul
    extract  end to end: waiting of the device, patch cubes, memory
    objects  end to end: boxes, tiles, crops, flow and a teacher, strides 1 and 3, against the
             networks alone (YOLOX-nano)
    engine   what a span costs besides its task (--count spans)
    index    an index of many shards (--count)
    train    the weakly supervised detectors at paper size, against a plain form of the
             published loop (--count videos of each class)
    windows  random windows of pixels, against version 0.1 (--count videos)
    shards   CPU time to read a shard, against the way without checks (--count shards)
    ssmtl    scoring of objects, against 3-D convolutions alone (--count frames)
    autoencoder  training and scoring of pseudo_anomaly from cached pixels, against
             3-D convolutions alone (--count frames)
    msmg     training and scoring of msmg, against 3-D convolutions alone (--count frames)
    nearest  the search of knn in one thread, against scikit-learn (--count rows)
    scoring  mil_ranking and rtfm from the cache, one step after the other and overlapped
             (--count videos)
    page     the review page of an archive in Chromium: first paint, data, a threshold that
             moves (--count videos)
    startup  CPU time of `vadpipe --help` and `--version`, against `python -c pass`

    Ratios to the limit of the machine and to plain contestants can be recorded and compared, times
    cannot. --check without WHAT runs all benches that are recorded for a machine of this kind.

    \b
    Example:
        vadpipe bench network --repeats 5
        vadpipe bench nearest --check
        vadpipe bench --check
    """
    from ...extractors.device.present import check_device
    from ..bench.compared import compared_lines
    from ..bench.ratios import RECORDED, must_have_ratios, record_ratios
    from ..engine.progress import tell

    if check and record:
        raise click.UsageError("--check and --record: a run is compared or recorded, not both")
    if ratios is not None and not (check or record):
        raise click.UsageError("--ratios names a file for --check or --record: give one of them")
    if what is None and (not check or count is not None or footage is not None):
        raise click.UsageError("name what is measured; only `vadpipe bench --check` takes all")
    if what in ON_CPU and device != "cpu":
        raise click.UsageError(f"bench {what} measures what the CPU does: leave --device out")
    check_device(device)
    path = ratios or RECORDED
    asked = Asked(repeats, count, device, footage)
    if what is None:
        worse = check_all(path, asked, as_json)
    elif check:
        values, lines, worse = check_one(what, path, asked)
        echo(lines, values, as_json)
    else:
        if record:
            must_have_ratios(what)
        values, lines = BENCHES[what](asked)
        echo([*lines, *compared_lines(what)], values, as_json)
        if record:
            tell(record_ratios(path, what, values, options_of(what, asked)))
        return
    if worse:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "-o",
    "--out",
    type=OUT,
    default=Path("demo"),
    metavar="DIR",
    help="Folder of the drawn footage and of the results.",
)
@seed_option
@device_option
@cache_option
@json_option
def demo(out: Path, seed: int, device: str, cache: Path, as_json: bool) -> None:
    """Draw a small surveillance scene, then run everything on it; prints AUC and the report."""
    from ..run.demo import RECIPE, demo_lines, run_demo

    done = run_demo(out, cache, seed=seed, device=device, say=voice(as_json))
    echo(demo_lines(done, out), _values(done, [out / RECIPE]), as_json)
    _end(done)


def _end(done: Run) -> None:
    """End with code 1 if a node has failed, else as `finish` does."""
    if done.errors:
        raise click.exceptions.Exit(1)
    finish(done.failures, done.folder.failures_file)


def _values(done: Run, made: Sequence[Path] = ()) -> dict[str, Any]:
    """What a run did, as JSON values."""
    files = [*made, done.folder.results_file]
    return outcome(
        *(files, done.counts()),
        failures=done.failures,
        warnings=done.warnings,
        **done.to_json(),
    )
