"""How well the model does its own exercises, on exercises it never saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from fedmedlora_core.pretraining.batches import encode, to_batch
from fedmedlora_core.pretraining.nonsense import copyable_pieces
from fedmedlora_core.pretraining.sampler import SHARES, Sampler
from fedmedlora_core.pretraining.tokenizer import token_id
from fedmedlora_core.pretraining.training import answer_logits

__all__ = ["TaskScore", "score_tasks"]

_HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True)
class TaskScore:
    """Share of right tokens, and of answers right from the first token to the last."""

    token_accuracy: float
    exact: float


def score_tasks(
    model: LlamaForCausalLM, tokenizer: Tokenizer, *, count: int = 64, tasks: Iterable[str] = tuple(SHARES)
) -> dict[str, TaskScore]:
    """Score ``count`` unseen exercises of each task.

    An answer whose every token is the most likely one given the right beginning is the answer greedy
    decoding gives, so ``exact`` is also the greedy exact rate.
    """
    pieces = copyable_pieces(list(tokenizer.get_vocab()))
    pad_id = token_id(tokenizer, "<|pad|>")
    scores = {}
    for task in tasks:
        sampler = Sampler(_HELD_OUT_SEED, pieces)
        batch = to_batch(encode(tokenizer, [sampler.of_task(task) for _ in range(count)]), pad_id)
        with torch.inference_mode():
            logits, labels = answer_logits(model, batch)
        right = torch.ones_like(batch.target_mask)
        right[batch.target_mask] = logits.argmax(-1) == labels
        accuracy = float(right[batch.target_mask].float().mean())
        scores[task] = TaskScore(accuracy, float(right.all(dim=1).float().mean()))
    return scores
