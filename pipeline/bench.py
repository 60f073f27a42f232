"""Throughput as ratios: everything is interleaved in one run on one machine."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..data_manifests.synthetic import write_scene
from ..extractors.base import Precision, Runtime
from ..extractors.decode import read_frames
from ..extractors.inception_i3d import CARDS, InceptionI3d, Mixed, network_flops
from ..extractors.inference import load_video_network, resolve_precision
from ..extractors.probe_file import probe_video
from ..extractors.weights import ResolvedWeights
from .engine import cpu_count

CLIP = (16, 224, 224)
BATCH = 2
MATMUL = 2048


def bench_i3d(*, repeats: int = 5) -> tuple[dict[str, Any], list[str]]:
    """Clips/s of Inception-I3D on the CPU: a plain loop against ours; matmul and decode rates.

    The plain loop is the network as public PyTorch implementations write it: fp32, NCDHW, batch
    norm by itself, zero-padded max pools. All contestants take turns `repeats` times. Weights are
    random: speed does not depend on them.

    Returns:
        Values for machines (best and median of each), and lines for people.
    """
    weights = ResolvedWeights(CARDS[0], "random:0", None)
    contestants: dict[str, tuple[str, float, Callable[[], object]]] = {}
    videos = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (BATCH, *CLIP, 3), dtype=np.uint8)
    )
    plain = InceptionI3d().eval()
    for module in plain.modules():  # as public implementations write it: torch's pool, padded
        if isinstance(module, Mixed):
            module.pool = _padded_max_pool

    def plain_loop() -> None:
        with torch.no_grad():
            for video in videos:
                x = (video.permute(3, 0, 1, 2)[None].float() - 127.5) / 127.5
                plain(x.contiguous())

    contestants["plain fp32 loop"] = ("clips/s", BATCH, plain_loop)
    precisions: list[Precision] = ["fp32"]
    if resolve_precision("auto", "cpu") == "bf16":
        precisions.append("bf16")
    for precision in precisions:
        network = load_video_network(InceptionI3d, weights, precision, Runtime(batch_size=BATCH))
        contestants[f"ours {precision}"] = ("clips/s", BATCH, lambda n=network: n(videos))  # type: ignore[misc]
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        if precision in precisions:
            a = torch.randn(MATMUL, MATMUL).to(dtype)
            contestants[f"matmul {precision}"] = (
                "GFLOP/s",
                2 * MATMUL**3 / 1e9,
                lambda a=a: a @ a,  # type: ignore[misc]
            )
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene", n_train=1, n_test=1, frames=100)
        row = probe_video(next((scene / "train").glob("*.mp4")))
        contestants["decode 320x240 H.264"] = (
            "frames/s",
            row.n_frames,
            lambda: sum(1 for _ in read_frames(row)),
        )
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _, _, run in contestants.values():
            run()  # warm up
        for _ in range(repeats):
            for name, (_, _, run) in contestants.items():
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
    units = {name: unit for name, (unit, _, _) in contestants.items()}
    rates = {
        name: {
            "best": amount / min(times[name]),
            "median": amount / median(times[name]),
        }
        for name, (_, amount, _) in contestants.items()
    }
    base = rates["plain fp32 loop"]
    gflop = network_flops(*CLIP) / 1e9
    ratios = {
        name: {kind: rates[name][kind] / base[kind] for kind in ("best", "median")}
        for name in (f"ours {p}" for p in precisions)
    }
    matmul_share = {
        f"ours {p}": {
            kind: rates[f"ours {p}"][kind] * gflop / rates[f"matmul {p}"][kind]
            for kind in ("best", "median")
        }
        for p in precisions
    }
    machine = hardware("cpu")
    values = {
        "hardware": machine,
        "clip": list(CLIP),
        "gflop_per_clip": gflop,
        "repeats": repeats,
        "units": units,
        "rates": rates,
        "ratio_to_plain": ratios,
        "share_of_matmul": matmul_share,
    }
    lines = [
        ", ".join(f"{k} {v}" for k, v in machine.items()),
        f"clip {CLIP[0]}x{CLIP[1]}x{CLIP[2]}, {gflop:.1f} GFLOP; best / median of {repeats}",
    ]
    for name, rate in rates.items():
        line = f"{name:22} {rate['best']:10.2f} / {rate['median']:10.2f} {units[name]}"
        if name in ratios:
            line += f"   {ratios[name]['best']:.2f} / {ratios[name]['median']:.2f} x plain"
            line += f"   {100 * matmul_share[name]['median']:.0f} % of matmul"
        lines.append(line)
    return values, lines


def _padded_max_pool(x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool3d(functional.pad(x, (1,) * 6), 3, 1)


def hardware(device: str) -> dict[str, str | int]:
    """What a rate was measured on."""
    facts: dict[str, str | int] = {
        "processor": _processor(),
        "cores": cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return facts


def _processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
