"""Configurations of the published base models that profiles are named after: sizes, without weights.

They say which folder a profile fits, and let costs be computed on a machine that has none of the weights.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from fedmedlora_core.errors import ConfigError

__all__ = ["architecture", "architecture_names", "check_architecture"]

_SIZES = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def architecture_names() -> list[str]:
    """Names of the shipped configurations."""
    folder = resources.files("fedmedlora_core") / "architecture_files"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir())


def architecture(name: str) -> dict[str, Any]:
    """Configuration of a published model, as its `config.json` has it.

    Raises:
        ConfigError: There is none of that name (the operator's).
    """
    if name not in architecture_names():
        raise ConfigError(f"there is no architecture '{name}': {', '.join(architecture_names())}")
    file = resources.files("fedmedlora_core") / "architecture_files" / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def check_architecture(name: str, folder: Path) -> None:
    """Refuse a base model's folder whose sizes are not those of the named model.

    Raises:
        ConfigError: It is another model, or no model (the operator's).
    """
    wanted, file = architecture(name), folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: is not the configuration of a base model")
    for key in _SIZES:
        if key in wanted and found.get(key) != wanted[key]:
            raise ConfigError(
                f"{folder}: is not the base model of the profile: {key} is {found.get(key)!r},"
                f" and that of {name} is {wanted[key]!r}"
            )
