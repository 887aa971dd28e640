"""Ring vectors for tests of CKKS, and the sum that masks would give."""

from __future__ import annotations

import numpy as np


def ring_vectors(parties: int, values: int, ring_bits: int, seed: int = 1) -> list[np.ndarray]:
    """Vectors whose signed sum fills the ring to the last integer, as encoded updates may."""
    bound = (2 ** (ring_bits - 1) - 1) // parties
    random = np.random.default_rng(seed)
    found = []
    for _ in range(parties):
        signed = random.integers(-bound, bound, values, endpoint=True)
        signed[0], signed[-1] = bound, -bound
        found.append((signed & (2**ring_bits - 1)).astype(np.uint32))
    return found


def summed(vectors: list[np.ndarray], ring_bits: int) -> np.ndarray:
    """The sum that masks would give."""
    total = np.stack(vectors).astype(np.uint64).sum(axis=0) & np.uint64(2**ring_bits - 1)
    return np.asarray(total, dtype=np.uint32)
