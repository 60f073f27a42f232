"""One command for footage of one's own: a folder -> a recipe that is kept, and its page.

All that is decided here ends in files of the folder: `footage.parquet` (which videos train and
which are scored), `review.toml` (the recipe, which `vadpipe run` repeats) and `review.json` (what
was chosen, so that a later run adds new files and keeps the model).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest
from ...data_manifests.table import read_manifest
from ...extractors.weights.cards import Weights
from ..engine.settings import Engine, ProbeOptions
from ..feedback import keep_rule
from ..models import ModelFolder
from ..registry import DATASETS
from ..review.stage import INDEX
from ..review.verdicts import judged_before
from ..scores.events import EventConfig
from ..store.probe_table import Probed
from ..tables.probe import probe_to_use
from .archive import (
    UNNAMED,
    ArchiveError,
    hours_of,
    named_cameras,
    refuse_dates,
    scored_whole,
    split_by_camera,
    with_folders,
    with_normal,
    without,
)
from .archive_again import TrainedPart, trained_parts, with_learnt, with_new, with_other_content
from .archive_copies import copies_lines, without_copies
from .config import RunConfig, load_run
from .execute import Ended
from .graph import plan
from .new_cameras import (
    PER_SCENE,
    again_line,
    is_per_camera,
    known_cameras,
    new_in,
    unknown_lines,
    what_to_do,
    with_new_training,
    without_cameras,
)
from .resolved import resolve_run
from .review_checks import CHECKS, camera_checks
from .review_features import Kind, choose, weights_of
from .review_kept import NAME, Chosen, chosen_before, first_choice, keep
from .review_recipe import FOOTAGE, write_recipe
from .review_said import NAMED, Say, say_cameras, say_files
from .run import Run, run_nodes

Fetch = Callable[[Sequence[Weights]], None]


@dataclass(frozen=True)
class ReviewAsked:
    """What a review is asked for.

    Attributes:
        target: folder, file or manifest that is looked at.
        out: folder of the recipe, the scores and the page.
        cache: root of the cache.
        normal: folder, file or manifest of footage that is known to be normal; None takes the
            first part of each camera's footage.
        model: a model that is there already; nothing is trained. A review that is there goes on
            with it.
        features: what the detector looks at.
        scene_from: see `footage.build`; None takes the first folder, where videos lie in some.
        retrain: forget an earlier choice, and train again.
        events: how scores become events.
        engine: where and how.
        probing: how files are opened.
        scene_checks: check the camera too (`tampering`); None as an earlier run, else yes.
        learnt: manifest of the feedback that the model comes from.
    """

    target: Path
    out: Path
    cache: Path
    normal: Path | None = None
    model: str | None = None
    features: Kind | Literal["auto"] = "auto"
    scene_from: str | None = None
    retrain: bool = False
    events: EventConfig = field(default_factory=EventConfig)
    engine: Engine = field(default_factory=Engine)
    probing: ProbeOptions = field(default_factory=ProbeOptions)
    scene_checks: bool | None = None
    learnt: Path | None = None


@dataclass
class Reviewed:
    """What a review did.

    Attributes:
        run: of its recipe.
        page: where to look.
        recipe: what repeats it.
        model: folder of the model; None where it could not be trained.
        warnings: of the footage and its cameras; those of nodes are with the run.
    """

    run: Run
    page: Path
    recipe: Path
    model: Path | None
    warnings: tuple[str, ...] = ()


def review_footage(
    asked: ReviewAsked, *, fetch: Fetch, say: Say, ended: Callable[[Ended], None]
) -> Reviewed:
    """Look at footage: list, probe, choose, and run the recipe that follows from it.

    Args:
        asked:
            What for.
        fetch:
            Called with the cards of weights that are needed; downloads what is missing, or raises.
        say:
            Called with each line that people should read.
        ended:
            Called with each node of the run as it ends.

    Raises:
        ArchiveError: the folder is of another review, folders are dates, or no footage can be
            read.
        ManifestError: there is no footage.
        WeightsError: weights are missing.
        CannotWrite: the disk is full or read-only.
    """
    before = chosen_before(asked)
    if before is not None and before.normal is not None:
        asked = replace(asked, normal=Path(before.normal))
    if before is not None:
        asked = replace(asked, scene_from=before.scene_from)
    listed = _listed(asked, first=before is None)
    _make_folder(asked.out)
    probed = probe_to_use(listed, asked.cache, asked.probing)
    listed, copies = without_copies(listed, probed.rows, *_known_before(asked, before))
    say_files(listed, probed, copies, say)
    if not probed.rows:
        raise ArchiveError(f"no video in {asked.target} can be read: see the reasons above")
    manifest, cameras = named_cameras(listed, probed.rows, before.cameras if before else ())
    chosen = before or first_choice(asked)
    named = chosen.own_split or (chosen.normal is None and _has(listed, "train"))
    found = {"cameras": cameras, "copies": copies, "own_split": named}
    chosen = chosen.model_copy(update=found)
    chosen, manifest = _split(asked, before, chosen, manifest, probed, say)
    probed = probe_to_use(manifest, asked.cache, asked.probing)
    old, before_new = chosen, manifest
    chosen, manifest = _with_new_cameras(asked, chosen, manifest, probed, say)
    if chosen.model is None and old.model is not None:
        asked = replace(asked, events=_kept_rule(asked, old.model))
    if manifest is not before_new:
        probed = probe_to_use(manifest, asked.cache, asked.probing)
    chosen, manifest, gone = _trains(chosen, manifest, probed)
    little = say_cameras(chosen, manifest, probed, say, gone=gone)
    checks = camera_checks(
        *(manifest, probed, chosen.scene_model, asked.cache), wanted=chosen.scene_checks
    )
    if checks.said:
        say(checks.said)
    chosen = _with_features(asked, chosen, manifest, probed, fetch, say)
    if chosen.features is not None:
        say(f"features: {chosen.why}")
    if asked.model is not None or chosen.features is None:
        say(f"model: {chosen.model}")
    manifest, unknown = _without_unknown(asked, chosen, manifest, probed, say)
    copied = [f"{line[:1].upper()}{line[1:]}." for line in copies_lines(copies, NAMED)]
    about = [*little, *unknown, *copied]
    recipe = write_recipe(asked, chosen, manifest, checks, about)
    # A training that adds cameras may fail: until it has ended, the model is the old one.
    kept = {name: getattr(old, name) for name in ("model", "scene_model", "hours")}
    keep(asked.out, chosen.model_copy(update=kept))
    say(f"recipe: {recipe} (vadpipe run repeats it)")
    done = _run(asked, chosen, load_run(recipe), recipe, bool(little), say, ended)
    done.warnings = (*little, *unknown, *([checks.said] if checks.said else []))
    if done.model is not None and chosen.model is None and old.model is not None:
        for line in keep_rule(ModelFolder.find(asked.cache, old.model).path, done.model):
            say(f"threshold: {line}")
    return done


def _split(
    asked: ReviewAsked,
    before: Chosen | None,
    chosen: Chosen,
    manifest: Manifest,
    probed: Probed,
    say: Say,
) -> tuple[Chosen, Manifest]:
    """What trains and what is scored: as an earlier run has it, else the first part of each."""
    if before is not None and (asked.out / FOOTAGE).is_file():
        return _again(asked, chosen, manifest, probed, say)
    if asked.model is None and not _has(manifest, "train"):
        return chosen, split_by_camera(manifest, probed.rows)
    if not _has(manifest, "test"):
        return chosen, scored_whole(manifest, keep_training=asked.model is None)
    return chosen, manifest


def _trains(chosen: Chosen, manifest: Manifest, probed: Probed) -> tuple[Chosen, Manifest, bool]:
    """Note what trains now, or leave out what has trained and is gone; returns whether some is."""
    train = [record for record in manifest.records if record.split == "train"]
    if chosen.model is not None:  # nothing trains: videos that are gone are no failures
        gone = [record.video_id for record in train if record.video_id not in probed.rows]
        return chosen, without(manifest, gone), bool(gone)
    if not train:
        return chosen, manifest, False
    known = {
        "trained": tuple(r.path for r in train if r.path),
        "parts": trained_parts(manifest, probed.rows),
        "hours": hours_of(manifest, probed.rows),
    }
    return chosen.model_copy(update=known), manifest, False


def _with_new_cameras(
    asked: ReviewAsked, chosen: Chosen, manifest: Manifest, probed: Probed, say: Say
) -> tuple[Chosen, Manifest]:
    """Let cameras that the model does not know train with what has trained, where that can be."""
    if chosen.model is None or asked.model is not None:
        return chosen, manifest
    card = ModelFolder.find(asked.cache, chosen.model).card()
    new = new_in(manifest, probed.rows, known_cameras(card, manifest, chosen.hours))
    grown = with_new_training(manifest, probed.rows, chosen, card, new) if new else None
    if grown is None:
        return chosen, manifest
    say(again_line(new))
    # What was judged on the page of the old model is shown on that of the new one.
    keys = (*judged_before(card.get("trained_on")), card["key"])
    update = {"model": None, "scene_model": None, "verdicts_of": keys}
    return chosen.model_copy(update=update), grown


def _kept_rule(asked: ReviewAsked, model: str) -> EventConfig:
    """How scores become events: as asked for, else by the rule that is kept with a model."""
    kept = ModelFolder.find(asked.cache, model).threshold()
    if kept is None or kept.rule.rule == "value":  # a value is of the scores of that model
        return asked.events
    return asked.events.with_rule_of(kept.rule)


def _without_unknown(
    asked: ReviewAsked, chosen: Chosen, manifest: Manifest, probed: Probed, say: Say
) -> tuple[Manifest, list[str]]:
    """Leave out cameras that cannot be scored; returns what is said of them on the page too.

    Raises:
        ArchiveError: no other camera is there.
    """
    if chosen.model is None:
        trained = {r.scene or UNNAMED for r in manifest.records if r.split == "train"}
        known, each = frozenset(trained), chosen.features in PER_SCENE
    else:
        card = ModelFolder.find(asked.cache, chosen.model).card()
        known, each = known_cameras(card, manifest, chosen.hours), is_per_camera(card)
        if not each and known == {UNNAMED}:  # the model tells no cameras apart
            return manifest, []
    if not (unknown := new_in(manifest, probed.rows, known)):
        return manifest, []
    lines = unknown_lines(*(manifest, probed.rows, unknown), left_out=each, cure=what_to_do(chosen))
    for line in lines:
        say(line)
    return without_cameras(manifest, probed.rows, unknown) if each else manifest, lines


def _next_of_failure(chosen: Chosen, little: bool) -> str:
    """What to do where no page was made."""
    if little and chosen.model is None:
        return (
            "next: see the error above. It takes more normal footage: put more videos into the "
            "folder, or name some with --normal, an hour of each camera or better a day; then give "
            "--retrain"
        )
    if chosen.features in (None, "patches"):
        return "next: see the error above"
    return "next: see the error above; --features patches --retrain looks at frames, not objects"


def _make_folder(out: Path) -> None:
    """Make the folder of a review.

    Raises:
        ArchiveError: that is not possible there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArchiveError(f"{out} is a file, or lies below one: name a folder with -o") from None
    except OSError as error:
        raise ArchiveError(
            f"the folder {out} cannot be made ({error.strerror}): name one where you may write, "
            "with -o"
        ) from None


