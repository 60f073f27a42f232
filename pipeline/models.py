"""Models: their folders on disk, and the features that they need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..data_manifests.atomic import write_atomically, write_table, write_text
from ..data_manifests.choices import choices
from ..data_manifests.settings import in_words
from ..data_manifests.stored import DamagedFile, check_file, parse_json, read_json
from ..detectors.base import Detector, DetectorError, FitLog
from ..detectors.state import check_state
from ..extractors.errors import ExtractorError
from ..extractors.weights.kept import verify
from ..extractors.weights.slots import NETWORK, WeightsChoice, identities_in, share_out
from .engine.extractor_spec import ExtractorSpec, resolve_extractor
from .engine.settings import Engine
from .engine.sources import source_recipes
from .registry import DETECTORS, EXTRACTORS, OWN
from .scores.held_out import FILE, HeldOut
from .scores.stored_threshold import FILE as THRESHOLD
from .scores.stored_threshold import StoredThreshold
from .store.errors import StoreError
from .store.feature_store import FeatureStore
from .store.keys import canonical_json, differing_fields, folder_name, key_of
from .store.names import checked_name
from .store.recipes import checked_card

SAMPLES = "samples"  # folder of pictures

# What a detector may meet in arrays that are not its own.
_NO_STATE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError,
    MemoryError,
)  # fmt: skip


def _write_checked(path: Path, data: bytes, digest: str) -> None:
    """Write, read back and compare, as shards are written.

    Raises:
        StoreError: the disk returns something else.
    """
    path.write_bytes(data)
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise StoreError(f"{path.parent}: the disk does not return what was written to it")


def device_used(detector: Detector[Any], device: str) -> str:
    """The device that a detector computes on where this one is asked for: some have no network."""
    return device if "device" in detector.train_options else "cpu"


class ModelFolder:
    """A trained detector on disk, the only owner of the files of a model folder.

    `config.json` is the card: settings, recipes of the features, training records, calibration. It
    is written last, so a folder that has it is finished. `weights.safetensors` holds the arrays,
    `log.parquet` the training log, `calibration.parquet` the held-out rows that the quantiles of
    the card come from (models of version 0.1 have none). `samples` has pictures of training
    windows, if the detector makes any. The state of a training that was killed is kept next to the
    folder, in `unfinished/<its name>`. `threshold.json` is the rule of the threshold, if one was
    chosen. Every file is written whole or not at all.

    Args:
        path:
            The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unfinished = path.parent / "unfinished" / path.name
        self._card = path / "config.json"
        self._weights = path / "weights.safetensors"
        self._log = path / "log.parquet"
        self.samples = path / SAMPLES
        self._held_out = path / FILE
        self._threshold = path / THRESHOLD
        # Without --force, `train` would find the model and keep it.
        self._again = f"train the model again (vadpipe train --force, or delete {path} first)"

    @classmethod
    def of_recipe(cls, cache: Path, recipe: Mapping[str, Any]) -> ModelFolder:
        """The folder in a cache for a training: its name is a key of all that decides the model."""
        return cls(cache / "models" / folder_name(recipe["detector"], recipe))

    @classmethod
    def named(cls, cache: Path, name: str) -> ModelFolder:
        """The folder of a model in a cache, by its full name.

        Raises:
            StoreError: it is no name of a model.
        """
        return cls(cache / "models" / checked_name(name, "a model"))

    @classmethod
    def find(cls, cache: Path, name: str) -> ModelFolder:
        """A model by its folder, or by the beginning of its name in the cache.

        Raises:
            DetectorError: there is none, or several: the message lists them.
        """
        if cls(Path(name)).is_finished():
            return cls(Path(name))
        known = [folder.path for folder in cls.in_cache(cache)]
        found = [path for path in known if path.name.startswith(name)]
        if len(found) != 1:
            listed = ", ".join(path.name for path in (found or known)) or "none"
            raise DetectorError(
                f"{'several models match' if found else 'no model'} {name!r}; in {cache}: {listed}"
            )
        return cls(found[0])

    @classmethod
    def in_cache(cls, cache: Path) -> list[ModelFolder]:
        """The finished models of a cache, by name."""
        folders = [cls(path) for path in sorted((cache / "models").glob("*"))]
        return [folder for folder in folders if folder.is_finished()]

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def written(self) -> float:
        """When the model was trained, in seconds of `time.time`; 0 if its card went meanwhile."""
        return self._card.stat().st_mtime if self._card.is_file() else 0.0

    def is_finished(self) -> bool:
        """Whether there is a model."""
        return self._card.is_file()

    def save(
        self,
        detector: Detector[Any],
        card: Mapping[str, Any],
        log: FitLog | None = None,
        held_out: HeldOut | None = None,
    ) -> None:
        """Write the model; one that is there already is replaced file by file.

        Args:
            detector:
                A fitted detector.
            card:
                What else the model has to know (feature recipes, training records, thresholds).
            log:
                Of the training.
            held_out:
                The rows that the card's calibration comes from.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        state = {k: np.asarray(v, order="C") for k, v in detector.state_dict().items()}
        data = save(state)  # in memory: a full disk is then an OSError with its number
        # With another card, all that is written now would be taken for its own.
        self._card.unlink(missing_ok=True)
        if log is not None:
            rows = log.rows or [log.summary]
            # not every row has every value: validations follow some of the steps only
            names = dict.fromkeys(name for row in rows for name in row)
            table = pa.table({name: [row.get(name) for row in rows] for name in names})
            write_table(self._log, table)
        if held_out is None:
            self._held_out.unlink(missing_ok=True)
        else:
            held_out.write(self._held_out)
        digest = hashlib.sha256(data).hexdigest()
        write_atomically(self._weights, partial(_write_checked, data=data, digest=digest))
        config = {
            **card,
            "detector": detector.name,
            "detector_version": detector.version,
            "config": detector.config.model_dump(mode="json"),
            "weights_sha256": digest,
        }
        write_text(self._card, json.dumps(config, indent=1, sort_keys=True))

    def card(self) -> dict[str, Any]:
        """What `save` wrote besides the arrays.

        Raises:
            DetectorError: the folder holds no finished model.
        """
        if not self.is_finished():
            raise DetectorError(
                f"{self.path} is not a model folder: it has no {self._card.name} (run train first)"
            )
        try:
            return checked_card(read_json(self._card), self._card)
        except (DamagedFile, StoreError) as error:
            raise DetectorError(f"{error}: {self._again}") from error

    def held_out(self) -> HeldOut | None:
        """The held-out rows that the card's calibration comes from; None in models of version 0.1.

        Raises:
            HeldOutError: the file is damaged.
        """
        return HeldOut.read(self._held_out, cure=self._again)

    def threshold(self) -> StoredThreshold | None:
        """The threshold that was chosen for the model; None where it is the default one.

        Raises:
            StoredThresholdError: the file is damaged.
        """
        return StoredThreshold.read(self._threshold)

    def keep_threshold(self, chosen: StoredThreshold) -> None:
        """Keep a threshold with the model; later scores use its rule."""
        chosen.write(self._threshold)

    def describe(self) -> dict[str, Any]:
        """The card without its long tables, and the threshold that was chosen, for a report.

        Raises:
            DetectorError: the folder holds no finished model.
            StoredThresholdError: the threshold is damaged.
        """
        kept = {k: v for k, v in self.card().items() if k not in ("calibration", "contents")}
        chosen = self.threshold()
        return kept if chosen is None else {**kept, "threshold": chosen.model_dump(mode="json")}

    def load(self) -> tuple[Detector[Any], dict[str, Any]]:
        """The fitted detector and its card.

        Raises:
            DetectorError: the folder holds no finished model, or one of another version.
        """
        card = self.card()
        origin = card.get("distribution")
        if origin is not None and card["detector"] not in DETECTORS:
            raise DetectorError(
                f"{self.path} was trained by {card['detector']}, a plug-in that is not installed: "
                + _install(origin)
            )
        try:
            detector = make_detector(card["detector"], card["config"])
        except ValidationError as error:
            raise DetectorError(f"{self._card} is damaged ({in_words(error)})") from error
        here = DETECTORS.recorded(detector.name).get("distribution")
        if (here or {}).get("name") != (origin or {}).get("name"):
            raise DetectorError(
                f"{self.path} was trained by {detector.name} of {(origin or {}).get('name', OWN)}, "
                f"here it is of {(here or {}).get('name', OWN)}: train it again"
            )
        if card["detector_version"] not in (detector.version, *detector.loads):
            raise DetectorError(
                f"{self.path} was trained by version {card['detector_version']} of "
                f"{detector.name}, this is version {detector.version}: train it again"
            )
        self._load_state(detector, card.get("weights_sha256"))
        return detector, card

    def _load_state(self, detector: Detector[Any], sha256: str | None) -> None:
        """Hand a detector its arrays; `sha256` is that of their file, if the card has it."""
        try:
            check_file(self._weights)
            data = self._weights.read_bytes()
            if sha256 not in (None, hashlib.sha256(data).hexdigest()):
                raise ValueError("it is not the file that was written")
            state = load(data)
            detector.load_state_dict(state)
            check_state(state, detector.state_dict())
        except (*_NO_STATE, SafetensorError) as error:
            reason = " ".join(f"{error}".split())[:300]
            raise DetectorError(f"{self._weights} is damaged ({reason}): {self._again}") from error


def _install(distribution: Mapping[str, str]) -> str:
    """The command that installs the distribution of a plug-in."""
    return f"pip install {distribution['name']}=={distribution['version']}"


def make_detector(name: str, settings: Mapping[str, Any] | None = None) -> Detector[Any]:
    """A detector that has learned nothing yet.

    Raises:
        DetectorError: there is none of that name.
        pydantic.ValidationError: a setting is wrong or unknown.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no detector {name!r}; there are: {choices(DETECTORS, name)}")
    kind = DETECTORS[name]
    return kind(kind.Config.model_validate(dict(settings or {})))


