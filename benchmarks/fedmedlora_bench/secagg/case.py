"""What one measurement of secure aggregation is of: sizes, sites, drop-outs and the sites' updates."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg import HYBRID_SUITE, quorum

LLAMA_3_8B_ADAPTER = 41_943_040
"""Values of a LoRA adapter of rank 16 on all linear layers of a model of Llama-3-8B's shape."""

_SPREAD = 0.004  # standard deviation of a value of an update
_CLIP = 3.3 * _SPREAD  # one value in a thousand lies beyond
_DRAWN_AT_ONCE = 1 << 22
_VECTORS = "updates.f32"


@dataclass(frozen=True)
class Case:
    """One set of conditions, the same for both sides.

    Args:
        params: Values d of the adapter; >= 1.
        sites: Members n of the study; 3 to 128.
        drop: Sites that fall silent after dealing their shares, so that their pair masks dangle.
        wire_bits: Ring width on our wire: 16, 24 or 32.
        threads: Worker threads on our side.
        suite: Key agreement of our side, as the charter names it.
        clip: Largest magnitude of one value on both sides.
        weight_max: Largest weight on both sides.
        folder: Where the updates and our uploads lie while it runs.
        seed: Seed of the updates.

    Raises:
        ConfigError: No session can run under these conditions (the caller's mistake).
    """

    params: int = LLAMA_3_8B_ADAPTER
    sites: int = 8
    drop: int = 1
    wire_bits: int = 32
    threads: int = 1
    suite: str = HYBRID_SUITE
    clip: float = _CLIP
    weight_max: int = 1000
    folder: str = ""
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse conditions under which there is nothing to measure."""
        if self.params < 1 or not 3 <= self.sites <= 128 or self.threads < 1:
            raise ConfigError("at least 1 value, 3 to 128 sites and 1 thread")
        if self.wire_bits not in (16, 24, 32):
            raise ConfigError("the wire is 16, 24 or 32 bits wide")
        if not 0 <= self.drop <= self.sites - self.threshold:
            raise ConfigError(
                f"with {self.sites} sites and threshold {self.threshold} at most "
                f"{self.sites - self.threshold} can drop out"
            )

    @property
    def colluding(self) -> int:
        """Sites that may collude with the coordinator: a third, the default of a study."""
        return self.sites // 3

    @property
    def threshold(self) -> int:
        """Sites needed at every step, on both sides."""
        return quorum(self.sites, self.colluding)

    @property
    def clip_norm(self) -> float:
        """Largest L2 norm of an update: as large as the clip allows anyway, since the peer has none."""
        return self.clip * math.sqrt(self.params)

    @property
    def dropped(self) -> tuple[int, ...]:
        """The sites that drop out: the last ones; sites count from 1."""
        return tuple(range(self.sites - self.drop + 1, self.sites + 1))

    @property
    def survivors(self) -> tuple[int, ...]:
        """The sites whose updates are in the sum."""
        return tuple(range(1, self.sites - self.drop + 1))

    @property
    def vectors(self) -> Path:
        """File with the updates of all sites, one after the other, float32 in the machine's order."""
        return Path(self.folder) / _VECTORS

    def weight(self, site: int) -> int:
        """Weight of a site; half of the largest at least, and no two alike."""
        return self.weight_max // 2 + (site * self.weight_max) // (2 * self.sites)

    def update(self, site: int) -> FloatVector:
        """Read the update of one site into memory."""
        update = np.empty(self.params, dtype=np.float32)
        self.read_update(site, update)
        return update

    def read_update(self, site: int, update: FloatVector) -> None:
        """Read the update of one site into place."""
        with self.vectors.open("rb") as file:
            file.seek(self._offset(site))
            file.readinto(update.view(np.uint8).data)

    def draw_updates(self) -> None:
        """Draw the updates of all sites and write them; the same seed gives the same file."""
        generator = np.random.default_rng(self.seed)
        with self.vectors.open("wb") as file:
            for _ in range(self.sites):
                for start in range(0, self.params, _DRAWN_AT_ONCE):
                    count = min(_DRAWN_AT_ONCE, self.params - start)
                    values = generator.standard_normal(count, dtype=np.float32)
                    np.multiply(values, np.float32(_SPREAD), out=values)
                    file.write(values.data)

    def deviation(self, mean: FloatVector) -> float:
        """Return the largest deviation of a mean from the exact weighted mean of the survivors' updates.

        Left out are values that a site's clip changed, since the two sides clip at different places: we the
        update, the peer the weighted update.

        Args:
            mean: The first values of a decoded mean.
        """
        total, within = np.zeros(len(mean), dtype=np.float64), np.ones(len(mean), dtype=np.bool_)
        for site in self.survivors:
            update = np.fromfile(self.vectors, np.float32, count=len(mean), offset=self._offset(site))
            within &= np.abs(update) <= np.float32(self.clip)
            total += self.weight(site) * update.astype(np.float64)
        exact = total / sum(map(self.weight, self.survivors))
        return float(np.abs(mean - exact)[within].max(initial=0.0))

    def to_json(self) -> str:
        """Return what a child process is started with."""
        return json.dumps(
            asdict(self)
            | {
                "threshold": self.threshold,
                "survivors": self.survivors,
                "weights": [self.weight(site) for site in range(1, self.sites + 1)],
                "vectors": str(self.vectors),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})

    def _offset(self, site: int) -> int:
        return (site - 1) * self.params * np.dtype(np.float32).itemsize


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
