"""Sample windows of an autoencoder: what it was given, what it returned, and the error."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from .pseudo_clips import VALIDATION, ClipSource
from .samples import Sample, When

WINDOWS = 3


def autoencoder_sample(
    network: nn.Module,
    clips: ClipSource,
    at: int,
    *,
    stage: str,
    when: When,
    step: int,
    steps: int,
) -> Sample:
    """Look at the same windows each time: normal, then each of them as a pseudo-anomaly.

    Errors are those of scoring: the distance from what the network was given.

    Args:
        network:
            In evaluation mode.
        clips:
            Of its training.
        at:
            Number of the frame of a window that is shown.
        stage:
            See `Sample`.
        when:
            See `Sample`.
        step:
            See `Sample`.
        steps:
            See `Sample`.
    """
    pictures: dict[str, NDArray[Any]] = {}
    for name, share in (("normal", 0.0), ("pseudo-anomaly", 1.0)):
        if share == 0 or clips.share > 0:
            (batch,) = clips.validation(1, WINDOWS, share)  # the same places for both
            given = clips.scaled(batch.mixed())
            found = network(given)
            given, found = given[:, :, at], found[:, :, at]
            pictures[name] = clips.shown(given)
            pictures[f"{name}: reconstruction"] = clips.shown(found)
            pictures[f"{name}: error"] = _error(given, found)
    picks = clips.windows.draw(WINDOWS, VALIDATION)
    names = clips.memory.rows.video_ids
    windows = tuple(
        f"{names[video]}, row {start + at}"
        for video, start in zip(picks.video.tolist(), picks.start.tolist(), strict=True)
    )
    return Sample(
        stage=stage, when=when, step=step, steps=steps, windows=windows, pictures=pictures
    )


def _error(given: Tensor, found: Tensor) -> NDArray[Any]:
    """(B, C, H, W) twice -> (B, H, W) squared errors."""
    error: NDArray[Any] = (found - given).float().square().mean(1).cpu().numpy()
    return error
