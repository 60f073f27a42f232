"""What a measurement returns, and what `metrics.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..scores.frames import MetricsError

Padding = Literal["extreme", "literal"]


class _Measured(BaseModel):
    # Extra keys are ignored: `evaluate` may keep further facts in the same file.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True)
class Spread:
    """One metric over several runs.

    Attributes:
        mean: of the runs.
        std: sample standard deviation (n - 1).
        min: lowest.
        max: highest.
    """

    mean: float
    std: float
    min: float
    max: float


class VideoMetrics(_Measured):
    """One video.

    Attributes:
        video_id: as in the manifest.
        n_frames: frames that the video has.
        n_abnormal: those labelled abnormal.
        n_padding: frames that were measured in addition.
        auc: None where all frames have one label.
        auc_padded: with a normal frame of the lowest and an abnormal one of the highest score.
        category: the data set's own class of anomaly.
        labels_sha256: of its labels, see `digest_of_labels`; None in results of earlier versions.
    """

    video_id: str
    n_frames: int
    n_abnormal: int
    n_padding: int = 0
    auc: float | None
    auc_padded: float
    category: str | None = None
    labels_sha256: str | None = None


class CategoryMetrics(_Measured):
    """The abnormal videos of one category, ranked together with all normal videos.

    Attributes:
        category: its name in the manifest.
        n_videos: videos of the category that have abnormal frames.
        n_frames: frames that these videos have.
        n_abnormal: those labelled abnormal.
        micro_auc: over the frames of these and of all normal videos; None where all have one label.
        average_precision: over the same frames; None where all have one label.
    """

    category: str
    n_videos: int
    n_frames: int
    n_abnormal: int
    micro_auc: float | None
    average_precision: float | None


class FalseAlarms(_Measured):
    """How much of what is normal lies above a threshold; padding is not counted.

    Attributes:
        threshold: raw score; "above" is strict.
        n_videos: normal videos.
        n_frames_of_videos: their frames.
        n_frames: normal frames of all videos.
        rate_of_videos: share of the frames of normal videos; None where there are none.
        rate: share of all normal frames; None where there are none.
        rule: where the threshold comes from, in words; "" in results of earlier versions.
    """

    threshold: float
    n_videos: int
    n_frames_of_videos: int
    n_frames: int
    rate_of_videos: float | None
    rate: float | None
    rule: str = ""


class Bootstrap(_Measured):
    """Percentile intervals from many draws of videos, with replacement.

    Each replicate draws as many videos with abnormal frames, and as many without, as there are.

    Attributes:
        replicates: drawings.
        n_undefined: how many of them had frames of one class only and were left out.
        seed: of the drawings.
        level: share of the replicates inside an interval.
        n_abnormal_videos: videos with abnormal frames.
        n_normal_videos: videos without.
        micro_auc: lower and upper end.
        average_precision: lower and upper end.
    """

    replicates: int
    n_undefined: int
    seed: int
    level: float
    n_abnormal_videos: int
    n_normal_videos: int
    micro_auc: tuple[float, float]
    average_precision: tuple[float, float]


class Alignment(_Measured):
    """How rows of scores were put on frames, see docs/evaluation.md.

    Attributes:
        used: "exact" cuts to the frames that a video has; "pad16" repeats the score of every
            snippet 16 times and pads the labels.
        asked: what was asked for.
        rows: what the rows are, in words.
        pad_label: the label of the frames that "pad16" adds after the end: the "last" or "normal".
        exact_micro_auc: of "exact"; None where it is undefined.
        pad16_micro_auc: of "pad16"; None where it is undefined or the rows are no snippets.
    """

    used: Literal["exact", "pad16"]
    asked: Literal["auto", "exact", "pad16"]
    rows: str
    pad_label: Literal["last", "normal"]
    exact_micro_auc: float | None
    pad16_micro_auc: float | None


class RocCurve(_Measured):
    """Points of the micro ROC curve from (0, 0) to (1, 1), thinned for drawing."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


class SizeMetrics(_Measured):
    """A third of the abnormal frames, by the share of the frame that is abnormal.

    Attributes:
        name: "small", "medium" or "large".
        smallest: share of abnormal pixels in the frame where it is smallest.
        largest: and where it is largest.
        n_frames: abnormal frames of this third.
        micro_auc: over these and all normal frames.
        recall_at_fpr: share of these with a score that at most `fpr` of the normal frames exceed.
        fpr: share of the normal frames.
        recall: share of these above the threshold of the run; None where it has none.
    """

    name: Literal["small", "medium", "large"]
    smallest: float
    largest: float
    n_frames: int
    micro_auc: float
    recall_at_fpr: float
    fpr: float
    recall: float | None


class RegionCurve(_Measured):
    """Found regions and tracks against false alarms a frame, from 0 to 1, thinned for drawing."""

    fpr: tuple[float, ...]
    rbdr: tuple[float, ...]
    tbdr: tuple[float, ...]


