"""Folders of base models to measure on: the shipped one, a given one, or random weights of a real shape.

What a step costs does not depend on what the weights say, so random ones of the published sizes measure the
profile on any machine; only its answers mean nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from fedmedlora_core.architectures import architecture
from fedmedlora_core.learning.base import quiet, reproducible
from fedmedlora_core.profile import Profile
from fedmedlora_core.shipped import shipped_base

__all__ = ["SMALL", "write_random"]

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
"""Sizes of a model of a published architecture that any machine can train."""


def write_random(profile: Profile, folder: Path, *, small: bool = False) -> Path:
    """Write a model of a profile's shape with random weights, and a tokenizer that fits into it.

    Args:
        profile: Names the architecture.
        folder: Where to.
        small: The architecture of a causal model with the sizes of `SMALL` and the tokenizer's vocabulary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = profile.base.architecture if profile.base else ""
    config = architecture(name)
    causal = profile.kind == "causal"
    if causal:
        shipped = json.loads((shipped_base() / "config.json").read_text(encoding="utf-8"))
        config |= {key: shipped[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config |= {**SMALL, "vocab_size": shipped["vocab_size"]} if small else {}
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(shipped_base() / file, folder / file)
    else:
        _write_letters(folder)
    kind: Any = AutoModelForCausalLM if causal else AutoModel
    dtype = torch.bfloat16 if profile.training.compute_dtype == "bf16" else torch.float32
    with reproducible(0), quiet():
        model = kind.from_config(AutoConfig.for_model(**config), dtype=dtype)
        model.save_pretrained(folder)
    return folder


def _write_letters(folder: Path) -> None:
    """A WordPiece vocabulary of single characters."""
    letters = [chr(code) for code in range(33, 127)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizerFast"}\n', encoding="utf-8"
    )
