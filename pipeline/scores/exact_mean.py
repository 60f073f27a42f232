"""The mean of the windows that cover each place, without running sums of floats.

A running sum of floats keeps the rounding of all that was added and taken away before: a score of
1e-9 that follows one of 1e8 is lost. Here scores are cut into whole numbers of 32 bits, one for
each power of 2^32 that they reach. Sums of whole numbers are exact, so a difference of two running
sums is exact too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIGIT = 32  # bits; 2^31 of them can be added in int64
_LARGE = 900  # exponent from which a sum of many could overflow
_SPLIT = float(2**27 + 1)  # cuts a float64 into two halves of 26 bits


def covering_sum(
    begin: NDArray[np.int64], end: NDArray[np.int64], amount: NDArray[np.int64], places: int
) -> NDArray[np.int64]:
    """The sum of the amounts of the windows over each place, exact: (places,) int64."""
    steps = np.zeros(places + 1, dtype=np.int64)
    np.add.at(steps, begin, amount)
    np.subtract.at(steps, end, amount)
    return np.cumsum(steps[:-1])


def covering_mean(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    values: NDArray[np.float64],
    count: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The mean of the windows over each place, rounded once.

    It depends on the windows over that place only, not on their order: equal windows have equal
    means, and the mean of equal values is that value. The sum has about twice the bits of a
    float64, also where values of both signs cancel. (Values below 1e-290 have fewer bits.)

    Args:
        begin:
            (m,) first place of each window.
        end:
            (m,) one past its last.
        values:
            (m,) finite.
        count:
            (places,) how many windows cover each place.

    Returns:
        (places,); 0 where no window is.
    """
    exponents = np.frexp(values)[1]
    if len(values) and exponents.max() > _LARGE:
        # The sum could be infinite, although the mean is not.
        return np.ldexp(covering_mean(begin, end, np.ldexp(values, -64), count), 64)
    high, low = _covering_sums(begin, end, values, len(count))
    n = np.maximum(count, 1).astype(np.float64)
    mean = high / n
    # What the division left over: both products are exact, as n has less than 27 bits.
    upper = _SPLIT * mean
    upper -= upper - mean
    rest = ((high - upper * n) - (mean - upper) * n) + low
    return np.where(count > 0, mean + rest / n, 0.0)


def _covering_sums(
    begin: NDArray[np.int64], end: NDArray[np.int64], values: NDArray[np.float64], places: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum over each place as two floats, of which the second is what the first lacks."""
    high, low = np.zeros(places), np.zeros(places)
    pieces = _digits(values)
    used = np.unique(np.concatenate([number for number, _ in pieces]))
    carry = np.zeros(places, dtype=np.int64)
    number, last = (int(used[0]), int(used[-1])) if len(used) else (0, -1)
    while number <= last or carry.any():
        total = carry
        if number in used:
            for of_piece, amount in pieces:
                chosen = np.flatnonzero(of_piece == number)
                total = total + covering_sum(begin[chosen], end[chosen], amount[chosen], places)
        carry = (total + (1 << (DIGIT - 1))) >> DIGIT
        digit = np.ldexp((total - (carry << DIGIT)).astype(np.float64), DIGIT * number)
        # From the lowest digit up. Each is larger than all below it, or 0.
        sums = high + digit
        back = sums - high
        low += (high - (sums - back)) + (digit - back)
        high = sums
        number += 1
    return high, low


def _digits(values: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cut values into whole numbers: value = sum of amount * 2^(DIGIT * number) over the pieces.

    Returns:
        Four pieces: (m,) numbers, and (m,) amounts of at most 32 bits.
    """
    fraction, exponent = np.frexp(values)
    whole = np.ldexp(fraction, 53).astype(np.int64)  # exact: 53 bits
    place = exponent.astype(np.int64) - 53  # of its last bit
    pieces = []
    upper = whole >> 27
    for part, at in ((whole - (upper << 27), place), (upper, place + 27)):
        number = at // DIGIT
        shifted = part << (at - DIGIT * number)  # less than 27 + 32 bits
        above = shifted >> DIGIT
        pieces += [(number, shifted - (above << DIGIT)), (number + 1, above)]
    return pieces
