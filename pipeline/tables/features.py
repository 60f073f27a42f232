"""What `extract` and `import` print about feature sets."""

from __future__ import annotations

from ..engine.planning import Estimate
from ..extract import Extracted
from ..import_features import Imported

MOST_NAMED = 10  # videos with damaged frames that a line names


def estimate_line(cost: Estimate) -> str:
    """What an extraction would cost, in one line."""
    return (
        f"{cost.videos} videos, {cost.hours:,.2f} hours, {cost.spans} shards, "
        f"{cost.frames:,} frames, {cost.rows:,} clips, {cost.bytes:,} bytes, "
        f"{cost.flops / 1e12:,.1f} TFLOP"
    )


def extracted_lines(done: Extracted) -> list[str]:
    """The folders of the feature sets, what was written, and the videos with damaged frames."""
    lines = [str(store.root) for store in done.stores]
    what = written_shards(done.written, len(done.failures), len(done.rows))
    lines.append(f"{what}: {len(done.rows)} videos are complete")
    if done.damaged:
        worst = sorted(done.damaged.items(), key=lambda item: -item[1])
        named = ", ".join(f"{video_id} {n}" for video_id, n in worst[:MOST_NAMED])
        total = sum(done.damaged.values())
        lines.append(f"damaged frames: {total} in {len(worst)} videos ({named})")
    return lines


def imported_lines(done: Imported, *, dry_run: bool) -> list[str]:
    """The folders of the feature sets, then what was written or would be."""
    lines = [str(store.root) for store in done.stores]
    if dry_run:
        lines.append(f"{len(done.videos)} videos, {done.bytes:,} bytes; nothing is written")
    else:
        what = written_shards(done.written, len(done.failures), len(done.videos))
        lines.append(f"{what}: {len(done.videos)} videos are complete")
    return lines


def written_shards(written: int, failed: int, complete: int) -> str:
    """What a run has written; one whose videos all failed had something to do."""
    if written or (failed and not complete):
        return f"{written} shards written"
    return "nothing to do"
