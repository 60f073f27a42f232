"""Keys of models of imported features: whose numbers they are, whatever a killed import has left.

`VADPIPE_SOAK=1` takes the long form (`make soak`).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.data_manifests import Manifest, VideoRecord
from vadpipe.pipeline.import_features import import_features
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_sets import list_stores
from vadpipe.pipeline.store.imported import (
    earlier_contents,
    imported_checksums,
    imported_contents,
)

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
SUMS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("xyz"), max_size=2))


@given(SUMS, SUMS)
def test_a_key_is_equal_where_every_video_has_the_same_numbers(
    ours: dict[str, list[str]], theirs: dict[str, list[str]]
) -> None:
    keys = [imported_contents({"snippet": sums}) for sums in (ours, theirs)]
    assert (keys[0] == keys[1]) == (ours == theirs)
    assert imported_contents({"snippet": dict(reversed(ours.items()))}) == keys[0]


def test_keys_of_earlier_versions_do_not_say_whose_the_numbers_are() -> None:
    swapped = [{"a": ["x"], "b": ["y"]}, {"a": ["y"], "b": ["x"]}]
    old = [earlier_contents({"snippet": sums}) for sums in swapped]
    assert old[0] == old[1] and imported_contents({}) == earlier_contents({}) == {}


@pytest.mark.parametrize("seed", range(300 if SOAK else 2))
def test_keys_survive_whatever_a_killed_import_leaves(seed: int, tmp_path: Path) -> None:
    """Shards without an index, an index without shards, some of both: equal keys or an error."""
    rng, cache, files = random.Random(seed), tmp_path / "cache", tmp_path / "files"
    files.mkdir()
    names = "abcde"
    for i, name in enumerate(names):
        np.save(files / f"{name}.npy", np.full((2, 3), i, np.float32))
    fields = {"path": None, "split": "train", "expected_frames": 32}
    records = [VideoRecord.model_validate({"video_id": n, **fields}) for n in names]
    manifest = Manifest(dataset="toy", root="/nowhere", records=tuple(records))
    probed = probe_files(manifest, cache)

    def bring(some: str) -> int:
        sources = [files / f"{name}.npy" for name in some]
        return import_features(manifest, probed, sources, cache, name="toy").written

    def known() -> object:
        (store,) = list_stores(cache)
        return imported_contents(imported_checksums({"snippet": store}, probed.rows))

    bring(names)
    key = known()
    (store,) = list_stores(cache)
    for _ in range(3):
        gone = {name for name in names if rng.random() < 0.3}
        for name in gone:
            store.remove_video(probed.rows[name].content_id)
        for part in store.shard_index.parts():
            if rng.random() < 0.5:
                part.unlink()
        if gone:
            with pytest.raises(StoreError, match=f"has no checksum of {len(gone)} videos"):
                known()
        some = "".join(rng.sample(names, rng.randint(1, len(names))))
        assert bring(some) == len(gone & {*some})
        bring(names)
        assert known() == key
        store.rebuild_index()
        assert store.verify() == []
