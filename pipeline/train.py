"""Train stage: features of normal (or weakly labelled) videos -> a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data_manifests.record import Manifest, VideoRecord
from ..detectors import DETECTORS
from ..detectors.base import (
    BagSource,
    Detector,
    DetectorError,
    FitLog,
    Supervision,
    load_card,
    load_state,
    save_model,
)
from .bags import StoreBags, find_stores, missing_videos
from .events import Calibration
from .keys import folder_name, key_of
from .probe import Probed
from .store import StoreError, write_atomically

HELD_BACK = 5  # every fifth normal video calibrates a detector that cannot leave one out


@dataclass(frozen=True)
class Trained:
    """A model folder, and whether this run made it."""

    folder: Path
    fresh: bool
    summary: dict[str, Any]


def make_detector(name: str, settings: Mapping[str, Any] | None = None) -> Detector[Any]:
    """A detector that has learned nothing yet.

    Raises:
        DetectorError: there is none of that name.
        pydantic.ValidationError: a setting is wrong or unknown.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no detector {name!r}; there are: {', '.join(DETECTORS)}")
    kind = DETECTORS[name]
    return kind(kind.Config.model_validate(dict(settings or {})))


def train(
    detector_name: str,
    manifest: Manifest,
    probed: Probed,
    cache: Path,
    *,
    features: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    force: bool = False,
) -> Trained:
    """Train on the manifest's train split; an equal model that is there already is kept.

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
            role -> feature set, where several would do.
        settings:
            Config values that differ from the defaults.
        seed:
            Of everything random.
        device:
            Where to train.
        force:
            Train again even if the model is there.

    Raises:
        DetectorError: videos or labels that this detector may not be trained on.
        StoreError: features are missing or ambiguous.
    """
    detector = make_detector(detector_name, settings)
    records = training_records(manifest, detector.supervision)
    lost = [r.video_id for r in records if r.video_id not in probed.rows]
    if lost:
        raise DetectorError(
            f"{len(lost)} training videos cannot be read: {', '.join(lost[:10])}; "
            "run vadpipe probe, then mend them or take them out of the manifest"
        )
    rows = {r.video_id: probed.rows[r.video_id] for r in records}
    stores = find_stores(cache, detector.needs, rows, features)
    for role, videos in missing_videos(stores, rows).items():
        raise StoreError(
            f"{stores[role].name} lacks {len(videos)} training videos: {', '.join(videos[:10])}; "
            "run vadpipe extract with the settings of that feature set"
        )
    recipe = {
        "detector": detector.name,
        "detector_version": detector.version,
        "config": detector.config.model_dump(mode="json"),
        "features": {role: store.recipe for role, store in stores.items()},
        "records": manifest.model_copy(update={"records": tuple(records)}).digest,
        "contents": [rows[r.video_id].content_id for r in records],
        "seed": seed,
    }
    folder = cache / "models" / folder_name(detector.name, recipe)
    if (folder / "config.json").is_file() and not force:
        return Trained(folder, False, load_card(folder)["summary"])
    unique = list({store.key: store for store in stores.values()}.values())
    labels = detector.supervision is Supervision.WEAK
    source = StoreBags(records, rows, unique, labels=labels)
    log, calibration = _fit_and_calibrate(detector, source, records, device=device, seed=seed)
    _write_log(folder, log)
    save_model(
        folder,
        detector,
        {
            **recipe,
            "key": key_of(recipe),
            "supervision": detector.supervision.value,
            "trained_on": {"dataset": manifest.dataset, "videos": len(records)},
            "calibration": calibration.to_json(),
            "summary": log.summary,
            "versions": {name: version(name) for name in ("vadpipe", "torch", "scikit-learn")},
        },
    )
    return Trained(folder, True, log.summary)


def training_records(manifest: Manifest, supervision: Supervision) -> list[VideoRecord]:
    """The records that a detector of this supervision is trained on.

    Raises:
        DetectorError: there are none, or labels do not fit; the message lists the culprits.
    """
    records = [r for r in manifest.records if r.split == "train"]
    if not records:
        splits = ", ".join(sorted({r.split for r in manifest.records})) or "nothing"
        raise DetectorError(
            f"the manifest has no training videos (it has: {splits}); for one's own footage make "
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


def load_model(folder: Path) -> tuple[Detector[Any], dict[str, Any]]:
    """A fitted detector and its card.

    Raises:
        DetectorError: the folder holds no finished model, or one of another version.
    """
    card = load_card(folder)
    detector = make_detector(card["detector"], card["config"])
    if detector.version != card["detector_version"]:
        raise DetectorError(
            f"{folder} was trained by version {card['detector_version']} of {detector.name}, this "
            f"is version {detector.version}: train it again"
        )
    detector.load_state_dict(load_state(folder))
    return detector, card


def find_model(cache: Path, name: str) -> Path:
    """A model by its folder, or by as much of its name in the cache as makes it unique.

    Raises:
        DetectorError: there is none, or several: the message lists them.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name)
    known = [p.parent for p in sorted((cache / "models").glob("*/config.json"))]
    found = [p for p in known if p.name.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(p.name for p in (found or known)) or "none"
        raise DetectorError(
            f"{'several models match' if found else 'no model'} {name!r}; in {cache}: {listed}"
        )
    return found[0]


def _fit_and_calibrate(
    detector: Detector[Any],
    source: BagSource,
    records: list[VideoRecord],
    *,
    device: str,
    seed: int,
) -> tuple[FitLog, Calibration]:
    """Fit, and take the quantiles of raw scores on normal videos that were held back."""
    held_out = detector.held_out_scores(source, seed=seed)
    if held_out is not None:
        log = detector.fit(source, device=device, seed=seed)
        scores = [s.columns["score"] for s in held_out]
        method = "leave one video out" if len(records) > 1 else "leave one fifth of the video out"
        return log, Calibration.from_scores(scores, method=method)
    normal = np.flatnonzero([r.label != 1 for r in records])
    if len(normal) < 2:
        raise DetectorError(
            "a threshold needs normal videos that are held back from training: the manifest has "
            f"only {len(normal)} normal training video"
        )
    drawn = np.random.default_rng(seed).permutation(normal)[: -(-len(normal) // HELD_BACK)]
    kept = [i for i in range(len(records)) if i not in set(drawn.tolist())]
    log = detector.fit(source.subset(kept), device=device, seed=seed)
    scores = [detector.score(bag).columns["score"] for bag in source.subset(drawn.tolist())]
    names = ", ".join(sorted(records[i].video_id for i in drawn))
    return log, Calibration.from_scores(scores, method=f"held back from training: {names}")


def _write_log(folder: Path, log: FitLog) -> None:
    table = pa.Table.from_pylist(log.rows or [dict(log.summary)])
    write_atomically(folder / "log.parquet", lambda p: pq.write_table(table, p))


def describe_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a report or a listing says of a model, without its long tables."""
    text = json.dumps({k: v for k, v in card.items() if k not in ("calibration", "contents")})
    short: dict[str, Any] = json.loads(text)
    return short
