"""How quick the review page is with an archive: first rows, all data, a threshold that moves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ...data_manifests.errors import VadpipeError
from ...data_manifests.record import VideoRecord
from ...detectors.base import Scores
from ...extractors.footage.video import ProbeRow
from ..review.pictures import Limits
from ..review.stage import write_review
from ..scores.events import Calibration, EventConfig, events_table, find_events
from ..scores.folder import ScoreFolder
from ..scores.video_tables import video_row
from .race import hardware, heading

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FPS, ROW = 25.0, 16  # of the drawn videos: frames a second, frames a row
SPIKES, GAP = 50, 18  # events of a video, and rows from one to the next
# Notes when the first row of a list is in the document, before any script of the page runs.
_WATCH = """new MutationObserver((_, watcher) => {
  if (document.querySelector(".row")) { window.firstRow = performance.now(); watcher.disconnect(); }
}).observe(document, {childList: true, subtree: true});"""
# From setting the threshold to the frame with the number of its events and the curve of the open
# video, that number, and to the list of all events.
_DRAG = """(high) => new Promise((resolve) => {
  const begin = performance.now();
  vadpipe.app.high(high);
  requestAnimationFrame(() => { const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const moved = [performance.now() - begin, vadpipe.app.state.count];
      const look = () => vadpipe.app.state.listed === high
        ? resolve([...moved, performance.now() - begin]) : setTimeout(look, 1);
      look();
    };
    channel.port2.postMessage(0); });
})"""


class BrowserMissing(VadpipeError, RuntimeError):
    """There is no browser, or nothing that drives it."""


@contextmanager
def running_browser() -> Iterator[Any]:
    """A headless Chromium of this machine, driven by Playwright.

    Raises:
        BrowserMissing: one of the two is not installed.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise BrowserMissing(
            "no Chromium on PATH: install it (Debian: apt-get install chromium), and try again"
        )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BrowserMissing("playwright is not installed: pip install playwright") from error
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=120_000
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Opening:
    """One opening of the page, in milliseconds from the begin of its loading.

    Attributes:
        paint: the first content was painted.
        rows: the first row of the list was there.
        ready: all data were loaded.
        drags: from each move of the threshold to the frame with the number of its events.
        events: how many there were at each of these thresholds.
        lists: from each move to the list of all events.
    """

    paint: float
    rows: float
    ready: float
    drags: tuple[float, ...]
    events: tuple[int, ...]
    lists: tuple[float, ...]


def bench_page(*, videos: int = 2000, repeats: int = 3) -> tuple[dict[str, Any], list[str]]:
    """Open the page of a synthetic archive, and move its threshold.

    Args:
        videos:
            Each has 50 events in ten minutes of rows of 16 frames.
        repeats:
            Openings, each in a new profile, with 10 moves of the threshold each.

    Returns:
        Values for machines, and lines for people.

    Raises:
        BrowserMissing: there is no browser.
    """
    with running_browser() as browser, tempfile.TemporaryDirectory() as place:
        folder, found = draw_archive(Path(place) / "scores", videos)
        index = write_review(folder.path, Path(place) / "page", limits=Limits(pictures=0))
        size = sum(path.stat().st_size for path in (index.parent / "data").iterdir())
        opened = [_open(browser, index) for _ in range(repeats)]
    drags = [drag for each in opened for drag in each.drags]
    lists = [each_list for each in opened for each_list in each.lists]
    times = {
        "first_paint_ms": [each.paint for each in opened],
        "first_rows_ms": [each.rows for each in opened],
        "ready_ms": [each.ready for each in opened],
        "drag_ms": drags,
        "list_ms": lists,
    }
    values: dict[str, Any] = {
        "hardware": hardware(),
        "videos": videos,
        "events": found,
        "data_bytes": size,
        "repeats": repeats,
        **times,
        "events_at_drag": list(opened[0].events),
    }
    told = (
        ("first paint", times["first_paint_ms"]),
        ("first rows of the list", times["first_rows_ms"]),
        ("all data loaded", times["ready_ms"]),
        ("threshold moved", drags),
        ("list of events follows", lists),
    )
    lines = heading("cpu", f"milliseconds, best / median / worst; {repeats} openings")
    lines.append(f"{videos:,} videos, {found:,} events, {size / 1e6:.1f} MB of data")
    lines += [
        f"{name:24}{min(each):10.1f} / {median(each):10.1f} / {max(each):10.1f} ms"
        for name, each in told
    ]
    return values, lines


def draw_archive(path: Path, videos: int) -> tuple[ScoreFolder, int]:
    """Write a score folder of synthetic videos without footage.

    Args:
        path:
            Of the folder.
        videos:
            Each has noise below the threshold and `SPIKES` rows above it.

    Returns:
        The folder, and its number of events.
    """
    rng, folder, config = np.random.default_rng(0), ScoreFolder(path), EventConfig()
    rows, total = (SPIKES + 1) * GAP, 0
    calibration = Calibration.from_scores([rng.random(2000) for _ in range(5)], method="drawn")
    levels = calibration.thresholds(config)
    start = ROW * np.arange(rows)
    with folder.locked(), folder.tables("drawn") as tables:
        for number in range(videos):
            video_id = f"camera-{number:05d}"
            score = 0.9 * rng.random(rows)
            score[GAP * np.arange(1, SPIKES + 1)] = 1.0 + rng.exponential(1.0, SPIKES)
            scores = Scores(start, start + ROW, {"score": score})
            n_frames = int(start[-1] + ROW)
            facts = {"n_frames": n_frames, "fps": FPS, "flags": []}
            folder.write_scores(video_id, scores, "drawn", facts)
            events = find_events(
                *(start, start + ROW, score, FPS, levels.high.value, levels.low.value, config)
            )
            total += len(events)
            part = folder.scores(video_id)
            tables.add_scores(part)
            probed = ProbeRow(
                *("", f"s1-{number:040d}", "features", n_frames, True, FPS, 0, 0, 0),
                *(n_frames / FPS, "", ""),
            )
            record = VideoRecord(video_id=video_id, path=None, split="test")
            tables.add([video_row(record, probed, part)], events_table({video_id: events}))
    folder.write_failures(())
    folder.write_run(
        {
            "dataset": "archive",
            "model": {"key": "drawn", "detector": "drawn"},
            "threshold": levels.to_json(),
            "events": config.model_dump(mode="json"),
        }
    )
    return folder, total


def _open(browser: Any, index: Path) -> Opening:
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    try:
        tab.set_default_timeout(300_000)
        tab.add_init_script(_WATCH)
        tab.goto(f"{index.as_uri()}#video/0/camera-00000")
        tab.wait_for_selector("html[data-ready=true]", state="attached")
        ready = tab.evaluate("() => performance.now()")
        paint = tab.evaluate(
            "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        rows = tab.evaluate("() => window.firstRow")
        high, top = tab.evaluate(
            "() => [vadpipe.app.state.high, vadpipe.app.state.page.scale.high]"
        )
        levels = np.linspace(0.9 * high, (high + top) / 2, 10)
        moved = [tab.evaluate(_DRAG, float(level)) for level in levels]
        drags, events, lists = zip(*moved, strict=True)
        return Opening(paint, rows, ready, drags, tuple(map(int, events)), lists)
    finally:
        tab.close()
