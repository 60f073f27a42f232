"""Training and scoring of the weakly supervised detectors at paper size, on synthetic features.

Stages are compared with `published`, a plain form of the loop, and with the machine's own matmul.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...data_manifests.record import VideoRecord
from ...detectors.base import Bag, BagSource, FitOptions, Row, Track, VideoRows, grid_of
from ...detectors.mil import MILDetector, count_parameters
from ...detectors.segments import FeatureLayout
from ...detectors.ssrl import SSRLConfig
from ...extractors.base import ArraySpec, Precision, Rows
from ...extractors.clips import Span
from ...extractors.device.inference import available_precisions
from ...extractors.footage.video import ProbeRow
from ..bags import StoreBags
from ..models import make_detector
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from .published import PublishedSSRL
from .race import Contestant, hardware, heading, matmul, race

SEGMENTS, SNIPPET, FPS = 32, 16, 30.0
SCALES = ((2, 3), (3, 5), (4, 7))  # 49 patches, SSRL Sect. 4.2
FIT = {"rtfm": ("snippet",), "ssrl": ("snippet", "patch")}
PLAIN = "published loop fp32"
PARTS = ("data", "forward", "backward")

Maker = Callable[[int, int], MILDetector[Any, Any]]
"""Makes a detector for so many videos of a class and steps a stage."""


@dataclass(frozen=True)
class ProblemSize:
    """How large the problem is; the defaults are those of the SSRL paper but for the batch.

    Attributes:
        pairs: videos of each class in a batch, and in the set; the paper has 32.
        crops: of the full frame.
        width: D.
        minutes: length of the video that is scored.
    """

    pairs: int = 8
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
    *, repeats: int = 2, device: str = "cpu", size: ProblemSize | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Iterations/s of `rtfm` and of every stage of `ssrl`, in turn with a plain form of the loop.

    A fit takes two steps a stage, of which the second counts; the data are resident.

    Args:
        repeats:
            Turns; the best of each contestant counts.
        device:
            Where all of them train.
        size:
            How large the problem is.

    Returns:
        Values for machines, and lines for people.
    """
    size = size or ProblemSize()
    known: tuple[Precision, ...] = ("fp32", "bf16")
    precisions = [each for each in known if each in available_precisions(device)]
    contestants = _contestants(precisions)
    times, peak, trained = _take_turns(contestants, precisions, repeats, device, size)
    values: dict[str, Any] = {
        "hardware": hardware(device),
        "size": vars(size) | {"segments": SEGMENTS, "scales": [f"{r}x{c}" for r, c in SCALES]},
        "repeats": repeats,
        "matmul_gflops": peak,
        "train": {},
        "score": {},
    }
    lines = heading(
        device,
        f"{size.pairs} + {size.pairs} videos, {SEGMENTS} segments, {size.crops} crops, D = "
        f"{size.width}; best of {repeats} turns; matmul "
        + ", ".join(f"{precision} {gflops:.0f} GFLOP/s" for precision, gflops in peak.items()),
    )
    for name, make in contestants.items():
        detector = trained[name]
        assert detector.network is not None
        assert detector.layout is not None
        flops = _step_flops(make, size, device)
        matmul_rate = peak[detector.config.precision]
        stages = {
            stage: _facts(row, flops[stage], matmul_rate, times[PLAIN].get(stage))
            for stage, row in times[name].items()
        }
        facts = {
            "parameters": count_parameters(detector.network),
            "gflop_per_video": _forward_flops(detector, detector.layout) / 1e9,
            "stages": stages,
        }
        values["train"][name] = facts
        lines.append(
            f"{name}: {facts['parameters']:,} parameters, {facts['gflop_per_video']:.0f} GFLOP a "
            "video forward"
        )
        lines += [_line(stage, row) for stage, row in stages.items()]
        if name != PLAIN:
            with tempfile.TemporaryDirectory() as folder:
                scoring = _scoring(detector, Path(folder), size, device, matmul_rate, repeats)
            values["score"][name] = scoring
            lines.append(
                f"  scoring from the cache: {scoring['hours_per_second']:.4f} hours of video a "
                f"second, {100 * scoring['share_of_matmul']:.0f} % of matmul; reading "
                f"{100 * scoring['reading']:.1f} %"
            )
    values["peak_memory_bytes"] = peak_memory(device)
    lines.append(f"peak memory of all {values['peak_memory_bytes'] / 2**30:.1f} GiB")
    return values, lines


def _take_turns(
    contestants: Mapping[str, Maker],
    precisions: Sequence[Precision],
    repeats: int,
    device: str,
    size: ProblemSize,
) -> tuple[dict[str, dict[str, Row]], dict[Precision, float], dict[str, MILDetector[Any, Any]]]:
    """The best row of each stage by contestant, the matmul rates, and the trained detectors."""
    times: dict[str, dict[str, Row]] = {name: {} for name in contestants}
    peak: dict[Precision, float] = dict.fromkeys(precisions, 0.0)
    trained: dict[str, MILDetector[Any, Any]] = {}
    for _ in range(repeats):
        for precision in precisions:
            (reached,) = race([matmul(precision, device)], 3, device).values()
            peak[precision] = max(peak[precision], reached.best)
        for name, make in contestants.items():
            detector = make(size.pairs, 2)
            log = detector.fit(_Drawn(size, FIT[detector.name]), device=device, seed=0)
            trained[name] = detector
            for row in log.rows[1::2]:  # every second one
                stage = str(row["stage"])
                best = times[name].get(stage)
                if best is None or float(row["seconds"]) < float(best["seconds"]):
                    times[name][stage] = row
    return times, peak, trained


