"""Numbers in the docs that the code holds, or that follow from other numbers of the page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from vadpipe.data_manifests import atomic
from vadpipe.extractors.detection import boxes_file
from vadpipe.extractors.footage import guarded
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.weights import guarded_read
from vadpipe.pipeline.engine import coordinator
from vadpipe.pipeline.importing import files
from vadpipe.pipeline.scores import summary
from vadpipe.pipeline.store import sharded_array
from vadpipe.pipeline.store.feature_store import FeatureStore

DOCS = Path(__file__).parents[1] / "docs"
SCALING = (DOCS / "scaling.md").read_text("utf-8")
GRIDS = ((2, 3), (3, 5), (4, 7))  # of ssrl


def text(page: str) -> str:
    return " ".join((DOCS / page).read_text("utf-8").split())


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("cache.md", f"A run adds a part every {coordinator.INDEX_ROWS:,} shards"),
        (
            "cache.md",
            "folds parts when there are more than "
            f"{inspect.signature(FeatureStore.fold_index).parameters['most'].default}",
        ),
        ("cache.md", f"Of mapped shards at most {sharded_array.MOST_OPEN} are open at once"),
        ("score.md", f"are written {summary.ROW_GROUP:,} videos at a time"),
        ("score.md", f"a batch and {guarded.MOST_SLOTS} decoded frames for each stream"),
        ("import.md", f"an array may have {files.MAX_ARRAY_BYTES >> 30} GiB"),
        (
            "import.md",
            f"a text may have {files.MAX_TEXT_BYTES >> 20} MiB and {files.MAX_LINE_BYTES >> 20} "
            f"MiB a line, an archive {files.MAX_MEMBERS:,} members",
        ),
        (
            "hostile.md",
            f"after {guarded_read.SECONDS:.0f} s, by the clock or of computing (and 1 s for each "
            f"{guarded_read.BYTES_A_SECOND >> 20} MiB)",
        ),
        ("hostile.md", f"a boxes file may have {boxes_file.MOST_ROWS:,} rows"),
        ("score.md", f"{16 + 2 * sum(a * b for a, b in GRIDS)} bytes a row"),
    ],
)
def test_limits_are_those_of_the_code(page: str, sentence: str) -> None:
    assert sentence in text(page)


def test_the_limits_of_footage_are_those_of_the_page() -> None:
    page = (DOCS / "hostile.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE)

    def value(cell: str) -> float:
        number, *rest = cell.split()
        unit = {"GiB": 1 << 30, "TiB": 1 << 40}.get(rest[0] if rest else "", 1)
        return float(number.replace(",", "")) * unit

    assert {key: value(cell) for key, cell in rows} == DecodeLimits().model_dump()


def test_temporary_files_go_after_a_day() -> None:
    assert atomic.STALE_SECONDS == 24 * 3600 and "once they are a day old" in text("cache.md")


def table(header: str) -> dict[str, dict[str, float]]:
    """The numbers of the table of a page whose header has this column: row -> column -> number."""
    lines = SCALING.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("|") and f"| {header} |" in line)
    names = [cell.strip() for cell in lines[at].strip("|").split("|")]
    rows: dict[str, dict[str, float]] = {}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        found = {}
        for name, cell in zip(names[1:], cells, strict=True):
            if (match := re.match(r"[0-9][0-9,.]*", cell)) is not None:
                unit = 1e6 if "TB" in cell else 1.0  # MB
                found[name.partition(",")[0]] = float(match[0].replace(",", "")) * unit
        rows[re.sub(r" \(.*\)$", "", first)] = found  # without the size of the frames
    return rows


FRAMES = 25 * 3600  # of an hour
GPU = 300  # TFLOP/s, as the page assumes
HOURS = 100_000


def test_what_a_gpu_does_follows_from_the_flops_of_an_hour() -> None:
    cost, gpu = table("TFLOP"), table("times real time")
    assert gpu.keys() <= cost.keys() and len(gpu) > 4
    for name, row in gpu.items():
        rate = FRAMES * GPU / cost[name]["TFLOP"]
        assert row["frames/s a GPU"] == pytest.approx(rate, rel=0.02), name
        assert row["times real time"] == pytest.approx(rate / 25, rel=0.02), name


def test_an_archive_costs_what_its_hours_cost() -> None:
    cost, archive = table("TFLOP"), table("GPU-hours (*U* assumed)")
    measured = [name for name in archive if name in cost]
    assert len(measured) > 5
    for name in measured:
        row, hour = archive[name], cost[name]
        assert row["GPU-hours (*U* assumed)"] == pytest.approx(
            hour["TFLOP"] * HOURS / GPU / 3600, rel=0.03
        )
        assert row["bytes"] == pytest.approx(hour["MB"] * HOURS, rel=0.05), name
        hours = hour["CPU core-hours"] * HOURS
        assert row["CPU core-hours (measured rate)"] == pytest.approx(hours, rel=0.04), name
        assert row["money on CPUs"] == pytest.approx(0.04 * hours, rel=0.06), name
        gpu_hours = row["GPU-hours (*U* assumed)"]
        assert row["money on GPUs"] == pytest.approx(3 * gpu_hours, rel=0.06), name


def test_hashing_an_archive_costs_what_a_gigabyte_costs() -> None:
    page = " ".join(SCALING.split())
    gigabytes = 2e6 / 8 * 3600 * HOURS / 1e9
    assert gigabytes == 90_000 and "at 2 Mbit/s 90 TB of footage" in page
    seconds = float(re.search(r"\(([0-9.]+) CPU seconds a GB", page)[1])  # type: ignore[index]
    assert f"so {seconds * gigabytes / 3600:.0f} core-hours" in page
    assert f"at 1 GB/s the disks take {gigabytes / 3600:.0f} hours" in page
    assert f"takes {seconds} s of a core for each GB" in text("probe.md")


TRIVIAL = ("motion_energy", "background", "flow_peak", "speed_peak")


def test_no_trivial_baseline_comes_far_on_the_plaza() -> None:
    """The benchmark separates systems only while what knows nothing stays near chance."""
    tables = (DOCS / "results" / "plaza.md").read_text("utf-8").split("\n\n")
    (first,) = (part for part in tables if part.startswith("| detector | micro AUC |"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()[2:]]
    auc = {row[0]: float(row[1]) for row in rows if row[0].split("`")[1] in TRIVIAL}
    assert {name.split("`")[1] for name in auc} == set(TRIVIAL)
    assert max(auc.values()) < 80
    span = f"{min(auc.values()):.1f} to {max(auc.values()):.1f} micro AUC"
    assert span in text("datasets/plaza.md") and span in text("results/baselines.md")
