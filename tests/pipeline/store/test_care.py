"""What is wrong with a feature set, and letting go of it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tests.pipeline.store.test_feature_store import (
    CONTENT,
    PROVENANCE,
    SPEC,
    has,
    make_store,
    write,
)
from vadpipe.data_manifests import memory
from vadpipe.extractors.base import Rows
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.store.care import drop_shards, problems_of
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import whole_videos
from vadpipe.pipeline.store.shard import VideoFacts


def filled(root: Path) -> tuple[FeatureStore, list[Span]]:
    """A store with a video in three shards."""
    store = make_store(root)
    spans = plan_spans(CONTENT, 50, 20)
    store.add_index_part([write(store, span, 50) for span in spans])
    return store, spans


def damage(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["snippet/x"][0, 0] = 7


def test_what_is_dropped_is_missing_and_can_be_made_again(tmp_path: Path) -> None:
    store, spans = filled(tmp_path)
    broken, moved, sound = (store.shard_path(span) for span in spans)
    damage(broken)
    moved.write_bytes(sound.read_bytes())
    problems = list(problems_of(store))
    assert [problem.text.partition(":")[0] for problem in problems] == ["broken", "misplaced"]
    assert drop_shards(store, problems) == 2
    assert not has(store, spans[0]) and not has(store, spans[1]) and has(store, spans[2])
    assert not whole_videos(store, [CONTENT]) and store.verify() == []
    for span in spans[:2]:
        write(store, span, 50)
    assert whole_videos(store, [CONTENT])


def test_a_shard_that_does_not_fit_into_memory_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spans = filled(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 7)
    problems = list(problems_of(store))
    assert len(problems) == len(spans) and all("not verified" in p.text for p in problems)
    assert drop_shards(store, problems) == 0


def test_shards_of_different_files_are_named_refused_and_dropped(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for span, whole_id in zip(plan_spans(CONTENT, 8, 4), ("f1-a", "f1-b"), strict=True):
        start, stop = np.array([span.frame_start]), np.array([span.frame_stop])
        rows = {"snippet": Rows(start, stop, {"x": np.zeros((1, 3), np.float16)})}
        facts = VideoFacts(25.0, 8 if span.last else None, whole_id=whole_id)
        row = store.write(span, rows, [SPEC], facts, PROVENANCE)
        assert row.whole_id == whole_id
        store.add_index_part([row])
    with pytest.raises(StoreError, match="made of different files"):
        store.read(CONTENT)
    (problem,) = problems_of(store)
    assert problem.text == f"mixed: shards of {CONTENT} were made of different files"
    assert drop_shards(store, [problem]) == 2 and store.verify() == []


def test_the_command_drops_only_when_it_is_told_to(tmp_path: Path) -> None:
    store, spans = filled(tmp_path)
    path = store.shard_path(spans[0])
    damage(path)
    command = ["cache", "verify", "--cache", str(tmp_path)]
    for _ in range(2):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 1 and "broken" in done.stdout and path.is_file()
    done = CliRunner().invoke(cli, [*command, "--drop"])
    assert done.exit_code == 1 and not path.is_file()
    assert "1 shard dropped" in done.stdout and "vadpipe extract" in done.stdout
    done = CliRunner().invoke(cli, [*command, "--drop"])
    assert (done.exit_code, done.stdout) == (0, "all shards are whole\n")