def started(
    detector: Detector[Any], stores: Mapping[str, FeatureStore], folder: ModelFolder
) -> dict[str, Any]:
    """Let a detector start from a model.

    Args:
        detector:
            One that has learned nothing yet.
        stores:
            Role -> the features that it will be trained on.
        folder:
            Of the model.

    Returns:
        What the recipe of the new model says of it.

    Raises:
        DetectorError: the model is damaged, or of another detector, version or features.
    """
    other, card = folder.load()
    if other.name != detector.name or card["detector_version"] != detector.version:
        raise DetectorError(
            f"{folder.path} is a model of {other.name} version {card['detector_version']}, not of "
            f"{detector.name} version {detector.version}: start from another one"
        )
    for role, store in stores.items():
        if card["features"].get(role) != store.recipe:
            raise DetectorError(
                f"{folder.path} was trained on other {role!r} features than {store.name}: use a "
                "feature set with the settings of that model"
            )
    detector.start = other.state_dict()
    return {"init": card["weights_sha256"]}


def specs_of_model(
    card: Mapping[str, Any],
    *,
    weights: WeightsChoice = None,
    settled: Sequence[ExtractorSpec] = (),
    cache: Path | None = None,
    engine: Engine | None = None,
) -> list[ExtractorSpec]:
    """The extractors of exactly those features that a model was trained on.

    Imported features have none, see `imported_stores`.

    Args:
        card:
            Of the model.
        weights:
            Weights files of your own, if the model was trained with some; networks that are not
            named take what the model was trained with.
        settled:
            Extractors of the same run: taken where they are those of the model.
        cache:
            Root of the cache, where weights are looked for; None is the default one.
        engine:
            Where they will run.

    Raises:
        ExtractorError: there are no such extractors; the message names the fields that differ.
        WeightsError: the weights are missing.
    """
    known = {key_of(spec.recipe()): spec for spec in settled}
    shares = _shares(card, weights)
    specs: dict[str, ExtractorSpec] = {}
    for role, recipe in card["features"].items():
        if recipe["extractor"] == "imported":
            continue
        key = key_of(recipe)
        if (found := known.get(key)) is not None:
            # A damaged video that extraction refuses has a score all the same.
            specs[key] = replace(found, on_corrupt=recipe.get("on_corrupt", "keep"))
            continue
        specs[key] = _spec_of(role, recipe, shares[key], cache, engine)
    return list(specs.values())


