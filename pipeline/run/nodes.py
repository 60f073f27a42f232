"""What each kind of node does: call one stage, and say what became of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted
from ...data_manifests.record import ManifestError
from ..engine.extractor_spec import ExtractorSpec
from ..engine.planning import plan_videos
from ..engine.threads import limited_threads
from ..evaluate import evaluate_scores
from ..extract import engine_for, extract_features
from ..fuse import fuse_scores
from ..metrics.places import RegionChoice
from ..metrics.results import EventMetrics
from ..models import ModelFolder, specs_of_model
from ..registry import DETECTORS
from ..report.stage import write_report
from ..review.stage import write_review
from ..review.verdicts import VERDICTS_OF
from ..score import Scored, score_footage
from ..scores.events import EventConfig
from ..scores.folder import ScoreFolder
from ..scores.frames import MetricsError
from ..scores.summary import new_scene_lines
from ..store.failures import Failure
from ..tables.features import written_shards
from ..tables.metrics import metrics_lines
from ..tables.objects import object_lines
from ..tables.shapes import shape_lines
from ..train import train_detector
from .config import FurtherMeasure
from .folder import Done
from .graph import Node
from .resolved import Resolved

# A training owns torch's random numbers and its threads: one node at a time in each process.
_turn = threading.Lock()


@dataclass(frozen=True)
class NodeTask:
    """A node on its way to a worker.

    Attributes:
        node: what to do.
        resolved: the run; extractors and files are settled.
        facts: of the nodes that it needs, by their names.
        device: where a detector computes.
        threads: CPU threads of its networks; None leaves torch's own number.
        others: models that the same footage is scored with after this one, in this process.
    """

    node: Node
    resolved: Resolved
    facts: Mapping[str, Mapping[str, Any]]
    device: str
    threads: int | None
    others: tuple[Path, ...] = ()


def run_node(task: NodeTask) -> Done:
    """Do what a node says, in whichever process this is.

    Raises:
        VadpipeError: it cannot be done; the message says what to do.
    """
    with _turn:
        begin = time.monotonic()
        if task.threads is not None:
            import torch

            torch.set_num_threads(task.threads)
        with limited_threads(task.threads):
            done = _RUN[task.node.kind](task)
        facts = {**(done.facts or {}), "seconds": round(time.monotonic() - begin, 1)}
        return replace(done, facts=facts)


def run_extracts(resolved: Resolved, nodes: Sequence[Node]) -> dict[str, Done]:
    """Several feature sets at once: each span of footage is decoded once for all of them.

    Those of other videos are extracted after one another.
    """
    splits = resolved.config.splits()
    groups: dict[str | None, list[Node]] = {}
    for node in nodes:
        groups.setdefault(splits[node.subject], []).append(node)
    return {name: d for group in groups.values() for name, d in _extract(resolved, group).items()}


def _extract(resolved: Resolved, nodes: Sequence[Node]) -> dict[str, Done]:
    """Several feature sets of the same videos."""
    config, videos = resolved.config, resolved.extracted(nodes[0].subject)
    done = extract_features(
        videos,
        resolved.files(videos),
        [resolved.specs[node.subject] for node in nodes],
        config.cache_root,
        engine=config.engine,
        max_bytes=config.max_bytes,
    )
    what = written_shards(done.written, len(done.failures), len(done.rows))
    facts = {"videos": len(done.rows), "seconds": round(done.seconds, 1)}
    return {
        node.name: Done(
            node.key,
            (
                *(str(store.root), what),
                *object_lines([store], done.rows, videos),
                *shape_lines([store], done.rows),
            ),
            tuple(done.failures),
            facts,
        )
        for node, store in zip(nodes, done.stores, strict=True)
    }


def is_done(resolved: Resolved, node: Node) -> bool:
    """Whether a node has run with this very key and its target is still there.

    A node in which videos failed runs again: it is cheap, and they may have been mended.
    """
    done = resolved.folder.done(node.name)
    if done is None or done.key != node.key or done.failures or done.facts is None:
        return False
    if node.kind == "extract":
        spec = resolved.specs[node.subject]
        engine = engine_for([spec], resolved.config.engine)
        store = resolved.store(node.subject)
        files = resolved.files(resolved.extracted(node.subject))
        return store.root.is_dir() and not plan_videos(files, [store], engine.span_frames)
    if node.kind == "train":
        model = done.facts.get("model")
        return (
            model is not None and ModelFolder.named(resolved.config.cache_root, model).is_finished()
        )
    if node.kind == "score" and done.facts.get("rule") != _kept_rule(resolved, node, done.facts):
        return False
    return node.target.is_file()


def _kept_rule(resolved: Resolved, node: Node, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rule of the threshold that is kept with a model and used by its scores; else None.

    Args:
        resolved:
            The run.
        node:
            Of the scores.
        facts:
            Of that node: they name the model that was trained.
    """
    name = facts.get("row", {}).get("model")
    if _events_of(resolved, node).names_rule or (name is None and node.model is None):
        return None
    cache = resolved.config.cache_root
    model = ModelFolder.named(cache, name) if node.model is None else ModelFolder(node.model)
    chosen = model.threshold()
    return None if chosen is None else chosen.rule.for_key()


