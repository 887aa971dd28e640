"""The global adapter as data: a PEFT folder, a flat trainable vector and one digest (PROTOCOL §2.4).

An adapter has frozen tensors (with FFA-LoRA the A matrices, drawn once from the study's seed) and
trainable ones (the B matrices, and a classifier where the base model is an encoder). Only the trainable
values travel, flattened in name order. The digest binds names, shapes, the frozen values and the trainable
ones, so two parties with one digest hold the same adapter to the bit.

Needs numpy and safetensors, not torch: the coordinator and the verifier compute the same digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import ConfigError, NonFiniteError

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
TRAINABLE_FILE = "trainable.json"
_DIGEST_LABEL = b"fedmedlora/v1/adapter\0"


@dataclass(frozen=True)
class Adapter:
    """Named float32 tensors of one adapter, the names that train, and its PEFT configuration.

    Args:
        tensors: Name to float32 array, names as PEFT saves them.
        trainable: Names whose values travel; a subset of `tensors`.
        config: The content of `adapter_config.json`.
    """

    tensors: Mapping[str, NDArray[np.float32]]
    trainable: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names without tensors and values that are not float32."""
        missing = [name for name in self.trainable if name not in self.tensors]
        if missing or list(self.trainable) != sorted(set(self.trainable)):
            raise ConfigError("the adapter's trainable names must be sorted names of its tensors")
        if any(tensor.dtype != np.float32 for tensor in self.tensors.values()):
            raise ConfigError("the adapter's tensors must be float32")

    @property
    def dimension(self) -> int:
        """Number of trainable values."""
        return sum(self.tensors[name].size for name in self.trainable)

    def vector(self) -> FloatVector:
        """Flatten the trainable tensors in name order into float32 `(dimension,)`."""
        if not self.trainable:
            return np.zeros(0, dtype=np.float32)
        return np.concatenate([self.tensors[name].ravel() for name in self.trainable])

    def segments(self) -> Iterator[tuple[int, int, FloatVector]]:
        """Walk through `vector()` without building it: (first, last + 1, values) of each trainable tensor."""
        first = 0
        for name in self.trainable:
            values = self.tensors[name].ravel()
            yield first, first + values.size, values
            first += values.size

    def with_vector(self, vector: FloatVector) -> Adapter:
        """Return an adapter whose trainable tensors are views of `vector`, which must not change afterwards.

        Args:
            vector: float32 of shape `(dimension,)`.

        Raises:
            ValueError: The length differs (the caller's mistake).
            NonFiniteError: A value is not finite.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"expected {self.dimension} values, got shape {vector.shape}")
        # NaN passes through both extremes; a vector of flags would cost a quarter of the vector.
        if vector.size and not (np.isfinite(vector.min()) and np.isfinite(vector.max())):
            raise NonFiniteError("an adapter value is not finite")
        tensors = dict(self.tensors)
        start = 0
        for name in self.trainable:
            shape = self.tensors[name].shape
            size = self.tensors[name].size
            tensors[name] = vector[start : start + size].astype(np.float32, copy=False).reshape(shape)
            start += size
        return Adapter(tensors, self.trainable, self.config)

    @property
    def layout_digest(self) -> bytes:
        """SHA-256 over names, shapes, trainable names and the frozen values (32 bytes)."""
        frozen = hashlib.sha256()
        for name in sorted(self.tensors):
            if name not in self.trainable:
                frozen.update(_little_endian(self.tensors[name].ravel()))
        layout: dict[str, Any] = {
            "tensors": [[name, list(self.tensors[name].shape)] for name in sorted(self.tensors)],
            "trainable": list(self.trainable),
            "frozen": frozen.hexdigest(),
        }
        return hashlib.sha256(rfc8785.dumps(layout)).digest()

    def digest_of(self, vector: FloatVector) -> str:
        """Digest, in hex, of this layout with `vector` as its trainable values (PROTOCOL §2.4)."""
        return self._digest([vector])

    @property
    def digest(self) -> str:
        """Digest, in hex, of this adapter."""
        return self._digest(values for _, _, values in self.segments())

    def _digest(self, parts: Iterable[FloatVector]) -> str:
        """Hash the values where they lie: no second vector."""
        found = hashlib.sha256(_DIGEST_LABEL + self.layout_digest)
        for part in parts:
            found.update(_little_endian(part))
        return found.hexdigest()

    def save(self, folder: Path) -> None:
        """Write a PEFT folder: configuration, safetensors and the list of trainable names."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(t) for name, t in self.tensors.items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n")
        (folder / TRAINABLE_FILE).write_text(json.dumps(list(self.trainable), indent=0) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """Read a PEFT folder written by `save`.

        Raises:
            ConfigError: A file is missing or malformed (the operator's).
        """
        try:
            tensors = load_file(folder / WEIGHTS_FILE)
            config = json.loads((folder / CONFIG_FILE).read_text())
            trainable = json.loads((folder / TRAINABLE_FILE).read_text())
        except FileNotFoundError as exc:
            raise ConfigError(f"{exc.filename or folder}: no such file; is this an adapter folder?") from None
        except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError):
            raise ConfigError(f"{folder}: is not an adapter folder written by fedmedlora") from None
        if not isinstance(config, dict) or not isinstance(trainable, list):
            raise ConfigError(f"{folder}: is not an adapter folder written by fedmedlora")
        return cls(tensors, tuple(trainable), config)


def _little_endian(values: FloatVector) -> memoryview:
    """Bytes of a float32 vector in little-endian order, viewed where they lie if they lie so."""
    return np.ascontiguousarray(values, dtype="<f4").view(np.uint8).data
