"""Review stage: a score folder -> a folder with a page to look at events, judge and export them.

The folder needs no server and no network. Its content security policy allows scripts, styles,
pictures and clips that lie beside the page, and nothing inline; the only file from outside of it is
the video itself. Names and texts of footage reach the page as JSON (see `chunks.py`) and the
document as text.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ...data_manifests.atomic import write_text
from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted, plain
from ...data_manifests.record import Manifest
from ...extractors.footage.guarded import guarded_probe
from ...extractors.footage.video import ProbeRow
from ..metrics.results import FrameMetrics
from ..report.curves import Times
from ..report.heatmaps import HeatmapStyle
from ..report.stage import LOWER, truth_of
from ..scores.box_counts import BoxCounts
from ..scores.camera_drift import drift_caveat, drift_lines
from ..scores.columns import SCORE, config_of, events_of, levels_of, own_levels_of, warnings_of
from ..scores.folder import ScoreFolder, ScoreFolderError
from ..scores.moments import top_moments
from ..scores.plain_words import add_reasons, general_words
from ..scores.summary import new_scene_lines, own_threshold_lines
from .chunks import packed, packed_floats, write_chunk
from .data import VideoCurve, counts_of, event_values, link_to, video_values, why_unlinked
from .pictures import Limits, draw_media
from .scene_checks import COLUMN, SceneChecks, scene_checks_of
from .similar import similar_events
from .systems import System, open_systems
from .trust_plot import trust_plot
from .verdicts import first_judged, page_id

INDEX = "index.html"
SCRIPTS = (
    *("core.js", "curves.js", "verdicts.js", "list.js", "state.js", "chart.js", "systems.js"),
    *("player.js", "detail.js", "calibration.js", "overview.js", "app.js"),
)
CURVE_BYTES = 1 << 20  # of one file of curves, about
FIRST_EVENTS, MORE_EVENTS = 2_000, 25_000  # in the first file, and in each other one
MOST_RUNS = 8_000_000  # of equal frames: with more, curves are loaded when a video is opened
MOST_FAILURES = 200
CHECK_SHARE = 0.2  # of the pictures and clips of a page, in addition, for checks of the camera
OURS = b'vadpipe.receive("page",'  # how data/page.js begins, see `chunks.script_of`
WRITTEN = re.compile(r"data/(events|scores)-\d+\.js|media/\d+(-\d+)?\.jpg|media/\d+\.webm")


class ReviewError(VadpipeError, ValueError):
    """The review page cannot be written there."""


@dataclass
class _Page:
    """What is gathered video by video."""

    values: list[dict[str, Any]]
    sparks: list[np.ndarray[Any, Any]]
    chunks: int = 0
    runs: int = 0
    low: float = math.inf
    high: float = -math.inf


def write_review(
    score_folder: Path,
    out: Path | None = None,
    *,
    manifest: Manifest | None = None,
    column: str = SCORE,
    beside: Sequence[Path] = (),
    limits: Limits | None = None,
    style: HeatmapStyle | None = None,
    cache: Path | None = None,
    scene_checks: Path | None = None,
    about: Sequence[str] = (),
    probe: Callable[..., ProbeRow] = guarded_probe,
) -> Path:
    """Write the review page of a score folder.

    Args:
        score_folder:
            As the score stage wrote it.
        out:
            Folder of the page: new, empty, or one that holds such a page, which is replaced. None
            takes `review` in the score folder.
        manifest:
            Where labelled anomalies and scenes come from.
        column:
            The score column to show.
        beside:
            Score folders of other systems on the same footage: their curves are drawn with that of
            this one, each score as its quantile among the held-out scores of its own model.
        limits:
            How many moments get pictures and clips.
        style:
            How score maps are drawn.
        cache:
            Root of the cache: events are compared by the features that it still has. None compares
            none.
        scene_checks:
            Score folder of `tampering`: its events are shown apart from the others, with their
            reason. None shows none.
        about:
            What else the page says of the footage, before its own notes.
        probe:
            Opens a file, as in `write_report`.

    Returns:
        The page, `index.html` of the folder.

    Raises:
        ReviewError: the folder holds other files.
        ScoreFolderError: the score folder is incomplete or damaged, or contradicts itself.
        OtherFootageError: what stands beside it is about other footage.
        SystemsError: one of several systems has no held-out rows.
        MetricsError: its metrics are not what evaluate writes.
        CannotWrite: the disk is full or read-only.
    """
    folder, limits = ScoreFolder(score_folder), limits or Limits()
    rows, run, failures = folder.videos(), folder.run(), folder.failures()
    numbers = {row["video_id"]: number for number, row in enumerate(rows)}
    events, levels = _events(folder, column, numbers), levels_of(folder, column)
    moments = top_moments(folder, column, events, most=limits.moments)
    checks = None if scene_checks is None else scene_checks_of(scene_checks, rows)
    out = folder.review if out is None else out
    _check_free(out)
    metrics = _metrics_of(folder, column)
    systems = open_systems(folder, column, beside)
    shown = column, manifest, metrics, events, checks, systems
    page = _renew(out, lambda aside: _write_curves(folder, rows, out, aside, *shown))
    ranked = sorted([*events, *moments], key=lambda e: -e["peak_score"])
    unexplained = add_reasons(folder, [*moments, *events])
    drawing = out / "media", limits, style or HeatmapStyle(), probe
    media, notes = draw_media(folder, rows, numbers, ranked, *drawing)
    media = [{**each, "check": False} for each in media]
    pictures = [drawing[0] / f"{k}.jpg" if m["picture"] else None for k, m in enumerate(media)]
    if checks is not None:
        media += _drawn_checks(checks, numbers, *drawing, first=len(media))
    chunks = _write_events(out, events, numbers)
    values = {
        **_about_run(folder, run, column),
        "threshold": _about_threshold(folder, column, levels),
        "scale": {"low": page.low, "high": page.high} if rows else {"low": 0.0, "high": 1.0},
        "lower": LOWER,
        "notes": [*about, *_about_scores(folder, run, column, manifest, unexplained), *notes]
        + (checks.notes if checks else []),
        "metrics": _about_metrics(metrics),
        "failures": _about_failures(failures),
        "seconds": sum((row["frame_stop"] - row["frame_start"]) / row["fps"] for row in rows),
        "chunks": {"scores": page.chunks, "events": chunks, "all": page.runs <= MOST_RUNS},
        "videos": page.values,
        "sparks": _sparks(page),
        "events": event_values(events[:FIRST_EVENTS], numbers, moments=False),
        "moments": event_values(moments, numbers, moments=True),
        "checks": None if checks is None else checks.values(numbers),
        "checks_column": COLUMN,
        "media": media,
        "systems": [system.values() for system in systems],
        "similar": similar_events(
            *(folder, run, rows, numbers, ranked, cache, limits.similar, pictures)
        ),
    }
    write_chunk(out, "page", values)
    return _write_page(out, values["dataset"])


def _drawn_checks(
    checks: SceneChecks,
    numbers: Mapping[str, int],
    out: Path,
    limits: Limits,
    style: HeatmapStyle,
    probe: Callable[..., ProbeRow],
    *,
    first: int,
) -> list[dict[str, Any]]:
    """Pictures and clips of some checks of the camera, a share of what the page may have."""
    few = {name: math.ceil(getattr(limits, name) * CHECK_SHARE) for name in ("pictures", "clips")}
    limits = limits.model_copy(update=few)
    seen = checks.folder, checks.rows, numbers, checks.events, out, limits
    drawn, _ = draw_media(*seen, style, probe, first=first)
    return [{**each, "check": True} for each in drawn]


def _about_scores(
    folder: ScoreFolder,
    run: Mapping[str, Any],
    column: str,
    manifest: Manifest | None,
    unexplained: Mapping[str, VadpipeError],
) -> list[str]:
    """Why scores and events deserve little trust, as sentences."""
    drift = drift_lines(folder, manifest) if column == SCORE else []
    return [
        *(f"Threshold: {each}." for each in warnings_of(folder, column)),
        *(f"Cameras: {each}." for each in (*new_scene_lines(run), *own_threshold_lines(run))),
        *_about_boxes(run),
        *_about_reasons(unexplained),
        *(f"Drift: {each}." for each in [*drift, *([drift_caveat(manifest)] if drift else [])]),
    ]


def _about_reasons(damaged: Mapping[str, VadpipeError]) -> list[str]:
    """Whose events have no reason since boxes cannot be read, as a sentence."""
    if not damaged:
        return []
    videos, error = counted(len(damaged), "video"), next(iter(damaged.values()))
    return [
        f"Boxes of {videos} cannot be read, so events there have no reason of their own: {error}."
    ]


def _about_boxes(run: Mapping[str, Any]) -> list[str]:
    """Why scores that come from boxes deserve little trust, as sentences."""
    boxes = BoxCounts.of_run(run)
    return [] if boxes is None or not boxes.warning else [f"Boxes: {boxes.warning}."]


def _events(folder: ScoreFolder, column: str, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """The events of a column, highest peak first.

    Raises:
        ScoreFolderError: one is of a video that the table of videos does not name.
    """
    events = events_of(folder, column)
    if strange := [event for event in events if event["video_id"] not in numbers]:
        raise ScoreFolderError(
            f"the table of events names {strange[0]['video_id']!r}, the table of videos does not: "
            "run score again"
        )
    return sorted(events, key=lambda e: (-e["peak_score"], e["video_id"], e["frame_start"]))


def _check_free(out: Path) -> None:
    """Refuse a folder that holds anything but a page.

    Raises:
        ReviewError: the folder holds other files.
    """
    if out.exists() and not out.is_dir():
        raise ReviewError(f"{out} is a file: name a folder for the page")
    if out.is_dir() and any(out.iterdir()) and not _is_page(out):
        raise ReviewError(f"{out} holds other files: name a new or empty folder for the page")


def _is_page(out: Path) -> bool:
    """Whether vadpipe has written the page there; any website has an index.html."""
    try:
        with (out / "data" / "page.js").open("rb") as file:
            return file.read(len(OURS)) == OURS
    except OSError:
        return False


def _clear(out: Path) -> None:
    """Delete an earlier page but for its data/page.js, which marks the folder; nothing else."""
    (out / INDEX).unlink(missing_ok=True)  # last to be written, so first to go
    for name in ("media", "data"):
        if (out / name).is_dir() and not (out / name).is_symlink():
            for path in (out / name).iterdir():
                if WRITTEN.fullmatch(f"{name}/{path.name}"):
                    path.unlink()


def _renew(out: Path, write: Callable[[Path], _Page]) -> _Page:
    """Replace an earlier page by curves that are whole: a part that cannot be read costs none."""
    with tempfile.TemporaryDirectory() as made:
        page = write(Path(made))
        _clear(out)
        for number in range(page.chunks):
            name = Path("data", f"scores-{number}.js")
            write_text(out / name, (Path(made) / name).read_text(encoding="utf-8"))
    return page


def _write_curves(
    folder: ScoreFolder,
    rows: Sequence[Mapping[str, Any]],
    out: Path,
    aside: Path,
    column: str,
    manifest: Manifest | None,
    metrics: FrameMetrics | None,
    events: Sequence[Mapping[str, Any]],
    checks: SceneChecks | None,
    systems: Sequence[System],
) -> _Page:
    """Write the curves of all videos, some to a file below `aside`; returns what `out` shows."""
    config, counts, own = config_of(folder), counts_of(events), own_levels_of(folder, column)
    truth: dict[str, Times] = truth_of(manifest)
    scenes = {} if manifest is None else {r.video_id: r.scene for r in manifest.records}
    aucs = {} if metrics is None else {row.video_id: row.auc for row in metrics.videos}
    page, waiting, size = _Page([], []), [], 0
    for number, row in enumerate(rows):
        video_id = row["video_id"]
        curve = VideoCurve.of(folder.scores(video_id, column), column)
        if checks is not None:
            curve = checks.with_curve(curve, video_id)
        path = row["path"] or ""
        link = link_to(path, out)
        values = video_values(
            row,
            curve,
            config,
            events=counts[video_id],
            link=link,
            unlinked=why_unlinked(path, row["kind"], link),
            scene=scenes.get(video_id) if row.get("scene") is None else row["scene"],
            truth=truth.get(video_id),
            auc=aucs.get(video_id),
        )
        page.values.append({**values, "chunk": page.chunks, "levels": own.get(video_id)})
        page.sparks.append(curve.spark())
        page.low, page.high = min(page.low, curve.lowest), max(page.high, curve.highest)
        page.runs += len(curve.values)
        others = [system.curve(video_id) for system in systems]
        waiting.append(_stored(curve) | ({"systems": [s for s, _ in others]} if others else {}))
        size += 16 * (len(curve.values) + sum(runs for _, runs in others))
        if size >= CURVE_BYTES or number == len(rows) - 1:
            first = number + 1 - len(waiting)
            write_chunk(aside, f"scores-{page.chunks}", {"first": first, "curves": waiting})
            page.chunks, waiting, size = page.chunks + 1, [], 0
    return page


def _stored(curve: VideoCurve) -> dict[str, Any]:
    return {
        "first": curve.first,
        "lengths": packed_floats(curve.lengths.astype(np.float64)),
        "values": packed_floats(curve.values),
        "parts": [
            {"name": name, "frames": packed(at, "f8"), "values": packed(values, "f4")}
            for name, (at, values) in curve.parts.items()
        ],
    }


def _sparks(page: _Page) -> str:
    """The sparklines of all videos, to one scale of 0 to 255."""
    if not page.sparks:
        return ""
    span = page.high - page.low or 1.0
    with np.errstate(all="ignore"):  # scores may be as large as numbers can be
        shares = np.nan_to_num((np.stack(page.sparks) - page.low) / span, nan=0.0)
    return packed(np.rint(255 * np.clip(shares, 0, 1)).ravel(), "u1")


def _write_events(
    out: Path, events: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]
) -> int:
    """Write all events but the first ones; returns the number of files."""
    pieces = range(FIRST_EVENTS, len(events), MORE_EVENTS)
    for k, at in enumerate(pieces):
        some = events[at : at + MORE_EVENTS]
        write_chunk(out, f"events-{k}", event_values(some, numbers, moments=False))
    return len(pieces)


def _about_run(folder: ScoreFolder, run: Mapping[str, Any], column: str) -> dict[str, Any]:
    model = run.get("model") or {}
    return {
        "id": page_id(run, column),
        "key": str(model.get("key") or ""),
        "first": str(first_judged(run) or ""),
        "dataset": str(run.get("dataset") or "Footage"),
        "detector": str(model.get("detector") or ""),
        "model": str(model.get("folder") or ""),
        "scores": str(folder.path.absolute()),
        "created": str(run.get("created") or ""),
        "words": general_words(run),
        "calibration": trust_plot(folder, column),
        "smooth": folder.smoothing() if column == SCORE else None,
        "column": column,
    }


def _about_threshold(
    folder: ScoreFolder, column: str, levels: tuple[float, float] | None
) -> dict[str, float | None]:
    """The levels of events, and the highest score of normal footage that training did not see."""
    held_out = folder.held_out()
    known = held_out is not None and column in held_out.columns
    values = held_out.values(column) if held_out is not None and known else np.empty(0)
    finite = values[np.isfinite(values)]
    high, low = levels or (None, None)
    return {"high": high, "low": low, "top": float(finite.max()) if len(finite) else None}


def _metrics_of(folder: ScoreFolder, column: str) -> FrameMetrics | None:
    extra = folder.metrics(column)
    return None if extra is None else FrameMetrics.from_json(extra)


def _about_failures(failures: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """How many videos have failed, and the first reasons."""
    videos = {failure["video_id"] for failure in failures}
    return {"total": len(videos), "rows": failures[:MOST_FAILURES]}


def _about_metrics(metrics: FrameMetrics | None) -> list[tuple[str, str]]:
    if metrics is None:
        return []
    named = (
        ("Micro AUC", metrics.micro_auc),
        ("Macro AUC", metrics.macro_auc_valid),
        ("Average precision", metrics.average_precision),
    )
    return [(name, f"{100 * value:.2f} %") for name, value in named if value is not None]


def _write_page(out: Path, title: str) -> Path:
    source = files(__package__)
    for name in ("review.css", "icon.svg", *(f"js/{script}" for script in SCRIPTS)):
        write_text(out / name, source.joinpath(*name.split("/")).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(source.joinpath(f"{INDEX}.j2").read_text(encoding="utf-8"))
    write_text(out / INDEX, template.render(title=plain(title), scripts=SCRIPTS))
    return out / INDEX
