"""Train on one data set and test on another: one manifest made of two manifest files.

The training videos are those of split train of the first, the test videos those of split test of
the second. With `shots`, only the first few training videos are taken, such as the K clips that a
model is adapted with. With `adaptation`, the training videos of the second are there too, as split
validation: one run trains on the first, and adapts with some of them.

    root/                            a folder above the footage of both
      a.parquet                      a manifest of footage below root; or .csv
      b.parquet                      the other one, or the same
"""

from __future__ import annotations

from pathlib import Path

from .record import Manifest, ManifestError, VideoRecord
from .table import read_manifest

OBTAIN = "Make a manifest of each data set with vadpipe manifest."
PATHS = ("path", "masks", "tracks")  # fields of a record that are relative to the root


def build(
    root: Path, *, train: str, test: str, shots: int | None = None, adaptation: bool = False
) -> Manifest:
    """Join the training videos of a manifest and the test videos of another.

    An id that both have gets the name of its data set in front, for the videos of the second.

    Args:
        root:
            A folder above the roots of both manifests.
        train:
            Manifest file of the training videos; a relative one counts from `root`.
        test:
            Manifest file of the test videos.
        shots:
            Number of training videos, the first ones; None: all.
        adaptation:
            Take the training videos of the second too, as split validation.

    Raises:
        ManifestError: a manifest cannot be read, lies elsewhere, or has no videos of its split, or
            fewer than `shots`.
    """
    source, target = (read_manifest(root / name) for name in (train, test))
    learning = _records(source, "train", root, train)
    scored = _records(target, "test", root, test)
    if shots is not None:
        if not 1 <= shots <= len(learning):
            raise ManifestError(
                f"shots is {shots}, but {train} has {len(learning)} training videos: it is 1 to "
                f"{len(learning)}"
            )
        learning = learning[:shots]
    if adaptation:
        others = _records(target, "train", root, test)
        scored = [r.model_copy(update={"split": "validation"}) for r in others] + scored
    taken = {record.video_id for record in learning}
    scored = [
        record.model_copy(update={"video_id": f"{target.dataset}.{record.video_id}"})
        if record.video_id in taken
        else record
        for record in scored
    ]
    return Manifest(
        dataset=f"{source.dataset}-to-{target.dataset}",
        root=str(root),
        records=(*learning, *scored),
    )


def _records(manifest: Manifest, split: str, root: Path, name: str) -> list[VideoRecord]:
    """The records of a split, with paths relative to another root."""
    try:
        below = Path(manifest.root).relative_to(root.absolute())
    except ValueError as error:
        raise ManifestError(
            f"the footage of {name} lies in {manifest.root}, which is not below {root}: give a "
            "folder above the footage of both manifests"
        ) from error
    found = []
    for record in manifest.select(split=split).records:
        moved = {
            field: None if value is None else (below / value).as_posix()
            for field, value in ((field, getattr(record, field)) for field in PATHS)
        }
        found.append(record.model_copy(update=moved))
    if not found:
        raise ManifestError(f"{name} has no videos of split {split}")
    return found
