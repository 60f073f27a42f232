"""Pictures of events, decoded from the footage."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...extractors.footage.errors import DecodeError, SeekMismatch
from ...extractors.footage.guarded import guarded_frames, guarded_probe
from ...extractors.footage.video import ProbeRow, in_order

THUMBNAIL = 256  # longest side, pixels
SAME_SEEK = 100  # wanted frames no further apart are decoded in one go
IN_ORDER_FRAMES = 20_000  # most frames to decode for thumbnails where a file allows no seeking

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of one frame, or why there is none.

    Attributes:
        frame: its number in the file.
        source: a `data:` URI, None where the frame could not be had.
        reason: why not.
    """

    frame: int
    source: str | None
    reason: str = ""


def event_thumbnails(
    path: Path | None,
    content_id: str,
    frames: Iterable[int],
    *,
    whole_id: str = "",
    probe: Callable[..., ProbeRow] = guarded_probe,
    in_order_frames: int = IN_ORDER_FRAMES,
    use: Callable[[int, Pixels], object] | None = None,
    draw: Callable[[int, Pixels], Pixels] | None = None,
) -> dict[int, Thumbnail]:
    """Small pictures of some frames of a video, decoding little more than these.

    Footage that has moved or been damaged since it was scored raises nothing: the thumbnail says
    so, and the report goes on.

    Args:
        path:
            File or image folder; None where there is no footage.
        content_id:
            Of the footage that was scored; if another file is at this path, there are no pictures.
        frames:
            Frame numbers.
        whole_id:
            Of every byte of it; "" compares the content id alone, which may cover samples.
        probe:
            As in `write_report`.
        in_order_frames:
            Frames from here on are not fetched from files that have to be decoded from their start.
        use:
            Called with each frame number and its (H, W, 3) picture, so that no frame is decoded
            twice. A frame comes again only after a `SeekMismatch`; then the last one is right.

        draw:
            Called the same way; the thumbnail shows the picture that it returns.

    Returns:
        Frame number -> thumbnail, one for each of `frames`.
    """
    found: dict[int, Thumbnail] = {}
    ids = content_id, whole_id
    for frame, decoded in _decode(path, ids, sorted(set(frames)), probe, in_order_frames):
        if isinstance(decoded, str):
            found[frame] = Thumbnail(frame, None, decoded)
            continue
        found[frame] = Thumbnail(frame, jpeg(decoded if draw is None else draw(frame, decoded)))
        if use is not None:
            use(frame, decoded)
    return found


def _decode(
    path: Path | None,
    ids: tuple[str, str],
    wanted: Sequence[int],
    probe: Callable[..., ProbeRow],
    in_order_frames: int,
) -> Iterator[tuple[int, Pixels | str]]:
    """Each wanted frame with its pixels, or with why it cannot be had."""
    if path is None:
        yield from ((frame, "There is no footage, only imported features") for frame in wanted)
        return
    done: set[int] = set()
    reason = "the file ends before this frame"
    try:
        row = scored_footage(path, *ids, probe)
        try:
            for frame, pixels in _fetch(row, wanted, in_order_frames):
                done.add(frame)
                yield frame, pixels
        except SeekMismatch:
            for frame, pixels in _fetch(in_order(row), wanted, in_order_frames):
                done.add(frame)
                yield frame, pixels
    except Exception as error:  # a damaged file must not stop the page: it shows the error
        reason = f"{type(error).__name__}: {error}"
    yield from ((frame, reason) for frame in wanted if frame not in done)


def scored_footage(
    path: Path, content_id: str, whole_id: str, probe: Callable[..., ProbeRow]
) -> ProbeRow:
    """Open the footage that scores were made of.

    Args:
        path:
            File or image folder.
        content_id:
            Of what was scored.
        whole_id:
            Of every byte of it; "" where it is not known.
        probe:
            As in `write_report`.

    Raises:
        DecodeError: it cannot be opened, or it is something else now.
    """
    row = probe(path, hash_mode="full" if content_id.startswith("f1-") else "sampled")
    if row.content_id != content_id or (whole_id and row.whole_id not in ("", whole_id)):
        raise DecodeError("this is not the file that was scored: it has changed since")
    return row


def _fetch(
    row: ProbeRow, wanted: Sequence[int], in_order_frames: int
) -> Iterator[tuple[int, Pixels | str]]:
    """The wanted frames (ascending), with as few seeks as it takes."""
    seeks = row.kind == "images" or row.key_frames is not None
    runs: list[list[int]] = []
    for frame in wanted:
        if not seeks and frame >= in_order_frames:
            yield frame, f"only files that allow seeking are read beyond frame {in_order_frames:,}"
        elif runs and (not seeks or frame - runs[-1][-1] <= SAME_SEEK):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    for run in runs:
        with guarded_frames(row, run[0], run[-1] + 1) as decoded:
            for shown in decoded:
                if shown.index in run:
                    yield shown.index, shown.image


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """An (H, W, 3) picture as a small JPEG in a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(pixels, THUMBNAIL)).decode()


def jpeg_bytes(pixels: NDArray[np.uint8], longest: int) -> bytes:
    """An (H, W, 3) picture, no side longer than this, as the bytes of a JPEG file."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return buffer.getvalue()
