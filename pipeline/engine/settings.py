"""Where and how an extraction runs; nothing here is part of a key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from ...data_manifests.settings import Settings
from ...extractors.base import Runtime
from ...extractors.device.present import check_device, cuda_count
from ...extractors.errors import ExtractorError
from ...extractors.footage.identity import HashMode
from ...extractors.footage.limits import DecodeLimits

SPAN_FRAMES = 16_384  # about ten minutes
PIXEL_SPAN_FRAMES = 1024  # where pixels are kept: a span is in memory until it is written
CPU_STREAMS = 2  # one video is decoded and written while the network works on another
MOST_STREAMS = 16


class ProbeOptions(Settings):
    """How files are opened.

    Attributes:
        hash_mode: "sampled" reads a few MiB of each file to tell it from others, "full" all of it.
        image_fps: nominal frames per second of image folders, and of videos without footage.
        decode: decode everything: exact frame counts and corrupt frames.
        limits: what a file may cost.
        retry_quarantined: open files again that have ended a process.
    """

    hash_mode: HashMode = "sampled"
    image_fps: float = Field(default=25.0, gt=0)
    decode: bool = False
    limits: DecodeLimits = DecodeLimits()
    retry_quarantined: bool = False


class Engine(Settings):
    """Settings of a run. They change results by the last bits of a number at most.

    Attributes:
        device: "cpu", "cuda" (all GPUs), "cuda:1", or several joined with commas.
        workers: local processes on the CPU; 0 runs in this process. Of several GPUs, each gets one
            process.
        scheduler: address of an existing Dask cluster.
        tls_ca: file of the certificate authority, for a scheduler at tls://.
        tls_cert: file of this side's certificate.
        tls_key: file of its key.
        insecure_loopback: accept a scheduler of this host without TLS: any user of this host can
            then run code as you on its workers.
        threads: CPU threads of a network; None shares the cores among the processes.
        streams: spans in flight for each process; None: 2 on a CPU, on a GPU one for each core.
        batch_size: clips that go through a network at once; None tries out what is fastest.
        compile: let torch.compile rewrite networks.
        cuda_graphs: on GPUs, record networks as CUDA graphs and replay them.
        span_frames: frames a span.
        limits: what a file may cost.
        retry_quarantined: open files again that have ended a process.
    """

    device: str = "cpu"
    workers: int = Field(default=0, ge=0)
    scheduler: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure_loopback: bool = False
    threads: int | None = Field(default=None, ge=1)
    streams: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    compile: bool = False
    cuda_graphs: bool = False
    span_frames: int = Field(default=SPAN_FRAMES, ge=1)
    limits: DecodeLimits = DecodeLimits()
    retry_quarantined: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.scheduler is not None and self.workers:
            raise ValueError("--workers starts processes here; an existing --scheduler has its own")
        if not re.fullmatch(r"cpu|cuda|cuda:\d+(, *cuda:\d+)*", self.device):
            raise ValueError(
                f"device {self.device!r} is unknown: take cpu, cuda, cuda:N or several"
            )
        if self.cuda_graphs and (self.compile or not self.on_gpu):
            raise ValueError(
                "--cuda-graphs is for GPUs: name one with --device"
                if not self.on_gpu
                else "--cuda-graphs and --compile are two ways to one end: choose one"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together")
        if self.insecure_loopback and self.scheduler is None:
            raise ValueError("--insecure-loopback is about an existing --scheduler: name it")
        return self

    def probing(self, options: ProbeOptions) -> ProbeOptions:
        """Options of a probe before this engine runs: with its limits."""
        own = {"limits": self.limits, "retry_quarantined": self.retry_quarantined}
        return options.model_copy(update=own)

    @property
    def on_gpu(self) -> bool:
        """Whether networks run on GPUs."""
        return self.device.startswith("cuda")

    def devices(self) -> list[str]:
        """The devices of this machine, one by one.

        Raises:
            ExtractorError: there is no such device.
        """
        if self.device != "cuda":
            return [check_device(name.strip()) for name in self.device.split(",")]
        if not (count := cuda_count()):
            raise ExtractorError("there is no CUDA device here: take --device cpu")
        return [f"cuda:{number}" for number in range(count)]

    def own_device(self) -> str:
        """Where this process itself computes (a detector): the CPU where a cluster has the GPUs.

        Raises:
            ExtractorError: there is no such device.
        """
        return "cpu" if self.scheduler is not None else self.devices()[0]

    def processes(self) -> int:
        """Local worker processes; 0 runs everything in this one."""
        if self.scheduler is not None or not self.on_gpu:
            return self.workers  # the GPUs of a cluster are not those of this machine
        devices = self.devices()
        return len(devices) if len(devices) > 1 else self.workers

    def streams_each(self) -> int:
        """Spans in flight for each process."""
        if self.streams is not None:
            return self.streams
        if not self.on_gpu:
            return CPU_STREAMS
        if self.scheduler is not None:
            return MOST_STREAMS  # an upper bound; the threads of its workers are fewer
        return max(CPU_STREAMS, min(MOST_STREAMS, cpu_count() // len(self.devices())))

    def runtime(self) -> Runtime:
        """How networks run in each process of this machine, or of the cluster.

        A process that has one of several GPUs sees no other: there it is number 0.
        """
        device, threads = "cuda:0" if self.on_gpu else "cpu", self.threads
        if self.scheduler is None:
            processes = self.processes()
            threads = threads or max(1, cpu_count() // max(1, processes))
            if self.on_gpu and not processes:
                device = self.devices()[0]
        return Runtime(device, threads, self.batch_size, self.compile, self.cuda_graphs)


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
