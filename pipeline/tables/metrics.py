"""What `evaluate` prints."""

from __future__ import annotations

from ...data_manifests.plain_text import counted
from ..evaluate import Evaluated, EvaluatedRuns
from ..metrics.results import Alignment, EventMetrics, FrameMetrics, RegionMetrics, SizeMetrics


def metrics_lines(done: Evaluated) -> list[str]:
    """What evaluate prints: numbers over all videos, then what they leave out."""
    m = done.metrics
    auc, precision = _auc_and_ap(m)
    lines = [
        f"micro AUC {auc}   macro AUC padded {_percent(m.macro_auc_padded)}   "
        f"macro AUC valid-only {_percent(m.macro_auc_valid)} ({m.n_valid} of {m.n_videos} videos)",
        f"AP {precision}   PR AUC {_percent(m.pr_auc)}   latency-aware AP "
        f"{_percent(m.latency_aware_ap)}   frames {m.n_frames} ({m.n_abnormal} abnormal)",
    ]
    if m.score_gap is not None:
        lines.append(
            f"score gap {m.score_gap:.4g}: mean score of abnormal frames minus that of normal ones"
        )
    if m.abnormal_videos_auc is not None:
        n = sum(v.n_abnormal > 0 for v in m.videos)
        lines.append(
            f"micro AUC of abnormal videos only {_percent(m.abnormal_videos_auc)} "
            f"({n} of {m.n_videos} videos)"
        )
    if m.false_alarms is not None and m.false_alarms.rate is not None:
        f = m.false_alarms
        rule = f" ({f.rule})" if f.rule else ""
        line = f"above the threshold {f.threshold:.4g}{rule}: "
        line += f"{_percent(f.rate)} % of all normal frames"
        if f.rate_of_videos is not None:
            rate = _percent(f.rate_of_videos)
            line += f", {rate} % of the frames of {f.n_videos} normal videos"
        lines.append(line)
    if m.events is not None:
        lines.append(_event_line(m.events))
    if m.regions is not None:
        lines += _region_lines(m.regions)
    if m.bootstrap is not None:
        b = m.bootstrap
        lines.append(
            f"[ ] {100 * b.level:g} % intervals: {b.replicates} bootstrap samples of "
            f"{b.n_abnormal_videos} abnormal and {b.n_normal_videos} normal videos, seed {b.seed}"
        )
    if m.alignment is not None:
        lines.append(_alignment_line(m, m.alignment))
    if m.labels_sha256 is not None:
        lines.append(f"labels: sha256 {m.labels_sha256}")
    if done.smooth is not None:
        lines.append(f"scores of {done.column} smoothed over time by {done.smooth}")
    if done.normalise == "video":
        lines.append("the scores of each video are scaled to [0, 1]: compare with such scores only")
    if done.scored_only:
        lines.append(
            f"only frames with a score of their own: {done.left_out} of "
            f"{m.n_frames + done.left_out} are left out, with their labels"
        )
    lines += [f"{name}: {why}" for name, why in m.undefined.items()]
    if done.unlabelled:
        lines.append(f"without frame labels: {', '.join(done.unlabelled[:10])}")
    if done.unscored:
        lines.append(f"without scores: {', '.join(done.unscored[:10])}")
    return lines


def detail_lines(done: Evaluated) -> list[str]:
    """What evaluate prints of each category and of each video."""
    m = done.metrics
    lines = []
    if m.categories:
        lines.append("abnormal videos of one category, with all normal videos:")
        lines += [
            f"  {c.category}\tmicro AUC {_percent(c.micro_auc)}\tAP {_percent(c.average_precision)}"
            f"\t{counted(c.n_videos, 'video')}"
            for c in m.categories
        ]
        unnamed = sum(v.n_abnormal > 0 and v.category is None for v in m.videos)
        if unnamed:
            noun = counted(unnamed, "abnormal video")
            lines.append(f"  {noun} {'has' if unnamed == 1 else 'have'} no category")
    if m.sizes:
        lines.append("abnormal frames by the share of the frame that is abnormal:")
        lines += [_size_line(size) for size in m.sizes]
    lines += [
        f"  {v.video_id}\t{'-' if v.auc is None else _percent(v.auc)}\t"
        f"{v.n_abnormal} of {v.n_frames} frames abnormal"
        for v in m.videos
    ]
    return lines


