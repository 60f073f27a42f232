"""Intervals of repackaged archives: cells, one matrix for all, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.synthetic import write_ucsd_ped2
from vadpipe.data_manifests import ucsd_ped2
from vadpipe.data_manifests.mat_intervals import read_mat_intervals
from vadpipe.data_manifests.record import ManifestError


def write(path: Path, *matrices: list[list[float]]) -> Path:
    gt = np.empty((1, len(matrices)), dtype=object)
    for place, matrix in enumerate(matrices):
        gt[0, place] = np.array(matrix, np.float64)
    savemat(path, {"gt": gt})
    return path


def test_cells_of_two_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", [[3, 20], [9, 31]], [[1], [4]], [[5, 8]], [[]])
    found = read_mat_intervals(path, 4)
    assert found == [[(3, 9), (20, 31)], [(1, 4)], [(5, 8)], []]


def test_one_interval_each_as_a_matrix(tmp_path: Path) -> None:
    table = np.array([[1, 4], [2, 6], [3, 3]], np.float64)
    for values in (table, table.T):
        savemat(tmp_path / "a.mat", {"gt": values})
        found = read_mat_intervals(tmp_path / "a.mat", 3)
        assert found == [[(1, 4)], [(2, 6)], [(3, 3)]]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", [[3], [9]], [[1], [4]])
    with pytest.raises(ManifestError, match="not about 3 test videos"):
        read_mat_intervals(path, 3)
    with pytest.raises(ManifestError, match="fraction"):
        read_mat_intervals(write(path, [[3.5], [9]], [[1], [4]]), 2)
    with pytest.raises(ManifestError, match="video 1 has a matrix of shape"):
        read_mat_intervals(write(path, [[3, 4, 5]] * 3, [[1], [4]]), 2)


def test_ped2_takes_its_mat_file_where_the_other_is_missing(tmp_path: Path) -> None:
    root = write_ucsd_ped2(tmp_path, layout="repackaged", masks=False, train=[1], test=[4, 9])
    expected = ucsd_ped2.build(root, subset=True)
    (root / ucsd_ped2.REPACKAGED.labels).unlink()
    pairs = zip(ucsd_ped2.TEST_FRAMES, ucsd_ped2.TEST_ABNORMAL, strict=True)
    write(root / "ped2.mat", *[[[n - abnormal + 1], [n]] for n, abnormal in pairs])
    assert ucsd_ped2.build(root, subset=True) == expected
