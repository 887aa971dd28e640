"""What ships inside the package: the tiny base model's folder."""

from __future__ import annotations

from pathlib import Path


def shipped_base() -> Path:
    """Folder of the tiny base model (config, tokenizer, safetensors) that the demo and the tests run on."""
    return Path(__file__).parent / "base_model"
