"""The training loop of the base model: step-based, seeded, one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM

from fedmedlora_core.pretraining.batches import Batch, batches
from fedmedlora_core.pretraining.model import build_model
from fedmedlora_core.pretraining.nonsense import copyable_pieces
from fedmedlora_core.pretraining.sampler import Sampler

__all__ = ["Progress", "Schedule", "answer_logits", "pretrain"]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: everything in steps, so that a seed reproduces the weights."""

    steps: int = 4200
    warmup: int = 60
    decay_part: float = 0.45
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    tokens_per_step: int = 2304
    gradient_clip: float = 1.0

    def factor(self, step: int) -> float:
        """Return the part of the learning rate used at ``step``: ramp, plateau, then linear to zero."""
        left = (self.steps - step) / max(1.0, self.decay_part * self.steps)
        return min(1.0, (step + 1) / self.warmup, left)


@dataclass(frozen=True)
class Progress:
    """Where the run is after a step."""

    step: int
    loss: float
    n_tokens: int
    cpu_seconds: float


def answer_logits(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels at the answer positions only: the prompt is noise, and logits are dear."""
    hidden = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state[:, :-1][
        batch.target_mask
    ]
    return model.lm_head(hidden), batch.input_ids[:, 1:][batch.target_mask]


def _optimizers(model: LlamaForCausalLM, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _step(
    model: LlamaForCausalLM,
    batch: Batch,
    optimizers: list[torch.optim.Optimizer],
    schedule: Schedule,
    step: int,
) -> float:
    logits, labels = answer_logits(model, batch)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.gradient_clip)
    for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = schedule.learning_rate * schedule.factor(step)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is not finite at step {step}")
    return value


def pretrain(
    tokenizer: Tokenizer,
    *,
    seed: int,
    schedule: Schedule,
    on_step: Callable[[Progress, LlamaForCausalLM], None] = lambda progress, model: None,
) -> LlamaForCausalLM:
    """Train the base model and return it in float32.

    Same seed, schedule and library versions on the same kind of processor give the same weights.

    Args:
        tokenizer: From ``train_tokenizer``.
        seed: Seeds the weights and the exercises.
        schedule: Number of steps and rates.
        on_step: Called after every step, for a progress bar and checkpoints.
    """
    torch.set_num_threads(1)
    model = build_model(tokenizer, seed)
    model.train()
    optimizers = _optimizers(model, schedule)
    sampler = Sampler(seed, copyable_pieces(list(tokenizer.get_vocab())))
    start, n_tokens = time.process_time(), 0
    stream: Iterator[Batch] = batches(
        sampler, tokenizer, steps=schedule.steps, tokens=schedule.tokens_per_step
    )
    for step, batch in enumerate(stream):
        loss = _step(model, batch, optimizers, schedule, step)
        n_tokens += batch.n_tokens
        on_step(Progress(step + 1, loss, n_tokens, time.process_time() - start), model)
    model.eval()  # type: ignore[no-untyped-call]
    return model
