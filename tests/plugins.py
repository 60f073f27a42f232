"""Distributions as pip would leave them: a folder of metadata, modules, entry points."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from vadpipe.pipeline.registry import DATASETS, DETECTORS, EXTRACTORS


def write_distribution(
    root: Path,
    name: str,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> Path:
    """Install a distribution in a folder that is on the path, without pip.

    Args:
        root:
            The folder.
        name:
            Of the distribution.
        entry_points:
            Group -> name -> "module:attribute".
        modules:
            Name -> source.
        version:
            Of the distribution.

    Returns:
        The root.
    """
    info = root / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {place}" for key, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, source in (modules or {}).items():
        (root / f"{module}.py").write_text(source)
    return root


EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "example_plugin"


def register_example(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the example plug-in known, as if it were installed in an empty folder."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points, version = project["entry-points"], project["version"]
    write_distribution(folder, project["name"], points, version=version)
    patch.syspath_prepend(EXAMPLE)
    patch.syspath_prepend(folder)
    reread(patch)


def reread(patch: pytest.MonkeyPatch) -> None:
    """Let the registries see the entry points of now, until the end of the test."""
    for registry in (EXTRACTORS, DETECTORS, DATASETS):
        patch.delitem(registry.__dict__, "_plugins", raising=False)
        patch.setitem(registry.__dict__, "_plugins", registry._plugins)
