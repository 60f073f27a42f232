"""Options that commands share, and what every command does at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from .. import registry

if TYPE_CHECKING:
    from ...data_manifests.record import Manifest
    from ...extractors.footage.limits import DecodeLimits
    from ..store.failures import Failure

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OUT = click.Path(path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
PARTLY = 3  # exit code: done, but some videos failed
Command = TypeVar("Command", bound=Callable[..., Any])


def _default_cache() -> Path:
    from ..run.config import default_cache

    return default_cache()


def cache_option(command: Command) -> Command:
    """`--cache DIR`."""
    return click.option(
        "--cache",
        type=OUT,
        default=_default_cache,
        show_default="$VADPIPE_CACHE or the user's cache folder",
        help="Root of the cache.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def probe_options(command: Command) -> Command:
    """How files are opened; the command gets one `probing`. Put it outside of `engine_options`."""
    options = (
        click.option(
            "--hash",
            "hash_mode",
            type=click.Choice(["sampled", "full"]),
            default="sampled",
            help="Tell files apart by samples of their content or by all of it.",
        ),
        click.option("--image-fps", default=25.0, help="Frames per second of image folders."),
    )

    @wraps(command)
    def with_probing(**values: Any) -> Any:
        from ..engine.settings import ProbeOptions

        own = {name: values.pop(name) for name in ProbeOptions.model_fields if name in values}
        if "limits" in own:
            own["limits"] = limits_of(own["limits"])
        return command(probing=ProbeOptions(**own), **values)

    for option in reversed(options):
        option(with_probing)
    return cast(Command, with_probing)


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
        click.option("--tls-ca", type=FILE, help="Certificate authority of the cluster."),
        click.option("--tls-cert", type=FILE, help="This side's certificate."),
        click.option("--tls-key", type=FILE, help="Its key."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads of a network."),
        click.option("--streams", type=click.IntRange(1), help="Videos at once in each process."),
        click.option("--batch-size", type=click.IntRange(1), help="Clips a batch; else tuned."),
        click.option("--compile", is_flag=True, help="Let torch.compile rewrite networks."),
        click.option(
            "--span-frames",
            type=click.IntRange(1),
            help="Frames a span; else about ten minutes of footage.",
        ),
        limit_option,
        retry_option,
    )

    @wraps(command)
    def with_engine(**values: Any) -> Any:
        from ..engine.settings import Engine

        own = {name: values.pop(name) for name in Engine.model_fields if name in values}
        own["limits"] = limits_of(own["limits"])
        engine = Engine(**{name: value for name, value in own.items() if value is not None})
        if "probing" in values:
            values["probing"] = engine.probing(values["probing"])
        return command(engine=engine, **values)

    for option in reversed(options):
        option(with_engine)
    return cast(Command, with_engine)


def limits_of(pairs: tuple[str, ...]) -> DecodeLimits:
    """The limits that `--limit KEY=VALUE` options state."""
    from ...extractors.footage.limits import DecodeLimits
    from ..run.config import parse_settings

    return DecodeLimits.model_validate(parse_settings(pairs))


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting; may be repeated."
)


def echo(lines: list[str], values: dict[str, Any], as_json: bool) -> None:
    """Print lines, or the same facts as JSON."""
    click.echo(json.dumps(values, indent=1) if as_json else "\n".join(lines))


def finish(failures: list[Failure], path: Path) -> None:
    """List failures on stderr, write them, and end with code 3 if there are any."""
    from ..engine.progress import console
    from ..store.failures import write_failures

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
    from ...data_manifests.record import ManifestError
    from ...data_manifests.table import read_manifest

    if target.suffix.lower() not in (".parquet", ".csv"):
        return registry.DATASETS["footage"](target)
    manifest = read_manifest(target)
    if split is None:
        split = "test" if any(r.split == "test" for r in manifest.records) else None
    chosen = manifest.select(split=split)
    if not chosen.records:
        raise ManifestError(f"{target} has no videos of split {split!r}")
    return chosen
