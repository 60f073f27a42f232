"""Run the nodes of a graph: what is done is skipped, what fails stops only what needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distributed import Client
from pydantic import ValidationError

from ...data_manifests.atomic import CannotWrite
from ...data_manifests.choices import choices
from ...data_manifests.errors import VadpipeError
from ..engine.cluster import ClusterError, check_workers, open_client
from ..engine.execute import TaskQueue, run_tasks
from .folder import Done
from .graph import Node
from .key_value import ConfigError
from .nodes import NodeTask, is_done, run_extracts, run_node
from .resolved import Resolved

State = Literal["done", "ran", "failed", "left out"]


@dataclass(frozen=True)
class Ended:
    """The end of a node.

    Attributes:
        node: which.
        state: "done" before this run, "ran" now, "failed", or "left out" after another failed.
        done: what it did; None where it did not run.
        error: why it failed, in words.
    """

    node: Node
    state: State
    done: Done | None = None
    error: str = ""


def chosen_nodes(nodes: Sequence[Node], only: Sequence[str]) -> list[Node]:
    """The nodes of these names and all that they need; all nodes without names.

    A name is that of a node ("score-near-k=1"), of what it is about ("near-k=1"), or of a section
    with or without the kind ("near": everything about its cells; "score-near").

    Raises:
        ConfigError: there is no such node.
    """
    if not only:
        return list(nodes)
    by_name = {node.name: node for node in nodes}
    wanted: set[str] = set()
    for name in only:
        found = [n.name for n in nodes if name in n.called()]
        if not found:
            raise ConfigError(f"there is no node {name!r}; there are: {choices(by_name, name)}")
        wanted |= set(found)
    for node in reversed(nodes):  # needs come before
        if node.name in wanted:
            wanted |= set(node.awaited)
    return [node for node in nodes if node.name in wanted]


def execute(resolved: Resolved, nodes: Sequence[Node], every: Sequence[Node]) -> Iterator[Ended]:
    """Run nodes as soon as what they need is done.

    Feature sets that are ready at the same time are extracted together, in this process' own
    engine. All other nodes are tasks: with `workers` or a `scheduler` they run side by side, one in
    each process; else one after the other in this process.

    Args:
        resolved:
            The run.
        nodes:
            See `plan` and `chosen_nodes`; each comes after those that it needs.
        every:
            All nodes of the run: what needs a node that begins is not done any more.

    Yields:
        Every node once, as it ends.

    Raises:
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    yield from _Execution(resolved, nodes, every).run()


