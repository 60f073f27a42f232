"""The page shows what a chosen threshold rests on, and nothing of what a changed file says."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.report.about import _about_trust, _old_value
from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.scores.limit import Limit
from vadpipe.pipeline.scores.stored_threshold import Measured, StoredThreshold

KEPT = StoredThreshold(
    rule=EventConfig(budget=2.0),
    high=3.0,
    low=1.0,
    lines=("6 hours",),
    unit="events a day",
    weights_sha256="w",
    curve=(Measured(stated=1.0, found=0.0), Measured(stated=9.0, found=9.0)),
)
USED = Limit(3.0, "budget 2 events per camera and day")


def run(values: object, **more: object) -> dict[str, object]:
    return {
        "model": {"threshold": values, "weights_sha256": "w"},
        "threshold": {"low": 1.0, "rule": "budget 2 events per camera and day"},
        **more,
    }


def test_points_as_stated_lie_on_the_diagonal() -> None:
    found = _about_trust(run(KEPT.model_dump(mode="json")), USED, "score")
    assert found["trust"] == KEPT
    first, second = (
        [float(n) for n in pair.split(",")] for pair in found["trust_points"].split(" ")
    )
    assert second[0] == pytest.approx(100 - second[1], abs=0.01)
    assert 0 < first[0] < second[0] < 100 and first[1] == 100, "nothing found is at the bottom"


@pytest.mark.parametrize(
    "values", [None, {}, [1], "x", {"rule": {"budget": -1}}, {**KEPT.model_dump(), "high": "no"}]
)
def test_what_is_no_threshold_is_not_shown(values: object) -> None:
    assert _about_trust(run(values), USED, "score") == {"trust": None, "trust_points": ""}


def test_another_rule_than_the_kept_one_shows_nothing() -> None:
    values = run(KEPT.model_dump(mode="json"))
    for limit in (None, Limit(3.0, "value 3"), Limit(3.0)):
        assert _about_trust(values, limit, "score")["trust"] is None
    bare = KEPT.model_copy(update={"curve": ()})
    assert _about_trust(run(bare.model_dump(mode="json")), USED, "score")["trust_points"] == ""


def test_it_rests_on_raw_scores_of_these_weights_at_these_levels() -> None:
    values = KEPT.model_dump(mode="json")
    assert _about_trust(run(values), USED, "score")["trust"] == KEPT
    assert _about_trust(run(values), USED, "near")["trust"] is None
    for changed in (
        {"smooth": "gaussian:2s"},
        {"threshold": {"low": 0.5}},
        {"model": {"threshold": values, "weights_sha256": "other"}},
    ):
        assert _about_trust(run(values, **changed), USED, "score")["trust"] is None
    assert _about_trust(run(values), Limit(2.9, USED.rule), "score")["trust"] is None


def test_a_value_of_other_weights_is_warned_of() -> None:
    kept = KEPT.model_copy(update={"rule": EventConfig(value=3.0)}).model_dump(mode="json")
    used = {"rule": "value 3", "high": 3.0, "low": 1.0}
    old = {"threshold": kept, "weights_sha256": "other"}
    (said,) = _old_value(run(kept, threshold=used, model=old))
    assert "other weights" in said and "vadpipe threshold again" in said
    assert not _old_value(run(kept, threshold=used)), "the same weights"
    assert not _old_value(run(kept, threshold={"rule": "quantile 0.99"}, model=old))
    assert not _old_value(run(KEPT.model_dump(mode="json"), model=old)), "no value"
