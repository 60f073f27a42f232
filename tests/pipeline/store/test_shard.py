"""A shard whose content is damaged: one error, which names it and the command that mends it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.chain import video
from tests.pipeline.store.test_feature_store import CONTENT, make_store, write
from vadpipe.data_manifests import memory
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.data_manifests.record import VideoRecord
from vadpipe.extractors.clips import Span
from vadpipe.pipeline.bags import StoreBags
from vadpipe.pipeline.store import shard
from vadpipe.pipeline.store.care import drop_shards, problems_of
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import ending_of
from vadpipe.pipeline.store.shard import CURE, checksum_of, opened_shard, row_of, verify_shard
from vadpipe.pipeline.store.video_rows import StoreRows

RECORD = VideoRecord(video_id="v", path="v.mp4", split="train")


def made(cache: Path) -> tuple[FeatureStore, Path]:
    store = make_store(cache)
    span = Span(CONTENT, 0, 8, True)
    write(store, span, 8)
    return store, store.shard_path(span)


def bag(store: FeatureStore) -> Any:
    return StoreBags([RECORD], {"v": video(8, CONTENT)}, {"snippet": store}, labels=False)[0]


def rows(store: FeatureStore) -> Any:
    (spec,) = store.array_specs()
    found = StoreRows(store, spec, [RECORD], [CONTENT], labels=False)
    found.read_into(np.empty((2, 3), np.float16), 0, 0)
    return found


READERS: dict[str, Callable[[FeatureStore, Path], Any]] = {
    "read": lambda store, _: store.read(CONTENT),
    "a bag": lambda store, _: bag(store),
    "rows": lambda store, _: rows(store),
    "the end": lambda store, _: ending_of(store, CONTENT),
    "a row of the index": lambda _, path: row_of(path),
    "verify": lambda _, path: verify_shard(path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", [b"", b"no shard", None])
def test_flipped_bytes_are_an_error_that_names_the_shard(
    tmp_path: Path, reader: str, damage: bytes | None
) -> None:
    store, path = made(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(len(data) - 4) if damage is None else damage)
    with pytest.raises(StoreError) as error:
        READERS[reader](store, path)
    assert str(path) in str(error.value) and CURE in str(error.value)


@pytest.mark.parametrize("reader", ["read", "a bag", "a row of the index", "verify"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("frame_stop", [4]),
        ("frame_start", [0, 4, 6]),
        ("frame_start", [4, 0]),
        ("frame_start", [0, 12]),
        ("frame_start", [100, 104]),
        ("frame_start", [-4, 0]),
        ("frame_stop", [8, 4]),
        ("frame_stop", [-1, 0]),
    ],
)
def test_frames_that_a_shard_cannot_have_are_an_error_that_names_it(
    tmp_path: Path, reader: str, name: str, values: list[int]
) -> None:
    store, path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        del file[f"snippet/{name}"]
        file[f"snippet/{name}"] = np.array(values)
    with pytest.raises(StoreError) as error:
        READERS[reader](store, path)
    assert str(path) in str(error.value) and CURE in str(error.value)


def test_rows_beyond_the_video_are_no_fault_of_the_manifest(tmp_path: Path) -> None:
    store, path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        file["snippet/frame_stop"][:] = [100, 104]
    with pytest.raises(
        StoreError, match="no row of v lies in its 8 frames, so a shard of 'x' is damaged"
    ):
        bag(store)


@pytest.mark.parametrize("reader", ["read", "rows", "verify"])
def test_an_array_of_another_length_than_its_frames_is_refused(tmp_path: Path, reader: str) -> None:
    store, path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["snippet/x"]
        file["snippet/x"] = np.ones((5, 3), np.float16)
    with pytest.raises(StoreError, match=f"{path.name}") as error:
        values = READERS[reader](store, path)
        values.arrays["x"][:]
    assert CURE in str(error.value)


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo])
def test_something_else_at_the_name_of_a_shard(
    tmp_path: Path, put: Callable[[Path], object]
) -> None:
    """A pipe is not waited for."""
    store, path = made(tmp_path)
    path.unlink()
    put(path)
    for reader in READERS.values():
        with pytest.raises(StoreError, match="it is not a file"):
            reader(store, path)
    assert drop_shards(store, list(problems_of(store))) == 1 and not path.exists()


def test_what_the_system_says_stays_its_error(tmp_path: Path) -> None:
    """A file server that blinks is tried again; that must not be taken for damage."""
    with pytest.raises(FileNotFoundError), opened_shard(tmp_path / "none.h5"):
        pass
    _, path = made(tmp_path)
    with pytest.raises(OSError, match="stale") as error, opened_shard(path):
        raise OSError(errno.ESTALE, "stale")
    assert error.value.errno == errno.ESTALE


def test_verify_names_each_damaged_shard_once(tmp_path: Path) -> None:
    store, path = made(tmp_path)
    path.write_bytes(b"no shard")
    (problem,) = store.verify()
    assert problem.count(str(path)) == 1 and "run vadpipe" not in problem


def test_a_shard_that_does_not_fit_into_memory_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library would say that it cannot create a file."""
    values = {"frame/a": np.zeros(5, np.float32)}
    shard.file_image(values, {}, ())
    monkeypatch.setattr(shard, "ASKED_ABOVE", 10)
    monkeypatch.setattr(memory, "available_bytes", lambda: 10)
    with pytest.raises(OutOfMemory, match=r"a shard needs .* make spans or files shorter"):
        shard.file_image(values, {}, ())


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 30])
def test_a_checksum_is_the_same_in_memory_and_in_blocks_of_a_file(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight rows a block here; an array of other rows, and one without values, come along."""
    monkeypatch.setattr(shard, "BLOCK_BYTES", 8 * 5 * 3)
    rng = np.random.default_rng(rows)
    arrays = {
        "object/crops": rng.integers(0, 256, (rows, 5, 3), dtype=np.uint8),
        "object/frame_start": np.arange(rows),
        "object/none": np.zeros((rows, 0), np.float16),
        "frame/size": rng.uniform(size=(11, 2)),
    }
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    whole = checksum_of(arrays)
    with h5py.File(path) as file:
        assert checksum_of({name: file[name] for name in arrays}) == whole
    if rows:
        with h5py.File(path, "r+") as file:
            file["object/crops"][rows - 1, 4, 2] ^= 1
            assert checksum_of({name: file[name] for name in arrays}) != whole
