"""Frames a second out of footage: FFmpeg alone, with RGB, and from the decoding process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from ...data_manifests.synthetic import write_scene
from ...extractors.footage.decode import opened, read_frames
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.probe_file import probe_video
from ...extractors.footage.video import ProbeRow
from ..engine.settings import cpu_count
from .pixels import bench_pixels
from .race import Contestant, as_values, hardware, heading, race

DRAWN_FRAMES = 250


def bench_decode(
    footage: Path | None = None, *, repeats: int = 3
) -> tuple[dict[str, Any], list[str]]:
    """Decoding rates of one video, with one thread and with all cores.

    "alone" is the decoder without conversion to RGB: the most that could be reached. Folders of
    images have none. Copies of frames and reading of every 16th one are measured on a drawn 1080p
    video, see `bench_pixels`.

    Args:
        footage:
            A video; None draws one (320 x 240, H.264).
        repeats:
            Turns of each contestant.

    Returns:
        Values for machines, and lines for people.
    """
    with _video(footage) as path:
        row = probe_video(path)
        contestants = []
        for threads in sorted({1, cpu_count()}):
            for name, run in _ways(row, threads).items():
                label = f"{name}, {threads} threads"
                contestants.append(Contestant(label, "frames/s", row.n_frames, run))
        rates = race(contestants, repeats)
    alone = [rate.median for name, rate in rates.items() if name.startswith("alone")]
    best = max(alone or [rate.median for rate in rates.values()])
    values = {
        "hardware": hardware(),
        "video": {k: v for k, v in row.to_json().items() if k not in ("key_frames", "path")},
        "repeats": repeats,
        "rates": as_values(rates),
        "of_decoder_alone": {name: rate.median / best for name, rate in rates.items()},
    }
    lines = heading(
        "cpu",
        f"{row.width}x{row.height} {row.codec}, {row.n_frames} frames; best / median of {repeats}",
    )
    with tempfile.TemporaryDirectory() as folder:
        values["pixels"], more = bench_pixels(Path(folder), repeats)
    lines += [f"{n:26}{r}   {100 * r.median / best:.0f} % of the peak" for n, r in rates.items()]
    return values, lines + more


def _ways(row: ProbeRow, threads: int) -> dict[str, Callable[[], object]]:
    ways: dict[str, Callable[[], object]] = {
        "alone": lambda: decode_alone(Path(row.path), threads),
        "in this process": lambda: sum(1 for _ in read_frames(row, threads=threads)),
        "in a process of its own": lambda: sum(1 for _ in guarded_frames(row, threads=threads)),
    }
    if row.kind == "images":
        del ways["alone"]
    return ways


def decode_alone(path: Path, threads: int) -> int:
    """Decode a video without conversion to RGB; returns the number of frames."""
    count = 0
    with opened(path, threads) as (container, stream):
        for frame in container.decode(stream):
            count += isinstance(frame, av.VideoFrame)
    return count


@contextmanager
def _video(footage: Path | None) -> Iterator[Path]:
    if footage is not None:
        yield footage
        return
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene", n_train=1, n_test=1, frames=DRAWN_FRAMES)
        yield next((scene / "train").glob("*.mp4"))
