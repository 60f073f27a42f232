"""WebVTT chapters (W3C): one file a video, which players show as marks on the time line.

They are for people who look: why, in words and without numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .videos import VideoEvents

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})  # no cue may hold "-->"


def write_webvtt(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """One file for each video, also without events: a player then shows none."""
    for video in videos:
        cues = ["WEBVTT"]
        for number, event in enumerate(video.events, start=1):
            start = round(1000 * event.start_s)
            end = max(round(1000 * event.end_s), start + 1)  # a cue ends after its start
            caption = event.sentence.translate(_ESCAPES)
            cues.append(f"{number}\n{timestamp(start)} --> {timestamp(end)}\n{caption}")
        yield video.file(".vtt"), "\n\n".join(cues) + "\n"


def timestamp(milliseconds: int) -> str:
    """Milliseconds as hours (two digits or more), minutes, seconds and a fraction."""
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}"
