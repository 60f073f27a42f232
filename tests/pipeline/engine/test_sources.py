"""Pixel sources: what may be one, keys, commands, and planning by what the source holds."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chain import (
    FRAMES,
    SIZE,
    derived,
    drawing,
    plans_of_chain,
    run_chain,
    video,
)
from tests.random_weights import random_weights
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.errors import ExtractorError
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import jobs_of, plan_videos
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.engine.sources import (
    PixelSource,
    Upstream,
    command_of,
    source_recipes,
)
from vadpipe.pipeline.registry import EXTRACTORS
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.keys import key_of
from vadpipe.pipeline.store.probe_table import Probed

N = 40
(SOURCE,) = stores_of([FRAMES], Path("cache"))


@pytest.fixture
def source(tmp_path: Path) -> FeatureStore:
    """Frames of one video in spans of ten."""
    return run_chain(tmp_path, video(N), [FRAMES], 10, drawing(N))[0]


def statistics(store: FeatureStore, row: Any) -> np.ndarray:
    return store.read(row.content_id).arrays["statistics"][:]


def store_of(name: str, settings: dict[str, Any] | None = None, policy: Any = "keep") -> Any:
    weights = random_weights(name, settings) or None
    spec = resolve_extractor(name, settings, weights=weights, on_corrupt=policy)
    return stores_of([spec], Path("cache"))[0]


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (store_of("null"), "null keeps no pixels. Extractors that keep pixels: .*frames"),
        (store_of("frames", {"stride": 2}), "extract frames with stride 1"),
        (store_of("frames", policy="skip"), "Extract frames with --on-corrupt keep"),
    ],
)
def test_what_does_not_keep_every_frame_is_no_source(store: FeatureStore, message: str) -> None:
    with pytest.raises(ExtractorError, match=f"{store.name} cannot be read.*{message}"):
        resolve_extractor("null", source=store)


def test_imported_features_are_no_source() -> None:
    store = FeatureStore(Path("cache"), {"extractor": "imported", "config": {}, "arrays": []})
    with pytest.raises(ExtractorError, match="imported keeps no pixels"):
        resolve_extractor("null", source=store)


@pytest.mark.parametrize("name", [n for n in EXTRACTORS if EXTRACTORS[n].pixel_array])
def test_arrays_of_pixels_are_pictures(name: str) -> None:
    """The contract of `pixel_array`; what it names can be read in place of footage."""
    array = PixelSource.of(store_of(name)).array
    assert array["dtype"] == "uint8" and len(array["dims"]) == 4 and array["shape"][2] == 3
    assert EXTRACTORS[name].keeps_pixels


def test_the_source_and_its_sources_are_part_of_the_key() -> None:
    plain, on_source = resolve_extractor("null"), resolve_extractor("null", source=SOURCE)
    assert "source" not in plain.recipe()
    assert on_source.recipe() == {**plain.recipe(), "source": SOURCE.recipe}
    other = store_of("frames", {"size": [8, 8]})
    assert key_of(resolve_extractor("null", source=other).recipe()) != key_of(on_source.recipe())
    twice = resolve_extractor("frames", {"size": [2, 2]}, source=SOURCE)
    (second,) = stores_of([twice], Path("cache"))
    third = resolve_extractor("null", source=second).recipe()
    assert [r["extractor"] for r in source_recipes(third)] == ["frames", "frames"]
    assert third["source"]["source"] == SOURCE.recipe
    assert list(source_recipes(plain.recipe())) == []


def test_a_spec_with_a_source_can_be_sent_to_a_worker() -> None:
    spec = resolve_extractor("null", {"perturb": {"kind": "noise"}}, source=SOURCE)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_command_that_makes_a_feature_set() -> None:
    noisy = resolve_extractor("frames", {"size": SIZE, "perturb": {"kind": "noise"}}, source=SOURCE)
    assert command_of(json.loads(json.dumps(noisy.recipe()))) == (
        "vadpipe extract MANIFEST -e frames --set 'size=[4, 6]' "
        "--set 'perturb={kind = \"noise\", strength = 0.1, seed = 0}' "
        f"--from {SOURCE.name} --max-bytes N"
    )
    network = resolve_extractor("inception_i3d", weights="random:3", precision="fp32")
    assert command_of(network.recipe()) == (
        "vadpipe extract MANIFEST -e inception_i3d --weights random:3 --precision fp32"
    )


def test_features_of_a_source_equal_those_of_footage(tmp_path: Path, source: FeatureStore) -> None:
    """The frames are drawn at the size of the source, so that resizing changes nothing."""
    config = {"clip_length": 4, "stride": 3}
    plain = resolve_extractor("null", config)
    (expected,) = run_chain(tmp_path / "plain", video(N), [plain], 16, drawing(N))
    (found,) = run_chain(tmp_path, video(N), [derived(source)], 16)
    a, b = (store.read(video(N).content_id) for store in (expected, found))
    assert np.array_equal(a.arrays["statistics"][:], b.arrays["statistics"][:])
    assert np.array_equal(a.frame_start, b.frame_start)
    assert (a.n_frames, a.fps, a.flags) == (b.n_frames, b.fps, b.flags)


@pytest.mark.parametrize("perturb", [None, {"kind": "noise"}, {"kind": "skip_frames"}])
def test_spans_change_nothing(tmp_path: Path, source: FeatureStore, perturb: Any) -> None:
    """Neither the spans of the source nor those of what reads it; perturbed or not."""
    settings = {} if perturb is None else {"perturb": perturb}
    spec, row = derived(source, **settings), video(N)
    expected = statistics(run_chain(tmp_path, row, [spec], 1000)[0], row)
    for upstream_span, span in ((10, 7), (16, 10), (1000, 16)):
        cache = tmp_path / f"{upstream_span}-{span}"
        run_chain(cache, row, [FRAMES], upstream_span, drawing(N))
        (store,) = run_chain(cache, row, [spec], span)
        assert len(store.shards(row.content_id)) == -(-N // span)
        assert np.array_equal(statistics(store, row), expected)


def test_a_perturbation_is_part_of_the_key_and_of_the_values(
    tmp_path: Path, source: FeatureStore
) -> None:
    row, found = video(N), []
    for perturb in (None, {"kind": "noise"}, {"kind": "noise", "seed": 1}):
        spec = derived(source, **({} if perturb is None else {"perturb": perturb}))
        assert ("perturb" in spec.recipe()) == (perturb is not None)
        found.append(statistics(run_chain(tmp_path, row, [spec], 16)[0], row))
    assert len({values.tobytes() for values in found}) == 3
    with pytest.raises(ExtractorError, match="frames reads single frames"):
        resolve_extractor("frames", {"perturb": {"kind": "skip_frames"}})


def test_spans_start_when_the_frames_of_their_clips_are_there(
    tmp_path: Path, source: FeatureStore
) -> None:
    """Clips reach two frames over the border: clip [9, 13), and one frame of context."""
    row, spec = video(N), derived(source)
    kept = source.shards(row.content_id)[2][2]
    whole = kept.read_bytes()
    kept.unlink()  # frames 20 to 29
    (plan,) = plans_of_chain(tmp_path, row, [spec], 10)
    assert plan.missing == ((0,),), "span 1 reads beyond frame 20, span 3 before frame 30"
    assert plan.source_root == tmp_path
    assert type(plan.error).__name__ == "MissingSource"
    assert f"{source.name} lacks the frames of {row.content_id} from 20 on" in str(plan.error)
    assert "vadpipe extract MANIFEST -e frames --set 'size=[4, 6]'" in str(plan.error)
    (store,) = run_chain(tmp_path, row, [spec], 10)
    assert [start for start, *_ in store.shards(row.content_id)] == [0]
    kept.write_bytes(whole)
    (plan,) = plans_of_chain(tmp_path, row, [spec], 10)
    assert plan.missing == ((1, 2, 3),) and plan.error is None
    run_chain(tmp_path, row, [spec], 10)
    assert plans_of_chain(tmp_path, row, [spec], 10) == []
    (again,) = run_chain(tmp_path / "b", row, [FRAMES], 10, drawing(N))
    (other,) = run_chain(tmp_path / "b", row, [derived(again)], 10)
    assert np.array_equal(statistics(store, row), statistics(other, row))


def test_the_last_span_waits_for_the_end_of_the_source(
    tmp_path: Path, source: FeatureStore
) -> None:
    row, spec = video(N), derived(source, before=0, after=0, clip_length=1, stride=1)
    source.shards(row.content_id)[3][2].unlink()
    (plan,) = plans_of_chain(tmp_path, row, [spec], 10)
    assert plan.missing == ((0, 1, 2),) and "from 30 on" in str(plan.error)
    source.remove_video(row.content_id)
    (plan,) = plans_of_chain(tmp_path, row, [spec], 10)
    assert plan.missing == ((),) and "from 0 on" in str(plan.error)


def test_the_length_is_what_the_last_shard_says(tmp_path: Path) -> None:
    """The header promised 40 frames, and 25 came."""
    row = video(N)
    (source,) = run_chain(tmp_path, row, [FRAMES], 10, drawing(25))
    (plan,) = plans_of_chain(tmp_path, row, [derived(source)], 10)
    assert plan.row.n_frames == 25 and len(plan.spans) == 3 and plan.spans[-1].last
    assert (plan.row.height, plan.row.width) == SIZE
    (store,) = run_chain(tmp_path, row, [derived(source)], 10)
    features = store.read(row.content_id)
    assert features.n_frames == 25 and "header_mismatch" in features.flags
    assert plans_of_chain(tmp_path, row, [derived(source)], 10) == []


def test_the_first_root_that_has_all_of_a_video_is_read(
    tmp_path: Path, source: FeatureStore
) -> None:
    row = video(N)
    other = tmp_path / "other"
    run_chain(other, row, [FRAMES], 40, drawing(N))
    spec = derived(source)
    contents, rules = [row.content_id], [spec.clip_rule()]

    def upstream() -> Upstream:
        assert spec.source is not None
        return Upstream(spec.source, [tmp_path, other], contents, rules)

    assert upstream().root(row.content_id) == tmp_path
    source.shards(row.content_id)[0][2].unlink()
    assert upstream().root(row.content_id) == other
    FeatureStore(other, source.recipe).remove_video(row.content_id)
    assert upstream().root(row.content_id) == tmp_path
    assert "from 0 on" in str(upstream().missing(row.content_id))


def test_a_task_never_reads_footage_for_features_of_a_source(
    tmp_path: Path, source: FeatureStore
) -> None:
    """Planned without its source, it would write values of another key."""
    spec, plain = derived(source), resolve_extractor("null")
    (plan,) = plan_videos(Probed({"v": video(N)}), stores_of([spec], tmp_path), 100)
    with pytest.raises(ValueError, match="whose root is given"):
        next(jobs_of(plan, [spec], tmp_path, Engine(), Runtime()))
    (plan,) = plans_of_chain(tmp_path, video(N), [spec, plain], 100)
    with pytest.raises(ValueError, match="read the same pixels"):
        next(jobs_of(plan, [spec, plain], tmp_path, Engine(), Runtime()))
