"""MNAD: a U-Net that predicts a frame with the help of a few prototypes of normal features.

Paper: Park, Noh, Ham, "Learning Memory-guided Normality for Anomaly Detection", CVPR 2020,
Sect. 3.1 to 3.3. The encoder ends without batch norm and ReLU; its features, divided by their
length, are the queries. The memory learns by a rule and not by gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .frame_estimation import (
    Estimate,
    FrameEstimator,
    encoded_stacks,
    gathered_stacks,
    in_fp32,
    intensity_loss,
    signed,
    squared_error,
    stack_before,
)
from .unet_prediction import BEFORE, LEVELS, WIDTH, UnetDecoder, UnetEncoder
from .video_encoder import EncoderOptions

ITEMS = 10  # M, Sect. 4.1
COMPACTNESS = 0.1  # lambda_c, Sect. 4.1
SEPARATENESS = 0.1  # lambda_s
MARGIN = 1.0  # alpha of the separateness


class PrototypeMemory(nn.Module):
    """Prototypes of length 1, read by queries and updated by those nearest to them, in fp32.

    Args:
        features:
            C of a query.
        items:
            M.

    Attributes:
        items: (M, C), without gradients.
    """

    items: Tensor

    def __init__(self, features: int, items: int = ITEMS) -> None:
        super().__init__()
        self.register_buffer("items", functional.normalize(torch.randn(items, features), dim=1))

    def read(self, queries: Tensor) -> Tensor:
        """Mix the items by a softmax over them (Sect. 3.1.2, read): (K, C) -> (K, C)."""
        with in_fp32(queries):
            return (queries @ self.items.T).softmax(1) @ self.items

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (K,) to the item with the largest weight, and to that with the second one."""
        with in_fp32(queries):
            indices = (queries @ self.items.T).topk(2, dim=1).indices
        first, second = torch.linalg.vector_norm(
            queries[:, None] - self.items[indices], dim=2
        ).unbind(1)
        return first, second

    @torch.no_grad()
    def update(self, queries: Tensor) -> None:
        """Add to each item the queries nearest to it, and divide it by its length.

        Sect. 3.1.2, update. A query weighs its softmax over all queries, relative to the largest
        of the same item.

        Args:
            queries:
                (K, C), of all pictures of a batch.
        """
        with in_fp32(queries):
            scores = queries @ self.items.T
            own = functional.one_hot(scores.argmax(1), len(self.items)).to(scores.dtype)
            weights = scores.softmax(0) * own
            weights = weights / weights.amax(0).clamp_min(torch.finfo(scores.dtype).tiny)
            moved = self.items + weights.T @ queries
        # A new tensor: the backward pass of the losses still needs the old one.
        self.items = functional.normalize(moved, dim=1)


class Mnad(FrameEstimator):
    """Predict a frame from the four before it, with a memory (the prediction task of the paper).

    As an encoder it runs on the stack of four frames that ends in each frame, and returns the
    features before they are divided by their length: the memory is part of the decoder's way.

    Args:
        options:
            `width` (channels at full resolution, 64 in the paper) and `norms` are read.
        items:
            Of the memory.
    """

    multiple = 8
    shares_frames = True
    distance_weight = 0.4  # 1 - lambda of Sect. 3.3, for Ped2 and Avenue (Sect. 4.1)

    def __init__(self, options: EncoderOptions, *, items: int = ITEMS) -> None:
        super().__init__()
        width = options.width or WIDTH
        self.channels = width << (LEVELS - 1)
        self.length, self.scored = BEFORE + 1, BEFORE
        self.encoder = UnetEncoder(3 * BEFORE, width, norm=True, linear=True)
        self.memory = PrototypeMemory(self.channels, items)
        self.decoder = UnetDecoder(width, norm=True, entry=2 * self.channels)
        if options.norms == "frozen":
            self.freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, 8 width, T, H / 8, W / 8)."""
        return encoded_stacks(clips, BEFORE, self.encoder)

    def gathered(self, frames: Tensor, index: Tensor) -> Tensor:
        """As `VideoEncoder.gathered`; clips share the stacks that they have in common."""
        return gathered_stacks(frames, index, BEFORE, self.encoder)

    def predict(self, windows: Tensor) -> Tensor:
        """(B, 3, 5, H, W) in [0, 1] -> (B, 3, H, W) in [-1, 1]: the last frame, from the others."""
        return self._predicted(windows)[0]

    def objective(self, windows: Tensor) -> dict[str, Tensor]:
        """Intensity, compactness and separateness (Sect. 3.2), as means.

        The items that are read are those before the update.
        """
        found, queries = self._predicted(windows)
        first, second = self.memory.nearest(queries)
        terms = {
            "intensity": intensity_loss(found, signed(windows[:, :, -1])),
            "compactness": first.mean(),
            "separateness": torch.relu(first - second + MARGIN).mean(),
        }
        if self.training:
            self.memory.update(queries)
        weighted = COMPACTNESS * terms["compactness"] + SEPARATENESS * terms["separateness"]
        return {**terms, "total": terms["intensity"] + weighted}

    def estimate(self, windows: Tensor) -> Estimate:
        """Errors of the predicted frame, and how far queries are from their items (Sect. 3.3)."""
        found, queries = self._predicted(windows)
        first, _ = self.memory.nearest(queries)
        distance = first.reshape(len(windows), -1).mean(1)
        return Estimate(squared_error(found, signed(windows[:, :, -1])), distance)

    def _predicted(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, and the queries (B H' W', C)."""
        *shortcuts, deepest = self.encoder(stack_before(windows))
        normed = functional.normalize(deepest.float(), dim=1)
        queries = normed.permute(0, 2, 3, 1).flatten(0, 2)
        read = self.memory.read(queries)
        maps = read.reshape(len(windows), *deepest.shape[2:], -1).permute(0, 3, 1, 2)
        found: Tensor = self.decoder(torch.cat([normed, maps], 1), shortcuts)
        return found, queries
