"""Chains of feature sets through extraction and scoring: frames -> null -> knn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.chain import FRAMES, derived, drawing, no_decoder, video
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.extractors.errors import ExtractorError
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor, stores_of
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.extract import Extracted, extract_features
from vadpipe.pipeline.models import ModelFolder, source_specs, specs_of_model
from vadpipe.pipeline.score import Scored, score_footage
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_sets import delete_set, list_stores
from vadpipe.pipeline.store.holdings import whole_videos
from vadpipe.pipeline.store.keys import key_of
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.train import train_detector

NAMES = ("a", "b", "c")
N = 24
MANY = 10**9
ENGINE = Engine(span_frames=10)
(SOURCE,) = stores_of([FRAMES], Path("cache"))
TWICE = resolve_extractor("frames", {"size": (2, 3)}, source=SOURCE)
NULL_OF_TWICE = derived(stores_of([TWICE], Path("cache"))[0])

PROBED = Probed({name: video(N, f"s1-{i:040x}") for i, name in enumerate(NAMES)})
CONTENTS = [row.content_id for row in PROBED.rows.values()]
MANIFEST = Manifest(
    dataset="drawn",
    root="/nowhere",
    records=tuple(
        VideoRecord(video_id=name, path=f"{name}.mp4", split="train", label=0) for name in NAMES
    ),
)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Drawn frames in place of decoded ones; call it to take another reader."""

    def use(reader: Any) -> None:
        monkeypatch.setattr(span_task, "guarded_frames", reader)

    use(drawing(N))
    yield use


def extract(cache: Path, *specs: Any, probed: Probed = PROBED, **options: Any) -> Extracted:
    options = {"engine": ENGINE, "max_bytes": MANY, **options}
    return extract_features(MANIFEST, probed, specs, cache, **options)


@pytest.mark.usefixtures("decoder")
def test_extractors_of_a_chain_run_in_its_order(tmp_path: Path) -> None:
    """In one call, whatever the order; the result has the order of the call."""
    null, whole = resolve_extractor("null"), []
    specs = [NULL_OF_TWICE, null, TWICE, FRAMES]
    done = extract(tmp_path, *specs, when_done=whole.append)
    assert not done.failures and set(done.rows) == set(NAMES)
    assert [store.key for store in done.stores] == [key_of(spec.recipe()) for spec in specs]
    assert all(whole_videos(store, CONTENTS) == {*CONTENTS} for store in done.stores)
    assert sorted(whole) == CONTENTS, "once each, when all of its features are there"
    assert done.written == 4 * 3 * len(NAMES)


def test_a_chain_reads_no_footage_and_continues(
    tmp_path: Path, decoder: Callable[[Any], None]
) -> None:
    extract(tmp_path, FRAMES)
    decoder(no_decoder)
    spec = derived(SOURCE)
    first = extract(tmp_path, spec)
    (store,) = first.stores
    assert not first.failures and first.written == 3 * len(NAMES)
    values = store.read(CONTENTS[1]).arrays["statistics"][:]
    store.shards(CONTENTS[1])[1][2].unlink()
    again, whole = extract(tmp_path, spec, when_done=(whole := []).append), whole
    assert again.written == 1 and whole == [CONTENTS[1]]
    assert np.array_equal(store.read(CONTENTS[1]).arrays["statistics"][:], values)
    assert extract(tmp_path, spec).written == 0


def test_a_video_without_its_source_fails_and_the_others_go_on(
    tmp_path: Path, decoder: Callable[[Any], None]
) -> None:
    (source,) = extract(tmp_path, FRAMES).stores
    source.shards(CONTENTS[0])[2][2].unlink()  # frames 20 to 23
    source.remove_video(CONTENTS[1])
    decoder(no_decoder)
    whole: list[str] = []
    done = extract(tmp_path, derived(SOURCE), when_done=whole.append)
    assert set(done.rows) == {"c"} and whole == [CONTENTS[2]]
    assert [(f.video_id, f.error) for f in done.failures] == [
        ("a", "MissingSource"),
        ("b", "MissingSource"),
    ]
    assert f"{source.name} lacks the frames of {CONTENTS[0]} from 20 on" in done.failures[0].message
    assert "vadpipe extract MANIFEST -e frames --set 'size=[4, 6]'" in done.failures[1].message
    (store,) = done.stores
    assert [start for start, *_ in store.shards(CONTENTS[0])] == [0], "what could be done is kept"
    assert store.index().num_rows == 4
    decoder(drawing(N))
    extract(tmp_path, FRAMES)
    rest = extract(tmp_path, derived(SOURCE))
    assert rest.written == 2 + 3 and not rest.failures


def test_pixels_need_a_limit_also_within_a_chain(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=r"frames keeps pixels.*--max-bytes"):
        extract(tmp_path, derived(SOURCE), FRAMES, max_bytes=None)
    assert not list(tmp_path.rglob("*.h5"))


# ------------------------------------------------------------------------------------- scoring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on null features of frames of frames, and nothing of what it was made from."""
    cache = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_task, "guarded_frames", drawing(N))
        extract(cache, FRAMES, TWICE, NULL_OF_TWICE)
    return train_detector("knn", MANIFEST, PROBED, cache).folder


def score(model: Path, root: Path, **options: Any) -> Scored:
    options = {"engine": ENGINE, **options}
    return score_footage(model, MANIFEST, PROBED, root / "out", root / "cache", **options)


