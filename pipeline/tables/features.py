"""What `extract` and `import` print about feature sets."""

from __future__ import annotations

from ...data_manifests.plain_text import counted
from ..engine.planning import Estimate
from ..extract import Extracted
from ..import_features import Imported

MOST_NAMED = 10  # videos with damaged frames that a line names


def estimate_line(cost: Estimate) -> str:
    """What an extraction would cost, in one line."""
    return (
        f"{counted(cost.videos, 'video')}, {cost.hours:,.2f} hours, "
        f"{counted(cost.spans, 'shard')}, {counted(cost.frames, 'frame')}, "
        f"{counted(cost.rows, 'clip')}, {counted(cost.bytes, 'byte')}, "
        f"{cost.flops / 1e12:,.1f} TFLOP"
    )


def extracted_lines(done: Extracted) -> list[str]:
    """The folders of the feature sets, what was written, and the videos with damaged frames."""
    lines = [str(store.root) for store in done.stores]
    what = written_shards(done.written, len(done.failures), len(done.rows))
    lines.append(f"{what}: {_complete(len(done.rows))}")
    if done.damaged:
        worst = sorted(done.damaged.items(), key=lambda item: -item[1])
        named = ", ".join(f"{video_id} {n}" for video_id, n in worst[:MOST_NAMED])
        total = sum(done.damaged.values())
        lines.append(f"damaged frames: {total} in {counted(len(worst), 'video')} ({named})")
    return lines


def found_lines(done: Imported) -> list[str]:
    """What the files of an import are, and what it lacks."""
    failed = {failure.video_id for failure in done.failures}
    lacking = len([video_id for video_id in done.missing if video_id not in failed])
    lines = [f"{line}: {counted(videos, 'video')}" for line, videos in done.layouts.items()]
    if lacking:
        lines.append(f"no file for {counted(lacking, 'video')} of the manifest")
    if failed:
        lines.append(
            f"{counted(len(failed), 'video or file', 'videos or files')} could not be used"
        )
    return lines


def imported_lines(done: Imported, *, dry_run: bool) -> list[str]:
    """The folders of the feature sets, then what was written or would be."""
    lines = [str(store.root) for store in done.stores]
    if dry_run:
        size = f"{counted(len(done.videos), 'video')}, {counted(done.bytes, 'byte')}"
        lines.append(f"{size}; nothing is written")
    else:
        what = written_shards(done.written, len(done.failures), len(done.videos))
        lines.append(f"{what}: {_complete(len(done.videos))}")
    return lines


def written_shards(written: int, failed: int, complete: int) -> str:
    """What a run has written; one whose videos all failed had something to do."""
    if written or (failed and not complete):
        return f"{counted(written, 'shard')} written"
    return "nothing to do"


def _complete(videos: int) -> str:
    return f"{counted(videos, 'video')} {'is' if videos == 1 else 'are'} complete"
