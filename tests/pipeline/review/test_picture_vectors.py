"""Pictures of a page: what differs from the camera is compared, not what all of them show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vadpipe.pipeline.review.picture_vectors import SIZE, picture_vectors
from vadpipe.pipeline.review.similar import neighbours


def picture(path: Path, ground: int, at: int | None) -> Path:
    pixels = np.full((48, 64, 3), ground, np.uint8)
    pixels[:, :4] = 255 - ground  # something that always stands there
    if at is not None:
        pixels[16:32, at : at + 12] = (200, 30, 30)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def test_what_differs_from_the_camera_is_compared(tmp_path: Path) -> None:
    """Two cameras of another brightness: the same place in the picture is what is alike."""
    where = [None, None, None, 16, 44]
    pictures, places = [], []
    for camera, ground in (("dark", 60), ("light", 140)):
        for k, at in enumerate(where):
            pictures.append(picture(tmp_path / f"{camera}{k}.jpg", ground, at))
            places.append(camera)
    vectors, known = picture_vectors(pictures, places)
    assert known == list(range(10)) and vectors.shape == (10, 3 * SIZE[0] * SIZE[1])
    assert np.abs(vectors[:3]).max() < 0.02, "nothing but what the camera always shows"
    near = neighbours(vectors, 1)
    assert [near[k][0][0] for k in (3, 4, 8, 9)] == [8, 9, 3, 4]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    whole = picture(tmp_path / "a.jpg", 60, 16)
    vectors, known = picture_vectors([None, broken, tmp_path / "gone.jpg", whole], ["a"] * 4)
    assert known == [3] and not vectors.any()  # alone there is nothing to differ from
    assert picture_vectors([], [])[1] == []
