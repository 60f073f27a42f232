"""Weights of others are read in a bounded process, and each dict in them once."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.weight_trees import laughing
from vadpipe.data_manifests import memory
from vadpipe.data_manifests.leftovers import own_prefix
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.extractors.detection import boxes_file
from vadpipe.extractors.weights import guarded_read, kept, read, read_worker
from vadpipe.extractors.weights.cards import LayoutError, Weights, WeightsError
from vadpipe.extractors.weights.guarded_read import guarded_arrays
from vadpipe.extractors.weights.read import read_arrays
from vadpipe.extractors.weights.read_worker import write_arrays
from vadpipe.pipeline.registry import cards_in_use


def written(path: Path, tree: Any) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


def test_arrays_come_back_as_they_are(tmp_path: Path) -> None:
    tree = {
        "a": {"\u00e4 \udc80/\n": np.arange(6, dtype=np.float16).reshape(2, 3).T},
        "__metadata__": np.int64([7]) * np.ones(3, np.int64),
        "0": np.zeros((), np.float32),
        "empty": np.zeros((0, 3), np.uint8),
    }
    path = written(tmp_path / "weights of others.pkl", tree)
    found, expected = guarded_arrays(path, tmp_path / "new"), read_arrays(path)
    assert list(found) == list(expected) and len(found) == 4
    assert not list((tmp_path / "new").iterdir())
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        np.testing.assert_array_equal(found[name], values)


def test_what_is_refused_is_said_here(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    path.write_bytes(b"\x80\x02}r\x00\x00\x00\x10.")  # a place of 4 GB in the list of references
    with pytest.raises(WeightsError, match=f"cannot read weights from {path}: it needs more mem"):
        guarded_arrays(path, tmp_path)


def test_a_process_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_read, "SECONDS", 0.001)
    with pytest.raises(WeightsError, match="took longer than 0 seconds"):
        guarded_arrays(written(tmp_path / "a", {}), tmp_path)


@pytest.mark.parametrize(
    ("worker", "match"),
    [
        ("json.tool", r"died \(exit code 2: .*json.tool: error: unrecog.*install that again"),
        ("this", "sent an answer that means nothing"),
    ],
)
def test_a_process_that_dies_or_sends_nothing_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str, match: str
) -> None:
    monkeypatch.setattr(guarded_read, "WORKER", worker)
    with pytest.raises(WeightsError, match=match):
        guarded_arrays(written(tmp_path / "a", {}), tmp_path)


def test_arrays_that_cannot_be_written_are_no_fault_of_the_file(tmp_path: Path) -> None:
    arrays = {"a": np.zeros(3, np.float32), "text": np.array(["b"])}
    with pytest.raises(
        WeightsError, match=r"read, but their 12 bytes .* disk is full or read-only"
    ):
        write_arrays(arrays, tmp_path / "none" / "arrays")


def test_what_a_killed_process_has_left_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, began = own_prefix().split("-")[1::2][:2]
    (tmp_path / f"vadpipe-{space}-{1 << 30}-{began}-x").mkdir()
    monkeypatch.setattr(guarded_read, "SECONDS", 0.001)
    with pytest.raises(WeightsError):
        guarded_arrays(written(tmp_path / "a", {}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_weights_are_converted_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tests of extractors put `read_arrays` in its place."""
    monkeypatch.setattr(kept, "guarded_arrays", guarded_arrays)
    path = written(tmp_path / "own.pkl", {"w": np.arange(3, dtype=np.float32)})
    card = Weights("own", "own.pkl", None, (), "own", "none", "this test", (0, 0, 0), (1, 1, 1))
    found = kept.convert_file(path, "ab" * 32, [card], tmp_path / "weights")
    assert (
        found.path is not None
        and found.path == tmp_path / "weights" / f"own-{'ab' * 6}.safetensors"
    )
    np.testing.assert_array_equal(kept.read_converted(found.path)[0]["w"], [0, 1, 2])
    assert list((tmp_path / "weights").iterdir()) == [found.path]


def test_trees_that_only_refer_to_themselves_are_small(tmp_path: Path) -> None:
    assert read_arrays(written(tmp_path / "a", laughing(60, "ha"))) == {}
    with pytest.raises(WeightsError, match="more than 100,000 arrays"):
        read_arrays(written(tmp_path / "b", laughing(30, np.zeros(4, np.float32))))
    with pytest.raises(WeightsError, match="far larger than the file"):
        read_arrays(written(tmp_path / "c", laughing(12, np.zeros(1 << 14, np.float32))))


