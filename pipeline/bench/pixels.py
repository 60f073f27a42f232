"""What a frame costs beside decoding: copies into clips, resizing, frames that are left out."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from ...extractors.clips import Clip, ClipAssembler, ClipRule, Span
from ...extractors.device.resize import resize_frames
from ...extractors.footage.convert import PictureConverter
from ...extractors.footage.decode import opened, read_frames
from ...extractors.footage.decode_messages import next_slot, picture_bytes, ring_slots
from ...extractors.footage.guarded import ring_size
from ...extractors.footage.probe_file import probe_video
from ...extractors.footage.resizing import Resize, placed, sizes_of
from ...extractors.footage.ring import Ring
from ...extractors.footage.sparse import Wanted
from ...extractors.footage.video import Frame, ProbeRow

CLIP = 16  # frames
EVERY = 16
RESIZED = (256, 455), (480, 840)  # inception_i3d, patch_cubes
SIZE = 1080, 1920
FRAMES = 129
# Three frames that no other refers to between two that are referred to.
X264 = "bframes=3:b-adapt=0:b-pyramid=none:keyint=24:min-keyint=24:scenecut=0"

Pixels = NDArray[np.uint8]
Way = Callable[[int, Pixels], object]


def bench_pixels(folder: Path, repeats: int) -> tuple[dict[str, Any], list[str]]:
    """CPU time of one thread, in milliseconds a frame of a drawn 1080p H.264 video.

    Args:
        folder:
            For the video.
        repeats:
            Turns of each contestant.

    Returns:
        Values for machines, and lines for people.
    """
    row = probe_video(write_moving(folder / "moving.mp4"), decode=True)
    copies = _copies(row, repeats)
    reading = _reading(row, repeats)
    resizing = _resizing(row, repeats)
    values = {"size": [row.height, row.width], "frames": row.n_frames}
    values |= {"copies": copies, "reading": reading, "resizing": resizing}
    lines = [f"{row.width}x{row.height} h264, drawn; CPU ms a frame, best / median of {repeats}"]
    lines += _table("copies: ", copies, next(iter(copies)))
    lines += _table("reading: ", reading, next(iter(reading)))
    for name, each in resizing.items():
        lines.append(
            f"{name:40}{each['best']:8.2f} / {each['median']:8.2f} ms   "
            f"of the reader {each['reader']:.2f} ms   {each['bytes']:,} bytes cross"
        )
    return values, lines


def write_moving(path: Path) -> Path:
    """Draw a noisy picture that moves, as H.264 with three B-frames between two references."""
    height, width = SIZE
    random = np.random.default_rng(0)
    coarse = random.integers(40, 216, (height // 8 + 16, width // 8 + 16, 3), dtype=np.uint8)
    texture = coarse.repeat(8, 0).repeat(8, 1)
    noise = random.integers(0, 12, (height + 64, width + 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "x264-params": X264}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(FRAMES):
            picture = texture[number:, number:][:height, :width].copy()
            y, x = random.integers(0, 64, 2)
            picture += noise[y : y + height, x : x + width]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _copies(row: ProbeRow, repeats: int) -> dict[str, dict[str, float]]:
    """What is copied of a frame after its conversion to RGB, until it is part of a clip."""
    times: dict[str, list[float]] = {}
    for turn in range(-1, repeats):
        for name, make in (("three copies, as before", _before), ("one copy", _after)):
            with closing(make(row)) as steps:
                way = next(steps)
                seconds = _timed(row, way)
            if turn >= 0:
                times.setdefault(name, []).append(seconds)
    return _summary(times, row.n_frames)


def _timed(row: ProbeRow, way: Way) -> float:
    """CPU seconds of a way for all frames, without decoding and conversion.

    The video is read twice, and the second time counts: memory costs more when it is new, which is
    soon over in a video of minutes.
    """
    converter, number, total = PictureConverter(row, None), 0, 0.0
    for counted in (False, True):
        with opened(Path(row.path), 1) as (container, stream):
            for picture in container.decode(stream):
                assert isinstance(picture, av.VideoFrame)
                pixels = converter.convert(picture)
                begin = time.process_time()
                way(number, pixels)
                number += 1
                total += counted * (time.process_time() - begin)
    return total


def _before(row: ProbeRow) -> Generator[Way, None, None]:
    """Version 0.1 in small: into the ring, out of the ring, and together with others."""
    size = row.height * row.width * 3
    slots, _ = ring_size(size, None)
    sizes = [(row.height, row.width)]
    (places,) = ring_slots(mmap.mmap(-1, slots * size), slots, sizes)
    waiting: list[Pixels] = []

    def way(number: int, pixels: Pixels) -> None:
        place = places[number % slots]
        place[...] = pixels
        waiting.append(place.copy())
        if len(waiting) == CLIP:
            np.stack(waiting)
            waiting.clear()

    yield way


def _after(row: ProbeRow) -> Generator[Way, None, None]:
    """Into the ring; clips are views of it."""
    sizes = [(row.height, row.width)]
    slots, run = ring_size(picture_bytes(sizes), CLIP)
    file = os.memfd_create("bench")
    ring = Ring(file, slots, sizes, lends=True)
    (places,) = ring_slots(mmap.mmap(file, slots * picture_bytes(sizes)), slots, sizes)
    assembler = ClipAssembler(ClipRule(CLIP, CLIP), Span(row.content_id, 0, row.n_frames, True))
    free, slot = set(range(slots)), -1

    def way(number: int, pixels: Pixels) -> list[Clip]:
        nonlocal slot
        slot = next_slot(free, slot, slots, run)
        free.remove(slot)
        places[slot][...] = pixels
        (image,), scarce = ring.take(slot)
        frame = Frame(number, number / row.fps, image, memory_scarce=scarce)
        clips = assembler.push(frame)
        free.update(ring.freed())
        return clips

    try:
        yield way
    finally:
        ring.leave()
        os.close(file)


def _resizing(row: ProbeRow, repeats: int) -> dict[str, dict[str, float]]:
    """Clips of 16 frames at the sizes of two extractors, by one thread of both processes.

    "reader" is the CPU time of the process that computes: clips are cut, and resized by it or not.
    """
    found: dict[str, dict[str, float]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for resize in (Resize(*size) for size in RESIZED):
            ways = {"by the reader": (), "by the decoder": (resize,)}
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for turn in range(-1, repeats):
                for name, resizes in ways.items():
                    both = _resized(row, resize, resizes)
                    if turn >= 0:
                        times[name].append(both)
            for name, resizes in ways.items():
                whole = [1000 * writer + 1000 * reader for writer, reader in times[name]]
                found[f"{resize.height}x{resize.width}, resized {name}"] = {
                    "best": min(whole),
                    "median": median(whole),
                    "reader": 1000 * median(reader for _, reader in times[name]),
                    "bytes": picture_bytes(sizes_of(row.height, row.width, resizes)),
                }
    finally:
        torch.set_num_threads(threads)
    return found


def _resized(row: ProbeRow, resize: Resize, resizes: tuple[Resize, ...]) -> tuple[float, float]:
    """CPU seconds a frame of who writes pictures into the ring, and of who reads clips."""
    sizes = sizes_of(row.height, row.width, resizes)
    slots, _ = ring_size(picture_bytes(sizes), CLIP)
    memory = np.empty((slots, *sizes[0], 3), np.uint8)
    memory.fill(0)  # new memory costs more
    converter = PictureConverter(row, None)
    seconds, number = [0.0, 0.0], 0

    def room() -> tuple[Pixels]:
        return (memory[number % slots],)

    with opened(Path(row.path), 1) as (container, stream):
        for picture in container.decode(stream):
            assert isinstance(picture, av.VideoFrame)
            pixels = converter.convert(picture)
            slot = number % slots
            begin = time.process_time()
            placed(pixels, resizes, room)
            middle = time.process_time()
            number += 1
            if number % CLIP == 0 and slot >= CLIP - 1:
                clip = torch.from_numpy(memory[slot - CLIP + 1 : slot + 1])
                resize_frames(clip, (resize.height, resize.width))
            seconds[0] += middle - begin
            seconds[1] += time.process_time() - middle
    return seconds[0] / number, seconds[1] / number


def _reading(row: ProbeRow, repeats: int) -> dict[str, dict[str, float]]:
    """Every frame, and every 16th one, with one thread."""
    wanted = Wanted(((EVERY, 0, 1),))
    ways: dict[str, Callable[[], object]] = {
        "decoding alone, every frame": lambda: _decode(row),
        "RGB of every frame": lambda: sum(1 for _ in read_frames(row, threads=1)),
        f"RGB of every {EVERY}th frame": lambda: sum(
            1 for _ in read_frames(row, threads=1, wanted=wanted)
        ),
    }
    times: dict[str, list[float]] = {}
    for turn in range(-1, repeats):
        for name, run in ways.items():
            begin = time.process_time()
            run()
            if turn >= 0:
                times.setdefault(name, []).append(time.process_time() - begin)
    return _summary(times, row.n_frames)


def _decode(row: ProbeRow) -> int:
    with opened(Path(row.path), 1) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def _summary(times: dict[str, list[float]], frames: int) -> dict[str, dict[str, float]]:
    return {
        name: {"best": 1000 * min(each) / frames, "median": 1000 * median(each) / frames}
        for name, each in times.items()
    }


def _table(what: str, rows: dict[str, dict[str, float]], first: str) -> Iterator[str]:
    for name, each in rows.items():
        ratio = rows[first]["median"] / each["median"]
        times = f"{each['best']:8.2f} / {each['median']:8.2f} ms"
        yield f"{what + name:40}{times}   {ratio:.2f} x the rate of the first"
