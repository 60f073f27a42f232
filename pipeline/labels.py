"""Labels check: do the labels of a manifest fit the features or the scores?

Weakly supervised data sets come in pieces: lists and frame labels from one place, features from
another, footage from a third. A video that is missing, longer or shorter than its labels say
changes every metric without an error. This check names it and says by how many frames it is off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.counts import OFFICIAL, Counts, count, differences
from ..data_manifests.plain_text import counted
from ..data_manifests.record import Manifest, ManifestError, VideoRecord
from ..extractors.footage.video import ProbeRow
from .scores.folder import ScoreFolder, ScoreFolderError
from .store.errors import StoreError
from .store.feature_store import FeatureStore
from .store.holdings import whole_videos

Verdict = Literal[
    "same", "ceil", "floor", "segments", "unstated", "length", "missing", "unreadable"
]
MEANING: dict[Verdict, str] = {
    "same": "of the stated length",
    "ceil": "padded to whole snippets",
    "floor": "cut to whole snippets",
    "segments": "in segments, of unknown length",
    "unstated": "of no stated length",
    "length": "of another length",
    "missing": "missing",
    "unreadable": "unreadable",
}
WRONG: tuple[Verdict, ...] = ("length", "missing", "unreadable")


@dataclass(frozen=True)
class Found:
    """What a feature set or a score folder holds of a video.

    Attributes:
        frames: by the decoder; of snippets without footage, up to where the rows reach.
        rows: of its features or scores.
        snippet: frames of the first row of those; 0 where the length is exact.
        open: True if rows divide the whole video and its length is unknown.
    """

    frames: int
    rows: int
    snippet: int
    open: bool


@dataclass(frozen=True)
class VideoCheck:
    """One video: its labels, and what was found.

    Attributes:
        video_id: as in the manifest.
        split: as in the manifest.
        stated: frames as the data set states them, or None.
        labelled: one past the last abnormal frame; 0 where there is none.
        frames: that the features or scores are about; None where there are none.
        rows: of the features or scores; None where there are none.
        verdict: see `MEANING`.
        off: frames that are too many (positive) or too few.
        message: what went wrong in reading.
    """

    video_id: str
    split: str
    stated: int | None
    labelled: int
    frames: int | None = None
    rows: int | None = None
    verdict: Verdict = "missing"
    off: int = 0
    message: str = ""

    def line(self) -> str:
        """The check as one line, for a video that is wrong."""
        if self.verdict != "length":
            return f"{self.video_id}\t{self.split}\t{self.message or self.verdict}"
        stated = f"{self.stated} frames stated" if self.stated else f"labels up to {self.labelled}"
        return f"{self.video_id}\t{self.split}\t{stated}, found {self.frames}\t{self.off:+d} frames"


@dataclass(frozen=True)
class SourceCheck:
    """All videos against one feature set or score folder.

    Attributes:
        name: of the feature set, or the score folder.
        videos: in the manifest's order.
        unlisted: ids of scored videos that the manifest does not have.
    """

    name: str
    videos: tuple[VideoCheck, ...]
    unlisted: tuple[str, ...] = ()

    @property
    def wrong(self) -> list[VideoCheck]:
        """The videos that are missing or of another length."""
        return [video for video in self.videos if video.verdict in WRONG]


@dataclass(frozen=True)
class LabelCheck:
    """What `check_labels` found.

    Attributes:
        dataset: the manifest's.
        totals: split -> totals of the manifest.
        stated: True if there are official totals, and they were compared.
        differences: where the totals differ, one line each.
        sources: one for the features, one for the scores.
    """

    dataset: str
    totals: Mapping[str, Counts]
    stated: bool
    differences: tuple[str, ...]
    sources: tuple[SourceCheck, ...]

    @property
    def ok(self) -> bool:
        """True if nothing differs."""
        return not self.differences and not any(s.wrong or s.unlisted for s in self.sources)

    def lines(self) -> list[str]:
        """What the command prints."""
        lines = []
        for split, totals in self.totals.items():
            parts = [f"{totals.normal} normal and {totals.abnormal} abnormal videos"]
            if totals.frames is not None:
                parts.append(f"{totals.frames:,} frames")
            if totals.abnormal_frames is not None:
                parts.append(f"{totals.abnormal_frames:,} abnormal frames")
            lines.append(f"{split}: {', '.join(parts)}")
        lines += self.differences
        if self.stated and not self.differences:
            lines.append(f"these are the totals of {self.dataset}")
        elif self.stated:
            lines.append("a subset, or a split of your own, is checked with --subset")
        else:
            lines.append("totals are not compared")
        for source in self.sources:
            lines += [video.line() for video in source.wrong]
            lines += [f"{video_id}\t-\tnot in the manifest" for video_id in source.unlisted]
            found = Counter(video.verdict for video in source.videos)
            kinds = [f"{found[v]} {meaning}" for v, meaning in MEANING.items() if found[v]]
            lines.append(
                f"{source.name}: {counted(len(source.videos), 'video')}: {', '.join(kinds)}"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "dataset": self.dataset,
            "ok": self.ok,
            "totals": {
                split: {**vars(totals), "categories": dict(totals.categories)}
                for split, totals in self.totals.items()
            },
            "stated": self.stated,
            "differences": list(self.differences),
            "sources": [
                {
                    "name": source.name,
                    "videos": [asdict(video) for video in source.videos],
                    "unlisted": list(source.unlisted),
                }
                for source in self.sources
            ],
        }


def check_labels(
    manifest: Manifest,
    *,
    store: FeatureStore | None = None,
    probe_rows: Mapping[str, ProbeRow] | None = None,
    scores: Path | None = None,
    split: str | None = None,
    subset: bool = False,
) -> LabelCheck:
    """Compare a manifest with its data set's totals, with features and with scores.

    A decoded video has to have exactly the stated frames. Where there is no footage, rows may reach
    less than one snippet beyond the stated end (padded: n = ceil(N / 16) rows) or stop less than
    one before it (cut: n = floor(N / 16)); segments of a video whose length was not known when they
    were imported fit any. Where no length is stated, labels must not reach beyond what was found.

    Args:
        manifest:
            The videos and their labels.
        store:
            A feature set.
        probe_rows:
            video_id -> its file, as probed: says whose features are whose. Needed with `store`.
        scores:
            A score folder; of a manifest with a test split, it is about that.
        split:
            Compare videos of this split only.
        subset:
            Do not compare totals: videos are missing on purpose, or the split is your own.

    Raises:
        ManifestError: there is no video to compare.
        ScoreFolderError: `scores` is not a score folder.
    """
    chosen = manifest.select(split=split)
    if not chosen.records:
        raise ManifestError(f"{manifest.dataset}: no videos of split {split!r}")
    sources = []
    if store is not None:
        found = _in_store(store, chosen.records, probe_rows or {})
        sources.append(_compare(store.name, chosen.records, found))
    if scores is not None:
        scored = _in_scores(ScoreFolder(scores))
        tested = chosen.select(split="test").records or chosen.records
        known = {record.video_id for record in manifest.records}
        unlisted = tuple(video_id for video_id in scored if video_id not in known)
        sources.append(_compare(str(scores), tested, scored, unlisted))
    stated = not subset and manifest.dataset in OFFICIAL
    splits = dict.fromkeys(record.split for record in chosen.records)
    return LabelCheck(
        dataset=manifest.dataset,
        totals={name: count(chosen.select(split=name).records) for name in splits},
        stated=stated,
        differences=tuple(differences(chosen)) if stated else (),
        sources=tuple(sources),
    )


def _compare(
    name: str,
    records: Sequence[VideoRecord],
    found: Mapping[str, Found | str | None],
    unlisted: tuple[str, ...] = (),
) -> SourceCheck:
    videos = tuple(_check(record, found.get(record.video_id)) for record in records)
    return SourceCheck(name, videos, unlisted)


def _check(record: VideoRecord, found: Found | str | None) -> VideoCheck:
    """One video; a text is what went wrong in reading it."""
    stated = record.expected_frames
    labelled = max((stop for _, stop in record.anomalies or ()), default=0)
    base = VideoCheck(record.video_id, record.split, stated, labelled)
    if found is None:
        return base
    if isinstance(found, str):
        return replace(base, verdict="unreadable", message=found)
    verdict, off = _verdict(stated, labelled, found)
    return replace(base, frames=found.frames, rows=found.rows, verdict=verdict, off=off)


def _verdict(stated: int | None, labelled: int, found: Found) -> tuple[Verdict, int]:
    off = found.frames - (labelled if stated is None else stated)
    if off == 0 and stated is not None:
        return "same", 0
    if found.open:
        return "segments", 0
    if stated is None:  # of rows that were cut to whole snippets, less than one is missing
        return ("length", off) if off < 0 and off <= -found.snippet else ("unstated", 0)
    if abs(off) < found.snippet:
        return ("ceil" if off > 0 else "floor"), off
    return "length", off


def _in_store(
    store: FeatureStore, records: Sequence[VideoRecord], rows: Mapping[str, ProbeRow]
) -> dict[str, Found | str | None]:
    whole = whole_videos(store, {row.content_id for row in rows.values()})
    found: dict[str, Found | str | None] = {}
    for record in records:
        row = rows.get(record.video_id)
        if row is None:
            found[record.video_id] = "its file cannot be opened: see vadpipe probe"
        elif row.content_id in whole:
            found[record.video_id] = _read_from(store, row)
    return found


def _read_from(store: FeatureStore, row: ProbeRow) -> Found | str:
    try:
        features = store.read(row.content_id)
    except (StoreError, OSError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return _found(
        row.kind, features.n_frames, features.flags, features.frame_start, features.frame_stop
    )


def _in_scores(folder: ScoreFolder) -> dict[str, Found | str | None]:
    found: dict[str, Found | str | None] = {}
    for video in folder.videos():
        try:
            part = folder.scores(video["video_id"])
        except ScoreFolderError as error:
            found[video["video_id"]] = f"{type(error).__name__}: {error}"
            continue
        rows = (part[name].to_numpy() for name in ("frame_start", "frame_stop"))
        found[video["video_id"]] = _found(video["kind"], video["n_frames"], video["flags"], *rows)
    return found


def _found(
    kind: str,
    n_frames: int,
    flags: Sequence[str],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> Found:
    """What is there, from the rows' frames (n,); `kind` as in `ProbeRow`."""
    if kind != "features" or "segments" in flags or not len(start):
        return Found(n_frames, len(start), 0, {"segments", "length_unknown"} <= set(flags))
    return Found(int(stop.max()), len(start), int(stop[0] - start[0]), open=False)
