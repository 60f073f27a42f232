"""The bench of the review page: its archive is what it says, and no browser is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.browsers import chromium
from vadpipe.pipeline.bench import page
from vadpipe.pipeline.bench.page import (
    FPS,
    GAP,
    ROW,
    SPIKES,
    BrowserMissing,
    bench_page,
    draw_archive,
)


def test_the_archive_has_its_events(tmp_path: Path) -> None:
    folder, events = draw_archive(tmp_path / "scores", 3)
    assert events == 3 * SPIKES == len(folder.events())
    (first, *_) = folder.events()
    assert (first["frame_start"], first["frame_stop"]) == (GAP * ROW, (GAP + 1) * ROW)
    assert [video["fps"] for video in folder.videos()] == [FPS] * 3
    assert folder.threshold() is not None and 0.9 < (folder.threshold() or 0) < 1


@pytest.mark.slow
def test_what_is_measured_is_there_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with chromium() as browser:
        monkeypatch.setattr(page, "running_browser", lambda: _Given(browser))
        values, lines = bench_page(videos=2, repeats=1)
    assert values["events"] == 2 * SPIKES and len(lines) == 2 + 1 + 5
    (paint,), (rows,), (ready,) = (
        values[f"{name}_ms"] for name in ("first_paint", "first_rows", "ready")
    )
    assert 0 < rows <= ready and paint > 0
    assert len(values["drag_ms"]) == len(values["list_ms"]) == 10
    assert all(0 < a <= b for a, b in zip(values["drag_ms"], values["list_ms"], strict=True))
    counts = values["events_at_drag"]
    assert counts[-1] < counts[1] <= 2 * SPIKES  # a higher threshold has fewer


class _Given:
    """A browser that is running already, and stays."""

    def __init__(self, browser: object) -> None:
        self._browser = browser

    def __enter__(self) -> object:
        return self._browser

    def __exit__(self, *_: object) -> None:
        pass


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.shutil, "which", lambda name: None)
    with pytest.raises(BrowserMissing, match="apt-get install chromium"):
        bench_page(videos=1)
    monkeypatch.setattr(page.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(BrowserMissing, match="pip install playwright"):
        bench_page(videos=1)
