"""Whether the clips of a video fit into memory: asked before one frame is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from ...data_manifests.errors import VadpipeError
from ...data_manifests.memory import OutOfMemory, available_bytes, total_bytes
from ...extractors.footage.errors import OverLimit
from ...extractors.footage.guarded import LEAST_SLOTS
from ...extractors.footage.limits import DecodeLimits
from ...extractors.footage.video import ProbeRow
from .extractor_spec import ExtractorSpec

BESIDE = 1 << 17  # bytes of a stream beside its pictures


def clip_bytes(specs: Sequence[ExtractorSpec], height: int, width: int) -> int:
    """Bytes that the pictures of one stream take at once, at least.

    These are the frames on the way from the decoder, those that wait to become a clip, and for each
    extractor one clip that is computed with all that its computation makes of it, and the next one.
    """
    frame = height * width * 3
    waiting, clips = 0, 0.0
    for spec in specs:
        frames = _frames(spec)
        waiting = max(waiting, frames)
        clips += frames * (2 + spec.make().copies)
    return round(frame * (LEAST_SLOTS + waiting + clips)) + BESIDE


def check_clips(
    row: ProbeRow, specs: Sequence[ExtractorSpec], limits: DecodeLimits, streams: int
) -> None:
    """Refuse a video whose clips are too large.

    Args:
        row:
            The video.
        specs:
            The extractors that read it together.
        limits:
            What it may cost.
        streams:
            Spans in flight on this machine.

    Raises:
        OverLimit: one stream needs more than the limit.
        OutOfMemory: one stream, or all of them, need more than the machine has.
    """
    needed = clip_bytes(specs, row.height, row.width)
    longest = max(map(_frames, specs))
    what = f"{row.path}: clips of {longest} frames of {row.width} x {row.height} pixels"
    if needed > limits.clip_memory:
        raise OverLimit(
            f"{what} need {needed:,} bytes of memory, more than the limit of "
            f"{limits.clip_memory:,}; if the machine has it, raise the limit: --limit clip_memory=N"
        )
    free, whole = available_bytes(), total_bytes()
    if free is not None and needed > free:
        raise OutOfMemory(
            f"{what} need {needed:,} bytes of memory, and {free:,} are left: end other programs, "
            "or take a machine with more memory"
        )
    if whole is not None and needed * streams > whole:
        raise OutOfMemory(
            f"{what} need {needed:,} bytes of memory in each of {streams} streams, and the machine "
            f"has {whole:,}: run it with --streams 1, and fewer --workers"
        )


def out_of_memory(error: MemoryError | RuntimeError, row: ProbeRow) -> OutOfMemory | None:
    """The error of a video if memory ran out, of a device too; None for any other error."""
    if isinstance(error, VadpipeError):
        return None
    if not isinstance(error, MemoryError):  # torch raises a plain one for the host's memory
        from ...extractors.device.micro_batch import is_out_of_memory  # torch takes seconds

        if not is_out_of_memory(error):
            return None
    return OutOfMemory(
        f"{row.path}: memory ran out over frames of {row.width} x {row.height} pixels "
        f"({error or 'no more is said'}): run it with --streams 1 and fewer --workers, or on a "
        "machine with more memory"
    )


def _frames(spec: ExtractorSpec) -> int:
    rule = spec.clip_rule()
    return rule.before + rule.length + rule.after
