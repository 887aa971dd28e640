"""What `bench step` measures, and what is refused before 16 GB of weights are written for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.devices import DeviceSetting, device_for, nf4_settings
from fedmedlora_core.profile import Profile

__all__ = ["StepPlan"]

_GPU: DeviceSetting = "cuda"


@dataclass(frozen=True)
class StepPlan:
    """One measurement.

    Args:
        profile: Name of a profile that was made for a published causal model.
        base: Folder of the base model; None for random weights of its published sizes.
        small: A model of the same architecture with few parameters, without NF4: rehearses the command on a
            processor.
        processes: Processes that train together, each on a GPU of its own (Accelerate).
        shard: Spread the frozen layers over the processes (FSDP) instead of one copy for each.
        rows: Sequences of a step for each process; the profile's when None.
        tokens: Tokens of each sequence; the profile's most when None.
        steps: Steps that count; two more warm up.
    """

    profile: str
    base: Path | None = None
    small: bool = False
    processes: int = 1
    shard: bool = False
    rows: int | None = None
    tokens: int | None = None
    steps: int = 10

    def settings(self) -> Profile:
        """The profile with what the plan changes.

        Raises:
            ConfigError: There is no such profile, or it is not made for a published causal model.
        """
        profile = Profile.load(self.profile)
        if profile.base is None or profile.kind != "causal":
            raise ConfigError(f"'{self.profile}' is not made for a published causal model; see bench cost")
        changes: dict[str, object] = {"training__quantisation": None} if self.small else {}
        if self.rows is not None:
            changes["training__batch_size"] = self.rows
        if self.tokens is not None:
            changes["training__max_tokens"] = self.tokens
        return profile.override(**changes)

    def devices(self, profile: Profile) -> list[str]:
        """Where each process computes.

        Raises:
            ConfigError: This machine has too few GPUs or lacks a library, or the plan does not fit together.
        """
        if self.shard and self.processes == 1:
            raise ConfigError("--shard spreads layers over processes: give --processes 2 or more")
        if self.small:
            return ["cpu"] * self.processes
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                f"'{self.profile}' is measured on a CUDA GPU, and this machine has none;"
                " --small rehearses the command on a processor"
            )
        if self.shard and profile.training.quantisation is not None:
            raise ConfigError("--shard does not spread layers of four bits (NF4): they fit one GPU")
        device_for(_GPU, profile.training, place=self.processes - 1)
        if profile.training.quantisation == "nf4":
            nf4_settings(_GPU)
        return [device_for(_GPU, profile.training, place=place) for place in range(self.processes)]