def _with_features(
    asked: ReviewAsked,
    chosen: Chosen,
    manifest: Manifest,
    probed: Probed,
    fetch: Fetch,
    say: Say,
) -> Chosen:
    """Choose what the detector looks at, where that is open; its weights are there then."""
    if chosen.features is not None:
        fetch(weights_of(chosen.features))
        return chosen
    if chosen.model is not None:
        return chosen
    picked = choose(
        *(manifest, probed, asked.cache, asked.engine, asked.features), fetch=fetch, say=say
    )
    return chosen.model_copy(update=vars(picked))


def _run(
    asked: ReviewAsked,
    chosen: Chosen,
    config: RunConfig,
    recipe: Path,
    little: bool,
    say: Say,
    ended: Callable[[Ended], None],
) -> Reviewed:
    """Run a recipe, keep which model it has trained, and say what comes next."""
    resolved = resolve_run(config)
    run = run_nodes(resolved, plan(resolved), tell=ended)
    # Checks of the camera that fail cost no page.
    failed = any(end.node.subject != CHECKS for end in run.errors)
    name = _trained(run, NAME) or chosen.model
    model = None
    if name is not None and not failed:
        own = {"model": name, "scene_model": _trained(run, CHECKS) or chosen.scene_model}
        keep(asked.out, chosen.model_copy(update=own))
        model = ModelFolder.find(config.cache_root, name).path
    page = resolved.folder.scores(NAME).review / INDEX
    if failed:
        say(_next_of_failure(chosen, little))
    if not failed:
        if run.errors:
            say("the checks of the camera failed, see above: the page is without them")
        say(f"page: {page}")
        say("next: look at the page. Fewer or more events:")
        if asked.events.names_rule:  # what is named here goes before what the model keeps
            say("  this command with another rule, as --budget 5.")
        else:
            say(f"  vadpipe threshold {model} --budget 5")
            say("  and this command again.")
        say("New files: this command again; the model is kept.")
    return Reviewed(run, page, recipe, model)


