"""A later review of the same footage: what trained stays, what is new or has changed is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from ...data_manifests.record import Manifest, ManifestError, VideoRecord
from ...data_manifests.settings import Settings
from ...extractors.footage.video import ProbeRow
from .archive import ArchiveError, Part, left_of


class TrainedPart(Settings):
    """A part of a file that trains, and which content the file had.

    Attributes:
        path: below the root.
        content_id: of the file.
        part: the share of its frames.
        scored: it was scored and rejected; the video that it is of is still scored.
    """

    path: str
    content_id: str
    part: Part
    scored: bool = False


def trained_parts(
    manifest: Manifest, rows: Mapping[str, ProbeRow], *, scored: bool = False
) -> tuple[TrainedPart, ...]:
    """What the training records of a manifest are, as far as their files can be read.

    Args:
        manifest:
            With splits.
        rows:
            Its files.
        scored:
            Noted, see `TrainedPart`.
    """
    return tuple(
        TrainedPart(
            path=record.path,
            content_id=rows[record.video_id].content_id,
            part=record.part,
            scored=scored,
        )
        for record in manifest.records
        if record.split == "train" and record.path is not None and record.video_id in rows
    )


def with_other_content(
    now: Manifest, rows: Mapping[str, ProbeRow], trained: Collection[TrainedPart]
) -> tuple[str, ...]:
    """Paths of what has another content than when it trained: a name that was used again.

    Args:
        now:
            What is listed now.
        rows:
            Its files; what cannot be read is not said to differ.
        trained:
            What has trained.
    """
    contents = {r.path: rows[r.video_id].content_id for r in now.records if r.video_id in rows}
    paths = (p.path for p in trained if contents.get(p.path, p.content_id) != p.content_id)
    return tuple(dict.fromkeys(paths))


def with_new(
    before: Manifest,
    now: Manifest,
    trained: Collection[str] = (),
    *,
    parts: Collection[TrainedPart] = (),
    other: Collection[str] = (),
) -> Manifest:
    """The videos of an earlier run that are still listed, with those that are new for scoring.

    Training videos stay as they were, so that the model does; new ones of a normal folder are not
    used. A path that was part of training and of scoring stays both. A file with another content
    than the one that trained is scored, all of it: a longer file may differ from its first frame.

    Args:
        before:
            Of the earlier run, with splits.
        now:
            What is listed now.
        trained:
            Paths of videos that the model was trained on, some of which may be in neither.
        parts:
            What was trained on, with its content.
        other:
            Paths of what has another content now, see `with_other_content`.

    Raises:
        ManifestError: the listing has another root: ids would not be the same.
    """
    if before.root != now.root:
        raise ManifestError(
            f"the footage was listed below {before.root} before, and below {now.root} now: take "
            "another folder for the page"
        )
    paths = {record.path for record in now.records}
    known = {*trained, *(record.path for record in before.records)}
    changed = {r.path for r in now.records if r.split != "train" and r.path in other}
    kept = [
        record
        for r in before.records
        if r.path not in changed and (r.split == "train" or r.path in paths)
        for record in ([r] if r.split == "train" else _not_trained(r, parts))
    ]
    # The name that a path had in the scores: results of its old content are replaced.
    names = {r.path: r.video_id for r in reversed(before.records) if r.split != "train"}
    times = Counter(r.path for r in now.records)
    new = []
    for r in now.records:
        if r.split != "train" and (r.path in changed or r.path not in known):
            alone = r.path in changed and times[r.path] == 1
            video_id = names.get(r.path, r.video_id) if alone else r.video_id
            new.append(r.model_copy(update={"split": "test", "video_id": video_id}))
    return now.model_copy(update={"records": (*kept, *new)})


def _not_trained(record: VideoRecord, parts: Collection[TrainedPart]) -> list[VideoRecord]:
    """What of a scored video did not train: its file may have the trained content back."""
    trained = [p.part for p in parts if p.path == record.path and not p.scored]
    left = left_of(record.part, trained)
    if left == [record.part]:
        return [record]
    ids = [record.video_id, *(f"{record.video_id}.{n}" for n in range(2, len(left) + 1))]
    return [
        record.model_copy(update={"part": part, "video_id": video_id, "label": None})
        for part, video_id in zip(left, ids, strict=False)
    ]


def with_learnt(before: Manifest, learnt: Manifest) -> tuple[Manifest, tuple[VideoRecord, ...]]:
    """Add the rejected events of a feedback to the training records of a review.

    Args:
        before:
            Of the review.
        learnt:
            As `vadpipe feedback` wrote it from that; its root may be another.

    Returns:
        All records, and those that were added.

    Raises:
        ArchiveError: it has none of the review's videos: it was written from another manifest.
    """
    places = {before.resolve(r.path): r.path for r in before.records if r.path is not None}
    known = {r.video_id for r in before.records}
    added, met = [], False
    for record in learnt.records:
        path = None if record.path is None else places.get(learnt.resolve(record.path))
        met = met or path is not None
        if path is not None and record.split == "train" and record.video_id not in known:
            added.append(record.model_copy(update={"path": path}))
    if not met:
        raise ArchiveError(
            "the manifest of the feedback has no video of this review: name the one that vadpipe "
            "feedback wrote from its footage.parquet"
        )
    return before.model_copy(update={"records": (*before.records, *added)}), tuple(added)
