"""Score maps: rounded as documented, current or gone, safe to read, kept by the score stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.detectors.base import Bag, Scores
from vadpipe.detectors.knn import KNN
from vadpipe.extractors.patch_cubes import PatchCubes, PatchCubesConfig, patch_grid
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.score import score_footage
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.frames import expand_to_frames
from vadpipe.pipeline.scores.maps import (
    covered_by_grids,
    maps_stamp,
    write_maps,
)
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.probe_table import Probed
from vadpipe.pipeline.train import train_detector


def scores_with(maps: dict[str, np.ndarray], starts: Any = None, stops: Any = None) -> Scores:
    n = len(next(iter(maps.values()))) if maps else 3
    start = np.arange(n) * 16 if starts is None else np.asarray(starts)
    stop = start + 16 if stops is None else np.asarray(stops)
    return Scores(start, stop, {"score": np.zeros(n)}, maps)


def some_maps(n: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "patch/4x7": rng.normal(size=(n, 4, 7)).astype(np.float32),
        "patch/2x3": rng.normal(size=(n, 2, 3)).astype(np.float32),
    }


def maps_of(folder: Path, video_id: str) -> Path:
    """Where a score folder has the maps of a video."""
    return folder / "maps" / f"{video_id}.h5"


# --- files -----------------------------------------------------------------------------------


def rounded(values: np.ndarray) -> np.ndarray:
    """Values that 11 bits hold come back as they are."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(np.float32)


def test_a_round_trip_is_exact_for_what_11_bits_hold_and_slices(tmp_path: Path):
    maps = {name: rounded(values) for name, values in some_maps().items()}
    write_maps(maps_of(tmp_path, "01"), scores_with(maps), "stamp", {(4, 7): (1.0, 0.75)})
    for name, values in maps.items():
        assert ScoreFolder(tmp_path).read_map("01", name).tobytes() == values.tobytes()
        assert ScoreFolder(tmp_path).read_map("01", name, 7, 11).tobytes() == values[7:11].tobytes()
        assert ScoreFolder(tmp_path).read_map("01", name, 38).tobytes() == values[38:].tobytes()
    opened = ScoreFolder(tmp_path).maps("01")
    assert opened is not None
    assert {n: (m.shape, m.covered) for n, m in opened.maps.items()} == {
        "patch/4x7": ((40, 4, 7), (1.0, 0.75)),
        "patch/2x3": ((40, 2, 3), (1.0, 1.0)),
    }
    assert [f.tolist() for f in opened.frames()] == [
        list(range(0, 640, 16)),
        list(range(16, 656, 16)),
    ]
    assert (
        maps_stamp(maps_of(tmp_path, "01")) == "stamp"
        and maps_stamp(maps_of(tmp_path, "02")) is None
    )
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["01.h5"]
    assert ScoreFolder(tmp_path).maps("02") is None


def test_a_map_is_one_plain_data_set_chunked_by_rows(tmp_path: Path):
    values = np.zeros((5000, 4, 7), np.float32)
    write_maps(maps_of(tmp_path, "01"), scores_with({"attention/4x7": values}), "", {})
    with h5py.File(maps_of(tmp_path, "01")) as file:
        assert sorted(file) == ["frame_start", "frame_stop", "map:attention%2F4x7"]
        dataset = file["map:attention%2F4x7"]
        assert dataset.chunks[1:] == (4, 7) and dataset.chunks[0] * 2 * 28 <= 1 << 18
        assert dataset.dtype == np.float16 and dataset.compression == "gzip" and dataset.shuffle
        assert dataset.id.get_storage_size() < values.nbytes / 100


@given(
    values=array_shapes(min_dims=3, max_dims=3, max_side=4).flatmap(
        lambda shape: arrays(np.float32, shape)  # NaN and infinities too
    ),
    name=st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()),
)
@example(values=np.full((1, 1, 1), 3.401993e38, np.float32), name="0")
@settings(max_examples=50, deadline=None)
def test_any_map_of_any_name_comes_back(tmp_path_factory, values: np.ndarray, name: str):
    out = tmp_path_factory.mktemp("out")
    write_maps(maps_of(out, "v"), scores_with({name: values, "b": values}), "", {})
    read = ScoreFolder(out).read_map("v", name)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(read[~finite], values[~finite])
    exact = values[finite].astype(float)
    largest = np.abs(exact).max(initial=0)
    bound = np.maximum(np.abs(exact) / 2048, max(largest * 2.0**-39, 2.0**-125))
    assert (np.abs(read[finite] - exact) <= bound).all()
    opened = ScoreFolder(out).maps("v")
    assert opened is not None and set(opened.maps) == {name, "b"}


