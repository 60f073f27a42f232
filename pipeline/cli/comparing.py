"""The command that puts systems side by side."""

from __future__ import annotations

from pathlib import Path

import click

from .names import column_names
from .options import FOLDER, OUT, echo, json_option


@click.command()
@click.argument("scores", nargs=-1, required=True, type=FOLDER)
@click.option(
    "-o",
    "--out",
    type=OUT,
    multiple=True,
    metavar="FILE",
    help="Write the table to this file too: .md, .csv or .json. May be repeated.",
)
@click.option(
    "--column",
    shell_complete=column_names,
    default="score",
    metavar="NAME",
    help="Score column whose metrics are compared; score@video and the like name other "
    "measurements, see docs/evaluation.md.",
)
@json_option
def compare(scores: tuple[Path, ...], out: tuple[Path, ...], column: str, as_json: bool) -> None:
    """Put the metrics of several systems on the same footage into one table.

    SCORES are score folders, or run folders, which stand for all that they have scored. Metrics are
    those that evaluate has measured. Other footage, numbers of frames or of abnormal ones, or
    alignment is an error that says what differs.

    \b
    Example:
        vadpipe compare runs/ped2 -o ped2.md -o ped2.csv
        vadpipe compare out-knn out-rtfm out-both
    """
    from ..compare import compare_scores
    from ..tables.comparison import comparison_lines, write_comparison

    done = compare_scores(scores, column=column)
    for path in out:
        write_comparison(done, path)
    echo(comparison_lines(done), done.to_json(), as_json)