def _events_of(resolved: Resolved, node: Node) -> EventConfig:
    """How the scores of a node become events."""
    return node.events or resolved.config.score.events


def done_nodes(resolved: Resolved, nodes: Sequence[Node]) -> set[str]:
    """Names of the nodes that a run of these would not run, before it begins.

    A node that is done runs again after one that it needs.
    """
    done: set[str] = set()
    names = {node.name for node in nodes}
    for node in nodes:  # needs come before
        if names.intersection(node.awaited) <= done and is_done(resolved, node):
            done.add(node.name)
    return done


def _train(task: NodeTask) -> Done:
    resolved, cell = task.resolved, task.node.training
    assert cell is not None
    config = resolved.config
    features = {
        role: resolved.store(name).name if name in resolved.specs else name
        for role, name in task.node.features
    }
    kind, videos = DETECTORS[cell.section.detector], resolved.learned(cell.section, cell.shots)
    start = task.node.start
    trained = train_detector(
        cell.section.detector,
        videos,
        resolved.files(videos),
        config.cache_root,
        features=features,
        settings=cell.settings,
        weights=cell.section.weights,
        seed=cell.seed,
        device=task.device if "device" in kind.train_options else "cpu",
        holdout=cell.section.holdout,
        init=str(task.facts[start]["model"]) if start else cell.section.init,
        max_missing=cell.section.max_missing,
        about={VERDICTS_OF: before} if (before := list(cell.section.verdicts_of)) else None,
    )
    line = "trained" if trained.fresh else "trained before: kept"
    if not trained.draws and len(cell.section.seeds or ()) > 1:
        line += " (nothing is drawn at random: one model stands for all seeds)"
    facts = {"model": trained.folder.name, "summary": trained.summary}
    # A section with a value of its own for its threshold asks for no quantile.
    own = cell.section.events is not None and cell.section.events.rule == "value"
    said = [each for each in trained.warnings if not (own and each.startswith("threshold: "))]
    lines = (str(trained.folder), line, *said)
    return Done(task.node.key, lines, trained.missing, {**facts, "warnings": said})