def _contestants(
    precisions: Sequence[Precision],
) -> dict[str, Maker]:
    """What takes turns, by name."""

    def ours(name: str, precision: str) -> Maker:
        def make(pairs: int, steps: int) -> MILDetector[Any, Any]:
            settings = {
                "steps": steps,
                "batch_size": pairs,
                "precision": precision,
                "score_precision": precision,
            }
            detector = make_detector(name, settings)
            assert isinstance(detector, MILDetector)
            return detector

        return make

    return {
        PLAIN: lambda pairs, steps: PublishedSSRL(SSRLConfig(steps=steps, batch_size=pairs)),
        **{
            f"{name} {precision}": ours(name, precision)
            for precision in precisions
            for name in ("rtfm", "ssrl")
        },
    }


def _facts(row: Row, flops: float, peak: float, plain: Row | None) -> dict[str, Any]:
    """Rates of a stage, shares of its time, and what it is compared to."""
    seconds = float(row["seconds"])
    return {
        "iterations_per_second": 1 / seconds,
        "gflop": flops / 1e9,
        "share_of_matmul": flops / 1e9 / seconds / peak,
        "to_published": None if plain is None else float(plain["seconds"]) / seconds,
        **{part: float(row[f"{part}_seconds"]) / seconds for part in PARTS},
    }


def _line(stage: str, facts: dict[str, Any]) -> str:
    ratio = facts["to_published"]
    against = "" if ratio is None else f", {ratio:.2f} x published"
    return (
        f"  {stage:14} {facts['iterations_per_second']:8.4f} iterations/s{against}, "
        f"{100 * facts['share_of_matmul']:.0f} % of matmul; data {100 * facts['data']:.2f} %, "
        f"forward {100 * facts['forward']:.0f} %, backward {100 * facts['backward']:.0f} %"
    )


def _step_flops(make: Maker, size: ProblemSize, device: str) -> dict[str, float]:
    """stage -> multiplications and additions of a step, counted on one video of each class."""
    detector = make(1, 2)
    at: dict[str, list[int]] = {}
    with FlopCounterMode(display=False) as counter:
        detector.fit(
            _Drawn(replace(size, pairs=1), FIT[detector.name]),
            device=device,
            seed=0,
            options=FitOptions(
                on_step=lambda row: at.setdefault(str(row["stage"]), []).append(
                    counter.get_total_flops()
                )
            ),
        )
    return {stage: size.pairs * float(second - first) for stage, (first, second) in at.items()}


def peak_memory(device: str) -> int:
    """Bytes: most that torch held on a GPU, or most that this process had in memory."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forward_flops(
    detector: MILDetector[Any, Any], layout: FeatureLayout, rows: int = SEGMENTS
) -> float:
    """Multiplications and additions of a video of so many rows, once through the network."""
    with torch.device("meta"):
        network = detector.make_network(layout).eval()
        features = {
            role: torch.empty(rows, count, layout.width) for role, count in layout.positions.items()
        }
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            detector.score_rows(network, features, [len(features["snippet"])])
    return float(counter.get_total_flops())


def _scoring(
    detector: MILDetector[Any, Any],
    cache: Path,
    size: ProblemSize,
    device: str,
    matmul_rate: float,
    repeats: int,
) -> dict[str, float]:
    """Hours of video a second from a store with float16 features, and where the time goes.

    The best of some turns after one to warm up.
    """
    detector.to(device)
    bags = _long_video(detector, cache, size)

    def read() -> None:
        for role in detector.needs:
            for track in bags[0].role(role).values():
                track.rows()

    rates = race(
        [
            Contestant("reading", "videos/s", 1, read),
            Contestant("scoring", "videos/s", 1, lambda: detector.score(bags[0])),
        ],
        repeats,
        device,
    )
    reading, seconds = (1 / rates[name].best for name in ("reading", "scoring"))
    assert detector.layout is not None
    gflop = _forward_flops(detector, detector.layout, _snippets(size)) / 1e9
    return {
        "hours_per_second": size.minutes / 60 / seconds,
        "share_of_matmul": gflop / seconds / matmul_rate,
        "reading": reading / seconds,
    }


def _snippets(size: ProblemSize) -> int:
    return int(size.minutes * 60 * FPS) // SNIPPET


def _long_video(detector: MILDetector[Any, Any], cache: Path, size: ProblemSize) -> StoreBags:
    """One video in a new store."""
    roles = FIT[detector.name]
    n = _snippets(size)
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
    stores = dict.fromkeys(detector.needs, store)
    return StoreBags([record], {"long": row}, stores, labels=False)


def _grid(role: str) -> tuple[int, int] | None:
    kind, _, scale = role.partition("/")
    return grid_of(scale) if kind == "patch" else None
