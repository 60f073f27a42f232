"""Tensors over the memory of frames."""

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest

from vadpipe.extractors.device.pixels import tensor_of


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("step", [1, -2])
def test_nothing_is_copied_and_nothing_warns(writeable: bool, step: int) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
    view = pixels[::2, :, ::1][..., :3] if step > 0 else pixels[:, ::2]
    view.flags.writeable = writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = tensor_of(view)
    assert tensor.tolist() == view.tolist()
    pixels[0] = 200
    assert tensor.tolist() == view.tolist() and (tensor == 200).any()
    assert view.flags.writeable == writeable


def test_the_tensor_keeps_the_pixels() -> None:
    pixels = np.ones((2, 2, 2, 3), np.uint8)
    pixels.flags.writeable = False
    ended = weakref.ref(pixels)
    tensor = tensor_of(pixels)[1:]
    del pixels
    gc.collect()
    assert ended() is not None and tensor.sum() == 12
    del tensor
    gc.collect()
    assert ended() is None