def _score(task: NodeTask) -> Done:
    resolved, node = task.resolved, task.node
    config, facts = resolved.config, task.facts.get(f"train-{node.subject}", {})
    if node.model is None:
        model = ModelFolder.named(config.cache_root, facts["model"])
    else:
        model = ModelFolder(node.model)
    folder = resolved.folder.scores(node.subject)
    # Before the scoring, which may take hours: a rule that is chosen meanwhile is not the one used.
    rule = _kept_rule(resolved, node, {"row": _about_model(node, model, facts)})
    begin = time.monotonic()
    done = score_footage(
        model.path,
        resolved.scored(),
        resolved.files(resolved.scored()),
        folder.path,
        config.cache_root,
        engine=config.engine.model_copy(
            update={
                "device": task.device,
                "workers": 0,
                "scheduler": None,
                "insecure_loopback": False,
            }
        ),
        events=_events_of(resolved, node),
        smooth=config.score.smooth,
        settled=list(resolved.specs.values()),
        beside=_beside(task),
        max_bytes=config.max_bytes,
        replace_model=True,  # a recipe that was changed writes over its own scores
        command="vadpipe run",
    )
    seconds = time.monotonic() - begin
    # Those of a quantile are said by the training, which asks for the default one.
    own = node.events is not None and node.events.rule == "value"
    doubts = () if own or done.rule.startswith("quantile") else done.warnings
    said = [
        *(f"threshold: {warning}" for warning in doubts),
        *new_scene_lines({"new_scenes": done.new_scenes}),
    ]
    lines = (
        f"{counted(len(done.videos), 'video')} scored, {counted(done.events, 'event')}",
        f"threshold {done.threshold:.6g} ({done.rule})",
        *said,
        *(() if done.boxes is None else done.boxes.lines()),
    )
    row = {
        **_about_model(node, model, facts),
        **_facts_of(folder, len(done.videos), done.events),
        "frames_per_second": _speed(resolved, done, seconds),
    }
    far = [done.boxes.warning] if done.boxes is not None and done.boxes.warning else []
    about = {"row": row, "rule": rule, "warnings": [*said, *far]}
    return Done(node.key, lines, tuple(done.failures), about)


def _beside(task: NodeTask) -> list[ExtractorSpec]:
    """What models need that are scored next; one that cannot be loaded says so itself."""
    config, found = task.resolved.config, []
    settled = list(task.resolved.specs.values())
    for path in task.others:
        with contextlib.suppress(VadpipeError):
            card = ModelFolder(path).card()
            found += specs_of_model(
                card, settled=settled, cache=config.cache_root, engine=config.engine
            )
    return found


def _speed(resolved: Resolved, done: Scored, seconds: float) -> float | None:
    """Frames that were scored in a second; None unless all videos were, from features at hand."""
    videos = resolved.scored()
    if done.extracted or done.failures or done.fresh < len(videos.records) or seconds <= 0:
        return None
    frames = sum(row.n_frames for row in resolved.files(videos).rows.values())
    return round(frames / seconds, 2)


