"""Where a run takes place: devices, processes, spans in flight, threads."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.pipeline.engine import settings as engine_module
from vadpipe.pipeline.engine.cluster import share_of
from vadpipe.pipeline.engine.settings import CPU_STREAMS, MOST_STREAMS, Engine, cpu_count


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say how many GPUs and cores there are."""

    def has(gpus: int, cores: int = 16) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(engine_module, "cpu_count", lambda: cores)

    return has


def test_the_cpu_in_this_process(machine: Any) -> None:
    machine(gpus=4)
    engine = Engine()
    assert not engine.on_gpu and engine.devices() == ["cpu"]
    assert (engine.processes(), engine.streams_each()) == (0, CPU_STREAMS)
    assert engine.runtime() == Runtime("cpu", 16, None, False)


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(1, 16, 16), (3, 16, 5), (16, 16, 1), (40, 16, 1), (2, 1, 1)]
)
def test_workers_share_the_cores(machine: Any, workers: int, cores: int, threads: int) -> None:
    machine(gpus=0, cores=cores)
    engine = Engine(workers=workers)
    assert (engine.processes(), engine.streams_each()) == (workers, CPU_STREAMS)
    assert engine.runtime().threads == threads


@pytest.mark.parametrize(
    ("device", "devices", "processes", "runs_on"),
    [
        ("cuda", ["cuda:0", "cuda:1", "cuda:2"], 3, "cuda:0"),
        ("cuda:2", ["cuda:2"], 0, "cuda:2"),  # alone: in this process, which sees them all
        ("cuda:0, cuda:2", ["cuda:0", "cuda:2"], 2, "cuda:0"),
        ("cuda:1,cuda:2", ["cuda:1", "cuda:2"], 2, "cuda:0"),  # the only one that a process sees
    ],
)
def test_gpus_get_a_process_each_if_there_are_several(
    machine: Any, device: str, devices: list[str], processes: int, runs_on: str
) -> None:
    machine(gpus=3)
    engine = Engine(device=device)
    assert engine.on_gpu and engine.devices() == devices
    assert engine.processes() == processes
    assert engine.runtime().device == runs_on
    assert engine.runtime().threads == 16 // max(1, processes)


@pytest.mark.parametrize(
    ("gpus", "cores", "streams"),
    [(1, 8, 8), (1, 128, MOST_STREAMS), (4, 16, 4), (8, 8, CPU_STREAMS), (1, 1, CPU_STREAMS)],
)
def test_a_gpu_is_fed_by_its_share_of_the_cores(
    machine: Any, gpus: int, cores: int, streams: int
) -> None:
    machine(gpus=gpus, cores=cores)
    engine = Engine(device="cuda")
    assert engine.streams_each() == streams
    assert share_of(engine) == {"GPU": 1 / streams}
    assert Engine(device="cuda", streams=3).streams_each() == 3


def test_no_gpu_where_one_is_asked_for(machine: Any) -> None:
    machine(gpus=0)
    with pytest.raises(ExtractorError, match="take --device cpu"):
        Engine(device="cuda").devices()


def test_a_cluster_has_its_own_cores(machine: Any) -> None:
    """Its threads are those of each worker, which only the worker knows."""
    machine(gpus=0)
    assert Engine(scheduler="tls://host:1").runtime() == Runtime("cpu", None)
    assert Engine(scheduler="tls://host:1", threads=3).runtime().threads == 3


def test_a_cluster_has_its_own_gpus(machine: Any) -> None:
    """The process that starts the run needs none."""
    machine(gpus=0)
    engine = Engine(scheduler="tls://host:1", device="cuda")
    assert engine.runtime() == Runtime("cuda:0", None)
    assert engine.streams_each() >= CPU_STREAMS
    share = share_of(engine)
    assert share is not None and 0 < share["GPU"] <= 1


def test_what_is_set_is_taken(machine: Any) -> None:
    machine(gpus=0)
    engine = Engine(threads=5, streams=7, batch_size=9, compile=True, workers=2)
    assert engine.runtime() == Runtime("cpu", 5, 9, True)
    far = Engine(device="cuda", scheduler="tls://far:1", cuda_graphs=True)
    assert far.runtime() == Runtime("cuda:0", None, cuda_graphs=True)
    assert engine.streams_each() == 7
    assert engine.limits == DecodeLimits() and not engine.retry_quarantined


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"workers": 2, "scheduler": "127.0.0.1:1"}, "--workers starts processes here"),
        ({"tls_cert": "cert.pem"}, "--tls-cert and --tls-key belong together"),
        ({"tls_key": "key.pem"}, "--tls-cert and --tls-key belong together"),
        ({"insecure_loopback": True}, "about an existing --scheduler"),
        ({"cuda_graphs": True}, "--cuda-graphs is for GPUs: name one"),
        ({"cuda_graphs": True, "device": "cuda", "compile": True}, "two ways to one end"),
        ({"worker": 2}, "worker"),
        ({"limits": {"hour": 2}}, "hour"),
        ({"workers": -1}, "workers"),
        ({"threads": 0}, "threads"),
        ({"streams": 0}, "streams"),
        ({"batch_size": 0}, "batch_size"),
        ({"span_frames": 0}, "span_frames"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Engine.model_validate(settings)


def test_settings_that_belong_together_are_taken() -> None:
    engine = Engine.model_validate({"scheduler": "a:1", "tls_cert": "c.pem", "tls_key": "k.pem"})
    assert str(engine.tls_cert) == "c.pem"
    with pytest.raises(ValidationError, match="frozen"):
        engine.workers = 1  # type: ignore[misc]


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8}, raising=False)
    assert cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # a Mac has none
    assert cpu_count() == 64


def test_a_detector_runs_here_also_where_the_gpus_are_elsewhere(machine: Any) -> None:
    machine(gpus=0)
    far = Engine(device="cuda", scheduler="tls://far:8786")
    assert (far.own_device(), Engine().own_device()) == ("cpu", "cpu")
    assert far.processes() == 0, "the cluster's GPUs are not looked for here"
    with pytest.raises(ExtractorError, match="no CUDA device"):
        Engine(device="cuda").own_device()
    machine(gpus=2)
    for device in ("cuda:2", "cuda:0,cuda:5"):
        with pytest.raises(ExtractorError, match=r"\(2 CUDA devices found\)"):
            Engine(device=device).own_device()
    assert Engine(device="cuda").own_device() == "cuda:0"
    assert Engine(device="cuda:1").own_device() == "cuda:1"
