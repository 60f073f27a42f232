"""Where tasks run: threads of this process, processes of this host, or a cluster."""

from __future__ import annotations

import ipaddress
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from distributed import Client, Nanny, Scheduler, Security, SpecCluster
from distributed.comm.core import CommClosedError
from distributed.core import Status

from ...data_manifests.atomic import write_text
from ...data_manifests.errors import VadpipeError
from ...data_manifests.leftovers import name_semaphores, own_prefix, remove_leftovers
from ...extractors.base import Precision, PrecisionRequest
from .settings import Engine
from .shared_context import SharedContext

CONNECT_SECONDS = 30.0
_FORM = "give tls://HOST:PORT"

# Run in each worker process: a terminal sends ctrl-C to them too, but this process ends them.
_QUIET = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

# Names a file in the environment of worker processes. One that runs the script up to the call that
# starts worker processes makes it and ends.
RAN_AGAIN = "VADPIPE_RAN_AGAIN"
GUARD = (
    'put what the script does under `if __name__ == "__main__":`, or run without worker processes '
    "(workers=0)"
)


class ClusterError(VadpipeError, RuntimeError):
    """A cluster that cannot be used; the message says what to do."""


@contextmanager
def open_client(engine: Engine | None = None, *, threads: int | None = None) -> Iterator[Client]:
    """A dask client: threads of this process, local worker processes, or a cluster by address.

    Worker processes that are started here listen on loopback only and talk by TLS. Its certificate
    is made for this client, and without it nothing answers. Threads of this process open no port
    for tasks. Scratch files are in a folder that only this user may enter.

    Args:
        engine:
            Where tasks run; None takes this process.
        threads:
            Tasks at once in each process; None takes the engine's streams.

    Raises:
        ClusterError: the cluster cannot be reached or trusted, or has no workers; worker processes
            do not start.
        ExtractorError: there is no such device.
        SystemExit: this is a worker process that is starting, see `check_script`.
    """
    engine = engine or Engine()
    for name in ("distributed", "tornado.application"):  # Ctrl-C may end a call of theirs half-way
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if engine.scheduler is not None:
        with _connected(engine, engine.scheduler) as client:
            yield client
        return
    threads = threads or engine.streams_each()
    with _in_force.used() as scratch, _safe_path.used():
        if engine.processes():
            check_script()
            remove_leftovers()
            name_semaphores()
            cluster: Any = Processes(engine, threads, scratch)
            client = Client(cluster)
        else:
            client = _in_process(engine, threads)
            cluster = client.cluster
        try:
            yield client
        finally:
            client.close()
            cluster.close()


def _in_process(engine: Engine, threads: int) -> Client:
    try:
        return Client(
            processes=False,
            protocol="inproc://",
            n_workers=1,
            threads_per_worker=threads,
            memory_limit=0,
            # Both addresses would listen on all interfaces otherwise, dashboard or not.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            resources={"GPU": 1} if engine.on_gpu else None,
        )
    except RuntimeError as error:
        raise ClusterError(f"the threads of a run did not start ({error}): try again") from error


@contextmanager
def _without_working_directory() -> Iterator[None]:
    """Let no Python that is started meanwhile import from the working directory.

    A worker process begins with `python -c`, which looks there first, also for the modules of
    Python itself: in /tmp, any user could have put one. It then takes the paths of this process.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before


_safe_path = SharedContext(_without_working_directory)


@contextmanager
def _dask_settings() -> Iterator[Path]:
    """Set Dask up for this process, with a folder of scratch files.

    Its settings are of the process. Were they of a run, the run that ends first would take them
    from the others, and its folder with them.
    """
    with (
        tempfile.TemporaryDirectory(prefix=own_prefix(), ignore_cleanup_errors=True) as scratch,
        dask.config.set(_settings(scratch)),
    ):
        yield Path(scratch)


_in_force = SharedContext(_dask_settings)


def _settings(scratch: str) -> dict[str, Any]:
    """Dask's settings for what is started here.

    Args:
        scratch:
            Folder of scratch files. Workers import from it, so no other user may write there; the
            default is a folder in /tmp that any user could have made before.
    """
    return {
        "temporary-directory": scratch,
        "distributed.worker.daemon": False,
        "distributed.scheduler.allowed-failures": 1,
        # A watcher starts a dead process again, however long that takes on a busy machine. The
        # cluster would close the watcher meanwhile.
        "distributed.deploy.lost-worker-timeout": "1 day",
        # The pages of a dashboard need no certificate, and tell of paths and tasks.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # Records of every task, for a dashboard, would grow with the number of tasks.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.log-length": 100,
        "distributed.admin.low-level-log-length": 100,
    }


def check_script() -> None:
    """Check that worker processes may be started here.

    A worker process imports the script of its parent first. Without a main guard it runs the whole
    script, up to the call that starts worker processes: there it ends, and leaves a file that says
    so to its parent.

    Raises:
        SystemExit: this is such a worker process.
        ClusterError: it is another process that is importing its script, or the script is no file.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):  # what multiprocessing itself looks at
        if process.name.startswith("Dask Worker"):
            if (sign := os.environ.get(RAN_AGAIN)) is not None:
                Path(sign).touch()
            raise SystemExit(1)
        raise ClusterError(f"another process is importing this script: {GUARD}")
    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)
    if file is not None and getattr(script, "__spec__", None) is None and not Path(file).exists():
        raise ClusterError(
            f"worker processes import the script, and there is no file {file}: save the script as "
            f"a file and {GUARD}"
        )


