"""CSV (RFC 4180): one line an event, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from .videos import VideoEvents, inert

COLUMNS = (
    *("video_id", "event_id", "path", "fps", "frame_start", "frame_stop", "start_s", "end_s"),
    *(
        "peak_frame",
        "peak_s",
        "peak_score",
        "mean_score",
        "explain",
        "words",
        "scene",
        "scene_trained",
    ),
)
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes what begins so


def write_csv(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """One file; frames count from 0, and `frame_stop` is one past the last.

    Texts that a spreadsheet would compute get an apostrophe in front. `scene_trained` is true,
    false, or empty where it is not known.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for video in videos:
        for event in video.events:
            writer.writerow(
                [
                    *map(_cell, (video.video_id, event.event_id, video.media(media))),
                    *(video.fps, event.frame_start, event.frame_stop, event.start_s, event.end_s),
                    *(event.peak_frame, event.peak_s, event.peak_score, event.mean_score),
                    _cell(event.explain),
                    _cell(event.words),
                    _cell(video.scene or ""),
                    "" if video.scene_trained is None else str(video.scene_trained).lower(),
                ]
            )
    yield "events.csv", out.getvalue()


def _cell(text: str) -> str:
    shown = inert(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