def _dependents(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """Node -> all nodes that need it, also by others between them."""
    found: dict[str, set[str]] = {node.name: set() for node in nodes}
    for node in reversed(nodes):
        for need in node.awaited:
            found[need] |= {node.name, *found[node.name]}
    return found


class _Execution:
    def __init__(self, resolved: Resolved, nodes: Sequence[Node], every: Sequence[Node]) -> None:
        self._resolved = resolved
        self._open = {node.name: node for node in nodes}
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._failed: set[str] = set()
        self._given: set[str] = set()  # to workers
        engine = resolved.config.engine
        self._pool = engine.scheduler is not None or engine.processes() > 0
        self._device = engine.runtime().device if self._pool else engine.own_device()
        self._threads = engine.runtime().threads
        self._ended: list[Ended] = []
        self._dependents = _dependents(every)
        self._ran: set[str] = set()

    def run(self) -> Iterator[Ended]:
        with ExitStack() as stack:
            start = self._workers(stack) if self._pool else self._here
            while self._open:
                before = len(self._open)
                self._skip()
                yield from self._take_ended()
                self._extract()
                yield from self._take_ended()
                for _ in start():
                    self._skip()
                    yield from self._take_ended()
                    self._extract()  # while workers go on with what they have
                    yield from self._take_ended()
                if len(self._open) == before:
                    names = ", ".join(self._open)
                    raise ConfigError(f"these nodes wait for each other: {names}")

    def _take_ended(self) -> Iterator[Ended]:
        ended, self._ended = self._ended, []
        yield from ended

    def _ready(self) -> list[Node]:
        return [
            node
            for node in self._open.values()
            if not any(need in self._open for need in node.awaited)
        ]

    def _skip(self) -> None:
        """End all nodes that are done already, or that cannot run any more."""
        again = True
        while again:
            again = False
            for node in self._ready():
                if node.name in self._given:
                    continue
                if lost := [need for need in node.needs if need in self._failed]:
                    self._failed.add(node.name)
                    self._end(Ended(node, "left out", None, f"needs {', '.join(lost)}"))
                elif not self._ran.intersection(node.awaited) and is_done(self._resolved, node):
                    done = self._resolved.folder.done(node.name)
                    assert done is not None and done.facts is not None
                    self._facts[node.name] = done.facts
                    self._end(Ended(node, "done", done))
                else:
                    continue
                again = True

    def _end(self, ended: Ended) -> None:
        del self._open[ended.node.name]
        self._ended.append(ended)

    def _extract(self) -> None:
        ready = [node for node in self._ready() if node.kind == "extract"]
        if not ready:
            return
        self._begin(ready)
        try:
            found = self._together(ready)
        except Exception as error:
            if len(ready) == 1 or isinstance(error, CannotWrite | ClusterError):
                self._fail(ready[0], error)
                return
            for node in ready:  # one of them cannot run: the others can
                try:
                    self._finish(node, run_extracts(self._resolved, [node])[node.name])
                except Exception as own:  # a node that fails stops only what needs it
                    self._fail(node, own)
            return
        for node in ready:
            self._finish(node, found[node.name])

    def _together(self, nodes: Sequence[Node]) -> dict[str, Done]:
        """Extract feature sets at once; each ends with its own failures.

        A video that fails for one of them fails for all, as it is read once: then each is run
        alone, which has only such videos left to do.
        """
        found = run_extracts(self._resolved, nodes)
        if len(nodes) > 1 and any(done.failures for done in found.values()):
            for node in nodes:
                alone = run_extracts(self._resolved, [node])[node.name]
                found[node.name] = replace(found[node.name], failures=alone.failures)
        return found

    def _begin(self, nodes: Iterable[Node]) -> None:
        """Nothing that these nodes write, or that was made of it, counts as done any more."""
        for node in nodes:
            self._resolved.folder.forget([node.name, *self._dependents[node.name]])

    def _task(self, node: Node) -> NodeTask:
        facts = {need: self._facts[need] for need in node.needs}
        # Of models that are scored one after the other, the first extracts what all lack.
        others = () if self._pool else tuple(self._models_left(node))
        return NodeTask(node, self._resolved, facts, self._device, self._threads, others)

    def _models_left(self, node: Node) -> Iterator[Path]:
        for other in self._open.values():
            if other.name != node.name and node.model is not None and other.model is not None:
                yield other.model

    def _ready_tasks(self) -> list[NodeTask]:
        # Two trainings with one key would write to one folder: the second waits, and finds it.
        keys = {self._open[name].key for name in self._given if name in self._open}
        tasks = []
        for node in self._ready():
            if node.kind != "extract" and node.name not in self._given and node.key not in keys:
                keys.add(node.key)
                tasks.append(self._task(node))
        return tasks

    def _here(self) -> Iterator[None]:
        """One node in this process, then look again what has become ready."""
        for task in self._ready_tasks()[:1]:
            self._begin([task.node])
            try:
                done = run_node(task)
            except Exception as error:  # a node that fails stops only what needs it
                self._fail(task.node, error)
            else:
                self._finish(task.node, done)
            yield

    def _workers(self, stack: ExitStack) -> Callable[[], Iterator[None]]:
        """Nodes side by side, one in each process."""
        opened: list[Any] = []

        def start() -> Iterator[None]:
            tasks = self._ready_tasks()
            if not tasks:
                return
            if not opened:
                opened.append(self._open_workers(stack))
            queue: TaskQueue[NodeTask] = TaskQueue()
            self._give(queue, tasks)
            for outcome in run_tasks(opened[0], run_node, queue):
                if outcome.value is None:
                    assert outcome.error is not None
                    self._fail(outcome.task.node, outcome.error)
                else:
                    self._finish(outcome.task.node, outcome.value)
                yield
                self._give(queue, self._ready_tasks())

        return start

    def _give(self, queue: TaskQueue[NodeTask], tasks: Sequence[NodeTask]) -> None:
        for task in tasks:
            self._begin([task.node])
            self._given.add(task.node.name)
            queue.add(task)

    def _open_workers(self, stack: ExitStack) -> Client:
        config = self._resolved.config
        client = stack.enter_context(open_client(config.engine, threads=1))
        if config.engine.scheduler is not None:
            check_workers(client, [config.out.absolute(), config.cache_root])
        return client

    def _finish(self, node: Node, done: Done) -> None:
        self._resolved.folder.write_done(node.name, done)
        self._facts[node.name] = done.facts or {}
        self._ran.add(node.name)
        self._end(Ended(node, "ran", done))

    def _fail(self, node: Node, error: BaseException) -> None:
        if isinstance(error, CannotWrite | ClusterError):
            raise error  # no other node will do any better
        self._failed.add(node.name)
        known = isinstance(error, VadpipeError | ValidationError | OSError)
        if not known:
            self._resolved.folder.write_traceback(node.name, error)
        message = f"{type(error).__name__}: {error}"
        more = "" if known else f" (unexpected; see {node.name}.txt in nodes/)"
        self._end(Ended(node, "failed", None, message + more))
