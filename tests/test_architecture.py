"""The rules of the house, read off the source: who imports whom, named packages, no print."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("data_manifests", "extractors", "detectors", "pipeline")
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
PLACES = [path.relative_to(REPOSITORY).with_suffix("").as_posix() for path in SOURCES]

# What a file or folder may import outside of itself, from the bottom up; a folder stands for all
# that is in it. What is not listed is not allowed. Every room may import the one base error, the
# one atomic write, the one reader of JSON, TOML and Parquet, the one way to show text, the one
# natural order, the one base of settings and the one answer to a name that does not exist: none of
# the rooms may have its own.
EVERYWHERE = {
    "data_manifests/errors",
    "data_manifests/atomic",
    "data_manifests/memory",
    "data_manifests/choices",
    "data_manifests/containers",
    "data_manifests/leftovers",
    "data_manifests/natural_order",
    "data_manifests/plain_text",
    "data_manifests/settings",
    "data_manifests/stored",
}
FOOTAGE, WEIGHTS, NETWORKS = "extractors/footage", "extractors/weights", "extractors/networks"
EXTRACTOR_PARTS = {"extractors/errors", "extractors/clips", "extractors/base", FOOTAGE, WEIGHTS}
STORE, ENGINE, SCORES = "pipeline/store", "pipeline/engine", "pipeline/scores"
SHARED = {STORE, ENGINE, SCORES, "pipeline/registry", "pipeline/models", "pipeline/bags"}
OTHER_ROOMS = {"data_manifests", "extractors", "detectors"}
STAGES = {
    "pipeline/probe",
    "pipeline/extract",
    "pipeline/import_features",
    "pipeline/import_tracks",
    "pipeline/train",
    "pipeline/score",
    "pipeline/fuse",
    "pipeline/evaluate",
    "pipeline/compare",
    "pipeline/labels",
    "pipeline/report",
    "pipeline/review",
    "pipeline/feedback",
    "pipeline/show",
    "pipeline/threshold",
    "pipeline/choose",
    "pipeline/drift",
    "pipeline/render",
}
ARROWS: dict[str, set[str]] = {
    "data_manifests": set(),
    # A trained network may start from pretrained weights, which the pipeline finds.
    "detectors": {NETWORKS, f"{WEIGHTS}/cards", f"{WEIGHTS}/slots", f"{WEIGHTS}/load"},
    "extractors/errors": set(),
    # The process that decodes may resize what it returns, with the bits of every other resizing.
    FOOTAGE: {"extractors/errors", "extractors/device/resize", "extractors/device/pixels"},
    WEIGHTS: {"extractors/errors"},
    "extractors/frame_memory": {FOOTAGE},
    "extractors/clips": {FOOTAGE, "extractors/frame_memory"},
    NETWORKS: {"extractors/errors", f"{WEIGHTS}/cards"},
    "extractors/base": EXTRACTOR_PARTS,
    # What makes a network ready replaces its layers.
    "extractors/device": EXTRACTOR_PARTS | {f"{NETWORKS}/fused", f"{NETWORKS}/folding"},
    "extractors/optical_flow": EXTRACTOR_PARTS | {"extractors/device"},
    # The motion of objects is the flow inside their boxes.
    "extractors/detection": EXTRACTOR_PARTS
    | {NETWORKS, "extractors/device", "extractors/optical_flow"},
    "extractors/inpainting": EXTRACTOR_PARTS | {NETWORKS, "extractors/device", "extractors/draws"},
    "extractors": {"extractors"},  # one file per extractor: every part of the room
    STORE: OTHER_ROOMS,
    "pipeline/registry": OTHER_ROOMS,
    SCORES: OTHER_ROOMS | {STORE},
    # The one part of a score folder that knows features: it takes them to their scores.
    "pipeline/scores/steps": OTHER_ROOMS | {STORE, SCORES, "pipeline/bags"},
    "pipeline/metrics": OTHER_ROOMS | {STORE, SCORES},
    ENGINE: OTHER_ROOMS | {STORE, "pipeline/registry"},
    "pipeline/models": OTHER_ROOMS | {STORE, ENGINE, SCORES, "pipeline/registry"},
    "pipeline/bags": OTHER_ROOMS | {STORE},
    "pipeline/importing": OTHER_ROOMS | {STORE, "pipeline/bags"},
    "pipeline/probe": OTHER_ROOMS | SHARED,
    "pipeline/extract": OTHER_ROOMS | SHARED,
    "pipeline/import_features": OTHER_ROOMS | SHARED | {"pipeline/importing"},
    # The same command with another kind of files; it reports in the same way.
    "pipeline/import_tracks": OTHER_ROOMS
    | SHARED
    | {"pipeline/importing", "pipeline/import_features"},
    "pipeline/sheets": OTHER_ROOMS,
    "pipeline/train": OTHER_ROOMS | SHARED | {"pipeline/sheets"},
    "pipeline/score": OTHER_ROOMS | SHARED | {"pipeline/extract"},  # what is missing
    "pipeline/fuse": OTHER_ROOMS | SHARED,
    "pipeline/threshold": OTHER_ROOMS | SHARED,
    "pipeline/choosing": OTHER_ROOMS | {STORE},
    "pipeline/choose": OTHER_ROOMS | SHARED | {"pipeline/choosing"},
    "pipeline/drift": OTHER_ROOMS | SHARED | {"pipeline/score"},
    "pipeline/evaluate": OTHER_ROOMS | SHARED | {"pipeline/metrics"},
    "pipeline/compare": OTHER_ROOMS | SHARED | {"pipeline/metrics"},
    "pipeline/labels": OTHER_ROOMS | SHARED,
    "pipeline/report": OTHER_ROOMS | SHARED | {"pipeline/metrics"},
    # Both pages decode, draw and name in the same way.
    "pipeline/review": OTHER_ROOMS | SHARED | {"pipeline/metrics", "pipeline/report"},
    # What a page has saved, and the training that learns from it.
    "pipeline/feedback": OTHER_ROOMS
    | SHARED
    | {"pipeline/review", "pipeline/threshold", "pipeline/train"},
    "pipeline/doctor": OTHER_ROOMS | SHARED,
    "pipeline/exports": OTHER_ROOMS | SHARED,
    # which content is meant
    "pipeline/films": OTHER_ROOMS | SHARED | {"pipeline/report"},
    # Both draw boxes, maps and times in the same way.
    "pipeline/render": OTHER_ROOMS | SHARED | {"pipeline/films", "pipeline/report"},
    "pipeline/show": OTHER_ROOMS | SHARED | {"pipeline/probe", "pipeline/sheets"},
    "pipeline/repair": OTHER_ROOMS | SHARED,  # of derived files
    "pipeline/old_entries": OTHER_ROOMS | SHARED,  # of the cache
    "pipeline/tables": OTHER_ROOMS | SHARED | STAGES | {"pipeline/metrics", "pipeline/old_entries"},
    "pipeline/bench": OTHER_ROOMS | SHARED | STAGES,
    # A recipe chooses what is measured.
    "pipeline/run": OTHER_ROOMS | SHARED | STAGES | {"pipeline/tables", "pipeline/metrics"},
    "pipeline/cli": OTHER_ROOMS | {"pipeline"},
}


def imports(tree: ast.AST, place: str) -> Iterator[str]:
    """The files and folders of the library that a file imports, as paths."""
    package = ("vadpipe", *place.split("/")[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            whole = "/".join([*base, *(node.module or "").split(".")]).rstrip("/")
            for alias in node.names:
                deeper = f"{whole}/{alias.name}".removeprefix("vadpipe/")
                known = deeper in PLACES or f"{deeper}/__init__" in PLACES
                if whole.startswith("vadpipe"):
                    yield deeper if known else whole.removeprefix("vadpipe/")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("vadpipe."):
                    yield alias.name.removeprefix("vadpipe.").replace(".", "/")


def inside(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder}/")


def rule_of(place: str) -> str:
    """The longest entry of ARROWS that a file lies in."""
    return max((entry for entry in ARROWS if inside(place, entry)), key=len)


def forbidden(tree: ast.AST, place: str) -> list[str]:
    rule = rule_of(place)
    allowed = ARROWS[rule] | EVERYWHERE | {rule}
    return [name for name in imports(tree, place) if not any(inside(name, a) for a in allowed)]


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
def test_only_allowed_arrows(path: Path) -> None:
    place = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    if place in {f"{room}/__init__" for room in ROOMS}:
        return  # they only name what is in their room; the next test looks at them
    wrong = forbidden(ast.parse(path.read_text()), place)
    assert not wrong, f"{place} must not import {wrong}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_itself_imports_nothing_when_it_is_imported(room: str) -> None:
    tree = ast.parse((REPOSITORY / room / "__init__.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in top if node.level]


def test_the_check_above_sees_imports() -> None:
    tree = ast.parse(
        "from ..extractors.base import X\nimport vadpipe.pipeline.probe\n"
        "from vadpipe.extractors import clips\nfrom ..extractors.networks.i3d import I3d\n"
    )
    found = ["extractors/base", "pipeline/probe", "extractors/clips"]
    assert forbidden(tree, "detectors/knn") == found
    assert forbidden(ast.parse("from ..score import x"), "pipeline/store/keys") == [
        "pipeline/score"
    ]


def test_folders_never_use_stages_and_no_arrow_leads_back() -> None:
    """ARROWS has no cycle among the parts of the pipeline below the command line."""
    done: set[str] = set()
    parts = {p for p in ARROWS if p.startswith("pipeline/") and p != "pipeline/cli"}
    while parts - done:
        free = {p for p in parts - done if not (ARROWS[p] & parts) - done - {p}}
        assert free, f"a cycle among {sorted(parts - done)}"
        done |= free


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
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


# Who may rename what it has written: the atomic write itself, and one that finishes whole folders.
RENAMING = {"data_manifests/atomic", "data_manifests/drawn_clips", "pipeline/scores/video_tables"}


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
def test_files_are_moved_into_place_by_the_one_atomic_write(path: Path) -> None:
    place = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    found = set(renames(ast.parse(path.read_text())))
    assert not found or place in RENAMING, f"{place} uses {found}: call write_atomically"


def renames(tree: ast.AST) -> Iterator[str]:
    """Calls that rename or sync a file: `a.replace(b)` with one value is that of a path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, one = ast.unparse(node.func), len(node.args) == 1 and not node.keywords
            if node.func.attr in ("rename", "renames", "fsync", "mkstemp", "NamedTemporaryFile"):
                yield called
            if called == "os.replace" or (node.func.attr == "replace" and one):
                yield called


