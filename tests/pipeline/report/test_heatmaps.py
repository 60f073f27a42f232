"""Heat-maps: pixel for pixel what the map says, to the scale that is stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from matplotlib import colormaps
from PIL import Image
from pydantic import ValidationError

from tests.synthetic import write_tiny_scene
from vadpipe.detectors.base import Scores
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.report import heatmaps
from vadpipe.pipeline.report.heatmaps import (
    BAR,
    BAR_COLOURS,
    Heatmap,
    Heatmaps,
    HeatmapStyle,
    colour_bar,
    draw_heatmap,
    picture_path,
    remove_pictures,
    shrink,
    upsample,
    write_picture,
)
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.maps import write_maps
from vadpipe.pipeline.store.errors import StoreError

WHOLE = (1.0, 1.0)


def random_map(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


# --- upsampling ------------------------------------------------------------------------------


def test_nearest_by_hand():
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    assert upsample(values, (4, 6)).tolist() == np.kron(values, np.ones((2, 2))).tolist()
    # five pixels over two patches: centres 0.2, 0.6, 1.0, 1.4, 1.8 of a patch
    assert upsample(values[:, :1], (5, 1)).ravel().tolist() == [1, 1, 4, 4, 4]
    assert upsample(values, (1, 3)).tolist() == [[4, 5, 6]]  # its centre is on the border


def test_bilinear_by_hand():
    values = np.array([[0, 1]], np.float32)
    found = upsample(values, (1, 8), method="bilinear")
    # centres of the patches lie between pixels 1 and 2, and 5 and 6
    assert found.tolist() == [[0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]]


@pytest.mark.parametrize(
    ("grid", "size"), [((2, 3), (48, 64)), ((4, 7), (37, 91)), ((1, 1), (3, 5))]
)
def test_both_methods_agree_with_torch(grid: tuple[int, int], size: tuple[int, int]):
    values = random_map(*grid)
    tensor = torch.from_numpy(values.astype(np.float64))[None, None]
    bilinear = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    nearest = torch.nn.functional.interpolate(tensor, size, mode="nearest-exact")
    np.testing.assert_allclose(
        upsample(values, size, method="bilinear"), bilinear[0, 0], atol=1e-12
    )
    assert (upsample(values, size) == nearest[0, 0].numpy()).all()


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_upsampling_commutes_with_flips_and_keeps_constants(method: Any):
    values = random_map(3, 5)
    found = upsample(values, (31, 44), method=method)
    mirrored = upsample(values[::-1, ::-1], (31, 44), method=method)[::-1, ::-1]
    if method == "bilinear":  # a pixel whose centre is on a border belongs to the later patch
        np.testing.assert_allclose(mirrored, found, atol=1e-12)
    swapped = upsample(values.T, (44, 31), method=method)
    np.testing.assert_allclose(swapped.T, found, atol=1e-12)
    assert (upsample(np.full((3, 5), 7, np.float32), (9, 9), method=method) == 7).all()
    assert found.min() >= values.min() and found.max() <= values.max()


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_what_the_grid_does_not_cover_is_nan(method: Any):
    values = random_map(2, 2)
    found = upsample(values, (70, 96), method=method, covered=(64 / 70, 80 / 96))
    assert np.isnan(found[64:]).all() and np.isnan(found[:, 80:]).all()
    inside = upsample(values, (64, 80), method=method)
    np.testing.assert_allclose(found[:64, :80], inside, atol=1e-12)


# --- colours ---------------------------------------------------------------------------------


def test_an_overlay_by_hand():
    """Grey colours: level 0 is black, level 1 is white."""
    pixels = np.full((2, 4, 3), (100, 0, 255), np.uint8)
    values = np.array([[0, 10, np.nan, 99]], np.float32)
    heatmap = Heatmap("m", values, WHOLE, low=0.0, high=10.0)
    found = draw_heatmap(pixels, heatmap, HeatmapStyle(colours="gray", alpha=0.25))
    black, white = [75, 0, 191], [139, 64, 255]  # 0.75 frame + 0.25 colour
    assert found.tolist() == [[black, white, [100, 0, 255], white]] * 2
    assert found.dtype == np.uint8 and (pixels[0, 0] == (100, 0, 255)).all()


def test_colours_are_those_of_the_colour_map():
    table = np.asarray(colormaps["inferno"].colors)  # (256, 3)
    values = ((np.arange(256) + 0.5) / 256).astype(np.float32)[None]
    heatmap = Heatmap("m", values, WHOLE, 0.0, 1.0)
    found = draw_heatmap(np.zeros((1, 256, 3), np.uint8), heatmap, HeatmapStyle(alpha=1.0))
    assert (found[0] == np.rint(table * 255)).all()
    assert (colour_bar(HeatmapStyle(), (2, 256)) == np.rint(table * 255)).all()


def test_a_flat_scale_has_the_first_colour_and_a_bare_map_leaves_the_frame():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    style = HeatmapStyle(colours="gray", alpha=1.0)
    flat = Heatmap("m", np.ones((2, 2), np.float32), WHOLE, 1.0, 1.0)
    assert (draw_heatmap(pixels, flat, style) == 0).all()
    bare = Heatmap("m", np.full((2, 2), np.nan, np.float32), WHOLE, 0.0, 1.0)
    assert (draw_heatmap(pixels, bare, style) == pixels).all()
    half = Heatmap("m", np.ones((2, 2), np.float32), (0.5, 1.0), 0.0, 1.0)
    drawn = draw_heatmap(pixels, half, style)
    assert (drawn[:3] == 255).all() and (drawn[3:] == pixels[3:]).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"colours": "nothing"}, "no colour map 'nothing'"),
        ({"upsample": "cubic"}, "upsample"),
        ({"alpha": 0}, "alpha"),
        ({"low_quantile": 0.9, "high_quantile": 0.1}, "not below"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_wrong_styles_are_refused(settings: dict[str, Any], match: str):
    with pytest.raises(ValidationError, match=match):
        HeatmapStyle.model_validate(settings)


# --- scales ----------------------------------------------------------------------------------


def store(out: Path, video_id: str, **maps: np.ndarray) -> None:
    n = len(next(iter(maps.values())))
    start = np.arange(n) * 16
    scores = Scores(start, start + 16, {"score": np.zeros(n)}, maps)
    write_maps(out / "maps" / f"{video_id}.h5", scores, "", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path, "a", m=values_of("a"), other=np.ones((50, 1, 1), "f4"))
    store(tmp_path, "b", m=values_of("b"))
    return tmp_path


def values_of(video_id: str) -> np.ndarray:
    """Values of few digits: they are stored as they are."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (n, 2, 3)).astype(np.float32) / 256 for n in (50, 30))
    return {"a": a, "b": 5 + b}[video_id]