def source_specs(
    card: Mapping[str, Any],
    specs: Sequence[ExtractorSpec],
    *,
    weights: WeightsChoice = None,
    cache: Path | None = None,
    engine: Engine | None = None,
) -> list[ExtractorSpec]:
    """The extractors that make what some extractors of a model read instead of footage.

    Args:
        card:
            Of the model.
        specs:
            Its extractors (see `specs_of_model`), or sources of theirs.
        weights:
            As in `specs_of_model`.
        cache:
            As in `specs_of_model`.
        engine:
            As in `specs_of_model`.

    Returns:
        One extractor for each source of `specs`; sources of theirs are not in it.

    Raises:
        ExtractorError, WeightsError: as `specs_of_model`.
    """
    shares = _shares(card, weights)
    found: dict[str, ExtractorSpec] = {}
    for spec in specs:
        if spec.source is not None:
            recipe = spec.source.recipe
            key = key_of(recipe)
            found[key] = _spec_of("source", recipe, shares[key], cache, engine)
    return list(found.values())


def _shares(card: Mapping[str, Any], weights: WeightsChoice) -> dict[str, WeightsChoice]:
    """Key -> the weights that were chosen for a feature set of a model, or for a source of one.

    A plain spec is for the extractors of the model; a source takes `SLOT=SPEC` only.
    """
    owners: dict[str, str] = {}
    slots: dict[str, dict[str, str]] = {}
    for role, recipe in card["features"].items():
        for each in (recipe, *source_recipes(recipe)):
            if each["extractor"] != "imported":
                what = role if each is recipe else f"source of {role}"
                name = f"{each['extractor']} ({what})"
                owners.setdefault(key_of(each), name)
                if each is recipe or not isinstance(weights, str):
                    slots[name] = identities_in(each.get("weights"))
    chosen = share_out(weights, slots)
    return {key: chosen.get(name) for key, name in owners.items()}