@pytest.mark.parametrize("value", [3.401993e38, np.finfo(np.float32).max])
def test_the_largest_numbers_stay_finite(tmp_path: Path, value: float):
    values = np.array([[[value, -value, np.inf, -np.inf, np.nan]]], np.float32)
    write_maps(maps_of(tmp_path, "v"), scores_with({"m": values}), "", {})
    read = ScoreFolder(tmp_path).read_map("v", "m")
    np.testing.assert_allclose(read, values, rtol=1 / 2048)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e6, 1e38])
def test_the_unit_of_a_map_costs_no_digits(tmp_path: Path, unit: float):
    values = (some_maps()["patch/2x3"] * unit).astype(np.float32)
    write_maps(maps_of(tmp_path, "v"), scores_with({"m": values}), "", {})
    np.testing.assert_allclose(ScoreFolder(tmp_path).read_map("v", "m"), values, rtol=1 / 2048)


def test_float32_maps_of_version_0_1_are_read_as_they_are(tmp_path: Path):
    values = some_maps()["patch/2x3"]
    write_maps(maps_of(tmp_path, "v"), scores_with({"m": values}), "", {})
    with h5py.File(maps_of(tmp_path, "v"), "a") as file:
        del file["map:m"]
        file.create_dataset("map:m", data=values, chunks=(7, 2, 3)).attrs["covered"] = (1, 1)
    assert ScoreFolder(tmp_path).read_map("v", "m").tobytes() == values.tobytes()


def test_a_video_without_rows(tmp_path: Path):
    write_maps(maps_of(tmp_path, "v"), scores_with({"m": np.zeros((0, 2, 3), np.float32)}), "", {})
    assert ScoreFolder(tmp_path).read_map("v", "m").shape == (0, 2, 3)
    opened = ScoreFolder(tmp_path).maps("v")
    assert opened is not None
    with pytest.raises(StoreError, match="no rows"):
        opened.at("m", 0)


@pytest.mark.parametrize(
    ("starts", "stops"),
    [
        ([0, 16, 32], [16, 32, 48]),
        ([0, 8, 16], [16, 24, 32]),  # overlapping
        ([4, 20, 40], [10, 24, 44]),  # with gaps
    ],
)
def test_at_a_frame_a_map_is_what_expanding_to_frames_gives(tmp_path: Path, starts, stops):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 2, 2)).astype(np.float32)
    write_maps(maps_of(tmp_path, "v"), scores_with({"m": values}, starts, stops), "", {})
    opened = ScoreFolder(tmp_path).maps("v")
    assert opened is not None
    for i, j in np.ndindex(2, 2):
        frames = expand_to_frames(starts, stops, values[:, i, j], 0, 50)
        ours = [opened.at("m", frame)[i, j] for frame in range(50)]
        np.testing.assert_allclose(ours, frames, rtol=1e-3, atol=1e-3)


def test_scores_without_maps_leave_no_file(tmp_path: Path):
    write_maps(maps_of(tmp_path, "01"), scores_with({}), "", {})
    assert not (tmp_path / "maps").exists()
    write_maps(maps_of(tmp_path, "01"), scores_with(some_maps()), "old", {})
    write_maps(maps_of(tmp_path, "01"), scores_with({}), "new", {})
    assert not maps_of(tmp_path, "01").exists()


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 2), (3, 0, 2)])
def test_what_is_no_map_is_refused_and_the_old_file_stays(tmp_path: Path, shape):
    write_maps(maps_of(tmp_path, "01"), scores_with(some_maps()), "old", {})
    with pytest.raises(StoreError, match="video '01': map 'm'"):
        write_maps(
            maps_of(tmp_path, "01"), scores_with({"m": np.zeros(shape, np.float32)}), "new", {}
        )
    assert maps_stamp(maps_of(tmp_path, "01")) == "old"


def test_other_videos_are_removed(tmp_path: Path):
    for video_id in ("01", "02", "03"):
        write_maps(maps_of(tmp_path, video_id), scores_with(some_maps()), "", {})
    ScoreFolder(tmp_path).keep_only(["02"])
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["02.h5"]


def test_missing_maps_say_what_there_is(tmp_path: Path):
    with pytest.raises(StoreError, match=r"no maps of '01'.*--no-maps"):
        ScoreFolder(tmp_path).read_map("01", "m")
    write_maps(maps_of(tmp_path, "01"), scores_with(some_maps()), "", {})
    with pytest.raises(StoreError, match=r"no map 'm'; it has: patch/[24]x[37], patch/[24]x[37]"):
        ScoreFolder(tmp_path).read_map("01", "m")
    with pytest.raises(ScoreFolderError, match="not a file name"):
        ScoreFolder(tmp_path).read_map("../01", "m")


