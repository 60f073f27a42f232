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


# --- scenes ----------------------------------------------------------------------------------

QUIET = {f"q{i}": scores for i, scores in enumerate(GUMBEL[:3])}
LOUD = {f"l{i}": scores + 20 for i, scores in enumerate(GUMBEL[3:])}
SCENES = {**dict.fromkeys(QUIET, "quiet"), **dict.fromkeys(LOUD, "loud")}


def of_scenes(videos=None, scenes=None):
    return held_out_of(videos or {**QUIET, **LOUD}).with_scenes(scenes or SCENES)


@pytest.mark.parametrize("rule", [{"quantile": 0.99}, {"budget": 40.0}, {"extreme": 0.5}])
def test_a_scene_with_enough_rows_has_what_its_rows_alone_give(rule):
    found = levels(of_scenes(), **rule)
    assert set(found.scenes) == {"quiet", "loud"}
    for scene, videos in (("quiet", QUIET), ("loud", LOUD)):
        alone = levels(held_out_of(videos), **rule)
        assert found.of(scene).high.value == alone.high.value
        assert found.of(scene).low.value == alone.low.value
    assert found.of("loud").high.value > found.of("quiet").high.value + 15
    assert found.of("other") is found and found.of(None) is found
    stated = found.to_json()["scenes"]
    assert stated["loud"] == {
        "high": found.scenes["loud"].high.value,
        "low": found.scenes["loud"].low.value,
    }


def test_what_is_common_does_not_depend_on_scenes():
    assert (
        levels(of_scenes(), budget=40.0).high
        == levels(held_out_of({**QUIET, **LOUD}), budget=40.0).high
    )
    plain = levels(of_scenes(), budget=40.0, per_scene=False)
    assert not plain.scenes and "scenes" not in plain.to_json()
    assert not levels(of_scenes(), value=3.0).scenes, "a value is that of all"


def test_one_scene_is_the_common_threshold():
    assert not levels(of_scenes(scenes=dict.fromkeys(SCENES, "all"))).scenes


def test_enough_is_two_videos_and_what_the_rule_needs():
    few = {"q0": QUIET["q0"][:499], "q1": QUIET["q1"][:500], **LOUD}
    found = levels(of_scenes(few))
    assert set(found.scenes) == {"loud"}, "999 rows are too few for 0.99"
    few["q0"] = QUIET["q0"][:500]
    assert set(levels(of_scenes(few)).scenes) == {"loud", "quiet"}
    assert set(levels(of_scenes(few), budget=40.0).scenes) == {"loud"}, "1,000 s allow 0.5 events"
    one = {"q0": QUIET["q0"], **LOUD}
    assert set(levels(of_scenes(one)).scenes) == {"loud"}, "one video is too few"


def test_a_scene_without_a_tail_has_the_common_one_and_is_named():
    equal = np.where(np.arange(4000) % 50 == 7, 30.0, 0.0)
    scenes = {**SCENES, "e0": "s", "e1": "s"}
    found = levels(of_scenes({"e0": equal, "e1": equal, **QUIET, **LOUD}, scenes), extreme=0.5)
    assert "s" not in found.scenes
    assert any("scene s has the common threshold" in w for w in found.to_json()["warnings"])


def test_one_burst_of_neighbouring_rows_is_no_threshold_of_its_own():
    burst = {"q0": QUIET["q0"][:500] * 1.0, "q1": QUIET["q1"][:500]}
    burst["q0"][200:212] = 50.0 + np.arange(12)
    assert set(levels(of_scenes({**burst, **LOUD})).scenes) == {"loud"}
    spread = {"q0": QUIET["q0"][:500] * 1.0, "q1": QUIET["q1"][:500]}
    spread["q0"][10:500:40] = 50.0
    assert "quiet" not in levels(of_scenes({**spread, **LOUD})).scenes, "all are equal: none above"
    spread["q0"][10:500:40] += np.arange(13)
    assert "quiet" in levels(of_scenes({**spread, **LOUD})).scenes
    joined = EventConfig(merge_seconds=39.0, min_seconds=0.0)  # gaps of 39 s between the rows
    rows = of_scenes({**spread, **LOUD})
    assert "quiet" not in thresholds_of(joined, calibration_of(rows), rows).scenes


def test_warnings_of_scenes_are_kept_with_their_names():
    found = levels(of_scenes())
    few = [w for w in found.to_json()["warnings"] if "rests on 3 normal videos" in w]
    (said,) = few
    assert said.startswith(("scene quiet, loud: ", "scene loud, quiet: "))
    assert not any("rests on" in w for w in levels(HELD_OUT).to_json()["warnings"])
