"""A bare PEFT training loop, as a reader would write it, and ours beside it on the same batches.

Both train a copy of one model with one adapter, step by step in turn, so that what else the machine does
falls on both alike; on a processor the seconds are those of its work, not of the clock. The bare loop lets
the model compute its own loss from padded batches and labels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.decode import greedy
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.recomputing import recomputed
from fedmedlora_core.learning.team import ALONE
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import TrainingLoop, bucketed_batches

__all__ = ["bare_step", "compare_decoding", "compare_steps"]

IGNORED = -100
"""Label that transformers leaves out of its loss."""


def compare_steps(
    make: Callable[[], Learner], samples_of: Callable[[Learner], list[Any]], terms: TrainTerms, *, steps: int
) -> dict[str, Any]:
    """Time our step and a bare one on the same batches, in turn.

    Args:
        make: Loads the model with its adapter; called twice.
        samples_of: Tokenised examples.
        terms: Batch size and rates.
        steps: Steps that count; two more warm up.

    Returns:
        Median seconds of each, the median of the ratios of neighbours, and the losses of the first step.
    """
    ours, bare = make(), make()
    clock = _clock(ours)
    batches = bucketed_batches(samples_of(ours), terms.step_size, np.random.default_rng(0))
    batches = (batches * (1 + (steps + 2) // max(1, len(batches))))[: steps + 2]
    loop = TrainingLoop(ours, terms, ALONE)
    parameters = [p for p in bare.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=terms.learning_rate, weight_decay=terms.weight_decay)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    losses: dict[str, list[float]] = {"ours": [], "bare": []}
    with reproducible(0), fused(ours.model), recomputed(ours.model, wanted=terms.recompute):
        for number, batch in enumerate(batches):
            sides: dict[str, Callable[[], float]] = {
                "ours": partial(loop.step, batch, terms.learning_rate),
                "bare": partial(
                    bare_step,
                    bare.model,
                    batch,
                    optimizer,
                    parameters,
                    clip=terms.gradient_clip,
                    pad_id=bare.tokenizer.pad_token_id,
                ),
            }
            for name in list(sides)[:: 1 if number % 2 else -1]:
                begin = clock()
                losses[name].append(sides[name]())
                seconds[name].append(clock() - begin)
    own, other = seconds["ours"][2:], seconds["bare"][2:]
    return {
        "steps": steps,
        "batch_size": terms.batch_size,
        "tokens_per_step": statistics.mean(sum(s.length for s in batch) for batch in batches),
        "our_seconds": statistics.median(own),
        "bare_seconds": statistics.median(other),
        "ratio": statistics.median(a / b for a, b in zip(own, other, strict=True)),
        "total_ratio": sum(own) / sum(other),
        "loss_difference": abs(losses["ours"][0] - losses["bare"][0]),
    }


def _clock(learner: Learner) -> Callable[[], float]:
    """Seconds of this process's work on a processor, of the clock on a GPU."""
    return time.process_time if str(learner.model.device) == "cpu" else time.perf_counter


def bare_step(
    model: Any, batch: Sequence[Any], optimizer: Any, parameters: Sequence[Any], *, clip: float, pad_id: int
) -> float:
    """One step of PEFT and torch alone.

    Args:
        model: A PEFT model, or Accelerate's wrapper around one.
        batch: Tokenised examples.
        optimizer: Of the parameters that train.
        parameters: These.
        clip: Longest gradient.
        pad_id: Token of the padding.

    Returns:
        The loss.
    """
    width = max(sample.length for sample in batch)
    ids_bt = torch.full((len(batch), width), pad_id, dtype=torch.long)
    labels_bt = torch.full((len(batch), width), IGNORED, dtype=torch.long)
    mask_bt = torch.zeros((len(batch), width), dtype=torch.long)
    for row, sample in enumerate(batch):
        ids_bt[row, : sample.length] = torch.tensor(sample.ids)
        mask_bt[row, : sample.length] = 1
        if hasattr(sample, "places"):
            labels_bt[row, list(sample.places)] = torch.tensor(sample.gold)
        else:
            labels_bt[row, sample.answer_start : sample.length] = torch.tensor(
                sample.ids[sample.answer_start :]
            )
    optimizer.zero_grad(set_to_none=True)
    device = model.device
    batch_bt = {"input_ids": ids_bt, "attention_mask": mask_bt, "labels": labels_bt}
    loss = model(**{name: part.to(device) for name, part in batch_bt.items()}).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    return float(loss.detach())


def compare_decoding(
    learner: GenerativeLearner, prompts: Sequence[Sequence[int]], *, tokens: int
) -> dict[str, Any]:
    """Answer the same prompts together and one by one, in turn; answers must be equal."""
    clock = _clock(learner)
    seconds: dict[int, list[float]] = {len(prompts): [], 1: []}
    outputs: dict[int, list[list[int]]] = {}
    for repeat in range(2):
        for size in list(seconds)[:: 1 if repeat % 2 else -1]:
            begin = clock()
            found = greedy(
                learner.model,
                prompts,
                end_id=-1,  # no token: every answer has its full length, and both sides do the same work
                pad_id=learner.tokenizer.pad_token_id,
                limits=[tokens] * len(prompts),
                batch_size=size,
            )
            seconds[size].append(clock() - begin)
            outputs[size] = [output.ids for output in found]
    together, single = (statistics.median(seconds[size]) for size in (len(prompts), 1))
    written = sum(len(ids) for ids in outputs[1])
    equal = sum(a == b for a, b in zip(outputs[1], outputs[len(prompts)], strict=True))
    return {
        "prompts": len(prompts),
        "tokens": written,
        "batched_tokens_per_second": written / together,
        "single_tokens_per_second": written / single,
        "ratio": single / together,
        "equal_answers": equal / len(prompts),
    }
