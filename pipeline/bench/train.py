"""Training and scoring of the weakly supervised detectors at paper size, on synthetic features."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...data_manifests.record import VideoRecord
from ...detectors.base import Bag, BagSource, Row, Track, VideoRows, grid_of
from ...detectors.mil import MILDetector, count_parameters
from ...detectors.segments import FeatureLayout
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from ...extractors.footage.video import ProbeRow
from ..bags import StoreBags
from ..models import make_detector
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from .race import hardware

SEGMENTS, SNIPPET, FPS = 32, 16, 30.0
SCALES = ((2, 3), (3, 5), (4, 7))  # 49 patches, SSRL Sect. 4.2
FIT = {"rtfm": ("snippet",), "ssrl": ("snippet", "patch")}


@dataclass(frozen=True)
class ProblemSize:
    """How large the problem is; the defaults are those of the SSRL paper.

    Attributes:
        pairs: videos of each class in a batch, and in the set.
        crops: of the full frame.
        width: D.
        minutes: length of the video that is scored.
    """

    pairs: int = 32
    crops: int = 10
    width: int = 2048
    minutes: float = 10.0

    def shapes(self) -> dict[str, tuple[int, int]]:
        """role -> (crops or patches, D)."""
        patches = {f"patch/{r}x{c}": (r * c, self.width) for r, c in SCALES}
        return {"snippet": (self.crops, self.width), **patches}


class _Drawn:
    """Videos of 32 snippets; every one is drawn when it is asked for."""

    def __init__(self, size: ProblemSize, roles: Sequence[str]) -> None:
        self._shapes = {r: s for r, s in size.shapes().items() if r.split("/")[0] in roles}
        self._videos = 2 * size.pairs

    def __len__(self) -> int:
        return self._videos

    def __iter__(self) -> Iterator[Bag]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Bag:
        start = np.arange(SEGMENTS, dtype=np.int64) * SNIPPET
        rng = np.random.default_rng(i)
        tracks = {
            role: Track(
                rng.standard_normal((SEGMENTS, *shape), dtype=np.float32),
                start,
                start + SNIPPET,
                _grid(role),
            )
            for role, shape in self._shapes.items()
        }
        return Bag(f"v{i:04d}", i % 2, SEGMENTS * SNIPPET, FPS, tracks)

    def subset(self, indices: Sequence[int]) -> BagSource:
        raise NotImplementedError("the bench fits on all videos")

    def video_rows(self, role: str) -> VideoRows:
        raise NotImplementedError("the detectors of the bench pool whole videos")


def bench_train(
    *, steps: int = 2, device: str = "cpu", size: ProblemSize | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Iterations/s of `rtfm` and of every stage of `ssrl`, where the time goes, and scoring.

    Each stage takes one step to warm up and `steps` that count; the data are resident.

    Returns:
        Values for machines, and lines for people.
    """
    size = size or ProblemSize()
    values: dict[str, Any] = {
        "hardware": hardware(device),
        "size": vars(size) | {"segments": SEGMENTS, "scales": [f"{r}x{c}" for r, c in SCALES]},
        "steps": steps,
        "train": {},
        "score": {},
    }
    lines = [
        ", ".join(f"{k} {v}" for k, v in values["hardware"].items()),
        f"{size.pairs} + {size.pairs} videos, {SEGMENTS} segments, {size.crops} crops, D = "
        f"{size.width}; {steps} steps after one",
    ]
    for name, roles in FIT.items():
        settings = {"steps": steps + 1, "batch_size": size.pairs}
        detector = make_detector(name, settings)
        assert isinstance(detector, MILDetector)
        log = detector.fit(_Drawn(size, roles), device=device, seed=0)
        assert detector.network is not None and detector.layout is not None
        stages = _stages(log.rows)
        peak = peak_memory(device)
        facts = {
            "parameters": count_parameters(detector.network),
            "gflop_per_video": _forward_flops(detector, detector.layout) / 1e9,
            "data_on": log.summary["data_on"],
            "peak_memory_bytes": peak,
            "stages": stages,
        }
        values["train"][name] = facts
        lines.append(
            f"{name}: {facts['parameters']:,} parameters, {facts['gflop_per_video']:.0f} GFLOP a "
            f"video forward, peak memory {peak / 2**30:.1f} GiB, data on "
            f"{facts['data_on']}"
        )
        for stage, row in stages.items():
            lines.append(
                f"  {stage:14} {row['iterations_per_second']:8.4f} iterations/s   data "
                f"{100 * row['data']:.2f} %, forward {100 * row['forward']:.0f} %, backward "
                f"{100 * row['backward']:.0f} %"
            )
        with tempfile.TemporaryDirectory() as folder:
            rate = _score_rate(detector, Path(folder), size, roles, device)
        values["score"][name] = rate
        lines.append(f"  scoring from the cache: {rate:.4f} hours of video a second")
    return values, lines


