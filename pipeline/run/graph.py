"""The graph of a run: which nodes there are, what each needs, and the key that it is known by.

A node is known by the key of all that decides what it makes: its settings, and the keys of the
nodes that it needs. A node whose file in `nodes/` has its key, and whose target is there, is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...data_manifests.choices import choices
from ...data_manifests.record import Manifest
from ...data_manifests.tracks import read_tracks
from ...detectors.base import Detector
from ...extractors.footage.video import ProbeRow
from ...extractors.weights.slots import recorded
from ..bags import check_chosen, find_stores, find_twins, has_role, is_called
from ..engine.extractor_spec import ExtractorSpec
from ..engine.weights import find_weights
from ..metrics.places import stamp_of_places
from ..models import ModelFolder, make_detector
from ..registry import DETECTORS
from ..scores.events import EventConfig
from ..scores.folder import SCORE_VERSION
from ..store.errors import StoreError
from ..store.feature_sets import list_stores
from ..store.imported import imported_checksums, imported_contents
from ..store.keys import canonical_json, key_of
from ..store.probe_table import Probed, chosen_rate
from ..store.recipes import is_perturbed
from .config import FuseSection, ModelSection, TrainSection
from .key_value import ConfigError
from .resolved import Resolved

Kind = Literal["extract", "train", "score", "fuse", "evaluate", "report"]


@dataclass(frozen=True)
class Training:
    """One cell of a `[[train]]` section: its settings and its seed.

    Attributes:
        name: unique in the run; the section's name, and what tells its cells apart.
        section: where it comes from.
        settings: of the detector.
        seed: of everything random.
        shots: number of videos that it learns from; None: all of its split.
    """

    name: str
    section: TrainSection
    settings: Mapping[str, Any]
    seed: int
    shots: int | None = None


@dataclass(frozen=True)
class Node:
    """One node of the graph.

    Attributes:
        kind: what it does.
        subject: the section, training or fusion that it is about.
        needs: names of the nodes that must be done before.
        key: of its settings and of the keys of the nodes that it needs.
        target: the path that it makes.
        training: of a node of kind "train" or "score".
        features: of a training: role -> `[[extract]]` section, or feature set of the cache.
        section: the section that it comes from.
        parts: of a fusion: name of what is fused -> weight.
        method: of a fusion.
        columns: of a fusion: name of what is fused -> its score column, where it is not "score".
        model: of a node of kind "score" without a training: the folder of the model.
        events: of a node of kind "score": how its scores become events, where that is not what
            `[score]` says.
        after: names of nodes that it waits for, and does without where they fail.
        scene_checks: of a node of kind "report": what has the checks of the camera; "" is nothing.
        start: of a training: name of the node whose model it starts from; empty: of none.
    """

    kind: Kind
    subject: str
    needs: tuple[str, ...]
    key: str
    target: Path
    training: Training | None = None
    features: tuple[tuple[str, str], ...] = ()
    section: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    method: str = "sum"
    columns: tuple[tuple[str, str], ...] = ()
    model: Path | None = None
    events: EventConfig | None = None
    after: tuple[str, ...] = ()
    scene_checks: str = ""
    start: str = ""

    @property
    def awaited(self) -> tuple[str, ...]:
        """All nodes that have to end before it."""
        return (*self.needs, *self.after)

    @property
    def name(self) -> str:
        """Unique in its run, and the name of its file."""
        return f"{self.kind}-{self.subject}"

    def called(self) -> set[str]:
        """All names that choose it."""
        section = self.section or self.subject
        return {self.name, self.subject, section, f"{self.kind}-{section}"}


def plan(resolved: Resolved) -> list[Node]:
    """The nodes of a run; each comes after those that it needs.

    Raises:
        ConfigError: a section names another that is not there.
        DetectorError, pydantic.ValidationError: a detector cannot be made.
    """
    planner = _Planner(resolved)
    for extract in resolved.config.extract:
        for name, source in extract.feature_sets().items():
            planner.add_extract(name, source)
    config = resolved.config
    trainings = {s.label: list(trainings_of(s, config.seed)) for s in config.train}
    for train in config.train:
        planner.add_trainings(train, trainings[train.label])
    for model in config.model:
        planner.add_model(model)
    for section in resolved.config.fuse:
        planner.add_fusion(section, trainings)
    planner.add_pages()
    return list(planner.nodes.values())


def trainings_of(section: TrainSection, seed: int) -> Iterator[Training]:
    """The trainings of a section: every combination of its grid and shots, with every seed."""
    seeds = section.seeds or (seed,)
    keys = list(section.grid)
    for *values, shots in itertools.product(*section.grid.values(), section.shots or (None,)):
        cell = dict(zip(keys, values, strict=True))
        words = [section.label, *(f"{k}={_word(v)}" for k, v in cell.items())]
        words += [] if shots is None else [f"shots={shots}"]
        for drawn in seeds:
            name = "-".join([*words, f"s{drawn}"] if len(seeds) > 1 else words)
            yield Training(name, section, {**section.set, **cell}, drawn, shots)


def _word(value: Any) -> str:
    """A value of a grid as part of a file name."""
    text = value if isinstance(value, str) else canonical_json(value)
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text).strip("_") or "none"


class _Planner:
    """Adds nodes, each with the key of all that is before it."""

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved
        self._folder = resolved.folder
        self._section = ""  # of the nodes that are added now
        self._cells: dict[str, Sequence[Training]] = {}  # of the [[train]] sections so far
        self.nodes: dict[str, Node] = {}

    def _add(
        self,
        kind: Kind,
        subject: str,
        needs: Iterable[str],
        what: Mapping[str, Any],
        target: Path,
        **more: Any,
    ) -> Node:
        before = tuple(dict.fromkeys(needs))
        key = key_of({"node": kind, **what, "needs": {n: self.nodes[n].key for n in before}})
        node = Node(kind, subject, before, key, target, section=self._section, **more)
        if node.name in self.nodes:
            raise ConfigError(f"two nodes are called {node.name}: set name in one of the sections")
        self.nodes[node.name] = node
        return node

    def add_extract(self, name: str, source: str | None) -> None:
        """The feature set of all videos of the manifest.

        Its key names no video: what of them is missing is looked up, and a new test video moves the
        key of no training.
        """
        store = self._resolved.store(name)
        self._resolved.extracted(name)  # refuses a split without videos
        needs = [f"extract-{source}"] if source in self._resolved.specs else []
        self._add("extract", name, needs, {"features": store.key}, store.root)

    def add_trainings(self, section: TrainSection, cells: Sequence[Training]) -> None:
        """The trainings of a section, with their scores and metrics."""
        self._section = section.label
        detectors = [make_detector(section.detector, cell.settings) for cell in cells]
        try:
            check_chosen(detectors, section.features)
        except StoreError as error:
            raise ConfigError(f"train {section.label}: {error}") from None
        roles = {name: role for each in detectors for name, role in _asked(each).items()}
        for name, chosen in section.features.items():
            twin = any(name in each.twins for each in detectors)
            self._check_features(f"train {section.label}: {name} =", roles[name], chosen, twin=twin)
        for cell, detector in zip(cells, detectors, strict=True):
            self._add_training(cell, detector)
        self._cells[section.label] = cells

    def _check_features(self, what: str, role: str, name: str, *, twin: bool) -> None:
        """Refuse a feature set that is not there, before anything runs."""
        specs = self._resolved.specs
        if name in specs:
            able = [n for n, spec in specs.items() if _has_role(spec, role, exactly=twin)]
            if name not in able:
                have = f"has no {role!r} features; these have: {choices(able, name)}"
                raise ConfigError(f"{what} {name!r}: that section {have}")
        elif not any(is_called(s, name) for s in list_stores(self._resolved.config.cache_root)):
            raise ConfigError(
                f"{what} {name!r}: there is no such section, nor such a feature set in the cache; "
                f"sections: {choices(specs, name)}"
            )

    def _add_training(self, cell: Training, detector: Detector[Any]) -> None:
        resolved, config = self._resolved, self._resolved.config
        section = cell.section
        given = {"holdout": section.holdout is not None, "init": section.init is not None}
        detector.refuse_options([name for name, is_given in given.items() if is_given])
        features = self._features_of(cell.section, detector)
        needs = [f"extract-{name}" for name in features.values() if name in resolved.specs]
        splits = config.splits()
        for name in features.values():
            if splits.get(name) not in (None, section.split):
                raise ConfigError(
                    f"train {cell.section.label}: {name!r} is made of the videos of split "
                    f"{splits[name]!r} only"
                )
        train = resolved.learned(section, cell.shots)
        start = self._training_called(section.init, cell)
        needs += [start] if start else []
        what = {
            "detector": detector.name,
            "version": detector.version,
            "config": detector.config.for_key(),
            "weights": self._weights_of(detector, cell.section),
            "features": features,
            "sets": self._numbers_of(features, detector, train),
            "seed": cell.seed,
            "holdout": cell.section.holdout,
            **({} if start else self._start_of(section)),
            "records": train.digest,
            "contents": _contents(train, resolved.probed),
            **DETECTORS.recorded(detector.name),
        }
        models = config.cache_root / "models"
        chosen = tuple(features.items())
        more = {"training": cell, "features": chosen, "start": start}
        node = self._add("train", cell.name, needs, what, models, **more)
        target = self._folder.scores(cell.name).run_file
        own = section.events
        what = self._scoring(own)
        self._add("score", cell.name, [node.name], what, target, training=cell, events=own)
        self._add_metrics(cell.name, f"score-{cell.name}")

    def add_model(self, section: ModelSection) -> None:
        """The scores of a model that is there already."""
        self._section = section.name
        folder = ModelFolder.find(self._resolved.config.cache_root, section.model)
        card = folder.card()
        own = section.events
        what = {"model": card.get("key"), "weights": card.get("weights_sha256")}
        what |= self._scoring(own)
        target, path = self._folder.scores(section.name).run_file, folder.path.absolute()
        self._add("score", section.name, [], what, target, model=path, events=own)
        self._add_metrics(section.name, f"score-{section.name}")

    def _scoring(self, own: EventConfig | None) -> dict[str, Any]:
        """What decides scores and events, but for the model; `own` are events of its section."""
        config, scored = self._resolved.config, self._resolved.scored()
        return {
            "scores": SCORE_VERSION,
            "records": scored.digest,
            "contents": _contents(scored, self._resolved.probed),
            "events": (own or config.score.events).for_key(),
            **({} if config.score.smooth is None else {"smooth": config.score.smooth.text}),
        }

    def _training_called(self, name: str | None, cell: Training) -> str:
        """The node of the training that a cell starts from; empty if it is none of this run."""
        cells = [each for cells in self._cells.values() for each in cells]
        if any(each.name == name for each in cells):
            return f"train-{name}"
        section = self._cells.get(name or "", ())
        found = [each for each in section if each.seed == cell.seed]
        if section and len(found) != 1:
            raise ConfigError(
                f"train {cell.section.label}: init = {name!r} is several trainings: name one of "
                f"{choices([each.name for each in section], name or '')}"
            )
        return f"train-{found[0].name}" if found else ""

    def _start_of(self, section: TrainSection) -> dict[str, Any]:
        """What stands for the model that a training starts from: the hash of its weights."""
        if section.init is None:
            return {}
        found = ModelFolder.find(self._resolved.config.cache_root, section.init)
        return {"init": found.card()["weights_sha256"]}

    def _weights_of(self, detector: Detector[Any], section: TrainSection) -> Any:
        """What stands for the weights that a training starts from: their hashes."""
        cache = self._resolved.config.cache_root
        found = find_weights(
            detector.name, detector.networks_for(detector.config), section.weights, cache
        )
        return recorded(found)

    def _numbers_of(
        self, features: Mapping[str, str], detector: Detector[Any], train: Manifest
    ) -> dict[str, Any]:
        """What stands for the numbers of feature sets that the run itself does not make.

        Their keys, and the checksums of those that were imported. A set that is not there has
        none: its training fails, and says what to do.
        """
        resolved, cache = self._resolved, self._resolved.config.cache_root
        ours = [name for name, section in features.items() if section in resolved.specs]
        roles = [role for role in detector.needs if role not in ours]
        twins = {name: role for name, role in detector.twins.items() if name not in ours}
        found = resolved.probed.rows
        rows = {r.video_id: found[r.video_id] for r in train.records if r.video_id in found}
        try:
            stores = find_stores(cache, roles, rows, features)
            stores |= find_twins(cache, twins, rows, features)
            keys = {role: store.key for role, store in stores.items()}
            return {**keys, **imported_contents(imported_checksums(stores, rows))}
        except StoreError:
            return {}

    def _features_of(self, section: TrainSection, detector: Detector[Any]) -> dict[str, str]:
        """Role or twin -> the run's own feature set by its section, or one of the cache by name."""
        specs = self._resolved.specs
        asked = _asked(detector)
        chosen = {name: each for name, each in section.features.items() if name in asked}
        perturbed = {name for name, spec in specs.items() if is_perturbed(spec.recipe())}
        for name, role in asked.items():
            exact = [each for each, spec in specs.items() if _has_role(spec, role, exactly=True)]
            if name in detector.twins:
                own = [each for each in exact if each in perturbed]
            else:
                every = exact or [each for each, spec in specs.items() if _has_role(spec, role)]
                own = [each for each in every if each not in perturbed] or every
            if name not in chosen and len(own) > 1:
                raise ConfigError(
                    f"train {section.label}: several feature sets have {role!r}: "
                    f"{', '.join(own)}; choose one with features = {{ {name} = ... }}"
                )
            if name not in chosen and own:
                chosen[name] = own[0]
        return chosen

    def _add_metrics(self, subject: str, scores: str) -> None:
        config = self._resolved.config
        scored = self._resolved.scored()
        if all(record.anomalies is None for record in scored.records):
            return
        what = {"labels": scored.digest, **config.evaluate.model_dump(mode="json")}
        if config.evaluate.smooth is None:
            del what["smooth"]
        if not config.evaluate.also:
            del what["also"]
        if config.evaluate.tracks is not None:
            what["tracks"] = read_tracks(config.evaluate.tracks).sha256
        if (places := stamp_of_places(scored)) is not None:
            what["places"] = places
        target = self._folder.scores(subject).metrics_file
        self._add("evaluate", subject, [scores], what, target)

    def add_fusion(self, section: FuseSection, trainings: Mapping[str, list[Training]]) -> None:
        """A fusion; where its parts have several seeds each, one fusion for each seed."""
        self._section = section.name
        for suffix, names in _fusions(section, trainings, self.nodes):
            name = f"{section.name}{suffix}"
            parts = {names[given]: weight for given, weight in section.scores.items()}
            columns = {names[given]: column for given, column in section.columns.items()}
            needs = [self._scores_of(part) for part in parts]
            what = {"scores": SCORE_VERSION, "parts": parts, "method": section.method}
            what |= {"columns": columns} if columns else {}
            target = self._folder.scores(name).run_file
            self._add(
                "fuse",
                name,
                needs,
                what,
                target,
                parts=tuple(parts.items()),
                method=section.method,
                columns=tuple(columns.items()),
            )
            self._add_metrics(name, f"fuse-{name}")

    def _scores_of(self, subject: str) -> str:
        return next(n for n in (f"score-{subject}", f"fuse-{subject}") if n in self.nodes)

    def add_pages(self) -> None:
        """A page for each scored node, or for those that `[report]` names."""
        scored = [n.subject for n in self.nodes.values() if n.kind in ("score", "fuse")]
        wanted = self._resolved.config.report.scores
        chosen = scored if wanted is None else [s for w in wanted for s in _matches(w, scored)]
        for subject in chosen:
            needs = [self._scores_of(subject)]
            needs += [n for n in (f"evaluate-{subject}",) if n in self.nodes]
            self._section = self.nodes[needs[0]].section
            report = self._resolved.config.report
            more: dict[str, Any] = {"folder": True} if report.folder else {}
            if report.notes:
                more["notes"] = list(report.notes)
            after, checks = self._checks_beside(subject, scored)
            if after:  # the page is another one when they are
                more["checks"] = self.nodes[after[0]].key
            target = self._folder.scores(subject).page
            self._add("report", subject, needs, more, target, after=after, scene_checks=checks)

    def _checks_beside(self, subject: str, scored: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The node of the scores that `report.scene_checks` names, and what it is about."""
        report = self._resolved.config.report
        name = report.scene_checks
        if name is None or name == subject:
            return (), ""
        if name not in scored:
            raise ConfigError(
                f"report: scene_checks names {name!r}; there are: {choices(scored, name)}"
            )
        if not report.folder:
            raise ConfigError("report: scene_checks are on the review page: set folder = true")
        return (self._scores_of(name),), name


def _fusions(
    section: FuseSection, trainings: Mapping[str, list[Training]], nodes: Mapping[str, Node]
) -> Iterator[tuple[str, dict[str, str]]]:
    """(suffix, name in the section -> what is fused) of the fusions of a section."""
    seeded: dict[str, dict[int, str]] = {}
    for name in section.scores:
        cells = trainings.get(name, [])
        if f"score-{name}" in nodes or f"fuse-{name}" in nodes:
            continue
        if not cells or cells[0].section.grid:
            known = [n.subject for n in nodes.values() if n.kind in ("score", "fuse")]
            raise ConfigError(
                f"fuse {section.name}: there is no {name!r}; there are: {choices(known, name)}"
            )
        seeded[name] = {cell.seed: cell.name for cell in cells}
    if not seeded:
        yield "", {name: name for name in section.scores}
        return
    seeds = list(next(iter(seeded.values())))
    if any(list(cells) != seeds for cells in seeded.values()):
        raise ConfigError(f"fuse {section.name}: its parts were trained with different seeds")
    for seed in seeds:
        yield f"-s{seed}", {n: seeded[n][seed] if n in seeded else n for n in section.scores}


def _matches(wanted: str, scored: Sequence[str]) -> list[str]:
    """The scored nodes of a name: itself, or all cells of its section."""
    found = [s for s in scored if s == wanted or s.startswith(f"{wanted}-")]
    if not found:
        raise ConfigError(f"report: there is no {wanted!r}; there are: {choices(scored, wanted)}")
    return [wanted] if wanted in found else found


def _asked(detector: Detector[Any]) -> dict[str, str]:
    """Role -> itself, and name of a twin -> its role."""
    return {**{role: role for role in detector.needs}, **detector.twins}


def _has_role(spec: ExtractorSpec, role: str, *, exactly: bool = False) -> bool:
    roles = [array.role for array in spec.make().arrays]
    return role in roles if exactly else has_role(roles, role)


def _contents(manifest: Manifest, probed: Probed) -> dict[str, str]:
    """Video -> its content id, and the rate chosen for images; what cannot be read is not there."""
    found = ((r.video_id, probed.rows.get(r.video_id)) for r in manifest.records)
    return {v: _content(row) for v, row in found if row is not None}


def _content(row: ProbeRow) -> str:
    rate = chosen_rate(row)
    return row.content_id if rate is None else f"{row.content_id} at {rate:g}"
