"""What to ask for so that every network of an extractor or detector has random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vadpipe.pipeline.engine.extractor_spec import settings_of
from vadpipe.pipeline.registry import DETECTORS, EXTRACTORS


def random_weights(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Slot -> "random:0" for `NAME` or `NAME:PRESET` with these settings."""
    base, config = settings_of(name, settings)
    kind = EXTRACTORS[base]
    return dict.fromkeys(kind.networks_for(kind.Config.model_validate(config)), "random:0")


def random_start(detector: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Slot -> "random:0" for a detector with these settings."""
    kind = DETECTORS[detector]
    return dict.fromkeys(kind.networks_for(kind.Config.model_validate(settings)), "random:0")
