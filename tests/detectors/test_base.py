"""Configs: what stands in the key of a model."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from tests.bags import Bags
from vadpipe.detectors import PLACES
from vadpipe.detectors.base import ADDED_LATER, TRAIN_OPTIONS, Config, DetectorError, Scores
from vadpipe.pipeline.models import make_detector
from vadpipe.pipeline.registry import DETECTORS


class First(Config):
    a: int = 1
    b: tuple[int, ...] = (2,)


class Second(First):
    c: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0)
    d: Annotated[str, ADDED_LATER] = "x"


class Third(Second):
    d: str = "y"  # a method of its own default, which has never been without it
    e: int = 0


def test_a_later_option_stands_in_the_key_only_where_it_is_changed() -> None:
    assert First().for_key() == {"a": 1, "b": [2]}
    assert Second().for_key() == Second(c=None, d="x").for_key() == {"a": 1, "b": [2]}
    assert Second(c=0.5).for_key() == {"a": 1, "b": [2], "c": 0.5}
    assert Second(a=3, d="z").for_key() == {"a": 3, "b": [2], "d": "z"}


def test_a_subclass_inherits_the_mark_and_may_drop_it() -> None:
    assert Third().for_key() == {"a": 1, "b": [2], "d": "y", "e": 0}
    assert Third(d="x", c=2).for_key() == {"a": 1, "b": [2], "c": 2.0, "d": "x", "e": 0}


LOOP = {"schedule": "cosine", "warmup": 1, "precision": "bf16", "accumulate": 2, "clip": 0.5}
LOOP |= {"score_precision": "bf16"}


@pytest.mark.parametrize("name", ["mil_ranking", "rtfm", "ssrl"])
def test_options_of_the_loop_leave_old_keys_alone(name: str) -> None:
    kind = DETECTORS[name].Config
    assert not set(kind().for_key()) & set(LOOP)
    assert {k: v for k, v in kind.model_validate(LOOP).for_key().items() if k in LOOP} == LOOP
    assert set(kind().model_dump()) == set(kind().for_key()) | set(LOOP)


def test_detectors_without_randomness_say_so_and_refuse_what_they_would_ignore() -> None:
    """Random are those that train a network, and nothing else."""
    steps = {"mil_ranking", "msmg", "pseudo_anomaly", "rtfm", "ssmtl", "ssrl"}
    for name in PLACES:
        detector = make_detector(name)
        if name in steps:
            assert detector.draws(Bags([])) and detector.train_options >= TRAIN_OPTIONS
        else:
            assert not detector.draws(Bags([])) and detector.train_options <= {"holdout"}
            with pytest.raises(DetectorError, match="would ignore device and memory"):
                detector.refuse_options(["memory", "device"])


@pytest.mark.parametrize("column", [np.array(["a", "b"]), np.ones((2, 3)), [1.0, np.nan]])
def test_a_score_column_is_one_finite_number_a_row(column: Any) -> None:
    at = np.arange(2)
    with pytest.raises(DetectorError, match=r"score column 'near' .*(numbers|not finite)"):
        Scores(at, at + 1, {"score": np.zeros(2), "near": column})
