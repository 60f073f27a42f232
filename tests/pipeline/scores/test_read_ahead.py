"""read_ahead: what a detector reads whole lies in memory, within a limit; nothing else is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.knn import KNN, KNNConfig
from vadpipe.pipeline.scores.read_ahead import read_ahead


class OnDisk:
    """An array that notes every reading."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.reads = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        self.reads += 1
        return self.values[rows]


def bag() -> tuple[Bag, OnDisk, OnDisk]:
    x = np.random.default_rng(0).random((8, 3)).astype(np.float16)
    snippets, patches = OnDisk(x), OnDisk(x[:, None])
    start = np.arange(8)
    tracks = {
        "snippet": Track(snippets, start, start + 1),
        "patch/1x1": Track(patches, start, start + 1, (1, 1)),
    }
    return Bag("a", None, 8, 25.0, tracks), snippets, patches


def test_only_the_roles_that_are_needed_are_read_and_only_once() -> None:
    given, snippets, patches = bag()
    read = read_ahead(KNN(KNNConfig()), given)
    assert (snippets.reads, patches.reads) == (1, 0)
    assert np.array_equal(read.tracks["snippet"].rows(2, 5), snippets.values[2:5])
    assert read.tracks["patch/1x1"] is given.tracks["patch/1x1"]
    assert list(read.tracks) == list(given.tracks) and snippets.reads == 1


def test_what_is_too_large_stays_on_disk() -> None:
    given, snippets, _ = bag()
    assert read_ahead(KNN(KNNConfig()), given, most=47) is given and not snippets.reads
    assert read_ahead(KNN(KNNConfig()), given, most=48) is not given


def test_other_detectors_read_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KNN, "reads_whole", False)
    given, snippets, _ = bag()
    assert read_ahead(KNN(KNNConfig()), given) is given and not snippets.reads


def test_a_role_that_is_missing_is_the_error_of_the_detector() -> None:
    given = bag()[0]
    with pytest.raises(DetectorError, match="no 'patch' features"):
        read_ahead(
            KNN(KNNConfig(role="patch")),
            Bag("a", None, 8, 25.0, {"snippet": given.tracks["snippet"]}),
        )