def _again(
    asked: ReviewAsked, chosen: Chosen, listed: Manifest, probed: Probed, say: Say
) -> tuple[Chosen, Manifest]:
    """The videos of an earlier run and new ones; with what a feedback has learnt, if one has."""
    earlier = read_manifest(asked.out / FOOTAGE)
    # Before the first model nothing has trained, whatever the files were.
    parts = () if chosen.model is None else chosen.parts
    if asked.learnt is not None:
        earlier, added = with_learnt(earlier, read_manifest(asked.learnt))
        own = earlier.model_copy(update={"records": added})
        rows = probe_to_use(own, asked.cache, asked.probing).rows
        parts = (*parts, *trained_parts(own, rows, scored=True))
        say(f"learnt: {counted(len(added), 'rejected event')} of {asked.learnt}")
        known: dict[str, Any] = {"parts": parts, "learnt": str(asked.learnt.absolute())}
        if chosen.hours is not None:
            more = Counter(hours_of(own, rows))
            known["hours"] = dict(Counter(chosen.hours) + more)
        chosen = chosen.model_copy(update=known)
    other = with_other_content(listed, probed.rows, parts)
    if other:
        some = ", ".join(other[:NAMED]) + (", ..." if len(other) > NAMED else "")
        say(
            f"{counted(len(other), 'file')} with another content than when it trained: scored, all "
            f"of it ({some})"
        )
    return chosen, with_new(earlier, listed, chosen.trained, parts=parts, other=other)