class RegionMetrics(_Measured):
    """Boxes against labelled tracks, see docs/evaluation.md.

    Attributes:
        rbdc: area under the rate of found regions, up to one false alarm a frame.
        tbdc: area under the rate of found tracks, up to one false alarm a frame.
        n_videos: videos measured.
        n_frames: frames of these.
        n_regions: labelled regions.
        n_tracks: labelled tracks.
        n_detections: scored boxes.
        n_false: those that overlap no region.
        n_matched: those that find a region first.
        n_neutral: those that overlap only regions found before.
        regions_found: regions found by any box.
        tracks_found: tracks found by all boxes.
        alpha: share of a track's regions from which on it is found.
        beta: overlap from which on a box finds a region.
        boxes: what the boxes are, in words.
        tracks: where the labelled tracks come from.
        tracks_sha256: of these tracks, see `TrackFile`.
        left_out: videos with abnormal frames and without tracks, or without boxes or maps.
        curve: for drawing.
    """

    rbdc: float
    tbdc: float
    n_videos: int
    n_frames: int
    n_regions: int
    n_tracks: int
    n_detections: int
    n_false: int
    n_matched: int
    n_neutral: int
    regions_found: int
    tracks_found: int
    alpha: float
    beta: float
    boxes: str
    tracks: str
    tracks_sha256: str
    left_out: tuple[str, ...] = ()
    curve: RegionCurve


class EventMetrics(_Measured):
    """Events against labelled anomalies, see docs/evaluation.md.

    Attributes:
        n_events: events in the measured frames.
        n_right: those that share a frame with an anomaly.
        n_anomalies: labelled ones; those that touch are one.
        n_found: those that share a frame with an event.
        precision: n_right / n_events; None without events.
        recall: n_found / n_anomalies; None without anomalies.
        overlap: intersection over union in time of the strict count.
        n_paired: pairs with this overlap, each event and each anomaly in one at most.
        strict_f1: 2 n_paired / (n_events + n_anomalies); None without either.
        hours: of the measured footage.
        false_per_hour: events that are not right, for each hour.
        median_delay: seconds from the start of a found anomaly to the first event that meets it, 0
            where the event starts before; None where none is found.
    """

    n_events: int
    n_right: int
    n_anomalies: int
    n_found: int
    precision: float | None
    recall: float | None
    overlap: float
    n_paired: int
    strict_f1: float | None
    hours: float
    false_per_hour: float
    median_delay: float | None


class FrameMetrics(_Measured):
    """Frame-level metrics of a data set; None where a number is undefined, see `undefined`.

    Attributes:
        n_videos: videos measured.
        n_frames: frames that these videos have.
        n_abnormal: those labelled abnormal.
        n_padding: frames that were measured in addition.
        n_padding_abnormal: those labelled abnormal.
        micro_auc: area under one ROC curve over the frames of all videos.
        macro_auc_padded: mean of the padded AUC of every video, as most papers report it; one-class
            videos add a free 1.
        macro_auc_valid: mean AUC of the videos that have both classes.
        n_valid: number of those videos.
        average_precision: sum of precision times steps of recall, over the frames of all videos.
        pr_auc: trapezoids under the precision-recall points, over the frames of all videos; not the
            same number as average_precision.
        latency_aware_ap: average precision with a recall that counts the onset of an anomaly more
            than its end, see `metrics/latency.py`; None also in results of earlier versions.
        score_gap: mean score of abnormal frames minus that of normal ones, in units of the score.
        abnormal_videos_auc: like micro_auc, over the videos that have abnormal frames.
        categories: in order of their names; () where the manifest has none.
        false_alarms: None where no threshold is known.
        bootstrap: None where none was asked for.
        alignment: None where the caller put the scores on frames.
        padding: "extreme" or "literal", see `frame_metrics`.
        undefined: name of a metric that is None -> why.
        roc: None where micro_auc is.
        sizes: the thirds of the abnormal frames by size; () where there are no pixel masks.
        regions: boxes against tracks; None where there are no tracks, or neither boxes nor maps.
        events: events against anomalies; None where there is no threshold, and where the scores
            that were measured are not those that the events are of.
        labels_sha256: of the labels of all videos, see `joined_digest`; None in results of earlier
            versions.
        videos: one row a video, in the given order.
    """

    n_videos: int
    n_frames: int
    n_abnormal: int
    n_padding: int = 0
    n_padding_abnormal: int = 0
    micro_auc: float | None
    macro_auc_padded: float
    macro_auc_valid: float | None
    n_valid: int
    average_precision: float | None
    pr_auc: float | None
    latency_aware_ap: float | None = None
    score_gap: float | None
    abnormal_videos_auc: float | None = None
    categories: tuple[CategoryMetrics, ...] = ()
    false_alarms: FalseAlarms | None = None
    bootstrap: Bootstrap | None = None
    alignment: Alignment | None = None
    padding: Padding
    undefined: Mapping[str, str]
    roc: RocCurve | None
    sizes: tuple[SizeMetrics, ...] = ()
    regions: RegionMetrics | None = None
    events: EventMetrics | None = None
    labels_sha256: str | None = None
    videos: tuple[VideoMetrics, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what `metrics.json` holds at its top level."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrameMetrics:
        """Read what `to_json` returned, in this version or an earlier one. Other keys are ignored.

        Raises:
            MetricsError: a value is missing or is not what it should be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise MetricsError(
                f"these are not the metrics that evaluate writes (run it again): {error}"
            ) from error
