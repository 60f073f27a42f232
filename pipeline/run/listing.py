"""What `vadpipe run` prints: the graph before it runs, its nodes as they end, the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...data_manifests.plain_text import counted
from ..engine.planning import estimate
from ..extract import barred_by_quarantine, engine_for, plans_of
from .execute import Ended
from .folder import Done
from .graph import Node
from .nodes import done_nodes
from .resolved import Resolved


def graph_lines(resolved: Resolved, nodes: Sequence[Node]) -> list[str]:
    """A line for each node: whether it is done, what it needs, its key, its cost and its target."""
    files = counted(len(resolved.probed.rows), "file")
    lines = [f"{files}, {len(resolved.probed.failures)} cannot be read"]
    done = done_nodes(resolved, nodes)
    for node in nodes:
        needs = ", ".join(node.needs) or "-"
        cost = "done" if node.name in done else _cost(resolved, node)
        lines.append(f"{node.name}\tneeds {needs}\t{node.key[:12]}\t{cost}\t{node.target}")
    return lines


def graph_values(resolved: Resolved, nodes: Sequence[Node]) -> dict[str, Any]:
    """The same as plain JSON values."""
    done = done_nodes(resolved, nodes)
    return {
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "needs": list(node.needs),
                "key": node.key,
                "target": str(node.target),
                "done": node.name in done,
            }
            for node in nodes
        ]
    }


def _cost(resolved: Resolved, node: Node) -> str:
    """What a node would cost, as far as it is known before."""
    if node.kind == "extract":
        spec = resolved.specs[node.subject]
        engine = engine_for([spec], resolved.config.engine)
        files = resolved.files(resolved.extracted(node.subject))
        barred = barred_by_quarantine(files, resolved.config.cache_root, engine)
        plans = plans_of(files, barred, [resolved.store(node.subject)], engine)
        cost = estimate(plans, [spec])
        return (
            f"{counted(cost.videos, 'video')}, {cost.hours:,.2f} hours, "
            f"{counted(cost.rows, 'clip')}, {counted(cost.bytes, 'byte')}, "
            f"{cost.flops / 1e12:,.1f} TFLOP"
        )
    if node.training is not None and node.kind == "train":
        settings = ", ".join(f"{k}={v}" for k, v in node.training.settings.items())
        return (
            f"{node.training.section.detector}, seed {node.training.seed}; {settings or 'defaults'}"
        )
    return "to do"


def ended_lines(ended: Ended) -> list[str]:
    """What became of a node."""
    name = ended.node.name
    if ended.state == "done":
        return [f"{name}: done before, kept"]
    if ended.done is None:
        return [f"{name}: {ended.state}: {ended.error}"]
    return [f"{name}: {line}" for line in ended.done.lines]


def result_rows(kept: Sequence[tuple[Node, Done]]) -> list[dict[str, Any]]:
    """A row for each training or fusion that was scored, with its metrics."""
    metrics: dict[str, Mapping[str, Any]] = {}
    for node, done in kept:
        if node.kind == "evaluate":
            metrics[node.subject] = (done.facts or {}).get("metrics", {})
    return [
        {**dict((done.facts or {}).get("row", {})), **metrics.get(node.subject, {})}
        for node, done in kept
        if node.kind in ("score", "fuse")
    ]
