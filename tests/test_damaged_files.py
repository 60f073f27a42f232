"""No content of any file makes a traceback, and none leads to a file elsewhere.

Short in the suite; `VADPIPE_SOAK=1` takes the long form (`make soak`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.damage import damaged
from tests.file_kinds import KINDS, FileKind
from tests.foreign_file_kinds import FOREIGN_KINDS
from vadpipe.pipeline.cli.main import _message

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
EXAMPLES = 3000 if SOAK else 5
ALL = [*KINDS, *FOREIGN_KINDS]
OF_MODEL = "the model"  # which the user has named
IDS = [f"{kind.name} ({kind.form})" for kind in ALL]


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", ALL, ids=IDS)
def test_good_files_are_read(kind: FileKind, tmp_path: Path) -> None:
    assert kind.write(tmp_path).is_file()
    try:
        kind.read(tmp_path)
    except Exception as error:
        # a model of the tests needs an imported set, a manifest a folder of footage
        if "not a folder here" not in str(error) and "no such extractor" not in str(error):
            raise


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ALL, ids=IDS)
def test_damaged_files_make_no_traceback(
    kind: FileKind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("kind")
    folder, scratch = root / "deep" / "folder", root / "scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    path = kind.write(folder)
    good = path.read_bytes()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not SOAK,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 1 << 32))
    @example(seed=27261488)  # a Parquet file whose names are no UTF-8
    @example(seed=5185)  # a table of videos without flags
    def check(seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(good, kind.form, seed, scratch))
        try:
            kind.read(folder)
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
            assert message.strip() and len(message) < 20_000
            if not isinstance(error, ValidationError):  # of a run file, which the user has named
                named = (path.stem, str(folder), OF_MODEL)
                assert any(words in message for words in named), message
        strays = [p for p in root.rglob("*escape*")] + [p for p in root.iterdir()]
        assert sorted(strays) == sorted([root / "deep", scratch])

    check()
