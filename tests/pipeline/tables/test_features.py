"""What `extract` and `import` print: counts that add up, the worst videos first."""

from __future__ import annotations

from pathlib import Path

from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.engine.planning import Estimate
from vadpipe.pipeline.extract import Extracted
from vadpipe.pipeline.import_features import Imported
from vadpipe.pipeline.store.failures import Failure
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.tables.features import (
    MOST_NAMED,
    estimate_line,
    extracted_lines,
    imported_lines,
)

ROW = ProbeRow("/a.mp4", "s1-a", "video", 50, False, 25.0, 48, 64, 0, 2.0, "h264", "mov")


def store(cache: Path) -> FeatureStore:
    return FeatureStore(cache, {"extractor": "null", "arrays": []})


def test_an_estimate_is_one_line_with_units() -> None:
    cost = Estimate(2, 3, 4_000, 5_000_000, 6.25e12, 7_000, 8.125)
    assert estimate_line(cost) == (
        "2 videos, 8.12 hours, 3 shards, 7,000 frames, 4,000 clips, 5,000,000 bytes, 6.2 TFLOP"
    )


def test_damaged_frames_are_added_up_and_the_worst_come_first(tmp_path: Path) -> None:
    kept = store(tmp_path)
    damaged = {f"v{i:02d}": i for i in range(1, MOST_NAMED + 3)}
    lines = extracted_lines(Extracted([kept], {"a": ROW}, written=3, damaged=damaged))
    assert lines[:2] == [str(kept.root), "3 shards written: 1 video is complete"]
    assert lines[2].startswith("damaged frames: 78 in 12 videos (v12 12, v11 11, ")
    assert lines[2].count(", ") == MOST_NAMED - 1 and "v02" not in lines[2]


def test_a_run_without_work_says_so(tmp_path: Path) -> None:
    assert extracted_lines(Extracted([], {"a": ROW})) == ["nothing to do: 1 video is complete"]
    failed = [Failure("b", "extract", "Broken", "why")]
    assert extracted_lines(Extracted([], {}, failures=failed)) == [
        "0 shards written: 0 videos are complete"
    ]
    done = Imported([store(tmp_path)], ["a", "b"], bytes=1_234)
    assert imported_lines(done, dry_run=True)[1:] == ["2 videos, 1,234 bytes; nothing is written"]
    assert imported_lines(done, dry_run=False)[1:] == ["nothing to do: 2 videos are complete"]
