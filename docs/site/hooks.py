"""What the site adds to MkDocs: pages from the root of the repository, and links that hold on both.

Links in the documents are those of the repository, so that they work where it is browsed. README.md
is the home page, and a link to a folder leads to the README.md in it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
# Pages of the site that lie in the root of the repository.
FROM_ROOT = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
# The browser itself refuses what the theme would load from other hosts in some cases.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'"
)
LINK = re.compile(r"(\]\()([^)\s\"]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie in the root of the repository."""
    for name, source in FROM_ROOT.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The links of the repository as links of the site."""
    name = page.file.src_uri
    place = FROM_ROOT.get(name, f"docs/{name}")
    return LINK.sub(lambda found: found[1] + link(place, name, found[2]) + found[3], markdown)


def on_post_page(output: str, **_: object) -> str:
    """Every page forbids the browser to ask another host for anything."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return output.replace("<head>", f"<head>{policy}", 1)


def on_post_template(output_content: str, **_: object) -> str:
    """The page for addresses that do not exist, too."""
    return on_post_page(output_content)


def link(place: str, name: str, target: str) -> str:
    """A link of the document PLACE (in the repository) as one of the page NAME (in the site)."""
    path, hash_mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    there = os.path.normpath(PurePosixPath(place).parent / path)
    if (REPOSITORY / there).is_dir():
        there += "/README.md"
    pages = {source: page for page, source in FROM_ROOT.items()}
    there = pages.get(there, there.removeprefix("docs/"))
    return os.path.relpath(there, PurePosixPath(name).parent) + hash_mark + anchor
