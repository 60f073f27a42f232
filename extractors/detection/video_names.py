"""Names of videos in a boxes file: each is the end of the path of its footage."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from ..errors import ExtractorError

MOST_NAMED = 5  # videos in a message


def name_of(path: str, names: Mapping[str, int]) -> str | None:
    """The longest of the names that a path ends with, with or without its suffix."""
    return max((end for end in _ends(path) if end in names), key=len, default=None)


def check_distinct(paths: Sequence[str], names: Mapping[str, int]) -> None:
    """Refuse a name that stands for several videos.

    Args:
        paths:
            Of videos with different contents.
        names:
            Those of the file.

    Raises:
        ExtractorError: two videos have one name. The message says which names tell them apart.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        name = name_of(path, names)
        if name is not None:
            found.setdefault(name, []).append(path)
    for name, same in found.items():
        if len(same) > 1:
            some = same[:MOST_NAMED]
            others = f" and {len(same) - len(some)} more" if len(same) > len(some) else ""
            raise ExtractorError(
                f"the boxes file has one video {name!r}, but {len(same)} videos of this run end "
                f"with it: {', '.join(some)}{others}. Write more of each path into the file: "
                f"{', '.join(telling(some))}"
            )


def telling(paths: Sequence[str]) -> list[str]:
    """The shortest ends of paths that tell them apart, without suffixes where these do not."""
    for length in range(1, max(len(_parts(path)) for path in paths) + 1):
        for suffix in (False, True):
            ends = [_end(path, length, suffix=suffix) for path in paths]
            if len(set(ends)) == len(ends):
                return ends
    return list(paths)


def _ends(path: str) -> Iterator[str]:
    for length in range(1, len(_parts(path)) + 1):
        for suffix in (False, True):
            yield _end(path, length, suffix=suffix)


def _end(path: str, length: int, *, suffix: bool) -> str:
    end = "/".join(_parts(path)[-length:])
    return end if suffix or not PurePath(end).name else str(PurePath(end).with_suffix(""))


def _parts(path: str) -> list[str]:
    """Parts without the root; accents of one kind, as systems write them in two."""
    whole = PurePath(unicodedata.normalize("NFC", path))
    return [part for part in whole.parts if part != whole.anchor]
