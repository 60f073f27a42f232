"""Batches that score: small enough on a CPU for memory that is reused, and the same scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vadpipe.detectors import map_memory, ssmtl_scores
from vadpipe.detectors.map_memory import REUSED_BYTES, items_at_once
from vadpipe.detectors.msmg_scores import Scorer
from vadpipe.extractors.networks.cnn3d import Cnn3d
from vadpipe.pipeline.bench import msmg as bench_msmg
from vadpipe.pipeline.bench import ssmtl as bench_ssmtl

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("most", "size", "expected"),
    [
        (32, REUSED_BYTES // 8, 8),
        (4, REUSED_BYTES // 8, 4),
        (32, REUSED_BYTES, 1),
        (32, REUSED_BYTES + 1, 1),
        (32, 0, 32),
        (0, 1, 1),
    ],
)
def test_the_largest_map_stays_below_the_limit(most: int, size: int, expected: int) -> None:
    found = items_at_once(most, size, CPU)
    assert found == expected and (found * size <= REUSED_BYTES or found == 1)


def test_other_devices_take_all() -> None:
    assert items_at_once(32, 1 << 40, torch.device("meta")) == 32


@pytest.mark.parametrize(
    ("layers", "filters"), [((16, "P", 32, "P"), 16), ((32, 32, "P", 64, "P"), 32)]
)
def test_the_first_map_is_the_largest_one(layers: tuple[int | str, ...], filters: int) -> None:
    network = Cnn3d(layers).eval()  # type: ignore[arg-type]
    sizes: list[int] = []
    for part in network.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.register_forward_hook(lambda m, x, y: sizes.append(y.numel()))
    with torch.inference_mode():
        network(torch.zeros(2, 3, 7, 16, 16))
    assert network.filters == filters
    assert max(sizes) == sizes[0] == 2 * 7 * 16 * 16 * filters
    assert network.map_bytes(7, 16, 16) == 4 * sizes[0] // 2
    assert network.to(torch.bfloat16).map_bytes(7, 16, 16) == sizes[0]


def test_objects_are_scored_in_smaller_blocks_with_the_same_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, bag = bench_ssmtl._detector("shallow+narrow", "cpu"), bench_ssmtl.drawn_objects(7)
    blocks: list[int] = []
    plain = ssmtl_scores.even_blocks

    def watched(count: int, most: int) -> object:
        blocks.append(most)
        return plain(count, most)

    monkeypatch.setattr(ssmtl_scores, "even_blocks", watched)
    small = detector.score(bag)
    each = 7 * 64 * 64 * 16 * 4  # the first map of a sequence
    assert blocks == [REUSED_BYTES // each] and 2 <= blocks[0] < ssmtl_scores.AT_ONCE
    monkeypatch.setattr(map_memory, "REUSED_BYTES", 1 << 50)
    large = detector.score(bag)
    assert blocks[1] == ssmtl_scores.AT_ONCE
    for name, values in large.columns.items():
        assert small.columns[name] == pytest.approx(values, rel=1e-5, abs=1e-6), name


def test_clips_are_scored_in_smaller_batches_with_the_same_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = bench_msmg.MSMGProblem(side=32, settings=(("length", 6), ("encoder", "cnn3d")))
    detector = bench_msmg._Subject("cnn3d", 32, "cpu", problem)._detector(4)
    bag, batches = bench_msmg._noise(14, 32), []
    plain = Scorer._encoded

    def watched(self: Scorer, encoder: torch.nn.Module, clips: Tensor) -> Tensor:
        batches.append(len(clips))
        return plain(self, encoder, clips)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "_encoded", watched)
    large = detector.score(bag)
    assert max(batches) > 3, "the maps of such small pictures fit"
    batches.clear()
    monkeypatch.setattr(map_memory, "REUSED_BYTES", 3 * 5 * 32 * 32 * 16 * 4)
    small = detector.score(bag)
    assert max(batches[1:]) == 3, "the first one is of single frames"
    for name, values in large.columns.items():
        assert small.columns[name] == pytest.approx(values, rel=1e-4, abs=1e-5), name
    assert np.isfinite(small.columns["score"]).all()