def ends(maps: Heatmaps, video_id: str, frame: int = 40) -> dict[str, tuple[float, float]]:
    return {h.name: (h.low, h.high) for h in maps.of(video_id, [frame])[frame]}


def test_a_run_has_one_scale(folder: Path):
    maps = Heatmaps(folder, ["a", "b", "without"], HeatmapStyle())
    pooled = np.concatenate([values_of("a").ravel(), values_of("b").ravel()]).astype(float)
    expected = tuple(np.quantile(pooled, [0.01, 0.999]))
    assert ends(maps, "a") == {"m": expected, "other": (1.0, 1.0)}
    assert ends(maps, "b") == {"m": expected}
    assert maps.of("without", [3]) == {3: []}
    assert maps.style.about_scale() == "quantiles 0.01 and 0.999 of all videos"


def test_a_video_or_a_picture_may_have_its_own(folder: Path):
    style = HeatmapStyle(scale="video", low_quantile=0.0, high_quantile=0.5)
    own = values_of("b").astype(float)
    assert ends(Heatmaps(folder, ["a", "b"], style), "b") == {"m": (own.min(), np.median(own))}
    row = values_of("b")[2]  # frames 32 to 47
    found = Heatmaps(folder, ["a", "b"], HeatmapStyle(scale="frame")).of("b", [40])[40]
    assert (found[0].low, found[0].high) == (row.min(), row.max())
    assert (found[0].values == row).all()


