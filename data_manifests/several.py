"""Footage of several folders as one manifest: normal recordings here, those to be judged there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from .footage import (
    NothingFound,
    Split,
    check_options,
    find_footage,
    records_of,
    warn_of_skipped,
    warn_of_unused,
)
from .record import Manifest, ManifestError, VideoRecord
from .scenes import scenes_of


@dataclass(frozen=True)
class FootageFolder:
    """A folder of footage, or one file, and what is known of all that is in it.

    Attributes:
        root: the folder, image folder or video file.
        split: of its videos.
        label: of its videos, where it is known.
        train_fraction: see `footage.build`.
    """

    root: Path
    split: Split = "all"
    label: Literal[0, 1] | None = None
    train_fraction: float | None = None


def build_several(
    folders: Sequence[FootageFolder],
    *,
    exclude: Sequence[str] | str = (),
    scene_from: str | None = None,
) -> Manifest:
    """Make one manifest of the footage of several folders.

    Its root is the folder that holds all of them, and an id comes from the path below it. So the
    same folders have the same ids, and the same names in two folders are two videos.

    Args:
        folders:
            At least one.
        exclude:
            See `footage.build`.
        scene_from:
            See `footage.build`; paths are those below each folder.

    Returns:
        The manifest. A folder without footage is in `unread`.

    Raises:
        NothingFound: no folder holds any footage.
        ManifestError: a folder does not exist, is named twice or lies in another one; or as
            `footage.check_options` raises it.
    """
    for folder in folders:
        check_options(folder.split, folder.train_fraction, folder.label)
    places = [Path(os.path.realpath(folder.root)) for folder in folders]
    for i, place in enumerate(places):
        for j, other in enumerate(places):
            if i != j and place.is_relative_to(other):
                raise ManifestError(f"{place} lies in {other}: name one of them, or leave one out")
    listings = [find_footage(folder.root, exclude) for folder in folders]
    warn_of_unused(listings)
    base = Path(os.path.commonpath([str(listing.root) for listing in listings]))
    records: list[VideoRecord] = []
    unread: list[tuple[str, str]] = []
    for folder, place, listing in zip(folders, places, listings, strict=True):
        warn_of_skipped(listing)
        below = PurePosixPath(listing.root.relative_to(base).as_posix())
        for path, scene in scenes_of(listing.videos, scene_from).items():
            records += records_of(
                str(below / path), folder.split, folder.label, folder.train_fraction, scene
            )
        unread += [(str(below / path), reason) for path, reason in listing.unread]
        if not listing.videos:
            unread.append((place.relative_to(base).as_posix(), "holds no footage"))
    made = Manifest(dataset="footage", root=str(base), records=tuple(records), unread=tuple(unread))
    if not records:
        names = ", ".join(str(place) for place in places)
        raise NothingFound(f"no footage in {names}", made)
    return made
