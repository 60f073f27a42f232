"""Feedback stage: rejected events become normal training footage, and the detector is fitted again.

A record names a part of its file, so a rejected event needs no cutting: the manifest of the
training gets one more record for it, of split train and label 0. Features of the footage are in the
cache already where it was scored from there.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..data_manifests.errors import VadpipeError
from ..data_manifests.plain_text import counted
from ..data_manifests.record import ID_LENGTH, Manifest, VideoRecord
from ..data_manifests.settings import in_words
from .models import ModelFolder
from .review.verdicts import FEEDBACK_ON, Verdict, judged_before, page_id, read_verdicts
from .scores.events import EventError
from .scores.folder import ScoreFolder
from .store.feature_store import FeatureStore
from .store.probe_table import Probed
from .threshold import fit_threshold
from .train import Trained, train_detector

REJECTED = "rejected"  # in the ids of the new records
Span = tuple[int, int]


class FeedbackError(VadpipeError, ValueError):
    """Verdicts that do not fit the score folder, or a model that cannot be fitted again here."""


@dataclass(frozen=True)
class LeftOut:
    """A rejected event that is not trained on.

    Attributes:
        video_id: as in the score folder.
        span: its frames.
        reason: why not.
    """

    video_id: str
    span: Span
    reason: str


@dataclass(frozen=True)
class Feedback:
    """What becomes of verdicts.

    Attributes:
        manifest: the training manifest with the new records at its end.
        added: the new records.
        left_out: rejected events that are not trained on.
        verdicts: how many of each there are.
        seconds: length of all new records.
        tested: videos of other splits of the manifest that are now trained on in part.
    """

    manifest: Manifest
    added: tuple[VideoRecord, ...]
    left_out: tuple[LeftOut, ...]
    verdicts: Mapping[str, int]
    seconds: float
    tested: tuple[str, ...]

    def lines(self) -> list[str]:
        """What was done, for people."""
        videos = len({record.path for record in self.added})
        said = ", ".join(f"{n} {name}" for name, n in sorted(self.verdicts.items())) or "none"
        lines = [
            f"verdicts: {said}",
            f"{counted(len(self.added), 'part')} of {counted(videos, 'video')}, "
            f"{self.seconds:.1f} s: normal training footage now",
        ]
        lines += [
            f"not trained on: {each.video_id}, frames {each.span[0]} to {each.span[1] - 1}: "
            f"{each.reason}"
            for each in self.left_out
        ]
        if self.tested:
            some = ", ".join(self.tested[:5]) + (", ..." if len(self.tested) > 5 else "")
            lines.append(
                f"trained on in part, outside of the split train: "
                f"{counted(len(self.tested), 'video')} ({some}): metrics of the new model there "
                "are not those of unseen footage"
            )
        return lines


def apply_feedback(verdicts: Path, scores: Path, manifest: Manifest) -> Feedback:
    """Add the rejected events of a file of verdicts to a training manifest.

    Each is widened or narrowed to whole score rows whose middle lies in it, so that the features of
    at least one row lie inside. Rejected events of a video that touch become one.

    Args:
        verdicts:
            As the review page saved them (JSON).
        scores:
            The score folder that the page was written of.
        manifest:
            What the model was trained on.

    Raises:
        VerdictError: the file holds no verdicts.
        FeedbackError: it is about another model, other videos or other files than the score
            folder, or rejects nothing.
        ScoreFolderError: the score folder is incomplete or damaged.
        ManifestError: the new manifest is none.
    """
    folder, read = ScoreFolder(scores), read_verdicts(verdicts)
    given, videos = read.verdicts, {row["video_id"]: row for row in folder.videos()}
    if read.page != page_id(folder.run(), read.column):
        raise FeedbackError(
            f"{verdicts} was saved on the page of another model or score column "
            f"({read.column!r:.200}) than that of {scores}: name the score folder that the page "
            "was written of, or write its page again and judge there"
        )
    if unknown := sorted({v.video_id for v in given} - videos.keys()):
        raise FeedbackError(
            f"{verdicts} is about {unknown[0]!r:.200} ({len(unknown)} such videos), which {scores} "
            "does not have: name the score folder that the page was written of"
        )
    if other := [v for v in given if v.content_id != videos[v.video_id]["content_id"]]:
        raise FeedbackError(
            f"{verdicts}: {other[0].video_id!r:.200} was another file when it was judged than "
            f"{scores} has: write the page again and judge it there"
        )
    rejected = [verdict for verdict in given if verdict.verdict == "reject"]
    if not rejected:
        raise FeedbackError(f"{verdicts} rejects no event: there is nothing to learn from it")
    accepted: dict[str, list[Span]] = {}
    for verdict in given:
        if verdict.verdict == "accept":
            accepted.setdefault(verdict.video_id, []).append(verdict.span)
    gathered = _Gathered(manifest, list(videos.values()), {v.video_id for v in rejected})
    for video_id in dict.fromkeys(verdict.video_id for verdict in rejected):
        own = [verdict for verdict in rejected if verdict.video_id == video_id]
        gathered.add(folder, videos[video_id], own, accepted.get(video_id, []))
    counts = Counter(verdict.verdict or "note only" for verdict in given)
    return gathered.feedback({name: n for name, n in counts.items()})


class _Gathered:
    """The new records, and what is not trained on."""

    def __init__(
        self, manifest: Manifest, videos: Sequence[Mapping[str, Any]], rejected: Collection[str]
    ) -> None:
        self._old = manifest
        paths = [video["path"] for video in videos if video["video_id"] in rejected]
        known = [manifest.root, *(str(Path(p).absolute().parent) for p in paths if p)]
        self._root = os.path.commonpath([os.path.realpath(path) for path in known])
        self._records = [_moved(r, manifest.root, self._root) for r in manifest.records]
        # A file has many paths where there are links, and its copies have the same labels.
        self._files = [None if r.path is None else self._file(r.path) for r in self._records]
        self._contents = {
            os.path.realpath(video["path"]): video["content_id"]
            for video in videos
            if video["path"] and video["content_id"]
        }
        self._added: list[VideoRecord] = []
        self._left_out: list[LeftOut] = []
        self._tested: list[str] = []
        self._seconds = 0.0

    def add(
        self,
        folder: ScoreFolder,
        video: Mapping[str, Any],
        rejected: Sequence[Verdict],
        accepted: Sequence[Span],
    ) -> None:
        """Add what was rejected of one video."""
        video_id, n_frames = video["video_id"], video["n_frames"]
        part = folder.scores(video_id)
        rows = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
        spans = []
        for verdict in rejected:
            if verdict.span[1] > n_frames:
                self._leave_out(video_id, verdict.span, f"the video has {n_frames} frames")
                continue
            span = whole_rows(*rows, verdict.span, verdict.peak_frame)
            if any(a < span[1] and b > span[0] for a, b in accepted):
                self._leave_out(video_id, span, "it meets an event that was accepted")
            else:
                spans.append(span)
        for span in _joined(spans):
            reason = self._reason(video, span) or self._append(video, span)
            if reason:
                self._leave_out(video_id, span, reason)

    def _reason(self, video: Mapping[str, Any], span: Span) -> str:
        """Why a span is not trained on; "" where nothing is against it."""
        if not video["path"]:
            return "there is no footage of it, only imported features"
        n_frames = video["n_frames"]
        for record in self._records_of(video):
            a, b = record.frame_range(n_frames)
            if record.split == "train" and record.label != 1 and a <= span[0] and span[1] <= b:
                return f"{record.video_id} is training footage already"
            if any(x < span[1] and y > span[0] for x, y in record.anomalies or ()):
                return f"an anomaly of {record.video_id} is labelled there: mend the label"
        return ""

    def _append(self, video: Mapping[str, Any], span: Span) -> str:
        path, n_frames = self._relative(video), video["n_frames"]
        scene = video.get("scene")
        if scene is None:
            scene = next((r.scene for r in self._records_of(video) if r.scene is not None), None)
        try:
            record = VideoRecord(
                video_id=record_id(video["video_id"], span),
                path=path,
                split="train",
                label=0,
                scene=scene,
                anomalies=(),
                part=part_of(span, n_frames),
            )
        except ValidationError as error:
            return in_words(error)
        if any(each.video_id == record.video_id for each in [*self._records, *self._added]):
            return f"{record.video_id} is in the manifest already"
        self._added.append(record)
        self._tested += [r.video_id for r in self._records_of(video) if r.split != "train"]
        self._seconds += (span[1] - span[0]) / video["fps"]
        return ""

    def _file(self, path: str) -> str:
        """The file itself, whatever links lead to it."""
        return os.path.realpath(Path(self._root) / path)

    def _records_of(self, video: Mapping[str, Any]) -> list[VideoRecord]:
        """The records of the file of a video, or of a scored copy of it."""
        own, content = os.path.realpath(video["path"]), video["content_id"]
        return [
            record
            for record, file in zip(self._records, self._files, strict=True)
            if file is not None
            and (file == own or (content and self._contents.get(file) == content))
        ]

    def _relative(self, video: Mapping[str, Any]) -> str:
        path = Path(video["path"]).absolute()
        return os.path.relpath(Path(os.path.realpath(path.parent)) / path.name, self._root)

    def _leave_out(self, video_id: str, span: Span, reason: str) -> None:
        self._left_out.append(LeftOut(video_id, span, reason))

    def feedback(self, verdicts: Mapping[str, int]) -> Feedback:
        """All of it."""
        records = (*self._records, *self._added)
        manifest = Manifest(dataset=self._old.dataset, root=self._root, records=records)
        return Feedback(
            *(manifest, tuple(self._added), tuple(self._left_out), verdicts, self._seconds),
            tuple(dict.fromkeys(self._tested)),
        )


def whole_rows(
    frame_start: np.ndarray[Any, Any], frame_stop: np.ndarray[Any, Any], span: Span, peak: int
) -> Span:
    """The frames of the rows whose middle lies in a span; of the row nearest to its peak, if none.

    Args:
        frame_start:
            (n,) first frame of each row.
        frame_stop:
            (n,) one past the last.
        span:
            Half-open frames.
        peak:
            A frame.
    """
    middle = (frame_start + frame_stop) / 2
    inside = np.flatnonzero((middle >= span[0]) & (middle < span[1]))
    if not len(inside):
        inside = np.array([np.argmin(np.abs(middle - peak))])
    return int(frame_start[inside].min()), int(frame_stop[inside].max())


def part_of(span: Span, n_frames: int) -> tuple[float, float]:
    """The share of a video that is exactly these frames, see `VideoRecord.frame_range`."""
    a, b = span
    return (a + 0.5) / n_frames if a else 0.0, (b + 0.5) / n_frames if b < n_frames else 1.0


def record_id(video_id: str, span: Span) -> str:
    """What the record of a rejected event is called; long ids are shortened."""
    end = f"-{REJECTED}-{span[0]}-{span[1]}"
    if len(video_id) + len(end) > ID_LENGTH:
        digest = hashlib.sha256(video_id.encode(errors="surrogatepass")).hexdigest()[:16]
        video_id = f"{video_id[: ID_LENGTH - len(end) - 17]}-{digest}"
    return video_id + end


def fit_again(model: Path, done: Feedback, probed: Probed, cache: Path, device: str) -> Trained:
    """Train the detector of a model on a manifest with feedback, with its settings and features.

    Args:
        model:
            Model folder.
        done:
            With at least one new record.
        probed:
            The training files.
        cache:
            Root of the cache, which holds the features of the model.
        device:
            Where to train.

    Raises:
        FeedbackError: the model says too little of its training.
        DetectorError: the model cannot be read, or does not fit the manifest.
        StoreError: the cache lacks features of footage that is new to the training.
    """
    card = ModelFolder(model).card()
    for name, what in (("init", "starts from another model"), ("weights", "has own weights")):
        if card.get(name):
            raise FeedbackError(
                f"{model} {what}, and its card does not say where they lie: train it on the new "
                f"manifest with vadpipe train {card['detector']}"
            )
    recipes = {**card["features"], **card.get("twins", {})}
    return train_detector(
        card["detector"],
        done.manifest,
        probed,
        cache,
        features={role: FeatureStore(cache, recipe).name for role, recipe in recipes.items()},
        settings=card["config"],
        seed=int(card["seed"]),
        device=device,
        holdout=float(card["holdout"]) if "holdout" in card else None,
        # Left out, a rejected event scores as high as before: its rows would lift the threshold
        # above the events that were accepted.
        trained_only=[*card.get("trained_only", ()), *(record.video_id for record in done.added)],
        about={FEEDBACK_ON: [*judged_before(card.get("trained_on")), card["key"]]},
    )


def keep_rule(model: Path, trained: Path, command: str = "") -> list[str]:
    """Fit the rule of a model's threshold again, for the model that was trained after it.

    Args:
        model:
            Model folder, perhaps with a rule that `vadpipe threshold` has kept.
        trained:
            The folder of the new model; a rule that it has is left as it is.
        command:
            Noted with the threshold.

    Returns:
        What became of the rule, for people; [] where there is none to keep.

    Raises:
        StoredThresholdError: the kept threshold of one of both is damaged.
        CannotWrite: the disk is full or read-only.
    """
    before = ModelFolder(model).threshold()
    if before is None or ModelFolder(trained).threshold() is not None:
        return []
    rule = before.rule
    if rule.rule == "value":  # of the scores of the old model: it says nothing of the new ones
        return [
            f"the threshold was {rule.rule_in_words()} of the old scores: choose it again, as "
            f"vadpipe threshold {trained.name} --value V"
        ]
    try:
        done = fit_threshold(trained, rule, command=command)
    except EventError as error:
        number = f"--{rule.rule} {getattr(rule, rule.rule):g}"
        return [
            f"the rule {rule.rule_in_words()} was not kept ({error}): choose it again with "
            f"vadpipe threshold {trained.name} {number}"
        ]
    chosen = done.chosen
    return [f"rule kept: {rule.rule_in_words()}, threshold {chosen.high:.6g}", *chosen.warnings]


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in order of time; those that touch become one."""
    joined: list[Span] = []
    for a, b in sorted(spans):
        if joined and a <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(b, joined[-1][1])
        else:
            joined.append((a, b))
    return joined


def _moved(record: VideoRecord, old: str, new: str) -> VideoRecord:
    """The same record under another root."""
    if os.path.realpath(old) == new:
        return record
    paths = {
        name: os.path.relpath(Path(os.path.realpath(old)) / value, new)
        for name in ("path", "masks", "tracks")
        if (value := getattr(record, name)) is not None
    }
    return record.model_copy(update=paths)
