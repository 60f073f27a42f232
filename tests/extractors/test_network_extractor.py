"""What extractors around a network share: batches whose pictures alone are too much."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.rows import arrays_of
from tests.two_networks import WIDTHS, Tiny, TwoNetworks, TwoNetworksConfig
from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.device.inference import VideoNetwork
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.i3d import I3DConfig
from vadpipe.extractors.inception_i3d import InceptionI3DFeatures
from vadpipe.extractors.networks.inception_i3d import CARDS
from vadpipe.extractors.weights.cards import ResolvedWeights
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.slots import NETWORK


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
    made = Shades(I3DConfig(), weights={NETWORK: ResolvedWeights(CARDS[0], "random:0", None)})
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
    rows = arrays_of(shades, clips(8))["features"]
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


@pytest.mark.filterwarnings("ignore:.*not trained weights")
def test_several_networks_each_with_its_weights_and_pixels() -> None:
    given = {
        slot: ResolvedWeights(cards[0], f"random:{seed}", None)
        for seed, (slot, cards) in enumerate(TwoNetworks.networks.items())
    }
    made = TwoNetworks(TwoNetworksConfig(), weights=given)
    with pytest.raises(ExtractorError, match="call load"):
        made.extract(clips(1))
    made.load(Runtime(batch_size=8))
    rows = arrays_of(made, clips(3))
    for slot, weights in given.items():
        network = Tiny(WIDTHS[slot])
        tensors = load_tensors(weights, network.state_dict())
        network.load_state_dict({name: torch.from_numpy(v) for name, v in tensors.items()})
        for i, clip in enumerate(clips(3)):
            pixels = torch.from_numpy(clip.frames).float().permute(3, 0, 1, 2)[None]
            expected = network((pixels - weights.card.mean[0]) / weights.card.std[0])
            np.testing.assert_allclose(rows[slot][i], expected[0].detach(), rtol=1e-5, atol=1e-6)


def test_a_network_of_another_kind_runs_in_the_same_lane() -> None:
    """What `load_network` returns is handed to `rows_of` in the thread of the device."""

    class Counting(TwoNetworks):
        def load_network(self, slot: str, runtime: Runtime) -> Any:
            return lambda videos: torch.full((len(videos), WIDTHS[slot]), 7.0)

        def rows_of(
            self, networks: Mapping[str, Any], videos: Sequence[Tensor]
        ) -> dict[str, Tensor]:
            assert threading.current_thread().name.startswith("lane-cpu")
            return {slot: network(videos) for slot, network in networks.items()}

    given = {"reader": ResolvedWeights(TwoNetworks.networks["reader"][0], "random:0", None)}
    made = Counting(TwoNetworksConfig(teacher=False), weights=given)
    made.load(Runtime())
    rows = arrays_of(made, clips(2))
    assert set(rows) == {"reader"} and np.asarray(rows["reader"]).tolist() == [[7.0] * 5] * 2
