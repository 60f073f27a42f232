"""Cameras that a model does not know: trained with the others where that can be, else said.

A detector that learns something of each camera has no scores for others, so their footage would
only fail.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...data_manifests.plain_text import counted
from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.footage.video import ProbeRow
from ..review.verdicts import learnt_from
from .archive import UNNAMED, ArchiveError, cameras_of, split_by_camera
from .review_kept import Chosen

PER_SCENE = ("objects", "motion")  # features whose detector learns each camera by itself
NAMED = 5  # cameras in a message


def known_cameras(
    card: Mapping[str, Any], manifest: Manifest, hours: Mapping[str, float] | None = None
) -> frozenset[str]:
    """Names of the cameras that a model was trained on.

    Args:
        card:
            Of the model.
        manifest:
            Of the review.
        hours:
            Camera -> hours that trained. The card does not say whether footage without a scene has
            trained; None takes what the manifest still lists.
    """
    scenes = {each for each in _trained_on(card).get("scenes", ()) if isinstance(each, str)}
    if hours is None:
        unnamed = any(r.split == "train" and r.scene is None for r in manifest.records)
    else:
        unnamed = UNNAMED in hours
    return frozenset(scenes | {UNNAMED} if unnamed or not scenes else scenes)


def is_per_camera(card: Mapping[str, Any]) -> bool:
    """Whether a model cannot score footage of a camera that it was not trained on."""
    return bool((card.get("config") or {}).get("per_scene", False))


def new_in(
    manifest: Manifest, rows: Mapping[str, ProbeRow], known: Collection[str]
) -> tuple[str, ...]:
    """Cameras with footage that can be read, but for those that are known; in order of listing."""
    found = (_camera(r) for r in manifest.records if r.video_id in rows)
    return tuple(dict.fromkeys(camera for camera in found if camera not in known))


def with_new_training(
    manifest: Manifest,
    rows: Mapping[str, ProbeRow],
    chosen: Chosen,
    card: Mapping[str, Any],
    new: Collection[str],
) -> Manifest | None:
    """Take the first part of new cameras for training, beside all that has trained.

    Args:
        manifest:
            Of the review: what has trained, and new footage for scoring.
        rows:
            Its files.
        chosen:
            What the review has chosen.
        card:
            Of its model.
        new:
            Names of the cameras.

    Returns:
        None where the training cannot be repeated: the review did not train the model itself, or
        with normal footage that was named by `--normal` or by the split of a manifest, or files
        that trained are gone or have changed, or nothing of the new cameras can train.
    """
    named = chosen.normal is not None or chosen.own_split
    if chosen.features is None or named or chosen.learnt is not None:
        return None
    own = [r for r in manifest.records if _camera(r) not in new]
    trains = [r for r in own if r.split == "train"]
    contents = {rows[r.video_id].content_id for r in trains if r.video_id in rows}
    if learnt_from(_trained_on(card)) or not contents >= set(card.get("contents", ())):
        return None
    added = [r for r in manifest.records if _camera(r) in new]
    if not any(r.split == "train" for r in added):  # a training that failed has split them already
        try:
            listed = manifest.model_copy(update={"records": tuple(added)})
            added = list(split_by_camera(listed, rows).records)
        except ArchiveError:
            return None
    return manifest.model_copy(update={"records": (*own, *added)})


def without_cameras(
    manifest: Manifest, rows: Mapping[str, ProbeRow], cameras: Collection[str]
) -> Manifest:
    """A manifest without the footage of some cameras; files that cannot be read stay, to be named.

    Raises:
        ArchiveError: nothing is left.
    """
    left = tuple(r for r in manifest.records if _camera(r) not in cameras or r.video_id not in rows)
    if not any(r.split != "train" and r.video_id in rows for r in left):
        raise ArchiveError(
            f"nothing can be scored: the model knows no camera of this footage ({_some(cameras)}). "
            "Leave out --model or give --retrain, so that a model is trained on it; with --normal, "
            "name normal footage of these cameras"
        )
    return manifest.model_copy(update={"records": left})


def again_line(new: Collection[str]) -> str:
    """What is said where new cameras train with the others."""
    return (
        f"{counted(len(new), 'new camera')} ({_some(new)}), not in the model: the first part of "
        "the new footage trains, and the model is trained again with what trained before"
    )


def unknown_lines(
    manifest: Manifest,
    rows: Mapping[str, ProbeRow],
    cameras: Collection[str],
    *,
    left_out: bool,
    cure: str,
) -> list[str]:
    """A sentence for each camera that the model does not know.

    Args:
        manifest:
            With their footage.
        rows:
            Its files.
        cameras:
            Their names.
        left_out:
            Whether nothing of them is scored.
        cure:
            What to do, a sentence.
    """
    said = (
        "nothing of it is scored"
        if left_out
        else "it is scored by what other cameras show, and may be unusual for its view alone"
    )
    found = [each for each in cameras_of(manifest, rows) if each.name in cameras]
    lines = [
        f"Camera {each.name} ({counted(each.videos, 'video')}) is new, not in the model: {said}. "
        f"{cure}"
        for each in found[:NAMED]
    ]
    if len(found) > NAMED:
        lines.append(f"So are {counted(len(found) - NAMED, 'camera')} more.")
    return lines


def what_to_do(chosen: Chosen) -> str:
    """What makes a camera known."""
    if chosen.normal is not None:
        return f"Add normal footage of it to {chosen.normal}, and give --retrain."
    if chosen.features is None:
        return "Name a model that was trained on it, or leave out --model in another folder."
    if chosen.own_split:
        return (
            f"Put normal footage of it into the split train of {chosen.target}, and give --retrain."
        )
    return "--retrain trains on the first part of each camera's footage again."


def _camera(record: VideoRecord) -> str:
    return record.scene or UNNAMED


def _trained_on(card: Mapping[str, Any]) -> Mapping[str, Any]:
    return card.get("trained_on") or {}


def _some(names: Collection[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")
