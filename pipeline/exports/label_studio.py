"""Label Studio: tasks with pre-annotations of the control `TimelineLabels`.

The labelling configuration that fits is in docs/export.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from .videos import LABEL, VideoEvents

CONTROL, OBJECT = "events", "video"  # names in the labelling configuration


def write_label_studio(
    videos: Sequence[VideoEvents], media: str | None
) -> Iterator[tuple[str, str]]:
    """One file of tasks; frames count from 1, and the last one belongs to the event."""
    tasks = [
        {
            "data": {
                OBJECT: video.media(media),
                "video_id": video.video_id,
                "fps": video.fps,
            },
            "predictions": [
                {
                    "model_version": "vadpipe",
                    "score": max((event.peak_score for event in video.events), default=0.0),
                    "result": [
                        {
                            "id": event.event_id,
                            "type": "timelinelabels",
                            "from_name": CONTROL,
                            "to_name": OBJECT,
                            "value": {
                                "ranges": [
                                    {"start": event.frame_start + 1, "end": event.frame_stop}
                                ],
                                "timelinelabels": [LABEL],
                            },
                            "meta": {"text": [event.caption]},
                        }
                        for event in video.events
                    ],
                }
            ],
        }
        for video in videos
    ]
    yield "tasks.json", json.dumps(tasks, indent=1) + "\n"
