"""Options that commands share, and what every command does at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ...data_manifests import Manifest, ManifestError, read_manifest
from ...data_manifests import footage as footage_dataset
from ...extractors.footage.limits import DecodeLimits
from ..engine.progress import console
from ..engine.settings import SPAN_FRAMES, Engine
from ..run.config import default_cache, parse_settings
from ..store.failures import Failure, write_failures

if TYPE_CHECKING:
    from ..store.probe_table import Probed


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
PARTLY = 3  # exit code: done, but some videos failed
Command = TypeVar("Command", bound=Callable[..., Any])


def cache_option(command: Command) -> Command:
    """`--cache DIR`."""
    return click.option(
        "--cache",
        type=click.Path(path_type=Path),
        default=default_cache,
        show_default="$VADPIPE_CACHE or the user's cache folder",
        help="Root of the cache.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def probe_options(command: Command) -> Command:
    """How files are opened."""
    command = click.option("--image-fps", default=25.0, help="Frames per second of image folders.")(
        command
    )
    return click.option(
        "--hash",
        "hash_mode",
        type=click.Choice(["sampled", "full"]),
        default="sampled",
        help="Tell files apart by samples of their content or by all of it.",
    )(command)


limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KEY=VALUE",
    help="What a file may cost: pixels, hours, bytes, seconds (without progress), memory.",
)
retry_option = click.option(
    "--retry-quarantined", is_flag=True, help="Open files again that took a process down."
)
corrupt_option = click.option(
    "--on-corrupt",
    type=click.Choice(["keep", "skip", "fail"]),
    default="keep",
    help="Clips with damaged frames: use them, leave them out, or refuse the video.",
)


def engine_options(command: Command) -> Command:
    """Where and how fast; none of them changes a key. The command gets them as one `engine`."""
    options = (
        click.option("--device", default="cpu", help="cpu, cuda (all GPUs), cuda:0, cuda:0,cuda:1"),
        click.option("--workers", type=click.IntRange(0), default=0, help="Local processes (CPU)."),
        click.option("--scheduler", metavar="ADDR", help="An existing Dask cluster; tls://..."),
        click.option("--tls-ca", type=_FILE, help="Certificate authority of the cluster."),
        click.option("--tls-cert", type=_FILE, help="This side's certificate."),
        click.option("--tls-key", type=_FILE, help="Its key."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads of a network."),
        click.option("--streams", type=click.IntRange(1), help="Videos at once in each process."),
        click.option("--batch-size", type=click.IntRange(1), help="Clips a batch; else tuned."),
        click.option("--compile", is_flag=True, help="Let torch.compile rewrite networks."),
        click.option(
            "--span-frames", type=click.IntRange(1), default=SPAN_FRAMES, help="Frames a span."
        ),
        limit_option,
        retry_option,
    )

    @wraps(command)
    def with_engine(**values: Any) -> Any:
        limits = limits_of(values.pop("limits"))
        settings = {name: values.pop(name) for name in Engine.model_fields if name in values}
        return command(engine=Engine(**settings, limits=limits), **values)

    for option in reversed(options):
        option(with_engine)
    return cast(Command, with_engine)


def limits_of(pairs: tuple[str, ...]) -> DecodeLimits:
    return DecodeLimits.model_validate(parse_settings(pairs))


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting; may be repeated."
)


def echo(lines: list[str], values: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(values, indent=1) if as_json else "\n".join(lines))


def finish(failures: list[Failure], path: Path) -> None:
    """List failures on stderr, write them, and end with code 3 if there are any."""
    if failures or path.is_file():  # an earlier run may have left some
        write_failures(path, failures)
    if not failures:
        return
    console.print(f"[yellow]{len(failures)} failed; all are in {path}[/]")
    for failure in failures[:20]:
        line = f"  {failure.video_id}: {failure.stage}: {failure.error}: {failure.message}"
        console.print(line, markup=False, highlight=False)
    raise click.exceptions.Exit(PARTLY)


def open_target(target: Path, split: str | None) -> Manifest:
    """A manifest file, or one's own footage: a file or a folder."""
    if target.suffix.lower() not in (".parquet", ".csv"):
        return footage_dataset.build(target)
    manifest = read_manifest(target)
    if split is None:
        split = "test" if any(r.split == "test" for r in manifest.records) else None
    chosen = manifest.select(split=split)
    if not chosen.records:
        raise ManifestError(f"{target} has no videos of split {split!r}")
    return chosen


def probe_target(
    listed: Manifest, cache: Path, hash_mode: Any, image_fps: float, engine: Engine
) -> Probed:
    from ..probe import probe_files

    return probe_files(
        listed,
        cache,
        hash_mode=hash_mode,
        image_fps=image_fps,
        limits=engine.limits,
        retry_quarantined=engine.retry_quarantined,
    )
