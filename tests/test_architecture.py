"""The rules of the house, read off the source: who imports whom, flat packages, no print."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("data_manifests", "extractors", "detectors", "pipeline")
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]


def rooms_imported(tree: ast.AST, path: Path) -> set[str]:
    """The other rooms that a file imports."""
    package = ("vadpipe", *path.parent.parts)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            whole = (*base, *(node.module or "").split("."))
            found.add(whole[1] if whole[0] == "vadpipe" else "")
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("vadpipe.")}
    return found & set(ROOMS) - {path.parts[0]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_only_the_pipeline_imports_other_rooms(path: Path) -> None:
    place = path.relative_to(REPOSITORY)
    others = rooms_imported(ast.parse(path.read_text()), place)
    assert place.parts[0] == "pipeline" or not others, f"{path} imports {others}"


def test_the_check_above_sees_imports() -> None:
    tree = ast.parse("from ...extractors.base import X\nimport vadpipe.pipeline.probe\n")
    assert rooms_imported(tree, Path("detectors/deep/file.py")) == {"extractors", "pipeline"}


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


def test_every_folder_is_a_named_package() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(REPOSITORY) for path in SOURCES}
    assert all((REPOSITORY / folder / "__init__.py").is_file() for folder in folders)
    named = {".".join(("vadpipe", *folder.parts)) for folder in folders}
    assert set(setup["packages"]) == named, "a package is missing from the wheel"
    assert setup["package-dir"] == {f"vadpipe.{room}": room for room in ROOMS}


def test_no_catch_all_files() -> None:
    assert not {p.name for p in SOURCES} & {"utils.py", "common.py", "misc.py", "helpers.py"}