def test_arrays_under_two_names_have_both(tmp_path: Path) -> None:
    shared = {"w": np.ones(2, np.float32)}
    found = read_arrays(written(tmp_path / "a", {"model": shared, "ema": {"of": shared}}))
    assert list(found) == ["model/w", "ema/of/w"]


def test_depth_circles_and_keys_that_grow(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"w": np.ones(2, np.float32)}
    for _ in range(read.DEEPEST - 1):
        deep = {"d": deep}
    assert len(read_arrays(written(tmp_path / "a", deep))) == 1
    with pytest.raises(WeightsError, match="more than 100 dicts"):
        read_arrays(written(tmp_path / "b", {"d": deep}))
    circle: dict[str, Any] = {}
    circle["inner"] = {"outer": circle}
    with pytest.raises(WeightsError, match="contains itself"):
        read_arrays(written(tmp_path / "c", circle))
    key: Any = ("k",)
    for _ in range(12):
        key = (key, key)
    assert read_arrays(written(tmp_path / "d", {key: np.ones(2, np.float32)})) == {}


def test_a_boxes_file_is_read_by_the_process(tmp_path: Path) -> None:
    header = "video,frame,x0,y0,x1,y1\n"
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(header + "v,1,0,0,9,9\nv,0,1,2,3,4\nw,,,,,\n")
    bad.write_text(header + "v,1,9,0,0,9\n")
    found = guarded_arrays(good, tmp_path / "new", boxes_file.from_file)
    assert found["frame"].tolist() == [0, 1] and found["videos"].tobytes() == b"v\nw"
    with pytest.raises(LayoutError, match=r"^line 2: box .*x0 <= x1"):
        guarded_arrays(bad, tmp_path / "new", boxes_file.from_file)


def test_cards_of_opaque_files_have_functions_that_can_be_found(tmp_path: Path) -> None:
    opaque = [use.card for use in cards_in_use().values() if use.card.opaque]
    assert {card.name for card in opaque} >= {"boxes.file", "yolox_nano.coco", "yolov3.coco"}
    for card in opaque:
        guarded_read._name_of(card.convert)
    path = written(tmp_path / "a", {})
    with pytest.raises(WeightsError, match="no function of a module"):
        guarded_arrays(path, tmp_path, lambda arrays: dict(arrays))


def test_a_function_of_the_program_that_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`__main__` of the process that reads is another module."""

    def convert(arrays: Any) -> dict[str, Any]:
        return dict(arrays)

    monkeypatch.setattr(convert, "__module__", "__main__")
    monkeypatch.setattr(convert, "__qualname__", "convert")
    monkeypatch.setattr(sys.modules["__main__"], "convert", convert, raising=False)
    with pytest.raises(WeightsError, match="in a module that can be imported"):
        guarded_read._name_of(convert)


def test_what_a_small_file_unpacks_to_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10))
    monkeypatch.setattr(read_worker, "MOST_OPAQUE", 0)
    assert read_worker.converted(path, "builtins:dict")["bytes"].nbytes == 10
    monkeypatch.setattr(read_worker, "RESULT_GROWTH", 0.5)
    with pytest.raises(WeightsError, match="takes 10 bytes, more than 5"):
        read_worker.converted(path, "builtins:dict")


def test_what_comes_out_has_to_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10)
    with pytest.raises(OutOfMemory, match=r"as arrays needs .* and 10 are left"):
        guarded_arrays(written(tmp_path / "a", {"w": np.zeros(3, np.float32)}), tmp_path)


def test_a_file_that_is_larger_than_any_weights_is_not_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Weights("own", "own.pkl", None, (), "own", "none", "this test", (0, 0, 0), (1, 1, 1))
    monkeypatch.delattr(kept, "file_sha256")
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(tmp_path))
    for name in ("own.pkl", "other"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(WeightsError, match=r"other has 1,099,511,627,776 bytes, and weights"):
        kept.resolve(card, str(tmp_path / "other"))
    with pytest.raises(WeightsError, match=r"own.pkl has 1,099,511,627,776 bytes"):
        kept.resolve(card, None)
