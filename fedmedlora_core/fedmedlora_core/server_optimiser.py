"""FedAvgM and FedAdam: the server's optimiser, the same bytes at every party (PROTOCOL §4.9).

    momentum:  m <- b1 m + x               next = base + rate * m
    adam:      m <- b1 m + (1 - b1) x
               v <- b2 v + (1 - b2) x^2    next = base + rate * m / (sqrt(v) + a)

with x the decoded aggregate, m = 0 and v = a^2 at the start (Hsu et al. 2019; Reddi et al. 2021, which has no
bias correction). The aggregate is public among the members, so the state tells nothing that the sums do not:
nobody has to be trusted with it, and everybody computes it.

Every operation is one float32 addition, multiplication, division or square root, each of which IEEE 754
rounds in one way; nothing is summed over values, so neither threads nor vector units change a bit. Values
below 2^-100 are taken for zero: what lies under them would depend on how a processor treats subnormals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedmedlora_core.codec import CHUNK_VALUES, FloatVector
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.strategy_terms import ServerTerms

STATE_FILE = "optimiser.safetensors"
_DIGEST_LABEL = b"fedmedlora/v1/optimiser\0"
_VECTORS: Mapping[str, tuple[str, ...]] = {"momentum": ("mean",), "adam": ("mean", "square")}
_LEAST = np.float32(2.0**-100)


@dataclass(frozen=True)
class OptimiserState:
    """What the server's optimiser remembers after some rounds.

    Args:
        optimiser: "momentum" or "adam".
        dimension: Values of the adapter.
        vectors: float32 `(dimension,)` for each name of the optimiser; none before the first round.
    """

    optimiser: str
    dimension: int
    vectors: Mapping[str, FloatVector]

    @classmethod
    def initial(cls, terms: ServerTerms, dimension: int) -> OptimiserState:
        """Return the state before the first round: it holds nothing yet."""
        return cls(terms.optimiser, dimension, {})

    # R4.9.3
    @property
    def digest(self) -> str:
        """SHA-256, in hex, over optimiser, dimension and every value (little-endian, by name)."""
        found = hashlib.sha256(_DIGEST_LABEL + f"{self.optimiser}/{self.dimension}\0".encode())
        for name in sorted(self.vectors):
            found.update(name.encode() + b"\0")
            found.update(np.ascontiguousarray(self.vectors[name], dtype="<f4").view(np.uint8).data)
        return found.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the vectors beside the adapter that they belong to."""
        save_file(dict(self.vectors), folder / STATE_FILE)

    @classmethod
    def load(cls, folder: Path, terms: ServerTerms, dimension: int) -> OptimiserState:
        """Read a state that `save` wrote.

        Raises:
            ConfigError: The file is missing or does not hold this optimiser's state.
        """
        path = folder / STATE_FILE
        try:
            vectors = load_file(path)
        except (OSError, SafetensorError):
            raise ConfigError(f"{path}: is not a state of the server's optimiser") from None
        fits = set(vectors) in (set(), set(_VECTORS[terms.optimiser]))
        if not fits or any(v.shape != (dimension,) or v.dtype != np.float32 for v in vectors.values()):
            raise ConfigError(f"{path}: is the state of another optimiser or adapter")
        return cls(terms.optimiser, dimension, vectors)


@dataclass(frozen=True)
class ServerOptimiser:
    """The optimiser of one charter.

    Args:
        terms: Kind and decays.
        rate: The server's learning rate; > 0.
    """

    terms: ServerTerms
    rate: float

    def started(self, state: OptimiserState) -> OptimiserState:
        """Return a copy of a state that `step` may write into; before the first round its starting values.

        Raises:
            ValueError: The state is another optimiser's (the caller's mistake).
        """
        if state.optimiser != self.terms.optimiser:
            raise ValueError("the state belongs to another optimiser")
        if state.vectors:
            return OptimiserState(
                state.optimiser, state.dimension, {name: v.copy() for name, v in state.vectors.items()}
            )
        first = {"mean": np.float32(0.0), "square": self._adaptivity * self._adaptivity}
        vectors = {
            name: np.full(state.dimension, first[name], dtype=np.float32)
            for name in _VECTORS[self.terms.optimiser]
        }
        return OptimiserState(state.optimiser, state.dimension, vectors)

    @property
    def _adaptivity(self) -> np.float32:
        return np.float32((self.terms.adaptivity_micro or 0) / 1e6)

    def step(
        self, base: FloatVector, average: FloatVector, state: OptimiserState, *, first: int, out: FloatVector
    ) -> None:
        """Move some values of the adapter and of the state, chunk by chunk in the cache.

        Args:
            base: float32 `(k,)`, the values of the adapter from `first` on.
            average: float32 `(k,)`, their averaged update.
            state: From `started`; its values from `first` on are replaced.
            first: Where in the adapter these values lie.
            out: float32 `(k,)` that takes the next values; it may be `average` or `base`.
        """
        for start in range(0, base.shape[0], CHUNK_VALUES):
            part = slice(start, start + CHUNK_VALUES)
            size = base[part].shape[0]
            own = {name: v[first + start : first + start + size] for name, v in state.vectors.items()}
            out[part] = base[part] + np.float32(self.rate) * self._direction(average[part], own)

    def _direction(self, average: FloatVector, own: Mapping[str, FloatVector]) -> FloatVector:
        """Update the state of some values in place; returns where they move at rate 1."""
        # R4.9.1
        mean, decay = own["mean"], np.float32(self.terms.beta1_milli / 1000)
        if self.terms.optimiser == "momentum":
            _mix(mean, decay, average, np.float32(1.0))
            return mean
        square, slow = own["square"], np.float32((self.terms.beta2_milli or 0) / 1000)
        _mix(mean, decay, average, np.float32(1.0) - decay)
        _mix(square, slow, average * average, np.float32(1.0) - slow)
        return np.asarray(mean / (np.sqrt(square) + self._adaptivity), dtype=np.float32)


def _mix(old: NDArray[np.float32], keep: np.float32, new: FloatVector, take: np.float32) -> None:
    """Replace old by keep * old + take * new, with what is next to nothing taken for nothing."""
    # R4.9.2: three roundings in this order, and no subnormal numbers
    old *= keep
    old += take * new
    old[np.abs(old) < _LEAST] = 0.0
