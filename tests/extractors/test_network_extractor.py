"""What extractors around a network share: batches whose pictures alone are too much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import VideoNetwork
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.i3d import I3DConfig
from vadpipe.extractors.inception_i3d import InceptionI3DFeatures
from vadpipe.extractors.networks.inception_i3d import CARDS
from vadpipe.extractors.weights.cards import ResolvedWeights


class Shades(InceptionI3DFeatures):
    """The first pixel of each clip; more clips than `most` at once are too much for the device."""

    most = 8
    error: type[BaseException] = torch.OutOfMemoryError
    batches: list[int]

    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        if len(videos) > self.most:
            raise self.error("DefaultCPUAllocator: not enough memory")
        self.batches.append(len(videos))
        return {"features": torch.stack([video[0, 0, 0, :1].float() for video in videos])}


@pytest.fixture(scope="module")
def shades() -> Shades:
    made = Shades(I3DConfig(), weights=ResolvedWeights(CARDS[0], "random:0", None))
    made.load(Runtime())
    return made


def clips(count: int) -> list[Clip]:
    return [
        Clip(np.full((1, 4, 4, 3), i, np.uint8), np.array([i]), np.array([i / 25]), i, i + 1)
        for i in range(count)
    ]


@pytest.mark.filterwarnings("ignore:.*not trained weights")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("most", [7, 3, 1])
def test_a_batch_that_is_too_much_is_halved(
    shades: Shades, most: int, error: type[BaseException]
) -> None:
    shades.most, shades.error, shades.batches = most, error, []
    rows = shades.extract(clips(8))["features"]
    assert np.asarray(rows)[:, 0].tolist() == list(range(8)), "each row once, in order"
    assert max(shades.batches) <= most and sum(shades.batches) == 8


def test_one_clip_that_is_too_much_is_an_error(shades: Shades) -> None:
    shades.most, shades.error = 0, torch.OutOfMemoryError
    with pytest.raises(torch.OutOfMemoryError):
        shades.extract(clips(3))


def test_other_errors_are_not_taken_for_want_of_memory(shades: Shades) -> None:
    shades.most, shades.error = 0, ExtractorError
    shades.batches = []
    with pytest.raises(ExtractorError):
        shades.extract(clips(4))
    assert not shades.batches
