"""ELAN (EAF 3.0): one file a video, with a tier of events."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from .videos import VideoEvents

TIER, TYPE = "events", "default-lt"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
DATE = "1970-01-01T00:00:00+00:00"  # required; files of equal events are equal


def write_elan(videos: Sequence[VideoEvents], media: str | None) -> Iterator[tuple[str, str]]:
    """One file for each video; times in milliseconds."""
    ElementTree.register_namespace("xsi", XSI)
    for video in videos:
        root = ElementTree.Element(
            "ANNOTATION_DOCUMENT",
            {
                "AUTHOR": "vadpipe",
                "DATE": DATE,
                "FORMAT": "3.0",
                "VERSION": "3.0",
                f"{{{XSI}}}noNamespaceSchemaLocation": SCHEMA,
            },
        )
        header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
        kind = mimetypes.guess_type(video.path)[0] or "unknown"
        ElementTree.SubElement(
            header, "MEDIA_DESCRIPTOR", MEDIA_URL=_address(video, media), MIME_TYPE=kind
        )
        order = ElementTree.SubElement(root, "TIME_ORDER")
        tier = ElementTree.SubElement(root, "TIER", TIER_ID=TIER, LINGUISTIC_TYPE_REF=TYPE)
        for number, event in enumerate(video.events, start=1):
            start = round(1000 * event.start_s)
            slots = (f"ts{2 * number - 1}", f"ts{2 * number}")
            for slot, time in zip(
                slots, (start, max(round(1000 * event.end_s), start + 1)), strict=True
            ):
                ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
            annotation = ElementTree.SubElement(
                ElementTree.SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number}",
                TIME_SLOT_REF1=slots[0],
                TIME_SLOT_REF2=slots[1],
            )
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = event.caption
        ElementTree.SubElement(
            root,
            "LINGUISTIC_TYPE",
            GRAPHIC_REFERENCES="false",
            LINGUISTIC_TYPE_ID=TYPE,
            TIME_ALIGNABLE="true",
        )
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        yield video.file(".eaf"), f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _address(video: VideoEvents, media: str | None) -> str:
    if media is not None or not video.path:
        return video.media(media)
    return f"file://{quote(str(Path(video.path).absolute()), errors='surrogateescape')}"
