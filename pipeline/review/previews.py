"""Pictures and short clips of moments, each video decoded once for all of its own.

Clips are VP9 in WebM. Browsers play H.264 too, but the encoder for it that comes with PyAV is x264,
whose licence (GPL) is not that of this library; libvpx is under a BSD licence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ...data_manifests.atomic import CannotWrite, write_atomically
from ...extractors.footage.errors import SeekMismatch
from ...extractors.footage.guarded import guarded_frames, guarded_probe
from ...extractors.footage.video import ProbeRow, in_order
from ..report.thumbnails import (
    IN_ORDER_FRAMES,
    SAME_SEEK,
    Pixels,
    jpeg_bytes,
    scored_footage,
)

PICTURE = 640  # longest side of a picture, pixels
CLIP_SIDE, CLIP_RATE = 320, 12.5  # longest side of a clip, and its most pictures a second
MARGIN = 1.0  # seconds before and after a moment
_CODEC = {"deadline": "realtime", "cpu-used": "7", "crf": "34", "b:v": "0", "row-mt": "0"}


@dataclass(frozen=True)
class Shot:
    """What is wanted of one moment.

    Attributes:
        number: names its files.
        peak: frame of the picture.
        start: first frame of the clip.
        stop: one past its last frame; equal to `start` where no clip is wanted.
    """

    number: int
    peak: int
    start: int
    stop: int


@dataclass
class Preview:
    """What became of a shot.

    Attributes:
        picture: whether there is a picture.
        size: width and height of the whole frame.
        clip: first frame, one past the last, and frames from one picture of the clip to the next;
            None without a clip.
        reason: why there is no picture.
    """

    picture: bool = False
    size: tuple[int, int] = (0, 0)
    clip: tuple[int, int, int] | None = None
    reason: str = ""


@dataclass
class _Take:
    shot: Shot
    step: int
    frames: list[Pixels] = field(default_factory=list)


def clip_span(
    start: int, stop: int, peak: int, fps: float, n_frames: int, seconds: float
) -> tuple[int, int]:
    """The frames that a clip of a moment shows: all of it with a margin, or what is near its peak.

    Args:
        start:
            First frame of the moment.
        stop:
            One past its last.
        peak:
            Its peak frame.
        fps:
            Frames per second.
        n_frames:
            Of the video.
        seconds:
            The longest clip.
    """
    margin, most = round(MARGIN * fps), max(1, round(seconds * fps))
    a, b = max(start - margin, 0), min(stop + margin, n_frames)
    if b - a > most:
        a = min(max(peak - most // 2, a), b - most)
        b = a + most
    return a, max(b, a + 1)


def draw_previews(
    path: Path | None,
    content_id: str,
    whole_id: str,
    shots: Sequence[Shot],
    folder: Path,
    *,
    probe: Callable[..., ProbeRow] = guarded_probe,
    use: Callable[[int, Pixels], object] | None = None,
) -> dict[int, Preview]:
    """Write pictures and clips of one video: `NUMBER.jpg` and `NUMBER.webm`.

    Footage that has moved or is damaged raises nothing: the previews say so.

    Args:
        path:
            File or image folder; None where there is no footage.
        content_id:
            Of what was scored; if another file is at this path, there are no pictures.
        whole_id:
            Of every byte of it; "" where it is not known.
        shots:
            What is wanted.
        folder:
            For the files.
        probe:
            As in `write_report`.
        use:
            Called with the number of a shot and its peak frame, (H, W, 3).

    Returns:
        Number of a shot -> what became of it.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    done = {shot.number: Preview() for shot in shots}
    reason = "there is no footage, only imported features"
    if path is not None:
        reason = "the file ends before this frame"
        try:
            row = scored_footage(path, content_id, whole_id, probe)
            try:
                _film(row, shots, folder, done, use)
            except SeekMismatch:
                _film(in_order(row), shots, folder, done, use)
        except CannotWrite:
            raise
        except Exception as error:  # damaged footage must not stop the page: it shows the error
            reason = f"{type(error).__name__}: {error}"
    for preview in done.values():
        if not preview.picture and not preview.reason:
            preview.reason = reason
    return done


