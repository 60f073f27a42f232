"""MATLAB files: what scipy writes is read back, and nothing is believed before it is there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from vadpipe.data_manifests import mat_file
from vadpipe.data_manifests.mat_file import MatError, read_cells


def cells(*values: object) -> np.ndarray:
    made = np.empty((1, len(values)), dtype=object)
    for place, value in enumerate(values):
        made[0, place] = value
    return made


@pytest.mark.parametrize("compressed", [False, True])
def test_cells_and_matrices_of_scipy_are_read(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, (30, 40)).astype(np.uint8) for _ in range(20)]
    numbers = np.arange(12.0).reshape(3, 4)
    path = tmp_path / "a.mat"
    savemat(
        path,
        {"other": numbers, "volLabel": cells(*masks, np.zeros((0, 0))), "gt": numbers},
        do_compression=compressed,
    )
    found = list(read_cells(path, "volLabel"))
    assert len(found) == 21 and found[-1].size == 0
    for mask, expected in zip(found, masks, strict=False):
        np.testing.assert_array_equal(mask, expected)
    (matrix,) = read_cells(path, "gt")
    np.testing.assert_array_equal(matrix, numbers)


def test_small_elements_and_logical_masks(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"gt": cells(np.array([[3], [9]], np.uint8), np.eye(2) > 0)})
    found = list(read_cells(tmp_path / "a.mat", "gt"))
    assert found[0].tolist() == [[3], [9]]
    assert found[1].tolist() == [[1, 0], [0, 1]]


def test_unpacking_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the first cell of many unpacks little of the rest."""
    savemat(
        tmp_path / "a.mat",
        {"v": cells(*[np.zeros((100, 100), np.uint8)] * 50)},
        do_compression=True,
    )
    unpacked = 0
    decompressobj = mat_file.zlib.decompressobj

    class Counting:
        def __init__(self) -> None:
            self.inner = decompressobj()

        @property
        def unconsumed_tail(self) -> bytes:
            return self.inner.unconsumed_tail

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal unpacked
            out = self.inner.decompress(data, most)
            unpacked += len(out)
            return out

    monkeypatch.setattr(mat_file.zlib, "decompressobj", Counting)
    first = next(read_cells(tmp_path / "a.mat", "v"))
    assert first.shape == (100, 100) and unpacked <= 2 * mat_file.CHUNK


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_is_an_error(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"v": cells(np.ones((9, 9)), np.ones((2, 2)))}, do_compression=compressed)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 9, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(MatError, match=r"a\.mat"):
            list(read_cells(path, "v"))


def test_flipped_bytes_raise_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"v": cells(np.ones((9, 9)), np.ones((2, 2)))})
    whole = bytearray(path.read_bytes())
    for at in range(128, len(whole), 3):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            list(read_cells(path, "v"))
        except MatError as error:
            assert "a.mat" in str(error)


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with pytest.raises(MatError, match="does not exist"):
        list(read_cells(path, "v"))
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    with pytest.raises(MatError, match="-v7"):
        list(read_cells(path, "v"))
    savemat(path, {"s": {"field": 1.0}, "w": np.ones(3), "t": np.array(["text"])})
    with pytest.raises(MatError, match="no variable 'v'; it has: s, w, t"):
        list(read_cells(path, "v"))
    for name in ("s", "t"):
        with pytest.raises(MatError, match="no matrix of numbers"):
            list(read_cells(path, name))
    savemat(path, {"v": np.ones(3)})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<II", 9, 24))
    data[at + 4 : at + 8] = struct.pack("<I", 1 << 31)
    path.write_bytes(data)
    with pytest.raises(MatError, match="refused"):
        list(read_cells(path, "v"))
