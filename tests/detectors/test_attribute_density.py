"""attribute_density: each attribute matters, explains itself, and survives a round trip."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from threadpoolctl import threadpool_info

from tests.bags import Bags
from tests.edge_objects import CROWD, crowd, edges, first_frames, with_boxes
from tests.plaza_objects import FRAMES, plaza_clip
from tests.walkers import ODD, ODD_FROM, SIZE, walkers
from vadpipe.detectors import attribute_density
from vadpipe.detectors.attribute_density import AttributeDensity, AttributeDensityConfig
from vadpipe.detectors.base import Bag, DetectorError, Scores, Track
from vadpipe.detectors.object_measures import Measures
from vadpipe.pipeline.scores.regions import checked_regions

ALL = tuple(ODD)
WORDS = {
    "speed": "speed ",
    "direction": "direction 1",
    "place": "place ",
    "size": "size off by a factor of",
    "class": "bicycle 0.8",
    "stay": "stays for ",
    "deep": "appearance ",
    "pose": "pose ",
    "reid": "looks ",
}
PLAIN = {
    "speed": " faster than usual",
    "direction": "in an unusual direction",
    "place": "is far from any usual place",
    "size": "unusual size for this place",
    "class": "a bicycle",
    "stay": " longer than usual",
    "deep": "looks unusual",
    "pose": "has an unusual posture",
    "reid": "looks unlike anyone",
}
TRAINING = [walkers(seed) for seed in range(4)]


def fitted(bags: list[Bag] | None = None, **settings: Any) -> AttributeDensity:
    settings = {"attributes": ALL, "motion": "velocity", "smooth": 0.0, **settings}
    detector = AttributeDensity(AttributeDensityConfig(**settings))
    detector.fit(Bags(TRAINING if bags is None else bags), device="cpu", seed=0)
    return detector


def found(scores: Scores) -> float:
    """Share of (odd, usual) pairs of frames where the odd frame has the higher score."""
    odd, usual = scores.columns["score"][ODD_FROM + 5 :], scores.columns["score"][:ODD_FROM]
    pairs = odd[:, None] - usual
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


@pytest.fixture(scope="module")
def whole() -> AttributeDensity:
    return fitted()


@pytest.mark.parametrize("name", ALL)
def test_each_attribute_matters(name: str, whole: AttributeDensity) -> None:
    """Something odd is found, named as the reason, and ranked lower without its attribute."""
    bag = walkers(99, ODD[name])
    scores = whole.score(bag)
    assert scores.regions is not None
    best = max(scores.regions.to_pylist(), key=lambda row: row["score"])
    assert best["frame"] >= ODD_FROM
    assert best["explain"].startswith(WORDS[name]), best["explain"]
    assert "training" in best["explain"]
    assert PLAIN[name] in best["words"], best["words"]
    assert not any(sign.isdigit() for sign in best["words"])
    assert best["label"] == ("bicycle" if name == "class" else "person")
    without = fitted(attributes=[other for other in ALL if other != name]).score(bag)
    assert found(scores) > 0.95
    assert found(scores) > found(without) + 0.05
    assert (
        scores.columns[name][ODD_FROM + 5 :].mean() > scores.columns[name][:ODD_FROM].mean() + 0.5
    )


# Events of the plaza, what each is odd in, and how the reason for it starts.
PLAZA = {
    "runner": ("speed", "speed "),
    "cyclist": ("class", "bicycle 0."),
    "cart": ("class", "truck 0."),
    "ball": ("speed", "speed "),
    "wrong_way": ("direction", "direction 1"),
    "lawn": ("place", "place "),
    "loiterer": ("stay", "stays for "),
}
WHOLE = ("speed", "direction", "place", "size", "class", "stay")
FIRST = {n: n for n in WHOLE} | {"stay": "stays for", "class": "bicycle"}


@pytest.fixture(scope="module")
def plaza() -> dict[str, Any]:
    """Events of the plaza with the reason of each, and evidence of attributes: (objects,) each.

    "usual" is a clip without an event. As the evidence of an attribute does not depend on the
    others, those without one are sums of the rest.
    """
    training = [plaza_clip(seed)[0] for seed in range(8)]
    alone = {name: fitted(training, attributes=[name]) for name in WHOLE}
    whole = fitted(training, attributes=WHOLE)
    found: dict[str, Any] = {}
    for number, event in enumerate([*PLAZA, None]):
        bag, abnormal = plaza_clip(7 + number, event)
        regions = whole.score(bag).regions
        assert regions is not None
        best = max(regions.to_pylist(), key=lambda row: row["score"])
        evidence = {name: one.score(bag).regions for name, one in alone.items()}
        found[event or "usual"] = {
            **{"frame": regions["frame"].to_numpy(), "abnormal": abnormal, "best": best},
            "evidence": {n: t["score"].to_numpy() for n, t in evidence.items() if t is not None},
        }
    return found


def ranks(plaza: dict[str, Any], event: str, names: tuple[str, ...]) -> tuple[float, float]:
    """Share of usual frames, and of usual and other abnormal frames, that rank below the event."""
    frames: dict[str, np.ndarray] = {}
    for name, clip in plaza.items():
        highest = np.zeros(FRAMES)
        total = sum(clip["evidence"][attribute] for attribute in names)
        np.maximum.at(highest, clip["frame"], total)
        frames[name] = highest if name == "usual" else highest[clip["abnormal"]]
    own, others = frames.pop(event), np.concatenate(list(frames.values()))
    below, among = (own[:, None] - one for one in (frames["usual"], others))
    return tuple(float(((p > 0) + 0.5 * (p == 0)).mean()) for p in (below, among))  # type: ignore[return-value]


@pytest.mark.parametrize("event", PLAZA)
def test_events_of_the_plaza_are_found_by_what_they_break(
    event: str, plaza: dict[str, Any]
) -> None:
    """Each is found, says why, and ranks lower without any attribute that it names first."""
    attribute, words = PLAZA[event]
    best = plaza[event]["best"]
    assert plaza[event]["abnormal"][best["frame"]]
    reasons = best["explain"].split("; ")
    assert any(reason.startswith(words) for reason in reasons), reasons
    below, among = ranks(plaza, event, WHOLE)
    assert below > 0.98
    named = [name for name in WHOLE if reasons[0].startswith(FIRST[name])]
    for lacking in {attribute, *named}:
        rest = tuple(name for name in WHOLE if name != lacking)
        assert ranks(plaza, event, rest)[1] < among, lacking


@pytest.mark.parametrize("name", ["direction", "place", "size"])
def test_mixtures_find_it_too(name: str) -> None:
    scores = fitted(attributes=[name], density="gmm").score(walkers(99, ODD[name]))
    assert found(scores) > 0.95
    assert scores.regions is not None
    best = max(scores.regions.to_pylist(), key=lambda row: row["score"])
    assert best["explain"].startswith(f"{name}: -log density ")
    assert "unusual" in best["words"] and " very " not in best["words"]  # a density is no ratio


def test_sum_and_max_over_attributes_of_an_object() -> None:
    bag = walkers(99, {**ODD["speed"], **ODD["place"]})
    one = [fitted(attributes=[name]).score(bag).regions for name in ("speed", "place")]
    a, b = (table["score"].to_numpy() for table in one if table is not None)
    for combine, expected in (("sum", a + b), ("max", np.maximum(a, b))):
        scores = fitted(attributes=["speed", "place"], combine=combine).score(bag)
        assert scores.regions is not None
        assert np.allclose(scores.regions["score"].to_numpy(), expected)
        assert np.allclose(
            scores.columns["score"], np.maximum.reduceat(expected, _starts(scores)), rtol=1e-6
        )


def _starts(scores: Scores) -> np.ndarray:
    assert scores.regions is not None
    return np.unique(scores.regions["frame"].to_numpy(), return_index=True)[1]


def test_speed_limits_are_those_of_training_frames() -> None:
    detector = fitted(attributes=["speed"])
    speeds = np.concatenate(
        [
            np.linalg.norm(b.tracks["object/velocity"].rows(), axis=1).reshape(60, 5)
            for b in TRAINING
        ]
    ).max(1)
    middle, limit = np.quantile(speeds, [0.5, 0.99])
    bag = walkers(99, ODD["speed"])
    velocity = np.linalg.norm(bag.tracks["object/velocity"].rows(), axis=1)
    expected = np.log1p(np.maximum(velocity - middle, 0) / (limit - middle))
    regions = detector.score(bag).regions
    assert regions is not None
    assert np.allclose(regions["score"].to_numpy(), expected, atol=1e-5)


def far_away(bag: Bag) -> Bag:
    """The same walkers, half as high and half as fast, and farther up in the picture."""
    boxes, velocity = (bag.tracks[f"object/{name}"] for name in ("boxes", "velocity"))
    small = boxes.rows().copy()
    small[:, 1::2] = small[:, 1::2] / 2
    tracks = {
        "object/boxes": replace(boxes, array=small),
        "object/velocity": replace(velocity, array=velocity.rows() / 2),
    }
    return replace(bag, tracks={**bag.tracks, **tracks})


def test_speeds_are_divided_by_heights_where_these_depend_on_the_place() -> None:
    """Parts of the footage without the far walkers have to use the same unit."""
    mixed = [*TRAINING[:3], far_away(walkers(3))]
    for training, unit, most in ((mixed, "% of its height/frame", 16), (TRAINING, "px/frame", 3)):
        detector = fitted(training, attributes=["speed"])
        regions = detector.score(walkers(99, ODD["speed"])).regions
        assert regions is not None
        best = max(regions.to_pylist(), key=lambda row: row["score"])
        assert f" {unit}, training limit" in best["explain"]
        assert detector.state_dict()["speed/limit/-"][0] < most
    alike = fitted(mixed, attributes=["speed"], perspective=True).state_dict()
    assert (
        alike["speed/limit/-"][0]
        == fitted(mixed, attributes=["speed"]).state_dict()["speed/limit/-"][0]
    )


def test_each_scene_has_its_own_habits() -> None:
    """What is usual in one scene is odd in the other."""
    fast = [walkers(seed, scene="fast/one") for seed in range(10, 13)]
    for bag in fast:
        bag.tracks["object/velocity"].rows()[:, 0] *= 3  # rows of arrays in memory are views
    slow = [walkers(seed, scene="slow") for seed in range(3)]
    apart = fitted(fast + slow, attributes=["speed"])
    as_fast = replace(walkers(99, {"speed": 6.0}), scene="fast/one")
    assert found(apart.score(replace(as_fast, scene="slow"))) > 0.95
    assert apart.score(as_fast).columns["score"].max() < 1
    with pytest.raises(DetectorError, match=r"of scene 'tower', which has no training video"):
        apart.score(replace(as_fast, scene="tower"))
    together = fitted(fast + slow, attributes=["speed"], per_scene=False)
    assert together.score(replace(as_fast, scene="tower")).columns["score"].max() < 1
    restored = AttributeDensity(apart.config)
    restored.load_state_dict(apart.state_dict())
    assert np.array_equal(
        restored.score(as_fast).columns["score"], apart.score(as_fast).columns["score"]
    )


@pytest.mark.parametrize("density", ["knn", "gmm"])
def test_a_loaded_model_scores_the_same(density: str) -> None:
    detector, bag = fitted(density=density), walkers(99, ODD["place"])
    restored = AttributeDensity(detector.config)
    restored.load_state_dict(detector.state_dict())
    before, after = detector.score(bag), restored.score(bag)
    assert before.columns.keys() == {"score", *ALL} == set(detector.columns)
    for name, values in before.columns.items():
        assert np.array_equal(values, after.columns[name])
    assert before.regions == after.regions


def test_frames_without_objects_score_nothing(whole: AttributeDensity) -> None:
    bag = walkers(99)
    empty = {
        k: Track(t.rows(0, 0), t.frame_start[:0], t.frame_stop[:0])
        for k, t in bag.tracks.items()
        if k.startswith("object/")
    }
    scores = whole.score(replace(bag, tracks={**bag.tracks, **empty}))
    assert not scores.columns["score"].any() and len(scores.columns["score"]) == 60
    assert scores.regions is not None and scores.regions.num_rows == 0


def test_boxes_at_the_edges_and_crowds(whole: AttributeDensity) -> None:
    """Each counts for its frame; one without pixels is no region, as nothing could be drawn."""
    bag = walkers(99)
    there, nothing = edges(*SIZE)
    odd = whole.score(with_boxes(bag, 20, [*there, *nothing]))
    usual = whole.score(bag)
    assert all(np.isfinite(values).all() for values in odd.columns.values())
    assert odd.columns["place"][20] > usual.columns["place"].max(), "nobody walked there"
    assert checked_regions(odd.regions)["frame"].to_pylist().count(20) == 5 + len(there)
    full = whole.score(with_boxes(bag, 20, crowd(*SIZE)))
    assert checked_regions(full.regions)["frame"].to_pylist().count(20) == 5 + CROWD
    assert full.columns["score"].argmax() == 20 and full.maps["objects"].shape == (60, 6, 10)


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_short_videos(frames: int, whole: AttributeDensity) -> None:
    scores = whole.score(first_frames(walkers(99), frames))
    every = whole.score(walkers(99))
    for name, values in scores.columns.items():
        assert np.array_equal(values, every.columns[name][:frames]), name
    assert checked_regions(scores.regions).num_rows == 5 * frames


def test_missing_arrays_say_what_to_extract() -> None:
    for role, message in (
        ("object/classes", r"detector=yolox, or leave class out"),
        ("object/appearance", r"teacher=efficientnet_lite0 --set appearance=true"),
        ("object/pose", r"pose=keypointrcnn, or leave pose out"),
        ("object/reid", r"reid=osnet, or leave reid out"),
        ("object/velocity", r"vadpipe import, or take motion=objects"),
        ("frame/size", r"vadpipe extract -e objects"),
    ):
        bags = [
            replace(b, tracks={k: t for k, t in b.tracks.items() if k != role}) for b in TRAINING
        ]
        with pytest.raises(DetectorError, match=message):
            fitted(bags)
    assert fitted(attributes=["speed"]).needs == ("object",)
    config = AttributeDensityConfig
    dense = AttributeDensity(config(attributes=["direction"], motion="flow"))
    assert dense.needs == ("object", "flow")
    with pytest.raises(DetectorError, match=r"objects with --set flow=dis, or take motion=flow"):
        fitted(attributes=["speed"], motion="objects")
    assert AttributeDensity(config(attributes=["place"])).needs == ("object",)


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(DetectorError, match="no training videos"):
        fitted([])
    with pytest.raises(DetectorError, match="not fitted"):
        AttributeDensity(AttributeDensityConfig()).score(TRAINING[0])
    with pytest.raises(ValidationError, match="named twice"):
        AttributeDensityConfig(attributes=["speed", "speed"])
    bag = TRAINING[0]
    still = {
        k: Track(t.rows(0, 0), t.frame_start[:0], t.frame_stop[:0])
        for k, t in bag.tracks.items()
        if k.startswith("object/")
    }
    with pytest.raises(DetectorError, match="objects in fewer than two frames"):
        fitted([replace(bag, tracks={**bag.tracks, **still})])
    every = bag.tracks["frame/size"]
    wide = replace(every, array=np.tile(np.array([240, 400], np.int32), (60, 1)))
    with pytest.raises(DetectorError, match=r"frames of \(240, 400\), other videos of its scene"):
        fitted([*TRAINING, replace(bag, tracks={**bag.tracks, "frame/size": wide})])


def test_training_frames_are_thinned_and_a_single_video_will_do() -> None:
    detector = AttributeDensity(
        AttributeDensityConfig(attributes=["place", "class"], max_frames=20)
    )
    log = detector.fit(Bags(TRAINING[:1]), device="cpu", seed=0)
    assert log.summary["frames"] == 20 and log.summary["objects"] == 100
    assert found(detector.score(walkers(99, ODD["place"]))) > 0.95


def every_third(bag: Bag) -> Bag:
    """The features of a video with a stride of 3."""
    tracks = {}
    for role, track in bag.tracks.items():
        kept = track.frame_start % 3 == 0
        tracks[role] = Track(track.rows()[kept], track.frame_start[kept], track.frame_stop[kept])
    return replace(bag, tracks=tracks)


def test_boxes_between_rows_are_filled_in() -> None:
    thin, bag = [every_third(b) for b in TRAINING], every_third(walkers(99, ODD["speed"]))
    for fill, frames in ((True, 60), (False, 20)):
        regions = fitted(thin, attributes=["speed"], fill=fill).score(bag).regions
        assert regions is not None
        assert len(np.unique(regions["frame"].to_numpy())) == frames


def test_held_out_scores_are_those_of_a_fit_without_the_video() -> None:
    settings = {"attributes": ["speed", "place", "class"], "motion": "velocity"}
    detector = AttributeDensity(AttributeDensityConfig(**settings))
    held_out = detector.held_out_scores(Bags(TRAINING), seed=0)
    for i, found_of_it in enumerate(held_out):
        others = [b for j, b in enumerate(TRAINING) if j != i]
        expected = fitted(others, **{**settings, "smooth": 4.0}).score(TRAINING[i])
        assert found_of_it.columns.keys() == set(detector.columns)
        for name, values in expected.columns.items():
            assert np.array_equal(found_of_it.columns[name], values), name


@pytest.mark.parametrize(("most", "times"), [(5000, 1), (100, 2)])
def test_videos_are_measured_once_where_training_used_all_of_their_frames(
    most: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 240 frames 100 are a thinned training, whose scores need the other frames too."""
    measured: list[str] = []
    measure = attribute_density.measure

    def counted(bag: Bag, *others: Any) -> Any:
        measured.append(bag.video_id)
        return measure(bag, *others)

    monkeypatch.setattr(attribute_density, "measure", counted)
    config = AttributeDensityConfig(attributes=["place", "stay"], max_frames=most, smooth=0.0)
    scores = AttributeDensity(config).held_out_scores(Bags(TRAINING), seed=0)
    assert all(measured.count(bag.video_id) == times for bag in TRAINING)
    assert [len(each.columns["score"]) for each in scores] == [60] * len(TRAINING)


