"""Score stage: a model and footage -> a score folder; missing features are extracted first."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..data_manifests.atomic import CannotWrite
from ..data_manifests.record import Manifest, VideoRecord
from ..detectors.base import Detector
from ..extractors.footage.video import ProbeRow
from ..extractors.weights.slots import WeightsChoice
from .engine.extractor_spec import ExtractorSpec, stores_of
from .engine.overlap import overlapped_groups
from .engine.planning import ready_and_not
from .engine.progress import progress_bar, tell
from .engine.settings import Engine
from .engine.threads import limited_threads
from .extract import Extracted, check_videos, extract_features
from .models import ModelFolder, device_used, source_specs, specs_of_model
from .scores.box_counts import RUN, BoxCounts, count_in, usual_in
from .scores.events import EventConfig, EventThresholds
from .scores.folder import ScoreFolder, ScoreFolderError
from .scores.kept import KeptParts, check_model, kept_parts, prune_parts, without_taken
from .scores.outputs import large
from .scores.smoothed import calibrated
from .scores.smoothing import Smoothing
from .scores.steps import ScoringSteps
from .scores.summary import RowOf, about_model, as_it_is, made_by, write_summary
from .scores.video_tables import video_row
from .store.failures import Failure, describe_failure
from .store.feature_store import FeatureStore
from .store.holdings import whole_videos
from .store.imported import imported_stores
from .store.keys import key_of
from .store.locks import mark_used
from .store.probe_table import Probed


@dataclass
class Scored:
    """What a score run did.

    Attributes:
        out: the score folder.
        videos: video ids with scores in the folder, those of earlier runs too.
        fresh: how many of them were scored by this run.
        kept: those of them that the manifest does not list.
        pruned: video ids whose results were deleted, as they are not in the manifest.
        extracted: shards that had to be written first.
        events: found in all.
        failures: videos that failed at any stage.
        threshold: raw score that starts an event.
        rule: where it comes from, in words.
        warnings: why the threshold deserves little trust, and what to do.
        new_scenes: scene that the model was not trained on -> its videos.
        boxes: boxes a frame, compared with training; None where features have no boxes.
    """

    out: Path
    videos: list[str] = field(default_factory=list)
    fresh: int = 0
    kept: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    extracted: int = 0
    events: int = 0
    failures: list[Failure] = field(default_factory=list)
    threshold: float = math.inf
    rule: str = ""
    warnings: tuple[str, ...] = ()
    new_scenes: dict[str, int] = field(default_factory=dict)
    boxes: BoxCounts | None = None


def score_footage(
    model: Path,
    manifest: Manifest,
    probed: Probed,
    out: Path,
    cache: Path,
    *,
    engine: Engine | None = None,
    events: EventConfig | None = None,
    smooth: Smoothing | None = None,
    weights: WeightsChoice = None,
    settled: Sequence[ExtractorSpec] = (),
    beside: Sequence[ExtractorSpec] = (),
    keep_maps: bool = True,
    discard_features: bool = False,
    max_bytes: int | None = None,
    replace_model: bool = False,
    prune: bool = False,
    prune_most: bool = False,
    command: str = "",
) -> Scored:
    """Score the videos of a manifest with a trained model, and add them to a score folder.

    Writes one part for each video (at the detector's rate), its maps where the detector makes any,
    and at the end the tables of scores, videos, events and failures and the facts of the run, see
    `ScoreFolder`. A video is scored as soon as its features are whole. Parts and maps of the same
    model and footage are kept; their features are not needed any more. So are those of videos that
    the manifest does not list or whose files cannot be reached: the tables hold them too. Only
    `prune` deletes results.

    Args:
        model:
            Model folder.
        manifest:
            The videos to score.
        probed:
            Their files.
        out:
            Score folder.
        cache:
            Root of the cache.
        engine:
            Where and how features are extracted; the detector runs on its first device, or on the
            CPU if it has no network. `run.json` says what was used.
        events:
            How scores become events. If it names no rule of the threshold, that is the one that was
            chosen for the model, or the default.
        smooth:
            How scores are smoothed over time; the threshold is that of held-out scores which are
            smoothed in the same way. The scores of the detector stay in the column `raw`.
        weights:
            Weights file of your own, if the model's features came from one; slot -> file where
            an extractor has several networks.
        settled:
            Extractors of the same run, taken where the model was trained on their features.
        beside:
            Extractors that read footage and belong to what will be scored next: what is decoded
            here is decoded for them too, and their features go to the cache.
        keep_maps:
            Store the maps of videos that are scored.
        discard_features:
            Keep the features of a video in the score folder, and only until it is scored: the disk
            holds no more than those of the videos in progress. Features in the cache are used and
            kept. If features are computed from kept pixels, only as many videos are in progress as
            there are streams.
        max_bytes:
            Refuse to write a feature set of more bytes to the cache. It must be given if pixels
            have to be kept there.
        replace_model:
            Write over scores of another model, video by video; those of videos that are not listed
            stay on the disk, but are in no table. Else such a folder is refused.
        prune:
            Delete the results of videos that are not in the manifest, but none in unread folders.
        prune_most:
            Allow that these are more than half of the results.
        command:
            Noted in run.json.

    Raises:
        DetectorError: the model cannot be loaded.
        ExtractorError: there is no such device, this version extracts other features than the
            model was trained on, features would take more than `max_bytes`, or a boxes file has
            one name for several videos.
        StoreError: the model was trained on imported features that the cache does not have.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; finished videos and shards are kept.
        ScoreFolderError: another run writes to the same score folder, it holds scores of another
            model, or pruning would delete most of them.
    """
    engine, folder = engine or Engine(), ScoreFolder(out)
    with folder.locked() as problem, ExitStack() as stack:
        if problem is not None:
            tell(problem)
        detector, card = _loaded(model)
        config = _config_of(model, events)
        stack.enter_context(limited_threads(engine.runtime().threads))  # torch is imported by now
        check_model(folder, card["key"], replace=replace_model)
        probed = without_taken(folder, manifest, probed)
        kept = kept_parts(folder, manifest, probed, card, prune=prune, most=prune_most)
        detector.to(device := device_used(detector, engine.own_device()))
        specs = specs_of_model(card, weights=weights, settled=settled, cache=cache, engine=engine)
        done, rows = Scored(out, failures=list(probed.failures)), probed.rows
        check_videos(specs, rows.values())  # also those that are scored already
        imported = imported_stores(card, cache)
        scoring = _Scoring(ScoringSteps(detector, card, imported, rows, folder, keep_maps), done)
        records = [r for r in manifest.records if r.video_id in rows]
        to_do = scoring.score_ready(records, rows, stores_of(specs, cache), engine)
        chain = partial(source_specs, card, weights=weights, cache=cache, engine=engine)
        scratch, limit = (folder.scratch, sys.maxsize) if discard_features else (cache, max_bytes)
        work = _Extraction(scoring, manifest, rows, specs, chain, cache, scratch, engine, limit)
        extracted = work.run(to_do, beside)
        shutil.rmtree(folder.scratch, ignore_errors=True)  # also of a run that was killed
        done.extracted = extracted.written
        done.failures += extracted.failures
        thresholds, held_out = calibrated(ModelFolder(model).held_out(), card, config, smooth)
        name = None if smooth is None else smooth.text
        changed = [*scoring.fresh, *kept.goes] if _same_events(folder, thresholds, config) else None
        folder.remove_metrics(changed, threshold=thresholds.high.value, smooth=name)
        _prune(folder, kept, done)
        _write_tables(
            *(folder, records, rows, kept, detector, card, thresholds, config, smooth, done)
        )
        folder.write_held_out(held_out)
        folder.write_failures(done.failures)
        described = {**ModelFolder(model).describe(), "words": detector.words}
        about = about_model(model, described, card["calibration"], thresholds, config, name)
        folder.write_run(_about_run(manifest, done, device, extracted.devices, command) | about)
        return done


def _loaded(model: Path) -> tuple[Detector[Any], dict[str, Any]]:
    """The detector of a model folder and its card; the folder counts as used now."""
    loaded = ModelFolder(model).load()
    mark_used(model)
    return loaded


def _config_of(model: Path, events: EventConfig | None) -> EventConfig:
    """How scores become events, with the rule that is kept with the model if none is named."""
    chosen = ModelFolder(model).threshold()
    return (events or EventConfig()).with_rule_of(None if chosen is None else chosen.rule)


def _same_events(folder: ScoreFolder, thresholds: EventThresholds, config: EventConfig) -> bool:
    """Whether both levels, also those of scenes, and how events are made are those of the last run.

    Metrics are of these events; those of other columns have levels by the same settings.
    """
    try:
        run = folder.run()
    except ScoreFolderError:
        return False
    before, now = run.get("threshold") or {}, thresholds.to_json()
    levels = all(before.get(name) == now.get(name) for name in ("high", "low", "scenes"))
    return levels and bool(run.get("events") == config.model_dump(mode="json"))


def _prune(folder: ScoreFolder, kept: KeptParts, done: Scored) -> None:
    for line in prune_parts(folder, kept):
        tell(line)
    done.pruned = list(kept.goes)
    done.failures += kept.lost


class _Scoring:
    """Scores videos one by one; one that fails costs only itself."""

    def __init__(self, steps: ScoringSteps, done: Scored) -> None:
        self._steps, self._done = steps, done
        self.fresh: list[str] = []

    def score_ready(
        self,
        records: Sequence[VideoRecord],
        rows: Mapping[str, ProbeRow],
        stores: Sequence[FeatureStore],
        engine: Engine,
    ) -> list[VideoRecord]:
        """Score the videos that lack scores and have features.

        Returns:
            Those that lack scores and features.
        """
        steps = self._steps
        missing = [r for r in records if not steps.is_current(r, rows[r.video_id])]
        ready, others = ready_and_not(missing, rows, stores, engine)
        if ready:
            ends = overlapped_groups(
                steps.groups(ready),
                lambda record: steps.read(record, rows[record.video_id], stores),
                steps.compute,
                lambda record, computed: steps.write(record, rows[record.video_id], computed),
                alone=lambda computed: large(computed.scores),
            )
            with progress_bar("score", len(ready)) as advance, closing(ends):
                for record, error in ends:
                    self._note(record, error)
                    advance(1)
        return others

    def score_one(self, record: VideoRecord, row: ProbeRow, stores: Sequence[FeatureStore]) -> None:
        """Score a video whose features are whole.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        problem: Exception | None = None
        try:
            # Features have no name here: they are not in memory while scores are written.
            (computed,) = self._steps.compute([self._steps.read(record, row, stores)])
            self._steps.write(record, row, computed)
        except Exception as error:  # one bad video never stops a run
            problem = error
        self._note(record, problem)

    def _note(self, record: VideoRecord, error: Exception | None) -> None:
        """Note the end of a video.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        if isinstance(error, CannotWrite):
            raise error
        if error is not None:
            self._done.failures.append(describe_failure(record.video_id, "score", error))
        else:
            self._done.fresh += 1
            self.fresh.append(record.video_id)


class _Extraction:
    """Extracts missing features; scores each video as soon as its features are whole.

    If `place` is not the cache, the features of a video are deleted after it is scored.

    Args:
        scoring:
            Scores the videos.
        manifest:
            The videos.
        rows:
            Their files.
        specs:
            The extractors of the model.
        chain:
            Extractors -> those that make what they read instead of footage.
        cache:
            Root of the cache.
        place:
            Where features are written.
        engine:
            Where and how.
        max_bytes:
            Refuse to write more than this.
    """

    def __init__(
        self,
        scoring: _Scoring,
        manifest: Manifest,
        rows: Mapping[str, ProbeRow],
        specs: Sequence[ExtractorSpec],
        chain: Callable[[Sequence[ExtractorSpec]], list[ExtractorSpec]],
        cache: Path,
        place: Path,
        engine: Engine,
        max_bytes: int | None,
    ) -> None:
        self._scoring, self._rows = scoring, rows
        self._specs, self._chain = specs, chain
        self._cache, self._place = cache, place
        self._engine = engine
        self._along: list[ExtractorSpec] = []
        self._extract = partial(
            extract_features,
            manifest,
            cache=cache,
            engine=engine,
            max_bytes=max_bytes,
            store_root=place,
        )

    def _take_along(self, beside: Sequence[ExtractorSpec]) -> None:
        """Compute other features of footage in the same pass, if that reads footage at all."""
        if self._place == self._cache and all(spec.source is None for spec in self._specs):
            known = {key_of(spec.recipe()) for spec in self._specs}
            others = {key_of(spec.recipe()): spec for spec in beside if spec.source is None}
            self._along = [spec for key, spec in others.items() if key not in known]

    def run(
        self, records: Sequence[VideoRecord], beside: Sequence[ExtractorSpec] = ()
    ) -> Extracted:
        """Extract and score videos whose features are not whole."""
        self._take_along(beside)
        derived = any(spec.source is not None for spec in self._specs)
        if not derived or self._place == self._cache:
            return self._run(records)
        # The pixels of all videos at once would not fit on the disk.
        some = max(1, self._engine.processes()) * self._engine.streams_each()
        done = Extracted([], {})
        for first in range(0, len(records), some):
            done.add(self._run(records[first : first + some]))
            shutil.rmtree(self._place, ignore_errors=True)
        return done

    def _run(self, records: Sequence[VideoRecord]) -> Extracted:
        rows = self._rows
        waiting: dict[str, list[VideoRecord]] = {}
        for record in records:
            waiting.setdefault(rows[record.video_id].content_id, []).append(record)
        stores = stores_of(self._specs, self._place)

        def score_video(content: str) -> None:
            for record in waiting.pop(content):
                self._scoring.score_one(record, rows[record.video_id], stores)
            if self._place != self._cache:
                for store in stores:
                    store.remove_video(content)

        probed = Probed({r.video_id: rows[r.video_id] for r in records})
        done = self._extract_sources(self._specs, probed)
        failed = {failure.video_id for failure in done.failures}
        left = Probed({v: row for v, row in probed.rows.items() if v not in failed})
        extracted = self._extract(
            probed=left, specs=[*self._specs, *self._along], when_done=score_video
        )
        if self._along and extracted.failures:  # what fails in one fails in all: try it alone
            alone = self._extract(probed=left, specs=self._specs, when_done=score_video)
            alone.written += extracted.written
            alone.devices |= extracted.devices
            extracted = alone
        # Features that a killed run has finished: no task of this run reports them.
        for content in {rows[v].content_id for v in extracted.rows} & waiting.keys():
            score_video(content)
        done.add(extracted)
        return done

    def _extract_sources(self, specs: Sequence[ExtractorSpec], probed: Probed) -> Extracted:
        """Make what extractors read instead of footage, and before that what it is made of.

        Only for videos of which they have to read something; what is in the cache is used.
        """
        done = Extracted([], {})
        wanted = [spec for spec in specs if spec.source is not None]
        contents = {row.content_id for row in probed.rows.values() if row.kind != "features"}
        for spec in wanted:
            assert spec.source is not None
            held = [spec.source.store(root) for root in (self._cache, self._place)]
            held.append(FeatureStore(self._place, spec.recipe()))  # itself: nothing is to be read
            there = set.union(*(whole_videos(store, contents) for store in held))
            rows = {v: r for v, r in probed.rows.items() if r.content_id in contents - there}
            if rows:
                makers = self._chain([spec])
                done.add(before := self._extract_sources(makers, Probed(rows)))
                failed = {failure.video_id for failure in before.failures}
                left = Probed({v: row for v, row in rows.items() if v not in failed})
                done.add(self._extract(probed=left, specs=makers))
        return done


def _write_tables(
    folder: ScoreFolder,
    records: Sequence[VideoRecord],
    rows: Mapping[str, ProbeRow],
    kept: KeptParts,
    detector: Detector[Any],
    card: Mapping[str, Any],
    thresholds: EventThresholds,
    config: EventConfig,
    smooth: Smoothing | None,
    done: Scored,
) -> None:
    """Write the tables of all parts: those that are listed in manifest order, then the others."""
    done.threshold, done.rule = thresholds.high.value, thresholds.rule
    done.warnings = tuple(thresholds.to_json()["warnings"])
    failed = {failure.video_id for failure in done.failures}
    videos: list[tuple[str, RowOf]] = [
        (record.video_id, partial(video_row, record, rows[record.video_id]))
        for record in records
        if record.video_id not in failed
    ]
    videos += [(row["video_id"], partial(as_it_is, row)) for row in kept.rows]
    summary = write_summary(
        *(folder, detector.name, detector.columns, videos, thresholds, config),
        smoothing=smooth,
        regions=detector.regions,
        trained_scenes=(card.get("trained_on") or {}).get("scenes", ()),
        stage="score",
    )
    done.videos, done.events = summary.videos, summary.events
    done.new_scenes = summary.new_scenes
    done.failures += summary.failures
    done.kept = [video_id for video_id in summary.videos if video_id in kept.unlisted]
    scenes = {row["video_id"]: row.get("scene") for row in kept.rows}
    scenes |= {record.video_id: record.scene for record in records}
    usual = usual_in(card["trained_on"], scenes)
    done.boxes = BoxCounts.of(count_in(card["trained_on"]), summary.boxes, usual)


def _about_run(
    manifest: Manifest,
    done: Scored,
    device: str,
    used: set[str],
    command: str,
) -> dict[str, Any]:
    """What run.json says of the videos, the device, those that extracted and the command."""
    return {
        "dataset": manifest.dataset,
        "manifest_digest": manifest.digest,
        **{n: len(getattr(done, n)) for n in ("videos", "failures", "kept")},
        **({"new_scenes": done.new_scenes} if done.new_scenes else {}),
        "device": device,
        "extraction_devices": sorted(used),
        **({} if done.boxes is None else {RUN: done.boxes.model_dump(mode="json")}),
        **made_by(("vadpipe", "torch", "av", "numpy", "h5py"), command),
    }
