"""What a review has chosen, kept in its folder for the next run; a feedback brings a new model."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from ...data_manifests.atomic import write_text
from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import Settings, in_words
from ...data_manifests.stored import DamagedFile, read_json
from ..models import ModelFolder
from .archive import ArchiveError, CameraName
from .archive_again import TrainedPart
from .review_features import Kind

if TYPE_CHECKING:
    from .review import ReviewAsked

NAME = "review"  # of the scores
CHOSEN = "review.json"


class Chosen(Settings):
    """What a review has chosen; kept for the next run.

    Attributes:
        target: as it was given, absolute.
        normal: the same; None where the first part of each camera trains.
        scene_from: how cameras are told apart.
        features: what the detector looks at; None where a model was given.
        why: the reason, in words.
        stride: frames from one look to the next, for objects.
        cameras: what they are called.
        trained: paths of the videos that train, below the root; no later run scores them.
        parts: what of them trains, with the content of the file: a file of the same name with
            another content is scored. Those of a feedback too.
        model: name of the trained model in the cache, or the model that was given.
        learnt: the manifest of the last feedback, absolute; None where there was none.
        scene_model: name of the model that checks the camera; None before it was trained.
        scene_checks: whether the camera is checked.
        copies: path of a file that is left out -> path of the same content, at the last run.
        verdicts_of: keys of the models before the one that was trained last for a new camera.
        own_split: whether the target is a manifest that says which videos train.
        hours: camera -> hours of it that trained, also of files that are gone; None where an
            earlier version trained.
    """

    target: str
    normal: str | None = None
    scene_from: str | None = None
    features: Kind | None = None
    why: str = ""
    stride: int = 1
    cameras: tuple[CameraName, ...] = ()
    trained: tuple[str, ...] = ()
    parts: tuple[TrainedPart, ...] = ()
    model: str | None = None
    learnt: str | None = None
    scene_model: str | None = None
    scene_checks: bool = True
    copies: dict[str, str] = Field(default_factory=dict)
    verdicts_of: tuple[str, ...] = ()
    own_split: bool = False
    hours: dict[str, float] | None = None


def keep(out: Path, chosen: Chosen) -> None:
    """Write what was chosen."""
    write_text(out / CHOSEN, json.dumps(chosen.model_dump(mode="json"), indent=1))


def kept_in(out: Path) -> Chosen:
    """What an earlier run in a folder has chosen.

    Raises:
        ArchiveError: the file is damaged, or cannot be read.
    """
    path = out / CHOSEN
    try:
        return Chosen.model_validate(read_json(path))
    except (DamagedFile, OSError, ValidationError) as error:
        why = in_words(error) if isinstance(error, ValidationError) else error
        raise ArchiveError(
            f"{path} is damaged ({why}): give --retrain, or another folder"
        ) from None


def first_choice(asked: ReviewAsked) -> Chosen:
    """What is known before anything was looked at."""
    return Chosen(
        target=str(asked.target.absolute()),
        normal=None if asked.normal is None else str(asked.normal.absolute()),
        scene_from=asked.scene_from,
        model=asked.model,
        scene_checks=asked.scene_checks is not False,
    )


def chosen_before(asked: ReviewAsked) -> Chosen | None:
    """What an earlier run in the folder has chosen; with the model that is asked for, if one is.

    Raises:
        ArchiveError: it is of other footage or features, its file is damaged, or its model is gone.
        DetectorError: there is no such model, or several.
    """
    if asked.retrain or not (asked.out / CHOSEN).is_file():
        return None
    before = kept_in(asked.out)
    now = first_choice(asked)
    # A model is for the review that is there: what its first run was told need not be said again.
    same = ("target",) if asked.model is not None else ("target", "normal", "scene_from")
    if wrong := [name for name in same if getattr(before, name) != getattr(now, name)]:
        said = ", ".join(f"{n.replace('_', ' ')} {getattr(before, n) or 'none'}" for n in wrong)
        raise ArchiveError(
            f"{asked.out} is the review of other footage ({said}): take another folder, or give "
            "--retrain to begin again"
        )
    if asked.features not in ("auto", before.features):
        made_with = before.features or f"the model {before.model}"
        raise ArchiveError(
            f"{asked.out} was made with {made_with}: give --retrain to begin again, or take "
            "another folder"
        )
    if asked.scene_checks is not None:
        before = before.model_copy(update={"scene_checks": asked.scene_checks})
    if asked.model is not None:
        return _with_model(before, asked.model, asked.cache)
    if before.model is not None:
        _find_kept(asked, before.model)
    return before


def _find_kept(asked: ReviewAsked, name: str) -> None:
    """Raises ArchiveError where the model of a review is gone."""
    try:
        ModelFolder.find(asked.cache, name)
    except VadpipeError as error:
        raise ArchiveError(
            f"the model of this review is gone ({error}): give --retrain to train it again, "
            "--model to name another, or the --cache that has it"
        ) from None


def _with_model(before: Chosen, model: str, cache: Path) -> Chosen:
    """The choice with another model; its features are known where they are those of the old one."""
    folder = ModelFolder.find(cache, model)
    update: dict[str, Any] = {"model": name_of(folder, cache)}
    if not _same_features(folder, before.model, cache):
        update |= {"features": None, "why": "", "stride": 1, "hours": None}
    return before.model_copy(update=update)


def name_of(folder: ModelFolder, cache: Path) -> str:
    """What a model is found by: its name in the cache, or its folder elsewhere."""
    own = ModelFolder.named(cache, folder.path.name).path
    same = os.path.realpath(own) == os.path.realpath(folder.path)
    return folder.path.name if same else str(folder.path.absolute())


def _same_features(folder: ModelFolder, other: str | None, cache: Path) -> bool:
    """Whether two models see the same; not where the other one is gone."""
    if other is None:
        return False
    try:
        cards = folder.card(), ModelFolder.find(cache, other).card()
    except VadpipeError:
        return False
    return bool(cards[0]["features"] == cards[1]["features"])


def learnt_command(scores: Path, model: Path, manifest: Path, cache: Path | None) -> str | None:
    """The command that scores a review again with the model of a feedback.

    Args:
        scores:
            The score folder that was judged.
        model:
            Folder of the new model.
        manifest:
            That the feedback wrote.
        cache:
            Where it is not the default one; None leaves it out.

    Returns:
        None where the scores are not those of a review.
    """
    folder = scores.absolute()
    out = folder.parent.parent
    if (folder.name, folder.parent.name) != (NAME, "scores") or not (out / CHOSEN).is_file():
        return None
    try:
        chosen = kept_in(out)
    except ArchiveError:
        return None
    words = ["vadpipe", "review", chosen.target, "--model", model.name]
    words += ["--learnt", str(manifest.absolute())]
    words += ["-o", str(out)]
    return shlex.join(words + ([] if cache is None else ["--cache", str(cache.absolute())]))
