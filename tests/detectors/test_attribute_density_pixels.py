"""attribute_density on speeds that are measured in pixels: a small, fast runner of the plaza."""

from __future__ import annotations

import numpy as np

from tests.bags import Bags
from tests.plaza_pixels import drawn_clip
from vadpipe.detectors.attribute_density import AttributeDensity, AttributeDensityConfig
from vadpipe.extractors.optical_flow import SpanName

RUNNER, USUAL, TRAINING = 51, 60, range(3)
ALL = ("speed", "direction", "place", "size", "class", "stay")


def rank(span: SpanName, names: tuple[str, ...]) -> tuple[float, list[str | None]]:
    """Share of (frame of the runner, usual frame) in the right order, and the runner's reasons."""
    config = AttributeDensityConfig(attributes=names, limit=0.9, smooth=0.0)
    detector = AttributeDensity(config)
    clips = [drawn_clip(seed, span=span)[0] for seed in TRAINING]
    detector.fit(Bags(clips), device="cpu", seed=0)
    bag, own = drawn_clip(RUNNER, "runner", span=span)
    regions = detector.score(bag).regions
    assert regions is not None
    odd = regions["score"].to_numpy()[own][:, None]
    usual = detector.score(drawn_clip(USUAL, span=span)[0]).columns["score"]
    reasons = [
        text for text, is_own in zip(regions["explain"].to_pylist(), own, strict=True) if is_own
    ]
    return float(((odd > usual) + 0.5 * (odd == usual)).mean()), reasons


def test_a_small_runner_is_found_by_the_speed_of_flow_to_the_next_frame() -> None:
    found, reasons = rank("next", ALL)
    assert found > 0.9
    named = [text for text in reasons if text and text.startswith("speed ")]
    assert len(named) > len(reasons) / 2
    without, _ = rank("next", tuple(name for name in ALL if name != "speed"))
    assert without < found - 0.3


def test_flow_over_two_frames_loses_it() -> None:
    """The cause that docs/results/objects.md names: it moves a third of its width a frame."""
    speeds, ways = {}, {}
    spans: tuple[SpanName, ...] = ("next", "around")
    for span in spans:
        bag, own = drawn_clip(RUNNER, "runner", span=span)
        boxes, flow = (bag.tracks[f"object/{name}"].rows()[own] for name in ("boxes", "flow"))
        moved = np.median(np.diff((boxes[:, 0] + boxes[:, 2]) / 2))
        speeds[span] = float(np.median(flow[:, 0])) / abs(moved)
        ways[span] = float((np.sign(flow[:, 2]) == np.sign(moved)).mean())
    assert ways["next"] == 1.0
    assert ways["around"] < 0.8
    assert speeds["next"] > 0.7
    assert speeds["around"] < 0.6
