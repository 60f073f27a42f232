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
from vadpipe.data_manifests.record import Manifest, ManifestError
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
    copies = write_fast_copies(manifest, probed, folder / "fast", [2], max_bytes=1 << 40)
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
        start, stop = event_frames((0, clip.n_frames), copy.n_frames, step)
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
    clips = [_Clip((0, bag.n_frames), bag, (played_fast(bag),)) for bag in map(walkers, range(4))]

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
    with pytest.raises(DetectorError, match="knn is not one of them"):
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

    where = ["copies", str(listed), str(tmp_path / "fast"), "--speed", "2"]
    assert call(*where, "--dry-run").startswith("3 copies, at most about ")
    asked = CliRunner().invoke(cli, ["choose", *where, *cache])
    assert asked.exit_code == 1 and "To confirm, say --max-bytes" in str(asked.exception)
    assert not (tmp_path / "fast").exists()
    copies = call(*where, "--max-bytes", "9999999").strip()
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
    for words, said in (
        (["--grid", "smooth=[2]", "--grid", "smooth=[4]"], "is there twice"),
        (["--grid", "smooth=[2]", "--set", "smooth=4"], "has a fixed value too"),
        (["--grid", "smooth"], "--grid 'smooth': write key=value"),
        (["--grid", "smooth=[]"], "no list of values for smooth"),
    ):
        done = CliRunner().invoke(cli, ["choose", *wrong[:4], *words, *cache])
        assert done.exit_code in (1, 2) and said in f"{done.output} {done.exception}"
    write_manifest(made.copies, listed)
    for words in (["rank", "attribute_density", str(listed), copies], where):
        done = CliRunner().invoke(cli, ["choose", *words, *cache])
        assert done.exit_code == 1 and "none of split train" in str(done.exception)


def with_features(made: Made, manifest: Manifest, folder: Path) -> Made:
    """The same for other clips; objects of the copies are extracted."""
    probed = probe_files(manifest, made.cache)
    copies = write_fast_copies(manifest, probed, folder, [2], max_bytes=1 << 40)
    copies_probed = probe_files(copies, made.cache)
    motion = resolve_extractor("objects", MOTION, cache=made.cache)
    extract_features(copies, copies_probed, [motion], made.cache)
    return replace(
        made, manifest=manifest, probed=probed, copies=copies, copies_probed=copies_probed
    )


@pytest.mark.parametrize("part", [(0.0, 0.5), (0.5, 1.0)])
def test_frames_outside_of_the_part_of_a_clip_do_not_count(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: tuple[float, float]
) -> None:
    records = tuple(r.model_copy(update={"part": part}) for r in made.manifest.records)
    halves = made.manifest.model_copy(update={"records": records})
    half = with_features(made, halves, tmp_path / "fast")
    seen: list[Any] = []

    def noted(labels: Any, scores: Any) -> float:
        seen.append((labels, scores))
        return 0.7

    monkeypatch.setattr("vadpipe.pipeline.choose.roc_auc_score", noted)
    half.rank()
    ((labels, _),) = seen
    per_clip = labels.reshape(-1, 20)  # 40 frames a file, 3 clips, 4 windows
    assert len(per_clip) == 12
    wanted = [False] * 5 + [True] * 10 + [False] * 5
    assert all(row.tolist() == wanted for row in per_clip)


def test_clips_of_other_splits_are_never_ranked(made: Made) -> None:
    records = tuple(r.model_copy(update={"split": "test"}) for r in made.manifest.records)
    tested = replace(made, manifest=made.manifest.model_copy(update={"records": records}))
    with pytest.raises(ManifestError, match=r"no training clips: .* none of split train"):
        tested.rank()


def test_copies_of_other_clips_are_refused(made: Made) -> None:
    a, b = made.manifest.records[:2]
    turned_rows = {
        **made.probed.rows,
        a.video_id: made.probed.rows[b.video_id],
        b.video_id: made.probed.rows[a.video_id],
    }
    other = replace(made, probed=Probed(turned_rows))
    with pytest.raises(ManifestError, match="it was made of another file"):
        other.rank()


def test_a_threshold_below_that_of_the_feature_set_is_refused(made: Made) -> None:
    cache = made.folder / "sure"
    sure = resolve_extractor("objects", {**MOTION, "score": 0.5}, cache=cache)
    for listed, files in ((made.manifest, made.probed), (made.copies, made.copies_probed)):
        extract_features(listed, files, [sure], cache)
    both = (made.manifest, made.probed, made.copies, made.copies_probed, cache)
    with pytest.raises(StoreError, match=r"no boxes below 0.5, so a threshold of 0.2 .*score=0.2"):
        rank_settings("attribute_density", *both, settings=SPEED, thresholds=[0.6, 0.2])
    found = rank_settings("attribute_density", *both, settings=SPEED, thresholds=[0.0, 0.5])
    assert len(found) == 2


def test_scores_that_are_no_numbers_are_no_result() -> None:
    clips = [_Clip((0, bag.n_frames), bag, (played_fast(bag),)) for bag in map(walkers, range(4))]
    pairs = _left_out("attribute_density", {**SPEED, "motion": "velocity"}, clips, (1, 2), 0)
    pairs[1].fast.highest[3, 0] = np.nan
    with pytest.raises(DetectorError, match="are not finite"):
        _auc(pairs, 2.0, 1)


def test_a_ranking_at_chance_is_called_that(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("vadpipe.pipeline.choose.tell", lambda text, **_: said.append(text))
    monkeypatch.setattr("vadpipe.pipeline.choose.roc_auc_score", lambda *_: 0.501)
    made.rank()
    assert not said
    monkeypatch.setattr("vadpipe.pipeline.choose.roc_auc_score", lambda *_: 0.5)
    made.rank()
    assert len(said) == 1 and "the best AUC is 50.00, and 50 is chance" in said[0]