def test_the_check_above_sees_renames() -> None:
    code = "os.replace(a, b); a.replace(b); t.replace('a', 'b'); os.fsync(f); tempfile.mkstemp()"
    assert list(renames(ast.parse(code))) == [
        "os.replace",
        "a.replace",
        "os.fsync",
        "tempfile.mkstemp",
    ]


# Who may call what has a pitfall: files that are not what they should be, text that a terminal
# would obey, links in a circle.
ONLY = {
    "json.loads": {
        "data_manifests/stored",
        "extractors/footage/guarded",  # messages of the decoder to its parent, and back
        "extractors/footage/decode_worker",
        "extractors/weights/guarded_read",  # the same, of weights
    },
    "json.load": set(),
    "tomllib.loads": {"data_manifests/stored", "pipeline/run/key_value"},  # of a single value
    "tomllib.load": set(),
    "pq.ParquetFile": {
        "data_manifests/stored",
        "extractors/detection/boxes_file",  # of bytes whose hash is in the key
    },
    "pq.read_schema": {"data_manifests/stored"},
    "pq.read_metadata": set(),
    "pq.read_table": set(),
    "click.echo": {"pipeline/cli/options"},
    "read_arrays": {"extractors/weights/read_worker"},  # files of others, in a bounded process
    "print": {"pipeline/cli/reference"},
    "console.print": {"pipeline/engine/progress"},
}


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
def test_pitfalls_are_in_one_place(path: Path) -> None:
    place = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    found = set(pitfalls(ast.parse(path.read_text())))
    wrong = {name for name in found if place not in ONLY.get(name, set())}
    assert not wrong, f"{place} calls {wrong}: see ONLY"


