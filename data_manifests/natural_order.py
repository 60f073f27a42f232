"""The one natural order of names: `img2` before `img10`."""

from __future__ import annotations

import re


def path_key(path: str) -> list[tuple[list[tuple[int, str]], str]]:
    """Sort key of paths with `/`: folder by folder, each name by `natural_key`."""
    return [natural_key(part) for part in path.split("/")]


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key: runs of digits count by their value, letters without upper and lower case.

    Names that are equal but for case or leading zeros follow each other by their characters, so
    the order is total. The order of the images of a folder is part of its content id: a change
    here would give the folders of existing caches other ids.
    """
    parts = [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", name.lower())
    ]
    return parts, name
