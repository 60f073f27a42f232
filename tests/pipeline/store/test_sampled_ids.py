"""Two files of one sampled id are two contents."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np

from tests.chain import video
from tests.pipeline.store.test_feature_store import PROVENANCE, SPEC, make_store
from vadpipe.extractors.base import Rows
from vadpipe.extractors.clips import Span
from vadpipe.pipeline.store.sampled_ids import SampledIds
from vadpipe.pipeline.store.shard import VideoFacts

SAMPLED = "s1-" + "ab" * 20
A, B, C = (replace(video(8, SAMPLED), whole_id="f1-" + each * 40) for each in "abc")


def test_the_first_file_keeps_the_id_and_others_have_their_own(tmp_path: Path) -> None:
    ids = SampledIds(tmp_path, [])
    assert ids.settled(B) is B and ids.settled(B) is B
    assert ids.settled(A) == replace(A, content_id=A.whole_id)
    assert ids.settled(C).content_id == C.whole_id
    # as the table tells the next run
    again = SampledIds(tmp_path, [B, replace(A, content_id=A.whole_id)])
    assert again.settled(A).content_id == A.whole_id and again.settled(B) is B


def test_what_two_runs_have_given_to_two_files_is_settled_in_one_way(tmp_path: Path) -> None:
    for rows in permutations((A, B, C)):
        ids = SampledIds(tmp_path, rows)
        assert [ids.settled(row).content_id for row in (A, B, C)] == [
            SAMPLED, B.whole_id, C.whole_id,
        ]  # fmt: skip


def test_ids_that_cover_every_byte_stay(tmp_path: Path) -> None:
    ids = SampledIds(tmp_path, [])
    for row in (video(8), replace(video(8), whole_id=video(8).content_id)):
        assert ids.settled(row) is row


def test_without_a_table_the_shards_say_whose_the_id_is(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = {"snippet": Rows(np.array([0]), np.array([8]), {"x": np.zeros((1, 3), np.float16)})}
    for whole_id in ("", B.whole_id):
        facts = VideoFacts(25.0, 8, whole_id=whole_id)
        store.write(Span(SAMPLED, 0, 8, True), rows, [SPEC], facts, PROVENANCE)
        ids = SampledIds(tmp_path, [])
        # shards of older versions do not say it
        assert (ids.settled(A) is A) == (whole_id == "")
    assert SampledIds(tmp_path, []).settled(B) is B
    for path in store.scan():
        path.write_bytes(b"broken")
    assert SampledIds(tmp_path, []).settled(A) is A
