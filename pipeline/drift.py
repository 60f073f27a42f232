"""Drift stage: a model and normal footage -> whether its scores have moved since training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data_manifests.errors import VadpipeError
from ..data_manifests.record import Manifest
from .engine.settings import Engine
from .models import ModelFolder
from .score import score_footage
from .scores.camera_drift import Drift, Spans, abnormal_of, drift_of
from .scores.folder import ScoreFolder
from .store.failures import Failure
from .store.probe_table import Probed


class DriftError(VadpipeError, ValueError):
    """Nothing can be compared; the message says why."""


@dataclass(frozen=True)
class Drifted:
    """What a comparison found.

    Attributes:
        drift: camera by camera.
        failures: videos that could not be scored.
    """

    drift: Drift
    failures: tuple[Failure, ...]


def find_drift(
    model: Path,
    manifest: Manifest,
    probed: Probed,
    out: Path,
    cache: Path,
    *,
    engine: Engine | None = None,
    command: str = "",
) -> Drifted:
    """Score normal footage, and compare its frames with those that the model was calibrated on.

    Footage that is labelled abnormal is left out.

    Args:
        model:
            Model folder.
        manifest:
            Normal footage that training did not see.
        probed:
            Its files.
        out:
            Score folder; what is scored there already is not scored again.
        cache:
            Root of the cache.
        engine:
            Where and how.
        command:
            Noted in run.json.

    Raises:
        DriftError: the model keeps no held-out rows, or all footage is labelled abnormal.
        DetectorError, ExtractorError, StoreError, ScoreFolderError: as `score_footage`.
    """
    held_out = ModelFolder(model).held_out()
    if held_out is None or not set(held_out.videos) <= set(held_out.fps):
        raise DriftError(
            f"{model} does not keep the rows of held-out videos with their frame rates: train it "
            "again with --force"
        )
    normal = tuple(r for r in manifest.records if r.label != 1 and not r.anomalies)
    if not normal:
        raise DriftError("all of the footage is labelled abnormal: name footage that is normal")
    listed = manifest.model_copy(update={"records": normal})
    ids = {record.video_id for record in normal}
    files = Probed(
        {video_id: row for video_id, row in probed.rows.items() if video_id in ids},
        [failure for failure in probed.failures if failure.video_id in ids],
    )
    done = score_footage(model, listed, files, out, cache, engine=engine, command=command)
    # The folder may hold videos that were scored earlier and are labelled abnormal.
    found = compared(ScoreFolder(out), abnormal=abnormal_of(manifest))
    return Drifted(found, tuple(done.failures))


def compared(
    folder: ScoreFolder, model: Path | None = None, *, abnormal: Mapping[str, Spans] | None = None
) -> Drift:
    """Compare the scores of a folder with those that its model was calibrated on.

    Args:
        folder:
            Of normal footage.
        model:
            Model folder that the scores have to be of; None takes any.
        abnormal:
            Frames that are left out, see `abnormal_of`; None leaves out none.

    Raises:
        DriftError: the scores are of another model, or there is nothing to compare with.
        ScoreFolderError, HeldOutError: the folder is incomplete or damaged.
    """
    scored_with = (folder.run().get("model") or {}).get("key")
    if model is not None and scored_with != ModelFolder(model).card().get("key"):
        raise DriftError(f"{folder.path} holds scores of another model than {model}")
    found = drift_of(folder, abnormal)
    if found is None:
        raise DriftError(
            f"{folder.path} does not keep the rows of held-out videos with their frame rates: "
            "train the model again with --force, and score again"
        )
    return found
