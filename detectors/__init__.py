"""arrays -> scores: small trainable networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from .base import Detector

# Name -> module and class; the classes are imported when they are asked for (torch takes seconds).
_PLACES = {
    "knn": ("knn", "KNN"),
    "mil_ranking": ("mil_ranking", "MILRanking"),
    "rtfm": ("rtfm", "RTFM"),
    "ssrl": ("ssrl", "SSRL"),
}


class _Detectors(Mapping[str, type[Detector[Any]]]):
    def __getitem__(self, name: str) -> type[Detector[Any]]:
        module, kind = _PLACES[name]
        found: type[Detector[Any]] = getattr(import_module(f".{module}", __name__), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


DETECTORS: Mapping[str, type[Detector[Any]]] = _Detectors()

__all__ = ["DETECTORS"]
