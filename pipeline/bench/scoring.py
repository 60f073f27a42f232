"""Scoring from the cache: overlapped, and several short videos together, against step by step."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data_manifests.record import VideoRecord
from ...detectors.base import Bag, Scores
from ...detectors.mil import MILDetector
from ...detectors.mil_ranking import MILRanking, MILRankingConfig
from ...detectors.rtfm import RTFM, RTFMConfig
from ...detectors.segments import FeatureLayout
from ...detectors.together import ROWS_TOGETHER, filled
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from ...extractors.footage.video import ProbeRow
from ..bags import StoreBags
from ..engine.overlap import overlapped_groups
from ..scores.folder import ScoreFolder
from ..scores.outputs import checked_scores
from ..scores.read_ahead import read_ahead
from ..store.feature_store import FeatureStore
from ..store.shard import VideoFacts
from .race import Contestant, as_values, hardware, heading, race

CLIP, RATE = 16, 25.0  # frames of a row, frames a second
PROVENANCE = {"vadpipe": "0", "torch": "0", "ffmpeg": "0", "device": "cpu"}
IN_TURN, OVERLAPPED, READING = "one after the other", "overlapped", "reading alone"
COMPUTING, WRITING = "computing alone", "writing alone"
TOGETHER = "computing, videos together"
SHORT = 8  # rows of a short video, which has one crop


@dataclass(frozen=True)
class ScoringProblem:
    """What is scored; the defaults are features of an I3D with ten crops.

    Attributes:
        videos: how many.
        rows: of a video.
        crops: of a row.
        width: of a crop.
    """

    videos: int = 16
    rows: int = 64
    crops: int = 10
    width: int = 2048


def bench_scoring(
    *, repeats: int = 3, device: str = "cpu", problem: ScoringProblem | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Score videos with networks that have random weights; all ways take turns.

    The files have just been written, so they are in the memory of the system.

    Args:
        repeats:
            Turns of each way over all videos.
        device:
            Where the detectors compute.
        problem:
            Sizes.

    Returns:
        Values for machines, and lines for people.
    """
    problem = problem or ScoringProblem()
    values: dict[str, Any] = {"hardware": hardware(device)}
    lines = heading(device, "video hours a minute, best / median")
    short = replace(problem, rows=min(SHORT, problem.rows), crops=1)
    for key, each in {"detectors": problem, "short": short}.items():
        values[key], more = _bench(each, repeats, device)
        lines += more
    return values, lines


def _bench(problem: ScoringProblem, repeats: int, device: str) -> tuple[dict[str, Any], list[str]]:
    hours = problem.videos * problem.rows * CLIP / RATE / 3600
    values: dict[str, Any] = {}
    lines = [
        f"{problem.videos} videos of {problem.rows} x {problem.crops} x {problem.width} float16"
    ]
    with tempfile.TemporaryDirectory(prefix="vadpipe-bench-") as folder:
        bags = _write(Path(folder), problem)
        detectors: list[MILDetector[Any, Any]] = [
            MILRanking(MILRankingConfig()),
            RTFM(RTFMConfig()),
        ]
        for detector in detectors:
            ways = _Ways(_ready(detector, problem, device), bags, ScoreFolder(Path(folder) / "out"))
            contestants = [
                Contestant(name, "h/min", 60 * hours, run)
                for name, run in ways.contestants().items()
            ]
            rates = race(contestants, repeats, device)
            ratio = rates[OVERLAPPED].best / rates[IN_TURN].best
            shares = {
                name: rates[IN_TURN].best / rates[name].best
                for name in (READING, COMPUTING, WRITING)
            }
            together = rates[TOGETHER].best / rates[COMPUTING].best
            values[detector.name] = {
                "rates": as_values(rates),
                "ratio": ratio,
                "together": together,
                "shares": shares,
            }
            lines += [
                f"{detector.name}: {name:22}{rate}   {rate.best / rates[IN_TURN].best:.2f} x "
                "one after the other"
                for name, rate in rates.items()
            ]
            lines.append(
                f"{detector.name}: overlapped {ratio:.2f} x one after the other, of which reading "
                f"is {100 * shares[READING]:.0f} %, computing {100 * shares[COMPUTING]:.0f} %, "
                f"writing {100 * shares[WRITING]:.0f} %; together {together:.2f} x by itself"
            )
    return values, lines


