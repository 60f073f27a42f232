"""MemAE: a 3-D autoencoder whose decoder sees only mixtures of a few memory items.

Paper: Gong et al., "Memorizing Normality to Detect Anomaly: Memory-augmented Deep Autoencoder for
Unsupervised Anomaly Detection", ICCV 2019, Sect. 3 and 4.2 (video): grey windows of 16 frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .conv3d_coder import WIDTH, contracting, expanding, layer_widths
from .frame_estimation import (
    Estimate,
    FrameEstimator,
    in_fp32,
    intensity_loss,
    signed,
    squared_error,
)
from .video_encoder import EncoderOptions

ITEMS = 2000  # N, Sect. 4.2
ENTROPY = 2e-4  # alpha, Sect. 3.4
FRAMES = 16
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
EPSILON = 1e-12


def hard_shrunk(weights: Tensor, threshold: float) -> Tensor:
    """Set weights up to a threshold to 0, and scale the others to a sum of 1 (Sect. 3.3.3).

    Args:
        weights:
            (K, N), 0 or more.
        threshold:
            lambda.
    """
    above = weights - threshold
    kept = torch.relu(above) * weights / (above.abs() + EPSILON)
    return functional.normalize(kept, p=1, dim=1, eps=EPSILON)


def entropy(weights: Tensor) -> Tensor:
    """Mean entropy of weights (K, N) that sum to 1 (Sect. 3.4)."""
    return -(weights * torch.log(weights + EPSILON)).sum(1).mean()


class SparseMemory(nn.Module):
    """Items that learn by gradients; a query reads few of them.

    Args:
        features:
            C of a query.
        items:
            N.
        threshold:
            lambda of the shrinkage; None: 1 / N, the smallest of the paper's range. A softmax of
            cosines (Sect. 3.3.2) is flat: larger ones leave no weight at the start of a training.
    """

    def __init__(self, features: int, items: int = ITEMS, threshold: float | None = None) -> None:
        super().__init__()
        bound = features**-0.5
        self.items = nn.Parameter(torch.empty(items, features).uniform_(-bound, bound))
        self.threshold = 1 / items if threshold is None else threshold

    def address(self, queries: Tensor) -> Tensor:
        """Weights of the items: (K, C) -> (K, N)."""
        cosines = functional.normalize(queries, dim=1) @ functional.normalize(self.items, dim=1).T
        return hard_shrunk(cosines.softmax(1), self.threshold)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(K, C) -> the mixtures of items (K, C), and the weights (K, N)."""
        weights = self.address(queries)
        return weights @ self.items, weights


class MemAe(FrameEstimator):
    """Reconstruct grey windows through a memory.

    As an encoder it returns the queries, which the memory has not changed. Time is divided by 8
    and sides by 16, both rounded up.

    Args:
        options:
            `width` (channels of the first layer, a multiple of 3, 96 in the paper) and `norms` are
            read.
        items:
            Of the memory.

    Raises:
        ValueError: the width is not a multiple of 3.
    """

    def __init__(self, options: EncoderOptions, *, items: int = ITEMS) -> None:
        super().__init__()
        widths = layer_widths(options.width or WIDTH)
        self.channels = widths[-1]
        self.length, self.scored = FRAMES, FRAMES // 2
        self.encoder = nn.Sequential(*contracting(1, widths))
        self.memory = SparseMemory(self.channels, items)
        self.decoder = nn.ModuleList(expanding(widths, 1))
        if options.norms == "frozen":
            self.freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, C, ceil(T / 8), ceil(H / 16), ceil(W / 16))."""
        found: Tensor = self.encoder(grey(clips))
        return found

    def reconstruct(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, H, W) in [0, 1] -> (B, 1, T, H, W) in [-1, 1], and weights (K, N); any T."""
        x, sizes = grey(windows), []
        for layer in self.encoder:
            if isinstance(layer, nn.Conv3d):
                sizes.append(x.shape[2:])
            x = layer(x)
        with in_fp32(x):
            queries = x.float().movedim(1, -1)
            read, weights = self.memory(queries.flatten(0, -2))
        x = read.reshape(queries.shape).movedim(-1, 1)
        for layer in self.decoder:
            mirrored = isinstance(layer, nn.ConvTranspose3d)
            x = layer(x, list(sizes.pop())) if mirrored else layer(x)
        return x, weights

    def objective(self, windows: Tensor) -> dict[str, Tensor]:
        """Squared error, and the entropy of the weights (Sect. 3.4), as means."""
        found, weights = self.reconstruct(windows)
        terms = {"intensity": intensity_loss(found, grey(windows)), "entropy": entropy(weights)}
        return {**terms, "total": terms["intensity"] + ENTROPY * terms["entropy"]}

    def estimate(self, windows: Tensor) -> Estimate:
        """Errors of the middle frame."""
        found, wanted = self.reconstruct(windows)[0], grey(windows)
        return Estimate(squared_error(found[:, :, self.scored], wanted[:, :, self.scored]))


def grey(clips: Tensor) -> Tensor:
    """Grey values in [-1, 1]: (B, 3, T, H, W) in [0, 1] -> (B, 1, T, H, W)."""
    weights = clips.new_tensor(GREY)[:, None, None, None]
    return signed((clips * weights).sum(1, keepdim=True))
