"""The manifest of a data set by its name."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from ...data_manifests.choices import choices
from ...data_manifests.record import Manifest, ManifestError
from ..registry import DATASETS


def build_manifest(dataset: str, root: Path, options: dict[str, Any] | None = None) -> Manifest:
    """The manifest of a data set.

    Raises:
        ManifestError: there is no such data set or option, or it is not what it should be.
    """
    if dataset not in DATASETS:
        raise ManifestError(f"no data set {dataset!r}; there are: {choices(DATASETS, dataset)}")
    known = [name for name in signature(DATASETS[dataset]).parameters if name != "root"]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ManifestError(
            f"{dataset} has no option {', '.join(unknown)}; it has: {choices(known, *unknown)}"
        )
    return DATASETS[dataset](root, **(options or {}))
