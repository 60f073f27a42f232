"""YOLOX: cells become boxes by hand, a fake network is called as ours wants it, real weights."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection import yolox
from vadpipe.extractors.detection.yolox import Yolox
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.footage.decode import read_frames
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.networks.yolox import CARDS, VALUES, cell_count, decode
from vadpipe.extractors.weights.cards import BYTES, ResolvedWeights, WeightsError
from vadpipe.extractors.weights.kept import resolve

ONNX = b"\x08\x06\x12\x04test\x3a\x00"


class Session:
    """One person at a known place of a 64-pixel input; keeps what it was given."""

    def __init__(self, side: int = 64, values: int = VALUES) -> None:
        self.shape: list[Any] = [1, 3, side, side]
        self.cells = np.zeros((1, cell_count(side), values), np.float32)
        if values == VALUES:
            cell = 8 * 8 + 1 * 4 + 2  # stride 16, row 1, column 2
            self.cells[0, cell] = 0
            self.cells[0, cell, :6] = (0.5, 0.25, np.log(2), np.log(1), 0.8, 0.5)
        self.seen: Any = None

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "images", "shape": self.shape})]

    def get_outputs(self) -> list[Any]:
        return [type("Output", (), {"shape": list(self.cells.shape)})]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.seen = given["images"]
        return [self.cells]


def loaded(session: Session, path: Path, monkeypatch: pytest.MonkeyPatch) -> Yolox:
    path.write_bytes(ONNX)
    monkeypatch.setattr(yolox, "open_session", lambda content, runtime: session)
    detector = Yolox(resolve(CARDS, str(path), cache=path.parent / "cache"), 0.3, None)
    detector.load(Runtime())
    return detector


def test_cells_become_boxes() -> None:
    found = decode(Session().cells[0], 64)
    assert np.allclose(found[8 * 8 + 6, :6], [24, 12, 56, 28, 0.8, 0.5], atol=1e-5)
    assert np.allclose(found[9, :4], [4, 4, 12, 12])  # stride 8, row 1, column 1: size 8


def test_a_picture_is_bgr_in_the_corner_and_boxes_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    detector = loaded(session, tmp_path / "own.onnx", monkeypatch)
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[..., 0] = 9
    (found,) = detector.pictures([picture])
    assert detector.side == 64 and session.seen.shape == (1, 3, 64, 64)
    assert (session.seen[0, 2, :32] == 9).all() and not session.seen[0, 0, :32].any()
    assert (session.seen[0, :, 32:] == 114).all()
    assert np.allclose(found.boxes, [[12, 6, 28, 14]], atol=1e-5)  # half of the input's pixels
    assert np.allclose(found.scores, 0.4) and np.allclose(found.objectness, 0.8)
    assert np.allclose(found.classes[0, :2], [0.5, 0])


class Together(Session):
    """Finds as many objects as the shade of the picture; two pictures have to be there at once."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.met = threading.Barrier(together, timeout=60)

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.met.wait()
        cells = np.zeros_like(self.cells)
        cells[0, : int(given["images"][0, 0, 0, 0]), 4:6] = 1
        return [cells]


@pytest.mark.parametrize("threads", [1, 2, 6])
def test_pictures_of_several_frames_go_through_at_once_and_come_back_in_order(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = min(threads, yolox.MOST_TOGETHER)
    session, asked = Together(at_once), list[Runtime]()

    def opened(content: bytes, runtime: Runtime) -> Session:
        asked.append(runtime)
        return session

    (tmp_path / "own.onnx").write_bytes(ONNX)
    monkeypatch.setattr(yolox, "open_session", opened)
    weights = resolve(CARDS, str(tmp_path / "own.onnx"), cache=tmp_path / "cache")
    detector = Yolox(weights, 0.3, None)
    detector.load(Runtime(threads=threads))
    assert [each.threads for each in asked] == [threads - at_once + 1], "runs share the others"
    shades = [3, 0, 7, 1] * 2
    clips = [
        Clip(np.full((1, 64, 64, 3), shade, np.uint8), np.arange(1), np.zeros(1), i, i + 1)
        for i, shade in enumerate(shades)
    ]
    assert [len(found) for found in detector.detect_each(clips, 0)] == shades


def test_on_a_gpu_pictures_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Runtime] = []
    monkeypatch.setattr(
        yolox, "open_session", lambda _, runtime: asked.append(runtime) or Session()
    )
    (tmp_path / "own.onnx").write_bytes(ONNX)
    detector = Yolox(resolve(CARDS, str(tmp_path / "own.onnx"), cache=tmp_path / "c"), 0.3, None)
    detector.load(Runtime("cuda:0", threads=8))
    assert detector._pool is None and asked[0].threads == 8


