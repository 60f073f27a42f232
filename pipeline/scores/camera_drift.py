"""The cameras of a score folder, compared with the held-out rows of its model, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.record import Manifest
from .columns import SCORE, levels_of, own_levels_of
from .drift import LEVEL, CameraDrift, FrameScores, compare_camera, judged
from .folder import ScoreFolder
from .frames import expand_to_runs
from .held_out import HeldOut
from .rules import in_time

Spans = Sequence[tuple[int, int]]
ALL_FRAMES = ((0, int(np.iinfo(np.int64).max)),)


@dataclass(frozen=True)
class Drift:
    """What has become of the scores of normal footage since training.

    Attributes:
        cameras: one each; one without a name where cameras are not told apart.
        model: folder of the model.
        detector: its name.
    """

    cameras: tuple[CameraDrift, ...]
    model: str
    detector: str

    @property
    def moved(self) -> list[CameraDrift]:
        """The cameras whose scores have moved."""
        return [camera for camera in self.cameras if camera.state == "moved"]

    @property
    def unknown(self) -> list[CameraDrift]:
        """The cameras of which it cannot be told."""
        return [camera for camera in self.cameras if camera.state == "cannot tell"]

    def lines(self) -> list[str]:
        """One sentence for each camera."""
        return [_sentence(camera) for camera in self.cameras]

    def advice(self) -> list[str]:
        """What to do."""
        moved = self.moved
        if not moved:
            return []
        known = [camera for camera in self.cameras if camera.state != "cannot tell"]
        fitted = [camera.fitted for camera in moved]
        lines = [
            "look first whether the new footage is normal, and whether the camera was moved: "
            "vadpipe review or vadpipe train tampering"
        ]
        if len(moved) == len(known) == 1 and fitted[0] is not None:
            lines.append(
                f"re-fit the threshold: vadpipe threshold {self.model} --value {fitted[0]:.6g} "
                "lets as many frames of the new footage through as before"
            )
        else:
            lines.append(
                "one value would not fit all cameras, or too few frames were above the threshold "
                "to say which one"
            )
        lines.append(
            f"or train again with the new footage among the normal one: vadpipe train "
            f"{self.detector} MANIFEST"
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model,
            "level": LEVEL,
            "cameras": [asdict(camera) for camera in self.cameras],
            "advice": self.advice(),
        }


def drift_of(folder: ScoreFolder, abnormal: Mapping[str, Spans] | None = None) -> Drift | None:
    """Compare the scores of a folder with the held-out rows of its model, camera by camera.

    Scores that were smoothed are compared with held-out rows that were smoothed in the same way.

    Args:
        folder:
            Of normal footage: what is unusual in it moves the highest scores too.
        abnormal:
            Frames that are left out, see `abnormal_of`; None leaves out none.

    Returns:
        None where the model keeps no held-out rows, or not the frame rates of their videos.

    Raises:
        ScoreFolderError: the folder is incomplete or damaged.
        HeldOutError: the held-out rows are damaged.
    """
    held_out, rows, run = folder.held_out(), folder.videos(), folder.run()
    if held_out is None or not set(held_out.videos) <= set(held_out.fps):
        return None
    cameras = held_out.scenes if any(row.get("scene") for row in rows) else {}
    common, own = levels_of(folder, SCORE), own_levels_of(folder, SCORE)
    now: dict[str, list[FrameScores]] = {}
    high: dict[str, float | None] = {}
    for row in rows:
        video_id = row["video_id"]
        camera = str(row.get("scene") or "") if cameras else ""
        part = folder.scores(video_id)
        windows = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
        runs = expand_to_runs(*windows, part[SCORE].to_numpy())
        lengths, values = _without(*runs, (abnormal or {}).get(video_id, ()))
        if len(lengths):
            now.setdefault(camera, []).append(FrameScores(lengths, values, row["fps"]))
        levels = own.get(video_id, common)
        high[camera] = None if levels is None else levels[0]
    before = {camera: _held(held_out, videos) for camera, videos in cameras.items()}
    if not cameras:
        before = {"": _held(held_out, held_out.videos)}
    fallback = None if common is None else common[0]
    found = [
        compare_camera(
            camera, before.get(camera, []), now.get(camera, []), high.get(camera, fallback)
        )
        for camera in sorted(before.keys() | now.keys())
    ]
    model = run.get("model") or {}
    names = str(model.get("folder") or "MODEL"), str(model.get("detector") or "DETECTOR")
    return Drift(tuple(judged(found)), *names)


def abnormal_of(manifest: Manifest | None) -> dict[str, Spans]:
    """video_id -> half-open ranges of frames that the labels call abnormal.

    All frames of a video where only the video is labelled.
    """
    records = () if manifest is None else manifest.records
    spans = {
        record.video_id: record.anomalies or (ALL_FRAMES if record.label == 1 else ())
        for record in records
    }
    return {video_id: found for video_id, found in spans.items() if found}


def drift_lines(folder: ScoreFolder, manifest: Manifest | None = None) -> list[str]:
    """One sentence for each camera with enough footage to tell; raises what `drift_of` raises.

    What the manifest labels abnormal is left out.
    """
    found = drift_of(folder, abnormal_of(manifest))
    told = [] if found is None else [c for c in found.cameras if c.state != "cannot tell"]
    return [_sentence(camera) for camera in told]


def drift_caveat(manifest: Manifest | None = None) -> str:
    """What the lines of a page do not say: which of its footage they are about."""
    left_out = ", but for frames that are labelled abnormal" if abnormal_of(manifest) else ""
    return (
        f"All scored footage counts, with its events{left_out}: vadpipe drift compares normal "
        "footage, and says what to do"
    )


def _without(
    first: int, lengths: NDArray[np.int64], values: NDArray[np.float64], spans: Spans
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Runs of equal frames, from frame `first` on, without the frames of some ranges."""
    if not spans:
        return lengths, values
    starts = first + np.cumsum(lengths) - lengths
    stop = first + int(lengths.sum())
    borders = np.clip(np.asarray(spans, np.int64).ravel(), first, stop)
    cuts = np.unique(np.concatenate([starts, [stop], borders]))
    at, sizes = cuts[:-1], np.diff(cuts)
    kept = ~np.any([(at >= a) & (at < b) for a, b in spans], axis=0)
    return sizes[kept], values[np.searchsorted(starts, at[kept], side="right") - 1]


