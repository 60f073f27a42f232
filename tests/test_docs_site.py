"""The site is built from the documents without a dead link, and asks no other host for anything."""

from __future__ import annotations

import logging
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.browsers import Opened, chromium

REPOSITORY = Path(__file__).resolve().parent.parent
# A link of these is followed by a reader's click only; anything else is loaded with the page.
FOLLOWED = {"a"}


def build_site(out: Path, config: Path = REPOSITORY / "mkdocs.yml") -> list[str]:
    """Build a site strictly into a folder; what MkDocs warns of."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        loaded = load_config(str(config), site_dir=str(out), strict=True)
        loaded.plugins.on_startup(command="build", dirty=False)
        build(loaded)
    except Abort as error:
        said.append(str(error))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return said


class Loads(HTMLParser):
    """What a page loads: addresses of scripts, styles, pictures, frames, and in styles.

    Attributes:
        asked: the addresses, in order.
        links: addresses that a click follows.
        ids: anchors of the page.
        broken: texts that are Markdown still.
    """

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.broken: list[str] = []
        self._in: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            if name in given:
                place = self.links if tag in FOLLOWED else self.asked
                place.append(given[name])
        self.asked += re.findall(r"url\(([^)]*)\)", given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "style":
            self.asked += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", data)
        elif self._in and self._in[-1] in ("p", "li"):
            text = data.strip()
            if re.match(r"\||```|#{1,6} |[-*] |\d+\. ", text):
                self.broken.append(text[:60])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    assert not build_site(out)
    return out


@pytest.fixture(scope="module")
def found(site: Path) -> dict[str, Loads]:
    return {page.relative_to(site).as_posix(): Loads(page) for page in sorted(site.rglob("*.html"))}


def elsewhere(address: str) -> bool:
    return bool(re.match(r"\s*[\"']?(?:[a-z]+:)?//|\s*[\"']?(?!data:)[a-z]+:", address))


def test_every_document_is_a_page_and_nothing_is_loaded_from_elsewhere(
    site: Path, found: dict[str, Loads]
) -> None:
    documents = {
        path.relative_to(REPOSITORY / "docs").as_posix()
        for path in (REPOSITORY / "docs").rglob("*.md")
    }
    names = {re.sub(r"README\.md$", "index.md", name)[:-3] + ".html" for name in documents}
    root = {"index.html", "contributing.html", "changelog.html", "404.html"}
    assert set(found) == names | root
    for name, page in found.items():
        assert page.asked, name
        assert not [address for address in page.asked if elsewhere(address)], name
        # What the theme loads from elsewhere for these, it does not say in the page.
        text = (site / name).read_text(encoding="utf-8")
        assert "mermaid" not in text and 'data-md-component="source"' not in text, name
        assert "Content-Security-Policy" in text.partition("<title>")[0], name
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        loads = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", text)
        assert not [a or b for a, b in loads if elsewhere(a or b)], style.name


def test_no_markdown_is_left_in_the_pages(found: dict[str, Loads]) -> None:
    assert not {name: page.broken for name, page in found.items() if page.broken}


def test_links_and_anchors_of_the_built_pages_lead_somewhere(
    site: Path, found: dict[str, Loads]
) -> None:
    for name, page in found.items():
        for link in page.links:
            if elsewhere(link) or name == "404.html":  # that is for the root of a server
                continue
            path, _, anchor = unquote(link).partition("#")
            there = os.path.normpath(Path(name).parent / path) if path else name
            assert (site / there).is_file(), f"{name}: {link}"
            if anchor and there.endswith(".html"):
                assert anchor in found[there].ids, f"{name}: {link}"


def test_a_page_opens_from_the_disk_and_its_search_finds(site: Path) -> None:
    with chromium() as browser:
        opened = Opened(browser, site / "cache.html")
        opened.tab.goto(opened.index.as_uri())
        # The theme looks at keys, not at the value.
        opened.tab.locator("input.md-search__input").press_sequentially("hysteresis")
        opened.tab.wait_for_selector(".md-search-result__item a", timeout=180_000)
        results = opened.tab.query_selector(".md-search-result__list")
        assert "hysteresis" in results.text_content().lower()
        assert not opened.said
        assert all(path.is_relative_to(site) for path in opened.asked)
        opened.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# A\n[b](b.md)\n", "b.md"),
        ("# A\n[c](#nowhere)\n", "nowhere"),
        ("# A\n![d](d.jpg)\n", "d.jpg"),
        ("# A\n[e](/etc/passwd)\n", "/etc/passwd"),
        (None, 'not included in the "nav"'),
        ("# A\n", None),
    ],
)
def test_a_dead_link_or_a_page_that_no_one_finds_ends_the_build(
    tmp_path: Path, text: str | None, problem: str | None
) -> None:
    documents = tmp_path / "docs"
    documents.mkdir()
    (documents / "a.md").write_text(text or "# A\n")
    if text is None:
        (documents / "hidden.md").write_text("# Hidden\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {REPOSITORY / 'mkdocs.yml'}\nnav: [a.md]\nhooks: []\n"
        "plugins: []\nextra_css: []\ndocs_dir: docs\n"
    )
    said = build_site(tmp_path / "out", config)
    assert bool(said) == (problem is not None)
    assert problem is None or any(problem in line for line in said), said
