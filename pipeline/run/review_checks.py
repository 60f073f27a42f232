"""Checks of the camera beside a review: trained on the same normal footage, scored by themselves.

They are a second system, `tampering`, with features that are taken in the same pass of frames, with
scores and a threshold of its own. The page shows its events apart from those of the detector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ...data_manifests.errors import VadpipeError
from ...data_manifests.record import Manifest
from ..models import ModelFolder
from ..scores.unseen import Unseen
from ..store.probe_table import Probed
from ..train import HOLDOUT

CHECKS = "scene_checks"  # name of the features, of the training and of the scores
RATE = 2.0  # rows a second
OVER = 1.25  # of the limit that normal footage reached: from there on a check is an event


@dataclass(frozen=True)
class CameraChecks:
    """What a recipe holds for the checks of the camera.

    Attributes:
        sections: `extract`, `train` or `model` -> sections to add; {} leaves the checks out.
        said: about it, for the user; "" where there is nothing to say.
    """

    sections: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    said: str = ""

    @property
    def settings(self) -> dict[str, Any] | None:
        """Of the extractor; None where nothing trains."""
        return next((each["set"] for each in self.sections.get("extract", [])), None)


def camera_checks(
    manifest: Manifest, probed: Probed, model: str | None, cache: Path, *, wanted: bool
) -> CameraChecks:
    """Decide how the camera is checked.

    Args:
        manifest:
            With splits and scenes.
        probed:
            Its files.
        model:
            Name of the model of an earlier run in the cache; None where there is none.
        cache:
            Root of the cache.
        wanted:
            Whether there should be checks at all.
    """
    if not wanted:
        return CameraChecks()
    events = {"value": OVER}
    if model is not None:
        try:
            path = ModelFolder.find(cache, model).path.absolute()
            section = {"name": CHECKS, "model": str(path), "events": events}
            return CameraChecks({"model": [section]})
        except VadpipeError:
            pass  # it was deleted: trained again, if the footage is still there
    train = [r for r in manifest.records if r.split == "train" and r.video_id in probed.rows]
    if not train:
        return CameraChecks(
            said="checks of the camera are left out: they need normal footage of these cameras to "
            "train on; name some with --normal"
        )
    contents = {r.video_id: probed.rows[r.video_id].content_id for r in train}
    unseen = Unseen.of(train, contents, HOLDOUT, 0)
    videos = Counter(unseen.records[i].scene for i in unseen.apart)
    rates = [probed.rows[r.video_id].fps for r in train]
    extract = {"extractor": CHECKS, "set": {"stride": max(1, round(median(rates) / RATE))}}
    training: dict[str, Any] = {
        "name": CHECKS,
        "detector": "tampering",
        "features": {"checks": CHECKS, "thumbnail": CHECKS},
        "events": events,
    }
    if any(count == 1 for count in videos.values()):
        # A camera with one training video: held back, its limits would be unknown.
        training["holdout"] = 0.0
    return CameraChecks({"extract": [{"name": CHECKS, **extract}], "train": [training]})
