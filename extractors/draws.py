"""Random numbers for one frame, from a name: equal in every process, span, batch and version.

numpy keeps the raw words of PCG64 stable between its versions, but not its distributions. So whole
numbers, shares and normal numbers are made of raw words here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draws:
    """A stream of random numbers.

    Args:
        *name:
            What the stream is for, and all that it depends on: a purpose, the seed, the content
            id of the video, the number of the frame.
    """

    def __init__(self, *name: object) -> None:
        text = "/".join(str(part) for part in name)
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        self._bits = np.random.PCG64(seed)

    def words(self, n: int) -> NDArray[np.uint64]:
        """(n,) random words of 64 bits."""
        return np.asarray(self._bits.random_raw(n), np.uint64)

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1; n must be far below 2^64."""
        return int(self.words(1)[0]) % n

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return float(self.units(1)[0])

    def units(self, n: int) -> NDArray[np.float64]:
        """(n,) numbers in [0, 1)."""
        return np.asarray((self.words(n) >> np.uint64(11)) * 2.0**-53, np.float64)

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Numbers of the standard normal distribution, by the method of Box and Muller."""
        n = int(np.prod(shape))
        first, second = self.units(2 * n).reshape(2, n)
        radius = np.sqrt(-2.0 * np.log1p(-first))
        return (radius * np.cos(2.0 * np.pi * second)).reshape(shape).astype(np.float32)

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """The values in a random order."""
        keys = self.words(len(values))
        return [values[i] for i in np.argsort(keys, kind="stable")]