def _about_model(node: Node, model: ModelFolder, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of results says of a model; `facts` are those of its training."""
    if node.training is None:
        card = model.card()
        known = {name: card.get(name) for name in ("detector", "seed")}
        return {"name": node.subject, **known, "settings": card["config"], "model": model.path.name}
    return {
        "name": node.subject,
        "detector": node.training.section.detector,
        "seed": node.training.seed,
        "settings": dict(node.training.settings),
        "model": facts["model"],
        "train_seconds": facts.get("seconds"),
    }


def _fuse(task: NodeTask) -> Done:
    resolved, node = task.resolved, task.node
    folder = resolved.folder.scores(node.subject)
    done = fuse_scores(
        [resolved.folder.scores(name).path for name, _ in node.parts],
        folder.path,
        weights=dict(node.parts) if node.method == "sum" else None,
        method="sum" if node.method == "sum" else "max",
        columns=dict(node.columns),
        events=resolved.config.score.events,
        command="vadpipe run",
    )
    line = f"{counted(len(done.videos), 'video')} fused, {counted(done.events, 'event')}"
    row = {
        "name": node.subject,
        "detector": f"fuse {node.method}",
        "settings": {**dict(node.parts), **({"columns": c} if (c := dict(node.columns)) else {})},
        **_facts_of(folder, len(done.videos), done.events),
    }
    return Done(node.key, (line,), tuple(done.failures), {"row": row})


def _facts_of(folder: ScoreFolder, videos: int, events: int) -> dict[str, Any]:
    return {"videos": videos, "events": events, "threshold": folder.threshold()}


def _evaluate(task: NodeTask) -> Done:
    resolved, node = task.resolved, task.node
    config = resolved.config.evaluate
    folder = resolved.folder.scores(node.subject)
    path = folder.path
    folder.remove_metrics()  # no page shows those of other settings
    try:
        done = evaluate_scores(
            path,
            resolved.scored(),
            align=config.align,
            replicates=config.bootstrap,
            smooth=config.smooth,
            regions=RegionChoice(config.tracks, config.map, config.map_quantile),
        )
    except (MetricsError, ManifestError) as error:
        failure = Failure("*", "evaluate", type(error).__name__, str(error))
        return Done(node.key, (), (failure,), {})
    m = done.metrics
    metrics = {
        "micro_auc": m.micro_auc,
        "macro_auc_padded": m.macro_auc_padded,
        "macro_auc_valid": m.macro_auc_valid,
        "average_precision": m.average_precision,
        "latency_aware_ap": m.latency_aware_ap,
        "score_gap": m.score_gap,
        **_of_events(m.events),
        "rbdc": None if m.regions is None else m.regions.rbdc,
        "tbdc": None if m.regions is None else m.regions.tbdc,
        **{f"auc_{size.name}": size.micro_auc for size in m.sizes},
    }
    lines = metrics_lines(done)
    for more in config.also:
        further, told = _also_measured(path, resolved, more)
        metrics |= further
        lines += told
    return Done(node.key, tuple(lines), (), {"metrics": metrics})


def _of_events(events: EventMetrics | None) -> dict[str, float | None]:
    """What the table of results says of events."""
    if events is None:
        return {}
    return {
        "event_precision": events.precision,
        "event_recall": events.recall,
        "event_f1": events.strict_f1,
        "false_alarms_per_hour": events.false_per_hour,
    }


def _also_measured(
    path: Path, resolved: Resolved, more: FurtherMeasure
) -> tuple[dict[str, float | None], list[str]]:
    """Further metrics of a score folder, and lines about them; a column may not be there."""
    config, name = resolved.config.evaluate, more.called
    videos = ScoreFolder(path).video_ids()
    if not videos or more.column not in ScoreFolder(path).scores(videos[0]).column_names:
        return {}, [f"{name}: there is no score column {more.column}"]
    try:
        m = evaluate_scores(
            path,
            resolved.scored(),
            align=config.align,
            replicates=config.bootstrap,
            column=more.column,
            smooth=config.smooth,
            normalise=more.normalise,
            scored_only=more.scored_only,
        ).metrics
    except MetricsError as error:
        return {}, [f"{name}: {error}"]
    found = {
        f"micro_auc@{name}": m.micro_auc,
        f"macro_auc_padded@{name}": m.macro_auc_padded,
        f"macro_auc_valid@{name}": m.macro_auc_valid,
        f"average_precision@{name}": m.average_precision,
        f"score_gap@{name}": m.score_gap,
    }
    told = ", ".join(
        f"{what} {'undefined' if value is None else f'{100 * value:.2f}'}"
        for what, value in (("micro AUC", m.micro_auc), ("AP", m.average_precision))
    )
    return found, [f"{name}: {told}"]


def _report(task: NodeTask) -> Done:
    resolved, node = task.resolved, task.node
    scores, listed = resolved.folder.scores(node.subject).path, resolved.scored()
    pages = [write_report(scores, manifest=listed)]
    if resolved.config.report.folder:
        pages.append(
            write_review(
                scores,
                manifest=listed,
                cache=resolved.config.cache_root,
                scene_checks=_checks_beside(task),
                about=resolved.config.report.notes,
            )
        )
    return Done(node.key, tuple(map(str, pages)), (), {"page": str(pages[0])})


def _checks_beside(task: NodeTask) -> Path | None:
    """Scores of the checks of the camera, if they were made; the page does without."""
    folder, name = task.resolved.folder, task.node.scene_checks
    there = name and all(folder.done(each) is not None for each in task.node.after)
    return folder.scores(name).path if there else None


_RUN: dict[str, Callable[[NodeTask], Done]] = {
    "train": _train,
    "score": _score,
    "fuse": _fuse,
    "evaluate": _evaluate,
    "report": _report,
}
