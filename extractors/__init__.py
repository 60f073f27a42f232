"""pixels -> arrays: frozen networks on the fastest device there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a process that only decodes needs no more than this file
    from .base import Extractor


class _Registry(Mapping[str, "type[Extractor[Any]]"]):
    """A literal dict of names whose classes are imported on first use: torch takes seconds."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Extractor[Any]]:
        module, _, attribute = self._places[name].partition(":")
        found: type[Extractor[Any]] = getattr(import_module(module, __package__), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


EXTRACTORS: Mapping[str, type[Extractor[Any]]] = _Registry(
    {
        "inception_i3d": ".networks.inception_i3d:InceptionI3DFeatures",
        "i3d_r50": ".networks.i3d_r50:I3DR50Features",
        "i3d_r50_ptv": ".networks.i3d_r50:I3DR50PtvFeatures",
        "patch_cubes": ".patch_cubes:PatchCubes",
        "vifi_clip": ".networks.clip_vit:ViFiClipFeatures",
        "frames": ".frames:Frames",
        "null": ".null:NullFeatures",
    }
)

__all__ = ["EXTRACTORS"]
