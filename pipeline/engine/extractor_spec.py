"""An extractor with every choice settled that decides its numbers."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data_manifests.choices import choices
from ...extractors.base import Extractor, Precision, PrecisionRequest
from ...extractors.clips import ClipRule
from ...extractors.errors import ExtractorError
from ...extractors.footage.limits import CorruptPolicy
from ...extractors.footage.resizing import Resize
from ...extractors.perturbation import Perturbation
from ...extractors.weights.cards import ResolvedWeights
from ...extractors.weights.slots import WeightsChoice, share_out
from ..registry import EXTRACTORS, Distribution
from ..store.feature_store import FeatureStore
from .cluster import resolve_precision_of
from .rows import check_promises
from .settings import Engine
from .sources import PixelSource
from .weights import find_weights


@dataclass(frozen=True)
class ExtractorSpec:
    """An extractor with all its settings, small enough to be sent to a worker.

    Attributes:
        name: registry name.
        config: config values that differ from the defaults.
        weights: slot -> weights.
        precision: of its networks.
        on_corrupt: what becomes of clips with damaged frames.
        distribution: that a plug-in is from; None for an extractor of vadpipe.
        source: the feature set whose pixels it reads; None reads footage.
        perturb: what is done to each clip before the extractor gets it.
    """

    name: str
    config: dict[str, Any]
    weights: Mapping[str, ResolvedWeights]
    precision: Precision
    on_corrupt: CorruptPolicy = "keep"
    distribution: Distribution | None = None
    source: PixelSource | None = None
    perturb: Perturbation | None = None

    def make(self) -> Extractor[Any]:
        """The extractor itself; nothing is loaded yet.

        Raises:
            ExtractorError: this process has no such plug-in, or another version of it: workers may
                run elsewhere.
            PluginError: the plug-in cannot be imported here.
            pydantic.ValidationError: a setting is wrong or unknown.
        """
        if self.distribution is not None:
            here = EXTRACTORS.distribution(self.name) if self.name in EXTRACTORS else "nothing"
            if here != self.distribution:
                raise ExtractorError(
                    f"{self.name} is a plug-in of {self.distribution}, but {socket.gethostname()} "
                    f"has {here or 'a built-in extractor'} by that name: install the same version "
                    "on every machine of the cluster"
                )
        kind = EXTRACTORS[self.name]
        config = kind.Config.model_validate(self.config)
        return kind(config, weights=self.weights, precision=self.precision)

    def recipe(self) -> dict[str, Any]:
        """What the key is made of: the recipe, what the engine does to clips, a plug-in's origin.

        "fail" writes the same features as "keep" or none, so it is no part of the recipe.
        """
        recipe = self.make().recipe()
        if self.on_corrupt == "skip":
            recipe["on_corrupt"] = "skip"
        if self.source is not None:
            recipe["source"] = self.source.recipe
        if self.perturb is not None:
            recipe["perturb"] = self.perturb.model_dump(mode="json")
        if self.distribution is not None:
            recipe["distribution"] = self.distribution.to_json()
        return recipe

    def clip_rule(self) -> ClipRule:
        """How the engine cuts clips: as the extractor says, wider where a perturbation needs it.

        The number of clips and their first frames stay the same.
        """
        rule = self.make().clip_rule
        return rule if self.perturb is None else self.perturb.widened(rule)

    def resize_first(self, height: int, width: int) -> Resize | None:
        """The resize that its work on pictures of (height, width) begins with.

        A perturbation changes pictures as they are.
        """
        return None if self.perturb is not None else self.make().resize_first(height, width)


def resolve_extractor(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    weights: WeightsChoice = None,
    precision: PrecisionRequest = "auto",
    engine: Engine | None = None,
    on_corrupt: CorruptPolicy = "keep",
    cache: Path | None = None,
    source: FeatureStore | None = None,
) -> ExtractorSpec:
    """Settle every choice that decides the numbers, before a key is made.

    Args:
        name:
            `NAME` or `NAME:PRESET`.
        settings:
            Config values that differ from the default (or the preset); `perturb`, a table of the
            settings of a `Perturbation`, is one of the engine.
        weights:
            A card's name, a file, or "random:SEED"; slot -> such a spec where there are several
            networks. A network that is not named takes its default card.
        precision:
            "auto" becomes what the device does best.
        engine:
            Where it will run.
        on_corrupt:
            What happens to clips with damaged frames.
        cache:
            Root of the cache, where weights are looked for; None is the default one.
        source:
            The feature set to read pixels from; None reads footage.

    Raises:
        ExtractorError: unknown extractor or preset, a precision that the device lacks, a source
            that does not keep every frame, a perturbation that would change nothing, or arrays
            that cannot be stored.
        WeightsError: the weights are missing or wrong.
        ClusterError: the cluster cannot be asked for its precision.
        pydantic.ValidationError: a setting is wrong or unknown.
    """
    base, config, perturb = _split(name, settings)
    kind = EXTRACTORS[base]
    slots = kind.networks_for(kind.Config.model_validate(config))
    if not slots and isinstance(weights, str):
        raise ExtractorError(f"{base} has no network and takes no weights")
    resolved = find_weights(base, slots, weights, cache)
    settled = resolve_precision_of(engine or Engine(), precision) if slots else "fp32"
    origin = EXTRACTORS.distribution(base)
    pixels = None if source is None else PixelSource.of(source)
    spec = ExtractorSpec(base, config, resolved, settled, on_corrupt, origin, pixels, perturb)
    made = spec.make()
    check_promises(made)
    rule = made.clip_rule
    single = rule.before + rule.length + rule.after == 1
    if perturb is not None and perturb.kind == "skip_frames" and single:
        raise ExtractorError(
            f"{base} reads single frames: skip_frames changes nothing. Give the perturbation to an "
            "extractor that reads clips, or take another kind"
        )
    return spec


def resolve_extractors(
    names: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    *,
    weights: WeightsChoice = None,
    precision: PrecisionRequest = "auto",
    engine: Engine | None = None,
    on_corrupt: CorruptPolicy = "keep",
    cache: Path | None = None,
    source: FeatureStore | None = None,
) -> list[ExtractorSpec]:
    """Several extractors with the same settings; each takes the weights of the networks it has.

    Raises:
        ExtractorError, WeightsError, ClusterError, pydantic.ValidationError: as
            `resolve_extractor`; also where none of them has a network that is named.
    """
    slots = {}
    for name in names:
        base, config, _ = _split(name, settings)
        kind = EXTRACTORS[base]
        slots[name] = kind.networks_for(kind.Config.model_validate(config))
    shares = share_out(weights, slots)
    return [
        resolve_extractor(
            name,
            settings,
            weights=shares[name],
            precision=precision,
            engine=engine,
            on_corrupt=on_corrupt,
            cache=cache,
            source=source,
        )
        for name in names
    ]


def settings_of(name: str, settings: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Registry name and config values of `NAME` or `NAME:PRESET`.

    Raises:
        ExtractorError: unknown extractor or preset.
    """
    base, _, preset = name.partition(":")
    if base not in EXTRACTORS:
        raise ExtractorError(f"no extractor {base!r}; there are: {choices(EXTRACTORS, base)}")
    kind = EXTRACTORS[base]
    if preset and preset not in kind.presets:
        raise ExtractorError(
            f"{base} has no preset {preset!r}; it has: {choices(kind.presets, preset)}"
        )
    return base, {**kind.presets.get(preset, {}), **(settings or {})}


def _split(
    name: str, settings: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any], Perturbation | None]:
    """Registry name, config values, and the perturbation among them; see `settings_of`."""
    base, config = settings_of(name, settings)
    if "perturb" in EXTRACTORS[base].Config.model_fields or "perturb" not in config:
        return base, config, None
    return base, config, Perturbation.model_validate(config.pop("perturb"))


def stores_of(specs: Sequence[ExtractorSpec], cache: Path) -> list[FeatureStore]:
    """The feature set that each extractor writes; nothing is created on disk."""
    return [FeatureStore(cache, spec.recipe()) for spec in specs]
