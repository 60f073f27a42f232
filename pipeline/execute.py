"""One way to run tasks: dask.distributed, in process by default; results come one by one."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import dask
import psutil
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, Security, SpecCluster
from distributed.comm.core import CommClosedError

from ..extractors.base import Precision, PrecisionRequest
from ..extractors.video import DecoderKilled
from .engine import Engine
from .store import write_atomically

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # tasks in flight for each thread: the coordinator's memory stays flat
ATTEMPTS = 3  # at a task that fails for a reason that may pass
RECOUNT_SECONDS = 10.0  # workers of a cluster come and go
CONNECT_SECONDS = 30.0
LONELY_SECONDS = 120.0  # without any worker; a new one takes a while to start

# What a file server, a network or another process may be over with in a moment.
_PASSING = {
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "EAGAIN", "EINTR", "EBUSY", "ETIMEDOUT", "ENOENT",
        "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN",
    )
    if hasattr(errno, name)
}  # fmt: skip


# Run in each worker process: a terminal sends ctrl-C to them too, but their end is ours to say.
_QUIET = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class ClusterError(RuntimeError):
    """A cluster that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of one task: a value or an error."""

    task: T
    value: R | None
    error: BaseException | None


# ------------------------------------------------------------------------------------- clients


@contextmanager
def open_client(engine: Engine | None = None, *, threads: int | None = None) -> Iterator[Client]:
    """A dask client: threads of this process, local worker processes, or a cluster by address.

    What is started here listens on loopback only.

    Args:
        engine:
            Where tasks run; None is in this process.
        threads:
            Tasks at once in each process; None takes the engine's streams.

    Raises:
        ClusterError: the cluster cannot be reached or trusted, or has no workers.
        ExtractorError: there is no such device.
    """
    engine = engine or Engine()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if engine.scheduler is not None:
        with _connected(engine, engine.scheduler) as client:
            yield client
        return
    threads = threads or engine.streams_each()
    settings = {
        "distributed.worker.daemon": False,
        "distributed.scheduler.allowed-failures": 1,
        # What it would note of every task for its dashboard grows with the number of tasks.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.log-length": 100,
        "distributed.admin.low-level-log-length": 100,
    }
    with dask.config.set(settings):
        # Both addresses would listen on all interfaces otherwise, dashboard or not.
        here = {"dashboard_address": "127.0.0.1:0"}
        if engine.processes():
            try:
                cluster: Any = SpecCluster(
                    workers=worker_specs(engine, threads),
                    scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", **here}},
                    silence_logs=logging.CRITICAL,
                )
            except RuntimeError as error:
                raise ClusterError(
                    f"worker processes did not start ({error}): try again"
                ) from error
            client = Client(cluster)
        else:
            client = Client(
                processes=False,
                n_workers=1,
                threads_per_worker=threads,
                memory_limit=0,
                worker_dashboard_address="127.0.0.1:0",
                resources={"GPU": 1} if engine.on_gpu else None,
                **here,
            )
            cluster = client.cluster
        try:
            yield client
        finally:
            client.close()
            cluster.close()


def worker_specs(engine: Engine, threads: int) -> dict[int, dict[str, Any]]:
    """One watched process for each GPU, which sees no other, or as many as asked for on a CPU."""
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "nthreads": threads,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "preload": [_QUIET],
    }
    if not engine.on_gpu:
        return {i: {"cls": Nanny, "options": options} for i in range(engine.processes())}
    return {
        i: {
            "cls": Nanny,
            "options": {
                **options,
                "resources": {"GPU": 1},
                "env": {"CUDA_VISIBLE_DEVICES": name.partition(":")[2] or "0"},
            },
        }
        for i, name in enumerate(engine.devices())
    }


@contextmanager
def _connected(engine: Engine, address: str) -> Iterator[Client]:
    check_address(address)
    security = None
    if engine.tls_ca is not None:
        security = Security(
            tls_ca_file=str(engine.tls_ca),
            tls_client_cert=None if engine.tls_cert is None else str(engine.tls_cert),
            tls_client_key=None if engine.tls_key is None else str(engine.tls_key),
            require_encryption=True,
        )
    try:
        client = Client(address, security=security, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {error}") from error
    try:
        offered = client.run_on_scheduler(_resources)
        if not offered:
            raise ClusterError(f"{address} has no workers: start some with `dask worker {address}`")
        if engine.on_gpu and not any(resources.get("GPU") for resources in offered):
            raise ClusterError(
                f"no worker at {address} offers a GPU: start them with --resources GPU=1, one for "
                "each GPU (CUDA_VISIBLE_DEVICES)"
            )
        yield client
    finally:
        client.close()


def _resources(dask_scheduler: Scheduler) -> list[dict[str, float]]:
    return [dict(worker.resources) for worker in dask_scheduler.workers.values()]


def check_address(address: str) -> None:
    """A scheduler that is not on this host is reached by TLS only.

    Who can talk to a scheduler can run anything on its workers, and on the way can read and change
    what is said.

    Raises:
        ClusterError: it is not.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tls", "inproc"):
        return
    host = parts.hostname or ""
    try:
        found = {ipaddress.ip_address(a[4][0]) for a in socket.getaddrinfo(host, None)}
    except (OSError, ValueError) as error:
        raise ClusterError(f"there is no host {host!r} ({error})") from error
    ours = {
        ipaddress.ip_address(a.address.partition("%")[0])
        for addresses in psutil.net_if_addrs().values()
        for a in addresses
        if a.family in (socket.AF_INET, socket.AF_INET6)
    }
    if not all(each.is_loopback or each in ours for each in found):
        raise ClusterError(
            f"{address} is on another host, and not encrypted: use tls://{parts.netloc} with "
            "--tls-ca, --tls-cert and --tls-key"
        )


