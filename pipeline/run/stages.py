"""Stage, and the graph of one run: every arrow is a file on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from ...data_manifests import DATASETS
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.table import read_manifest, write_manifest
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from ..evaluate import Evaluated, EvaluatedRuns, evaluate
from ..extract import extract
from ..metrics.frame_level import Alignment, FrameMetrics, MetricsError
from ..probe import Probed, probe
from ..report.stage import write_report
from ..score import score
from ..store.failures import Failure
from ..store.keys import key_of
from ..train import train
from .config import ExtractSection, RunConfig, default_cache


@dataclass
class Result:
    """What a stage did, in words, and the videos that failed in it."""

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
        raise ManifestError(f"no data set {dataset!r}; there are: {', '.join(DATASETS)}")
    known = [name for name in signature(DATASETS[dataset]).parameters if name != "root"]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ManifestError(
            f"{dataset} has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
        )
    return DATASETS[dataset](root, **(options or {}))


def specs_of_run(run: RunConfig) -> list[ExtractorSpec]:
    """The extractors of a run, every choice settled."""
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
    trained = {"train": run.train.model_dump(mode="json"), "seed": run.seed}
    add("train", ("extract",), cache / "models", trained, partial(_train, run, manifest_path))
    scored = run.score.model_dump(mode="json")
    add("score", ("train",), run.out / "run.json", scored, partial(_score, run, manifest_path))
    add(
        "evaluate",
        ("score",),
        run.out / "metrics.json",
        None,
        partial(_evaluate, run, manifest_path),
    )
    add(
        "report",
        ("evaluate",),
        run.out / "report.html",
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
    return probe(
        manifest,
        cache,
        hash_mode=run.hash_mode,
        image_fps=run.image_fps,
        limits=run.engine.limits,
        retry_quarantined=run.engine.retry_quarantined,
    )


def metrics_lines(done: Evaluated) -> list[str]:
    """What evaluate prints: numbers over all videos, then what they leave out."""
    m = done.metrics
    auc, precision = _auc_and_ap(m)
    lines = [
        f"micro AUC {auc}   macro AUC padded {_percent(m.macro_auc_padded)}   "
        f"macro AUC valid-only {_percent(m.macro_auc_valid)} ({m.n_valid} of {m.n_videos} videos)",
        f"AP {precision}   PR AUC {_percent(m.pr_auc)}   "
        f"frames {m.n_frames} ({m.n_abnormal} abnormal)",
    ]
    if m.abnormal_videos_auc is not None:
        n = sum(v.n_abnormal > 0 for v in m.videos)
        lines.append(
            f"micro AUC of abnormal videos only {_percent(m.abnormal_videos_auc)} "
            f"({n} of {m.n_videos} videos)"
        )
    if m.false_alarms is not None and m.false_alarms.rate is not None:
        f = m.false_alarms
        line = f"above the threshold {f.threshold:.4g}: {_percent(f.rate)} % of all normal frames"
        if f.rate_of_videos is not None:
            rate = _percent(f.rate_of_videos)
            line += f", {rate} % of the frames of {f.n_videos} normal videos"
        lines.append(line)
    if m.bootstrap is not None:
        b = m.bootstrap
        lines.append(
            f"[ ] {100 * b.level:g} % intervals: {b.replicates} bootstrap samples of "
            f"{b.n_abnormal_videos} abnormal and {b.n_normal_videos} normal videos, seed {b.seed}"
        )
    if m.alignment is not None:
        lines.append(_alignment_line(m, m.alignment))
    lines += [f"{name}: {why}" for name, why in m.undefined.items()]
    if done.unlabelled:
        lines.append(f"without frame labels: {', '.join(done.unlabelled[:10])}")
    if done.unscored:
        lines.append(f"without scores: {', '.join(done.unscored[:10])}")
    return lines


def detail_lines(done: Evaluated) -> list[str]:
    """What evaluate prints of each category and of each video."""
    m = done.metrics
    lines = []
    if m.categories:
        lines.append("abnormal videos of one category, with all normal videos:")
        lines += [
            f"  {c.category}\tmicro AUC {_percent(c.micro_auc)}\tAP {_percent(c.average_precision)}"
            f"\t{c.n_videos} videos"
            for c in m.categories
        ]
        unnamed = sum(v.n_abnormal > 0 and v.category is None for v in m.videos)
        if unnamed:
            lines.append(f"  {unnamed} abnormal videos have no category")
    lines += [
        f"  {v.video_id}\t{'-' if v.auc is None else _percent(v.auc)}\t"
        f"{v.n_abnormal} of {v.n_frames} frames abnormal"
        for v in m.videos
    ]
    return lines


def runs_lines(done: EvaluatedRuns) -> list[str]:
    """What evaluate prints of several runs: a line each, then how far they spread."""
    lines = []
    for name, run in done.runs.items():
        auc, precision = _auc_and_ap(run.metrics)
        aligned = run.metrics.alignment
        how = "" if aligned is None else f"\t{aligned.used}"
        lines.append(f"{name}\tmicro AUC {auc}\tAP {precision}{how}")
    for name, label in (("micro_auc", "micro AUC"), ("average_precision", "AP")):
        if name in done.spread:
            s = done.spread[name]
            lines.append(
                f"{label} of {len(done.runs)} runs: mean {_percent(s.mean)}, standard deviation "
                f"{_percent(s.std)}, from {_percent(s.min)} to {_percent(s.max)}"
            )
        else:
            lines.append(f"{label} is undefined in a run: no mean")
    return lines


def _alignment_line(m: FrameMetrics, a: Alignment) -> str:
    if a.used == "pad16":
        how = (
            f"pad16: {a.rows} repeated 16 times, {m.n_padding} frames of padding take the "
            f"{a.pad_label} label ({m.n_padding_abnormal} abnormal); "
            f"exact gives micro AUC {_percent(a.exact_micro_auc)}"
        )
    else:
        how = f"exact: {a.rows}, the frames that a video has"
        if a.pad16_micro_auc is not None:
            how += f"; pad16 gives micro AUC {_percent(a.pad16_micro_auc)}"
    return f"alignment {how}"


def _auc_and_ap(m: FrameMetrics) -> tuple[str, str]:
    """Micro AUC and AP, with their intervals where there are any."""
    auc, precision = _percent(m.micro_auc), _percent(m.average_precision)
    if m.bootstrap is None:
        return auc, precision
    ends = [
        f" [{_percent(low)}, {_percent(high)}]"
        for low, high in (m.bootstrap.micro_auc, m.bootstrap.average_precision)
    ]
    return auc + ends[0], precision + ends[1]


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"


def _spec(section: ExtractSection, run: RunConfig) -> ExtractorSpec:
    return resolve_extractor(
        section.extractor,
        section.set,
        weights=section.weights,
        precision=section.precision,
        engine=run.engine,
        on_corrupt=run.on_corrupt,
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
    done = extract(
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
    for store in stores:  # the run's own features come first, whatever else the cache holds
        for spec in store.array_specs():
            if spec["role"] is not None:
                named.setdefault(spec["role"].partition("/")[0], store.name)
    return train(
        run.train.detector,
        manifest,
        probed_of_run(run, manifest.select(split="train")),
        cache,
        features=named,
        settings=run.train.set,
        seed=run.seed,
        device=run.engine.own_device(),
    )


def _score(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    if not manifest.records:
        raise ManifestError(f"{path} has no videos of split {run.score.split!r}")
    weights = next((s.weights for s in run.extract if s.weights is not None), None)
    done = score(
        _trained(run, path).folder,
        manifest,
        probed_of_run(run, manifest),
        run.out,
        run.cache or default_cache(),
        events=run.score.events,
        weights=weights,
        engine=run.engine,
        command="vadpipe run",
    )
    return Result([f"{len(done.videos)} videos scored, {done.events} events"], done.failures)


def evaluate_if_labelled(out: Path, manifest: Manifest) -> tuple[list[str], list[Failure]]:
    """Metrics of a score folder where the manifest has frame labels: lines, failures."""
    if all(record.anomalies is None for record in manifest.records):
        return [], []
    try:
        return metrics_lines(evaluate(out, manifest)), []
    except MetricsError as error:
        return [], [Failure("*", "evaluate", "MetricsError", str(error))]


def _evaluate(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    return Result(*evaluate_if_labelled(run.out, manifest))


def _report(run: RunConfig, path: Path) -> Result:
    manifest = read_manifest(path).select(split=run.score.split)
    return Result([str(write_report(run.out, run.out / "report.html", manifest=manifest))])
