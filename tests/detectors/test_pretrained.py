"""Pretrained parts: what fits is copied, what does not is named and changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.pretrained import load_state


def network() -> nn.Sequential:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    made = nn.Sequential()
    made.add_module("encoder", encoder)
    made.add_module("head", nn.Linear(3, 1))
    return made


def arrays(part: str) -> dict[str, Any]:
    state = network().get_submodule(part).state_dict()
    return {key: (value + 1).numpy() for key, value in state.items()}


def test_a_part_takes_arrays_or_tensors_and_the_rest_stays() -> None:
    for kind in (np.asarray, torch.from_numpy):
        made, before = network(), network().state_dict()
        given = {key: kind(value) for key, value in arrays("encoder").items()}
        found = load_state(made, {"encoder": given})
        assert (found.missing, found.unexpected) == ((), ())
        for key, value in made.state_dict().items():
            plus = 1 if key.startswith("encoder") else 0
            assert torch.equal(value, before[key] + plus), key


def test_nested_parts_and_the_whole() -> None:
    made = network()
    load_state(made, {"encoder.0": arrays("encoder.0"), "head": arrays("head")})
    assert torch.equal(made.state_dict()["head.bias"], network().state_dict()["head.bias"] + 1)
    load_state(made, {"": network().state_dict()})
    assert all(torch.equal(v, network().state_dict()[k]) for k, v in made.state_dict().items())


def test_an_unknown_part_is_answered_with_the_parts() -> None:
    with pytest.raises(DetectorError, match="no part 'encodr'; it has: encoder, head"):
        load_state(network(), {"encodr": {}})


def test_missing_and_unexpected_keys_are_named_and_nothing_is_copied() -> None:
    made = network()
    wrong = arrays("encoder")
    del wrong["0.bias"]
    wrong["0.scale"] = np.zeros(3)
    with pytest.raises(
        DetectorError,
        match=r"'encoder': missing: encoder\.0\.bias; unexpected: encoder\.0\.scale",
    ):
        load_state(made, {"head": arrays("head"), "encoder": wrong})
    assert all(torch.equal(v, network().state_dict()[k]) for k, v in made.state_dict().items())
    found = load_state(made, {"encoder": wrong}, strict=False)
    assert found.missing == ("encoder.0.bias",) and found.unexpected == ("encoder.0.scale",)
    assert torch.equal(made.get_parameter("encoder.0.weight"), torch.tensor(wrong["0.weight"]))


def test_shapes_are_never_forgiven() -> None:
    wrong = {**arrays("head"), "weight": np.zeros((2, 3), np.float32)}
    for strict in (True, False):
        with pytest.raises(DetectorError, match=r"head\.weight is \(2, 3\) in place of \(1, 3\)"):
            load_state(network(), {"head": wrong}, strict=strict)


def test_weights_without_a_common_key_are_refused() -> None:
    with pytest.raises(
        DetectorError, match=r"'head': missing: head\.weight, head\.bias; unexpected"
    ):
        load_state(network(), {"head": {"w": np.zeros(3)}}, strict=False)


def test_long_lists_are_cut() -> None:
    strange = {**arrays("head"), **{f"k{i}": np.zeros(1) for i in range(25)}}
    with pytest.raises(DetectorError, match=r"head\.k9 and 15 more"):
        load_state(network(), {"head": strange})
