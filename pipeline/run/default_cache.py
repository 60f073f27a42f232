"""The cache that is used where no other is given."""

from __future__ import annotations

import os
from pathlib import Path

import pooch


def default_cache() -> Path:
    """`$VADPIPE_CACHE`, else the user's cache folder."""
    named = os.environ.get("VADPIPE_CACHE")
    return Path(named) if named else Path(pooch.os_cache("vadpipe"))