def _ready(
    detector: MILDetector[Any, Any], problem: ScoringProblem, device: str
) -> MILDetector[Any, Any]:
    """A detector that scores, as if it had been trained."""
    layout = FeatureLayout(problem.width, {"snippet": problem.crops}, {})
    torch.manual_seed(0)
    detector.network, detector.layout = detector.make_network(layout).eval(), layout
    detector.to(device)
    return detector


def _write(root: Path, problem: ScoringProblem) -> StoreBags:
    shape = (problem.crops, problem.width)
    spec = ArraySpec("features", "float16", ("snippet", "crop", "feature"), shape, role="snippet")
    store = FeatureStore(root / "cache", {"extractor": "bench", "arrays": [spec.to_json()]})
    store.create()
    start, frames = CLIP * np.arange(problem.rows), CLIP * problem.rows
    rng = np.random.default_rng(0)
    records, files = [], {}
    for number in range(problem.videos):
        content, video_id = f"s1-{number:040x}", f"v{number}"
        values = rng.random((problem.rows, *shape), np.float32).astype(np.float16)
        rows = {"snippet": Rows(start, start + CLIP, {"features": values})}
        store.write(
            Span(content, 0, frames, True), rows, [spec], VideoFacts(RATE, frames, ()), PROVENANCE
        )
        files[video_id] = ProbeRow(
            *("", content, "features", frames, False, RATE, 0, 0, 0, frames / RATE, "", "")
        )
        records.append(VideoRecord(video_id=video_id, path=None, split="test"))
    return StoreBags(records, files, {"snippet": store}, labels=False)


class _Ways:
    """The steps of scoring, alone and together."""

    def __init__(
        self, detector: MILDetector[Any, Any], bags: StoreBags, folder: ScoreFolder
    ) -> None:
        self._detector, self._bags, self._folder = detector, bags, folder
        self._read_bags = [self._read(i) for i in range(len(bags))]
        self._scores = [self._compute(i, bag) for i, bag in enumerate(self._read_bags)]

    def contestants(self) -> dict[str, Callable[[], object]]:
        """Name -> what runs it over all videos."""
        every = range(len(self._bags))
        return {
            IN_TURN: self._in_turn,
            OVERLAPPED: self._overlapped,
            READING: lambda: [self._read(i) for i in every],
            COMPUTING: lambda: [self._compute(i, bag) for i, bag in enumerate(self._read_bags)],
            TOGETHER: lambda: [
                self._compute_together([self._read_bags[i] for i in group])
                for group in self._groups()
            ],
            WRITING: self._write_all,
        }

    def _overlapped(self) -> None:
        ends = overlapped_groups(self._groups(), self._read, self._compute_together, self._write)
        for _, error in ends:
            if error is not None:
                raise error

    def _groups(self) -> list[list[int]]:
        """Videos that fill a batch."""
        rows = [math.prod(bag.tracks["snippet"].array.shape[:2]) for bag in self._read_bags]
        return list(filled(range(len(rows)), rows, ROWS_TOGETHER))

    def _compute_together(self, bags: Sequence[Bag]) -> list[Scores]:
        found = self._detector.score_together(bags)
        return [
            checked_scores(self._detector, scores, bag.n_frames)
            for scores, bag in zip(found, bags, strict=True)
        ]

    def _in_turn(self) -> None:
        for i in range(len(self._bags)):
            self._write(i, self._compute(i, self._bags[i]))

    def _write_all(self) -> None:
        for i, scores in enumerate(self._scores):
            self._write(i, scores)

    def _read(self, i: int) -> Bag:
        return read_ahead(self._detector, self._bags[i])

    def _compute(self, i: int, bag: Bag) -> Scores:
        return checked_scores(self._detector, self._detector.score(bag), bag.n_frames)

    def _write(self, i: int, scores: Scores) -> None:
        self._folder.write_scores(f"v{i}", scores, "bench", {"n_frames": 1})
