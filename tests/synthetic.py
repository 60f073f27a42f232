"""Tiny seeded data sets, each in its data set's real on-disk layout, with known anomalies."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vadpipe.data_manifests import pets2009, ucsd_ped2
from vadpipe.data_manifests.counts import OFFICIAL
from vadpipe.data_manifests.synthetic import write_scene
from vadpipe.data_manifests.synthetic_scene import (
    Actor,
    Camera,
    Look,
    draw_background,
    pedestrians,
    render,
)

SIZE = (64, 96)
FRAMES = 40


def write_tiny_scene(root: Path, *, seed: int = 0, n_train: int = 2, n_test: int = 2) -> Path:
    """The synthetic data set at 64 x 96, 40 frames a clip (about 0.1 s to draw)."""
    return write_scene(
        root, seed=seed, size=SIZE, n_train=n_train, n_test=n_test, frames=FRAMES, fps=25
    )


def write_footage(root: Path, *, seed: int = 0) -> Path:
    """Archive footage without labels: two videos in folders, one folder of pictures, and a note.

    Its ids: "gate__morning.mp4", "gate__night.mp4", "yard" (40 frames each).
    """
    scene = write_tiny_scene(root / ".scene", seed=seed)
    (root / "gate").mkdir()
    (root / "yard").mkdir()
    shutil.move(scene / "train/train_01.mp4", root / "gate/morning.mp4")
    shutil.move(scene / "test/test_01.mp4", root / "gate/night.mp4")
    with av.open(str(scene / "train/train_02.mp4")) as container:
        for i, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(root / f"yard/{i:03d}.jpg", quality=90)
    (root / "note.txt").write_text("recorded on the square\n", encoding="utf-8")
    shutil.rmtree(scene)
    return root


def write_ucsd_ped2(
    root: Path,
    *,
    layout: Literal["official", "repackaged"] = "official",
    train: Iterable[int] = range(1, 17),
    test: Iterable[int] = range(1, 13),
    masks: bool = True,
    seed: int = 0,
) -> Path:
    """UCSD Ped2 with the official numbers of frames, at 48 x 72.

    The last frames of each test clip are abnormal (a cart crosses), as many as officially are.
    """
    pattern = ucsd_ped2.OFFICIAL if layout == "official" else ucsd_ped2.REPACKAGED
    picture, mask = ("TIFF", "BMP") if layout == "official" else ("JPEG", "PNG")
    suffix = {"TIFF": "tif", "JPEG": "jpg", "BMP": "bmp", "PNG": "png"}
    first = 1 if layout == "official" else 0
    clips = [_ped2_clip(seed, cart=False), _ped2_clip(seed, cart=True)]  # by label
    pictures = [_encoded(grey, picture) for grey, _ in clips]
    flags = [_encoded(tracks, mask) for _, tracks in clips]

    def write(
        folder: str, i: int, encoded: list[list[bytes]], kind: str, labels: list[int]
    ) -> None:
        target = root / folder.format(i)
        target.mkdir(parents=True)
        for f, label in enumerate(labels):
            # Every clip starts elsewhere in the drawn one: no two are the same video.
            data = encoded[label][(f + 7 * i) % len(encoded[label])]
            (target / f"{f + first:03d}.{suffix[kind]}").write_bytes(data)

    for i in train:
        write(pattern.train, i, pictures, picture, [0] * ucsd_ped2.TRAIN_FRAMES[i - 1])
    for i in test:
        n_frames, n_abnormal = ucsd_ped2.TEST_FRAMES[i - 1], ucsd_ped2.TEST_ABNORMAL[i - 1]
        labels = [0] * (n_frames - n_abnormal) + [1] * n_abnormal
        write(pattern.test, i, pictures, picture, labels)
        if masks:
            write(pattern.masks, i, flags, mask, labels)
    (root / pattern.train).parent.mkdir(parents=True, exist_ok=True)
    (root / pattern.test).parent.mkdir(parents=True, exist_ok=True)
    lines = ["TestVideoFile = {};"]
    for n_frames, n_abnormal in zip(ucsd_ped2.TEST_FRAMES, ucsd_ped2.TEST_ABNORMAL, strict=True):
        interval = f"[{n_frames - n_abnormal + 1}:{n_frames}]"
        lines.append(f"TestVideoFile{{end+1}}.gt_frame = {interval};")
    (root / pattern.labels).write_text("\n".join(lines) + "\n", encoding="ascii")
    return root


def write_pets2009(root: Path, *, width: int = 4, seed: int = 0) -> Path:
    """The eight archives of PETS 2009 with its numbers of videos; the last four are abnormal.

    Video k of a split has 2 + k snippets; abnormal ones are so from frame 10 to 29.
    """
    rng = np.random.default_rng(seed)
    for split, count in pets2009.VIDEOS.items():
        for view in range(1, pets2009.VIEWS + 1):
            arrays: dict[str, NDArray[np.generic]] = {}
            for k in range(count):
                labels = np.zeros((2 + k, 16), np.uint8)
                labels.reshape(-1)[10:30] = k >= count - 4
                arrays[f"{k:03d}_x"] = rng.random((2 + k, width), np.float32)
                arrays[f"{k:03d}_yf"] = labels
                arrays[f"{k:03d}_name"] = np.array(f"S{k}-{split}--Time-13-{k:02d}")
            np.savez(root / f"pets2009-{split}-view-{view:03d}.npz", **arrays)
    return root


def write_ucf_crime(root: Path) -> Path:
    """The label files of UCF-Crime with the official totals, and `frames.txt` like UR-DMU's list.

    Ids: training `Abuse001_x264` ..., `Normal_Videos001_x264` ...; test `Abuse901_x264` ...,
    `Normal_Videos_001_x264` ... A test video has 1,000 frames and one event of 100, but the last
    abnormal one, which has all the rest.
    """
    train, test = (OFFICIAL["ucf_crime"][split] for split in ("train", "test"))
    assert test.frames is not None and test.abnormal_frames is not None
    lines = [f"{c}/{c}{i:03d}_x264.mp4" for c, n in train.categories.items() for i in _upto(n)]
    normal = "Training_Normal_Videos_Anomaly/Normal_Videos{:03d}_x264.mp4"
    lines += [normal.format(i) for i in _upto(train.normal)]
    _write_lines(root / "Anomaly_Train.txt", lines)
    names = [(f"{c}9{i:02d}_x264.mp4", c) for c, n in test.categories.items() for i in _upto(n)]
    names += [(f"Normal_Videos_{i:03d}_x264.mp4", "Normal") for i in _upto(test.normal)]
    annotations, frames = [], []
    for i, (name, category) in enumerate(names, start=1):
        n_frames, n_abnormal = 1_000, 100
        if i == test.abnormal:
            n_frames = test.frames - 1_000 * (len(names) - 1)
            n_abnormal = test.abnormal_frames - 100 * (test.abnormal - 1)
        event = "-1  -1" if category == "Normal" else f"50  {49 + n_abnormal}"
        folder = "Testing_Normal_Videos_Anomaly" if category == "Normal" else category
        annotations.append(f"{name}  {category}  {event}  -1  -1  ")
        frames.append(f"{folder}/{name} {n_frames} {category} {event.replace('  ', ' ')} -1 -1 ")
    _write_lines(root / "Temporal_Anomaly_Annotation.txt", annotations)
    _write_lines(root / "frames.txt", frames[::-1])
    return root


def write_shanghaitech(root: Path) -> Path:
    """The label files of ShanghaiTech with the official totals.

    Ids: `02_001` ... (330) and `02_0001` ... (107, of which the first 44 are test videos of the
    weak split). Masks have 380 frames, the last one has the rest; abnormal frames start at 20.
    """
    normal = [f"{i % 13 + 1:02d}_{i:03d}" for i in _upto(330)]
    abnormal = [f"{i % 13 + 1:02d}_{i:04d}" for i in _upto(107)]
    (root / "test_frame_mask").mkdir(parents=True)
    # 43 * 180 + 222 = 7,962 and 62 * 148 + 188 = 17,326 - 7,962; 106 * 380 + 511 = 40,791
    n_abnormal = [180] * 43 + [222] + [148] * 62 + [188]
    for video_id, n, n_frames in zip(abnormal, n_abnormal, [380] * 106 + [511], strict=True):
        labels = np.zeros(n_frames, np.uint8)
        labels[20 : 20 + n] = 1
        np.save(root / f"test_frame_mask/{video_id}.npy", labels)
    # As in the copies that are around: no last newline, and in one of them CRLF and labels.
    test = "\n".join(sorted(abnormal[:44] + normal[:155]))
    train = "\r\n".join(f"{v},{int(len(v) == 7)}" for v in sorted(abnormal[44:] + normal[155:]))
    (root / "SH_Test.txt").write_text(test, encoding="ascii", newline="")
    (root / "SH_Train.txt").write_text(train, encoding="ascii", newline="")
    return root


def write_xd_violence(root: Path) -> Path:
    """The label files of XD-Violence with the official numbers of videos.

    Violent test videos have frames [10, 20) and [30, 45). Lists are like the published ones of
    feature files: folders in front, five crops a video.
    """
    labels = ["B1-0-0", "B2-0-0", "B4-0-0", "B5-0-0", "B6-0-0", "G-0-0", "B2-G-0", "G-B2-B6"]
    for split, name in (("train", "rgb.list"), ("test", "rgb_test.list")):
        counts = OFFICIAL["xd_violence"][split]
        violent = [
            f"v={split[:4]:_<5}{i:06d}__#1_label_{labels[i % 8]}" for i in _upto(counts.abnormal)
        ]
        calm = [
            f"A.{split}.Film.{i}__#00-01-00_00-02-{i % 60:02d}_label_A"
            for i in _upto(counts.normal)
        ]
        crops = [f"/features/{n}__{crop}.npy" for n in violent + calm for crop in range(5)]
        _write_lines(root / name, crops)
    _write_lines(root / "annotations.txt", [f"{name} 10 20 30 45" for name in violent])
    return root


def _upto(n: int) -> range:
    return range(1, n + 1)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


Clip = tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]


@cache
def _ped2_clip(seed: int, *, cart: bool) -> Clip:
    """180 grey frames, and their masks; with a cart that is in view in every one of them."""
    camera, rng = Camera(48, 72), np.random.default_rng(seed)
    background = draw_background(camera, np.random.default_rng(seed))
    actors = pedestrians(camera, rng, 6.0)
    if cart:
        actors.append(Actor("cart", -4.0, 10.0, 1.0, 0.0, 0.0, Look.draw(rng), 0.0, track=1))
    clip = list(render(camera, background, actors, rng, frames=180, fps=30))
    grey = [np.asarray(Image.fromarray(rgb).convert("L")) for rgb, _ in clip]
    return grey, [tracks for _, tracks in clip]


def _encoded(images: list[NDArray[np.uint8]], kind: str) -> list[bytes]:
    encoded = []
    for pixels in images:
        image = Image.fromarray(pixels)
        if kind in ("BMP", "PNG"):
            image = Image.fromarray((pixels > 0).astype(np.uint8) * 255).convert("1")
        buffer = io.BytesIO()
        image.save(buffer, kind)
        encoded.append(buffer.getvalue())
    return encoded