def test_a_long_run_is_sampled_evenly_over_the_borders_of_videos(tmp_path: Path, monkeypatch):
    """Rows are numbered 0 to 99 over three videos; every seventh one counts."""
    rows = np.arange(100, dtype=np.float32).repeat(6).reshape(-1, 2, 3)
    for video_id, part in zip("abc", np.split(rows, [3, 60]), strict=True):
        store(tmp_path, video_id, m=part)
    monkeypatch.setattr(heatmaps, "SAMPLE_VALUES", 6 * 15)
    style = HeatmapStyle(low_quantile=0.0, high_quantile=1.0)
    assert ends(Heatmaps(tmp_path, "abc", style), "b") == {"m": (0, 98)}
    style = HeatmapStyle(low_quantile=0.0, high_quantile=0.5)
    assert ends(Heatmaps(tmp_path, "abc", style), "b") == {"m": (0, 49)}


def test_values_that_are_not_finite_are_in_no_scale(tmp_path: Path):
    values = np.array([1, 2, np.nan, np.inf, 3, 4], np.float32).reshape(1, 2, 3)
    store(tmp_path, "v", m=values, none=np.full((1, 2, 2), np.nan, np.float32))
    for scale in ("run", "video", "frame"):
        style = HeatmapStyle(scale=scale, low_quantile=0.0, high_quantile=1.0)
        assert ends(Heatmaps(tmp_path, ["v"], style), "v") == {"m": (1, 4)}


def test_a_damaged_video_is_named_and_stops_no_other(folder: Path):
    (folder / "maps" / "a.h5").write_bytes(b"nothing")
    maps = Heatmaps(folder, ["a", "b"], HeatmapStyle(low_quantile=0.0, high_quantile=1.0))
    own = values_of("b")
    assert ends(maps, "b") == {"m": (own.min(), own.max())}
    assert list(maps.damaged) == ["a"] and "a.h5 is damaged" in maps.damaged["a"]
    with pytest.raises(StoreError, match="damaged"):
        maps.of("a", [0])


# --- files -----------------------------------------------------------------------------------


def test_a_file_is_the_overlay_with_its_scale_below(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 500, 3)).astype(np.uint8)
    heatmap = Heatmap("attention/2x3", random_map(2, 3), WHOLE, -1.0, 1.0)
    style = HeatmapStyle()
    path = picture_path(tmp_path / "heatmaps", "01", 120, heatmap.name)
    assert path == tmp_path / "heatmaps" / "01" / "000000120_attention-2x3.png"
    write_picture(path, pixels, heatmap, style)
    with Image.open(path) as image:
        assert image.format == "PNG"
        found = np.asarray(image)
    assert found.shape == (60 + BAR, 500, 3)
    assert (found[:60] == draw_heatmap(pixels, heatmap, style)).all()
    assert (found[60 : 60 + BAR_COLOURS] == colour_bar(style, (BAR_COLOURS, 500))).all()
    words = found[60 + BAR_COLOURS :]
    assert (words == 255).any() and (words < 100).any()  # dark on white
    write_picture(path, pixels, heatmap, HeatmapStyle(scale="frame"))
    with Image.open(path) as image:
        assert (np.asarray(image)[60 + BAR_COLOURS :] != words).any()  # another scale, other words


def test_big_pictures_are_reduced_and_small_ones_have_room_for_words(tmp_path: Path):
    heatmap = Heatmap("m", random_map(2, 3), WHOLE, -1.0, 1.0)
    sizes = {}
    for height, width in ((1080, 1920), (48, 64)):
        write_picture(
            tmp_path / "x.png", np.zeros((height, width, 3), np.uint8), heatmap, HeatmapStyle()
        )
        with Image.open(tmp_path / "x.png") as image:
            sizes[width] = image.size
    assert sizes == {1920: (960, 540 + BAR), 64: (heatmaps.TEXT_WIDTH, 48 + BAR)}
    assert shrink(np.zeros((48, 64, 3), np.uint8), 960).shape == (48, 64, 3)


@pytest.mark.parametrize("video_id", ["../x", "a/b", "..", "/x"])
def test_ids_that_lead_elsewhere_are_refused(tmp_path: Path, video_id: str):
    with pytest.raises(ScoreFolderError, match="not a folder name"):
        picture_path(tmp_path, video_id, 1, "m")