def external(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file["map:m"] = h5py.ExternalLink(str(secret), "map:m")


def soft(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file["map:m"] = h5py.SoftLink("/frame_start")


def raw_storage(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file.create_dataset("map:m", (3, 2, 2), "f4", external=[(str(secret), 0, 48)])


def huge(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file.create_dataset("map:m", (3, 1 << 16, 1 << 16), "f4", chunks=(1, 64, 64))


def bomb(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    piece = (3, 2400, 2400)  # 69 MB in one chunk of 67 kB
    zeros = file.create_dataset("map:m", piece, "f4", chunks=piece, compression="gzip", fillvalue=1)
    zeros[:] = 0
    zeros.attrs["covered"] = (1, 1)


def bomb_in_pieces(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    made = file.create_dataset("map:m", (3, 1 << 13, 1 << 13), "f4", chunks=(1, 64, 64))
    made[0, 0, 0] = 1.0


def no_scale(file: h5py.File, secret: Path) -> None:
    file["map:m"].attrs["scale"] = np.nan


def many_frames(file: h5py.File, secret: Path) -> None:
    del file["frame_start"]
    file.create_dataset("frame_start", (1 << 40,), "i8", chunks=(1024,))


def text(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file["map:m"] = np.full((3, 2, 2), b"x")


def flat(file: h5py.File, secret: Path) -> None:
    del file["map:m"]
    file["map:m"] = np.zeros((3, 4), "f4")


def short(file: h5py.File, secret: Path) -> None:
    del file["frame_stop"]
    file["frame_stop"] = np.arange(2)


def no_frames(file: h5py.File, secret: Path) -> None:
    del file["frame_stop"]


def no_share(file: h5py.File, secret: Path) -> None:
    file["map:m"].attrs["covered"] = (1.0, 1.5)


def share_gone(file: h5py.File, secret: Path) -> None:
    del file["map:m"].attrs["covered"]


@pytest.mark.parametrize(
    "harm",
    [
        external, soft, raw_storage, huge, bomb, many_frames, text, flat, short, no_frames,
        no_share, share_gone, bomb_in_pieces, no_scale,
    ],
)  # fmt: skip
def test_files_of_others_are_not_trusted(tmp_path: Path, harm: Callable[[h5py.File, Path], None]):
    values = np.ones((3, 2, 2), np.float32)
    for video_id in ("secret", "v"):
        write_maps(maps_of(tmp_path, video_id), scores_with({"m": values}), "", {})
    assert ScoreFolder(tmp_path).read_map("v", "m").shape == (3, 2, 2)
    with h5py.File(maps_of(tmp_path, "v"), "a") as file:
        harm(file, maps_of(tmp_path, "secret"))
    with pytest.raises(StoreError, match=r"v\.h5"):
        ScoreFolder(tmp_path).read_map("v", "m")


def test_a_damaged_file_is_an_error_and_never_current(tmp_path: Path):
    write_maps(maps_of(tmp_path, "v"), scores_with(some_maps()), "stamp", {})
    path = maps_of(tmp_path, "v")
    path.write_bytes(path.read_bytes()[:3000])
    assert maps_stamp(maps_of(tmp_path, "v")) == ""
    with pytest.raises(StoreError, match=r"damaged.*run score again"):
        ScoreFolder(tmp_path).maps("v")


# --- what a grid covers ----------------------------------------------------------------------


@pytest.mark.parametrize("preset", [{}, PatchCubes.presets["small"], {"frame_size": (500, 700)}])
def test_covered_is_the_share_of_pixels_in_patches(preset: dict[str, Any]):
    config = PatchCubesConfig.model_validate(preset)
    spec = resolve_extractor("patch_cubes", preset, weights="random:0", precision="fp32")
    recipe = json.loads(json.dumps(spec.make().recipe()))
    found = covered_by_grids([recipe])
    height, width = config.frame_size
    for patch in config.patch_sizes:
        grid = patch_grid(config.frame_size, patch)
        share = (grid[0] * patch[0] / height, grid[1] * patch[1] / width)
        assert found.get(grid, (1.0, 1.0)) == share
    if not preset:
        assert found == {}  # SSRL's sizes leave nothing over
    if preset.get("frame_size") == (240, 360):
        assert found == {(4, 7): (1.0, 357 / 360)}


def test_recipes_without_grids_cover_everything():
    spec = resolve_extractor("null", {}, weights=None, precision="fp32")
    imported = {"config": {"name": "x"}, "arrays": [{"grid": [2, 3], "attrs": {}}]}
    assert covered_by_grids([spec.make().recipe(), imported, {}]) == {}


# --- the score stage -------------------------------------------------------------------------


class Mapped(KNN):
    """The score of a row, in every patch of a 2 x 3 map."""

    @property
    def maps(self) -> tuple[str, ...]:
        return ("patch/2x3",)

    def score(self, bag: Bag) -> Scores:
        scores = super().score(bag)
        values = np.repeat(scores.columns["score"], 6).reshape(-1, 2, 3)
        return replace(scores, maps={"patch/2x3": values.astype(np.float32)})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Manifest, Probed, Path, Path]:
    """Manifest, probed files, cache, and a model on `null` features."""
    root = tmp_path_factory.mktemp("prepared")
    write_tiny_scene(root / "scene")
    manifest, cache = synthetic.build(root / "scene"), root / "cache"
    probed = probe_files(manifest, cache)
    extract_features(manifest, probed, [resolve_extractor("null", {}, weights=None)], cache)
    trained = train_detector(
        "knn", manifest, probe_files(manifest.select(split="train"), cache), cache
    )
    return manifest.select(split="test"), probed, cache, trained.folder


Again = Callable[..., int]


@pytest.fixture
def again(prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Score into tmp_path / "out"; returns how many videos were scored again."""
    manifest, probed, cache, model = prepared
    real = ModelFolder.load

    def run(*, mapped: bool = True, keep_maps: bool = True, videos: int = 2) -> int:
        def load(folder: ModelFolder) -> Any:
            detector, card = real(folder)
            if not mapped:
                return detector, {**card, "key": "other"}
            other = Mapped(detector.config)
            other.load_state_dict(detector.state_dict())
            return other, card

        monkeypatch.setattr(ModelFolder, "load", load)
        chosen = manifest.model_copy(update={"records": manifest.records[:videos]})
        ids = {r.video_id for r in chosen.records}
        rows = replace(probed, rows={v: r for v, r in probed.rows.items() if v in ids})
        options = {"keep_maps": keep_maps, "replace_model": True}
        done = score_footage(model, chosen, rows, tmp_path / "out", cache, **options)
        assert not done.failures and len(done.videos) - len(done.kept) == videos
        return done.fresh

    return run


def stored(out: Path) -> list[str]:
    return sorted(p.name for p in (out / "maps").glob("*"))


def test_score_keeps_maps_beside_the_parts(again: Again, tmp_path: Path):
    out = tmp_path / "out"
    assert again() == 2 and stored(out) == ["test_01.h5", "test_02.h5"]
    for video_id in ("test_01", "test_02"):
        part = pq.read_table(out / "scores" / f"{video_id}.parquet")
        values = ScoreFolder(out).read_map(video_id, "patch/2x3")
        expected = np.asarray(part["score"]).astype(np.float32)
        np.testing.assert_allclose(values[:, 1, 2], expected, rtol=1 / 2048)
        assert values.shape[1:] == (2, 3)
        opened = ScoreFolder(out).maps(video_id)
        assert opened is not None
        assert opened.frames()[0].tolist() == part["frame_start"].to_pylist()
        assert maps_stamp(maps_of(out, video_id)) == part.schema.metadata[b"vadpipe"].decode()
    assert {p.suffix for p in (out / "scores").iterdir()} == {".parquet"}
    assert pq.read_table(out / "scores.parquet").schema.metadata == {b"detector": b"knn"}


def test_a_second_run_scores_nothing_and_keeps_maps(again: Again, tmp_path: Path):
    out = tmp_path / "out"
    again()
    before = {p: p.stat().st_mtime_ns for p in (out / "maps").iterdir()}
    assert again() == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "maps").iterdir()} == before


def test_maps_that_are_gone_or_damaged_are_made_again(again: Again, tmp_path: Path):
    out = tmp_path / "out"
    again()
    maps_of(out, "test_01").unlink()
    assert again() == 1 and stored(out) == ["test_01.h5", "test_02.h5"]
    maps_of(out, "test_02").write_bytes(b"broken")
    assert again() == 1
    assert ScoreFolder(out).read_map("test_02", "patch/2x3").shape[1:] == (2, 3)


def test_no_maps_stores_none_and_a_later_run_can_add_them(again: Again, tmp_path: Path):
    out = tmp_path / "out"
    assert again(keep_maps=False) == 2 and stored(out) == []
    assert again(keep_maps=False) == 0
    assert again() == 2 and len(stored(out)) == 2
    assert again(keep_maps=False) == 0 and len(stored(out)) == 2  # they are right: they stay


def test_maps_go_with_what_made_them_and_not_with_a_manifest(again: Again, tmp_path: Path):
    out = tmp_path / "out"
    again()
    assert again(videos=1) == 0 and stored(out) == ["test_01.h5", "test_02.h5"]
    assert again(mapped=False) == 2 and stored(out) == []
    assert again(mapped=False) == 0  # a detector without maps is not asked again
    again()
    maps = maps_of(out, "test_01").read_bytes()
    again(mapped=False)
    maps_of(out, "test_01").write_bytes(maps)  # a run that died between maps and part
    assert again(mapped=False, keep_maps=False) == 1 and stored(out) == []
