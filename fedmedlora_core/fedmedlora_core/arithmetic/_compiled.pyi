"""Types of the compiled loops; see `Loops` in the package."""

import numpy as np
from numpy.typing import NDArray

def measure(
    values: NDArray[np.float32],
    squares: NDArray[np.float64],
    largest: NDArray[np.float32],
    chunk: int,
    /,
) -> None: ...
def clip(values: NDArray[np.float32], out: NDArray[np.float32], shrink: float, limit: float, /) -> int: ...
def encode(
    values: NDArray[np.float32],
    words: NDArray[np.uint32],
    out: NDArray[np.uint32],
    factor: float,
    mask: int,
    /,
) -> float: ...
def decode(total: NDArray[np.uint32], mean: NDArray[np.float32], factor: float, bits: int, /) -> None: ...
