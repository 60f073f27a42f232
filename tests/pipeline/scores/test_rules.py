"""From a rule to levels: each rule, hysteresis, and warnings where footage is too short."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gumbel_r

from tests.held_out_rows import calibration_of, held_out_of
from vadpipe.pipeline.scores.events import EventConfig, EventError
from vadpipe.pipeline.scores.rules import in_time, thresholds_of

RNG = np.random.default_rng(5)
# As regular as 24,000 Gumbel scores can be, in any order.
GUMBEL = RNG.permutation(gumbel_r.ppf((np.arange(24_000) + 0.5) / 24_000)).reshape(6, 4000)
VIDEOS = {f"v{i}": scores for i, scores in enumerate(GUMBEL)}
HELD_OUT = held_out_of(VIDEOS)  # 24,000 s
CALIBRATION = calibration_of(HELD_OUT)
TIMES = {"min_seconds": 0.0, "merge_seconds": 0.0}


def levels(held_out=HELD_OUT, **rule):
    calibration = calibration_of(held_out)
    return thresholds_of(EventConfig(**TIMES, **rule), calibration, held_out)


def test_a_quantile_needs_no_rows_and_is_what_it_was():
    config = EventConfig(quantile=0.97)
    found = thresholds_of(config, CALIBRATION, None)
    assert found.high == CALIBRATION.threshold(0.97) and found.low == CALIBRATION.threshold(0.95)
    assert found.rule == "quantile 0.97"


def test_a_value_is_kept_and_lowers_the_release_level_if_it_is_below():
    above, below = levels(value=9.0), levels(value=-1.0)
    assert (above.high.value, above.low.value) == (9.0, CALIBRATION.threshold(0.95).value)
    assert below.high.value == below.low.value == -1.0
    assert above.rule == "value 9" and above.to_json()["rule"] == "value 9"
    assert below.high.quantile == pytest.approx(np.mean(HELD_OUT.values("score") <= -1), abs=0.02)


def test_a_budget_is_kept_by_the_held_out_footage():
    day = 86_400 / 24_000
    found = levels(budget=10 * day)
    rows = np.sort(HELD_OUT.values("score"))
    assert found.high.value == pytest.approx(rows[-11], abs=0.5)
    assert found.low.value == CALIBRATION.threshold(0.95).value
    assert found.rule == "budget 36 events per camera and day"
    assert not [w for w in found.to_json()["warnings"] if "short" in w]


def test_a_budget_that_the_footage_is_too_short_for_says_what_it_can_show():
    quiet = held_out_of({f"v{i}": RNG.gumbel(size=1260) for i in range(6)})  # 2.1 hours
    said = levels(quiet, budget=2).to_json()["warnings"]
    assert any("2.1 hours without an event show at most 34.2 a day" in text for text in said)


def test_a_budget_above_what_the_lower_level_makes_says_so():
    found = levels(budget=1e6)
    assert found.high.value == found.low.value
    assert "a lower release quantile would use it up" in " ".join(found.to_json()["warnings"])


def test_an_extreme_rate_is_above_what_was_seen():
    seen = levels(budget=30)
    rare, rarer = levels(extreme=1.0), levels(extreme=0.01)
    assert seen.high.value < rare.high.value < rarer.high.value
    # Gumbel scores have exponential tails of scale 1: a hundredth of the rate is log(100) higher.
    assert rarer.high.value - rare.high.value == pytest.approx(np.log(100), rel=0.25)
    assert "far beyond" in " ".join(rarer.to_json()["warnings"])
    assert "far beyond" not in " ".join(rare.to_json()["warnings"])


def test_rules_of_rates_need_rows_with_frame_rates():
    for rule in ({"budget": 2.0}, {"extreme": 0.1}):
        with pytest.raises(EventError, match="keeps no held-out rows"):
            thresholds_of(EventConfig(**rule), CALIBRATION, None)
        with pytest.raises(EventError, match="do not say the frame rate"):
            levels(held_out_of(VIDEOS, fps=None), **rule)
    assert levels(held_out_of(VIDEOS, fps=None), value=3.0).high.value == 3.0


def test_constant_scores_tell_nothing_but_stop_nothing():
    constant = held_out_of({"a": [4.0] * 500, "b": [4.0] * 500})
    found = levels(constant, budget=3)
    assert found.high.value == found.low.value == 4.0
    assert any("tell nothing" in text for text in found.to_json()["warnings"])
    with pytest.raises(EventError, match="there are 0"):
        levels(constant, extreme=0.1)


@pytest.mark.parametrize(
    ("days", "text"),
    [(40 / 86400, "40 s"), (0.02, "29 minutes"), (0.0875, "2.1 hours"), (5, "5.0 days")],
)
def test_lengths_of_footage_in_words(days, text):
    assert in_time(days) == text
