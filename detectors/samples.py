"""What a network makes of some training windows, in pictures: `fit` hands them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

When = Literal["first", "last"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Pictures of n windows, at one moment of a training.

    Attributes:
        stage: of the training.
        when: after the first epoch of the stage, or at its end.
        step: steps that are done.
        steps: of the stage.
        windows: (n,) what each window is, in a few words.
        pictures: what is shown, in this order -> n pictures of each window's scored frame: (n, H,
            W, 3) uint8 RGB, (n, H, W, 2) flow in pixels, or (n, H, W) errors from 0 on.
    """

    stage: str
    when: When
    step: int
    steps: int
    windows: tuple[str, ...]
    pictures: Mapping[str, NDArray[Any]]
