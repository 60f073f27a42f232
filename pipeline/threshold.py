"""Threshold stage: a model and a rule -> another threshold, from the rows that it held out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .models import ModelFolder
from .scores.calibration_plot import write_plot
from .scores.events import Calibration, EventConfig
from .scores.rules import thresholds_of
from .scores.stored_threshold import StoredThreshold
from .scores.trust import trust_in


@dataclass(frozen=True)
class FittedThreshold:
    """The threshold of a model.

    Attributes:
        model: its folder.
        chosen: rule, levels, and how far they can be trusted.
        kept: whether this run has stored it with the model.
        plot: file of the calibration plot, if one was asked for.
    """

    model: Path
    chosen: StoredThreshold
    kept: bool
    plot: Path | None = None

    def lines(self) -> list[str]:
        """What there is to say, for people."""
        chosen = self.chosen
        return [
            f"threshold {chosen.high:.6g} ({chosen.rule.rule_in_words()}), "
            f"events go on above {chosen.low:.6g}",
            *chosen.lines,
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        chosen = self.chosen
        return {
            "model": str(self.model),
            "kept": self.kept,
            **chosen.model_dump(mode="json"),
            "rule": chosen.rule.rule_in_words(),
            "value": chosen.high,
            "settings": chosen.rule.in_use(),
        }


def fit_threshold(
    model: Path,
    config: EventConfig | None = None,
    *,
    plot: Path | None = None,
    command: str = "",
) -> FittedThreshold:
    """Choose another threshold for a model, from the rows that its training held out.

    Nothing is trained and nothing is scored. Later scores of the model use the rule, unless they
    name one themselves.

    Args:
        model:
            Model folder.
        config:
            The rule, and how events are made. Without a rule the present one is looked at, and
            nothing is stored.
        plot:
            Where to write the calibration plot: .png, .svg or .pdf.
        command:
            Noted with the threshold.

    Raises:
        DetectorError: the folder holds no finished model.
        EventError: the rule needs rows or frame rates that the model does not have, or more
            footage.
        HeldOutError, StoredThresholdError: a file of the model is damaged.
        PlotError: the plot has nothing to show, or its format is unknown.
        CannotWrite: the disk is full or read-only.
    """
    folder = ModelFolder(model)
    card, held_out = folder.card(), folder.held_out()
    before = folder.threshold()
    given = config or EventConfig()
    rule = given.with_rule_of(None if before is None else before.rule)
    calibration = Calibration.from_json(card["calibration"])
    thresholds = thresholds_of(rule, calibration, held_out)
    trust = trust_in(rule, calibration, held_out, thresholds)
    said = (*thresholds.to_json()["warnings"], *trust.warnings)
    chosen = StoredThreshold(
        rule=rule,
        high=thresholds.high.value,
        low=thresholds.low.value,
        lines=trust.lines,
        warnings=tuple(dict.fromkeys(said)),
        unit=trust.unit,
        curve=trust.curve,
        weights_sha256=card.get("weights_sha256"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )
    if plot is not None:
        write_plot(chosen, plot)
    if given.names_rule:
        folder.keep_threshold(chosen)
    return FittedThreshold(model, chosen, given.names_rule, plot)
