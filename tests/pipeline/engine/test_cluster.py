"""Clients: threads, processes, GPUs, clusters with and without TLS; and no open doors."""

from __future__ import annotations

import itertools
import os
import random
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, Security
from distributed.core import Status

from tests.dask_cluster import cluster
from vadpipe.extractors.device import present
from vadpipe.pipeline.engine import cluster as cluster_module
from vadpipe.pipeline.engine.cluster import (
    ClusterError,
    Processes,
    check_address,
    check_workers,
    open_client,
    resolve_precision_of,
    share_of,
    worker_specs,
)
from vadpipe.pipeline.engine.execute import run_tasks
from vadpipe.pipeline.engine.settings import Engine


def halve(n: int) -> int:
    return n // 2


def visible_gpus(_: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "none")


def listening() -> list[tuple[str, int]]:
    """The addresses at which this process and its children listen."""
    me = psutil.Process()
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]


def said_to_a_stranger(port: int, seconds: float) -> bytes:
    """What a server says first to a connection without a certificate, plain and by TLS.

    Args:
        port:
            Of this host.
        seconds:
            A server that is silent for so long says nothing.
    """
    said = b""
    with (
        suppress(TimeoutError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as plain,
    ):
        plain.sendall(b"GET /json/identity.json HTTP/1.0\r\n\r\n" + bytes(64))
        said += plain.recv(4096)
    if len(said) > 20:
        return said  # more than an alert of TLS
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with (
        suppress(ssl.SSLError, TimeoutError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as stream,
        anyone.wrap_socket(stream) as wrapped,
    ):
        said += wrapped.recv(4096)
    return said


def test_nothing_listens_beyond_loopback() -> None:
    before = set(listening())
    for engine in (Engine(), Engine(workers=1)):
        with open_client(engine) as client:
            assert next(iter(run_tasks(client, halve, [4]))).value == 2
            assert {ip for ip, _ in listening()} <= {"127.0.0.1", "::1"}
            if not engine.workers:  # no port for tasks, only empty pages
                assert client.scheduler.address.startswith("inproc://")
                for _, port in set(listening()) - before:
                    assert said_to_a_stranger(port, 60.0).startswith(b"HTTP/1.1 404 ")


def test_the_key_of_a_run_is_a_file_only_where_no_other_user_may_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[tuple[Path, int]] = []
    plain = ssl.SSLContext.load_cert_chain

    def load(self: ssl.SSLContext, certfile: str, keyfile: str, *rest: Any) -> None:
        loaded.extend((path, path.parent.stat().st_mode) for path in map(Path, (certfile, keyfile)))
        plain(self, certfile, keyfile, *rest)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    cluster_module._temporary_security().get_connection_args("scheduler")
    assert len(loaded) == 2 and all(mode & 0o777 == 0o700 for _, mode in loaded)
    assert not any(path.exists() for path, _ in loaded)


def test_a_connection_without_the_certificate_gets_nothing() -> None:
    before = set(listening())
    with open_client(Engine(workers=1)) as client:
        assert next(iter(run_tasks(client, halve, [4]))).value == 2
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert all(worker.startswith("tls://") for worker in client.nthreads())
        opened = set(listening()) - before
        assert len(opened) >= 3, "the scheduler, a watcher and its worker"
        for _, port in opened:
            said = said_to_a_stranger(port, 1.0)
            # an alert of TLS, or a server of pages that has none
            assert len(said) <= 20 or said.startswith(b"HTTP/1.1 404 "), said
        for stranger, other in (
            (address.replace("tls://", "tcp://"), None),
            (address, Security.temporary()),
        ):
            with pytest.raises(OSError):
                Client(stranger, security=other, timeout=1, set_as_default=False)


def test_a_plain_scheduler_answers_anyone() -> None:
    """What the test above asks does find an open door."""
    with cluster() as address:
        assert len(said_to_a_stranger(int(address.rpartition(":")[2]), 30.0)) > 20


@pytest.mark.parametrize("engine", [Engine(), Engine(workers=1)])
def test_nobody_else_can_put_files_where_workers_import_from(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder of all users, such as /tmp
    for name in ("threading", "pickle", "socket"):  # the first that a worker imports
        (tmp_path / f"{name}.py").write_text(f"open('ran', 'a').write('{name}')")
    with open_client(engine) as client:
        found = client.run(lambda dask_worker: dask_worker.local_directory).values()
        local = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.local_directory)
        for folder in map(Path, (*found, local)):
            owned = [f for f in folder.parents if f.name.startswith("vadpipe-")]
            assert len(owned) == 1 and owned[0].stat().st_mode & 0o777 == 0o700
            assert owned[0].stat().st_uid == os.getuid()
    assert not owned[0].exists() and not (tmp_path / "ran").exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_runs_of_one_process_share_the_settings_until_the_last_one_ends() -> None:
    """The first to end took the settings and the scratch folder of the others with it."""
    before = dask.config.get("temporary-directory", None)
    first, second = open_client(threads=1), open_client(threads=1)
    with first:
        scratch = Path(dask.config.get("temporary-directory"))
        client = second.__enter__()
    try:
        assert Path(dask.config.get("temporary-directory")) == scratch
        assert scratch.is_dir()
        assert client.submit(os.getpid).result() == os.getpid()
        with open_client(threads=1) as third:  # it starts while the second one is at work
            assert third.submit(os.getpid).result() == os.getpid()
        assert scratch.is_dir()
    finally:
        second.__exit__(None, None, None)
    assert not scratch.exists()
    assert dask.config.get("temporary-directory", None) == before


def test_threads_that_do_not_start_are_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Worker failed to start.")

    monkeypatch.setattr(cluster_module, "Client", refuse)
    with pytest.raises(ClusterError, match="did not start"), open_client(threads=1):
        pass


def test_every_gpu_has_a_process_that_sees_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here touches CUDA: the processes only look at what they were told."""
    monkeypatch.setattr(present, "cuda_count", lambda: 4)
    engine = Engine(device="cuda:0,cuda:3", streams=2)
    specs = worker_specs(engine, 2, Security())
    assert [s["options"]["env"]["CUDA_VISIBLE_DEVICES"] for s in specs] == ["0", "3"]
    assert (engine.processes(), engine.runtime().device) == (2, "cuda:0")
    with open_client(engine) as client:
        found = list(run_tasks(client, visible_gpus, range(8), resources=share_of(engine)))
    assert {o.value for o in found} == {"0", "3"} and not any(o.error for o in found)


def test_an_existing_cluster_by_its_address(tmp_path: Path) -> None:
    with cluster() as address:
        engine = Engine(scheduler=address, insecure_loopback=True)
        with open_client(engine) as client:
            check_workers(client, [tmp_path])
            assert sorted(o.value for o in run_tasks(client, halve, [2, 4, 6])) == [1, 2, 3]
            assert not list(tmp_path.iterdir())
        assert resolve_precision_of(engine, "fp32") == "fp32"
        with (
            pytest.raises(ClusterError, match="--resources GPU=1"),
            open_client(Engine(scheduler=address, device="cuda", insecure_loopback=True)),
        ):
            pass
        # another process owns the cluster: it is still there
        with Client(address) as client:
            assert len(client.nthreads()) == 2


def test_gpu_tasks_wait_for_a_gpu() -> None:
    with cluster(resources=True) as address:
        engine = Engine(scheduler=address, device="cuda", streams=2, insecure_loopback=True)
        assert share_of(engine) == {"GPU": 0.5} and share_of(Engine()) is None
        with open_client(engine) as client:
            outcomes = run_tasks(client, halve, [2, 4], resources=share_of(engine))
            assert sorted(o.value for o in outcomes) == [1, 2]


def test_workers_that_lack_the_cache_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_client() as client:
        monkeypatch.setattr(cluster_module, "_look", lambda tokens: ("0.0.0", tokens))
        with pytest.raises(ClusterError) as error:
            check_workers(client, [tmp_path])
    assert "has vadpipe 0.0.0" in str(error.value) and f"does not see {tmp_path}" in str(
        error.value
    )


@pytest.mark.parametrize("address", ["tls://example.org:8786", "tls://127.0.0.1:1", "inproc://x"])
def test_addresses_that_are_trusted(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "tcp://localhost:8786", "ws://[::1]:8786"])
def test_plain_tcp_is_refused_unless_the_risk_is_accepted(address: str) -> None:
    with pytest.raises(ClusterError, match=r"any user of this host .*--insecure-loopback"):
        check_address(address)
    with pytest.raises(ClusterError, match="--insecure"), open_client(Engine(scheduler=address)):
        pass
    check_address(address, insecure_loopback=True)


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("address", ["198.51.100.7:8786", "tcp://0.0.0.0:1"])
def test_other_hosts_need_tls(address: str, accept: bool) -> None:
    with pytest.raises(ClusterError, match=r"by other hosts.*use tls://[\d.]+:.*--tls-ca"):
        check_address(address, insecure_loopback=accept)


@pytest.mark.parametrize(
    "address",
    [
        *("", " ", "tls://", "tls://example.org", "tls://127.0.0.1:99999", "127.0.0.1:port"),
        *("tcp://[::1", "wss://127.0.0.1:1", "http://127.0.0.1:80", "ucx://127.0.0.1:1"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="give tls://HOST:PORT"):
        check_address(address, insecure_loopback=True)


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(ClusterError, match="no scheduler answers"),
        open_client(Engine(scheduler="tcp://127.0.0.1:1", insecure_loopback=True)),
    ):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=vadpipe-test", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_an_encrypted_cluster(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    security = Security(
        tls_ca_file=str(cert),
        tls_scheduler_cert=str(cert),
        tls_scheduler_key=str(key),
        tls_worker_cert=str(cert),
        tls_worker_key=str(key),
        tls_client_cert=str(cert),
        tls_client_key=str(key),
        require_encryption=True,
    )
    with cluster(security=security) as address:
        assert address.startswith("tls://")
        engine = Engine(scheduler=address, tls_ca=cert, tls_cert=cert, tls_key=key)
        with open_client(engine) as client:
            check_workers(client, [tmp_path])
            assert next(iter(run_tasks(client, halve, [4]))).value == 2
        with pytest.raises(ClusterError), open_client(Engine(scheduler=address)):
            pass
        # what is not named comes from dask's own configuration
        own = {"ca-file": str(cert), "client.cert": str(cert), "client.key": str(key)}
        with (
            dask.config.set({f"distributed.comm.tls.{k}": v for k, v in own.items()}),
            open_client(Engine(scheduler=address)) as client,
        ):
            assert next(iter(run_tasks(client, halve, [4]))).value == 2


def test_a_client_that_cannot_connect_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the garbage collector closes it, another client that starts meanwhile waits for ever."""
    made: list[Client] = []
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    real = Client.start

    def start(self: Client, **options: Any) -> None:
        made.append(self)
        real(self, **options)

    monkeypatch.setattr(Client, "start", start)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # it does not listen
        engine = Engine(
            scheduler=f"tcp://127.0.0.1:{closed.getsockname()[1]}", insecure_loopback=True
        )
        with pytest.raises(ClusterError, match="no scheduler answers"), open_client(engine):
            pass
    (client,) = made
    assert client.status == "closed"


def test_a_watcher_that_has_ended_is_replaced_and_no_other() -> None:
    with open_client(Engine(workers=2)) as client:
        assert isinstance(client.cluster, Processes)
        before = set(client.run(os.getpid).values())
        client.cluster.revive()
        assert set(client.run(os.getpid).values()) == before, "all of them are alive"
        name, watcher = next(iter(client.cluster.workers.items()))
        ended = watcher.process.pid
        client.cluster.sync(watcher.close)
        client.cluster.revive()
        deadline = time.monotonic() + 300
        while True:
            now = set(client.run(os.getpid, on_error="ignore").values())
            if len(now) == 2:
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert now & before == before - {ended}
        assert name not in client.cluster.workers
        assert [o.value for o in run_tasks(client, halve, [4])] == [2]


def test_a_watcher_is_replaced_by_one_of_the_same_gpu() -> None:
    cluster = object.__new__(Processes)
    specs = [{"options": {"env": {"CUDA_VISIBLE_DEVICES": str(n)}}} for n in range(2)]
    cluster._specs, cluster._numbers = specs, itertools.count(2)
    cluster.worker_spec = dict(enumerate(specs))
    cluster.workers = {
        0: SimpleNamespace(status=Status.running),
        1: SimpleNamespace(status=Status.failed),
    }
    asked: list[int] = []
    cluster.scale = asked.append
    cluster.revive()
    assert cluster.worker_spec == {0: specs[0], 2: specs[1]} and asked == [2]


def test_a_slow_start_does_not_cost_the_watcher() -> None:
    """On a busy machine a dead process may take longer than the 15 seconds of the default."""
    with open_client(Engine(workers=1)):
        waits = dask.utils.parse_timedelta(
            dask.config.get("distributed.deploy.lost-worker-timeout")
        )
        assert waits >= 3600


def test_gpus_are_those_of_this_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system hands out some of a machine's GPUs; other jobs use the others."""
    engine = Engine(device="cuda:0,cuda:1")
    monkeypatch.setattr(present, "cuda_count", lambda: 2)

    def seen() -> list[str]:
        specs = worker_specs(engine, 4, Security())
        return [spec["options"]["env"]["CUDA_VISIBLE_DEVICES"] for spec in specs]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f1e")
    assert seen() == ["2", "GPU-8f1e"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(ClusterError, match="leaves 1 GPUs, which count from cuda:0"):
        seen()


@pytest.mark.parametrize("streams", range(1, 17))
def test_all_streams_fit_onto_a_gpu_whatever_ends_first(streams: int) -> None:
    """The worker adds and takes away in floating point."""
    share = share_of(Engine(device="cuda", streams=streams))
    assert share is not None
    free, rng = 1.0, random.Random(0)
    running = 0
    for _ in range(2000):
        while free >= share["GPU"]:
            free, running = free - share["GPU"], running + 1
        assert running == streams
        for _ in range(rng.randint(1, running)):
            free, running = free + share["GPU"], running - 1


NO_GUARD = """
from vadpipe.pipeline.engine.cluster import open_client
from vadpipe.pipeline.engine.settings import Engine

with open_client(Engine(workers=2)):
    pass
"""


def run_script(tmp_path: Path, *, by_path: bool) -> str:
    """What a script without main guard prints when it fails; checks that no process is left."""
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD, encoding="utf-8")
    environment = {**os.environ, "VADPIPE_TEST": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script) if by_path else "-"],
        input=None if by_path else NO_GUARD,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 1 and not done.stdout
    for process in psutil.process_iter(["environ"]):
        ours = (process.info["environ"] or {}).get("VADPIPE_TEST")
        assert ours != str(tmp_path), f"{process} is left"
    return done.stderr


def test_a_script_without_main_guard_is_told_so(tmp_path: Path) -> None:
    printed = run_script(tmp_path, by_path=True)
    assert printed.count("Traceback") == 1 and len(printed.splitlines()) < 30, printed
    last = printed.splitlines()[-1]
    assert "has imported this script again" in last
    assert 'if __name__ == "__main__":' in last and "workers=0" in last


def test_a_script_that_is_no_file_is_told_so(tmp_path: Path) -> None:
    printed = run_script(tmp_path, by_path=False)
    assert "there is no file <stdin>" in printed and 'if __name__ == "__main__":' in printed


def test_worker_processes_that_die_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_QUIET", "import os; os._exit(3)")
    with (
        pytest.raises(ClusterError, match=r"did not start .*see what they have printed"),
        open_client(Engine(workers=1)),
    ):
        pass
