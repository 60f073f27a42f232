"""Options that commands share, and how commands end: output, failures, exit code."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ...data_manifests.plain_text import one_line, plain
from .. import registry
from .names import card_names

if TYPE_CHECKING:
    from ...data_manifests.record import Manifest
    from ...extractors.footage.limits import DecodeLimits
    from ..engine.settings import Engine
    from ..store.failures import Failure

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OUT = click.Path(path_type=Path)
OUT_FILE = click.Path(dir_okay=False, path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
PARTLY = 3  # exit code: done, but some videos failed
Command = TypeVar("Command", bound=Callable[..., Any])


def _default_cache() -> Path:
    from ..run.default_cache import default_cache

    return default_cache()


def cache_option(command: Command) -> Command:
    """`--cache DIR`."""
    return click.option(
        "--cache",
        type=OUT,
        default=_default_cache,
        show_default="$VADPIPE_CACHE or the user's cache folder",
        help="Root folder of the cache: features, models, journals.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON instead of lines."
    )(command)


def device_option(command: Command) -> Command:
    """`--device NAME`, of a command that computes on one device."""
    return click.option(
        "--device",
        default="cpu",
        metavar="NAME",
        help="Device that computes: cpu, cuda:0, ...",
    )(command)


def seed_option(command: Command) -> Command:
    """`--seed N`."""
    return click.option(
        "--seed",
        type=click.IntRange(0, (1 << 63) - 1),
        default=0,
        metavar="N",
        help="Seed of everything random.",
    )(command)


def probe_options(command: Command) -> Command:
    """How files are opened. The command receives one `probing`.

    Where both are used, `engine_options` stands above this decorator: `--limit` and
    `--retry-quarantined` are parts of the engine then, and hold for the probe as well.
    """
    options = (
        click.option(
            "--hash",
            "hash_mode",
            type=click.Choice(["sampled", "full"]),
            default="sampled",
            help="Identify files by samples of their content (a few MiB) or by all of it.",
        ),
        click.option(
            "--image-fps",
            default=25.0,
            metavar="FPS",
            help="Frames per second of image folders, which state none.",
        ),
    )

    @wraps(command)
    def with_probing(**values: Any) -> Any:
        from ..engine.settings import ProbeOptions

        own = {name: values.pop(name) for name in ProbeOptions.model_fields if name in values}
        if "limits" in own:
            own["limits"] = limits_of(own["limits"])
        probing = ProbeOptions(**own)
        engine: Engine | None = values.get("engine")
        if engine is not None:
            probing = engine.probing(probing)
        return command(probing=probing, **values)

    for option in reversed(options):
        option(with_probing)
    return cast(Command, with_probing)


limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KEY=VALUE",
    help="Limit for one file; may be repeated. Keys: pixels (of a frame), hours (of footage), "
    "bytes (of the file), seconds (of decoding without progress), memory (bytes of the decoder), "
    "frames (in one file), rate (of a file of over a million frames), decode_hours (of decoding "
    "it), clip_memory (bytes of a stream's clips), holes (bytes of it that were never written), "
    "hash_hours (of reading it for its content id).",
)
retry_option = click.option(
    "--retry-quarantined",
    is_flag=True,
    help="Also open files that took a process down before.",
)
corrupt_option = click.option(
    "--on-corrupt",
    type=click.Choice(["keep", "skip", "fail"]),
    default="keep",
    help="Clips with damaged frames: keep them, skip them, or fail the whole video.",
)


def _smoothing(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """KIND:WIDTH as a `Smoothing`."""
    if value is None:
        return None
    from pydantic import ValidationError

    from ...data_manifests.settings import in_words
    from ..scores.smoothing import Smoothing

    try:
        return Smoothing.model_validate(value)
    except ValidationError as error:
        raise click.BadParameter(in_words(error), ctx, param) from error


def smooth_option(what: str) -> Callable[[Command], Command]:
    """`--smooth KIND:WIDTH`.

    Args:
        what:
            Is done with it, for the help.
    """
    return click.option(
        "--smooth",
        callback=_smoothing,
        metavar="KIND:WIDTH",
        help=f"{what} gaussian:0.5s is a Gaussian of that standard deviation in seconds, median:9 "
        "the median of 9 frames. Without it scores stay as they are.",
    )


ENGINE_OPTIONS = (
    click.option(
        "--device",
        default="cpu",
        metavar="NAMES",
        help="Where networks run: cpu, cuda (all GPUs), cuda:0, or several: cuda:0,cuda:1.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Local worker processes on the CPU; 0 runs everything in this process.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on an existing Dask cluster; the address starts with tls://.",
    ),
    click.option("--tls-ca", type=FILE, help="Certificate of the cluster's authority (PEM)."),
    click.option("--tls-cert", type=FILE, help="Certificate of this process (PEM)."),
    click.option("--tls-key", type=FILE, help="Key of that certificate (PEM)."),
    click.option(
        "--insecure-loopback",
        is_flag=True,
        help="Accept a --scheduler of this host without TLS. Any user of this host can then run "
        "code as you on its workers.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        help="CPU threads of a network. Without it the processes share the cores.",
    ),
    click.option(
        "--streams",
        type=click.IntRange(1),
        metavar="N",
        help="Videos at once in each process. Without it 2 on a CPU; on a GPU one for each "
        "core, at most 16.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        metavar="N",
        help="Clips in a batch. Without it the fastest size is found once for each machine.",
    ),
    click.option(
        "--compile",
        is_flag=True,
        help="Let torch.compile rewrite the networks; pays for long runs only.",
    ),
    click.option(
        "--cuda-graphs",
        is_flag=True,
        help="On GPUs: record networks as CUDA graphs and replay them, once checked.",
    ),
    click.option(
        "--span-frames",
        type=click.IntRange(1),
        metavar="N",
        help="Frames in a span, the unit of work and storage. Without it 16384, about ten minutes.",
    ),
    limit_option,
    retry_option,
)


def engine_options(command: Command) -> Command:
    """Where and how fast; no option changes a key. The command receives one `engine`."""

    @wraps(command)
    def with_engine(**values: Any) -> Any:
        from ..engine.settings import Engine

        own = {name: values.pop(name) for name in Engine.model_fields if name in values}
        own["limits"] = limits_of(own["limits"])
        engine = Engine(**{name: value for name, value in own.items() if value is not None})
        return command(engine=engine, **values)

    for option in reversed(ENGINE_OPTIONS):
        option(with_engine)
    return cast(Command, with_engine)


def limits_of(pairs: tuple[str, ...]) -> DecodeLimits:
    """The limits of the `--limit KEY=VALUE` options."""
    from ...extractors.footage.limits import DecodeLimits
    from ..run.key_value import parse_settings

    return DecodeLimits.model_validate(parse_settings(pairs))


weights_option = click.option(
    "--weights",
    multiple=True,
    shell_complete=card_names,
    metavar="[SLOT=]SPEC",
    help="Name of a weights card (`vadpipe weights ls`), a file, CARD=FILE, or random:SEED. SLOT= "
    "says for which network if there are several; may be repeated. Without it the default card.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting; may be repeated. The value is TOML: 3, true, [1, 2]; or a word.",
)


def put(text: str) -> None:
    """Print lines to stdout: a terminal obeys nothing that stands in them.

    Cells are separated by tabs; on a terminal they stand below each other.
    """
    text = plain(text)
    click.echo(aligned(text) if sys.stdout.isatty() else text)


def aligned(text: str) -> str:
    """Lines with tabs as columns: each as wide as its widest cell, in lines that follow directly.

    Lines without a tab stay as they are and end a table; the last cell of a line has no width.
    """
    lines: list[str] = []
    for is_table, group in groupby(text.split("\n"), key=lambda line: "\t" in line):
        if not is_table:
            lines += group
            continue
        rows = [line.split("\t") for line in group]
        widths: dict[int, int] = {}
        for row in rows:
            for i, cell in enumerate(row[:-1]):
                widths[i] = max(widths.get(i, 0), len(cell))
        lines += [
            "  ".join([*(f"{cell:{widths[i]}}" for i, cell in enumerate(row[:-1])), row[-1]])
            for row in rows
        ]
    return "\n".join(lines)


def echo(lines: list[str], values: dict[str, Any], as_json: bool) -> None:
    """Print lines, or the same facts as JSON; a number that is not finite is null there."""
    import json

    if as_json:
        put(json.dumps(_finite(values), indent=1, allow_nan=False))
    elif lines:  # of nothing there is no line, not an empty one
        put("\n".join(lines))


def _finite(value: Any) -> Any:
    """A JSON value without infinities and NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def finish(failures: list[Failure], path: Path | None) -> None:
    """List failures on stderr, write them, and end with code 3 if there are any."""
    list_failures(failures, path)
    if failures:
        raise click.exceptions.Exit(PARTLY)