def _trained(run: Run, name: str) -> str | None:
    """The model that a training of a run has made; None where it did not end well."""
    ends = [end for end in run.ended if end.node.name == f"train-{name}" and end.done is not None]
    facts = (ends[0].done.facts or {}) if ends and ends[0].done is not None else {}
    return str(facts["model"]) if "model" in facts else None


# ------------------------------------------------------------------------------- listing


def _listed(asked: ReviewAsked, *, first: bool) -> Manifest:
    """All footage of a review, with scenes; normal footage is in the split train."""
    target = _manifest_of(asked.target, asked.scene_from, first=first)
    if asked.normal is None:
        return target
    return with_normal(target, _manifest_of(asked.normal, asked.scene_from, first=False))


def _manifest_of(path: Path, scene_from: str | None, *, first: bool) -> Manifest:
    if path.suffix.lower() in (".parquet", ".csv"):
        return read_manifest(path)
    if scene_from is not None:
        return DATASETS["footage"](path, scene_from=scene_from)
    listed = with_folders(DATASETS["footage"](path))
    if first:
        refuse_dates(listed)
    return listed


def _has(manifest: Manifest, split: str) -> bool:
    return any(record.split == split for record in manifest.records)


def _known_before(
    asked: ReviewAsked, before: Chosen | None
) -> tuple[set[str], tuple[TrainedPart, ...]]:
    """Paths of an earlier run, and what has trained then."""
    if before is None or not (asked.out / FOOTAGE).is_file():
        return set(), ()
    records = read_manifest(asked.out / FOOTAGE).records
    known = {*before.trained, *(record.path for record in records if record.path is not None)}
    return known, () if before.model is None else before.parts
