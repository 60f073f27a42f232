"""Contact sheets: which rows, where they lie, how each kind of pixels is drawn, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.chain import drawing, drawn, run_chain, video
from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.extractors.flow_colours import flow_colours
from vadpipe.pipeline import show
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.sheets.layout import GAP, LABEL
from vadpipe.pipeline.show import Sheet, contact_sheet, drawable
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore

N = 11
OBJECTS = {"detector": "motion", "crop_context": 1, "crop_size": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "frames": {"size": [4, 6]},
    "perturb": {"size": [16, 24], "inpainter": "patch_mix", "keep_mask": True},
    "flow": {"size": [16, 24]},
    "objects": OBJECTS,
    "null": {},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FeatureStore]:
    specs = [resolve_extractor(name, settings) for name, settings in SETTINGS.items()]
    made = run_chain(tmp_path_factory.mktemp("cache"), video(N), specs, 6, drawing(N))
    return dict(zip(SETTINGS, made, strict=True))


def sheet_of(store: FeatureStore, **options: Any) -> Sheet:
    return contact_sheet(store, video(N), **{"width": 24} | options)


def tile(sheet: Sheet, number: int, columns: int, width: int, height: int) -> np.ndarray:
    x, y = number % columns * (width + GAP) + GAP, number // columns * (height + LABEL + GAP) + GAP
    return sheet.picture[y : y + height, x : x + width]


def test_rows_are_evenly_spaced_and_lie_in_reading_order(stores: dict[str, FeatureStore]) -> None:
    sheet = sheet_of(stores["frames"], tiles=6, width=6, columns=4)
    assert sheet.frames == (0, 2, 4, 6, 8, 10) and sheet.rows == N and sheet.full is None
    for i, frame in enumerate(sheet.frames):
        assert np.array_equal(tile(sheet, i, 4, 6, 4), drawn(frame).image)
    assert sheet.picture.shape == (2 * (4 + LABEL + GAP) + GAP, 4 * (6 + GAP) + GAP, 3)
    assert sheet_of(stores["frames"], tiles=100).frames == tuple(range(N)), "each row once"
    assert sheet_of(stores["frames"], tiles=1).frames == (0,)


def test_every_kind_of_pixels_is_drawn_in_its_way(stores: dict[str, FeatureStore]) -> None:
    read = {name: store.read(video(N).content_id).arrays for name, store in stores.items()}
    sheet = sheet_of(stores["perturb"])
    assert sheet.array == "perturbed"
    assert np.array_equal(tile(sheet, 2, 6, 24, 16), read["perturb"]["perturbed"][2:3][0])
    mask = tile(sheet_of(stores["perturb"], array="mask"), 2, 6, 24, 16)
    assert np.array_equal(mask[..., 1] > 0, read["perturb"]["mask"][2:3][0] > 0)
    assert set(np.unique(mask).tolist()) == {0, 255}
    flow = sheet_of(stores["flow"])
    assert flow.full is not None and flow.full > 0
    lengths = np.hypot(*np.moveaxis(np.asarray(read["flow"]["flow"][:], np.float64), -1, 0))
    assert flow.full == pytest.approx(np.quantile(lengths, 0.99))
    expected = flow_colours(np.asarray(read["flow"]["flow"][3:4])[0], flow.full)
    assert np.abs(tile(flow, 3, 6, 24, 16).astype(int) - expected).max() <= 1
    assert "strongest colour" in flow.lines(Path("x.png"))[1]


def test_what_cannot_be_drawn_is_refused(stores: dict[str, FeatureStore]) -> None:
    assert list(drawable(stores["objects"]).items()) == [("crops", "crop"), ("boxes", "boxes")]
    with pytest.raises(StoreError, match=r"null.* keeps no pixels"):
        sheet_of(stores["null"])
    with pytest.raises(StoreError, match="cannot draw 'maks'; it has: perturbed, mask; did you"):
        sheet_of(stores["perturb"], array="maks")
    with pytest.raises(StoreError, match="nothing was found"):
        sheet_of(stores["objects"])  # noise of 4 x 6 pixels has no objects
    with pytest.raises(StoreError, match="no whole features"):
        contact_sheet(stores["frames"], video(N, "s1-" + "00" * 20))


def test_boxes_are_drawn_on_their_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "video,frame,x0,y0,x1,y1,score,classes\ndrawn,1,1,1,4,4,0.5,car:0.9\n"
    (tmp_path / "boxes.csv").write_text(text)
    given, sides = str(tmp_path / "boxes.csv"), {"min_width": 1, "min_height": 1}
    settings = {"detector": "boxes", "stride": 1, **sides}
    spec = resolve_extractor("objects", settings, weights=given, cache=tmp_path)
    (store,) = run_chain(tmp_path, video(3), [spec], 6, drawing(3))
    asked: list[int] = []

    def frames_of(_: Any, wanted: Any) -> dict[int, np.ndarray]:
        asked.extend(wanted)
        return {n: drawn(n).image for n in wanted if n < 2}

    seen: list[Any] = []
    monkeypatch.setattr(show, "frames_of", frames_of)
    monkeypatch.setattr(show, "boxed", lambda f, boxes, w: seen.append(boxes) or f)
    sheet = sheet_of(store, frames=(1, 0))
    assert sheet.array == "boxes" and sheet.frames == (0, 1) and sheet.rows == 3
    assert [len(boxes.corners) for boxes in seen] == [0, 1]
    assert seen[1].corners.tolist() == [[1, 1, 4, 4]] and seen[1].labels == ["car 0.50"]
    with pytest.raises(StoreError, match="no row of frame 7; there are rows of 0, 1, 2"):
        sheet_of(store, frames=(7,))
    with pytest.raises(StoreError, match="has no frame 2: it has changed"):
        sheet_of(store, frames=(2,))


def test_the_command_writes_a_sheet_and_answers_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    for i in range(3):
        Image.fromarray(drawn(i).image).save(f"clip/{i}.png")
    run, cache = CliRunner(), ["--cache", "cache"]

    def call(*words: str) -> Any:
        return run.invoke(cli, [*words, *cache])

    assert run.invoke(cli, ["manifest", "footage", "clip", "-o", "m.csv"]).exit_code == 0
    sizes = ["--set", "size=[4, 6]", "--max-bytes", "100000"]
    assert call("extract", "m.csv", "-e", "frames", *sizes).exit_code == 0
    done = call("show", "frames", "clip", "-o", "a.png", "--width", "16")
    assert done.output == "a.png: 3 of 3 rows of frames\n", done.exception
    by_id = ["show", "fra", "clip", "--manifest", "m.csv", "-o", "b.png", "--width", "16"]
    assert call(*by_id).exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert call("show", "frames", "clip", "-o", "a.jpg", "--frame", "2").exit_code == 0
    assert Image.open("a.jpg").format == "JPEG"
    assert Image.open("a.png").size == (3 * (16 + GAP) + GAP, 11 + LABEL + 2 * GAP)
    folder = call("show", "frames", "clip", "-o", "clip")
    assert folder.exit_code == 2 and "'clip' is a directory" in folder.output
    for words, message in (
        (["frames", "clap"], "needs --manifest FILE"),
        (["frames", "clap", "--manifest", "m.csv"], "no video 'clap'; there are: clip"),
        (["flow", "clip"], "needs one feature set 'flow'"),
        (["frames", "clip", "-o", "a.gif"], "a sheet is written as .png, .jpg"),
    ):
        answer = call("show", *words).exception
        assert isinstance(answer, VadpipeError) and message in str(answer)
