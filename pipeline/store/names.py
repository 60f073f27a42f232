"""Names that come out of files, checked before they become paths."""

from __future__ import annotations

import re
from typing import Any

from .errors import StoreError

CONTENT_PATTERN = r"^[A-Za-z0-9-]{1,100}$"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$"
_CONTENT, _NAME = re.compile(CONTENT_PATTERN), re.compile(NAME_PATTERN)


def checked_content(value: Any) -> str:
    """A content id: letters, digits and hyphens, so that it is the name of one folder.

    Raises:
        StoreError: it is something else.
    """
    if not isinstance(value, str) or _CONTENT.fullmatch(value) is None:
        raise StoreError(f"{value!r:.120} is no content id: a table of the cache was changed")
    return value


def checked_name(value: Any, what: str) -> str:
    """The name of an extractor, a feature set or a model: one name of a file, and not hidden.

    Args:
        value:
            As a file states it.
        what:
            What the message calls it.

    Raises:
        StoreError: it is something else.
    """
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise StoreError(f"{value!r:.120} is no name of {what}")
    return value
