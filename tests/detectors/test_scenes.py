"""Scenes of videos, told apart or not, and one that nothing was learned of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.bags import bag
from vadpipe.detectors.base import Bag, DetectorError
from vadpipe.detectors.scenes import ANYWHERE, learned_of, scene_of


def video(scene: str | None) -> Bag:
    return replace(bag("v", {"pixels": np.zeros((1, 2, 2, 3), np.uint8)}), scene=scene)


def test_all_videos_are_of_one_scene_where_scenes_are_not_told_apart() -> None:
    assert scene_of(video("gate"), per_scene=True) == "gate"
    assert scene_of(video("gate"), per_scene=False) == ANYWHERE
    assert scene_of(video(None), per_scene=True) == ANYWHERE


def test_a_scene_without_training_names_those_that_there_are() -> None:
    known = {"gate": 1, "yard": 2}
    assert learned_of(known, video("yard"), per_scene=True) == 2
    with pytest.raises(DetectorError, match=r"'door', which has no training video.*: gate, yard"):
        learned_of(known, video("door"), per_scene=True)
    with pytest.raises(DetectorError, match="set per_scene=false"):
        learned_of(known, video(None), per_scene=True)
