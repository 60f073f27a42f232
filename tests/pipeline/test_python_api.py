"""What is imported from vadpipe.pipeline: the stages, on first use, also inside an event loop."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic import write_tiny_scene
from vadpipe import pipeline
from vadpipe.pipeline import (
    Manifest,
    build_manifest,
    evaluate_runs,
    extract_features,
    probe_files,
    read_manifest,
    resolve_extractor,
    write_manifest,
)
from vadpipe.pipeline.scores.checked import ScoreFolderError


def test_every_exported_name_is_there_and_typed() -> None:
    assert list(pipeline.EXPORTED) == pipeline.__all__ == sorted(pipeline.__all__)
    assert set(pipeline.__all__) <= set(dir(pipeline))
    for name in pipeline.__all__:
        found = getattr(pipeline, name)
        assert callable(found) and found.__name__ == name
    tree = ast.parse(Path(pipeline.__file__).read_text(encoding="utf-8"))
    (for_types,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: "." * node.level + (node.module or "")
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == pipeline.EXPORTED


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'probe_file'"):
        _ = pipeline.probe_file


def test_the_room_imports_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys; from vadpipe import pipeline; dir(pipeline); print(*sys.modules); "
        "pipeline.Engine; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    ours = {"vadpipe", "vadpipe.pipeline"}
    assert {name for name in before if name.startswith("vadpipe")} <= ours
    assert "numpy" not in before and "vadpipe.pipeline.engine.settings" in after


@pytest.mark.parametrize(("name", "module"), [("run", "run.run"), ("import_features",) * 2])
def test_a_function_is_not_hidden_by_the_module_of_its_name(name: str, module: str) -> None:
    """The module is imported first, in a process of its own."""
    code = (
        f"import vadpipe.pipeline.{module}; from vadpipe import pipeline; "
        f"from vadpipe.pipeline import {name} as first; "
        f"from vadpipe.pipeline.{module} import {name} as second; "
        f"assert callable(first) and first is pipeline.{name}; "
        "assert getattr(first, '__wrapped__', first) is second"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_run_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def cell() -> int:
        scene = write_tiny_scene(tmp_path / "scene", n_train=1, n_test=1)
        manifest = build_manifest("synthetic", scene)
        probed = probe_files(manifest, tmp_path / "cache")
        done = extract_features(manifest, probed, [resolve_extractor("null")], tmp_path / "cache")
        assert not probed.failures and not done.failures
        return done.written

    assert asyncio.run(cell()) == 2


def test_paths_may_be_text(tmp_path: Path) -> None:
    path = str(tmp_path / "m.csv")
    scene = write_tiny_scene(tmp_path / "scene")
    made: Manifest = build_manifest("synthetic", str(scene))  # type: ignore[arg-type]
    write_manifest(made, path=path)  # type: ignore[arg-type]
    assert read_manifest(path).digest == made.digest  # type: ignore[arg-type]
    with pytest.raises(ScoreFolderError, match="nowhere is not a score folder"):
        evaluate_runs(["nowhere", Path("elsewhere")], made)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="missing a required argument: 'root'"):
        build_manifest("synthetic", roots="scene")  # type: ignore[call-arg]
