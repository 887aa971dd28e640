"""The digest of a base model's folder: what a study names and every site checks before it loads anything.

Needs no torch, so that an agent can compare a folder with a study without loading the model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import rfc8785

from fedmedlora_core.errors import ConfigError

__all__ = ["base_digest", "model_files"]

_NAMES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_READ_BYTES = 1 << 20


def model_files(folder: Path) -> list[Path]:
    """List the files of a base model that decide what it computes, in name order.

    Raises:
        ConfigError: The folder holds no model in safetensors (the operator's).
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: is not a folder with a base model (config.json is missing)")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [path.name for pattern in _PICKLED for path in folder.glob(pattern)]
        found = f"only {pickled[0]}, and pickled weights are never loaded" if pickled else "no weights"
        raise ConfigError(f"{folder}: expected weights in safetensors, found {found}")
    index = sorted(folder.glob("*.safetensors.index.json"))
    named = [folder / name for name in _NAMES if (folder / name).is_file()]
    return sorted([*weights, *index, *named])


def base_digest(folder: Path) -> str:
    """SHA-256, in hex, of the canonical JSON {file name: SHA-256} over the files of a base model.

    Covers the configuration, the weights and the tokenizer: two sites with one digest compute the same
    function of the same text.

    Raises:
        ConfigError: The folder holds no model in safetensors (the operator's).
    """
    hashes = {path.name: _sha256(path) for path in model_files(folder)}
    return hashlib.sha256(rfc8785.dumps(hashes)).hexdigest()


def _sha256(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
