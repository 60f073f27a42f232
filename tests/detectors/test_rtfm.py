"""RTFM: selection against loops, dropout of the choice, long videos crop by crop."""

from __future__ import annotations

import pytest
import torch

from vadpipe.detectors import rtfm
from vadpipe.detectors.rtfm import Bags, RTFMConfig, RTFMNetwork, score_snippets
from vadpipe.detectors.ssrl import SSRLConfig


def network(**settings: object) -> RTFMNetwork:
    torch.manual_seed(0)
    return RTFMNetwork(16, RTFMConfig.model_validate(settings)).eval()


def test_selection_against_loops() -> None:
    bags = network()(torch.randn(4, 9, 2, 16))
    selected = network().select(bags, slice(1, 4), 3)
    for b in range(3):
        order = sorted(range(9), key=lambda t: -bags.magnitudes[b + 1, t].item())[:3]
        assert selected.index[b].tolist() == order
        mean = sum(bags.scores[b + 1, t].item() for t in order) / 3
        assert selected.score[b].item() == pytest.approx(mean)
        for crop in range(2):
            expected = torch.stack([bags.features[b + 1, crop, t] for t in order])
            assert torch.equal(selected.features[crop * 3 + b], expected)
    assert network().select(bags, slice(0, 1), 30).index.shape == (1, 9)


def test_magnitudes_and_scores_are_means_over_crops() -> None:
    bags = network()(torch.randn(2, 5, 3, 16))
    assert torch.allclose(bags.magnitudes, bags.features.norm(dim=-1).mean(dim=1))
    assert torch.allclose(bags.scores, torch.sigmoid(bags.logits).mean(dim=1))


def test_the_choice_varies_only_while_training() -> None:
    one = torch.ones(1, 20)
    bags = Bags(one / 2, one + torch.arange(20) / 100, torch.zeros(1, 1, 20, 16), one[:, None])
    model = network()
    assert len({tuple(model.select(bags, slice(None), 3).index[0].tolist()) for _ in range(5)}) == 1
    model.train()
    assert len({tuple(model.select(bags, slice(None), 3).index[0].tolist()) for _ in range(5)}) > 1


def test_crops_of_a_long_video_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), torch.randn(50, 4, 16)
    together = score_snippets(model, x, [len(x)])
    monkeypatch.setattr(rtfm, "ROWS_AT_ONCE", 100)
    apart = score_snippets(model, x, [len(x)])
    for name, values in together.items():
        assert torch.allclose(values, apart[name], atol=1e-6)


def test_without_vtr_a_snippet_knows_nothing_of_its_neighbours() -> None:
    x = torch.randn(1, 9, 1, 16)
    moved = x.clone()
    moved[0, 4] += 1
    for vtr, changed in ((False, [4]), (True, list(range(9)))):
        model = network(vtr=vtr)
        for part in model.modules():  # the non-local block starts idle: wake it
            if isinstance(part, torch.nn.BatchNorm1d):
                torch.nn.init.ones_(part.weight)
        different = (model(x).logits - model(moved).logits).abs()[0, 0] > 1e-7
        assert different.nonzero()[:, 0].tolist() == changed


@pytest.mark.parametrize(
    ("settings", "k"),
    [
        ({}, 3),
        ({"segments": 32}, 3),
        ({"segments": 100}, 10),
        ({"segments": 5}, 1),
        ({"segments": 100, "top_k": 3}, 3),
        ({"top_k": 7}, 7),
    ],
)
@pytest.mark.parametrize("kind", [RTFMConfig, SSRLConfig])
def test_top_k_follows_the_number_of_segments(kind, settings, k):
    assert kind.model_validate(settings).top_k == k
