"""How far a stated rate can be trusted: closed forms of intervals, videos that are left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from tests.held_out_rows import calibration_of, held_out_of
from vadpipe.pipeline.scores import trust as trust_module
from vadpipe.pipeline.scores.events import EventConfig, EventError
from vadpipe.pipeline.scores.rules import thresholds_of
from vadpipe.pipeline.scores.trust import BY_DAY, BY_ROWS, FOLDS, Trust, poisson_interval, trust_in

RNG = np.random.default_rng(3)
VIDEOS = {f"v{i}": RNG.gumbel(size=3000) for i in range(8)}


def trust(held_out, **rule) -> Trust:
    config = EventConfig(min_seconds=0.0, merge_seconds=0.0, **rule)
    calibration = calibration_of(held_out)
    return trust_in(config, calibration, held_out, thresholds_of(config, calibration, held_out))


def test_without_an_event_three_over_the_exposure_is_the_upper_end():
    assert poisson_interval(0, 1.0) == (0.0, pytest.approx(2.9957, abs=1e-4))
    assert poisson_interval(0, 2.1 / 24)[1] == pytest.approx(34.2, abs=0.05)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_intervals_of_counts_are_exact(count):
    """At the ends, a count as far away has a chance of 2.5 %."""
    least, most = poisson_interval(count, 2.0)
    assert poisson.sf(count - 1, 2.0 * least) == pytest.approx(0.025)
    assert poisson.cdf(count, 2.0 * most) == pytest.approx(0.025)


def test_a_quantile_holds_on_videos_that_are_like_the_others():
    found = trust(held_out_of(VIDEOS), quantile=0.9, release_quantile=0.9)
    assert found.unit == BY_ROWS and not found.warnings
    assert all(p.found == pytest.approx(p.stated, rel=0.35, abs=2e-3) for p in found.curve)
    assert "each video left out once" in found.lines[2] and "10 % stated" in found.lines[2]


def test_one_odd_video_is_seen_when_it_is_left_out():
    odd = {**{k: np.zeros(1000) + RNG.normal(size=1000) for k in "abcd"}, "e": np.full(1000, 50.0)}
    found = trust(held_out_of(odd), quantile=0.99)
    share = float(found.lines[2].split(": ")[1].split(" %")[0])
    assert share >= 20, "all rows of the odd video lie above the threshold of the others"


def test_a_budget_is_measured_on_videos_that_it_does_not_know():
    found = trust(held_out_of(VIDEOS), budget=100.0)
    assert found.unit == BY_DAY
    (line,) = [text for text in found.lines if "100 a day stated" in text]
    assert "left out once" in line
    for point in found.curve:
        assert point.least is not None and point.most is not None
        assert point.least <= point.found <= point.most
        assert point.least <= point.stated * 1.5 and point.most >= point.stated / 1.5
    stated = [point.stated for point in found.curve]
    measured = [point.found for point in found.curve]
    assert stated == sorted(stated) and measured == sorted(measured)


def test_an_extreme_rate_is_measured_from_tails_without_a_video():
    found = trust(held_out_of(VIDEOS), extreme=1.0)
    assert any("1 a day stated" in text for text in found.lines)
    assert min(point.stated for point in found.curve) < 1.0


def test_more_videos_than_folds_are_left_out_in_groups():
    many = {f"v{i:02}": RNG.gumbel(size=200) for i in range(FOLDS + 7)}
    found = trust(held_out_of(many), budget=300.0)
    assert f"each of {FOLDS} groups of videos" in " ".join(found.lines)


def test_a_single_video_says_that_nothing_is_known_of_others():
    for rule in ({"quantile": 0.99}, {"budget": 200.0}, {"value": 4.0}):
        found = trust(held_out_of({"a": VIDEOS["v0"]}), **rule)
        assert "a single held-out video" in found.warnings[0] and not found.curve


def test_rows_without_a_frame_rate_still_show_their_shares():
    found = trust(held_out_of(VIDEOS, fps=None), quantile=0.9, release_quantile=0.9)
    assert found.curve and "frame rate" in " ".join(found.warnings)


def test_a_model_without_rows_is_said_to_show_no_rate():
    calibration = calibration_of(held_out_of(VIDEOS))
    config = EventConfig()
    found = trust_in(config, calibration, None, thresholds_of(config, calibration, None))
    assert "no held-out rows" in found.warnings[0]


def test_constant_scores_make_no_line_of_nothing():
    constant = {"a": [4.0] * 500, "b": [4.0] * 500}
    for rule in ({"quantile": 0.99}, {"budget": 3.0}, {"value": 4.0}):
        assert "no event" in trust(held_out_of(constant), **rule).lines[1]


def test_a_rate_that_is_not_rare_without_one_video_costs_its_own_point_only(monkeypatch):
    whole, own = trust(held_out_of(VIDEOS), extreme=1.0).curve, trust_module._solver
    most = sorted(point.stated for point in whole)[-2]

    def solver(config, events, others):
        solve = own(config, events, others)

        def of(rates):
            if "v0" not in others and max(rates) > most:
                raise EventError("not rare")
            return solve(rates)

        return of

    monkeypatch.setattr(trust_module, "_solver", solver)
    assert trust(held_out_of(VIDEOS), extreme=1.0).curve == whole[:-1]
