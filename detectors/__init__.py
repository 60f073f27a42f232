"""arrays -> scores: small trainable networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Detector
from .knn import KNN

DETECTORS: Mapping[str, type[Detector[Any]]] = {
    "knn": KNN,
}

__all__ = ["DETECTORS"]
