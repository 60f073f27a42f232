"""JSON: every video with its events, the numbers as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from .videos import VideoEvents

VERSION = 1


def write_json(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """One file; frames count from 0, and `frame_stop` is one past the last."""
    values = {
        "format": "vadpipe events",
        "version": VERSION,
        "videos": [{**asdict(video), "media": video.media(media)} for video in videos],
    }
    yield "events.json", json.dumps(values, indent=1) + "\n"
