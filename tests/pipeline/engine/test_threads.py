"""threads: BLAS and torch keep to a number, and have their own again afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from vadpipe.pipeline.engine.threads import limited_threads


def blas() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))  # its library is there
    found = ThreadpoolController().select(user_api="blas").info()
    return {library["num_threads"] for library in found if library["internal_api"] == "openblas"}


def numbers() -> tuple[set[int], int]:
    return blas(), torch.get_num_threads()


@pytest.mark.parametrize("end", [lambda: None, lambda: 1 / 0], ids=["done", "failed"])
def test_numbers_hold_in_the_block_only(end: Callable[[], object]) -> None:
    before = numbers()
    with pytest.raises(ZeroDivisionError), limited_threads(1):
        assert numbers() == ({1}, 1)
        end()
        raise ZeroDivisionError
    assert numbers() == before


def test_none_leaves_them_as_they_are() -> None:
    before = numbers()
    with limited_threads(None):
        assert numbers() == before


def test_torch_is_not_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with limited_threads(1):
        assert blas() == {1} and "torch" not in sys.modules
