"""Import: every published layout, what rows are, errors by name, a whole run without footage."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.synthetic import write_pets2009, write_tiny_scene, write_xd_violence
from vadpipe.data_manifests import Manifest, VideoRecord, pets2009, read_manifest, write_manifest
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.extractors.clips import segment_frames
from vadpipe.pipeline.bags import StoreBags, find_stores
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.import_features import Imported, import_features
from vadpipe.pipeline.importing import files as feature_files
from vadpipe.pipeline.importing.files import FeatureFileError
from vadpipe.pipeline.importing.layouts import parse_grid
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.registry import DATASETS
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_sets import delete_set, list_stores
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.imported import (
    earlier_contents,
    imported_checksums,
    imported_contents,
)
from vadpipe.pipeline.train import train_detector

WIDTH = 6
WIDE = 8  # where 6 rows would make a square


def listed(lengths: dict[str, int | None], split: str = "train", **fields: Any) -> Manifest:
    """A manifest without footage: id -> frames."""
    records = [
        VideoRecord.model_validate(
            {"video_id": v, "path": None, "split": split, "expected_frames": n, **fields}
        )
        for v, n in lengths.items()
    ]
    return Manifest(dataset="toy", root="/nowhere", records=tuple(records))


def features(*shape: int, seed: int = 0, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.fixture
def take(tmp_path: Path, folder: Path) -> Callable[..., Imported]:
    """Import all of the folder into a cache of its own."""

    def run(manifest: Manifest, *sources: Path, name: str = "toy", **options: Any) -> Imported:
        cache = tmp_path / "cache"
        probed = probe_files(manifest, cache)
        return import_features(manifest, probed, sources or [folder], cache, name=name, **options)

    return run


def read(store: FeatureStore, manifest: Manifest, video_id: str, tmp: Path) -> Any:
    return store.read(probe_files(manifest, tmp).rows[video_id].content_id)


def attrs(store: FeatureStore) -> list[dict[str, Any]]:
    found = []
    for path in store.scan():
        with h5py.File(path, "r") as file:
            found.append(dict(file.attrs))
    return found


# ------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize("crops", [1, 5, 10])
def test_snippets_with_and_without_crops(
    take: Any, folder: Path, tmp_path: Path, crops: int
) -> None:
    x, y = features(3, crops, WIDTH), features(3, crops, WIDTH, seed=1)
    np.save(folder / "a_i3d.npy", x)
    (folder / "Abuse").mkdir()
    np.save(folder / "Abuse" / "b.npy", y)
    manifest = listed({"a": 40, "b": 48})
    done = take(manifest, origin="a friend")
    (store,) = done.stores
    assert (done.videos, done.written, done.failures, done.missing) == (["a", "b"], 2, [], [])
    for video_id, values, last in (("a", x, 40), ("b", y, 48)):
        found = read(store, manifest, video_id, tmp_path)
        stored = found.arrays["features"][:]
        assert np.array_equal(stored, values if crops > 1 else values[:, 0])
        assert found.frame_start.tolist() == [0, 16, 32]
        assert found.frame_stop.tolist() == [16, 32, last]
        assert (found.n_frames, found.fps, found.flags) == (last, 25.0, ())
    config = {"name": "toy", "origin": "a friend", "snippet_frames": 16, "width": WIDTH}
    assert store.recipe["config"] == {**config, "crops": crops}
    assert store.recipe["extractor"] == "imported"
    (spec,) = store.array_specs()
    assert (spec["role"], spec["grid"]) == ("snippet", None)
    assert spec["shape"] == ([WIDTH] if crops == 1 else [crops, WIDTH])
    assert store.verify() == []
    assert store.index().num_rows == 2


def test_provenance(take: Any, folder: Path) -> None:
    np.save(folder / "a_i3d.npy", features(3, WIDTH))
    (store,) = take(listed({"a": None})).stores
    (found,) = attrs(store)
    assert found["source"] == "a_i3d.npy"
    assert found["layout"] == f"(n, {WIDTH}) float32: snippets"
    assert found["source_sha256"] == hashlib.sha256((folder / "a_i3d.npy").read_bytes()).hexdigest()
    assert found["n_frames"] == 48 and found["flags"] == "length_unknown"


def test_segments_and_snippets_go_to_one_store(take: Any, folder: Path, tmp_path: Path) -> None:
    """UCF-Crime as RTFM has it: training files (crops, 32, D), test files (n, crops, D)."""
    x, y = features(10, 32, WIDTH), features(7, 10, WIDTH)
    np.save(folder / "a_i3d.npy", x)
    np.save(folder / "b_i3d.npy", y)
    manifest = listed({"a": None}).model_copy(
        update={"records": (*listed({"a": None}).records, *listed({"b": 100}, "test").records)}
    )
    done = take(manifest)
    (store,) = done.stores
    a, b = (read(store, manifest, v, tmp_path) for v in "ab")
    assert np.array_equal(a.arrays["features"][:], x.transpose(1, 0, 2))
    assert np.array_equal(b.arrays["features"][:], y)
    assert (a.n_frames, a.flags) == (512, ("length_unknown", "segments"))
    assert a.frame_start.tolist() == list(range(0, 512, 16))
    assert (b.n_frames, b.flags, b.frame_stop[-1]) == (100, (), 100)
    assert sorted(done.layouts) == [
        "snippet (10, 32, 6) float32: segments",
        "snippet (n, 10, 6) float32: snippets",
    ]


@pytest.mark.parametrize("separator", ["_", "__"])
@pytest.mark.parametrize("crops", [5, 10])
def test_one_file_a_crop(
    take: Any, folder: Path, tmp_path: Path, crops: int, separator: str
) -> None:
    x = features(crops, 3, WIDTH, dtype="float16")
    for i in range(crops):
        np.save(folder / f"a{separator}{i}.npy", x[i])
    manifest = listed({"a": 48})
    (store,) = take(manifest).stores
    stored = read(store, manifest, "a", tmp_path).arrays["features"]
    assert stored.dtype == np.float16
    assert np.array_equal(stored[:], x.transpose(1, 0, 2))
    (found,) = attrs(store)
    assert found["source"].splitlines()[-1] == f"a{separator}{crops - 1}.npy"
    assert len(found["source_sha256"].splitlines()) == crops


@pytest.mark.parametrize(("tag", "grid"), [("23", (2, 3)), ("35", (3, 5)), ("47", (4, 7))])
def test_patches(take: Any, folder: Path, tmp_path: Path, tag: str, grid: tuple[int, int]) -> None:
    n = grid[0] * grid[1]
    x, y = features(3, n, WIDTH), features(n, 32, WIDTH)
    np.save(folder / f"a_patch{tag}_i3d.npy", x)
    np.save(folder / f"b_patch{tag}_i3d.npy", y)
    np.save(folder / "a_i3d.npy", features(3, 10, WIDTH))
    manifest = listed({"a": 48, "b": None})
    done = take(manifest)
    assert [s.array_specs()[0]["role"] for s in done.stores] == [
        f"patch/{grid[0]}x{grid[1]}",
        "snippet",
    ]
    (spec,) = done.stores[0].array_specs()
    assert (spec["grid"], spec["shape"]) == (list(grid), [n, WIDTH])
    for video_id, values in (("a", x), ("b", y.transpose(1, 0, 2))):
        array = read(done.stores[0], manifest, video_id, tmp_path).arrays[spec["name"]]
        assert np.array_equal(array[:], values)
    rows, stores = probe_files(manifest, tmp_path).rows, dict(zip("ab", done.stores, strict=True))
    bag = StoreBags(manifest.records, rows, stores, labels=False)[0]
    assert bag.tracks[f"patch/{grid[0]}x{grid[1]}"].grid == grid


def test_a_grid_without_a_tag(take: Any, folder: Path) -> None:
    np.save(folder / "a.npy", features(3, 6, WIDTH))
    manifest = listed({"a": 48})
    assert "--grid" in take_error(take, manifest)
    (store,) = take(manifest, grid=parse_grid("2x3")).stores
    assert store.array_specs()[0]["role"] == "patch/2x3"
    with pytest.raises(FeatureFileError, match="ROWSxCOLUMNS"):
        parse_grid("2 by 3")


def take_error(take: Any, manifest: Manifest, **options: Any) -> str:
    with pytest.raises(FeatureFileError) as error:
        take(manifest, **options)
    return str(error.value)


def test_texts_of_32_lines_are_segments(take: Any, folder: Path, tmp_path: Path) -> None:
    x = features(32, WIDTH)
    np.savetxt(folder / "Abuse001_x264.txt", x, fmt="%.6f")
    (folder / "README.txt").write_text("not numbers\n")
    manifest = listed({"Abuse001_x264": None})
    done = take(manifest)
    found = read(done.stores[0], manifest, "Abuse001_x264", tmp_path)
    assert np.allclose(found.arrays["features"][:], x, atol=1e-6)
    assert "segments" in found.flags
    assert (done.unmatched, done.failures) == (["README.txt"], [])


def test_archives(take: Any, folder: Path, tmp_path: Path) -> None:
    arrays = {f"Class/v{i}": features(3, WIDTH, seed=i) for i in range(3)}
    np.savez_compressed(folder / "all.npz", **arrays)
    manifest = listed({f"v{i}": 48 for i in range(3)})
    (store,) = take(manifest).stores
    for i in range(3):
        array = read(store, manifest, f"v{i}", tmp_path).arrays["features"]
        assert np.array_equal(array[:], arrays[f"Class/v{i}"])


def test_pets(take: Any, folder: Path, tmp_path: Path) -> None:
    manifest = pets2009.build(write_pets2009(folder)).select(split="test")
    done = take(manifest, *folder.glob("*-test-*.npz"))
    assert len(done.videos) == len(manifest) == 56 and not done.failures
    with np.load(folder / "pets2009-test-view-004.npz") as arrays:
        found = read(done.stores[0], manifest, "view-004.S7-test--Time-13-07", tmp_path)
        assert np.array_equal(found.arrays["features"][:], arrays["007_x"])


def test_xd_violence(take: Any, folder: Path, tmp_path: Path) -> None:
    """File names have characters that ids cannot have, and one file a crop."""
    (tmp_path / "labels").mkdir()
    manifest = DATASETS["xd_violence"](write_xd_violence(tmp_path / "labels"), subset=True)
    lines = (tmp_path / "labels" / "annotations.txt").read_text().splitlines()
    names = [line.split()[0].removesuffix(".mp4") for line in lines[:3]]
    for name in names:
        for crop in range(5):
            np.save(folder / f"{name}__{crop}.npy", features(4, WIDTH, seed=crop))
    done = take(manifest)
    assert len(done.videos) == 3 and not done.failures
    assert done.stores[0].array_specs()[0]["shape"] == [5, WIDTH]


@pytest.mark.parametrize(
    ("kinds", "stored"),
    [
        (["float16", "float16"], "float16"),
        (["float16", "float32"], "float32"),
        (["float64", "float64"], "float32"),
    ],
)
def test_dtypes(take: Any, folder: Path, tmp_path: Path, kinds: list[str], stored: str) -> None:
    values = features(3, WIDTH, dtype="float16")
    for name, kind in zip("ab", kinds, strict=True):
        np.save(folder / f"{name}.npy", values.astype(kind))
    manifest = listed({"a": 48, "b": 48})
    (store,) = take(manifest).stores
    for name in "ab":
        array = read(store, manifest, name, tmp_path).arrays["features"]
        assert array.dtype == stored
        assert np.array_equal(array[:], values)


# ------------------------------------------------------------------------------------ rows


@given(n=st.integers(1, 100_000), segments=st.sampled_from([32, 33]))
def test_segments_are_those_of_the_reference(n: int, segments: int) -> None:
    """`process_feat` of RTFM: linspace cut off to integers, an empty segment is one row."""
    edges = np.linspace(0, n, segments + 1, dtype=int) if segments == 32 else None
    start, stop = segment_frames(n, segments)
    if edges is not None:  # a step of n / 32 is exact
        assert start.tolist() == edges[:-1].tolist()
        assert stop.tolist() == np.maximum(edges[1:], edges[:-1] + 1).tolist()
    assert start[0] == 0 and stop[-1] == n and (stop <= n).all() and (start < stop).all()
    if n >= segments:  # a partition
        assert np.array_equal(start[1:], stop[:-1])


@pytest.mark.data
def test_segments_are_those_of_golden_10(shared: Path) -> None:
    golden = np.load(shared / "golden" / "open" / "g10_segments.npz")
    for n in (1, 5, 16, 31, 32, 33, 100, 1001):
        edges = golden[f"n{n}.rtfm_edges"]
        start, stop = segment_frames(n)
        assert np.array_equal(start, edges[:-1])
        assert np.array_equal(stop, np.maximum(edges[1:], edges[:-1] + 1))


@pytest.mark.parametrize(("rows", "frames"), [(3, 48), (3, 33), (2, 33), (1, 5), (6, 111)])
def test_ceil_and_floor_are_both_snippets(
    take: Any, folder: Path, tmp_path: Path, rows: int, frames: int
) -> None:
    np.save(folder / "a.npy", features(rows, WIDE))
    manifest = listed({"a": frames})
    (store,) = take(manifest).stores
    found = read(store, manifest, "a", tmp_path)
    assert found.frame_start.tolist() == [16 * i for i in range(rows)]
    assert found.frame_stop.tolist() == [min(16 * i + 16, frames) for i in range(rows)]
    assert found.n_frames == frames


@pytest.mark.parametrize(("rows", "difference"), [(5, "+2"), (1, "-1")])
def test_other_numbers_of_snippets_are_errors(
    take: Any, folder: Path, rows: int, difference: str
) -> None:
    np.save(folder / "a.npy", features(rows, WIDTH))
    np.save(folder / "b.npy", features(3, WIDTH))
    done = take(listed({"a": 40, "b": 40}))
    (failure,) = done.failures
    assert failure.video_id == "a" and done.videos == ["b"]
    assert f"has {rows} snippets, but 40 frames are 2 or 3 of 16 ({difference})" in failure.message


def layouts_of(done: Imported) -> dict[str, int]:
    return {line.rpartition(": ")[2]: n for line, n in done.layouts.items()}


def test_32_rows_by_the_length_of_the_video(take: Any, folder: Path) -> None:
    for name in "abc":
        np.save(folder / f"{name}.npy", features(32, WIDTH))
    assert layouts_of(take(listed(dict.fromkeys("abc", 512)), name="x")) == {"snippets": 3}
    assert layouts_of(take(listed(dict.fromkeys("abc", 900)), name="y")) == {"segments": 3}
    # known lengths say what the others are
    assert layouts_of(take(listed({"a": 900, "b": None, "c": 512}), name="z")) == {"segments": 3}


def test_32_rows_of_unknown_length_have_to_be_named(
    take: Any, folder: Path, tmp_path: Path
) -> None:
    for name in "abc":
        np.save(folder / f"{name}.npy", features(32, WIDTH))
    manifest = listed({"a": None, "b": None, "c": 512})
    message = take_error(take, manifest)
    assert "2 files have exactly 32 rows" in message
    assert "--layout segments or --layout snippets" in message
    assert not list_stores(tmp_path / "cache")
    assert layouts_of(take(manifest, layout="snippets", name="x")) == {"snippets": 3}
    assert layouts_of(take(manifest, layout="segments", name="y")) == {"segments": 3}


def test_32_rows_among_others_are_snippets(take: Any, folder: Path) -> None:
    for name, rows in {"a": 32, "b": 7, "c": 91, "d": 33}.items():
        np.save(folder / f"{name}.npy", features(rows, WIDTH))
    assert layouts_of(take(listed(dict.fromkeys("abcd")))) == {"snippets": 4}


def test_splits_are_looked_at_one_by_one(take: Any, folder: Path) -> None:
    """Segments to train on and snippets to test on, by their numbers of rows alone."""
    for i in range(6):
        np.save(folder / f"train{i}.npy", features(32, WIDTH))
        np.save(folder / f"test{i}.npy", features(32 if i == 0 else 7 + i, WIDTH))
    train = listed({f"train{i}": None for i in range(6)})
    test = listed({f"test{i}": None for i in range(6)}, "test")
    both = train.model_copy(update={"records": (*train.records, *test.records)})
    assert "6 files" in take_error(take, both)
    known = train.model_copy(
        update={"records": (*listed({"train0": 999}).records, *both.records[1:])}
    )
    assert layouts_of(take(known)) == {"segments": 6, "snippets": 6}


def test_33_rows_among_segments(take: Any, folder: Path, tmp_path: Path) -> None:
    """A real archive has nine such files in 272: an extraction that was off by one."""
    for i in range(5):
        np.save(folder / f"v{i}.npy", features(33 if i == 4 else 32, WIDTH))
    manifest = listed({f"v{i}": 700 if i == 0 else None for i in range(5)})
    done = take(manifest)
    (failure,) = done.failures
    assert failure.video_id == "v4" and "has 33 rows, but most files of its split have 32" in (
        failure.message
    )
    done = take(manifest, layout="segments")
    assert done.written == 1 and not done.failures
    found = read(done.stores[0], manifest, "v4", tmp_path)
    assert len(found.frame_start) == 33 and "segments" in found.flags


def test_snippets_of_other_lengths(take: Any, folder: Path, tmp_path: Path) -> None:
    np.save(folder / "a.npy", features(5, WIDTH))
    manifest = listed({"a": 40})
    (store,) = take(manifest, snippet_frames=8, fps=7.5).stores
    found = read(store, manifest, "a", tmp_path)
    assert found.frame_start.tolist() == [0, 8, 16, 24, 32] and found.fps == 7.5
    assert store.recipe["config"]["snippet_frames"] == 8


# ------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"a__0": (3, 6), "a__1": (3, 6), "a__3": (3, 6)}, "of 5 crops the files 2, 4 are missing"),
        ({f"a_{i}": (3, 6) for i in range(1, 10)}, "of 10 crops the files 0 are missing"),
        ({f"a_{i}": (3 + i // 4, 6) for i in range(5)}, r"crops of different shapes: .*\(4, 6\)"),
        ({f"a_{i}": (3, 1, 6) for i in range(5)}, "one file a crop has to be"),
        ({"a": (3, 6), "a_i3d": (3, 6)}, "several files of one video"),
        ({"a": (3, 7, 6)}, "1, 5, 10 crops"),
        ({"a": (7, 32, 6)}, "1, 5, 10 crops"),
        ({"a": (6,)}, r"\(6,\) is neither"),
        ({"a": (3, 10, 6, 1)}, "is neither"),
        ({"a": (0, 6)}, "is empty"),
        ({"a_patch23": (3, 15, 6)}, r"a grid of 2x3 has 6 patches, but \(3, 15, 6\)"),
        ({"a_patch35": (6, 32, 6)}, "a grid of 3x5 has 15 patches"),
        ({"a_patch23": (3, 6)}, "a grid of 2x3 has 6 patches"),
        ({"a_patch48": (32, 32, 6)}, "both axes could be the patches"),
    ],
)
def test_files_that_do_not_fit(
    take: Any, folder: Path, files: dict[str, tuple[int, ...]], match: str
) -> None:
    """Each is one failure of its video; another video goes on."""
    for i, (name, shape) in enumerate(files.items()):
        np.save(folder / f"{name}.npy", features(*shape, seed=i))
    np.save(folder / "good_i3d.npy", features(3, 10, WIDTH))
    done = take(listed({"a": None, "good": 48}))
    (failure,) = done.failures
    assert (failure.video_id, failure.stage) == ("a", "import")
    assert re.search(match, failure.message), failure.message
    assert done.videos == ["good"]


def test_values_and_widths_that_do_not_fit(take: Any, folder: Path) -> None:
    broken = features(3, WIDTH)
    broken[1, 2] = np.nan
    np.save(folder / "nan.npy", broken)
    np.save(folder / "wide.npy", features(3, WIDTH + 1))
    np.save(folder / "crops.npy", features(3, 10, WIDTH))
    np.save(folder / "object.npy", np.array([[{}]]), allow_pickle=True)
    np.save(folder / "stranger.npy", features(3, WIDTH))
    (folder / "cut.npz").write_bytes(b"PK")
    for name in "abc":
        np.save(folder / f"{name}.npy", features(3, WIDTH))
    done = take(listed(dict.fromkeys(["nan", "wide", "crops", "object", *"abcd"], 48)))
    messages = {f.video_id: f.message for f in done.failures}
    assert set(messages) == {"nan", "wide", "crops", "object", "stranger.npy", "cut.npz"}
    assert "NaN or infinite values, first in row 1" in messages["nan"]
    assert "has 1 crops of 7 numbers, most others have 1 of 6" in messages["wide"]
    assert "has 10 crops of 6 numbers, most others have 1 of 6" in messages["crops"]
    assert "never loaded" in messages["object"]
    assert "no video of toy has that name" in messages["stranger.npy"]
    assert "is no npz archive" in messages["cut.npz"]
    assert (done.videos, done.missing) == (["a", "b", "c"], ["object", "d"])
    assert done.unmatched == ["stranger.npy"]


def test_copies_of_one_array_are_taken_once(take: Any, folder: Path) -> None:
    """The archive of C3D features lists two videos under two classes each."""
    x = features(3, WIDTH)
    np.savez(
        folder / "all.npz", **{"Normal/a": x, "Testing/a": x, "Normal/b": x, "Testing/b": 2 * x}
    )
    done = take(listed({"a": 48, "b": 48}))
    assert done.videos == ["a"]
    assert [f.video_id for f in done.failures] == ["b"]


def test_copies_that_do_not_fit_into_memory_cost_their_own_video(
    take: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = features(3, WIDTH)
    np.savez(folder / "all.npz", **{"Normal/a": x, "Testing/a": x})
    np.save(folder / "b.npy", x)

    def check(needed: int, what: str, cure: str) -> None:
        if needed:
            raise OutOfMemory(f"{what} needs {needed} bytes")

    monkeypatch.setattr(feature_files, "check_memory", check)
    done = take(listed({"a": 48, "b": 48}))
    assert done.videos == ["b"]
    assert done.failures[0].message == "all.npz:Normal/a needs 72 bytes"


def test_a_number_after_a_name(take: Any, folder: Path) -> None:
    """cam_1 is a video of that name, unless there is a crop 0 of cam."""
    for name in ("cam", "cam_1", "cam_2"):
        np.save(folder / f"{name}.npy", features(3, WIDTH, seed=len(name)))
    manifest = listed({"cam": 48, "cam_1": 48, "cam_2": 48})
    assert take(manifest).videos == ["cam", "cam_1", "cam_2"]
    (folder / "cam.npy").rename(folder / "cam_0.npy")
    np.save(folder / "yard.npy", features(3, WIDTH))
    manifest = listed({"cam": 48, "cam_1": 48, "yard": 48})
    done = take(manifest, name="again")
    assert done.videos == ["yard"]
    messages = {f.video_id: f.message for f in done.failures}
    assert "may be cam_1, crop 1 of cam: rename it" in messages["cam_1.npy"]
    assert "of 5 crops the files 1, 3, 4 are missing" in messages["cam"]


def test_nothing_fits(take: Any, folder: Path) -> None:
    np.save(folder / "x.npy", features(3, WIDTH))
    message = take_error(take, listed({"a": 48}))
    assert "no file fits a video of toy (such as a)" in message
    assert "may only have letters" in take_error(take, listed({"x": 48}), name="a b")


def test_files_that_cannot_be_used_are_not_missing(run: Any, folder: Path, tmp_path: Path) -> None:
    write_manifest(listed({"a": 48, "b": 48, "c": 48}), tmp_path / "m.csv")
    (folder / "a.npy").write_bytes(b"no array")
    with pytest.raises(FeatureFileError, match=r"1 files could not be used, and no other.*: a.npy"):
        run("import", "m.csv", "files", "--name", "x")
    np.save(folder / "b.npy", features(3, WIDTH))
    result = CliRunner().invoke(cli, ["import", "m.csv", "files", "--name", "x"])
    assert result.exit_code == 3
    assert "no file for 1 video of the manifest" in result.output
    assert "1 video or file could not be used" in result.output


@pytest.mark.parametrize("order", [(1, 0), (1, 0, 2), (2, 1, 0)])
def test_other_axes_are_stored_as_rows_first(
    take: Any, folder: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """(D, n), (crops, n, D) and, with --row-axis, (crops, D, n) hold the same numbers."""
    arrays = {v: features(n, *([10] if len(order) == 3 else []), WIDTH) for v, n in LENGTHS.items()}
    for name, values in arrays.items():
        kept = values.transpose(1, 2, 0) if order == (2, 1, 0) else values.transpose(order)
        np.save(folder / f"{name}.npy", kept)
    manifest = listed({v: 16 * n for v, n in LENGTHS.items()})
    (store,) = take(manifest).stores
    for name, values in arrays.items():
        assert np.array_equal(read(store, manifest, name, tmp_path).arrays["features"][:], values)
    said = {(1, 0): "(6, n)", (1, 0, 2): "(10, n, 6)", (2, 1, 0): "(10, 6, n)"}[order]
    assert attrs(store)[0]["layout"] == f"{said} float32: snippets"


LENGTHS = {"a": 3, "b": 5, "c": 7}


def test_one_file_that_happens_to_fit_is_not_written(
    take: Any, folder: Path, tmp_path: Path
) -> None:
    for name, rows in LENGTHS.items():
        np.save(folder / f"{name}.npy", features(rows, WIDTH))
    manifest = listed({"a": 48, "b": 400, "c": 900})
    message = take_error(take, manifest)
    assert "2 of 3 files could not be used, so nothing was written" in message
    assert not list_stores(tmp_path / "cache")
    assert take(manifest, row_axis=0).videos == ["a"], "what the user says is not judged"


# ------------------------------------------------------------------------------------ the store


def test_a_second_import_does_nothing_and_another_is_refused(
    take: Any, folder: Path, tmp_path: Path
) -> None:
    x = features(3, WIDTH)
    np.save(folder / "a.npy", x)
    manifest = listed({"a": None})
    (store,) = take(manifest).stores
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    assert take(manifest).written == 0
    np.savez(folder / "again.npz", a=x)  # the same numbers from another file
    (folder / "a.npy").unlink()
    assert (take(manifest).written, take(manifest).failures) == (0, [])
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before
    (folder / "again.npz").unlink()
    np.save(folder / "a.npy", x + 1)
    (failure,) = take(manifest).failures
    assert "holds other features of this video" in failure.message
    assert take(manifest, name="other").written == 1
    np.save(folder / "a.npy", x)
    (failure,) = take(listed({"a": 40})).failures  # the same features for another length
    assert "3 rows for 48 frames; the file: 3 for 40" in failure.message


def test_a_dry_run_writes_nothing(take: Any, folder: Path, tmp_path: Path) -> None:
    np.save(folder / "a.npy", features(3, 10, WIDTH, dtype="float16"))
    done = take(listed({"a": 48}), dry_run=True)
    assert (done.bytes, done.written, done.videos) == (3 * 10 * WIDTH * 2, 0, ["a"])
    assert not (tmp_path / "cache" / "features").exists()


def test_footage_keeps_its_content(tmp_path: Path, folder: Path) -> None:
    """Imported and extracted features of one video meet; parts of a file share its features."""
    cache = tmp_path / "cache"
    (tmp_path / "scene").mkdir()
    write_tiny_scene(tmp_path / "scene")
    manifest = DATASETS["footage"](tmp_path / "scene" / "train", train_fraction=0.5)
    probed = probe_files(manifest, cache)
    np.save(folder / "train_01.npy", features(3, WIDTH))
    np.save(folder / "train_02.npy", features(3, WIDTH, seed=1))
    done = import_features(manifest, probed, [folder], cache, name="toy", fps=3.0)
    assert len(done.videos) == 4 and done.written == 2
    extracted = extract_features(manifest, probed, [resolve_extractor("null")], cache)
    for row in probed.rows.values():
        both = [store.read(row.content_id) for store in (*done.stores, *extracted.stores)]
        assert np.array_equal(both[0].frame_stop, both[1].frame_stop)
        assert both[0].fps == both[1].fps == row.fps
    (tmp_path / "scene" / "train" / "train_01.mp4").unlink()
    lost = import_features(manifest, probe_files(manifest, cache), [folder], cache, name="toy")
    (failure,) = lost.failures
    assert "train_01.npy: the footage of" in failure.message and len(lost.videos) == 2


def test_grids_of_one_import_are_found_together(take: Any, folder: Path, tmp_path: Path) -> None:
    manifest = listed({"a": 48, "b": 48}, label=0)
    for name in "ab":
        np.save(folder / f"{name}_patch23_i3d.npy", features(3, 6, WIDTH))
        np.save(folder / f"{name}_patch35_i3d.npy", features(3, 15, WIDTH))
        np.save(folder / f"{name}_i3d.npy", features(3, 10, WIDTH))
    take(manifest, name="one")
    cache, rows = tmp_path / "cache", probe_files(manifest, tmp_path).rows
    found = find_stores(cache, ("snippet", "patch"), rows)
    assert list(found) == ["snippet", "patch/2x3", "patch/3x5"]
    assert len({store.key for store in found.values()}) == 3
    assert list(find_stores(cache, ("patch/3x5",), rows)) == ["patch/3x5"]
    take(manifest, name="two")
    with pytest.raises(StoreError, match="several feature sets have 'patch'"):
        find_stores(cache, ("patch",), rows)
    named = find_stores(cache, ("patch",), rows, {"patch": "two"})
    assert {s.recipe["config"]["name"] for s in named.values()} == {"two"}


# ------------------------------------------------------------------------------------ a whole run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return call


def write_toy(folder: Path, manifest_path: Path) -> None:
    """Normal features lie near one point, those of the last two snippets of t0 and t1 do not."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(4):
        np.save(folder / f"n{i}_i3d.npy", (1 + 0.1 * rng.normal(size=(6, WIDE))).astype("f4"))
        normal = {"label": 0, "anomalies": ()}
        records += listed({f"n{i}": 90}, "train", **normal).records
    for i in range(3):
        x = 1 + 0.1 * rng.normal(size=(6, WIDE))
        if i < 2:
            x[4:] *= np.where(np.arange(WIDE) % 2, 1, -1)
        np.save(folder / f"t{i}_i3d.npy", x.astype("f4"))
        fields: dict[str, Any] = {"label": 1, "anomalies": ((64, 90),)} if i < 2 else normal
        records += listed({f"t{i}": 90}, "test", **fields).records
    manifest = Manifest(dataset="toy", root="/nowhere", records=tuple(records))
    write_manifest(manifest, manifest_path)


