"""Shape of the base model and the files it is shipped in."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from fedmedlora_core.pretraining.tokenizer import VOCABULARY_SIZE, save_tokenizer, token_id

__all__ = ["build_model", "model_config", "save_model"]


def model_config(tokenizer: Tokenizer) -> LlamaConfig:
    """Return the configuration: LLaMA, 4 layers of 128, tied embeddings, 0.95 million parameters."""
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        num_hidden_layers=4,
        intermediate_size=384,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.04,
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, "<|end|>"),
        pad_token_id=token_id(tokenizer, "<|pad|>"),
    )


def build_model(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """Return a freshly initialised model in float32; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(model_config(tokenizer))


def save_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the weights (bfloat16, safetensors), configuration and tokenizer to ``folder``.

    Copying is as exact with the rounded weights as with float32, at half the size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = LlamaForCausalLM(model_config(tokenizer)).bfloat16()
    shipped.load_state_dict({name: value.to(torch.bfloat16) for name, value in model.state_dict().items()})
    shipped.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        eos_token_id=token_id(tokenizer, "<|end|>"),
        pad_token_id=token_id(tokenizer, "<|pad|>"),
    )
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    shipped.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