def list_failures(failures: list[Failure], path: Path | None) -> None:
    """List failures on stderr, and write them; those of an earlier run are replaced.

    Without a file all of them are listed; else the 20 reasons of most failures are.
    """
    from ..engine.progress import tell
    from ..store.failures import by_reason, some_ids, write_failures

    if path is not None and (failures or path.is_file()):  # an earlier run may have left some
        write_failures(path, failures)
    if not failures:
        return
    listed = by_reason(failures)[:20]
    if path is None:
        listed = [([each.video_id], each) for each in failures]
    tell(f"{len(failures)} failed" + (f"; all are in {path}" if path else ":"), style="yellow")
    for ids, failure in listed:
        said = f"{some_ids(ids)}: {failure.stage}: {failure.error}: {failure.message}"
        tell(f"  {one_line(said)}")


def open_target(target: Path, split: str | None) -> Manifest:
    """Open a manifest file, or build the manifest of a video file or a folder of footage."""
    from ...data_manifests.table import read_manifest

    if target.suffix.lower() not in (".parquet", ".csv"):
        return registry.DATASETS["footage"](target)
    manifest = read_manifest(target)
    if split is None:
        split = "test" if any(r.split == "test" for r in manifest.records) else None
    return of_split(manifest, split, target)


def of_split(manifest: Manifest, split: str | None, path: Path) -> Manifest:
    """The videos of a split; None takes all.

    Raises:
        ManifestError: there are none.
    """
    from ...data_manifests.choices import choices
    from ...data_manifests.record import ManifestError

    chosen = manifest.select(split=split)
    if not chosen.records and split is not None:
        known = choices(sorted({record.split for record in manifest.records}), split)
        raise ManifestError(f"{path} has no videos of split {split!r}; it has: {known}")
    return chosen