def runs_lines(done: EvaluatedRuns) -> list[str]:
    """What evaluate prints of several runs: a line each, then how far they spread."""
    lines = []
    for name, run in done.runs.items():
        auc, precision = _auc_and_ap(run.metrics)
        aligned = run.metrics.alignment
        how = "" if aligned is None else f"\t{aligned.used}"
        how += "" if run.smooth is None else f"\t{run.smooth}"
        how += f"\twithout {counted(run.left_out, 'frame')}" if run.scored_only else ""
        lines.append(f"{name}\tmicro AUC {auc}\tAP {precision}{_boxes_and_sizes(run.metrics)}{how}")
    for name, label in (("micro_auc", "micro AUC"), ("average_precision", "AP")):
        if name in done.spread:
            s = done.spread[name]
            lines.append(
                f"{label} of {len(done.runs)} runs: mean {_percent(s.mean)}, standard deviation "
                f"{_percent(s.std)}, from {_percent(s.min)} to {_percent(s.max)}"
            )
        else:
            lines.append(f"{label} is undefined in a run: no mean")
    return lines


def _boxes_and_sizes(m: FrameMetrics) -> str:
    """RBDC, TBDC and the AUC of each third by size, where there are any, for one line."""
    cells = [] if m.regions is None else [("RBDC", m.regions.rbdc), ("TBDC", m.regions.tbdc)]
    cells += [(f"{size.name} AUC", size.micro_auc) for size in m.sizes]
    return "".join(f"\t{name} {_percent(value)}" for name, value in cells)


def _event_line(e: EventMetrics) -> str:
    """Right events, found anomalies, false alarms and delay."""
    line = f"events: precision {_percent(e.precision)} ({e.n_right} of {e.n_events} right), recall "
    line += (
        f"{_percent(e.recall)} ({e.n_found} of {counted(e.n_anomalies, 'anomaly', 'anomalies')} "
    )
    line += f"found), {e.false_per_hour:.3g} false alarms an hour"
    if e.median_delay is not None:
        line += f", median delay {e.median_delay:.1f} s"
    if e.strict_f1 is not None:
        line += f"; F1 {_percent(e.strict_f1)} at an overlap of {e.overlap:g}"
    return line


def _region_lines(r: RegionMetrics) -> list[str]:
    lines = [
        f"RBDC {_percent(r.rbdc)}   TBDC {_percent(r.tbdc)}   {counted(r.n_regions, 'region')} "
        f"in {counted(r.n_tracks, 'track')}, {r.n_detections} {r.boxes}",
        f"tracks: {r.tracks}, sha256 {r.tracks_sha256}",
    ]
    if r.left_out:
        lines.append(f"without tracks or boxes: {', '.join(r.left_out[:10])}")
    return lines


def _size_line(s: SizeMetrics) -> str:
    recall = "" if s.recall is None else f", {_percent(s.recall)} % above the threshold"
    return (
        f"  {s.name} ({100 * s.smallest:.3g} to {100 * s.largest:.3g} %)\tmicro AUC "
        f"{_percent(s.micro_auc)}\trecall {_percent(s.recall_at_fpr)} % with alarms on "
        f"{100 * s.fpr:g} % of normal frames{recall}\t{counted(s.n_frames, 'frame')}"
    )


def _alignment_line(m: FrameMetrics, a: Alignment) -> str:
    if a.used == "pad16":
        how = (
            f"pad16: {a.rows} repeated 16 times, {m.n_padding} frames of padding take the "
            f"{a.pad_label} label ({m.n_padding_abnormal} abnormal); "
            f"exact gives micro AUC {_percent(a.exact_micro_auc)}"
        )
    else:
        how = f"exact: {a.rows}, the frames that a video has"
        if a.pad16_micro_auc is not None:
            how += f"; pad16 gives micro AUC {_percent(a.pad16_micro_auc)}"
    return f"alignment {how}"


def _auc_and_ap(m: FrameMetrics) -> tuple[str, str]:
    """Micro AUC and AP, with their intervals where there are any."""
    auc, precision = _percent(m.micro_auc), _percent(m.average_precision)
    if m.bootstrap is None:
        return auc, precision
    ends = [
        f" [{_percent(low)}, {_percent(high)}]"
        for low, high in (m.bootstrap.micro_auc, m.bootstrap.average_precision)
    ]
    return auc + ends[0], precision + ends[1]


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"
