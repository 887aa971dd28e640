"""The four loops over the values of an update: measure, clip, encode, decode (PROTOCOL §4.1, §4.2).

`loops` is what the codec calls: the compiled module where the installation built one, else `arrays`, which
does the same with numpy in more passes. Both give the same bytes for every input, which the tests hold; which
one runs is a matter of speed only (ADR 0021).
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.arithmetic import arrays

try:
    from fedmedlora_core.arithmetic import _compiled as compiled
except ImportError:  # pragma: no cover - an installation without a compiler
    compiled = None  # type: ignore[assignment]

__all__ = ["LANES", "Loops", "arrays", "compiled", "loops"]

LANES: Final = arrays.LANES
"""Sums of squares that a chunk is measured in, side by side: value i goes to sum i modulo this."""


class Loops(Protocol):
    """What both modules offer; arrays are contiguous, and begin at one place or lie apart."""

    def measure(
        self,
        values: NDArray[np.float32],
        squares: NDArray[np.float64],
        largest: NDArray[np.float32],
        chunk: int,
        /,
    ) -> None:
        """Sum the squares of every chunk in float64 and find its largest magnitude, NaN if one is NaN.

        Args:
            values: float32 `(d,)`.
            squares: float64 `(chunks, LANES)`; takes the sums.
            largest: float32 `(chunks,)`; takes the magnitudes.
            chunk: Values in a chunk, the last one has the rest.

        Raises:
            ValueError: The arrays do not fit each other (the caller's mistake).
        """

    def clip(
        self, values: NDArray[np.float32], out: NDArray[np.float32], shrink: float, limit: float, /
    ) -> int:
        """Write values * shrink, clipped to [-limit, limit], in float32; returns how many lay beyond it.

        Args:
            values: Finite float32 `(d,)`.
            out: float32 `(d,)`, which may be `values`.
            shrink: A float32 number.
            limit: A float32 number; >= 0.

        Raises:
            ValueError: The arrays do not fit each other (the caller's mistake).
        """

    def encode(
        self,
        values: NDArray[np.float32],
        words: NDArray[np.uint32],
        out: NDArray[np.uint32],
        factor: float,
        mask: int,
        /,
    ) -> float:
        """Write floor(values * factor + words * 2**-32) modulo 2**32, and its bits under `mask`.

        Args:
            values: float32 `(d,)`; what is not finite, or beyond 2**51 / factor, gives arbitrary words.
            words: Uniform uint32 `(d,)`.
            out: uint32 `(d,)`, which may lie in the place of `values`.
            factor: Quanta a unit of value.
            mask: The ring's bits.

        Returns:
            The largest magnitude among the values, NaN if one is NaN, for the caller to judge.

        Raises:
            ValueError: The arrays do not fit each other (the caller's mistake).
        """

    def decode(
        self, total: NDArray[np.uint32], mean: NDArray[np.float32], factor: float, bits: int, /
    ) -> None:
        """Write the low bits of each word, read as a signed number, times `factor`, rounded to float32.

        Args:
            total: uint32 `(d,)`.
            mean: float32 `(d,)`, which may lie in the place of `total`.
            factor: Value of one quantum.
            bits: Width of the ring; 1..32.

        Raises:
            ValueError: The arrays do not fit each other (the caller's mistake).
        """


loops: Loops = arrays if compiled is None else compiled
