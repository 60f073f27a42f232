"""The proxy tasks of SSMTL: what the network is asked, the losses, and how well it answers.

Those of MSMG are asked in the same network (Zhang et al., CVPR 2024, Table 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .msmg_losses import continuity_loss, estimation, localisation_loss
from .msmg_samples import Proxies
from .ssmtl_network import CONTINUITY_TASKS, SSMTLNetwork, Task, network_input, without_middle
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


@dataclass(frozen=True)
class Embeddings:
    """What the head of estimation says; see `msmg_losses.estimation`.

    Attributes:
        broken: (B, D) of clips without one frame.
        whole: (B, D) of the other clips.
        missing: (B, D) of the missing frames.
        same: (B, B) bool, no negatives of each other.
    """

    broken: Tensor
    whole: Tensor
    missing: Tensor
    same: Tensor


@dataclass(frozen=True)
class Contrast:
    """Constants of the loss of estimation (MSMG, eqs. 4-7)."""

    gamma: float = 0.2
    omega: float = 0.5
    tau: float = 0.1


Answers = dict[str, Answer | Embeddings]
WATCHED = ("p_plus", "p_minus", "q_plus")


def answers(network: SSMTLNetwork, batch: Batch) -> Answers:
    """Run each task by itself, in the order of `ALL_TASKS`.

    The batch norms of the shared CNN see the batch of one task at a time; clips of the tasks of
    MSMG are one batch.
    """
    found: Answers = {}
    regular, middle = batch.regular, batch.regular.shape[1] // 2
    for task in network.tasks:
        if task in CONTINUITY_TASKS:
            continue
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
    if batch.pairs is not None:
        found |= _continuity_answers(network, batch.pairs)
    return found


def _continuity_answers(network: SSMTLNetwork, pairs: Proxies) -> Answers:
    """Run the tasks of MSMG on clips that go through the CNN together."""
    heads, found = network.heads, Answers()
    shared = network.encoder(network_input(torch.cat([pairs.broken, pairs.whole])))
    count = len(pairs.place)
    if "continuity" in network.tasks:
        classes = torch.arange(1, -1, -1, device=shared.device).repeat_interleave(count)
        found["continuity"] = Answer(heads["continuity"](shared), classes)
    if "localisation" in network.tasks:
        found["localisation"] = Answer(heads["localisation"](shared[:count]), pairs.place)
    if "estimation" in network.tasks:
        broken, whole = heads["estimation"](shared).chunk(2)
        missing = network("estimation", pairs.missing)
        found["estimation"] = Embeddings(broken, whole, missing, pairs.same)
    return found


def losses(
    found: Mapping[str, Answer | Embeddings], weight: float, contrast: Contrast | None = None
) -> dict[str, Tensor]:
    """Compute the losses of eq. 1 to 5, means over the batch; "total" is eq. 5.

    Those of MSMG (eqs. 1, 2 and 7 there) are added with weight 1.

    Args:
        found:
            From `answers`.
        weight:
            Lambda, the weight of distillation.
        contrast:
            Constants of estimation; None: those of the paper.

    Returns:
        Task -> its loss; "total"; for estimation what tells a collapse, "p_plus", "p_minus" and
        "q_plus".
    """
    contrast = contrast or Contrast()
    terms: dict[str, Tensor] = {}
    watched: dict[str, Tensor] = {}
    for task, answer in found.items():
        if isinstance(answer, Embeddings):
            said = estimation(
                *(answer.broken, answer.whole, answer.missing, answer.same),
                gamma=contrast.gamma,
                omega=contrast.omega,
                tau=contrast.tau,
            )
            terms[task] = said.loss
            watched = {"p_plus": said.p_plus, "p_minus": said.p_minus, "q_plus": said.q_plus}
        elif task == "continuity":
            terms[task] = continuity_loss(*answer.output.chunk(2))
        elif task == "localisation":
            terms[task] = localisation_loss(answer.output, answer.wanted)
        elif task in ("arrow", "irregularity"):
            terms[task] = functional.cross_entropy(answer.output, answer.wanted)
        else:
            terms[task] = functional.l1_loss(answer.output, answer.wanted)
    total = sum(
        (weight * term if task == "distillation" else term for task, term in terms.items()),
        torch.zeros((), device=next(iter(terms.values())).device),
    )
    return {**terms, "total": total, **watched}


def validated(
    network: SSMTLNetwork,
    batches: Iterable[Batch],
    weight: float,
    contrast: Contrast | None = None,
) -> dict[str, float]:
    """Measure the losses, the share of right classes, and the mean absolute errors (Table 4).

    Returns:
        "loss" (eq. 5), "unweighted" (with a lambda of 1, so that values of lambda compare),
        "loss/TASK", "accuracy/TASK" of the tasks with classes. The loss of middle and distillation
        is their mean absolute error. With estimation "p_plus", "p_minus" and "q_plus".
    """
    sums: dict[str, float] = {}
    objects = 0
    for batch in batches:
        found = answers(network, batch)
        terms = {name: float(term) for name, term in losses(found, weight, contrast).items()}
        values = {name: terms[name] for name in WATCHED if name in terms}
        values["loss"] = terms["total"]
        values |= {f"loss/{task}": terms[task] for task in found}
        values["unweighted"] = sum(terms[task] for task in found)
        for task, answer in found.items():
            if isinstance(answer, Answer) and not answer.wanted.is_floating_point():
                right = answer.output.argmax(1) == answer.wanted
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
