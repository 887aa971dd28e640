"""Batches of similar length under a token budget, so that little of a step is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from fedmedlora_core.pretraining.sampler import EXTRA_COPY_SHARE, Sample, Sampler
from fedmedlora_core.pretraining.tokenizer import token_id

__all__ = ["Batch", "batches", "encode", "to_batch"]

_POOL = 384
_LONGEST = 320


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids and the positions whose *next* token is part of an answer."""

    input_ids: torch.Tensor  # [rows, length]
    target_mask: torch.Tensor  # [rows, length - 1], True where the next token counts
    tasks: tuple[str, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of the batch, padding included: what a step costs."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class _Row:
    task: str
    ids: list[int]
    n_prompt: int


def encode(tokenizer: Tokenizer, samples: Sequence[Sample]) -> list[_Row]:
    """Tokenize prompts and targets; the prompt ends in a control token, so the two join without a merge."""
    prompts = tokenizer.encode_batch([sample.prompt for sample in samples])
    targets = tokenizer.encode_batch([sample.target for sample in samples])
    return [
        _Row(sample.task, prompt.ids + target.ids, len(prompt.ids))
        for sample, prompt, target in zip(samples, prompts, targets, strict=True)
    ]


def to_batch(rows: Sequence[_Row], pad_id: int) -> Batch:
    """Pad ``rows`` on the right. A causal model never looks right, so no attention mask is needed."""
    length = max(len(row.ids) for row in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), length - 1), dtype=torch.bool)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, row.n_prompt - 1 : len(row.ids) - 1] = True
    return Batch(input_ids, mask, tuple(row.task for row in rows))


def _grouped(rows: list[_Row], budget: int) -> Iterator[list[_Row]]:
    """Cut rows sorted by length into groups whose padded size stays within ``budget``."""
    group: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if group and (len(group) + 1) * len(row.ids) > budget:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def batches(sampler: Sampler, tokenizer: Tokenizer, *, steps: int, tokens: int) -> Iterator[Batch]:
    """Yield exactly ``steps`` batches of about ``tokens`` tokens, easy ones first.

    For the first 30 % of the steps there is more copying and sentences grow from short to full length.
    """
    pad_id = token_id(tokenizer, "<|pad|>")
    order = torch.Generator().manual_seed(steps)
    done = 0
    while done < steps:
        warming = done < 0.3 * steps
        length = min(1.0, 0.25 + 0.75 * done / (0.3 * steps))
        extra = EXTRA_COPY_SHARE if warming else 0.0
        samples = [sampler.draw(extra_copy=extra, length=length) for _ in range(_POOL)]
        rows = [row for row in encode(tokenizer, samples) if len(row.ids) <= _LONGEST]
        groups = [group for group in _grouped(rows, tokens)]
        for index in torch.randperm(len(groups), generator=order).tolist()[: steps - done]:
            yield to_batch(groups[index], pad_id)
            done += 1
