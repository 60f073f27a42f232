"""The documents say what the code does: commands, options, links and the command reference."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from vadpipe.extractors.perturbation import Perturbation
from vadpipe.pipeline.cli.card_table import with_table
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.cli.reference import commands, reference
from vadpipe.pipeline.engine.extractor_spec import settings_of
from vadpipe.pipeline.registry import DATASETS, DETECTORS, EXTRACTORS
from vadpipe.pipeline.run.key_value import parse_settings

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
COMMANDS = dict(commands())
EXAMPLE = tomllib.loads((REPOSITORY / "docs/example_plugin/pyproject.toml").read_text())
# Names that stand in examples of commands: those of vadpipe and those of the example plug-in.
KNOWN = {
    registry.kind: {*registry, *EXAMPLE["project"]["entry-points"][group]}
    for group, registry in (
        ("vadpipe.extractors", EXTRACTORS),
        ("vadpipe.detectors", DETECTORS),
        ("vadpipe.datasets", DATASETS),
    )
}


def code_lines(text: str) -> Iterator[str]:
    """The lines of indented and fenced blocks, continued ones joined."""
    fenced, joined = False, ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            joined += line.strip()
            if joined.endswith("\\"):
                joined = joined[:-1]
                continue
            yield joined
            joined = ""


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of vadpipe in a shell line; comments and prompts are dropped."""
    words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
    words.whitespace_split = True
    call: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= set("&|;<>"):
            call.append(word)
            continue
        if call and call[0] in ("vadpipe", ".venv/bin/vadpipe"):
            yield call[1:]
        call = []


