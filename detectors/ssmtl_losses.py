"""The proxy tasks of SSMTL: what the network is asked, the losses, and how well it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .ssmtl_network import SSMTLNetwork, Task, network_input, without_middle
from .ssmtl_samples import Batch


@dataclass(frozen=True)
class Answer:
    """The output of a head, and what it should be.

    Attributes:
        output: (2 B, 2) before the softmax, (B, 3, S, S), or (B, n).
        wanted: (2 B,) classes, or the same shape as the output.
    """

    output: Tensor
    wanted: Tensor


def answers(network: SSMTLNetwork, batch: Batch) -> dict[str, Answer]:
    """Run each task by itself, in the order of `TASKS`.

    The batch norms of the shared CNN see the batch of one task at a time.
    """
    found: dict[str, Answer] = {}
    regular, middle = batch.regular, batch.regular.shape[1] // 2
    for task in network.tasks:
        if task == "middle":
            wanted = network_input(regular[:, middle : middle + 1])[:, :, 0]
            found[task] = Answer(network(task, without_middle(regular)), wanted)
        elif task == "distillation":
            assert batch.targets is not None
            found[task] = Answer(network(task, regular[:, middle : middle + 1]), batch.targets)
        else:
            other = regular.flip(1) if task == "arrow" else batch.irregular
            assert other is not None
            classes = torch.arange(2, device=regular.device).repeat_interleave(len(regular))
            found[task] = Answer(network(task, torch.cat([regular, other])), classes)
    return found


def losses(found: Mapping[str, Answer], weight: float) -> dict[str, Tensor]:
    """Compute the losses of eq. 1 to 5, means over the batch; "total" is eq. 5.

    Args:
        found:
            From `answers`.
        weight:
            Lambda, the weight of distillation.
    """
    terms = {
        task: functional.cross_entropy(answer.output, answer.wanted)
        if task in ("arrow", "irregularity")
        else functional.l1_loss(answer.output, answer.wanted)
        for task, answer in found.items()
    }
    total = sum(
        (weight * term if task == "distillation" else term for task, term in terms.items()),
        torch.zeros((), device=next(iter(terms.values())).device),
    )
    return {**terms, "total": total}


def validated(network: SSMTLNetwork, batches: Iterable[Batch], weight: float) -> dict[str, float]:
    """Measure the losses, the share of right classes, and the mean absolute errors (Table 4).

    Returns:
        "loss" (eq. 5), "unweighted" (with a lambda of 1, so that values of lambda compare),
        "loss/TASK", "accuracy/TASK" of the first two tasks. The loss of the other two is their mean
        absolute error.
    """
    sums: dict[str, float] = {}
    objects = 0
    for batch in batches:
        found = answers(network, batch)
        values = {
            "loss" if name == "total" else f"loss/{name}": float(term)
            for name, term in losses(found, weight).items()
        }
        values["unweighted"] = sum(values[f"loss/{task}"] for task in found)
        for task in ("arrow", "irregularity"):
            if task in found:
                right = found[task].output.argmax(1) == found[task].wanted
                values[f"accuracy/{task}"] = float(right.float().mean())
        count = len(batch.regular)
        objects += count
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value * count
    return {name: value / objects for name, value in sums.items()}


def trivial_errors(
    batches: Iterable[Batch], mean_targets: Tensor | None, tasks: Iterable[Task]
) -> dict[str, float]:
    """Measure what tasks 3 and 4 would reach without a network.

    Args:
        batches:
            Objects that validate.
        mean_targets:
            (n,) mean of what the teachers say of training objects.
        tasks:
            That are trained.

    Returns:
        "neighbours": mean absolute error of the mean of frames i - 1 and i + 1; "mean_teacher": of
        the mean of the teachers.
    """
    sums = {"neighbours": 0.0, "mean_teacher": 0.0}
    objects = 0
    for batch in batches:
        count, middle = len(batch.regular), batch.regular.shape[1] // 2
        objects += count
        near = [batch.regular[:, middle + k].float() for k in (-1, 1)]
        wrong = (sum(near) / 2 - batch.regular[:, middle].float()).abs() / 255
        sums["neighbours"] += float(wrong.mean()) * count
        if batch.targets is not None and mean_targets is not None:
            sums["mean_teacher"] += float((batch.targets - mean_targets).abs().mean()) * count
    of_task = {"middle": "neighbours", "distillation": "mean_teacher"}
    return {of_task[task]: sums[of_task[task]] / objects for task in tasks if task in of_task}