def test_names_of_maps_stay_in_their_folder(tmp_path: Path):
    path = picture_path(tmp_path, "v", 1, "../../x\0<y>")
    assert path.parent == tmp_path / "v" and path.name == "000000001_..-..-x--y-.png"


def test_only_pictures_of_an_earlier_page_are_removed(tmp_path: Path):
    names = ["v/000000001_m.png", "v/000000002_m.png", "v/mine.png", "v/000000003_m.jpg", "1.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    remove_pictures(tmp_path, [tmp_path / "v" / "000000002_m.png"])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == sorted(names[1:])
    remove_pictures(tmp_path / "nowhere", [])


# --- from footage to pictures ----------------------------------------------------------------


def test_patch_distances_of_knn_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tiny_scene(tmp_path / "scene")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    grids = "patch_sizes=[[32,32],[32,40]]"  # 2 x 3, and 2 x 2 that leaves 16 columns over
    short = ("clip_length=8", "stride=16")
    settings = [s for v in ("frame_size=[64,96]", grids, *short) for s in ("--set", v)]
    run("extract", "m.parquet", "-e", "patch_cubes", "--weights", "random:0", *settings)
    model = Path(run("train", "knn", "m.parquet", "--set", "role=patch"))
    card = json.loads((model / "config.json").read_text())
    levels = card["calibration"]["values"]
    card["calibration"]["values"] = [0.0 for _ in levels]  # everything is an event
    (model / "config.json").write_text(json.dumps(card))
    run("score", str(model), "m.parquet", "-o", "out")

    part = pq.read_table("out/scores/test_01.parquet")
    for name, grid in (("patch/2x2", (2, 2)), ("patch/2x3", (2, 3))):
        values = ScoreFolder(Path("out")).read_map("test_01", name)
        assert values.shape == (part.num_rows, *grid)
        worst = values.reshape(len(values), -1).max(axis=1)  # what knn pools to a score
        np.testing.assert_allclose(worst, np.asarray(part[name]), rtol=1 / 2048)
    inline = Path("out/report.html").read_text()
    assert inline.count('alt="heat-map patch/2x2') == 2 == inline.count('alt="heat-map patch/2x3')

    page = run("report", "out", "m.parquet", "-o", "page", "--heatmaps", "--set", "alpha=1.0")
    assert page == "page/report.html"
    peaks = {
        e["video_id"]: e["peak_frame"] for e in pq.read_table("out/events.parquet").to_pylist()
    }
    names = [f"{f:09d}_patch-{g}.png" for f in peaks.values() for g in ("2x2", "2x3")]
    assert sorted(p.name for p in Path("page/heatmaps").rglob("*.png")) == sorted(names)
    row = probe_video(tmp_path / "scene" / "test" / "test_01.mp4")
    with read_frames(row, peaks["test_01"], peaks["test_01"] + 1) as frames:
        pixels = next(iter(frames)).image
    style = HeatmapStyle(alpha=1.0)
    maps = Heatmaps(Path("out"), list(peaks), style).of("test_01", [peaks["test_01"]])
    for heatmap in maps[peaks["test_01"]]:
        with Image.open(
            picture_path(Path("page/heatmaps"), "test_01", peaks["test_01"], heatmap.name)
        ) as image:
            found = np.asarray(image)[:64, :96]
        wide = 80 if heatmap.name == "patch/2x2" else 96
        spread = np.kron(heatmap.values, np.ones((32, wide // heatmap.values.shape[1])))
        level = np.clip((spread - heatmap.low) / (heatmap.high - heatmap.low), 0, 1)
        colour = np.rint(colormaps["inferno"](level)[..., :3] * 255)
        assert (found[:, :wide] == colour).all()
        assert (found[:, wide:] == pixels[:, wide:]).all()  # the grid does not reach there

    run("score", str(model), "m.parquet", "-o", "bare", "--no-maps")
    assert not Path("bare/maps").exists()
    assert "heat-map" not in Path("bare/report.html").read_text()


def test_wrong_settings_of_the_command_are_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match="nothing"):
        CliRunner().invoke(
            cli, ["report", str(tmp_path), "--set", "nothing=1"], catch_exceptions=False
        )
