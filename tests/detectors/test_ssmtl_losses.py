"""Losses of SSMTL: eq. 1 to 5 in plain loops, and what is asked of the network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vadpipe.detectors.ssmtl_losses import (
    Answer,
    answers,
    losses,
    trivial_errors,
    validated,
)
from vadpipe.detectors.ssmtl_network import TASKS, SSMTLNetwork
from vadpipe.detectors.ssmtl_samples import Batch


def batch(size: int = 3, t: int = 2, side: int = 16, targets: int = 5) -> Batch:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, size, 2 * t + 1, side, side, 3)).astype(np.uint8)
    said = torch.from_numpy(rng.normal(size=(size, targets)).astype(np.float32))
    return Batch(torch.from_numpy(frames[0]), torch.from_numpy(frames[1]), said)


class Asked:
    """Stands for a network; keeps what each task gets."""

    tasks = TASKS

    def __init__(self) -> None:
        self.got: dict[str, Tensor] = {}

    def __call__(self, task: str, frames: Tensor) -> Tensor:
        self.got[task] = frames
        shape = {"middle": (len(frames), 3, 16, 16), "distillation": (len(frames), 5)}
        return torch.zeros(shape.get(task, (len(frames), 2)))


def test_what_is_asked_and_what_is_right() -> None:
    asked, given = Asked(), batch()
    network: Any = asked
    found = answers(network, given)
    assert list(found) == list(asked.got) == list(TASKS)
    regular, irregular = given.regular, given.irregular
    assert irregular is not None
    assert torch.equal(asked.got["arrow"][:3], regular)
    assert all(torch.equal(asked.got["arrow"][3:, i], regular[:, 4 - i]) for i in range(5))
    assert torch.equal(asked.got["irregularity"], torch.cat([regular, irregular]))
    assert torch.equal(asked.got["middle"], regular[:, [0, 1, 3, 4]])
    assert torch.equal(asked.got["distillation"], regular[:, 2:3])
    for task in ("arrow", "irregularity"):
        assert found[task].wanted.tolist() == [0, 0, 0, 1, 1, 1]
    picture = found["middle"].wanted
    assert picture.shape == (3, 3, 16, 16)
    assert float(picture[1, 2, 4, 7]) == pytest.approx(int(regular[1, 2, 4, 7, 2]) / 255)
    assert found["distillation"].wanted is given.targets


def test_losses_in_plain_loops() -> None:
    rng = np.random.default_rng(1)
    logits = {task: rng.normal(size=(4, 2)) for task in ("arrow", "irregularity")}
    pictures, wanted = rng.uniform(size=(2, 2, 3, 4, 4))
    said, teacher = rng.normal(size=(2, 2, 5))

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(np.asarray(values))

    found = losses(
        {
            **{task: Answer(tensor(v), torch.tensor([0, 0, 1, 1])) for task, v in logits.items()},
            "middle": Answer(tensor(pictures), tensor(wanted)),
            "distillation": Answer(tensor(said), tensor(teacher)),
        },
        0.3,
    )
    expected: dict[str, float] = {}
    for task, values in logits.items():
        total = 0.0
        for row, label in zip(values, (0, 0, 1, 1), strict=True):
            total -= math.log(math.exp(row[label]) / (math.exp(row[0]) + math.exp(row[1])))
        expected[task] = total / 4
    for task, a, b in (("middle", pictures, wanted), ("distillation", said, teacher)):
        errors = [abs(x - y) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)]
        expected[task] = sum(errors) / len(errors)
    expected["total"] = (
        expected["arrow"] + expected["irregularity"] + expected["middle"]
        + 0.3 * expected["distillation"]
    )  # fmt: skip
    assert {name: float(term) for name, term in found.items()} == pytest.approx(expected)


def test_a_single_task_has_its_loss_alone() -> None:
    found = losses({"distillation": Answer(torch.zeros(2, 3), torch.full((2, 3), 2.0))}, 0.5)
    assert {name: float(term) for name, term in found.items()} == {"distillation": 2, "total": 1}


def test_validation_is_the_mean_over_objects() -> None:
    torch.manual_seed(0)
    network = SSMTLNetwork("shallow+narrow", 4, TASKS, 16, 5).eval()
    whole = batch(size=3)
    assert whole.irregular is not None and whole.targets is not None
    parts = [
        Batch(whole.regular[a:b], whole.irregular[a:b], whole.targets[a:b])
        for a, b in ((0, 2), (2, 3))
    ]
    with torch.no_grad():
        found = validated(network, parts, 0.3)
        terms = losses(answers(network, whole), 0.3)
        right = answers(network, whole)["arrow"]
    assert found["loss"] == pytest.approx(float(terms["total"]), rel=1e-5)
    assert found["unweighted"] == pytest.approx(sum(float(terms[task]) for task in TASKS), rel=1e-5)
    for task in TASKS:
        assert found[f"loss/{task}"] == pytest.approx(float(terms[task]), rel=1e-5)
    hits = sum(int(o[1] > o[0]) == int(w) for o, w in zip(right.output, right.wanted, strict=True))
    assert found["accuracy/arrow"] == pytest.approx(hits / 6)


def test_trivial_errors_in_plain_loops() -> None:
    given, means = batch(), torch.arange(5.0)
    assert given.targets is not None
    pictures = given.regular.numpy().astype(float) / 255
    near = np.mean(
        [
            abs((pictures[i, 1, y, x, c] + pictures[i, 3, y, x, c]) / 2 - pictures[i, 2, y, x, c])
            for i in range(3) for y in range(16) for x in range(16) for c in range(3)
        ]
    )  # fmt: skip
    said = np.mean([abs(float(given.targets[i, k]) - k) for i in range(3) for k in range(5)])
    found = trivial_errors([given], means, TASKS)
    assert found == pytest.approx({"neighbours": near, "mean_teacher": said}, rel=1e-5)
    assert trivial_errors([given], None, ("arrow", "middle")).keys() == {"neighbours"}