def _held(held_out: HeldOut, videos: Sequence[str]) -> list[FrameScores]:
    found, rates = [], held_out.fps
    for video in videos:
        own = held_out.of_video(video)
        start, stop = (own.table[name].to_numpy() for name in ("frame_start", "frame_stop"))
        _, lengths, values = expand_to_runs(start, stop, own.values(SCORE))
        found.append(FrameScores(lengths, values, rates[video]))
    return found


def _sentence(camera: CameraDrift) -> str:
    name = f"camera {camera.camera}" if camera.camera else "all footage"
    if camera.state == "cannot tell":
        return f"{name}: cannot tell, as {camera.why}"
    over = ""
    if camera.over is not None:
        before, now = (f"{100 * share:.3g} %" for share in camera.over)
        over = f"; above the threshold are {now} of the frames, {before} at training"
    n, m = camera.stretches
    length = in_time(camera.stretch_seconds / 86_400)
    based = f"{m} stretches of {length} against {n}, p = {camera.p:.3g}"
    if camera.state == "same":
        return f"{name}: no difference was seen ({based}){over}"
    told = ", ".join(
        f"{each.quantile:g}: {each.before:.4g} to {each.now:.4g}"
        for each in camera.quantiles
        if each.p is not None and each.p <= LEVEL
    )
    return f"{name}: the scores have moved ({based}); quantiles {told or 'together'}{over}"
