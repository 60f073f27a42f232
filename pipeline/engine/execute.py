"""Run tasks on the workers of a client. Results come one by one; a failing task fails alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from distributed import Client, Future, KilledWorker

from . import retries
from .cluster import ClusterError, Processes

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # tasks in flight for each thread; few, so that the memory of this process stays flat
RECOUNT_SECONDS = 10.0  # workers of a cluster come and go
LONELY_SECONDS = 120.0  # without any worker, then the run ends; a new one takes time to start


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """The end of one task: a value or an error."""

    task: T
    value: R | None
    error: BaseException | None


class TaskQueue(Generic[T]):
    """Tasks that are made when they are taken; more may be added while others run."""

    def __init__(self, tasks: Iterable[T] = ()) -> None:
        self._tasks = iter(tasks)
        self._added: deque[T] = deque()

    def add(self, task: T) -> None:
        """Add a task after all others."""
        self._added.append(task)

    def take(self) -> T | None:
        """The next task; None if there is none now."""
        task = next(self._tasks, None)
        if task is None and self._added:
            task = self._added.popleft()
        return task


def run_tasks(
    client: Client,
    run: Callable[[T], R],
    tasks: Iterable[T] | TaskQueue[T],
    *,
    resources: Mapping[str, float] | None = None,
    group: Callable[[T], Hashable] | None = None,
) -> Generator[Outcome[T, R], None, None]:
    """Run every task and yield each outcome as it comes.

    A task that fails for a reason that may pass is tried again, after the others. If its worker
    process dies, the scheduler tries it once more. If that worker dies too, the task is a suspect,
    and no more than that: the scheduler also blames tasks that only shared the dead worker.
    Suspects are run at the end, one by one; what kills its worker then is the cause. If the caller
    stops early, tasks that have not begun are cancelled.

    Args:
        client:
            The client whose workers run the tasks.
        run:
            The function.
        tasks:
            Its arguments, taken when there is room.
        resources:
            What each task asks of its worker.
        group:
            Names tasks that belong together (the spans of a video). If one is a suspect, all are.
            If one has killed a worker alone, the others are not run any more.

    Raises:
        ClusterError: no worker is left.
    """
    queue = tasks if isinstance(tasks, TaskQueue) else TaskQueue(tasks)
    guilty: dict[Hashable, BaseException] = {}
    suspects = True
    while suspects:  # the outcome of a suspect may add tasks to the queue
        together = _Runner(client, run, queue, resources, group)
        yield from together.outcomes()
        suspects = bool(together.suspects)
        for task, _ in together.suspects:
            name = None if group is None else group(task)
            if name in guilty:
                yield Outcome(task, None, guilty[name])
                continue
            alone = _Runner(client, run, TaskQueue([task]), resources, None)
            yield from alone.outcomes()
            for killer, error in alone.suspects:
                if name is not None:
                    guilty[name] = error
                yield Outcome(killer, None, error)


class _Runner(Generic[T, R]):
    """Tasks that run together; those that may have killed a worker end up in `suspects`.

    It keeps a bounded number of futures in flight: `_running` holds them with the number of the
    attempt, `_again` the tasks that wait for another attempt. Futures put themselves into `_ready`
    when they are done, from a thread of the client; all else happens in the caller's thread.
    """

    def __init__(
        self,
        client: Client,
        run: Callable[[T], R],
        queue: TaskQueue[T],
        resources: Mapping[str, float] | None,
        group: Callable[[T], Hashable] | None,
    ) -> None:
        self._client = client
        self._run = run
        self._queue = queue
        self._resources = resources
        self._group = group
        self._running: dict[Future[R], tuple[T, int]] = {}
        self._again: deque[tuple[T, int, float]] = deque()  # task, attempt, earliest time
        self._ready: SimpleQueue[Future[R]] = SimpleQueue()
        self._room = self._count()
        self._counted = time.monotonic()
        self._alone: float | None = None  # since when there is no worker
        self._held: dict[Hashable, BaseException] = {}  # groups with a suspect
        self.suspects: list[tuple[T, BaseException]] = []

    def outcomes(self) -> Generator[Outcome[T, R], None, None]:
        """Outcomes as they come."""
        try:
            while self._fill():
                outcome = self._next()
                if outcome is not None:
                    yield outcome
                self._recount()
        finally:
            if self._running and self._connected():
                self._client.cancel(list(self._running), force=True)

    def _fill(self) -> bool:
        """Submit tasks until all workers have some ahead; False once nothing is left."""
        while len(self._running) < max(1, self._room):
            task, attempt = self._queue.take(), 1
            if task is None:
                if self._pause() > 0 or not self._again:
                    break
                task, attempt, _ = self._again.popleft()
            if self._group is not None and (error := self._held.get(self._group(task))):
                self.suspects.append((task, error))
                continue
            self._check_connection()
            future = self._client.submit(self._run, task, pure=False, resources=self._resources)
            self._running[future] = (task, attempt)
            future.add_done_callback(self._ready.put)
        return bool(self._running or self._again)

    def _pause(self) -> float:
        """Seconds until the next waiting task may be tried again."""
        return self._again[0][2] - time.monotonic() if self._again else 0.0

    def _connected(self) -> bool:
        return self._client.status not in ("closing", "closed")

    def _check_connection(self) -> None:
        if not self._connected():
            raise ClusterError(
                "the scheduler does not answer any more: run the same command again once it does; "
                "what is finished is kept"
            )

    def _next(self) -> Outcome[T, R] | None:
        """The next final outcome; None if none came in time."""
        pause = self._pause()  # 0 or less where the next attempt only waits for room
        timeout = RECOUNT_SECONDS
        if self._again and (pause > 0 or not self._running):
            timeout = max(0.0, min(pause, RECOUNT_SECONDS))
        try:
            done = self._ready.get(timeout=timeout)
        except Empty:
            return None
        if done not in self._running:
            return None  # cancelled with its group
        task, attempt = self._running.pop(done)
        try:
            return Outcome(task, done.result(), None)
        except KilledWorker as error:
            self._suspect(task, error)
        except Exception as error:
            if not retries.again(attempt, error):
                return Outcome(task, None, error)
            begin = time.monotonic() + retries.pause(attempt)
            self._again.append((task, attempt + 1, begin))
        finally:
            done.release()
        return None

    def _suspect(self, task: T, error: BaseException) -> None:
        """Keep a task for the end, and all of its group: each could kill another worker."""
        self.suspects.append((task, error))
        if self._group is None:
            return
        name = self._group(task)
        self._held[name] = error
        held = [f for f, (other, _) in self._running.items() if self._group(other) == name]
        self.suspects += [(self._running.pop(future)[0], error) for future in held]
        if held:
            self._client.cancel(held, force=True)

    def _count(self) -> int:
        if self._client.status != "running":  # the client is connecting again
            return 0
        threads: int = sum(self._client.nthreads().values())
        return AHEAD * threads

    def _recount(self) -> None:
        """Count the workers now and then: those of a cluster come and go.

        Those of this host whose watchers have ended are started again; for others it waits.
        """
        now = time.monotonic()
        if now - self._counted < RECOUNT_SECONDS:
            return
        self._check_connection()
        self._room, self._counted = self._count(), now
        if isinstance(self._client.cluster, Processes):
            self._client.cluster.revive()
        if self._room:
            self._alone = None
        elif self._alone is None:
            self._alone = now
        elif now - self._alone > LONELY_SECONDS:
            raise ClusterError(
                f"no worker is left, {len(self._running)} tasks wait: start workers, and run the "
                "same command again"
            )
