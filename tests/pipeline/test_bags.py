"""StoreBags: its rows of all videos are those of its bags."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import BagSource, DetectorError, FitOptions
from vadpipe.detectors.row_memory import RowMemory
from vadpipe.detectors.windows import WindowSource
from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import plan_spans
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.bags import (
    StoreBags,
    arrays_of,
    check_chosen,
    find_stores,
    find_twins,
    other_ways,
)
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore, VideoFeatures
from vadpipe.pipeline.store.shard import VideoFacts

SPEC = ArraySpec("frames", "uint8", ("frame", "value"), (1,), role="pixels")


@pytest.fixture
def bags(tmp_path: Path) -> StoreBags:
    """Three records of two videos with 20 and 9 frames; one record is a part of its video."""
    store = FeatureStore(tmp_path, {"extractor": "toy", "arrays": [SPEC.to_json()]})
    store.create()
    rows: dict[str, ProbeRow] = {}
    for name, content, n in (("a", "s1-a", 20), ("b", "s1-b", 9)):
        rows[name] = ProbeRow("", content, "video", n, False, 25.0, 8, 8, 0, 1.0, "h264", "mov")
        for span in plan_spans(content, n, 8):
            at = np.arange(span.frame_start, span.frame_stop)
            values = {"frames": at[:, None].astype(np.uint8)}
            facts = VideoFacts(25.0, n if span.last else None)
            store.write(span, {"frame": Rows(at, at + 1, values)}, [SPEC], facts, {})
    rows["half"] = rows["a"]
    records = [
        VideoRecord(video_id="a", path=None, split="train", label=0, scene="yard"),
        VideoRecord(video_id="b", path=None, split="train", label=1),
        VideoRecord(video_id="half", path=None, split="train", label=1, part=(0.5, 1.0)),
    ]
    return StoreBags(records, rows, {"pixels": store}, labels=True)


def test_a_bag_is_opened_once_with_what_is_known_of_its_video(
    bags: StoreBags, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = FeatureStore.read

    def noted(self: FeatureStore, content_id: str) -> VideoFeatures:
        opened.append(content_id)
        return read(self, content_id)

    monkeypatch.setattr(FeatureStore, "read", noted)
    bag, features = bags.opened(1)
    assert opened == ["s1-b"] and [found.n_frames for found in features.values()] == [9]
    assert bag.video_id == bags[1].video_id == "b"


@pytest.mark.parametrize("indices", [[0, 1, 2], [2, 1]])
def test_rows_of_all_videos_are_those_of_the_bags(bags: StoreBags, indices: list[int]) -> None:
    source: BagSource = bags.subset(indices)
    rows = source.video_rows("pixels")
    assert list(rows.video_ids) == [bag.video_id for bag in source]
    assert list(rows.scenes) == [bag.scene for bag in source]
    assert list(rows.labels) == [bag.label for bag in source]
    for video, bag in enumerate(source):
        expected = bag.tracks["pixels"].rows()
        out = np.empty((int(rows.counts[video]), *rows.shape), rows.dtype)
        rows.read_into(out, video, 0)
        np.testing.assert_array_equal(out, expected, strict=True)


@pytest.mark.parametrize("memory", [None, 0])
def test_windows_over_the_borders_of_shards_and_parts(bags: StoreBags, memory: int | None) -> None:
    held = RowMemory(bags.video_rows("pixels"), options=FitOptions(memory=memory))
    windows = WindowSource(held, 4, step=2)
    assert len(windows) == (20 - 6) + (9 - 6) + (10 - 6)
    first = {"a": 0, "b": 0, "half": 10}
    for picks in windows.in_order(5):
        batch = windows.read(picks).numpy()[..., 0]
        for values, video, start in zip(batch, picks.video, picks.start, strict=True):
            begin = first[held.rows.video_ids[video]] + int(start)
            assert values.tolist() == [begin, begin + 2, begin + 4, begin + 6]
    held.close()


def test_a_role_that_is_not_there_is_named_with_those_that_are(bags: StoreBags) -> None:
    with pytest.raises(DetectorError, match="no 'object' features; there are: pixels"):
        bags.video_rows("object")


def toy(cache: Path, **recipe: Any) -> FeatureStore:
    """A feature set of one video with 3 rows."""
    store = FeatureStore(cache, {"extractor": "toy", "arrays": [SPEC.to_json()], **recipe})
    store.create()
    at = np.arange(3)
    values = {"frames": np.full((3, 1), len(recipe), np.uint8)}
    span = plan_spans("s1-a", 3, 8)[0]
    store.write(span, {"frame": Rows(at, at + 1, values)}, [SPEC], VideoFacts(25.0, 3), {})
    return store


def test_twins_are_found_by_what_made_them_and_have_names_of_their_own(tmp_path: Path) -> None:
    rows = {
        "a": ProbeRow("", "s1-a", "video", 3, False, 25.0, 8, 8, 0, 1.0, "h264", "mov"),
    }
    plain, twins = toy(tmp_path), {"odd": "pixels"}
    with pytest.raises(StoreError, match=r"no feature set .* 'pixels' features of perturbed"):
        find_twins(tmp_path, twins, rows)
    noisy = toy(tmp_path, perturb={"kind": "noise"})
    assert find_stores(tmp_path, ["pixels"], rows)["pixels"].key == plain.key  # not the noisy one
    assert find_twins(tmp_path, twins, rows)["odd"].key == noisy.key
    assert find_twins(tmp_path, twins, rows, {"odd": plain.name})["odd"].key == plain.key
    derived = toy(tmp_path, source={"extractor": "perturb", "arrays": [SPEC.to_json()]}, config={})
    assert other_ways(twins, {"pixels": plain}, {"odd": noisy}) == ()
    resized = toy(tmp_path, config={"size": [4, 4]}, perturb={"kind": "noise"})
    (warning,) = other_ways(twins, {"pixels": plain}, {"odd": resized})
    assert f"odd ({resized.name}) was made in another way than pixels ({plain.name}): " in warning
    with pytest.raises(StoreError, match="choose one with --features odd=NAME"):
        find_twins(tmp_path, twins, rows)
    record = VideoRecord(video_id="a", path=None, split="train")
    named = {"odd": ("pixels", derived)}
    bags = StoreBags([record], rows, {"pixels": plain}, labels=False, twins=named).subset([0])
    assert bags[0].tracks["pixels"].rows().max() == 0
    assert bags[0].tracks["odd"].rows().max() == 2
    out = np.zeros((3, 1), np.uint8)
    bags.video_rows("odd").read_into(out, 0, 0)
    assert out.max() == 2


def other(cache: Path, name: str, **roles: str) -> FeatureStore:
    """A feature set with an array of each role; nothing is on disk."""
    at = ("snippet", "value")
    specs = [ArraySpec(n, "float32", at, (1,), role=role) for n, role in roles.items()]
    store = FeatureStore(cache, {"extractor": name, "arrays": [s.to_json() for s in specs]})
    store.create()
    return store


def test_a_role_is_of_the_set_that_was_chosen_for_it(tmp_path: Path) -> None:
    """The other set has it too, as something that was not asked for."""
    one = other(tmp_path, "one", a="snippet", b="patch/2x3", c="clock")
    two = other(tmp_path, "two", d="object", e="snippet", f="patch/2x3", g="clock")
    stores = {"snippet": one, "object": two, "patch": one, "patch/2x3": two}
    for order in (stores, dict(reversed(stores.items()))):
        found = {r: (a.store, a.spec["name"]) for r, a in arrays_of(order).items()}
        assert found == {
            "snippet": (one, "a"),
            "object": (two, "d"),
            "patch/2x3": (two, "f"),
            "clock": (two, "g"),
        }


def test_exactly_a_role_is_preferred_to_a_variant_of_it(tmp_path: Path) -> None:
    """Objects and masks have roles such as "frame/objects" beside features of whole frames."""
    objects = other(tmp_path, "objects", a="frame/objects", b="frame/size")
    assert find_stores(tmp_path, ["frame"], {})["frame"].key == objects.key
    clip = other(tmp_path, "clip", a="frame")
    assert find_stores(tmp_path, ["frame"], {})["frame"].key == clip.key
    named = {"frame": "objects"}  # what is named is taken
    assert find_stores(tmp_path, ["frame"], {}, named)["frame"].key == objects.key


def test_names_that_choose_nothing_are_refused(tmp_path: Path) -> None:
    one = other(tmp_path, "one", a="snippet")
    asks: Any = SimpleNamespace(needs=("snippet",), twins={"odd": "snippet"})
    check_chosen([asks], ["snippet", "odd"])
    with pytest.raises(StoreError, match=r"'snipet' are not asked .* did you mean 'snippet'\?"):
        check_chosen([asks], ["snipet"])
    assert find_stores(tmp_path, ["snippet"], {}, {"snippet": "on"})["snippet"].key == one.key
    with pytest.raises(StoreError, match=f"name 'onne' .*these have: {one.name}; did you mean"):
        find_stores(tmp_path, ["snippet"], {}, {"snippet": "onne"})
    with pytest.raises(StoreError, match="run vadpipe extract first"):
        find_stores(tmp_path, ["object"], {}, {"object": "one"})
