"""The digest of labels: it tells apart what counts cannot, and only that."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.pipeline.metrics.frame_level import LabelledScores, frame_metrics
from vadpipe.pipeline.metrics.label_digest import digest_of_labels, joined_digest

LABELS = st.lists(st.booleans(), max_size=40)


@given(LABELS, LABELS)
def test_two_labels_have_one_digest_only_if_they_are_equal(one: list, other: list) -> None:
    same = digest_of_labels(np.array(one, bool)) == digest_of_labels(np.array(other, bool))
    assert same == (one == other)


def test_the_type_of_labels_does_not_count_and_the_form_is_fixed() -> None:
    label = np.array([0, 1, 1, 0, 0, 0, 0, 0, 1], np.uint8)
    wanted = hashlib.sha256((9).to_bytes(8, "little") + bytes([0b01100000, 0b10000000]))
    assert digest_of_labels(label) == digest_of_labels(label.astype(bool)) == wanted.hexdigest()


def test_the_digest_of_all_depends_on_ids_and_not_on_order() -> None:
    assert joined_digest([("a", "1"), ("b", "2")]) == joined_digest([("b", "2"), ("a", "1")])
    assert joined_digest([("a", "1"), ("b", "2")]) != joined_digest([("a", "2"), ("b", "1")])


def test_metrics_hold_it_without_padding() -> None:
    score, label = np.arange(8.0), np.array([0, 0, 1, 1, 0, 1, 1, 1])
    padded = frame_metrics([LabelledScores("a", score, label, n_padding=2)])
    exact = frame_metrics([LabelledScores("a", score[:6], label[:6])])
    assert padded.labels_sha256 == exact.labels_sha256 is not None
    assert padded.videos[0].labels_sha256 == digest_of_labels(label[:6])
