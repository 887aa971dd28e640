"""Draws from a keystream: exact probabilities from whole numbers, and Gaussian noise.

A stream's words are uniform and nobody without its key can tell them from random ones. Each step of a
training reads a stretch of its own, so where a step reads follows from its number alone: a killed training
goes on without a position to keep, and no word is ever used twice.

Noise and floating point. A Gaussian from a float generator has holes: which values it can take depends on
what it was added to, and the last bits of a sum then say what was summed (Mironov 2012, for Laplace; Jin et
al. 2021 for Gaussians, Opacus among them). Two measures, each enough by itself as far as is known:

* A value is half the sum of four independent Gaussians, as in Opacus' secure mode (Holohan & Braghin 2021):
  who wants to undo it must search 2^159 combinations instead of 2^53.
* It is rounded to a whole number of steps of a grid that is coarse beside the noise (`clipped_sum`: sigma is
  about 2^22 steps) and added to a sum that lies on the same grid, in whole numbers below 2^53. Rounding
  commutes with such a sum, so what is released is the rounding of an exact sum plus a Gaussian: it is as
  private as that, every whole number can occur under every input, and no bit below the grid exists.

The tail ends where Box and Muller's method ends: a single Gaussian from 53 bits stays below 8.58 sigma, half
the sum of four below 17.1 sigma; a true one passes 8.5 sigma once in 10^16 values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedlora_core.codec import RingVector, WordStream

__all__ = ["MILLION", "STEP_WORDS", "Draws"]

MILLION = 1_000_000
STEP_WORDS = 1 << 40
"""Words of a step's stretch: more than any step can read."""
_NOISE_FROM = 1 << 39
"""Where the noise begins in a stretch: it does not depend on how many words the draws took."""
_SUMMED = 4
_PIECE = 1 << 15
"""Values that are drawn together; it is even, and what they need stays in the cache."""
_UNITS = 1 << 64
_MANTISSA = 53


class Draws:
    """What one step draws.

    Args:
        stream: The training's keystream; used for nothing else.
        step: Number of the step, from 0.
    """

    def __init__(self, stream: WordStream, step: int) -> None:
        """Stand at the beginning of the step's stretch."""
        start = step * STEP_WORDS
        self._choices = stream.reader(start)
        self._noise = stream.reader(start + _NOISE_FROM)

    def chosen(self, count: int, micro: int) -> list[int]:
        """Draw each of `count` places by itself with probability micro / 10^6, exactly.

        Args:
            count: Places.
            micro: Probability in millionths, 0 to 10^6.
        """
        hits = self._below(MILLION, count) < np.uint64(micro)
        places: list[int] = np.flatnonzero(hits).tolist()
        return places

    def below(self, limit: int) -> int:
        """Draw a whole number evenly from 0 to limit - 1; limit >= 1."""
        return int(self._below(limit, 1)[0])

    def gaussians(self, count: int) -> torch.Tensor:
        """Draw `count` values from the standard Gaussian, in float64; see above for how."""
        found = []
        for first in range(0, count, _PIECE):
            half = (min(_PIECE, count - first) + 1) // 2
            total = _box_muller(self._noise, half)
            for _ in range(_SUMMED - 1):
                total += _box_muller(self._noise, half)
            found.append(total.div_(math.sqrt(_SUMMED)))
        return torch.cat(found)[:count]

    def _below(self, limit: int, count: int) -> NDArray[np.uint64]:
        """Draw numbers below a limit evenly: what lies past its last whole multiple is drawn again."""
        found = _words64(self._choices, count)
        last = _UNITS // limit * limit - 1
        while (again := found > np.uint64(last)).any():
            found[again] = _words64(self._choices, int(again.sum()))
        return found % np.uint64(limit)


def _words64(read: Callable[[int], RingVector], count: int) -> NDArray[np.uint64]:
    """The next `count` numbers of 64 bits, least word first, as a new array."""
    words = np.array(read(2 * count), dtype="<u4")
    return words.view("<u8").astype(np.uint64)


def _box_muller(read: Callable[[int], RingVector], pairs: int) -> torch.Tensor:
    """Draw 2 * pairs values from the standard Gaussian (Box & Muller 1958): all cosines, then all sines."""
    numbers = _words64(read, 2 * pairs) >> np.uint64(64 - _MANTISSA)
    uniform = torch.from_numpy(numbers.astype(np.float64)).mul_(2.0**-_MANTISSA)
    radius = uniform[:pairs].neg_().add_(1.0).log_().mul_(-2.0).sqrt_()  # of 1 - u in (0, 1]: finite
    angle = uniform[pairs:].mul_(2.0 * math.pi)
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin())])
