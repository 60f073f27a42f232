"""MNAD: reading, distances and the update of the memory by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vadpipe.extractors.networks.mnad import Mnad, PrototypeMemory
from vadpipe.extractors.networks.video_encoder import EncoderOptions


def small() -> Mnad:
    torch.manual_seed(0)
    return Mnad(EncoderOptions(width=2), items=4)


def memory_and_queries() -> tuple[PrototypeMemory, torch.Tensor]:
    torch.manual_seed(2)
    memory = PrototypeMemory(3, 4).double()
    return memory, torch.nn.functional.normalize(torch.randn(6, 3).double().abs(), dim=1)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_reading_by_hand() -> None:
    memory, queries = memory_and_queries()
    read, items = memory.read(queries), memory.items.tolist()
    for k, q in enumerate(queries.tolist()):
        w = [math.exp(dot(q, item)) for item in items]
        by_hand = [
            sum(v / sum(w) * item[c] for v, item in zip(w, items, strict=True)) for c in range(3)
        ]
        assert read[k].tolist() == pytest.approx(by_hand)


def test_nearest_and_second_by_hand() -> None:
    memory, queries = memory_and_queries()
    first, second = memory.nearest(queries)
    for k, q in enumerate(queries.tolist()):
        order = sorted(memory.items.tolist(), key=lambda item: -dot(q, item))
        assert float(first[k]) == pytest.approx(math.dist(q, order[0]))
        assert float(second[k]) == pytest.approx(math.dist(q, order[1]))


def test_update_by_hand() -> None:
    memory, queries = memory_and_queries()
    before, listed = memory.items.tolist(), queries.tolist()
    memory.update(queries)
    owner = [max(range(4), key=lambda m: dot(q, before[m])) for q in listed]
    assert len(set(owner)) < 4, "an item without queries is part of the test"
    for m, item in enumerate(before):
        total = sum(math.exp(dot(item, q)) for q in listed)
        v = [math.exp(dot(item, q)) / total for q in listed]
        own = [k for k in range(6) if owner[k] == m]
        moved = list(item)
        for k in own:
            share = v[k] / max(v[j] for j in own)
            moved = [a + share * b for a, b in zip(moved, listed[k], strict=True)]
        by_hand = [value / math.hypot(*moved) for value in moved]
        assert memory.items[m].tolist() == pytest.approx(by_hand)


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        network = Mnad(EncoderOptions())
        code = network(torch.empty(1, 3, 4, 256, 256))
        picture = network.predict(torch.empty(1, 3, 5, 256, 256))
    assert code.shape == (1, 512, 4, 32, 32) and picture.shape == (1, 3, 256, 256)
    assert network.memory.items.shape == (10, 512)
    assert "BatchNorm2d" not in str(network.encoder.levels[-1][-1]), "a convolution ends it"
    assert "BatchNorm2d" in str(network.encoder.levels[-1])


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_encodes_clips_of_any_length(frames: int) -> None:
    network = small().eval()
    with torch.no_grad():
        found = network(torch.rand(2, 3, frames, 16, 24))
    assert found.shape == (2, network.channels, frames, 2, 3)
    assert found.min() < 0, "no ReLU at the end"


def test_objective_by_hand() -> None:
    network, windows = small().eval(), torch.rand(2, 3, 5, 16, 24)
    with torch.no_grad():
        terms = network.objective(windows)
        code = network(windows[:, :, :4])[:, :, 3]  # the stack of the first four frames
        error = (network.predict(windows) - (windows[:, :, 4] * 2 - 1)).square().mean()
    first, second = [], []
    for b in range(2):
        for i in range(2):
            for j in range(3):
                q = code[b, :, i, j]
                q = (q / q.norm()).tolist()
                near = sorted(network.memory.items.tolist(), key=lambda item: -dot(q, item))
                first.append(math.dist(q, near[0]))
                second.append(math.dist(q, near[1]))
    compact = sum(first) / 12
    separate = sum(max(0.0, p - n + 1) for p, n in zip(first, second, strict=True)) / 12
    assert float(terms["compactness"]) == pytest.approx(compact, rel=1e-4)
    assert float(terms["separateness"]) == pytest.approx(separate, rel=1e-4)
    total = float(error) + 0.1 * compact + 0.1 * separate
    assert float(terms["total"]) == pytest.approx(total, rel=1e-4)
    with torch.no_grad():
        distance = network.estimate(windows).distance
    assert distance is not None
    halves = [sum(first[:6]) / 6, sum(first[6:]) / 6]
    assert distance.tolist() == pytest.approx(halves, rel=1e-4)


def test_memory_learns_by_its_rule_and_only_in_training() -> None:
    network, windows = small(), torch.rand(2, 3, 5, 16, 16)
    before = network.memory.items.clone()
    network.eval().objective(windows)
    network.estimate(windows)
    assert torch.equal(network.memory.items, before)
    network.train().objective(windows)["total"].backward()  # type: ignore[no-untyped-call]
    assert not torch.equal(network.memory.items, before)
    assert torch.allclose(network.memory.items.norm(dim=1), torch.ones(4))
    assert "memory.items" not in dict(network.named_parameters())
    assert "memory.items" in network.state_dict()
    grads = [p.grad for p in network.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert network.encoder.levels[0][0].weight.grad.abs().sum() > 0