def test_import_train_score_evaluate_without_footage(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    write_toy(folder, tmp_path / "m.parquet")
    probed = json.loads(run("probe", "m.parquet", "--json"))
    assert {v["kind"] for v in probed["videos"].values()} == {"features"}
    run("extract", "m.parquet", "-e", "null", code=3)
    failures = pq.read_table("cache/failures/m-extract.parquet").to_pylist()
    assert len(failures) == 7 and {f["error"] for f in failures} == {"NoFootage"}
    message = "no footage: import features, or build the manifest with footage"
    assert {f["message"] for f in failures} == {message}
    dry = run("extract", "m.parquet", "-e", "null", "--dry-run")
    assert dry.startswith("0 videos, 0.00 hours, 0 shards")

    assert "7 videos" in run("import", "m.parquet", "files", "--name", "toy", "--dry-run")
    assert "7 shards written: 7 videos" in run("import", "m.parquet", "files", "--name", "toy")
    assert "nothing to do: 7 videos" in run("import", "m.parquet", "files", "--name", "toy")
    model = run("train", "knn", "m.parquet", "--features", "snippet=toy").strip()
    assert "3 videos scored (3 new)" in run("score", model, "m.parquet", "-o", "out")
    metrics = json.loads(run("evaluate", "out", "m.parquet", "--json"))
    assert metrics["micro_auc"] == 1.0 and metrics["n_frames"] == 270
    assert "3 videos scored (0 new)" in run("score", model, "m.parquet", "-o", "out")
    videos = pq.read_table("out/videos.parquet").to_pylist()
    assert {(v["kind"], v["path"], v["n_frames"]) for v in videos} == {("features", "", 90)}
    assert Path("out/report.html").is_file()
    assert "whole" in run("cache", "verify")
    assert "7 videos\t7 shards" in run("cache", "ls")


def test_scores_know_what_was_imported(run: Any, folder: Path, tmp_path: Path) -> None:
    """A video without features fails by name; other features are scored again."""
    write_toy(folder, tmp_path / "m.parquet")
    (folder / "t1_i3d.npy").rename(tmp_path / "t1_i3d.npy")
    run("import", "m.parquet", "files", "--name", "toy")
    model = run("train", "knn", "m.parquet").strip()
    run("score", model, "m.parquet", "-o", "out", code=3)
    (failure,) = pq.read_table("out/failures.parquet").to_pylist()
    assert failure["video_id"] == "t1" and "vadpipe import with --name toy" in failure["message"]
    run("import", "m.parquet", "t1_i3d.npy", "--name", "toy")
    assert "3 videos scored (1 new)" in run("score", model, "m.parquet", "-o", "out")
    # the same name for other numbers, after the set was deleted
    (store,) = list_stores(tmp_path / "cache")
    run("cache", "rm", store.name, "--yes")
    with pytest.raises(StoreError, match=r"not in .*run vadpipe import with --name toy.*: none"):
        run("score", model, "m.parquet", "-o", "out")
    np.save(folder / "t0_i3d.npy", features(6, WIDE))
    np.save(folder / "t1_i3d.npy", np.load("t1_i3d.npy"))
    run("import", "m.parquet", "files", "--name", "other")
    with pytest.raises(StoreError, match=r"config\.name: 'other' != 'toy'"):
        run("score", model, "m.parquet", "-o", "out")
    run("import", "m.parquet", "files", "--name", "toy")
    assert "3 videos scored (1 new)" in run("score", model, "m.parquet", "-o", "out")


def test_models_know_what_was_imported(run: Any, folder: Path, tmp_path: Path) -> None:
    """The same recipe over other numbers gives another model, not the one that is there."""
    write_toy(folder, tmp_path / "m.parquet")
    run("import", "m.parquet", "files", "--name", "toy")
    model = run("train", "knn", "m.parquet").strip()
    assert run("train", "knn", "m.parquet").strip() == model
    (store,) = Path("cache/features").iterdir()
    run("cache", "rm", store.name, "--yes")
    path = next(iter(sorted(folder.glob("n0*.npy"))))
    np.save(path, 2 * np.load(path))
    run("import", "m.parquet", "files", "--name", "toy")
    assert [s.name for s in Path("cache/features").iterdir()] == [store.name]
    assert run("train", "knn", "m.parquet").strip() != model


def test_models_know_which_video_had_which_numbers(
    take: Callable[..., Imported], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that are exchanged between a normal and an abnormal video make another model."""
    records = [
        r.model_copy(update={"label": i % 2})
        for i, r in enumerate(listed(dict.fromkeys("abcd", 96)).records)
    ]
    manifest = listed({}).model_copy(update={"records": tuple(records)})
    cache = tmp_path / "cache"

    def trained(order: str) -> Any:
        for name, seed in zip(order, range(4), strict=True):
            np.save(folder / f"{name}.npy", features(6, WIDE, seed=seed))
        shutil.rmtree(cache / "features", ignore_errors=True)
        take(manifest)
        settings = {"steps": 1, "batch_size": 2, "segments": 4}
        probed = probe_files(manifest, cache)
        return train_detector("mil_ranking", manifest, probed, cache, settings=settings, holdout=0)

    with monkeypatch.context() as patch:
        patch.setattr("vadpipe.pipeline.train.imported_contents", earlier_contents)
        old = trained("abcd")
    again = trained("abcd")
    assert (again.folder, again.fresh) == (old.folder, False), "models of version 0.1 are found"
    shutil.rmtree(old.folder)
    first, second = trained("abcd"), trained("badc")
    assert second.fresh and second.folder not in (old.folder, first.folder)


def test_the_frame_rate_of_an_import_is_kept(take: Any, folder: Path, tmp_path: Path) -> None:
    manifest = listed({"a": 640})
    np.save(folder / "a.npy", features(40, WIDTH))
    assert take(manifest, fps=7).written == 1
    assert take(manifest, fps=7).failures == take(manifest).failures == []
    done = train_detector("knn", manifest, probe_files(manifest, tmp_path), tmp_path / "cache")
    held_out = ModelFolder(done.folder).held_out()
    assert held_out is not None and held_out.fps == {"a": 7.0}
    (failure,) = take(manifest, fps=10).failures
    assert "with 7 frames per second, not 10: import under another --name" in failure.message


def test_weak_labels_without_footage(run: Any, folder: Path, tmp_path: Path) -> None:
    """PETS: features, labels and splits of one archive, and a detector that learns from labels."""
    write_pets2009(folder)
    for path in folder.glob("*-view-00[234].npz"):
        path.unlink()
    run("manifest", "pets2009", "files", "-o", "m.csv", "--set", "subset=true")
    assert len(read_manifest(Path("m.csv"))) == 27
    assert "27 shards" in run("import", "m.csv", "files", "--name", "pets", "--fps", "7")
    model = run("train", "mil_ranking", "m.csv", "--set", "steps=2").strip()
    out = run("score", model, "m.csv", "-o", "out")
    assert "14 videos scored" in out and "micro AUC" in out
    assert {v["fps"] for v in pq.read_table("out/videos.parquet").to_pylist()} == {7.0}


# ------------------------------------------------------------------------------------ real files


@pytest.mark.data
def test_real_archive_of_ucf_crime(shared: Path, take: Any) -> None:
    """272 arrays: two videos twice, nine with 33 rows; all are segments by the test lengths."""
    labels, c3d = shared / "data" / "labels" / "ucf_crime", shared / "data" / "ucf_crime_c3d"
    manifest = DATASETS["ucf_crime"](
        labels,
        frame_counts="urdmu_annotation_with_frame_counts.txt",
        split_file=c3d / "split.json",
    )
    done = take(manifest, c3d / "c3d_fc6_32seg.npz", dry_run=True)
    assert done.layouts == {"snippet (n, 4096) float16: segments": 261}
    assert len(done.videos) == 261 and not done.missing
    assert all("has 33 rows" in f.message for f in done.failures) and len(done.failures) == 9
    done = take(manifest, c3d / "c3d_fc6_32seg.npz", layout="segments", dry_run=True)
    assert len(done.videos) == len(manifest) == 270 and not done.failures


def test_what_a_killed_import_has_written_is_listed_and_known(
    take: Any, folder: Path, tmp_path: Path
) -> None:
    """No model is known without the checksums of what it was trained on."""
    manifest, cache = listed({"a": 40, "b": 40}), tmp_path / "cache"
    rows = probe_files(manifest, cache).rows

    def known() -> Any:
        (store,) = list_stores(cache)
        return imported_contents(imported_checksums({"snippet": store}, rows))

    for name in "ab":
        np.save(folder / f"{name}.npy", features(3, WIDTH))
    (store,) = take(manifest).stores
    first = known()
    for part in store.shard_index.parts():
        part.unlink()  # what a kill before the end leaves
    assert known() == first, "the shards say it themselves"
    assert take(manifest).written == 0
    assert store.index().num_rows == 2 and store.verify() == []
    shutil.rmtree(store.root)
    for name in "ab":
        np.save(folder / f"{name}.npy", features(3, WIDTH, seed=1))
    take(manifest)
    for part in store.shard_index.parts():
        part.unlink()
    other = known()
    assert other != first, "other numbers, other model"
    store.remove_video(rows["b"].content_id)
    with pytest.raises(StoreError, match="has no checksum of 1 videos"):
        known()
    ((*_, shard),) = store.shards(rows["a"].content_id)
    with h5py.File(shard, "r+") as file:
        file.attrs["format"] = 2
        del file.attrs["seal"]
        del file.attrs["checksum"]
    with pytest.raises(StoreError, match="states no checksum"):
        known()


def test_an_import_notices_that_its_set_went(
    take: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = listed({"a": 40, "b": 40})
    for name in "ab":
        np.save(folder / f"{name}.npy", features(3, WIDTH))
    real = FeatureStore.write

    def write(self: FeatureStore, span: Any, *args: Any) -> Any:
        with pytest.raises(StoreError, match="a run is writing"):
            delete_set(tmp_path / "cache", self.name)
        shutil.rmtree(self.root)
        return real(self, span, *args)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write", write)
        with pytest.raises(StoreError, match="was deleted meanwhile"):
            take(manifest)
    (store,) = list_stores(tmp_path / "cache")
    assert take(manifest).written == 1
    store.rebuild_index()
    assert store.verify() == []


def test_imported_copies_count_once(
    take: Callable[..., Imported], folder: Path, tmp_path: Path
) -> None:
    """Without footage, a content id is made of a name: copies are told by their numbers."""
    manifest, cache = listed(dict.fromkeys("abcd", 96), label=0), tmp_path / "cache"
    for name, seed in zip("abcd", (0, 1, 0, 2), strict=True):
        np.save(folder / f"{name}.npy", features(6, WIDE, seed=seed))
    take(manifest)
    done = train_detector("knn", manifest, probe_files(manifest, cache), cache)
    assert (
        "1 of 4 training videos are copies of others, and count once with them: c = a"
        in (done.warnings[0])
    )
    assert done.summary["videos"] == 3
