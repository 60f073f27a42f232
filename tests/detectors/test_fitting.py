"""The training loop: killed and resumed, it ends where it would have ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.bags import weak_bags
from vadpipe.detectors.base import DetectorError, FitOptions, Row
from vadpipe.detectors.checkpoint import CHECKPOINT, Checkpoint
from vadpipe.detectors.fitting import Fit, first_losses, loss_jumps
from vadpipe.detectors.mil_ranking import MILRanking, MILRankingConfig
from vadpipe.detectors.schedule import Schedule
from vadpipe.detectors.ssrl import SSRL, SSRLConfig
from vadpipe.detectors.validation import Validation


class Killed(Exception):
    pass


def make() -> SSRL:
    return SSRL(SSRLConfig(steps=4, batch_size=2))  # three stages of four steps


BAGS = weak_bags(6, grids=["2x3", "3x5"])


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    detector = make()
    detector.fit(BAGS, device="cpu", seed=7)
    return detector.state_dict()


@pytest.mark.parametrize("kills", [[1], [4], [5], [8, 9], [3, 6, 11], list(range(1, 12))])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_killed_fit_ends_with_the_same_weights(
    kills: list[int], every: float, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[tuple[Any, Any]] = []

    def on_step(row: Mapping[str, Any]) -> None:
        seen.append((row["stage"], row["step"]))
        if len(kills_left) and len(set(seen)) >= kills_left[0]:
            kills_left.pop(0)
            raise Killed

    kills_left = list(kills)
    options = FitOptions(folder=tmp_path, checkpoint_seconds=every, on_step=on_step)
    log = None
    for _ in range(len(kills) + 1):
        detector = make()
        try:
            log = detector.fit(BAGS, device="cpu", seed=7, options=options)
        except Killed:
            continue
    assert log is not None and not kills_left
    state = detector.state_dict()
    assert all(np.array_equal(state[k], undisturbed[k]) for k in undisturbed)
    assert [(r["stage"], r["step"]) for r in log.rows] == [
        (stage, step) for stage in ("1 full frame", "2 2x3", "3 3x5") for step in range(1, 5)
    ]
    if every == 0 and kills == [5]:  # really resumed, not started from scratch
        assert seen.count(("1 full frame", 1)) == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(DetectorError, match="delete it to start again"):
        make().fit(BAGS, device="cpu", seed=0, options=FitOptions(folder=tmp_path))


def test_rows_hold_every_term_and_their_sum() -> None:
    log = make().fit(BAGS, device="cpu", seed=0)
    for row in log.rows:
        parts = [float(row[t]) for t in ("classification", "magnitude", "sparsity", "smoothness")]
        assert sum(parts) == pytest.approx(float(row["total"]), rel=1e-5)
        spent = [float(row[f"{t}_seconds"]) for t in ("data", "forward", "backward")]
        assert sum(spent) == pytest.approx(float(row["seconds"]), rel=1e-6)
        assert row["lr"] == 0.001
    assert log.summary["steps"] == len(log.rows) == 12


def test_a_loss_that_explodes_stops_the_fit() -> None:
    detector = MILRanking(MILRankingConfig(steps=50, lr=1e30, optimizer="adam", normalise=False))
    with pytest.raises(DetectorError, match="loss is not finite at step"):
        detector.fit(BAGS, device="cpu", seed=0)


# -- the loop by itself --------------------------------------------------------------------------

DATA = torch.randn(64, 4, generator=torch.Generator().manual_seed(5))
TARGET = DATA @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])


def toy(*, size: int = 4, lr: float = 0.05, dropout: float = 0.0, **options: Any) -> Fit[Any, Any]:
    """A regression; a batch is the next `size` samples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def batch(draw: int) -> tuple[Tensor, Tensor]:
        places = torch.arange(draw * size, (draw + 1) * size) % len(DATA)
        return DATA[places], TARGET[places]

    return Fit(
        name="toy",
        module=module,
        optimizer=options.pop("optimizer", torch.optim.SGD)(module.parameters(), lr=lr),
        batch=batch,
        forward=lambda xy: (module(xy[0]), xy[1]),
        losses=options.pop("losses", lambda out: {"total": (out[0] - out[1]).square().mean()}),
        **{"steps": 6, **options},
    )