def test_extractors_of_a_chain_are_found_by_the_card(model: Path, tmp_path: Path) -> None:
    card = ModelFolder(model).card()
    (leaf,) = specs_of_model(card, cache=tmp_path)
    assert leaf.recipe() == NULL_OF_TWICE.recipe()
    (middle,) = source_specs(card, [leaf], cache=tmp_path)
    (first,) = source_specs(card, [middle], cache=tmp_path)
    assert [key_of(s.recipe()) for s in (middle, first)] == [
        key_of(s.recipe()) for s in (TWICE, FRAMES)
    ]
    assert source_specs(card, [first], cache=tmp_path) == []


def test_perturbed_features_are_found_by_the_card(tmp_path: Path) -> None:
    spec = derived(SOURCE, perturb={"kind": "noise", "seed": 4}, on_corrupt="skip")
    (found,) = specs_of_model({"features": {"snippet": spec.recipe()}}, cache=tmp_path)
    assert (found.recipe(), found.perturb) == (spec.recipe(), spec.perturb)


@pytest.mark.usefixtures("decoder")
def test_new_footage_is_scored_through_the_whole_chain(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=r"frames keeps pixels.*--max-bytes"):
        score(model, tmp_path)
    done = score(model, tmp_path, max_bytes=MANY)
    assert not done.failures and done.videos == list(NAMES)
    assert done.extracted == 3 * 3 * len(NAMES)
    assert len(list_stores(tmp_path / "cache")) == 3
    again = score(model, tmp_path / "discard", discard_features=True)
    assert not again.failures and again.videos == list(NAMES)
    assert not list((tmp_path / "discard").rglob("*.h5")), "no limit is needed: nothing is kept"
    tables = [pq.read_table(root / "out/scores.parquet") for root in (tmp_path, again.out.parent)]
    assert tables[0] == tables[1]


def test_what_is_in_the_cache_is_used_and_kept(
    model: Path, tmp_path: Path, decoder: Callable[[Any], None]
) -> None:
    cache = tmp_path / "cache"
    _, middle = extract(cache, FRAMES, TWICE).stores
    decoder(no_decoder)
    middle.remove_video(CONTENTS[1])  # its own source is there
    done = score(model, tmp_path, discard_features=True)
    assert not done.failures and done.videos == list(NAMES)
    assert done.extracted == 3 * len(NAMES) + 3
    assert whole_videos(middle, CONTENTS) == {CONTENTS[0], CONTENTS[2]}


def test_a_video_whose_source_fails_is_named_once(
    model: Path, tmp_path: Path, decoder: Callable[[Any], None]
) -> None:
    good = drawing(N)

    def one_is_broken(row: Any, *args: Any, **options: Any) -> Any:
        if row.content_id == CONTENTS[1]:
            raise ExtractorError("broken")
        return good(row, *args, **options)

    decoder(one_is_broken)
    for place in ({"max_bytes": MANY}, {"discard_features": True}):
        done = score(model, tmp_path / str(len(place)), **place)
        assert [(f.video_id, f.message) for f in done.failures] == [("b", "broken")]
        assert done.videos == ["a", "c"]


@pytest.mark.usefixtures("decoder")
def test_a_damaged_recipe_is_written_again_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    spec = resolve_extractor("null")
    (null,) = extract(tmp_path, spec).stores
    path = null.root / "spec.json"
    good = path.read_bytes()
    path.write_text("{")
    assert extract(tmp_path, spec).written == 0 and path.read_bytes() == good
    path.unlink()
    path.mkdir()
    assert extract(tmp_path, spec).written == 0 and path.read_bytes() == good


@pytest.mark.usefixtures("decoder")
def test_a_set_is_not_deleted_while_a_run_writes_to_it(tmp_path: Path) -> None:
    """`cache rm` says why; whoever deletes the folder by hand is noticed, and nothing is hidden."""
    refused: list[str] = []

    def remove(_: str) -> None:
        try:
            delete_set(tmp_path, null.name)
        except StoreError as error:
            refused.append(str(error))

    spec = resolve_extractor("null")
    (null,) = stores_of([spec], tmp_path)
    extract(tmp_path, spec, when_done=remove)
    assert len(refused) == len(NAMES) and f"a run is writing to {null.name}" in refused[0]
    delete_set(tmp_path, null.name)
    by_hand = [CONTENTS[0]]

    def remove_by_hand(_: str) -> None:
        if by_hand:
            by_hand.clear()
            null.root.rename(tmp_path / "gone")

    with pytest.raises(StoreError, match="was deleted while this run wrote to it: run it again"):
        extract(tmp_path, spec, when_done=remove_by_hand)
    assert [store.name for store in list_stores(tmp_path)] == [null.name]
    extract(tmp_path, spec)
    assert whole_videos(null, CONTENTS) == {*CONTENTS}
    null.rebuild_index()
    assert null.verify() == []


@pytest.mark.usefixtures("decoder")
def test_a_spec_that_is_damaged_is_written_again_by_its_extraction(tmp_path: Path) -> None:
    spec = resolve_extractor("null")
    (null,) = extract(tmp_path, spec).stores
    (null.root / "spec.json").write_text("{")
    by_hand = null.shards(CONTENTS[0])[0][-1]
    by_hand.unlink()
    assert extract(tmp_path, spec).written == 1
    assert [store.name for store in list_stores(tmp_path)] == [null.name]
