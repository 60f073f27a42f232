"""Stage, and the graph of one run: every arrow is a file on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from ...data_manifests.choices import choices
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.table import read_manifest, write_manifest
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from ..engine.settings import ProbeOptions
from ..evaluate import evaluate_scores
from ..extract import extract_features
from ..probe import probe_files
from ..registry import DATASETS
from ..report.stage import write_report
from ..score import score_footage
from ..scores.folder import ScoreFolder
from ..scores.frames import MetricsError
from ..store.failures import Failure
from ..store.keys import key_of
from ..store.probe_table import Probed
from ..tables.metrics import metrics_lines
from ..train import train_detector
from .config import ExtractSection, RunConfig, default_cache


@dataclass
class Result:
    """Lines that say what a stage did, and the videos that failed in it."""

    lines: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """One node of the graph.

    Attributes:
        name: unique in its run.
        needs: names of the stages before it.
        target: the path that it makes.
        key: of its settings and of those of all stages before it.
        run: does it; does nothing where the target is there already.
    """

    name: str
    needs: tuple[str, ...]
    target: Path
    key: str
    run: Callable[[], Result]


def build_manifest(dataset: str, root: Path, options: dict[str, Any] | None = None) -> Manifest:
    """The manifest of a data set.

    Raises:
        ManifestError: there is no such data set or option, or it is not what it should be.
    """
    if dataset not in DATASETS:
        raise ManifestError(f"no data set {dataset!r}; there are: {choices(DATASETS, dataset)}")
    known = [name for name in signature(DATASETS[dataset]).parameters if name != "root"]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ManifestError(
            f"{dataset} has no option {', '.join(unknown)}; it has: {choices(known, *unknown)}"
        )
    return DATASETS[dataset](root, **(options or {}))


def specs_of_run(run: RunConfig) -> list[ExtractorSpec]:
    """The extractors of a run, with every choice made."""
    return [_spec(section, run) for section in run.extract]


def plan(run: RunConfig) -> list[Stage]:
    """The stages of a run in order; nothing is run or written."""
    cache = run.cache or default_cache()
    section = run.manifest
    manifest_path = section.file or run.out / "manifest.parquet"
    settings = run.model_dump(mode="json", include={"manifest", "hash_mode", "image_fps"})
    stages: dict[str, Stage] = {}

    def add(
        name: str, needs: tuple[str, ...], target: Path, what: Any, do: Callable[[], Result]
    ) -> None:
        key = key_of({"stage": name, "settings": what, "needs": [stages[n].key for n in needs]})
        stages[name] = Stage(name, needs, target, key, do)

    add("manifest", (), manifest_path, settings["manifest"], partial(_manifest, run, manifest_path))
    add("probe", ("manifest",), cache / "probe", settings, partial(_probe, run, manifest_path))
    stores = stores_of(specs_of_run(run), cache)
    add(
        "extract",
        ("probe",),
        cache / "features",
        [store.key for store in stores],
        partial(_extract, run, manifest_path),
    )
    unset = {"weights"} if run.train.weights is None else set()  # keys of older run files stay
    trained = {"train": run.train.model_dump(mode="json", exclude=unset), "seed": run.seed}
    add("train", ("extract",), cache / "models", trained, partial(_train, run, manifest_path))
    scored = run.score.model_dump(mode="json")
    scored_in = ScoreFolder(run.out)
    add("score", ("train",), scored_in.run_file, scored, partial(_score, run, manifest_path))
    add(
        "evaluate",
        ("score",),
        scored_in.metrics_file,
        None,
        partial(_evaluate, run, manifest_path),
    )
    add(
        "report",
        ("evaluate",),
        scored_in.page,
        None,
        partial(_report, run, manifest_path),
    )
    return list(stages.values())


def execute(stages: list[Stage]) -> Iterator[tuple[Stage, Result]]:
    """Run the stages in order; a stage is run when all that it needs are done."""
    done: set[str] = set()
    for stage in stages:
        assert done.issuperset(stage.needs), f"{stage.name} comes before what it needs"
        yield stage, stage.run()
        done.add(stage.name)


def probed_of_run(run: RunConfig, manifest: Manifest) -> Probed:
    """The files of a run's manifest; those seen before are not opened again."""
    cache = run.cache or default_cache()
    return probe_files(
        manifest,
        cache,
        run.engine.probing(ProbeOptions(hash_mode=run.hash_mode, image_fps=run.image_fps)),
    )


def _spec(section: ExtractSection, run: RunConfig) -> ExtractorSpec:
    return resolve_extractor(
        section.extractor,
        section.set,
        weights=section.weights,
        precision=section.precision,
        engine=run.engine,
        on_corrupt=run.on_corrupt,
        cache=run.cache or default_cache(),
    )


def _manifest(run: RunConfig, path: Path) -> Result:
    section = run.manifest
    if section.file is None:
        assert section.dataset is not None and section.root is not None
        manifest = build_manifest(section.dataset, section.root, section.options)
        write_manifest(manifest, path)
    else:
        manifest = read_manifest(path)
    return Result([f"{len(manifest.records)} videos of {manifest.dataset}"])


def _probe(run: RunConfig, path: Path) -> Result:
    probed = probed_of_run(run, read_manifest(path))
    return Result([f"{len(probed.rows)} files, {probed.fresh} of them new"], probed.failures)


def _extract(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path)
    done = extract_features(
        manifest,
        probed_of_run(run, manifest),
        specs_of_run(run),
        run.cache or default_cache(),
        engine=run.engine,
        max_bytes=run.max_bytes,
    )
    lines = [str(store.root) for store in done.stores]
    lines.append(f"{done.written} shards written" if done.written else "nothing to do")
    return Result(lines, done.failures)


def _train(run: RunConfig, path: Path) -> Result:
    trained = _trained(run, path)
    return Result([str(trained.folder), "trained" if trained.fresh else "trained before: kept"])


def _trained(run: RunConfig, path: Path) -> Any:
    manifest = read_manifest(path)
    cache = run.cache or default_cache()
    named = dict(run.train.features)
    stores = stores_of(specs_of_run(run), cache)
    for store in stores:  # the run's own features, not others of the same role in the cache
        for spec in store.array_specs():
            if spec["role"] is not None:
                named.setdefault(spec["role"].partition("/")[0], store.name)
    return train_detector(
        run.train.detector,
        manifest,
        probed_of_run(run, manifest.select(split="train")),
        cache,
        features=named,
        settings=run.train.set,
        weights=run.train.weights,
        seed=run.seed,
        device=run.engine.own_device(),
    )


def _score(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    if not manifest.records:
        raise ManifestError(f"{path} has no videos of split {run.score.split!r}")
    done = score_footage(
        _trained(run, path).folder,
        manifest,
        probed_of_run(run, manifest),
        run.out,
        run.cache or default_cache(),
        events=run.score.events,
        settled=specs_of_run(run),
        engine=run.engine,
        command="vadpipe run",
    )
    return Result([f"{len(done.videos)} videos scored, {done.events} events"], done.failures)


def evaluate_if_labelled(out: Path, manifest: Manifest) -> tuple[list[str], list[Failure]]:
    """Metrics of a score folder where the manifest has frame labels: lines, failures."""
    if all(record.anomalies is None for record in manifest.records):
        return [], []
    try:
        return metrics_lines(evaluate_scores(out, manifest)), []
    except MetricsError as error:
        return [], [Failure("*", "evaluate", "MetricsError", str(error))]


def _evaluate(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    return Result(*evaluate_if_labelled(run.out, manifest))


def _report(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    return Result([str(write_report(run.out, manifest=manifest))])