def weights(fit: Fit[Any, Any]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in fit.module.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_only_keyword_arguments() -> None:
    with pytest.raises(TypeError, match="positional"):
        Fit(0, "name", 3)  # type: ignore[call-arg,misc]


def test_the_rate_of_every_step_is_in_the_log() -> None:
    schedule = Schedule(name="cosine", warmup=2)
    rows = toy(schedule=schedule, steps=7).run(seed=0, options=FitOptions())
    assert [row["lr"] for row in rows] == [0.05 * schedule.factor(t, 7) for t in range(7)]


def test_the_rate_is_the_one_that_the_optimizer_uses() -> None:
    """One step of SGD moves by rate times gradient, in every group by its own rate."""
    fit = toy(schedule=Schedule(warmup=4), steps=6)
    first, last = list(fit.module[0].parameters()), list(fit.module[3].parameters())  # type: ignore[index]
    optimizer = torch.optim.SGD([{"params": first}, {"params": last, "lr": 0.4}], lr=0.1)
    fit = replace(fit, optimizer=optimizer)
    before = [p.detach().clone() for p in [*first, *last]]
    fit._begin(0, None)
    fit._step(0, map(fit.batch, range(1)))
    for p, old, rate in zip([*first, *last], before, [0.025] * 2 + [0.1] * 2, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(old - p.detach(), rate * p.grad)


def test_micro_batches_equal_one_large_batch() -> None:
    options = FitOptions()
    whole, parts = toy(size=16), toy(size=4, accumulate=4)
    expected = whole.run(seed=0, options=options)
    found = parts.run(seed=0, options=options)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-5, atol=1e-6)
    assert len(found) == 6
    assert [r["total"] for r in found] == pytest.approx([r["total"] for r in expected], rel=1e-5)
    assert not same(weights(toy(size=4)), weights(parts))


def test_micro_batches_are_drawn_one_after_the_other() -> None:
    drawn: list[int] = []
    for prefetch in (0, 2):
        fit = toy(accumulate=3, steps=2, prefetch=prefetch)
        inner = fit.batch
        fit = replace(fit, batch=lambda draw, inner=inner: drawn.append(draw) or inner(draw))
        fit.run(seed=0, options=FitOptions())
    assert drawn == [*range(6), *range(6)]


def test_gradients_are_clipped_to_their_norm() -> None:
    """With a loss of 3a + 4b the gradient is (3, 4): its norm is 5."""
    for clip, scale in ((1.0, 0.2), (5.0, 1.0), (50.0, 1.0)):
        module = nn.ParameterList([torch.zeros(()), torch.zeros(())])
        fit = Fit(
            name="linear",
            steps=1,
            module=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
            batch=lambda draw: draw,
            forward=lambda batch, module=module: 3 * module[0] + 4 * module[1],  # type: ignore[misc]
            losses=lambda out: {"total": out},
            clip=clip,
        )
        (row,) = fit.run(seed=0, options=FitOptions())
        assert row["grad_norm"] == pytest.approx(5.0)
        moved = [-float(p.detach()) for p in module]
        assert moved == pytest.approx([3 * scale, 4 * scale], rel=1e-5)


def test_bf16_learns_like_fp32_with_weights_in_fp32() -> None:
    seen: list[torch.dtype] = []

    def losses(out: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        seen.append(out[0].dtype)
        assert not torch.is_autocast_enabled("cpu")
        return {"total": (out[0] - out[1]).square().mean()}

    exact, fast = toy(steps=60), toy(steps=60, precision="bf16", losses=losses)
    first = exact.run(seed=0, options=FitOptions())
    second = fast.run(seed=0, options=FitOptions())
    assert set(seen) == {torch.float32}
    assert all(value.dtype == torch.float32 for value in weights(fast).values())
    assert not same(weights(exact), weights(fast)), "it really ran in bf16"
    assert float(second[-1]["total"]) == pytest.approx(float(first[-1]["total"]), rel=0.1)


def test_bf16_needs_weights_in_fp32() -> None:
    fit = toy()
    fit.module.bfloat16()
    with pytest.raises(DetectorError, match=r"toy: precision bf16 needs weights in fp32.*bfloat16"):
        replace(fit, precision="bf16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "toy: accumulate is 0"),
        ({"clip": 0.0}, "toy: clip is 0.0"),
        ({"clip": float("nan")}, "toy: clip is nan"),
        ({"schedule": Schedule(warmup=6)}, "toy: a warm-up of 6 steps does not end within 6"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        toy(**options)


def test_a_gradient_that_explodes_stops_the_fit() -> None:
    def losses(out: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        zero = (out[0] * 0).sum()
        return {"total": zero.abs().sqrt() * 0 + zero.abs().sqrt()}  # 0, with a slope of infinity

    with pytest.raises(DetectorError, match="toy: the gradient is not finite at step 1"):
        toy(clip=1.0, losses=losses).run(seed=0, options=FitOptions())


def wavy(done: int) -> Mapping[str, float]:
    """Smallest after step 6, largest after step 2; every second step."""
    return {"proxy": [0.5, 0.9, 0.7, 0.1, 0.3, 0.3][done // 2], "other": float(done)}


@pytest.mark.parametrize(("rule", "kept"), [("min", 6), ("max", 2), (None, 10)])
def test_the_kept_weights_are_those_of_the_rule(rule: str | None, kept: int) -> None:
    history: list[dict[str, Tensor]] = []
    fit = toy(steps=10, optimizer=torch.optim.Adam, dropout=0.3)

    def measure(done: int) -> Mapping[str, float]:
        history.append(weights(fit))
        return wavy(done)

    chosen: dict[str, Any] = {} if rule is None else {"best": "proxy", "rule": rule}
    fit = replace(fit, validation=Validation(measure=measure, every=2, **chosen))
    rows = fit.run(seed=0, options=FitOptions())
    assert fit.kept_step == kept
    assert same(weights(fit), history[kept // 2 - 1])
    measured = [row for row in rows if "validation/proxy" in row]
    assert [row["step"] for row in measured] == [2, 4, 6, 8, 10] and len(rows) == 10
    assert [row["validation/proxy"] for row in measured] == [
        wavy(d)["proxy"] for d in range(2, 12, 2)
    ]
    assert all(float(row["validation_seconds"]) >= 0 for row in measured)
    marks = {"min": [1, 1, 1, 0, 0], "max": [1, 0, 0, 0, 0]}
    assert [row.get("kept") for row in measured] == (marks[rule] if rule else [None] * 5)


def test_a_validation_changes_no_step() -> None:
    plain, watched = toy(dropout=0.5), toy(dropout=0.5)

    def measure(done: int) -> Mapping[str, float]:
        return {"x": float(watched.module(DATA).mean() + torch.rand(()))}

    watched = replace(watched, validation=Validation(measure=measure, every=1))
    plain.run(seed=0, options=FitOptions())
    watched.run(seed=0, options=FitOptions())
    assert same(weights(plain), weights(watched))


@pytest.mark.parametrize("rule", ["last", "min", "max"])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_killed_fit_keeps_the_same_weights_and_loses_no_row(
    rule: str, every: float, tmp_path: Path
) -> None:
    def make() -> Fit[Any, Any]:
        best: dict[str, Any] = {} if rule == "last" else {"best": "proxy", "rule": rule}
        return toy(
            steps=10,
            optimizer=torch.optim.Adam,
            dropout=0.3,
            accumulate=2,
            clip=0.7,
            schedule=Schedule(name="cosine", warmup=3),
            validation=Validation(measure=wavy, every=2, **best),
        )

    whole = make()
    expected = whole.run(seed=4, options=FitOptions())
    kills = [1, 3, 4, 7, 9]

    def on_step(row: Mapping[str, Any]) -> None:
        if kills and row["step"] >= kills[0]:
            kills.pop(0)
            raise Killed

    options = FitOptions(folder=tmp_path, checkpoint_seconds=every, on_step=on_step)
    rows = None
    while rows is None:
        fit = make()
        with suppress(Killed):
            rows = fit.run(seed=4, options=options, resumed=Checkpoint.load(tmp_path))
    assert not kills
    assert same(weights(fit), weights(whole)) and fit.kept_step == whole.kept_step
    assert untimed(rows) == untimed(expected)


def untimed(rows: list[Row]) -> list[Row]:
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


def test_pretrained_parts_are_the_start_of_a_fresh_fit_only(tmp_path: Path) -> None:
    start = {"0": {"weight": torch.full((8, 4), 0.5), "bias": torch.zeros(8)}}
    fit = toy(lr=0.0, pretrained=start)
    options = FitOptions(folder=tmp_path, checkpoint_seconds=0.0)
    fit.run(seed=0, options=options)
    assert torch.equal(weights(fit)["0.weight"], start["0"]["weight"])
    resumed = Checkpoint.load(tmp_path)
    assert resumed is not None
    resumed.module["0.weight"] = torch.full((8, 4), 0.25)
    again = toy(lr=0.0, pretrained=start)
    again.run(seed=0, options=options, resumed=resumed)
    assert torch.equal(weights(again)["0.weight"], resumed.module["0.weight"])
    del start["0"]["bias"]
    with pytest.raises(DetectorError, match=r"'0': missing: 0\.bias"):
        toy(pretrained=start).run(seed=0, options=FitOptions())
    toy(pretrained=start, strict=False).run(seed=0, options=FitOptions())


def test_a_stage_that_starts_far_above_the_last_loss_is_named() -> None:
    losses = {"a": [9.0, 2.0], "b": [3.9, 1.0], "c": [2.1, 1.0]}
    rows: list[Row] = [
        {"stage": stage, "total": total} for stage, totals in losses.items() for total in totals
    ]
    assert first_losses(rows) == {"a": 9.0, "b": 3.9, "c": 2.1}
    assert loss_jumps(rows, "wait") == [
        "stage 'c' starts at a loss of 2.1, after 1 at the end of the stage before: "
        "it disturbs what was learned; wait"
    ]
    assert loss_jumps(rows[:4], "wait") == []
