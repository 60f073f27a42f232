"""FiftyOne temporal detections: `FiftyOneTemporalDetectionDataset`.

`labels.json` has the events, `data.json` the paths of the footage (the parameters `labels_path` and
`data_path` of `Dataset.from_dir`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from .videos import LABEL, VideoEvents


def write_fiftyone(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """Two files; frames count from 1, and the last one belongs to the event."""
    labels = {
        video.video_id: [
            {
                "label": LABEL,
                "support": [event.frame_start + 1, event.frame_stop],
                "attributes": {
                    "event_id": event.event_id,
                    "peak_score": event.peak_score,
                    "mean_score": event.mean_score,
                    "peak_frame": event.peak_frame + 1,
                    "explain": event.explain,
                    "words": event.words,
                },
            }
            for event in video.events
        ]
        for video in videos
    }
    yield "labels.json", json.dumps({"classes": [LABEL], "labels": labels}, indent=1) + "\n"
    paths = {
        video.video_id: video.path if media is None else video.media(media) for video in videos
    }
    yield "data.json", json.dumps(paths, indent=1) + "\n"