def pitfalls(tree: ast.AST) -> Iterator[str]:
    """Calls that only some places may make; `a.resolve()` without values fails for some links."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ONLY:
                yield called
            if called.endswith(".resolve") and not node.args and not node.keywords:
                yield "Path.resolve"


def test_the_check_above_sees_pitfalls() -> None:
    code = "json.loads(x); a.b.resolve(); manifest.resolve(x); json.dumps(x); click.echo(x)"
    assert list(pitfalls(ast.parse(code))) == ["json.loads", "Path.resolve", "click.echo"]


# Names of files that only one class may know, and where it stands.
OWNED = {
    "pipeline/scores/folder": (
        *("run.json", "metrics.json", "report.html", ".lock", ".features", ".tables-"),
        *("scores.parquet", "videos.parquet", "events.parquet", "failures.parquet"),
    ),
    "pipeline/scores/held_out": ("calibration.parquet",),
    "pipeline/scores/stored_threshold": ("threshold.json",),
    "pipeline/models": ("config.json", "weights.safetensors", "log.parquet"),
    "pipeline/run/folder": ("recipe.json", "results.csv", "failed.parquet"),
    "pipeline/scores/of_run": ("environment.json",),
}


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
def test_files_of_a_folder_are_named_by_its_owner_only(path: Path) -> None:
    place = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    tree = ast.parse(path.read_text())
    for owner, names in OWNED.items():
        found = [text for text in strings(tree) if text.endswith(names) and " " not in text]
        assert bool(found) == (place == owner), f"{place} names files of {owner}: {found}"


def strings(tree: ast.AST) -> Iterator[str]:
    """Texts of the code, without docstrings."""
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in words:
            yield node.value


def test_the_check_above_sees_names() -> None:
    code = '''def f(out):\n    """run.json"""\n    return out / "run.json", f"{out}/x.parquet"'''
    assert list(strings(ast.parse(code))) == ["run.json", "/x.parquet"]


MOST_LINES, MOST_CODE = 500, 60  # of a file in all; of a function without docstring and comments
LONGER: dict[str, int] = {}  # a file or file:function that docs/decisions.md gives a reason for


@pytest.mark.parametrize("path", SOURCES, ids=PLACES)
def test_files_and_functions_are_short(path: Path) -> None:
    place = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGER.get(place, MOST_LINES), f"{place} has {len(lines)} lines: split it"
    for name, size in sizes("\n".join(lines)).items():
        most = LONGER.get(f"{place}:{name}", MOST_CODE)
        assert size <= most, f"{place}: {name} has {size} lines of code: split it"


def sizes(source: str) -> dict[str, int]:
    """Name of a function -> its lines, without docstring, comments and empty lines."""
    lines, found = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped: set[int] = set()
            if ast.get_docstring(node) is not None:
                skipped = set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
            rest = set(range(node.lineno, (node.end_lineno or 0) + 1)) - skipped
            code = [line for i in rest if (line := lines[i - 1].strip()) and line[0] != "#"]
            found[node.name] = max(len(code), found.get(node.name, 0))
    return found


def test_the_check_above_counts_code() -> None:
    source = (
        '''def f(\n    a,\n):\n    """Doc.\n\n    More.\n    """\n\n    # why\n    return a\n'''
    )
    assert sizes(source) == {"f": 4}


def test_no_python_that_is_started_looks_into_the_working_directory_first() -> None:
    """In /tmp, any user could have put a module there. Worker processes have their own test."""
    started = [
        (path.name, command)
        for path in SOURCES
        for command in re.findall(r"\[sys\.executable,[^\]]*", path.read_text(encoding="utf-8"))
    ]
    assert len(started) >= 3 and all('executable, "-P",' in command for _, command in started)


def test_every_folder_is_a_named_package() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(REPOSITORY) for path in SOURCES}
    assert all((REPOSITORY / folder / "__init__.py").is_file() for folder in folders)
    named = {".".join(("vadpipe", *folder.parts)) for folder in folders}
    assert set(setup["packages"]) == named, "a package is missing from the wheel"
    assert setup["package-dir"] == {f"vadpipe.{room}": room for room in ROOMS}


def test_no_catch_all_files() -> None:
    assert not {p.name for p in SOURCES} & {"utils.py", "common.py", "misc.py", "helpers.py"}
