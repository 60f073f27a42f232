"""Commands about labels: check, tracks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import feature_set_names, split_names
from .options import (
    ANY,
    FOLDER,
    OUT_FILE,
    cache_option,
    echo,
    json_option,
    probe_options,
)
from .outcome import outcome

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.group()
def labels() -> None:
    """Check the labels of a manifest, or derive tracks from its pixel masks."""


@labels.command("check")
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "--features",
    shell_complete=feature_set_names,
    metavar="STORE",
    help="Also compare with this feature set of the cache, by name or first letters.",
)
@click.option("--scores", type=FOLDER, help="Also compare with this score folder.")
@click.option(
    "--split", shell_complete=split_names, metavar="NAME", help="Compare videos of this split only."
)
@click.option(
    "--subset", is_flag=True, help="Videos are missing on purpose: do not compare totals."
)
@probe_options
@cache_option
@json_option
def labels_check(
    manifest_path: Path,
    features: str | None,
    scores: Path | None,
    split: str | None,
    subset: bool,
    probing: ProbeOptions,
    cache: Path,
    as_json: bool,
) -> None:
    """Compare the labels of MANIFEST with official totals, features and scores.

    The exit code is 1 if anything differs.

    \b
    Example:
        vadpipe labels check ucf.parquet --features inception_i3d --scores out
    """
    from ...data_manifests.table import read_manifest
    from ..labels import check_labels
    from ..probe import probe_files
    from ..store.feature_sets import store_like

    listed = read_manifest(manifest_path)
    store = rows = None
    if features is not None:
        store = store_like(cache, features)
        probed = probe_files(listed.select(split=split), cache, probing)
        rows = probed.rows
    done = check_labels(
        listed, store=store, probe_rows=rows, scores=scores, split=split, subset=subset
    )
    echo(done.lines(), done.to_json(), as_json)
    if not done.ok:
        raise click.exceptions.Exit(1)


@labels.command("tracks")
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "-o", "--out", type=OUT_FILE, required=True, metavar="FILE", help="Track file to write: .csv."
)
@click.option(
    "--split", shell_complete=split_names, metavar="NAME", help="Videos of this split only."
)
@json_option
def labels_tracks(manifest_path: Path, out: Path, split: str | None, as_json: bool) -> None:
    """Derive tracks of the anomalies from the pixel masks of MANIFEST, for RBDC and TBDC.

    Connected parts of at least 20 pixels are regions; regions of neighbouring frames are linked by
    the overlap of their boxes. Prints the counts and the sha256 of the file.

    \b
    Example:
        vadpipe labels tracks ped2.parquet -o ped2-tracks.csv
    """
    from ...data_manifests.mask_tracks import tracks_of_masks
    from ...data_manifests.plain_text import counted
    from ...data_manifests.table import read_manifest
    from ...data_manifests.tracks import write_tracks

    listed = read_manifest(manifest_path).select(split=split)
    written = write_tracks(out, tracks_of_masks(listed))
    counts = {
        "videos": len(written.tracks),
        "regions": sum(map(len, written.tracks.values())),
        "tracks": sum(own.n_tracks for own in written.tracks.values()),
    }
    regions, tracks = counted(counts["regions"], "region"), counted(counts["tracks"], "track")
    line = f"{out}: {regions} in {tracks} of {counted(counts['videos'], 'video')}"
    facts: dict[str, Any] = {**counts, "file": str(out), "sha256": written.sha256}
    echo([f"{line}, sha256 {written.sha256}"], outcome([out], counts, **facts), as_json)
