"""Model folders: saving, loading, finding, and the features that a model needs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ..detectors.base import Detector, DetectorError, State
from ..extractors.errors import ExtractorError
from ..extractors.footage.video import ProbeRow
from ..extractors.weights.kept import verify
from .engine.extractor_spec import ExtractorSpec, resolve_extractor
from .engine.settings import Engine
from .registry import DETECTORS, EXTRACTORS
from .store.atomic import StoreError
from .store.feature_store import FeatureStore, list_stores
from .store.keys import canonical_json, differing_fields, key_of


def save_model(folder: Path, detector: Detector[Any], card: Mapping[str, Any]) -> None:
    """Write a model folder: `config.json` and `weights.safetensors`.

    The folder appears whole or not at all, and config.json is written last.

    Args:
        folder:
            Target; an existing model there is replaced file by file.
        detector:
            A fitted detector.
        card:
            What else the model has to know (feature recipes, training records, thresholds).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: np.asarray(v, order="C") for k, v in detector.state_dict().items()}
    _replace(folder / "weights.safetensors", lambda path: save_file(state, str(path)))
    config = {
        **card,
        "detector": detector.name,
        "detector_version": detector.version,
        "config": detector.config.model_dump(mode="json"),
    }
    text = json.dumps(config, indent=1, sort_keys=True)
    _replace(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def load_state(folder: Path) -> State:
    """The arrays of a model folder."""
    return load_file(str(folder / "weights.safetensors"))


def load_card(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        DetectorError: the folder holds no finished model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise DetectorError(f"{folder} is no model folder: it has no config.json (run train first)")
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return card


def _replace(path: Path, write: Any) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def specs_of_model(
    card: Mapping[str, Any], *, weights: str | None = None, engine: Engine | None = None
) -> list[ExtractorSpec]:
    """The extractors that give exactly the features that a model was trained on.

    Imported features have none, see `imported_stores`.

    Raises:
        ExtractorError: they cannot be had; the message names the fields that differ.
        WeightsError: the weights are missing.
    """
    specs: dict[str, ExtractorSpec] = {}
    for role, recipe in card["features"].items():
        name, identity = recipe["extractor"], recipe["weights"]
        if name == "imported":
            continue
        if name not in EXTRACTORS:
            raise ExtractorError(
                f"the model needs {role!r} features of {name!r}: no such extractor"
            )
        chosen = weights
        if identity is None:
            chosen = None
        elif chosen is None:
            chosen = _weights_spec(name, recipe["config"], identity)
        spec = resolve_extractor(
            name,
            recipe["config"],
            weights=chosen,
            precision=recipe["precision"] or "auto",
            engine=engine,
            on_corrupt=recipe.get("on_corrupt", "keep"),
        )
        ours = json.loads(canonical_json(spec.recipe()))
        if key_of(ours) != key_of(recipe):
            lines = "\n  ".join(differing_fields(ours, recipe))
            raise ExtractorError(
                f"the model was trained on other {role!r} features than these settings give "
                f"(here != model):\n  {lines}"
            )
        specs[key_of(recipe)] = spec
    return list(specs.values())


def imported_stores(card: Mapping[str, Any], cache: Path) -> list[FeatureStore]:
    """The imported feature sets that a model was trained on.

    Raises:
        StoreError: one is not in the cache; the message names the fields in which other imported
            sets of that role differ.
    """
    found: dict[str, FeatureStore] = {}
    for role, recipe in card["features"].items():
        if recipe["extractor"] != "imported":
            continue
        store = FeatureStore(cache, recipe)
        if not (store.root / "spec.json").is_file():
            roles = {spec["role"] for spec in store.array_specs()}
            others = [
                f"{s.name} (here != model): {'; '.join(differing_fields(s.recipe, recipe))}"
                for s in list_stores(cache)
                if s.recipe["extractor"] == "imported"
                and roles & {spec["role"] for spec in s.array_specs()}
            ]
            lines = "".join(f"\n  {line}" for line in others) or " none"
            raise StoreError(
                f"the model was trained on imported {role!r} features that are not in {cache}: "
                f"{how_to_import(store)}. Imported sets of that role:{lines}"
            )
        found[store.key] = store
    return list(found.values())


def how_to_import(store: FeatureStore) -> str:
    """What to type where features of an imported set are missing."""
    return f"run vadpipe import with --name {store.recipe['config']['name']}"


def checksums_of(stores: Sequence[FeatureStore]) -> dict[str, list[str]]:
    """content_id -> what its imported features are; a recipe does not tell that."""
    found: dict[str, list[str]] = {}
    for store in stores:
        for row in store.index().select(["content_id", "checksum"]).to_pylist():
            found.setdefault(row["content_id"], []).append(row["checksum"])
    return found


def _weights_spec(extractor: str, config: Mapping[str, Any], identity: str) -> str:
    """What to give `resolve` so that it finds the weights of a recipe."""
    if identity.startswith("random:"):
        return identity
    kind = EXTRACTORS[extractor]
    for card in kind.cards_for(kind.Config.model_validate(config)):
        # a card that states no hash stands for whatever was fetched for it
        if identity == (card.sha256 or verify(card).sha256):
            return card.name
    raise ExtractorError(
        f"the model's features came from a weights file of sha256 {identity}, which no card of "
        f"{extractor} stands for: give that file with --weights FILE"
    )


def make_detector(name: str, settings: Mapping[str, Any] | None = None) -> Detector[Any]:
    """A detector that has learned nothing yet.

    Raises:
        DetectorError: there is none of that name.
        pydantic.ValidationError: a setting is wrong or unknown.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no detector {name!r}; there are: {', '.join(DETECTORS)}")
    kind = DETECTORS[name]
    return kind(kind.Config.model_validate(dict(settings or {})))


def imported_contents(
    stores: Mapping[str, FeatureStore], rows: Mapping[str, ProbeRow]
) -> dict[str, Any]:
    """What stands for the numbers of imported features in a model's key: their checksums.

    A recipe decides what an extractor gives, but says nothing of what others have extracted.
    """
    wanted = {row.content_id for row in rows.values()}
    found = {
        role: sorted(
            row["checksum"]
            for row in store.index().select(["content_id", "checksum"]).to_pylist()
            if row["content_id"] in wanted
        )
        for role, store in stores.items()
        if store.recipe["extractor"] == "imported"
    }
    return (
        {"imported": {role: key_of({"checksums": sums}) for role, sums in found.items()}}
        if found
        else {}
    )


def load_model(folder: Path) -> tuple[Detector[Any], dict[str, Any]]:
    """A fitted detector and its card.

    Raises:
        DetectorError: the folder holds no finished model, or one of another version.
    """
    card = load_card(folder)
    detector = make_detector(card["detector"], card["config"])
    if detector.version != card["detector_version"]:
        raise DetectorError(
            f"{folder} was trained by version {card['detector_version']} of {detector.name}, this "
            f"is version {detector.version}: train it again"
        )
    detector.load_state_dict(load_state(folder))
    return detector, card


def find_model(cache: Path, name: str) -> Path:
    """A model by its folder, or by as much of its name in the cache as makes it unique.

    Raises:
        DetectorError: there is none, or several: the message lists them.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name)
    known = [p.parent for p in sorted((cache / "models").glob("*/config.json"))]
    found = [p for p in known if p.name.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(p.name for p in (found or known)) or "none"
        raise DetectorError(
            f"{'several models match' if found else 'no model'} {name!r}; in {cache}: {listed}"
        )
    return found[0]


def describe_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a report or a listing says of a model, without its long tables."""
    text = json.dumps({k: v for k, v in card.items() if k not in ("calibration", "contents")})
    short: dict[str, Any] = json.loads(text)
    return short
