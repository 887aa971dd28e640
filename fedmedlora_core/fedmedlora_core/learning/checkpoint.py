"""The state of a training that was interrupted: enough to end with the bytes of one that was not.

A state is safetensors: three vectors in the order of the trainable parameters (values, first and second
moments of AdamW) and where the loop stood. The order of the examples follows from the seed, and nothing in
training draws random numbers besides, so the position is a number of steps. A state carries the digest of
everything that decides the result; one of another job is not taken.

Where states are kept is the caller's business: at a site they lie encrypted in its vault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

__all__ = ["CheckpointStore", "Position", "job_digest", "restore", "snapshot"]

_VECTORS = ("values", "first", "second")


class CheckpointStore(Protocol):
    """Where the states of one training are kept."""

    def read(self) -> bytes | None:
        """The last state, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to write another."""
        ...

    def write(self, state: bytes) -> None:
        """Keep a state durably in place of the one before."""
        ...


@dataclass
class Position:
    """Where the loop stands: losses of the steps taken, and answer tokens seen."""

    losses: list[float]
    tokens: int

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.losses)


def job_digest(parts: Iterable[object]) -> bytes:
    """SHA-256 over the representation of everything that decides the result of a training."""
    digest = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(text).to_bytes(8, "big"))
        digest.update(text)
    return digest.digest()


def snapshot(
    job: bytes, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer, position: Position
) -> bytes:
    """Write down the state after a step."""
    moments = [optimizer.state[parameter] for parameter in parameters]
    return save(
        {
            "job": np.frombuffer(job, dtype=np.uint8),
            "losses": np.array(position.losses, dtype=np.float64),
            "tokens": np.array([position.tokens], dtype=np.int64),
            "values": _flat(parameter.detach() for parameter in parameters),
            "first": _flat(state["exp_avg"] for state in moments),
            "second": _flat(state["exp_avg_sq"] for state in moments),
        }
    )


def restore(
    state: bytes,
    job: bytes,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> Position | None:
    """Put a state back into parameters and optimiser.

    Returns:
        The position, or None if the state is that of another job or damaged; nothing was changed then.
    """
    try:
        found = load(state)
        fits = found["job"].tobytes() == job
        sizes = {found[name].size for name in _VECTORS} if fits else set()
        position = Position(found["losses"].tolist(), int(found["tokens"][0]))
    except (SafetensorError, KeyError, IndexError, ValueError):
        return None
    if sizes != {sum(parameter.numel() for parameter in parameters)}:
        return None
    start = 0
    with torch.no_grad():
        for parameter in parameters:
            stop = start + parameter.numel()
            values, first, second = (_part(found[name][start:stop], parameter) for name in _VECTORS)
            parameter.copy_(values)
            steps = torch.tensor(float(position.steps))
            optimizer.state[parameter] = {"step": steps, "exp_avg": first, "exp_avg_sq": second}
            start = stop
    return position


def _flat(tensors: Iterable[torch.Tensor]) -> NDArray[np.float32]:
    """One float32 vector of several tensors."""
    parts: list[Any] = [tensor.to("cpu", torch.float32).reshape(-1).numpy() for tensor in tensors]
    return np.concatenate(parts)


def _part(vector: NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    """A piece of a vector in the shape, type and place of a parameter."""
    return torch.from_numpy(np.array(vector)).view(like.shape).to(like.device, like.dtype)
