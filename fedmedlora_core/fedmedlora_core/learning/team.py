"""Several processes of one site that train one adapter together, each on a GPU of its own.

Every process holds the whole base model and takes its share of each step's examples; the gradients of the
adapter, a small part of the model, are added up once a step. A step is thus the same on any number of
processes up to rounding, and its loss is the mean over all of its answer tokens: how many GPUs a hospital has
changes nothing in the study.

Accelerate adds the gradients up. Its wrapper around the model is not used: it synchronises in the model's own
forward, and the learners call parts of the model to compute logits at answer positions only.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fedmedlora_core.errors import ConfigError

__all__ = ["ALONE", "Team", "join_team"]


class Team:
    """A process that trains alone.

    Attributes:
        place: Number of this process, from 0.
        size: Number of processes.
    """

    place: int = 0
    size: int = 1

    def share(self, batch: Sequence[Any]) -> Sequence[Any]:
        """The examples of a step that this process computes."""
        return batch

    def add_up(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Add up the gradients of all processes in place; returns the sum of their losses."""
        return loss


ALONE = Team()


class _Processes(Team):
    """One of several processes."""

    def __init__(self, place: int, size: int, accelerator: Any) -> None:
        self.place = place
        self.size = size
        self._accelerator = accelerator

    def share(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Every `size`-th example, so that lengths are spread evenly."""
        return batch[self.place :: self.size]

    def add_up(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Add gradients and loss up in one exchange."""
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([*(part.reshape(-1) for part in parts), loss.detach().reshape(1).to(parts[0])])
        total: torch.Tensor = self._accelerator.reduce(flat, reduction="sum")
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.grad = total[start:stop].view_as(parameter)
            start = stop
        return total[-1]


def join_team(place: int, size: int, meeting: Path, *, device: str) -> Team:
    """Meet the other processes of this site; waits until all are there.

    Args:
        place: Number of this process, from 0.
        size: Number of processes; 1 trains alone and needs no library.
        meeting: A file in a private folder that all of them name, and that is new for each team.
        device: Where this process computes.

    Raises:
        ConfigError: The library is missing.
    """
    if size == 1:
        return ALONE
    if importlib.util.find_spec("accelerate") is None:
        raise ConfigError('several processes need the library accelerate: pip install "fedmedlora[gpu]"')
    from accelerate import Accelerator

    on_cpu = device == "cpu"
    os.environ.update(
        RANK=str(place), WORLD_SIZE=str(size), LOCAL_RANK=str(place), LOCAL_WORLD_SIZE=str(size)
    )
    if not on_cpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "gloo" if on_cpu else "nccl", init_method=f"file://{meeting.resolve()}", rank=place, world_size=size
    )
    return _Processes(place, size, Accelerator(cpu=on_cpu))
