"""Pixel masks, read one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vadpipe.data_manifests.masks import abnormal_pixels, mask_areas, read_masks
from vadpipe.data_manifests.record import ManifestError


def test_pictures_in_natural_order_of_any_kind(tmp_path: Path) -> None:
    grey = np.zeros((4, 6), np.uint8)
    grey[1, 2] = 255
    Image.fromarray(grey).save(tmp_path / "10.png")
    Image.fromarray(grey > 0).save(tmp_path / "9.png")
    Image.fromarray(np.stack([0 * grey, grey, 0 * grey], axis=2)).save(tmp_path / "11.bmp")
    names = [Path(name).name for name, _ in read_masks(tmp_path)]
    assert names == ["9.png", "10.png", "11.bmp"]
    for mask in abnormal_pixels(tmp_path):
        assert mask.dtype == np.bool_
        assert np.argwhere(mask).tolist() == [[1, 2]]


def test_arrays_and_matlab_files(tmp_path: Path) -> None:
    masks = np.zeros((3, 4, 6), np.uint8)
    masks[1, 2, 3] = 1
    np.save(tmp_path / "v.npy", masks)
    cells = np.empty((1, 3), dtype=object)
    for number, mask in enumerate(masks):
        cells[0, number] = mask
    savemat(tmp_path / "v.mat", {"volLabel": cells})
    for name in ("v.npy", "v.mat"):
        found = list(abnormal_pixels(tmp_path / name))
        assert [np.argwhere(mask).tolist() for mask in found] == [[], [[2, 3]], []]
        np.testing.assert_allclose(mask_areas(tmp_path / name), [0, 1 / 24, 0])
    np.save(tmp_path / "w.npy", masks[0])
    with pytest.raises(ManifestError, match="frames, height, width"):
        mask_areas(tmp_path / "w.npy")
    (tmp_path / "w.npy").write_bytes(b"no array")
    with pytest.raises(ManifestError, match=r"w\.npy cannot be read"):
        mask_areas(tmp_path / "w.npy")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        next(read_masks(tmp_path / "none"))
    (tmp_path / "000.png").write_bytes(b"no picture")
    with pytest.raises(ManifestError, match=r"000\.png cannot be read"):
        next(read_masks(tmp_path))
