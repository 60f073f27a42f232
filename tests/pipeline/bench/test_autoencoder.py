"""The bench of the autoencoders: shares and frames follow from the rates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vadpipe.pipeline.bench.autoencoder import AutoencoderProblem, bench_autoencoder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_shares_and_frames_follow_from_the_rates() -> None:
    problem = AutoencoderProblem(side=16, frames=20, batch=1, width=3)
    values, lines = bench_autoencoder(repeats=1, problem=problem)
    rates = {name: rate["best"] for name, rate in values["rates"].items()}
    for label in ("spatial fp32", "temporal fp32"):
        training = rates[f"{label}: training"] / rates[f"{label}: convolutions, training"]
        assert values["share_of_convolutions"][f"{label}: training"] == pytest.approx(training)
        scoring = rates[f"{label}: scoring, stride 4"]
        share = scoring / rates[f"{label}: convolutions, forward"]
        name = f"{label}: scoring, stride 4"
        assert values["share_of_convolutions"][name] == pytest.approx(share)
        assert values["frames_per_second"][name] == pytest.approx(scoring * 5 / 2)
    assert any("bf16" in line for line in lines) == any("bf16" in name for name in rates)
