"""The manifest of a data set by its name, and drawn data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import validate_call

from ... import data_manifests
from ...data_manifests.choices import choices
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.several import FootageFolder, build_several
from ..registry import DATASETS


def build_manifest(dataset: str, root: Path, options: dict[str, Any] | None = None) -> Manifest:
    """The manifest of a data set.

    Raises:
        ManifestError: there is no such data set or option, or it is not what it should be.
    """
    if dataset not in DATASETS:
        raise ManifestError(f"no data set {dataset!r}; there are: {choices(DATASETS, dataset)}")
    _check_options(dataset, DATASETS[dataset], options or {})
    return DATASETS[dataset](root, **(options or {}))


def build_footage(
    roots: Sequence[Path], normal: Sequence[Path], test: Sequence[Path], options: dict[str, Any]
) -> Manifest:
    """The manifest of one or several folders of footage.

    Args:
        roots:
            Folders or files; `options` hold for these. Without any, only `exclude` and `scene_from`
            may be given, which hold for all folders.
        normal:
            Folders of normal footage, for training.
        test:
            Folders of footage for testing.
        options:
            Of the data set footage.

    Raises:
        ManifestError: there is no footage, no such option, or a folder is not what it should be.
    """
    if len(roots) == 1 and not normal and not test:
        return build_manifest("footage", roots[0], options)
    _check_options("footage", DATASETS["footage"], options)
    shared = {name: options[name] for name in ("exclude", "scene_from") if name in options}
    own = {name: value for name, value in options.items() if name not in shared}
    if own and not roots:
        names = ", ".join(sorted(own))
        raise ManifestError(f"{names}: for the folders of ROOT, and none is given")
    folders = [
        *(FootageFolder(root, **own) for root in roots),
        *(FootageFolder(root, "train", 0) for root in normal),
        *(FootageFolder(root, "test") for root in test),
    ]
    return build_several(folders, **shared)


def draw_dataset(dataset: str, root: Path, options: dict[str, Any] | None = None) -> Manifest:
    """Draw a data set into an empty or new folder, and return its manifest.

    Args:
        dataset:
            One of `DRAWN` of the data manifests.
        root:
            The folder.
        options:
            Arguments of the function that draws it.

    Raises:
        ManifestError: there is no such drawn data set or option, the folder is not empty, or a
            number is out of range.
        pydantic.ValidationError: an option has a value of another type.
    """
    drawn = data_manifests.DRAWN
    if dataset not in drawn:
        raise ManifestError(
            f"no data set {dataset!r} can be drawn; there are: {choices(drawn, dataset)}"
        )
    module, _, name = drawn[dataset].partition(":")
    write = getattr(import_module(f"{data_manifests.__name__}.{module}"), name)
    _check_options(dataset, write, options or {})
    validate_call(write)(root, **(options or {}))
    return build_manifest(dataset, root)


def _check_options(dataset: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    known = [name for name in signature(function).parameters if name != "root"]
    if unknown := sorted(set(options) - set(known)):
        raise ManifestError(
            f"{dataset} has no option {', '.join(unknown)}; it has: {choices(known, *unknown)}"
        )
