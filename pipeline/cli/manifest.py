"""Commands that list videos: manifest, draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import dataset_names, drawn_names
from .options import ANY, OUT, OUT_FILE, PARTLY, echo, json_option, seed_option, set_option
from .outcome import outcome

if TYPE_CHECKING:
    from ...data_manifests.record import Manifest


@click.command()
@click.argument("dataset", shell_complete=dataset_names)
@click.argument("roots", metavar="[ROOT...]", nargs=-1, type=ANY)
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    metavar="FILE",
    help="Manifest to write: .parquet or .csv. Needed, but with --how.",
)
@click.option(
    "--how",
    is_flag=True,
    help="Print where to get the data set and what its folder looks like; ROOT and -o are not "
    "needed.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    help="Split of all videos; data set footage only.",
)
@click.option(
    "--train-fraction",
    type=float,
    metavar="SHARE",
    help="Share of each video, from its start, that is known to be normal: that part is for "
    "training, the rest for testing. Data set footage only; between 0 and 1.",
)
@click.option(
    "--label",
    type=click.Choice(["normal", "abnormal"]),
    help="Label of all videos of ROOT; data set footage only.",
)
@click.option(
    "--normal",
    type=ANY,
    multiple=True,
    metavar="DIR",
    help="Folder of normal footage for training; may be repeated. Data set footage only.",
)
@click.option(
    "--test",
    type=ANY,
    multiple=True,
    metavar="DIR",
    help="Folder of footage for testing, with unknown labels; may be repeated. Data set footage "
    "only.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Pass over files and folders of this name or path below ROOT; * stands for any text. May "
    "be repeated. Data set footage only.",
)
@click.option(
    "--scene-from",
    metavar="folder|REGEX",
    help="Scene (camera) of a video: folder takes the first folder below ROOT, an expression with "
    "one group what it finds in the path below ROOT. Data set footage only.",
)
@set_option
@json_option
def manifest(
    dataset: str,
    roots: tuple[Path, ...],
    out: Path | None,
    how: bool,
    split: str | None,
    train_fraction: float | None,
    label: str | None,
    normal: tuple[Path, ...],
    test: tuple[Path, ...],
    exclude: tuple[str, ...],
    scene_from: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the videos of a data set, or of a folder of footage, with splits and labels.

    DATASET is a name (`vadpipe list datasets`), ROOT... the folder of the data set (--how draws
    it), or for the data set footage folders or videos, which are joined. With --set, options of the
    data set are changed.

    \b
    Example:
        vadpipe manifest footage /archive -o archive.parquet
        vadpipe manifest footage /archive --scene-from folder -o archive.parquet
        vadpipe manifest footage --normal /quiet --test /new --exclude '*.lrv' -o yard.csv
        vadpipe manifest ucsd_ped2 /data/UCSDped2 -o ped2.parquet
        vadpipe manifest avenue --how
    """
    if how:
        from ..tables.listing import how_lines

        lines = how_lines(dataset)
        echo(lines, outcome((), {}, dataset=dataset, how=lines), as_json)
        return
    folders = [*roots, *normal, *test]
    if not folders or out is None:
        raise click.UsageError("ROOT and -o FILE are needed, or --how")
    only = (label, exclude, scene_from)
    if dataset != "footage" and (len(folders) != 1 or not roots or any(only)):
        raise click.UsageError(
            "several folders, --normal, --test, --label, --exclude and --scene-from are for the "
            "data set footage"
        )
    if not roots and (split or label or train_fraction is not None):
        raise click.UsageError(
            "--split, --label and --train-fraction are for the folders of ROOT: --normal and "
            "--test say both themselves"
        )
    from ...data_manifests.plain_text import counted
    from ...data_manifests.scenes import scene_lines
    from ...data_manifests.table import write_manifest
    from ..engine.progress import tell
    from ..run.key_value import parse_settings
    from ..run.manifests import build_footage, build_manifest

    own = {
        "split": split,
        "train_fraction": train_fraction,
        "label": None if label is None else int(label == "abnormal"),
        "exclude": exclude or None,
        "scene_from": scene_from,
    }
    options = parse_settings(settings) | {k: v for k, v in own.items() if v is not None}
    if dataset == "footage":
        made = build_footage(roots, normal, test, options)
    else:
        made = build_manifest(dataset, roots[0], options)
    write_manifest(made, out)
    line = f"{out}: {counted(len(made.records), 'record')} of {dataset}"
    echo([line, *scene_lines(made)], _values(made, out), as_json)
    for path, reason in made.unread:
        tell(f"{Path(made.root) / path}: {reason}")
    if made.unread:
        raise click.exceptions.Exit(PARTLY)


def _values(made: Manifest, out: Path) -> dict[str, Any]:
    """What was listed, as JSON values."""
    from ..store.failures import Failure

    scenes = Counter(record.scene for record in made.records if record.scene is not None)
    unread = [
        Failure("*", "list", "Unread", f"{Path(made.root) / path}: {reason}")
        for path, reason in made.unread
    ]
    counts = {"records": len(made.records), "scenes": len(scenes)}
    facts = {"dataset": made.dataset, "records_of_scene": dict(scenes)}
    return outcome([out], counts, failures=unread, **facts)


@click.command()
@click.argument("dataset", shell_complete=drawn_names)
@click.argument("root", type=OUT)
@seed_option
@set_option
@json_option
def draw(dataset: str, root: Path, seed: int, settings: tuple[str, ...], as_json: bool) -> None:
    """Draw a data set with known anomalies from a seed, into a new folder.

    DATASET is plaza, a benchmark, or synthetic, the small scene of the demo. ROOT is an empty or
    new folder; vadpipe manifest then lists its videos. With --set, the numbers of clips and
    frames and the size are changed.

    \b
    Example:
        vadpipe draw plaza /data/plaza
        vadpipe draw plaza /data/plaza7 --seed 7 --set n_test=54
    """
    from ...data_manifests.plain_text import counted
    from ..run.key_value import parse_settings
    from ..run.manifests import draw_dataset

    made = draw_dataset(dataset, root, {"seed": seed, **parse_settings(settings)})
    values = outcome([root], {"videos": len(made.records)}, dataset=dataset)
    echo([f"{root}: {counted(len(made.records), 'video')} of {dataset}"], values, as_json)
