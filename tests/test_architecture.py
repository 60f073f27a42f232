"""The rules of the house, read off the source: who imports whom, flat packages, no print."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("data_manifests", "extractors", "detectors", "pipeline")
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]


def rooms_imported(tree: ast.AST, room: str) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level == 2:
                found.add(name.partition(".")[0])
            elif node.level == 0 and name.startswith("vadpipe."):
                found.add(name.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("vadpipe.")}
    return found & set(ROOMS) - {room}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_only_the_pipeline_imports_other_rooms(path: Path) -> None:
    room = path.relative_to(REPOSITORY).parts[0]
    others = rooms_imported(ast.parse(path.read_text()), room)
    assert room == "pipeline" or not others, f"{path} imports {others}"


def test_the_check_above_sees_imports() -> None:
    tree = ast.parse("from ..extractors.base import X\nimport vadpipe.pipeline.store\n")
    assert rooms_imported(tree, "detectors") == {"extractors", "pipeline"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_bare_except_and_no_pickle(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: bare except"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = f"{ast.unparse(node.func.value)}.{node.func.attr}"
            assert called not in ("pickle.load", "pickle.loads"), f"{path}:{node.lineno}"
            if called == "torch.load":
                safe = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert safe.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_packages_are_flat_and_all_named() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(setup["packages"]) == {f"vadpipe.{room}" for room in ROOMS}
    assert setup["package-dir"] == {f"vadpipe.{room}": room for room in ROOMS}
    nested = [p for p in SOURCES if len(p.relative_to(REPOSITORY).parts) != 2]
    assert not nested, "a nested package is missing from the wheel"


def test_no_catch_all_files() -> None:
    assert not {p.name for p in SOURCES} & {"utils.py", "common.py", "misc.py", "helpers.py"}