def _film(
    row: ProbeRow,
    shots: Sequence[Shot],
    folder: Path,
    done: Mapping[int, Preview],
    use: Callable[[int, Pixels], object] | None,
) -> None:
    step = max(1, round(row.fps / CLIP_RATE))
    for first, stop, some in _runs(row, shots, done):
        takes = [_Take(shot, step) for shot in some]
        with guarded_frames(row, first, stop) as decoded:
            for shown in decoded:
                for take in takes:
                    if shown.index == take.shot.peak:
                        _keep_picture(take.shot, shown.image, folder, done[take.shot.number], use)
                    inside = take.shot.start <= shown.index < take.shot.stop
                    if inside and (shown.index - take.shot.start) % step == 0:
                        take.frames.append(_small(shown.image))
                for take in [t for t in takes if shown.index + 1 >= t.shot.stop]:
                    _finish(take, row, folder, done)
                takes = [t for t in takes if max(t.shot.stop, t.shot.peak + 1) > shown.index + 1]
        for take in takes:  # the file ended
            _finish(take, row, folder, done)


def _runs(
    row: ProbeRow, shots: Sequence[Shot], done: Mapping[int, Preview]
) -> Iterator[tuple[int, int, list[Shot]]]:
    """Stretches to decode, with the shots in each: as few seeks as it takes."""
    seeks = row.kind == "images" or row.key_frames is not None
    runs: list[tuple[int, int, list[Shot]]] = []
    for shot in sorted(shots, key=lambda s: min(s.start, s.peak)):
        a, b = min(shot.start, shot.peak), max(shot.stop, shot.peak + 1)
        if not seeks and b > IN_ORDER_FRAMES:
            done[
                shot.number
            ].reason = f"only files that allow seeking are read beyond frame {IN_ORDER_FRAMES:,}"
        elif runs and (not seeks or a - runs[-1][1] <= SAME_SEEK):
            first, stop, some = runs[-1]
            runs[-1] = first, max(stop, b), [*some, shot]
        else:
            runs.append((a, b, [shot]))
    yield from runs


def _keep_picture(
    shot: Shot,
    pixels: Pixels,
    folder: Path,
    preview: Preview,
    use: Callable[[int, Pixels], object] | None,
) -> None:
    write_jpeg(folder / f"{shot.number}.jpg", pixels)
    preview.picture, preview.size = True, (pixels.shape[1], pixels.shape[0])
    if use is not None:
        use(shot.number, pixels)


def write_jpeg(path: Path, pixels: Pixels) -> None:
    """Write a picture, no side longer than `PICTURE`."""
    data = jpeg_bytes(pixels, PICTURE)
    write_atomically(path, lambda p: p.write_bytes(data))


def _finish(take: _Take, row: ProbeRow, folder: Path, done: Mapping[int, Preview]) -> None:
    if not take.frames:
        return
    frames, take.frames = take.frames, []
    rate = Fraction(row.fps / take.step).limit_denominator(1000)
    path = folder / f"{take.shot.number}.webm"
    write_atomically(path, lambda p: encode_clip(p, frames, rate))
    stop = min(take.shot.stop, take.shot.start + take.step * len(frames))
    done[take.shot.number].clip = (take.shot.start, stop, take.step)


def encode_clip(path: Path, frames: Sequence[Pixels], rate: Fraction) -> None:
    """Write pictures as VP9 in WebM, with a key frame in each second: a click seeks at once.

    Args:
        path:
            The file.
        frames:
            (H, W, 3) uint8 RGB each, of one size; one more row or column than even is cut off.
        rate:
            Pictures a second.
    """
    height, width = (n - n % 2 for n in frames[0].shape[:2])
    with av.open(str(path), "w", format="webm") as out:
        stream = out.add_stream("libvpx-vp9", rate=rate, options=_CODEC)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.gop_size = max(1, round(rate))
        for pixels in frames:
            picture = np.ascontiguousarray(pixels[:height, :width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def _small(pixels: Pixels) -> Pixels:
    """A copy of a picture in the size of a clip, at least 16 pixels on each side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, CLIP_SIDE / max(height, width))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
