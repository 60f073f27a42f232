from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.store import sharded_array
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.sharded_array import Part, ShardedArray, mapped

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)
CONTENT = "s1-" + "ab" * 20
KEY = "0123456789ab" + "0" * 52


def place(folder: Path, number: int) -> Path:
    """Where the shard of the frames [number, number + 1) lies."""
    path = folder / "toy-0123456789ab" / "shards" / "ab" / CONTENT
    path.mkdir(parents=True, exist_ok=True)
    return path / f"{number:09d}-{number + 1:09d}.h5"


def attributes(number: int) -> dict[str, Any]:
    """The attributes of that shard, as older versions wrote them."""
    return {
        "axes": "snippet",
        "content_id": CONTENT,
        "frame_start": number,
        "frame_stop": number + 1,
        "last": False,
        "n_frames": -1,
        "fps": 25.0,
        "flags": "",
        "key": KEY,
        "checksum": "",
    }


def shards(folder: Path, borders: list[int], chunked: bool = False) -> list[Part]:
    parts = []
    for number, (start, stop) in enumerate(pairwise(borders)):
        path = place(folder, number)
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes(number))
            if chunked:
                file.create_dataset(
                    "x", data=ROWS[start:stop], chunks=(1, 3) if stop > start else None
                )
            else:
                file.attrs["format"] = 2
                file.create_dataset("snippet/x", data=ROWS[start:stop])
            file["frame_start" if chunked else "snippet/frame_start"] = np.arange(start, stop)
        parts.append(Part(path, 0, stop - start))
    return parts


@pytest.mark.parametrize("chunked", [False, True])
@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 20), max_size=3),
    rows=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_slices_cross_shards(
    tmp_path_factory: pytest.TempPathFactory,
    chunked: bool,
    cuts: list[int],
    rows: tuple[int, int],
) -> None:
    """Of both formats, also where a shard has no rows."""
    parts = shards(tmp_path_factory.mktemp("x"), sorted([0, *cuts, 20]), chunked)
    array = ShardedArray(parts, "snippet", "x")
    assert array.shape == (20, 3) and array.dtype == np.float32
    assert np.array_equal(array[slice(*rows)], ROWS[slice(*rows)])


def test_part_of_a_shard(tmp_path: Path) -> None:
    (part,) = shards(tmp_path, [0, 20])
    array = ShardedArray([Part(part.path, 5, 9)], "snippet", "x")
    assert np.array_equal(array[1:3], ROWS[6:8]) and len(array) == 4
    with pytest.raises(IndexError, match="step 1"):
        array[::2]


def test_a_data_set_is_checked_once_until_another_file_takes_its_place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = sharded_array._check
    monkeypatch.setattr(
        sharded_array, "_check", lambda path, *rest: opened.append(path) or real(path, *rest)
    )
    (part,) = shards(tmp_path, [0, 20])
    for _ in range(3):
        values = mapped(part.path, "snippet", "x")
        assert values is not None and not values.flags.writeable
    assert len(opened) == 1
    (other,) = shards(tmp_path_factory.mktemp("other"), [0, 10])
    other.path.replace(part.path)
    values = mapped(part.path, "snippet", "x")
    assert values is not None and len(values) == 10 and len(opened) == 2


@pytest.mark.parametrize(("most_checked", "checks"), [(100, 4), (3, 8)])
def test_few_maps_stay_open_and_others_open_again_without_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_checked: int, checks: int
) -> None:
    monkeypatch.setattr(sharded_array, "MOST_OPEN", 2)
    monkeypatch.setattr(sharded_array, "MOST_CHECKED", most_checked)
    checked: list[Path] = []
    real = sharded_array._check
    monkeypatch.setattr(
        sharded_array, "_check", lambda path, *rest: checked.append(path) or real(path, *rest)
    )
    parts = shards(tmp_path, [0, 5, 10, 15, 20])
    for _ in range(2):
        for number, part in enumerate(parts):
            values = mapped(part.path, "snippet", "x")
            assert np.array_equal(values, ROWS[5 * number : 5 * number + 5])
            assert len(sharded_array._open) <= 2
    assert len(checked) == checks


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    """Reading beyond the end of a mapped file would kill the process."""
    (part,) = shards(tmp_path, [0, 20])
    with h5py.File(part.path) as file:
        offset = file["snippet/x"].id.get_offset()
    with part.path.open("r+b") as handle:
        handle.truncate(offset + 10)
    with pytest.raises((StoreError, OSError)):
        mapped(part.path, "snippet", "x")


def test_shards_that_differ_are_refused(tmp_path: Path) -> None:
    parts = shards(tmp_path, [0, 10, 20])
    with h5py.File(parts[1].path, "w") as file:
        file.attrs.update({**attributes(1), "format": 2})
        file.create_dataset("snippet/x", data=np.zeros((10, 4), np.float32))
        file["snippet/frame_start"] = np.arange(10)
    with pytest.raises(StoreError, match="not what the other shards hold"):
        ShardedArray(parts, "snippet", "x")[5:15]