def test_limits_copy_only_what_an_attribute_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 80 classes of each object are most of what is measured, and only one attribute's."""
    seen: dict[str, set[str]] = {}
    take = Measures.take

    def watched(self: Measures, chosen: Any) -> Measures:
        caller = sys._getframe(1)
        if caller.f_code.co_name == "_limit":
            name = caller.f_locals["attribute"].name
            seen.setdefault(name, set()).update(k for k, v in vars(self).items() if v is not None)
        return take(self, chosen)

    monkeypatch.setattr(Measures, "take", watched)
    fitted()
    always = {"owner", "row", "foot", "sides"}
    assert seen["place"] == seen["size"] == always
    assert seen["direction"] == always | {"speed", "heading"}
    assert seen["deep"] == always | {"deep"} and seen["reid"] == always | {"reid"}


def test_a_single_video_is_left_out_in_fifths_and_empty_ones_score_nothing() -> None:
    detector = AttributeDensity(AttributeDensityConfig(attributes=["place"], smooth=0.0))
    bag = walkers(99, ODD["place"])  # odd in the last half: new to every fifth but the last ones
    (alone,) = detector.held_out_scores(Bags([bag]), seed=0)
    assert len(alone.columns["score"]) == 60
    whole = AttributeDensity(detector.config)
    whole.fit(Bags([bag]), device="cpu", seed=0)
    assert alone.columns["place"].sum() > whole.score(bag).columns["place"].sum()
    empty = replace(
        bag,
        tracks={
            k: Track(t.rows(0, 0), t.frame_start[:0], t.frame_stop[:0])
            if k.startswith("object/")
            else t
            for k, t in bag.tracks.items()
        },
    )
    held_out = detector.held_out_scores(Bags([*TRAINING, empty]), seed=0)
    assert [len(each.frame_start) for each in held_out] == [60] * 5
    assert not held_out[4].columns["score"].any()
    with pytest.raises(DetectorError, match="too short to leave parts of it out"):
        detector.held_out_scores(Bags([empty]), seed=0)


