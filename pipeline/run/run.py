"""Run stage: a recipe -> a run folder, node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..store.failures import Failure
from .config import RunConfig
from .execute import Ended, execute
from .folder import Done, RunFolder
from .graph import Node, plan
from .listing import result_rows
from .resolved import Resolved, resolve_run

WORDS = {"done": "done before"}  # of the ways in which a node ends


@dataclass
class Run:
    """What a run did.

    Attributes:
        folder: of the run.
        ended: its nodes, in the order in which they ended.
        rows: of the table of results.
        failures: videos that failed at any stage.
    """

    folder: RunFolder
    ended: list[Ended] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def errors(self) -> list[Ended]:
        """The nodes that failed, and those that were left out for it."""
        return [ended for ended in self.ended if ended.state in ("failed", "left out")]

    @property
    def warnings(self) -> list[str]:
        """What people should read of its nodes, also of those that were done before."""
        facts = [ended.done.facts or {} for ended in self.ended if ended.done is not None]
        return list(dict.fromkeys(text for each in facts for text in each.get("warnings", ())))

    def lines(self) -> list[str]:
        """How many nodes ended in which way, and where the results are."""
        counts = ", ".join(f"{n} {WORDS.get(state, state)}" for state, n in self.counts().items())
        return [f"nodes: {counts}", str(self.folder.results_file)]

    def counts(self) -> dict[str, int]:
        """How a node can end -> how many have ended so."""
        states = ("ran", "done", "failed", "left out")
        return {state: sum(ended.state == state for ended in self.ended) for state in states}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: nodes and rows of results."""
        nodes = [{"name": e.node.name, "state": e.state, "error": e.error} for e in self.ended]
        return {"nodes": nodes, "results": self.rows}


def run_nodes(
    resolved: Resolved, nodes: Sequence[Node], *, tell: Callable[[Ended], None] | None = None
) -> Run:
    """Run nodes of a run, and write its recipe, its results and the videos that failed.

    A node that fails stops only those that need it.

    Args:
        resolved:
            The run.
        nodes:
            See `plan`.
        tell:
            Called with each node as it ends.

    Raises:
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    done = Run(resolved.folder, failures=list(resolved.probed.failures))
    every = plan(resolved)
    done.folder.write_recipe(resolved.config.model_dump(mode="json", by_alias=True))
    for ended in execute(resolved, nodes, every):
        done.ended.append(ended)
        if ended.done is not None:
            done.failures += ended.done.failures
        if tell is not None:
            tell(ended)
        if ended.node.kind in ("score", "fuse", "evaluate"):
            done.rows = result_rows(kept(resolved, every))
            done.folder.write_results(done.rows)
    left = kept(resolved, every)
    done.rows = result_rows(left)
    done.folder.write_results(done.rows)
    before = [f for _, other in left for f in other.failures]
    done.failures = done.folder.write_failures([*done.failures, *before])
    return done


def kept(resolved: Resolved, nodes: Sequence[Node]) -> list[tuple[Node, Done]]:
    """What is noted of nodes with the key that they have now, whichever run did them."""
    found = ((node, resolved.folder.done(node.name)) for node in nodes)
    return [(node, done) for node, done in found if done is not None and done.key == node.key]


def run(config: RunConfig) -> Run:
    """Run everything that a recipe describes.

    Raises:
        ManifestError, ExtractorError, WeightsError, ConfigError, DetectorError: it cannot begin.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    resolved = resolve_run(config)
    return run_nodes(resolved, plan(resolved))
