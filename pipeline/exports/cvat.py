"""CVAT for video 1.1: one file a video, each event a track of one box around the whole frame.

CVAT has no intervals. A track is there from its first frame to the frame that is marked `outside`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from .videos import LABEL, ExportError, VideoEvents, inert


def write_cvat(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """One file for each video; frames count from 0.

    Raises:
        ExportError: the size of the frames of a video is not known.
    """
    unknown = [video.video_id for video in videos if video.width is None or video.height is None]
    if unknown:
        raise ExportError(
            f"cvat needs the size of the frames, and {unknown[0]!r} ({len(unknown)} in all) has "
            "none: score footage instead of imported features, or take another format"
        )
    for video in videos:
        root = ElementTree.Element("annotations")
        _add(root, "version", "1.1")
        task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
        _add(task, "name", inert(video.video_id))
        _add(task, "size", str(video.n_frames))
        _add(task, "mode", "interpolation")
        label = ElementTree.SubElement(ElementTree.SubElement(task, "labels"), "label")
        _add(label, "name", LABEL)
        ElementTree.SubElement(label, "attributes")
        size = ElementTree.SubElement(task, "original_size")
        _add(size, "width", str(video.width))
        _add(size, "height", str(video.height))
        for number, event in enumerate(video.events):
            track = ElementTree.SubElement(root, "track", id=str(number), label=LABEL)
            last = event.frame_stop - 1
            frames = [(event.frame_start, 0)]
            if event.frame_stop < video.n_frames:
                frames.append((event.frame_stop, 1))
            elif last > event.frame_start:
                frames.append((last, 0))
            for frame, outside in frames:
                ElementTree.SubElement(
                    track,
                    "box",
                    frame=str(frame),
                    outside=str(outside),
                    occluded="0",
                    keyframe="1",
                    xtl="0",
                    ytl="0",
                    xbr=str(video.width),
                    ybr=str(video.height),
                    z_order="0",
                )
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
        yield video.file(".xml"), f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
