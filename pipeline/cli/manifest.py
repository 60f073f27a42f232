"""Commands that list videos: manifest, draw."""

from __future__ import annotations

from pathlib import Path

import click

from .names import dataset_names
from .options import ANY, OUT, OUT_FILE, PARTLY, put, seed_option, set_option


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

        for line in how_lines(dataset):
            put(line)
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
    from ...data_manifests.scenes import scene_lines
    from ...data_manifests.table import write_manifest
    from ..engine.progress import tell
    from ..run.key_value import parse_settings
    from ..run.manifests import build_footage, build_manifest

    options = parse_settings(settings)
    if split is not None:
        options["split"] = split
    if train_fraction is not None:
        options["train_fraction"] = train_fraction
    if label is not None:
        options["label"] = int(label == "abnormal")
    if exclude:
        options["exclude"] = exclude
    if scene_from is not None:
        options["scene_from"] = scene_from
    if dataset == "footage":
        made = build_footage(roots, normal, test, options)
    else:
        made = build_manifest(dataset, roots[0], options)
    write_manifest(made, out)
    put("\n".join([f"{out}: {len(made.records)} records of {dataset}", *scene_lines(made)]))
    for path, reason in made.unread:
        tell(f"{Path(made.root) / path}: {reason}")
    if made.unread:
        raise click.exceptions.Exit(PARTLY)


@click.command()
@click.argument("dataset")
@click.argument("root", type=OUT)
@seed_option
@set_option
def draw(dataset: str, root: Path, seed: int, settings: tuple[str, ...]) -> None:
    """Draw a data set with known anomalies from a seed, into a new folder.

    DATASET is plaza, a benchmark, or synthetic, the small scene of the demo. ROOT is an empty or
    new folder; vadpipe manifest then lists its videos. With --set, the numbers of clips and
    frames and the size are changed.

    \b
    Example:
        vadpipe draw plaza /data/plaza
        vadpipe draw plaza /data/plaza7 --seed 7 --set n_test=54
    """
    from ..run.key_value import parse_settings
    from ..run.manifests import draw_dataset

    made = draw_dataset(dataset, root, {"seed": seed, **parse_settings(settings)})
    put(f"{root}: {len(made.records)} videos of {dataset}")