def test_scores_that_are_no_numbers_are_no_empty_street(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    session.cells[0, 3, 4] = np.nan
    detector = loaded(session, tmp_path / "own.onnx", monkeypatch)
    with pytest.raises(ExtractorError, match="scores that are no numbers"):
        detector.pictures([np.zeros((16, 32, 3), np.uint8)])


def test_networks_of_another_shape_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"returns \[84, 25\].*80 classes"):
        loaded(Session(values=25), tmp_path / "own.onnx", monkeypatch)
    session = Session()
    session.shape = [1, 3, "height", "width"]
    with pytest.raises(WeightsError, match="give a YOLOX export"):
        loaded(session, tmp_path / "own.onnx", monkeypatch)


def test_files_are_refused_unless_their_hash_is_on_the_card_or_the_user_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CARDS[0].file).write_bytes(ONNX)
    monkeypatch.setenv("VADPIPE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"its sha256 is \w+, the card says e8af"):
        resolve(CARDS, None, cache=tmp_path / "cache")
    own = resolve(CARDS, str(tmp_path / CARDS[0].file), cache=tmp_path / "cache")
    assert own.path is not None and own.path.name.startswith("own.") and own.identity


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MZ", "no ONNX file"),
        (ONNX + b"\x0a\x08location\x12\x05w.bin", "export it as one file"),
        (ONNX + b"\x0a\x88\x80\x00location\x12\x05w.bin", "export it as one file"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        resolve(CARDS, str(tmp_path / "x.onnx"), cache=tmp_path / "cache")


def test_what_onnx_runtime_refuses_is_no_traceback() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(WeightsError, match="ONNX Runtime cannot run this file"):
        yolox.open_session(ONNX, Runtime(threads=1))
    with pytest.raises(WeightsError, match=r"no random weights.*yolox_nano\.coco"):
        Yolox(ResolvedWeights(CARDS[0], "random:0", None), 0.3, None).load(Runtime())
    assert BYTES == "bytes"


@pytest.mark.data
@pytest.mark.weights
@pytest.mark.slow
def test_persons_of_a_real_video(shared: Path, tmp_path: Path) -> None:
    weights = resolve(CARDS, str(shared / "weights" / "yolox_nano.onnx"), cache=tmp_path)
    assert weights.identity == CARDS[0].sha256
    detector = Yolox(weights, 0.3, None)
    detector.load(Runtime(threads=1))
    frames = read_frames(probe_video(shared / "data" / "footage" / "vtest.avi"), 400)
    (found,) = detector.pictures([next(iter(frames)).image])
    assert (found.classes.argmax(1) == 0).sum() >= 5


class Starts:
    """An ONNX Runtime that was built for these providers; keeps what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: list[str]) -> None:
        import onnxruntime as ort

        self.asked: list[Any] = []
        monkeypatch.setattr(ort, "get_available_providers", lambda: available)
        monkeypatch.setattr(ort, "InferenceSession", self)

    def __call__(self, content: bytes, options: Any, providers: list[Any]) -> Session:
        self.asked.append(providers)
        return Session()


def test_a_gpu_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts(monkeypatch, [yolox.CUDA, "CPUExecutionProvider"])
    for device in ("cpu", "cuda", "cuda:1"):
        yolox.open_session(b"", Runtime(device))
    gpus = [[of for of in asked if of != "CPUExecutionProvider"] for asked in starts.asked]
    assert gpus == [[], [(yolox.CUDA, {"device_id": 0})], [(yolox.CUDA, {"device_id": 1})]]


@pytest.mark.parametrize(
    ("available", "before", "after"),
    [
        ([], "cpu", "cpu"),
        ([yolox.CUDA], "cuda:1", "cpu"),  # built for GPUs, but its libraries are not there
    ],
)
def test_the_device_that_was_used_is_known_and_said(
    available: list[str],
    before: str,
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Starts(monkeypatch, [*available, "CPUExecutionProvider"])
    (tmp_path / "own.onnx").write_bytes(ONNX)
    weights = resolve(CARDS, str(tmp_path / "own.onnx"), cache=tmp_path / "cache")
    detector = Yolox(weights, 0.3, None)
    assert detector.computed_on("cuda:1") == {before} and detector.computed_on("cpu") == {"cpu"}
    detector.load(Runtime("cuda:1"))
    assert detector.computed_on("cuda:1") == {after}
    assert "computes on the CPU, not on cuda:1" in caplog.text
    caplog.clear()
    detector.load(Runtime())
    assert not caplog.text
