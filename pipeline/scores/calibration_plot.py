"""The calibration plot: the rate that a threshold states against the one that was measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...data_manifests.atomic import write_atomically
from ...data_manifests.errors import VadpipeError
from .stored_threshold import Measured, StoredThreshold

FORMATS = (".png", ".svg", ".pdf")


class PlotError(VadpipeError, ValueError):
    """A plot that cannot be drawn; the message says why."""


def write_plot(chosen: StoredThreshold, path: Path) -> None:
    """Draw stated against measured rates, with each video left out once.

    Args:
        chosen:
            With its curve.
        path:
            File to write; its suffix is the format.

    Raises:
        PlotError: the format is unknown, or there is no curve.
        CannotWrite: the disk is full or read-only.
    """
    if path.suffix.lower() not in FORMATS:
        raise PlotError(f"{path}: name a file with the suffix {', '.join(FORMATS)}")
    if chosen.rule.rule == "value":
        raise PlotError("a given value states no rate, so there is nothing to plot it against")
    if not chosen.curve:
        raise PlotError(
            "there is nothing to plot, and the rule was not kept: no rate could be measured on "
            "footage that was left out. It takes two held-back videos or more, and rates that are "
            "rare without each of them; to keep the rule, leave out --plot"
        )
    import matplotlib

    figure = _draw(chosen)
    # Without a date and with known ids, the same threshold is the same file.
    stamps = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    form = path.suffix.lower()
    write = partial(
        figure.savefig, format=form[1:], dpi=150, metadata=stamps.get(form), bbox_inches="tight"
    )
    with matplotlib.rc_context({"svg.hashsalt": "vadpipe"}):
        write_atomically(path, lambda temporary: write(temporary))


def _draw(chosen: StoredThreshold) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5))
    axes = figure.add_subplot()
    stated = [point.stated for point in chosen.curve]
    floor = min(stated) / 3  # a logarithmic axis has no 0
    found = [max(point.found, floor) for point in chosen.curve]
    ends = [floor, max(*stated, *(point.most or point.found for point in chosen.curve)) * 1.5]
    axes.plot(ends, ends, color="0.6", linewidth=1, linestyle="--", label="as stated")
    axes.errorbar(
        stated, found, yerr=_bars(chosen.curve, found, floor),
        marker="o", markersize=4, linewidth=1.2, capsize=3, label="measured, left out once",
    )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlim=ends, ylim=ends,
        xlabel=f"{chosen.unit}, stated", ylabel=f"{chosen.unit}, measured",
        title=f"{chosen.rule.rule_in_words()}: {chosen.high:.4g}",
    )  # fmt: skip
    axes.grid(True, which="major", linewidth=0.4)
    axes.legend(frameon=False)
    return figure


def _bars(
    curve: tuple[Measured, ...], found: list[float], floor: float
) -> tuple[list[float], list[float]] | None:
    """Lengths of the intervals below and above; None where none is known."""
    if any(point.least is None or point.most is None for point in curve):
        return None
    below = [max(f - max(p.least or 0.0, floor), 0.0) for f, p in zip(found, curve, strict=True)]
    above = [max((p.most or 0.0) - f, 0.0) for f, p in zip(found, curve, strict=True)]
    return below, above
