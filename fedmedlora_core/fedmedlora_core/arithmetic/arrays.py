"""The loops with numpy, chunk by chunk in the cache; see `Loops` for what each one does.

This is the definition: it runs wherever the compiled module was not built, and the tests hold that one to it.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

LANES = 16
CHUNK_VALUES = 1 << 15  # 128 KiB of float32 and two buffers of 256 KiB: the work stays in the L2 cache
_MAGIC = float(3 << 51)  # added to a whole number, leaves it modulo 2**32 in the low half of a float64
_ALL_BITS = (1 << 32) - 1
_MISFIT = "the buffers do not fit each other"


class _Scratch(threading.local):
    """Two float64 buffers of this thread: to allocate them for every chunk would cost more than the work."""

    def __init__(self) -> None:
        self.first = np.empty(CHUNK_VALUES)
        self.second = np.empty(CHUNK_VALUES)


_scratch = _Scratch()


def largest_magnitude(vector: NDArray[np.float32]) -> float:
    """Largest |value|, without a vector of magnitudes; NaN if one is NaN, 0 if there is none."""
    lowest, highest = float(vector.min(initial=0.0)), float(vector.max(initial=0.0))
    return -lowest if highest < -lowest else abs(highest)  # NaN is in both and compares as false


def measure(
    values: NDArray[np.float32],
    squares: NDArray[np.float64],
    largest: NDArray[np.float32],
    chunk: int,
    /,
) -> None:
    """See `Loops.measure`."""
    chunks = -(-values.size // chunk) if chunk > 0 else -1
    if squares.shape != (chunks, LANES) or largest.shape != (chunks,):
        raise ValueError(_MISFIT)
    buffer = np.empty(-(-chunk // LANES) * LANES)
    for index in range(chunks):
        part = values[index * chunk : (index + 1) * chunk]
        wide = buffer[: -(-part.size // LANES) * LANES]
        wide[part.size :] = 0
        np.multiply(part, part, out=wide[: part.size], dtype=np.float64)
        np.sum(wide.reshape(-1, LANES), axis=0, out=squares[index])
        largest[index] = largest_magnitude(part)


def clip(values: NDArray[np.float32], out: NDArray[np.float32], shrink: float, limit: float, /) -> int:
    """See `Loops.clip`."""
    if values.shape != out.shape:
        raise ValueError(_MISFIT)
    most, beyond = np.float32(limit), 0
    for first in range(0, values.size, CHUNK_VALUES):
        chunk = out[first : first + CHUNK_VALUES]
        np.multiply(values[first : first + CHUNK_VALUES], np.float32(shrink), out=chunk)
        beyond += int(np.count_nonzero((chunk > most) | (chunk < -most)))
        np.clip(chunk, -most, most, out=chunk)
    return beyond


def encode(
    values: NDArray[np.float32],
    words: NDArray[np.uint32],
    out: NDArray[np.uint32],
    factor: float,
    mask: int,
    /,
) -> float:
    """See `Loops.encode`."""
    if not values.shape == words.shape == out.shape:
        raise ValueError(_MISFIT)
    largest = 0.0
    for first in range(0, values.size, CHUNK_VALUES):
        chunk, place = values[first : first + CHUNK_VALUES], out[first : first + CHUNK_VALUES]
        whole, chance = _scratch.first[: chunk.size], _scratch.second[: chunk.size]
        largest = max(largest, most := largest_magnitude(chunk))
        if not math.isfinite(most):
            return most
        np.multiply(chunk, factor, out=whole, dtype=np.float64)
        np.multiply(words[first : first + CHUNK_VALUES], 2.0**-32, out=chance, dtype=np.float64)
        # floor(v + u) with u uniform in [0, 1) is v rounded up with probability frac(v): unbiased.
        np.add(whole, chance, out=whole)
        np.floor(whole, out=whole)
        np.add(whole, _MAGIC, out=whole)
        np.copyto(place, whole.view(np.uint64), casting="unsafe")
        if mask != _ALL_BITS:
            np.bitwise_and(place, np.uint32(mask), out=place)
    return largest


def decode(total: NDArray[np.uint32], mean: NDArray[np.float32], factor: float, bits: int, /) -> None:
    """See `Loops.decode`; a chunk of the sum is read before its mean is written."""
    if total.shape != mean.shape or not 0 < bits <= 32:
        raise ValueError(_MISFIT)
    signed = np.empty(CHUNK_VALUES, dtype=np.uint32)
    for first in range(0, total.size, CHUNK_VALUES):
        source = total[first : first + CHUNK_VALUES]
        words, value = signed[: source.size], _scratch.first[: source.size]
        np.left_shift(source, np.uint32(32 - bits), out=words)
        # Sign extension: the ring's upper bit is the word's upper bit now.
        np.right_shift(words.view(np.int32), np.int32(32 - bits), out=words.view(np.int32))
        np.multiply(words.view(np.int32), factor, out=value, dtype=np.float64)
        mean[first : first + CHUNK_VALUES] = value
