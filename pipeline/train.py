"""Train stage: features of normal (or weakly labelled) videos -> a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.errors import VadpipeError
from ..data_manifests.record import Manifest, VideoRecord
from ..detectors.base import (
    BagSource,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Scores,
    Supervision,
)
from ..extractors.device.present import check_device
from ..extractors.footage.video import ProbeRow
from ..extractors.weights.slots import WeightsChoice, recorded
from .bags import StoreBags, UsableVideos, other_ways, rates_of, usable_videos
from .engine.fit_progress import watched
from .engine.weights import find_weights
from .models import SAMPLES, ModelFolder, make_detector, started
from .registry import DETECTORS
from .scores.box_counts import noted_mean
from .scores.events import MORE, Calibration, EventConfig
from .scores.held_out import HeldOut
from .scores.outputs import checked_columns
from .scores.unseen import HELD_BACK, Unseen
from .sheets.samples import SampleFiles
from .store.failures import Failure
from .store.feature_store import FeatureStore
from .store.imported import earlier_contents, imported_checksums, imported_contents
from .store.keys import canonical_json, key_of
from .store.locks import training
from .store.most_missing import MOST_MISSING
from .store.probe_table import Probed, digest_of_files

HOLDOUT = 0.2  # share of the normal videos that calibrates a detector that cannot leave one out


@dataclass(frozen=True)
class Trained:
    """A model folder, and whether this run made it.

    Attributes:
        folder: of the model.
        fresh: False if it was there already.
        summary: of the training.
        draws: whether another seed would give another model.
        warnings: copies among the training videos; why the threshold deserves little trust; a
            stage that disturbed what was learned; and what to do.
        missing: the videos that were left out, as they cannot be used.
    """

    folder: Path
    fresh: bool
    summary: dict[str, Any]
    draws: bool = True
    warnings: tuple[str, ...] = ()
    missing: tuple[Failure, ...] = ()


def train_detector(
    detector_name: str,
    manifest: Manifest,
    probed: Probed,
    cache: Path,
    *,
    features: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: WeightsChoice = None,
    seed: int = 0,
    device: str = "cpu",
    holdout: float | None = None,
    memory: int | None = None,
    tensorboard: Path | None = None,
    force: bool = False,
    init: str | None = None,
    max_missing: float = MOST_MISSING,
    trained_only: Collection[str] = (),
    about: Mapping[str, Any] | None = None,
) -> Trained:
    """Train on the manifest's train split, unless the cache has a model of the same recipe.

    A training that was killed continues from its last checkpoint. Videos of equal contents are
    one video, and the first of them is trained on. A detector that draws nothing at random has one
    model for all seeds.

    Args:
        detector_name:
            Registry name.
        manifest:
            The data set; only records of split "train" are looked at.
        probed:
            The files of these records.
        cache:
            Root of the cache.
        features:
            role (or name of a twin) -> feature set, where several fit.
        settings:
            Config values that differ from the defaults.
        weights:
            Pretrained weights that a part of the detector starts from: a card's name, a file, or
            "random:SEED"; slot -> such a spec where there are several. A network that is not named
            takes its default card.
        seed:
            Of all random numbers.
        device:
            Where to train.
        holdout:
            Share of the normal videos that are held back from training to set the threshold, for
            detectors that cannot score a training video as if it were new; None holds back 0.2.
            0 trains on all videos; the threshold then comes from the training videos and is too
            low for new ones.
        memory:
            Bytes of training data on the device; None takes half of the free memory.
        tensorboard:
            Folder for TensorBoard's event files.
        force:
            Train again even if the model is there.
        init:
            Model that the training starts from: its folder, or the beginning of its name in the
            cache. It is of the same detector, version and features, and of settings with the same
            network; how it was trained may differ.
        max_missing:
            Share of the training videos that may be left out because their files cannot be read or
            their features are not there; 0 refuses any.
        trained_only:
            Ids of training videos that the threshold does not look at: footage that was chosen
            because its scores were high.
        about:
            What else the card says in `trained_on`; no part of what decides the model.

    Raises:
        ExtractorError: the device does not exist.
        DetectorError: videos or labels that this detector may not be trained on, options that it
            would ignore, a model to start from that does not fit, or TensorBoard is not installed.
        StoreError: features are missing or ambiguous, or another run trains this model now.
        WeightsError: pretrained weights are missing or wrong, or the detector takes none.
    """
    detector = _with_weights(make_detector(detector_name, settings), weights, cache)
    detector.refuse_options(_given(check_device(device), holdout, memory, tensorboard, init))
    videos = _videos_of(detector, manifest, probed, cache, features, max_missing)
    asked, rows, stores, twins = videos.records, videos.rows, videos.stores, videos.twins
    imported = imported_checksums({**stores, **twins}, rows)
    contents = _contents_of(rows, {**stores, **twins}, imported)
    unseen = Unseen.of(asked, contents, HOLDOUT if holdout is None else holdout, seed, trained_only)
    records = list(unseen.records)
    recipe = {
        "detector": detector.name,
        "detector_version": detector.version,
        "config": detector.config.for_key(),
        "features": {role: store.recipe for role, store in stores.items()},
        **({"twins": {name: store.recipe for name, store in twins.items()}} if twins else {}),
        "records": manifest.model_copy(update={"records": tuple(records)}).digest,
        "contents": [rows[r.video_id].content_id for r in records],
        "seed": seed,
        **({} if init is None else started(detector, stores, ModelFolder.find(cache, init))),
        **_held_out_of(detector, unseen),
        **imported_contents(imported),
        **_provenance(detector),
    }
    bags = _bags_of(detector, records, rows, stores, twins)
    own, random = ModelFolder.of_recipe(cache, recipe), detector.draws(bags.fit)
    folder = own if force else _finished(cache, recipe, imported, random) or own
    files = digest_of_files(rows[r.video_id] for r in records)
    card = folder.card() if folder.is_finished() and not force else None
    if card is not None and card["trained_on"].get("files", files) == files:
        calibration = Calibration.from_json(card["calibration"])
        return _trained(folder, False, _log_of(card), random, unseen, calibration, videos)
    with training((folder := own).path):
        again = force or card is not None
        log, calibration, held_out = _fit_in(
            *(folder, again, detector, bags, unseen, rows, device, seed, memory, tensorboard)
        )
        more = {"device": device, **noted_mean(bags.scored), **unseen.about, **(about or {})}
        facts = {"dataset": manifest.dataset, "videos": len(records), "files": files, **more}
        folder.save(detector, _card(detector, recipe, facts, calibration, log), log, held_out)
        shutil.rmtree(folder.unfinished, ignore_errors=True)
    return _trained(folder, True, log, random, unseen, calibration, videos)


def _log_of(card: Mapping[str, Any]) -> FitLog:
    """What the card of a model says of its training."""
    return FitLog(summary=card["summary"], warnings=tuple(card.get("warnings", ())))


def _trained(
    folder: ModelFolder,
    fresh: bool,
    log: FitLog,
    random: bool,
    unseen: Unseen,
    calibration: Calibration,
    videos: UsableVideos,
) -> Trained:
    """What `train_detector` returns."""
    draws = random or calibration.method.startswith(HELD_BACK)
    warnings = (*unseen.warnings, *_doubts(calibration), *log.warnings)
    return Trained(folder.path, fresh, log.summary, draws, warnings, videos.missing)


def _card(
    detector: Detector[Any],
    recipe: Mapping[str, Any],
    trained_on: Mapping[str, Any],
    calibration: Calibration,
    log: FitLog,
) -> dict[str, Any]:
    """What the model has to know besides its arrays."""
    return {
        **recipe,
        "key": key_of(recipe),
        "supervision": detector.supervision.value,
        "trained_on": dict(trained_on),
        "calibration": calibration.to_json(),
        "summary": log.summary,
        **({"warnings": list(log.warnings)} if log.warnings else {}),
        "versions": {name: version(name) for name in ("vadpipe", "torch", "scikit-learn")},
    }


def _held_out_of(detector: Detector[Any], unseen: Unseen) -> dict[str, Any]:
    """What a recipe says of held-out videos; empty if it is what chance and the default say."""
    return {
        **({} if unseen.share == HOLDOUT else {"holdout": unseen.share}),
        **({"held_out": "by scene"} if unseen.special(_leaves_out(detector)) else {}),
        **({"trained_only": unseen.trained_only} if unseen.trained_only else {}),
    }


def _given(
    device: str,
    holdout: float | None,
    memory: int | None,
    tensorboard: Path | None,
    init: str | None,
) -> list[str]:
    """The options of a training that are not what a detector without them does."""
    given = {
        "device": device != "cpu",
        "holdout": holdout is not None,
        "memory": memory is not None,
        "tensorboard": tensorboard is not None,
        "init": init is not None,
    }
    return [name for name, is_given in given.items() if is_given]


def _leaves_out(detector: Detector[Any]) -> bool:
    """Whether a detector scores each training video without the others, and holds back none."""
    return "holdout" not in detector.train_options


def _doubts(calibration: Calibration) -> list[str]:
    """Why the threshold at the default quantile deserves little trust."""
    thresholds: list[str] = calibration.thresholds(EventConfig()).to_json()["warnings"]
    return [f"threshold: {warning}" for warning in thresholds]


def _finished(
    cache: Path,
    recipe: Mapping[str, Any],
    imported: Mapping[str, Mapping[str, Sequence[str]]],
    random: bool,
) -> ModelFolder | None:
    """The finished model of a recipe: its own, that of version 0.1, or that of another seed."""
    before = {**recipe, **earlier_contents(imported)}
    for each in (recipe, before):
        if (folder := ModelFolder.of_recipe(cache, each)).is_finished():
            return folder
    return None if random else _of_another_seed(cache, recipe)


def _of_another_seed(cache: Path, recipe: Mapping[str, Any]) -> ModelFolder | None:
    """A finished model that differs in the seed only, if no video was drawn for it; else None."""
    for folder in ModelFolder.in_cache(cache):
        if not folder.path.name.startswith(f"{recipe['detector']}-"):
            continue
        try:
            card = folder.card()
        except (VadpipeError, ValueError):
            continue  # a damaged model is an error for those who use it
        method = (card.get("calibration") or {}).get("method", HELD_BACK)
        same = card.get("key") == key_of({**recipe, "seed": card.get("seed")})
        if same and not method.startswith(HELD_BACK):
            return folder
    return None


def _with_weights(detector: Detector[Any], choice: WeightsChoice, cache: Path) -> Detector[Any]:
    """Hand a detector the pretrained weights that it starts from, if it takes any."""
    slots = detector.networks_for(detector.config)
    detector.take_weights(find_weights(detector.name, slots, choice, cache))
    return detector


def _videos_of(
    detector: Detector[Any],
    manifest: Manifest,
    probed: Probed,
    cache: Path,
    named: Mapping[str, str] | None,
    most: float,
) -> UsableVideos:
    """The training videos with their features; those that cannot be used are left out and named.

    Raises:
        DetectorError: too many cannot be read, or without them no training is possible.
        StoreError: features are missing or ambiguous.
    """
    asked = training_records(manifest, detector.supervision)
    found = usable_videos(detector, asked, probed, cache, named, most)
    if found.missing:  # both classes have to be left
        left = manifest.model_copy(update={"records": found.records})
        training_records(left, detector.supervision)
    return found


@dataclass(frozen=True)
class _TrainingBags:
    """The same videos twice.

    Attributes:
        fit: with everything that a fit reads.
        scored: as `score` gets them, without twins.
        warnings: about twins.
    """

    fit: BagSource
    scored: BagSource
    warnings: tuple[str, ...]


def _bags_of(
    detector: Detector[Any],
    records: Sequence[VideoRecord],
    rows: Mapping[str, ProbeRow],
    stores: Mapping[str, FeatureStore],
    twins: Mapping[str, FeatureStore],
) -> _TrainingBags:
    labels = detector.supervision is Supervision.WEAK
    named = {name: (detector.twins[name], store) for name, store in twins.items()}
    return _TrainingBags(
        StoreBags(records, rows, stores, labels=labels, twins=named),
        StoreBags(records, rows, stores, labels=labels),
        other_ways(detector.twins, stores, twins),
    )


def _contents_of(
    rows: Mapping[str, ProbeRow],
    stores: Mapping[str, FeatureStore],
    imported: Mapping[str, Mapping[str, Sequence[str]]],
) -> dict[str, str]:
    """video_id -> what is the same for copies: the content id, or the numbers of all its features.

    A video without footage has a content id that is made of its name.
    """
    if imported.keys() != stores.keys():
        return {video_id: row.content_id for video_id, row in rows.items()}
    return {
        video_id: canonical_json([sums[row.content_id] for sums in imported.values()])
        for video_id, row in rows.items()
    }


def _provenance(detector: Detector[Any]) -> dict[str, Any]:
    """What a recipe says of pretrained weights and of a plug-in; empty where there is neither."""
    weights = {"weights": recorded(detector.weights)} if detector.weights else {}
    return weights | DETECTORS.recorded(detector.name)


def training_records(manifest: Manifest, supervision: Supervision) -> list[VideoRecord]:
    """The records that a detector of this supervision is trained on.

    Raises:
        DetectorError: there are none, or labels do not fit; the message lists the culprits.
    """
    records = [r for r in manifest.records if r.split == "train"]
    if not records:
        splits = ", ".join(sorted({r.split for r in manifest.records})) or "nothing"
        raise DetectorError(
            f"the manifest has no training videos (it has: {splits}); for footage of your own make "
            "it with --split train or --train-fraction"
        )
    abnormal = [r.video_id for r in records if r.label == 1]
    unknown = [r.video_id for r in records if r.label is None]
    if supervision is Supervision.NORMAL_ONLY and abnormal:
        raise DetectorError(
            f"this detector learns from normal videos only, but {len(abnormal)} training videos "
            f"are labelled abnormal: {', '.join(abnormal[:10])}"
        )
    if supervision is Supervision.WEAK:
        if unknown:
            raise DetectorError(
                f"{len(unknown)} training videos have no label: {', '.join(unknown[:10])}"
            )
        if not abnormal or len(abnormal) == len(records):
            kind = "abnormal" if abnormal else "normal"
            raise DetectorError(f"all {len(records)} training videos are {kind}: need both classes")
    return records


def _fit_in(
    folder: ModelFolder,
    again: bool,
    detector: Detector[Any],
    bags: _TrainingBags,
    unseen: Unseen,
    rows: Mapping[str, ProbeRow],
    device: str,
    seed: int,
    memory: int | None,
    tensorboard: Path | None,
) -> tuple[FitLog, Calibration, HeldOut]:
    """Fit, from the start if it is `again`, with samples; see `_fit_and_calibrate`."""
    if again:
        shutil.rmtree(folder.unfinished, ignore_errors=True)
    folder.unfinished.mkdir(parents=True, exist_ok=True)
    samples = SampleFiles(folder.unfinished / SAMPLES, folder.samples)
    begun = FitOptions(folder=folder.unfinished, memory=memory, on_sample=samples.add)
    with watched(begun, tensorboard) as options:
        log, calibration, held_out = _fit_and_calibrate(
            detector, bags, unseen, rows, device=device, seed=seed, options=options
        )
    log = replace(log, warnings=(*bags.warnings, *log.warnings, *samples.keep()))
    return log, calibration, held_out.with_scenes({r.video_id: r.scene for r in unseen.records})


def _fit_and_calibrate(
    detector: Detector[Any],
    bags: _TrainingBags,
    unseen: Unseen,
    rows: Mapping[str, ProbeRow],
    *,
    device: str,
    seed: int,
    options: FitOptions,
) -> tuple[FitLog, Calibration, HeldOut]:
    """Fit, and score normal videos that were held back: quantiles of these rows, and the rows."""
    source = bags.fit
    fps = rates_of(unseen.records, rows, source)
    apart = source.subset(unseen.apart) if len(unseen.apart) < len(source) else source
    scored = detector.held_out_scores(apart, seed=seed)
    if scored is not None:
        if unseen.share != HOLDOUT:
            raise DetectorError(
                f"{detector.name} leaves out each of these videos in turn and would ignore "
                "holdout: leave it out"
            )
        log = detector.fit(source, device=device, seed=seed, options=options)
        videos = [unseen.records[i].video_id for i in unseen.apart]
        if len(videos) == 1:
            videos *= len(scored)  # a plug-in may return one entry for each part of the video
        short = [v for v, each in zip(videos, scored, strict=True) if not len(each.frame_start)]
        method, warnings = unseen.left_out(short)
        return log, *_calibrate(detector, videos, scored, method, warnings, fps)
    unseen.check_held_back()
    drawn = set(unseen.drawn)
    kept = [i for i in range(len(source)) if i not in drawn]
    log = detector.fit(source.subset(kept), device=device, seed=seed, options=options)
    method, warnings = unseen.held_back()
    chosen = unseen.drawn or unseen.normal
    scored = [detector.score(bag) for bag in bags.scored.subset(chosen)]
    videos = [unseen.records[i].video_id for i in chosen]
    return log, *_calibrate(detector, videos, scored, method, warnings, fps)


def _calibrate(
    detector: Detector[Any],
    video_ids: Sequence[str],
    scored: Sequence[Scores],
    method: str,
    warnings: Sequence[str],
    fps: Mapping[str, float],
) -> tuple[Calibration, HeldOut]:
    scored = [checked_columns(detector, each) for each in scored]
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for video_id, each in zip(video_ids, scored, strict=True):
        rows.setdefault(video_id, []).append(each.columns["score"])
    calibration = Calibration.from_scores(
        [np.concatenate(pieces) for pieces in rows.values()], method=method, warnings=warnings
    )
    if len(_doubts(calibration)) > len(warnings):  # too little footage for the default quantile
        calibration = replace(calibration, warnings=(*warnings, MORE))
    return calibration, HeldOut.from_scores(video_ids, scored, fps)