def parse(arguments: list[str]) -> click.Context | None:
    """What click makes of a call, nothing is run; None where only help or the version is asked for.

    Raises:
        click.UsageError: there is no such command, option or value, or an argument is missing.
    """
    group: click.Command = cli
    context, rest = click.Context(cli, info_name="vadpipe"), arguments
    while isinstance(group, click.Group) and rest and not rest[0].startswith("-"):
        name, found, rest = group.resolve_command(context, rest)
        assert name is not None and found is not None
        group = found
        context = click.Context(group, info_name=name, parent=context)
    try:
        return group.make_context(context.info_name, list(rest), parent=context.parent)
    except click.exceptions.Exit:
        return None


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in documents need not exist."""
    monkeypatch.setattr(
        click.Path, "convert", lambda self, value, param, ctx: self.coerce_path_result(value)
    )


def check(arguments: list[str]) -> None:
    """A call is valid: for click, and in the names that click does not know."""
    synopsis = [word for word in arguments if word.startswith(("[-", "[N", "("))]
    assert not synopsis, f"{synopsis}: write an example, docs/commands.md has the options"
    context = parse(arguments)
    if context is None:
        return
    for name in context.params.get("names") or () if context.info_name == "extract" else ():
        assert name.isupper() or name.partition(":")[0] in KNOWN["extractor"], name
    for parameter, kind in (("detector", "detector"), ("dataset", "data set")):
        name = context.params.get(parameter)
        assert name is None or name.isupper() or name in KNOWN[kind], name
    check_values(context)


def check_values(context: click.Context) -> None:
    """Settings are those of the detector or extractors; folders are no `NAME=FOLDER`."""
    for parameter in context.command.params:
        if isinstance(parameter.type, click.Path):
            value = context.params[parameter.name or ""]
            for path in value if isinstance(value, tuple) else [value]:
                assert path is None or "=" not in str(path), f"{path} is no path"
    given = parse_settings(context.params.get("settings") or ())
    settings = {key: value for key, value in given.items() if not str(value).isupper()}
    names = context.params.get("names") or (context.params.get("detector"),)
    for name in names if len(names) == 1 and names[0] is not None else ():
        try:
            if context.info_name == "extract" and name.partition(":")[0] in EXTRACTORS:
                base, config = settings_of(name, settings)
                perturbs = "perturb" in EXTRACTORS[base].Config.model_fields
                if "perturb" in config and not perturbs:
                    Perturbation.model_validate(config.pop("perturb"))
                EXTRACTORS[base].Config.model_validate(config)
            elif context.info_name == "train" and name in DETECTORS:
                DETECTORS[name].Config.model_validate(settings)
        except ValueError as error:
            pytest.fail(f"{name}: {error}")


def test_the_table_of_weights_is_that_of_the_cards() -> None:
    page = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8")
    assert page == with_table(page), "run `make docs`"


def test_the_command_reference_is_that_of_the_commands() -> None:
    kept = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    assert kept == reference(), "run `make docs`"


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_line_of_code_that_calls_vadpipe_parses(page: Path) -> None:
    for line in code_lines(page.read_text(encoding="utf-8")):
        if "vadpipe " in line:
            for arguments in calls(line):
                try:
                    check(arguments)
                except (click.UsageError, AssertionError) as error:
                    message = error.message if isinstance(error, click.UsageError) else error
                    pytest.fail(f"{page.name}: {line}: {message}")


def test_lines_are_found_and_wrong_ones_fail(no_files: None) -> None:
    text = (
        "a\n\n    $ vadpipe run x.toml \\\n      --dry-run  # no\n\n```\nvadpipe cache ls\n```\nb"
    )
    lines = list(code_lines(text))
    assert [list(calls(line)) for line in lines] == [
        [["run", "x.toml", "--dry-run"]],
        [["cache", "ls"]],
    ]
    assert list(calls("cd a && .venv/bin/vadpipe probe 'a b' > c; vadpipe --help")) == [
        ["probe", "a b"],
        ["--help"],
    ]
    check(["run", "x.toml", "--dry-run"])
    for wrong in (
        ["runs", "x.toml"],
        ["run", "x.toml", "--dry"],
        ["run"],
        ["cache", "lst"],
        ["extract", "m.csv", "-e", "null", "--precision", "fp8"],
    ):
        with pytest.raises(click.UsageError):
            check(wrong)
    for unknown in (
        ["extract", "m.csv", "-e", "nul"],
        ["train", "knm", "m.csv"],
        ["manifest", "ped", "/data", "-o", "m.csv"],
        ["fuse", "a=out", "out-b", "-o", "both"],
    ):
        with pytest.raises(AssertionError):
            check(unknown)


@pytest.mark.parametrize(
    "wrong",
    [
        ["train", "knn", "m.csv", "--set", "roles=patch"],
        ["extract", "m.csv", "-e", "objects", "--set", "flow=raft"],
        ["extract", "m.csv", "-e", "flow:ped3"],
    ],
)
def test_settings_that_do_not_exist_fail(wrong: list[str], no_files: None) -> None:
    with pytest.raises(pytest.fail.Exception):
        check(wrong)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_inside_sentences_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {option for c in COMMANDS.values() for p in c.command.params for option in p.opts}
    known |= {"-h", "--help", "--version"}
    for code in re.findall(r"`(vadpipe [^`]+)`", " ".join(text.split())):
        words = code.split()[1:]
        name = "vadpipe"
        for word in words:
            if f"{name} {word.partition('|')[0]}" not in COMMANDS:
                break
            name += f" {word.partition('|')[0]}"
        assert name != "vadpipe" or words[0].startswith("-"), f"{page.name}: {code}"
        own = known
        if name in COMMANDS:
            own = {o for p in COMMANDS[name].command.params for o in p.opts} | {"-h", "--help"}
        wrong = [word for word in words if word.startswith("-") and word not in own]
        assert not wrong, f"{page.name}: {code}: there is no {wrong}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_option_and_argument_says_what_it_does(name: str) -> None:
    command = COMMANDS[name].command
    text = command.help or ""
    assert text.split("\n")[0].rstrip().endswith("."), f"{name}: the first line is a sentence"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help and parameter.help.endswith("."), f"{name} {parameter.opts}"
        else:
            shown = (parameter.metavar or parameter.human_readable_name).strip("[]").upper()
            assert shown in text, f"{name}: the help says nothing of {shown}"


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_parse(name: str) -> None:
    _, _, examples = (COMMANDS[name].command.help or "").partition("Example:")
    for line in examples.strip().splitlines():
        (arguments,) = calls(line.strip())
        assert " ".join(["vadpipe", *arguments]).startswith(name)
        check(arguments)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_examples_in_python_import_exists(page: Path) -> None:
    for line in code_lines(page.read_text(encoding="utf-8")):
        found = re.fullmatch(r"from (vadpipe[\w.]*) import ([\w, ]+)", line)
        if found:
            for name in found[2].split(", "):
                if not hasattr(import_module(found[1]), name):
                    assert find_spec(f"{found[1]}.{name}"), f"{page.name}: {line}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\[[^\]]*\]\(([^)\s\"]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_stands_in_the_navigation_of_the_site() -> None:
    _, _, nav = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    listed = re.findall(r"[\w/]+\.md", nav)
    pages = {page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES[2:]}
    missing = sorted(pages - set(listed))
    assert not missing, f"add {missing} to `nav` in mkdocs.yml"
    assert set(listed) - pages == {"index.md", "contributing.md", "changelog.md"}
    assert len(listed) == len(set(listed))


def test_the_page_of_training_lists_every_detector() -> None:
    table = (REPOSITORY / "docs" / "train.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\(detectors/\1\.md\)", table, re.MULTILINE)
    assert sorted(listed) == sorted(DETECTORS)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_source_path_in_backticks_exists(page: Path) -> None:
    rooms = "data_manifests|extractors|detectors|pipeline|tests|docs"
    for path in re.findall(rf"`((?:{rooms})/[^`]*)`", page.read_text(encoding="utf-8")):
        if re.search(r"[A-Z*]", path.rpartition("/")[2]):
            continue  # NAME.py, *.md: a pattern
        assert (REPOSITORY / path).exists(), f"{page.name}: {path}"


ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("data_manifests", "extractors", "detectors", "pipeline")
SOURCES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for room in ROOMS
    for path in sorted((REPOSITORY / room).rglob("*.py"))
}


def is_path(code: str) -> bool:
    return "/" in code or code.endswith((".py", ".md")) or code in ROOMS


def problem_with(code: str) -> str | None:
    """Why something in backticks means nothing in this repository; None if it does."""
    if code.startswith("vadpipe "):
        return None  # a command: another test
    if code.startswith("--"):
        options = {o for c in COMMANDS.values() for p in c.command.params for o in p.opts}
        return None if code in options else "no command has this option"
    if is_path(code):
        return None if (REPOSITORY / code).exists() else "no such path"
    if re.fullmatch(r"[A-Za-z_]\w*", code):
        public = rf"^(class {code}\b|def {code}\b|{code}\b.* = )"
        if any(re.search(public, text, re.MULTILINE) for text in SOURCES.values()):
            return None
        last = {part for path in SOURCES for part in path.removesuffix(".py").split("/")}
        return None if code in last else "no public name and no folder or file"
    if re.fullmatch(r"\w+\.\w+", code) and code.partition(".")[0] in ("os",):
        module, _, name = code.partition(".")
        return None if hasattr(import_module(module), name) else "cannot be imported"
    # A file that the library writes, or a form of a value: its fixed part stands in the source.
    fixed = re.split(r"[A-Z*<]", code)[0]
    quoted = f'"{fixed}'
    if fixed and any(quoted in text or f"`{fixed}" in text for text in SOURCES.values()):
        return None
    return "neither name nor path, and not in the source"


def test_every_name_and_path_in_the_architecture_exists() -> None:
    codes = re.findall(r"`([^`]+)`", ARCHITECTURE)
    wrong = {code: why for code in codes if (why := problem_with(code)) is not None}
    assert not wrong
    assert len(codes) > 80


def test_wrong_names_and_paths_are_found() -> None:
    for wrong in ("Lanes", "pipeline/engine.py", "--stream", "os.replaces", "spek.json", "a b"):
        assert problem_with(wrong) is not None, wrong


@pytest.mark.parametrize(
    "row", [line for line in ARCHITECTURE.splitlines() if line.startswith("|") and "`" in line]
)
def test_names_in_a_row_are_defined_in_the_files_of_that_row(row: str) -> None:
    codes = re.findall(r"`([^`]+)`", row)
    files = [SOURCES[code] for code in codes if code.endswith(".py")]
    for name in (code for code in codes if not is_path(code)):
        defined = re.compile(rf"^(?:class {name}\b|def {name}\b|{name}\b.* = )", re.MULTILINE)
        assert files and all(defined.search(text) for text in files), name


def test_ten_questions_are_answered() -> None:
    _, _, section = ARCHITECTURE.partition("## Ten questions\n")
    questions = re.findall(r"^\| ([^|]+\?) \| `", section, re.MULTILINE)
    assert len(questions) == 10 == len(set(questions))


def test_every_folder_of_the_library_is_in_the_architecture() -> None:
    folders = {f"{path.rpartition('/')[0]}/" for path in SOURCES} - {"pipeline/"}
    assert not {folder for folder in folders if f"| `{folder}` |" not in ARCHITECTURE}