def _spec_of(
    role: str,
    recipe: Mapping[str, Any],
    chosen: WeightsChoice,
    cache: Path | None,
    engine: Engine | None,
) -> ExtractorSpec:
    """The extractor that gives the features of a recipe.

    Raises:
        ExtractorError: it cannot be had; the message names the fields that differ.
        WeightsError: the weights are missing.
    """
    name = recipe["extractor"]
    if name not in EXTRACTORS:
        origin = recipe.get("distribution")
        raise ExtractorError(
            f"the model needs {role!r} features of {name!r}: no such extractor here; "
            + (_install(origin) if origin else f"there are: {choices(EXTRACTORS, name)}")
        )
    if not isinstance(chosen, str):
        chosen = {
            slot: (chosen or {}).get(slot) or _weights_spec(recipe, slot, identity, cache)
            for slot, identity in identities_in(recipe.get("weights")).items()
        }
    perturb = {"perturb": recipe["perturb"]} if "perturb" in recipe else {}
    spec = resolve_extractor(
        name,
        {**recipe.get("config", {}), **perturb},
        weights=chosen,
        precision=recipe.get("precision") or "auto",
        engine=engine,
        on_corrupt=recipe.get("on_corrupt", "keep"),
        cache=cache,
        source=FeatureStore(cache or Path(), recipe["source"]) if "source" in recipe else None,
    )
    ours = parse_json(canonical_json(spec.recipe()), name)
    if key_of(ours) != key_of(recipe):
        raise ExtractorError(
            f"the model was trained on other {role!r} features than these settings give "
            "(here != model):",
            *(f"  {line}" for line in differing_fields(ours, recipe)),
        )
    return spec


def _weights_spec(recipe: Mapping[str, Any], slot: str, identity: str, cache: Path | None) -> str:
    """The `--weights` value that stands for the weights of a network of a recipe."""
    if identity.startswith("random:"):
        return identity
    extractor = recipe["extractor"]
    kind = EXTRACTORS[extractor]
    for card in kind.networks_for(kind.Config.model_validate(recipe.get("config", {}))).get(
        slot, ()
    ):
        # a card that states no hash stands for the file that was fetched for it
        if identity == (card.sha256 or verify(card, cache).sha256):
            return card.name
    option = "--weights FILE" if slot == NETWORK else f"--weights {slot}=FILE"
    raise ExtractorError(
        f"the model's features came from a weights file of sha256 {identity}, which no card of "
        f"{extractor} stands for: give that file with {option}"
    )
