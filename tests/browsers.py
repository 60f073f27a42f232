"""One Chromium for all tests of pages: started once in a process, a fresh profile for each page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.needed import absent
from vadpipe.pipeline.bench.page import BrowserMissing, running_browser


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(running_browser())
        except BrowserMissing as error:
            absent(str(error))
        yield browser


class Opened:
    """A page of a folder in a profile of its own.

    Attributes:
        tab: of Playwright.
        said: errors of the page, and what it said on the console.
        asked: files that it asked for.
    """

    def __init__(self, browser: Any, index: Path, **options: Any) -> None:
        self.index = index
        self.said: list[str] = []
        self.asked: set[Path] = set()
        self._context = browser.new_context(accept_downloads=True, **options)
        self._context.set_default_timeout(60_000)
        self.tab = self._context.new_page()
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.tab.on("request", self._ask)

    def go(self, place: str = "") -> Any:
        """Open the page at a place in it, and wait until it has loaded its data."""
        self.tab.goto("about:blank")
        self.tab.goto(f"{self.index.as_uri()}{place}")
        self.tab.wait_for_selector("html[data-ready=true]", state="attached")
        return self.tab

    def another(self, place: str = "") -> Any:
        """Open the page in a second tab of the same profile."""
        tab = self._context.new_page()
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.goto(f"{self.index.as_uri()}{place}")
        tab.wait_for_selector("html[data-ready=true]", state="attached")
        return tab

    def close(self) -> None:
        """Close the page and forget its profile."""
        self._context.close()

    def _ask(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("blob", "about"):
            return
        self.asked.add(
            Path(unquote(address.path)) if address.scheme == "file" else Path(request.url)
        )
