"""The bench of the autoencoders: shares and frames follow from the rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from vadpipe.pipeline.bench import autoencoder as bench
from vadpipe.pipeline.bench.autoencoder import AutoencoderProblem, bench_autoencoder
from vadpipe.pipeline.bench.race import Contestant, Rate

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = AutoencoderProblem(side=16, frames=20, batch=1, width=3)


def test_shares_and_frames_follow_from_the_rates() -> None:
    values, lines = bench_autoencoder(repeats=1, problem=SMALL)
    rates = {name: rate["best"] for name, rate in values["rates"].items()}
    for label in ("spatial fp32", "temporal fp32"):
        training = rates[f"{label}: training"] / rates[f"{label}: convolutions, training"]
        assert values["share_of_convolutions"][f"{label}: training"] == pytest.approx(training)
        scoring = rates[f"{label}: scoring, stride 4"]
        share = scoring / rates[f"{label}: convolutions, forward"]
        name = f"{label}: scoring, stride 4"
        assert values["share_of_convolutions"][name] == pytest.approx(share)
        assert values["frames_per_second"][name] == pytest.approx(scoring * 5 / 2)
    line = next(line for line in lines if line.startswith("temporal fp32: scoring, stride 4 "))
    reached = scoring * 5 / 2
    assert values["target_frames_per_second"] == 25
    assert f"{100 * share:.0f} % of the convolutions, {reached:.1f} frames/s, " in line
    assert f"frames/s, {reached / 25:.2f} of the target of 25" in line


def test_each_precision_of_the_device_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run; the rates are the numbers of the contestants."""

    def raced(contestants: Sequence[Contestant], *_: object) -> dict[str, Rate]:
        return {each.name: Rate("windows/s", n, n) for n, each in enumerate(contestants, 1)}

    monkeypatch.setattr(bench, "available_precisions", lambda _: ("fp16", "bf16", "fp32"))
    monkeypatch.setattr(bench, "race", raced)
    values, lines = bench_autoencoder(problem=SMALL)
    whats = ["convolutions, forward", "convolutions, training", "training"]
    whats += ["scoring, stride 4", "scoring, stride 1"]
    pairs = [(part, kind) for part in ("spatial", "temporal") for kind in ("fp32", "bf16")]
    assert list(values["rates"]) == [f"{a} {b}: {what}" for a, b in pairs for what in whats]
    assert values["share_of_convolutions"]["temporal bf16: training"] == 18 / 17
    assert values["frames_per_second"]["temporal bf16: scoring, stride 4"] == 19 * 5 / 2
    assert sum(line.startswith("temporal bf16: ") for line in lines) == len(whats)
    ratios = values["bf16_to_fp32"]
    assert list(ratios) == [name for name in values["rates"] if "bf16" in name]
    assert ratios["temporal bf16: training"] == 18 / 13
    (line,) = [line for line in lines if line.startswith("temporal bf16: scoring, stride 1 ")]
    assert line.endswith(" of the target of 25, 1.33 times fp32"), "20 to 15"


def test_convolutions_are_trained_as_a_fit_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in the layout of a fit, and no gradient of the windows."""
    wanted: list[list[tuple[int, ...]]] = []
    grad = torch.autograd.grad

    def spied(out: torch.Tensor, inputs: list[torch.Tensor], ones: torch.Tensor) -> Any:
        assert all(each.is_contiguous() for each in inputs[:2])
        wanted.append([tuple(each.shape) for each in inputs])
        return grad(out, inputs, ones)

    def raced(contestants: Sequence[Contestant], *_: object) -> dict[str, Rate]:
        next(each for each in contestants if "convolutions, training" in each.name).run()
        return {each.name: Rate("windows/s", 1.0, 1.0) for each in contestants}

    monkeypatch.setattr(torch.autograd, "grad", spied)
    monkeypatch.setattr(bench, "race", raced)
    bench_autoencoder(problem=SMALL)
    assert wanted[0] == [(3, 3, 3, 3, 3), (3,)]
    assert wanted[1] == [(4, 3, 3, 3, 3), (4,), (1, 3, 16, 8, 8)]
    assert len(wanted) == 8 and all(len(each) == 3 for each in wanted[1:])
