"""Fixtures of the tests of decoding and of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.footage import N, write_coding


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write each coding once; the tests must not change the files."""
    folder = tmp_path_factory.mktemp("footage")
    written: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in written:
            written[name] = write_coding(name, folder, N)
        return written[name]

    return get
