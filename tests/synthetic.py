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

from vadpipe.data_manifests import ucsd_ped2
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