class Processes(SpecCluster):
    """Watched worker processes of this host: one for each GPU, or as many as asked for on a CPU.

    They listen on loopback only, by TLS; its certificate and key are in memory, and are handed to
    the processes through their pipes. A process that dies is started again by its watcher.

    Args:
        engine:
            Where tasks run.
        threads:
            Tasks at once in each process.
        scratch:
            Folder of this user.

    Raises:
        ClusterError: they do not start.
    """

    def __init__(self, engine: Engine, threads: int, scratch: Path) -> None:
        security = _temporary_security()
        self._specs = worker_specs(engine, threads, security)
        self._numbers = count(len(self._specs))
        here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
        tls = {"protocol": "tls://", "security": security}
        sign = scratch / f"ran-again-{uuid4().hex}"
        os.environ[RAN_AGAIN] = str(sign)  # worker processes look at it while they start
        try:
            super().__init__(
                workers=dict(enumerate(self._specs)),
                scheduler={"cls": Scheduler, "options": {**here, **tls}},
                security=security,
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            if sign.exists():
                raise ClusterError(
                    "a worker process has imported this script again and came to the call that "
                    f"starts worker processes: {GUARD}"
                ) from None
            raise ClusterError(
                f"worker processes did not start ({error}): see what they have printed, or try "
                "again"
            ) from error
        finally:
            os.environ.pop(RAN_AGAIN, None)

    def new_worker_spec(self) -> dict[int, dict[str, Any]]:
        """What `scale` starts next: a copy of one of the first workers, with a new name."""
        number = next(self._numbers)
        return {number: self._specs[number % len(self._specs)]}

    def revive(self) -> None:
        """Replace watchers that have ended; others start their process again by themselves.

        A watcher ends when its first process dies while it starts. One that is starting a process
        is left alone: to close it then may never come to an end.
        """
        for name, watcher in list(self.workers.items()):
            if watcher.status in (Status.closed, Status.failed) and name in self.worker_spec:
                self.worker_spec[next(self._numbers)] = self.worker_spec.pop(name)  # the same GPU
        self.scale(len(self._specs))


def _temporary_security() -> Security:
    """A certificate for one cluster, valid for a year and kept in memory.

    Its key is a file only while Python loads it, in a folder that only this user may enter.

    Raises:
        ClusterError: the library that makes it is missing.
    """
    try:
        security: Security = Security.temporary()
    except ImportError as error:
        raise ClusterError(f"{error}: worker processes talk by TLS only") from error
    return security


def worker_specs(engine: Engine, threads: int, security: Security) -> list[dict[str, Any]]:
    """The watchers of the worker processes. On GPUs, each process sees one GPU only.

    Args:
        engine:
            Where tasks run.
        threads:
            Tasks at once in each process.
        security:
            The certificate that all of the cluster have.
    """
    options: dict[str, Any] = {
        "security": security,
        "protocol": "tls://",
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "dashboard": False,
        "nthreads": threads,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "preload": [_QUIET],
    }
    if not engine.on_gpu:
        return [{"cls": Nanny, "options": options} for _ in range(engine.processes())]
    # cuda:N counts the GPUs that this process sees, which may be a part of those of the machine.
    ours = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    seen = [name.strip() for name in ours.split(",") if name.strip()]
    numbers = [int(name.partition(":")[2] or 0) for name in engine.devices()]
    if seen and max(numbers) >= len(seen):
        raise ClusterError(
            f"CUDA_VISIBLE_DEVICES={ours} leaves {len(seen)} GPUs, which count from cuda:0: there "
            f"is no cuda:{max(numbers)}"
        )
    places = [{"CUDA_VISIBLE_DEVICES": seen[n] if seen else str(n)} for n in numbers]
    return [
        {"cls": Nanny, "options": {**options, "resources": {"GPU": 1}, "env": env}}
        for env in places
    ]


class _Client(Client):
    """A client that is closed at once if it cannot connect.

    The garbage collector would close it at any later moment. If another client is starting in that
    moment, both wait for each other for ever.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except BaseException:
            with suppress(Exception):
                self.close()
            raise


@contextmanager
def _connected(engine: Engine, address: str) -> Iterator[Client]:
    check_address(address, insecure_loopback=engine.insecure_loopback)
    files = {
        "tls_ca_file": engine.tls_ca,
        "tls_client_cert": engine.tls_cert,
        "tls_client_key": engine.tls_key,
    }
    # What is not named here comes from dask's own configuration (distributed.comm.tls).
    named = {name: str(file) for name, file in files.items() if file is not None}
    secure = urlsplit(address).scheme == "tls"
    try:
        security = Security(**named, **({"require_encryption": True} if secure else {}))
        client = _Client(address, security=security, timeout=CONNECT_SECONDS)
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


def check_address(address: str, *, insecure_loopback: bool = False) -> None:
    """Check that a scheduler is reached by TLS.

    Who can talk to a scheduler can run any code on its workers, as the user of the workers, and
    send anything to this process. Without TLS this is each user of this host; on the way to
    another host it is also everyone in between.

    Args:
        address:
            Of the scheduler; without a scheme it is plain TCP.
        insecure_loopback:
            Accept plain TCP to a loopback address: no other user of this host may be a danger.

    Raises:
        ClusterError: the address is not encrypted, or is none.
    """
    full = address if "://" in address else f"tcp://{address}"
    if full.startswith("inproc://"):
        return
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ClusterError(f"{address!r} is no address ({error}): {_FORM}") from error
    if parts.scheme not in ("tls", "tcp", "ws") or not host or not port:
        raise ClusterError(f"{address!r} is no address of a scheduler: {_FORM}")
    if parts.scheme == "tls":
        return
    try:
        found = {ipaddress.ip_address(a[4][0]) for a in socket.getaddrinfo(host, None)}
    except (OSError, ValueError) as error:
        raise ClusterError(f"there is no host {host!r} ({error})") from error
    tls = f"use tls://{parts.netloc} with --tls-ca, --tls-cert and --tls-key"
    if not all(each.is_loopback for each in found):
        raise ClusterError(f"{address} can be reached by other hosts, and is not encrypted: {tls}")
    if not insecure_loopback:
        raise ClusterError(
            f"{address} is not encrypted: any user of this host can run code as you there. {tls}, "
            "or accept the risk where you trust all users of this host: --insecure-loopback "
            "(insecure_loopback = true in [engine])"
        )


def check_workers(client: Client, folders: Collection[Path]) -> None:
    """Check that all workers of a cluster have this version and see the same folders.

    Raises:
        ClusterError: a worker has another version, or does not see a folder.
    """
    tokens = [folder / f".seen-{uuid4().hex}" for folder in folders]
    try:
        for token in tokens:
            write_text(token, "")
        answers = client.run(_look, [str(token) for token in tokens], on_error="return")
    finally:
        for token in tokens:
            token.unlink(missing_ok=True)
    problems = []
    for worker, answer in answers.items():
        if isinstance(answer, CommClosedError):
            continue  # it has just died, and its tasks go to other workers
        if isinstance(answer, BaseException):
            problems.append(f"{worker} cannot run vadpipe: {answer}")
            continue
        theirs, unseen = answer
        if theirs != version("vadpipe"):
            problems.append(f"{worker} has vadpipe {theirs}, not {version('vadpipe')}")
        for token in unseen:
            folder = Path(token).parent
            problems.append(f"{worker} does not see {folder}: all need the same folder")
    if problems:
        raise ClusterError("the cluster cannot be used:", *(f"  {line}" for line in problems))


def _look(tokens: Sequence[str]) -> tuple[str, list[str]]:
    return version("vadpipe"), [token for token in tokens if not Path(token).is_file()]


def resolve_precision_of(engine: Engine, request: PrecisionRequest) -> Precision:
    """Settle a precision where the networks will run: here, or on a worker of the cluster.

    Raises:
        ExtractorError: that device lacks it.
        ClusterError: the cluster cannot be used.
    """
    from ...extractors.device.inference import resolve_precision  # torch takes seconds

    if engine.scheduler is None:
        return resolve_precision(request, engine.devices()[0])
    with open_client(engine) as client:
        future = client.submit(
            resolve_precision, request, engine.runtime().device, resources=share_of(engine)
        )
        precision: Precision = future.result()
        return precision


def share_of(engine: Engine) -> dict[str, float] | None:
    """What a task asks of a worker's resources, so that as many run at once as there are streams.

    Rounded down: the scheduler adds and subtracts shares, and rounding must not cost the last one.
    """
    return {"GPU": int(1e6 / engine.streams_each()) / 1e6} if engine.on_gpu else None
