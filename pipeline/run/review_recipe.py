"""The recipe of a review, kept beside its page, and the one that trained its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data_manifests.atomic import write_text
from ...data_manifests.record import Manifest
from ...data_manifests.table import write_manifest
from ..models import ModelFolder
from .review_checks import CHECKS, CameraChecks
from .review_features import Choice
from .review_kept import NAME, Chosen
from .toml_text import toml_text

if TYPE_CHECKING:
    from .review import ReviewAsked

RECIPE, FOOTAGE = "review.toml", "footage.parquet"
TRAINED = "trained"  # folder of what the recipe of the training makes, if it is run again
TRAINED_RECIPE, TRAINED_FOOTAGE = "review-trained.toml", "footage-trained.parquet"


def write_recipe(
    asked: ReviewAsked,
    chosen: Chosen,
    manifest: Manifest,
    checks: CameraChecks,
    about: Sequence[str],
) -> Path:
    """Write the footage and the recipe; where it trains, a second recipe that stays as it is."""
    write_manifest(manifest, asked.out / FOOTAGE)
    recipe = asked.out / RECIPE
    write_text(recipe, recipe_of(asked, chosen, checks, about))
    if chosen.model is None:
        write_manifest(manifest, asked.out / TRAINED_FOOTAGE)
        kept = recipe_of(asked, chosen, checks, about, apart=True)
        write_text(asked.out / TRAINED_RECIPE, kept)
    return recipe


def recipe_of(
    asked: ReviewAsked,
    chosen: Chosen,
    checks: CameraChecks | None = None,
    about: Sequence[str] = (),
    *,
    apart: bool = False,
) -> str:
    """The run file of a review.

    Args:
        asked:
            What for.
        chosen:
            What was chosen; with a model, nothing is trained.
        checks:
            Of the camera.
        about:
            What the page says of the footage.
        apart:
            With footage and results of its own, which later runs do not change.
    """
    values: dict[str, Any] = {
        "out": TRAINED if apart else ".",
        "cache": str(asked.cache.absolute()),
        "image_fps": asked.probing.image_fps,
        "hash_mode": asked.probing.hash_mode,
        "manifest": {"file": TRAINED_FOOTAGE if apart else FOOTAGE},
    }
    choice = None if chosen.features is None else Choice(chosen.features, "", chosen.stride)
    if chosen.model is not None:
        found = ModelFolder.find(asked.cache, chosen.model).path
        values["model"] = [{"name": NAME, "model": str(found.absolute())}]
    else:
        assert choice is not None  # chosen where there is no model
        values["extract"] = [{"name": "features", **choice.extract()}]
        before = {"verdicts_of": [*chosen.verdicts_of]} if chosen.verdicts_of else {}
        values["train"] = [{"name": NAME, **choice.train(), **before}]
    events = asked.events.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    added = {} if checks is None else checks.sections
    for kind, sections in added.items():
        values[kind] = [*values.get(kind, []), *sections]
    values["score"] = {"split": "test", **({"events": events} if events else {})}
    beside = {"scores": [NAME], "scene_checks": CHECKS} if added else {}
    values["report"] = {"folder": True, **beside, **({"notes": [*about]} if about else {})}
    engine = asked.engine.model_dump(mode="json", exclude_defaults=True)
    if engine:
        values["engine"] = engine
    notes = [
        f"Written by vadpipe review of {chosen.target}.",
        f"Features: {chosen.why}." if chosen.why else "The model was given.",
        *_how_to_repeat(chosen, apart=apart),
    ]
    return toml_text(values, notes)


def _how_to_repeat(chosen: Chosen, *, apart: bool) -> list[str]:
    """What the head of a recipe says of running it."""
    if apart:
        return [
            f"vadpipe run {TRAINED_RECIPE} trains and scores as the run that wrote it, also with "
            "another cache,",
            f"from {TRAINED_FOOTAGE} into the folder {TRAINED}.",
        ]
    lines = [f"vadpipe run {RECIPE} repeats it; vadpipe review adds new files."]
    if chosen.model is not None:
        lines.append(f"It needs the model, which is in the cache: {chosen.model}.")
        if chosen.features is not None:
            learnt = " without what vadpipe feedback has learnt since" if chosen.learnt else ""
            lines.append(f"{TRAINED_RECIPE} trains it{learnt}, if this review did.")
    return lines