def peak_memory(device: str) -> int:
    """Bytes: most that torch held on a GPU, or most that this process had in memory."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _stages(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """stage -> iterations/s and shares of the time, the first step left out."""
    found: dict[str, dict[str, float]] = {}
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        counted = [row for row in rows if row["stage"] == stage][1:]
        total = sum(float(row["seconds"]) for row in counted)
        found[stage] = {"iterations_per_second": len(counted) / total} | {
            part: sum(float(row[f"{part}_seconds"]) for row in counted) / total
            for part in ("data", "forward", "backward")
        }
    return found


def _forward_flops(detector: MILDetector[Any, Any], layout: FeatureLayout) -> float:
    """Multiplications and additions of a video of 32 segments, once through the network."""
    with torch.device("meta"):
        network = detector.make_network(layout).eval()
        features = {
            role: torch.empty(SEGMENTS, count, layout.width)
            for role, count in layout.positions.items()
        }
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            detector.score_rows(network, features)
    return float(counter.get_total_flops())


def _score_rate(
    detector: MILDetector[Any, Any],
    cache: Path,
    size: ProblemSize,
    roles: Sequence[str],
    device: str,
) -> float:
    """Hours of video a second, read from a store with float16 features."""
    n = int(size.minutes * 60 * FPS) // SNIPPET
    shapes = {r: s for r, s in size.shapes().items() if r.split("/")[0] in roles}
    specs = [
        ArraySpec(
            role.replace("/", "_"), "float16", ("snippet", "crop", "feature"), shape, role=role
        )
        if role == "snippet"
        else ArraySpec(
            role.replace("/", "_"),
            "float16",
            ("snippet", "patch", "feature"),
            shape,
            role=role,
            grid=_grid(role),
        )
        for role, shape in shapes.items()
    ]
    recipe = {"extractor": "bench", "version": 1, "arrays": [spec.to_json() for spec in specs]}
    store = FeatureStore(cache, recipe)
    store.create()
    start = np.arange(n, dtype=np.int64) * SNIPPET
    rng = np.random.default_rng(0)
    arrays = {
        spec.name: rng.standard_normal((n, *shape), dtype=np.float32).astype(np.float16)
        for spec, shape in zip(specs, shapes.values(), strict=True)
    }
    content = "m1-" + "0" * 40
    span = Span(content, 0, n * SNIPPET, last=True)
    facts = VideoFacts(FPS, n * SNIPPET)
    store.write(span, {"snippet": Rows(start, start + SNIPPET, arrays)}, specs, facts, {})
    row = ProbeRow(
        "", content, "features", n * SNIPPET, False, FPS, 0, 0, 0, size.minutes * 60, "", ""
    )
    record = VideoRecord(video_id="long", path=None, split="test")
    detector.to(device)
    begin = time.perf_counter()
    bags = StoreBags([record], {"long": row}, dict.fromkeys(detector.needs, store), labels=False)
    detector.score(bags[0])
    return float(size.minutes / 60 / (time.perf_counter() - begin))


def _grid(role: str) -> tuple[int, int] | None:
    kind, _, scale = role.partition("/")
    return grid_of(scale) if kind == "patch" else None
