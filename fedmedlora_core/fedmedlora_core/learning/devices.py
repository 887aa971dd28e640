"""What a base model computes on, and the refusals where a machine lacks what a study asks for."""

from __future__ import annotations

from typing import Any, Literal

import torch

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.training_terms import TrainingTerms

__all__ = ["DeviceSetting", "device_for", "dtype_of", "nf4_settings"]

DeviceSetting = Literal["auto", "cpu", "cuda"]


def device_for(setting: DeviceSetting, terms: TrainingTerms, *, place: int = 0) -> str:
    """Choose the device of a process.

    Args:
        setting: What the operator says; "auto" takes a GPU where there is one and the study's base model is
            stored in less than float32, so that a small study computes the same on every machine.
        terms: Training of the study.
        place: Number of this process among those that train together at this site.

    Raises:
        ConfigError: There is no such GPU.
    """
    if setting == "cpu" or (setting == "auto" and not (terms.is_large and torch.cuda.is_available())):
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place >= count:
        raise ConfigError(
            f'trainer.device = "{setting}" needs {place + 1} CUDA GPUs; this machine has {count}'
        )
    return f"cuda:{place}"


def dtype_of(terms: TrainingTerms) -> torch.dtype:
    """Type of the frozen base model in memory."""
    return torch.bfloat16 if terms.compute_dtype == "bf16" else torch.float32


def nf4_settings(device: str) -> Any:
    """Settings of transformers for QLoRA: four bits (NF4) a weight of a linear layer, computed in bfloat16.

    Raises:
        ConfigError: Here is no CUDA GPU, or the library is not installed.
    """
    if not torch.cuda.is_available():
        raise ConfigError('quantisation = "nf4" needs a CUDA GPU, and this machine has none')
    if not device.startswith("cuda"):
        raise ConfigError(
            f'quantisation = "nf4" needs a CUDA GPU; set trainer.device to "cuda", not "{device}"'
        )
    try:
        import bitsandbytes  # noqa: F401 - transformers uses it, and says less clearly that it is missing
    except ImportError:
        raise ConfigError(
            'quantisation = "nf4" needs the library bitsandbytes: pip install "fedmedlora[gpu]"'
        ) from None
    import transformers

    settings: Any = transformers.BitsAndBytesConfig  # it has no types
    return settings(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