def test_searches_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    measure = attribute_density.measure

    def spying(*args: Any) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return measure(*args)

    monkeypatch.setattr(attribute_density, "measure", spying)
    fitted(attributes=["place"])
    assert seen and set(seen) == {1}


def test_a_scene_without_objects_takes_no_other_scene_with_it() -> None:
    bag = replace(TRAINING[0], scene="hall")
    none = {
        k: Track(t.rows(0, 0), t.frame_start[:0], t.frame_stop[:0])
        for k, t in bag.tracks.items()
        if k.startswith("object/")
    }
    empty = replace(bag, video_id="empty", tracks={**bag.tracks, **none})
    door = [replace(each, scene="door") for each in TRAINING]
    settings = {"attributes": ["speed"], "motion": "velocity", "smooth": 0.0}
    detector = AttributeDensity(AttributeDensityConfig(**settings))
    log = detector.fit(Bags([*door, empty]), device="cpu", seed=0)
    (warning,) = log.warnings
    assert "of scene 'hall' have objects in fewer than two frames" in warning
    alone = fitted(door, attributes=["speed"])
    odd = replace(walkers(99, {"speed": 6.0}), scene="door")
    np.testing.assert_array_equal(
        detector.score(odd).columns["score"], alone.score(odd).columns["score"]
    )
    with pytest.raises(DetectorError, match=r"'hall', which has no training video that could be"):
        detector.score(bag)
    held_out = detector.held_out_scores(Bags([*door, empty]), seed=0)
    assert len(held_out) == len(door) + 1
    again = AttributeDensity(AttributeDensityConfig(**settings))
    again.load_state_dict(detector.state_dict())
    np.testing.assert_array_equal(
        again.score(odd).columns["score"], detector.score(odd).columns["score"]
    )
