"""Validations: when they run, what they leave alone, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.validation import Best, Validation

CPU = torch.device("cpu")


def test_every_nth_step_and_the_last() -> None:
    validation = Validation(measure=lambda done: {}, every=3)
    assert [done for done in range(1, 9) if validation.due(done, 8)] == [3, 6, 8]
    with pytest.raises(DetectorError, match="every 0 steps"):
        Validation(measure=lambda done: {}, every=0)


def test_it_measures_in_evaluation_mode_and_leaves_all_as_it_was() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
    network[1].eval()  # frozen, as a stage may have it
    seen: list[torch.Tensor] = []

    def measure(done: int) -> dict[str, float]:
        assert not any(part.training for part in network.modules())
        assert not torch.is_grad_enabled()
        seen.append(torch.rand(3))
        return {"loss": float(done)}

    before = torch.get_rng_state()
    validation = Validation(measure=measure, every=1, best="loss")
    assert validation.run(network, 4, 11, CPU) == {"loss": 4.0}
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in network.modules()] == [True, True, False]
    validation.run(network, 4, 11, CPU)
    assert torch.equal(seen[0], seen[1]), "random numbers of its own"


def test_modes_come_back_after_an_error() -> None:
    network = nn.Dropout(0.5)

    def measure(done: int) -> dict[str, float]:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        Validation(measure=measure, every=1).run(network, 1, 0, CPU)
    assert network.training


def test_the_value_that_chooses_has_to_be_there_and_finite() -> None:
    network = nn.Linear(1, 1)
    missing = Validation(measure=lambda done: {"a": 1.0, "b": 2.0}, every=1, best="auc")
    with pytest.raises(DetectorError, match="chosen by 'auc', but the validation measures a, b"):
        missing.run(network, 1, 0, CPU)
    nan = Validation(measure=lambda done: {"auc": float("nan")}, every=1, best="auc")
    with pytest.raises(DetectorError, match="chosen by 'auc', which is nan after step 7"):
        nan.run(network, 7, 0, CPU)
    watched = Validation(measure=lambda done: {"auc": float("nan"), "loss": 1.0}, every=1)
    assert set(watched.run(network, 1, 0, CPU)) == {"auc", "loss"}


@pytest.mark.parametrize(("rule", "better"), [("min", 1.0), ("max", 3.0)])
def test_of_equal_values_the_first_is_kept(rule: str, better: float) -> None:
    validation = Validation(measure=lambda done: {}, every=1, best="x", rule=rule)  # type: ignore[arg-type]
    best = Best.of(nn.Linear(1, 1), 1, 2.0)
    assert validation.better(2.0, None)
    assert not validation.better(2.0, best)
    assert validation.better(better, best)
    assert not validation.better(4.0 - better, best)


def test_the_best_weights_are_a_copy() -> None:
    network = nn.Linear(1, 1)
    best = Best.of(network, 3, 0.5)
    with torch.no_grad():
        network.weight += 1
    assert torch.equal(best.module["weight"] + 1, network.weight.detach())