def check_workers(client: Client, cache: Path) -> None:
    """See that all workers of a cluster have this version and this cache.

    Raises:
        ClusterError: one has not.
    """
    token = cache / f".seen-{uuid4().hex}"
    write_atomically(token, lambda p: p.write_text("", encoding="utf-8"))
    try:
        answers = client.run(_look, str(token), on_error="return")
    finally:
        token.unlink(missing_ok=True)
    problems = []
    for worker, answer in answers.items():
        if isinstance(answer, CommClosedError):
            continue  # it has just died: its tasks go to others
        if isinstance(answer, BaseException):
            problems.append(f"{worker} cannot run vadpipe: {answer}")
            continue
        theirs, sees = answer
        if theirs != version("vadpipe"):
            problems.append(f"{worker} has vadpipe {theirs}, not {version('vadpipe')}")
        if not sees:
            problems.append(f"{worker} does not see {cache}: all need the same folder there")
    if problems:
        raise ClusterError("the cluster cannot be used:\n  " + "\n  ".join(problems))


def _look(token: str) -> tuple[str, bool]:
    return version("vadpipe"), Path(token).is_file()


def resolve_precision_of(engine: Engine, request: PrecisionRequest) -> Precision:
    """Settle a precision where the networks will run: here, or on a worker of the cluster.

    Raises:
        ExtractorError: that device lacks it.
        ClusterError: the cluster cannot be used.
    """
    from ..extractors.inference import resolve_precision  # torch takes seconds

    if engine.scheduler is None:
        return resolve_precision(request, engine.devices()[0])
    with open_client(engine) as client:
        future = client.submit(
            resolve_precision, request, engine.runtime().device, resources=share_of(engine)
        )
        precision: Precision = future.result()
        return precision


def share_of(engine: Engine) -> dict[str, float] | None:
    """What a task asks of a worker's resources: as many tasks at once as there are streams."""
    return {"GPU": 1 / engine.streams_each()} if engine.on_gpu else None


# --------------------------------------------------------------------------------------- tasks


class TaskQueue(Generic[T]):
    """Tasks that are made when they are wanted; more may be added while others run."""

    def __init__(self, tasks: Iterable[T] = ()) -> None:
        self._tasks = iter(tasks)
        self._added: deque[T] = deque()

    def add(self, task: T) -> None:
        """One more, behind all that was added before."""
        self._added.append(task)

    def take(self) -> T | None:
        """The next one; None if there is none now."""
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
) -> Generator[Outcome[T, R], None, None]:
    """Run every task, give each outcome as it comes; one that fails costs only itself.

    A task that fails for a reason that may pass is tried again, behind the others. One whose
    worker process dies is tried again by the scheduler, then given up; as the scheduler also
    blames tasks that merely shared the dead worker, all suspects are run once more at the end, one
    by one. Where the caller stops early, what has not begun is cancelled.
    """
    queue = tasks if isinstance(tasks, TaskQueue) else TaskQueue(tasks)
    suspects: list[T] = []
    for outcome in _run_together(client, run, queue, resources):
        if isinstance(outcome.error, KilledWorker):
            suspects.append(outcome.task)
        else:
            yield outcome
    for task in suspects:
        yield from _run_together(client, run, TaskQueue([task]), resources)


def _run_together(
    client: Client,
    run: Callable[[T], R],
    queue: TaskQueue[T],
    resources: Mapping[str, float] | None,
) -> Generator[Outcome[T, R], None, None]:
    running: dict[Future, tuple[T, int]] = {}
    again: deque[tuple[T, int]] = deque()
    ready: SimpleQueue[Future] = SimpleQueue()
    room, counted, alone = _room(client), time.monotonic(), None
    try:
        while True:
            while len(running) < max(1, room):
                task = queue.take()
                if task is not None:
                    attempt = 1
                elif again:
                    task, attempt = again.popleft()
                else:
                    break
                future = client.submit(run, task, pure=False, resources=resources)
                running[future] = (task, attempt)
                future.add_done_callback(ready.put)
            if not running:
                return
            future = None
            with suppress(Empty):
                future = ready.get(timeout=RECOUNT_SECONDS)
            if (now := time.monotonic()) - counted > RECOUNT_SECONDS:
                room, counted = _room(client), now
                alone = None if room else alone or now
                if alone is not None and now - alone > LONELY_SECONDS:
                    raise ClusterError(
                        f"no worker is left, {len(running)} tasks wait: start workers, and run the "
                        "same command again"
                    )
            if future is None:
                continue
            task, attempt = running.pop(future)
            try:
                outcome: Outcome[T, R] = Outcome(task, future.result(), None)
            except Exception as error:  # whatever a video does to us is a row in the failures
                outcome = Outcome(task, None, error)
            future.release()
            if outcome.error is not None and attempt < ATTEMPTS and may_pass(outcome.error):
                again.append((task, attempt + 1))
            else:
                yield outcome
    finally:
        if running:
            client.cancel(list(running), force=True)


def _room(client: Client) -> int:
    threads: int = sum(client.nthreads().values())
    return AHEAD * threads


def may_pass(error: BaseException) -> bool:
    """Whether a task that failed like this may succeed when it is tried again."""
    if isinstance(error, CommClosedError | TimeoutError | ConnectionError | DecoderKilled):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING
