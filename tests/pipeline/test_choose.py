"""Settings ranked by training footage alone: the numbers, the order, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import gaussian_filter1d

from tests.synthetic import SIZE, write_tiny_scene
from tests.walkers import walkers
from vadpipe.data_manifests.record import Manifest
from vadpipe.data_manifests.table import write_manifest
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.pipeline import (
    build_manifest,
    extract_features,
    probe_files,
    rank_settings,
    resolve_extractor,
    write_fast_copies,
)
from vadpipe.pipeline.bags import StoreBags
from vadpipe.pipeline.choose import _auc, _Clip, _left_out
from vadpipe.pipeline.choosing.one_window import event_frames
from vadpipe.pipeline.choosing.thinned import HeldBags, thinned
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.models import make_detector
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.probe_table import Probed

SPEED = {"attributes": ["speed"]}
MOTION = {"detector": "motion", "flow": "dis", "motion_area": 6}


@dataclass(frozen=True)
class Made:
    """Clips, their copies and their objects."""

    folder: Path
    manifest: Manifest
    probed: Probed
    copies: Manifest
    copies_probed: Probed
    store: FeatureStore

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def rank(self, **more: Any) -> list[Any]:
        return rank_settings(
            more.pop("detector", "attribute_density"),
            *(self.manifest, self.probed, more.pop("copies", self.copies), self.copies_probed),
            self.cache,
            **{"settings": SPEED, "windows": (2, 2), **more},
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("choose")
    manifest = build_manifest("synthetic", write_tiny_scene(folder / "scene", n_train=3, n_test=1))
    manifest = manifest.select(split="train")
    probed = probe_files(manifest, folder / "cache")
    copies = write_fast_copies(manifest, probed, folder / "fast", [2])
    copies_probed = probe_files(copies, folder / "cache")
    motion = resolve_extractor("objects", MOTION, cache=folder / "cache")
    for listed, files in ((manifest, probed), (copies, copies_probed)):
        (store,) = extract_features(listed, files, [motion], folder / "cache").stores
    return Made(folder, manifest, probed, copies, copies_probed, store)


def bags_of(made: Made, store: FeatureStore, manifest: Manifest, probed: Probed) -> StoreBags:
    return StoreBags(manifest.records, probed.rows, {"object": store}, labels=False)


def by_hand(made: Made, least: float, every: int, smooth: float, step: int) -> float:
    """The share of (abnormal, normal) pairs of frames in the right order, box by box."""
    clips = [
        thinned(b, least, every) for b in bags_of(made, made.store, made.manifest, made.probed)
    ]
    fast = [
        thinned(b, least, every) for b in bags_of(made, made.store, made.copies, made.copies_probed)
    ]
    values: dict[bool, list[float]] = {False: [], True: []}
    for number, (clip, copy) in enumerate(zip(clips, fast, strict=True)):
        others = [i for i in range(len(clips)) if i != number]
        detector = make_detector("attribute_density", {**SPEED, "fill": False})
        detector.fit(HeldBags(tuple(clips)).subset(others), device="cpu", seed=0)
        own, quick = (detector.score(bag).regions.to_pylist() for bag in (clip, copy))
        start, stop = event_frames(clip.n_frames, copy.n_frames, step)
        for place in range(4):
            rows = []
            for frame in range(0, clip.n_frames, every):
                during = start <= frame < stop
                seen = [b for b in own if b["frame"] == frame]
                if during:
                    seen = [b for b in seen if window(b) != place]
                    seen += [b for b in quick if b["frame"] == frame - start and window(b) == place]
                rows.append(max([b["score"] for b in seen], default=0.0))
            if smooth:
                rows = gaussian_filter1d(rows, smooth / every, mode="nearest")
            for frame in range(clip.n_frames):
                nearest = min(range(len(rows)), key=lambda r: (abs(r * every - frame), r))
                values[start <= frame < stop].append(rows[nearest])
    odd, usual = (np.array(values[label])[:, None] for label in (True, False))
    return float(((odd > usual.T) + 0.5 * (odd == usual.T)).mean())


def window(box: dict[str, float]) -> int:
    down, right = (box["y0"] + box["y1"]) / 2, (box["x0"] + box["x1"]) / 2
    return 2 * int(down >= SIZE[0] / 2) + int(right >= SIZE[1] / 2)


def test_the_auc_is_that_of_clips_made_by_hand(made: Made) -> None:
    found = made.rank(grid={"smooth": [0.0, 2.0]}, thresholds=[0.0, 0.6], strides=[1, 2])
    assert len(found) == 8
    numbers = {(each.threshold, each.stride, each.settings["smooth"]): each.auc for each in found}
    assert len(set(numbers.values())) > 4
    for (least, every, smooth), auc in numbers.items():
        assert auc == pytest.approx(100 * by_hand(made, least, every, smooth, 2), abs=1e-6)


def played_fast(bag: Bag) -> Bag:
    """Every second frame, and twice the velocity."""
    tracks = {}
    for role, track in bag.tracks.items():
        kept = track.frame_start % 2 == 0
        values = track.rows()[kept] * (2 if role == "object/velocity" else 1)
        start = track.frame_start[kept] // 2
        tracks[role] = Track(values, start, start + 1)
    return replace(bag, tracks=tracks, n_frames=bag.n_frames // 2)


def test_fast_windows_are_found_by_their_speed_alone() -> None:
    clips = [_Clip(bag, (played_fast(bag),)) for bag in map(walkers, range(4))]

    def auc(attribute: str) -> float:
        settings = {"attributes": [attribute], "motion": "velocity"}
        pairs = _left_out("attribute_density", settings, clips, (1, 2), 0)
        assert len(pairs) == 4
        return _auc(pairs, 2.0, 1)

    assert auc("speed") > 0.95
    assert auc("size") < 0.7


def test_the_order_is_by_auc_then_cost_then_defaults(made: Made) -> None:
    # With one attribute there is nothing to combine, and no box scores less than 0.001.
    found = made.rank(grid={"combine": ["max", "sum"]}, thresholds=[0.0, 0.001])
    assert len({round(each.auc, 2) for each in found}) == 1
    order = [(each.threshold, each.settings["combine"]) for each in found]
    assert order == [(0.001, "sum"), (0.001, "max"), (0.0, "sum"), (0.0, "max")]
    ranked = made.rank(grid={"smooth": [0.0, 4.0]}, strides=[2, 1])
    values = [round(each.auc, 2) for each in ranked]
    assert values == sorted(values, reverse=True)


def test_thinned_features_are_those_of_an_extraction(made: Made) -> None:
    fewer = {**MOTION, "score": 0.6, "stride": 2}
    extractor = resolve_extractor("objects", fewer, cache=made.cache)
    (store,) = extract_features(made.manifest, made.probed, [extractor], made.folder / "2").stores
    real = bags_of(made, store, made.manifest, made.probed)
    more = bags_of(made, made.store, made.manifest, made.probed)
    for own, dense in zip(real, more, strict=True):
        thin = thinned(dense, 0.6, 2)
        assert 0 < len(thin.tracks["object/boxes"]) < len(dense.tracks["object/boxes"])
        for role, track in own.tracks.items():
            np.testing.assert_array_equal(thin.tracks[role].rows(), track.rows())
            np.testing.assert_array_equal(thin.tracks[role].frame_start, track.frame_start)


def test_what_cannot_be_ranked_is_refused(made: Made) -> None:
    with pytest.raises(DetectorError, match="does not score boxes"):
        made.rank(detector="knn", settings={})
    with pytest.raises(DetectorError, match="leave it at 1"):
        made.rank(settings={**SPEED, "mean_filter": 3})
    one = made.copies.model_copy(update={"records": made.copies.records[:1]})
    with pytest.raises(DetectorError, match="2 training clips have no fast copies"):
        made.rank(copies=one)


def test_copies_that_were_extracted_otherwise_have_to_be_named(made: Made) -> None:
    cache = made.folder / "other"
    slower = resolve_extractor("objects", {**MOTION, "flow_span": "next"}, cache=cache)
    own = resolve_extractor("objects", MOTION, cache=cache)
    extract_features(made.manifest, made.probed, [own], cache)
    (store,) = extract_features(made.copies, made.copies_probed, [slower], cache).stores
    listed = (made.manifest, made.probed, made.copies, made.copies_probed, cache)
    with pytest.raises(StoreError, match="in another way than the clips") as refused:
        rank_settings("attribute_density", *listed, settings=SPEED)
    assert "config.flow_span: None != 'next'" in str(refused.value)
    named = rank_settings("attribute_density", *listed, settings=SPEED, copy_features=store.name)
    assert len(named) == 1


def test_the_commands_make_copies_and_rank(made: Made, tmp_path: Path) -> None:
    listed = tmp_path / "scene.parquet"
    write_manifest(made.manifest, listed)
    cache = ["--cache", str(made.cache)]

    def call(*words: str) -> str:
        done = CliRunner().invoke(cli, ["choose", *words, *cache], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    copies = call("copies", str(listed), str(tmp_path / "fast"), "--speed", "2").strip()
    grid = ["--grid", "smooth=[0, 4]", "--set", "attributes=[speed]"]
    lines = call("rank", "attribute_density", str(listed), copies, *grid).splitlines()
    ranked = json.loads(call("rank", "attribute_density", str(listed), copies, *grid, "--json"))
    assert len(lines) == 2 and [each["settings"] for each in ranked["ranked"]]
    for line, each in zip(lines, ranked["ranked"], strict=True):
        said = f"threshold 0.0, stride 1, smooth {each['settings']['smooth']}"
        assert line == f"{each['auc']:.2f}  {said}"
    wrong = ["rank", "attribute_density", str(listed), copies, "--grid", "smooth=4", *cache]
    done = CliRunner().invoke(cli, ["choose", *wrong])
    assert done.exit_code == 2 and "write a list" in done.output
