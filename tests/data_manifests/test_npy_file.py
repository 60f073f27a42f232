"""Arrays of others: mapped, and every fault is one error that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vadpipe.data_manifests.npy_file import mapped_array
from vadpipe.data_manifests.record import ManifestError


def test_an_array_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    values = mapped_array(tmp_path / "a.npy", "x")
    assert isinstance(values, np.memmap) and values.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("shape", ["(9999999999999999999999, 2)", "(-1,)", "(True", "(99999999,)"])
def test_headers_that_lie_are_errors(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6))
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(path.read_bytes()[:10] + head.encode() + bytes(48))
    with pytest.raises(ManifestError, match=r"a\.npy is bad: "):
        mapped_array(path, f"{path} is bad")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ManifestError, match="x: "):
        mapped_array(tmp_path / "a.npy", "x")
