"""In-painters `latent_diffusion` and `autoencoder`: see `networks.latent_inpainting`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Runtime
from ..device.inference import OnDevice, prepare
from ..draws import Draws
from ..errors import ExtractorError
from ..networks.latent_inpainting import PUBLISHED, LatentInpainting, Layout
from ..weights.cards import ResolvedWeights
from ..weights.load import load_tensors
from .contract import InPainter, InPaintingError


class DiffusionPainter(InPainter):
    """Fills one picture after the other in fp32, so that no batch changes a bit.

    The noise that the steps begin with is drawn for each picture.

    Args:
        weights:
            Of both networks.
        steps:
            Of DDIM; None puts the picture itself through the autoencoder, so that what it shows
            stays, and only the traces of the network are new.
        layout:
            Sizes of the networks.
    """

    def __init__(
        self, weights: ResolvedWeights, steps: int | None, layout: Layout = PUBLISHED
    ) -> None:
        self._weights = weights
        self._steps = steps
        self._layout = layout
        self._place: OnDevice | None = None
        self._network: LatentInpainting | None = None

    def load(self, runtime: Runtime) -> None:
        """Put the networks on the device.

        Raises:
            WeightsError: the weights are damaged.
            MissingExtra: diffusers is not installed.
        """
        with torch.device("meta"):
            network = LatentInpainting(self._layout)
        tensors = load_tensors(self._weights, network.state_dict())
        state = {name: torch.from_numpy(values) for name, values in tensors.items()}
        network.load_state_dict(state, assign=True)
        prepare(network, "fp32", runtime.device)
        self._network = network
        self._place = OnDevice(runtime)

    def fill(
        self, frames: NDArray[np.uint8], masks: NDArray[np.bool_], draws: Sequence[Draws]
    ) -> NDArray[np.uint8]:
        """Fill pictures; their sides are multiples of `layout.multiple`.

        Raises:
            ExtractorError: `load` was not called.
            InPaintingError: the network returned values that are not finite.
        """
        parts = zip(frames, masks, draws, strict=True)
        return np.stack([self._one(frame, mask, draw) for frame, mask, draw in parts])

    def _one(
        self, frame: NDArray[np.uint8], mask: NDArray[np.bool_], draws: Draws
    ) -> NDArray[np.uint8]:
        place, network = self._place, self._network
        if place is None or network is None:
            raise ExtractorError("latent_diffusion: call load(runtime) first")
        height, width = (side // self._layout.shrink for side in mask.shape)
        noise = torch.from_numpy(draws.normal((1, 3, height, width)))
        (picture,) = place.stage([np.ascontiguousarray(frame)])

        def work() -> NDArray[np.uint8]:
            device = picture.device
            known = picture.permute(2, 0, 1)[None].to(torch.float32) / 255
            if self._steps is None:
                found = network.reconstruct(known)
            else:
                hole = torch.from_numpy(mask).to(device)[None, None].to(torch.float32)
                found = network(known, hole, noise.to(device), self._steps)
            if not bool(torch.isfinite(found).all()):  # as uint8 they would look like a picture
                raise InPaintingError(
                    f"{self._weights.card.name} returned values that are not finite: its weights "
                    "are damaged; fetch them again"
                )
            values = (found[0] * 255).permute(1, 2, 0).to(torch.uint8)
            return np.asarray(values.cpu().numpy())

        return place.turn(work)
