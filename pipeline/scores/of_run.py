"""Where the score folders of a run folder lie, and what a run notes of the project's state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data_manifests.natural_order import natural_key
from ...data_manifests.stored import DamagedFile, read_json
from .folder import ScoreFolder, ScoreFolderError

SCORES = "scores"
ENVIRONMENT = "environment.json"


def folders_of(path: Path) -> dict[str, ScoreFolder]:
    """The score folders that a path stands for: itself, or all of a run folder, by their names.

    Args:
        path:
            A score folder, or a run folder.

    Raises:
        ScoreFolderError: it is neither, or nothing was scored in the run.
    """
    if ScoreFolder(path).run_file.is_file():
        return {Path(os.path.realpath(path)).name: ScoreFolder(path)}
    inside = path / SCORES
    found = [each for each in inside.iterdir() if each.is_dir()] if inside.is_dir() else []
    folders = [ScoreFolder(each) for each in sorted(found, key=lambda each: natural_key(each.name))]
    scored = {folder.path.name: folder for folder in folders if folder.run_file.is_file()}
    if not scored:
        raise ScoreFolderError(
            f"{path} is no score folder, and no run folder with scores: name a folder that "
            "vadpipe score, fuse or run has written"
        )
    return scored


def short_names(folders: Sequence[tuple[str, ScoreFolder]]) -> dict[str, ScoreFolder]:
    """Folders by their names, or by their paths where a name comes twice.

    Raises:
        ScoreFolderError: a folder is given twice.
    """
    names = [name for name, _ in folders]
    found = {name if names.count(name) == 1 else str(each.path): each for name, each in folders}
    if len({os.path.realpath(each.path) for _, each in folders}) < len(folders):
        raise ScoreFolderError("a score folder is named twice: name each once")
    return found


def commit_of(folder: ScoreFolder) -> str | None:
    """The commit that a run noted of the folder that it was started in.

    Returns:
        The commit, with " (changed)" where files differed from it; None where the score folder is
        not one of a run, or the run notes none.
    """
    run = Path(os.path.realpath(folder.path)).parent
    if run.name != SCORES:
        return None
    try:
        state: Any = read_json(run.parent / ENVIRONMENT).get("git")
    except (OSError, DamagedFile):
        return None
    commit = state.get("commit") if isinstance(state, dict) else None
    if not isinstance(commit, str):
        return None
    return f"{commit} (changed)" if state.get("changed") else commit
