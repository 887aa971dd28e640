"""Greedy decoding of a batch with a key-value cache; a finished row is frozen at once and dropped soon.

Shapes, as suffixes of names: b rows still in the batch, t tokens seen so far, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache

from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.merging import merged

__all__ = ["Output", "greedy"]

_DROP_SHARE = 8
"""A batch is repacked once one row in eight has finished: copying the cache costs about one step."""


@dataclass
class Output:
    """Token ids of one answer, without the end mark; `ended` is False if it ran into its limit."""

    ids: list[int] = field(default_factory=list)
    ended: bool = False


def greedy(
    model: PeftModel,
    prompts: Sequence[Sequence[int]],
    *,
    end_id: int,
    pad_id: int,
    limits: Sequence[int],
    batch_size: int,
    on_done: Callable[[int, int], None] | None = None,
) -> list[Output]:
    """Decode the most likely next token until each row's end mark or limit.

    Args:
        model: A causal model with an adapter.
        prompts: Token ids of each prompt, not empty.
        end_id: Token that ends an answer.
        pad_id: Token that fills the left of short prompts.
        limits: Most new tokens of each row; at least 1.
        batch_size: Rows decoded together.
        on_done: Called with (rows done, all rows) after each batch.

    Returns:
        One output for each prompt, in order; batch mates do not change a row's answer.
    """
    outputs = [Output() for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with torch.inference_mode(), reproducible(0), merged(model):
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            _decode_batch(model, prompts, rows, outputs, (end_id, pad_id), limits)
            if on_done is not None:
                on_done(first + len(rows), len(order))
    return outputs


def _decode_batch(
    model: PeftModel,
    prompts: Sequence[Sequence[int]],
    rows: list[int],
    outputs: list[Output],
    marks: tuple[int, int],
    limits: Sequence[int],
) -> None:
    """Decode some rows together; results go into `outputs`."""
    end_id, pad_id = marks
    device = model.device
    core: Any = model.get_base_model()
    ids_bt, mask_bt = (part.to(device) for part in _left_padded([prompts[row] for row in rows], pad_id))
    position_bt = (mask_bt.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=core.config)
    active, done = list(rows), [False] * len(rows)
    while True:
        logits_bv = core(
            input_ids=ids_bt,
            attention_mask=mask_bt,
            position_ids=position_bt,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        next_b = logits_bv.argmax(-1)
        for place, token in enumerate(next_b.tolist()):
            done[place] = done[place] or _take(outputs[active[place]], token, end_id, limits[active[place]])
        keep = [place for place, is_done in enumerate(done) if not is_done]
        if not keep:
            return
        position_bt = position_bt[:, -1:] + 1
        if (len(active) - len(keep)) * _DROP_SHARE >= len(active):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            next_b, mask_bt, position_bt = next_b[index], mask_bt[index], position_bt[index]
            active, done = [active[place] for place in keep], [False] * len(keep)
        ids_bt = next_b[:, None]
        mask_bt = torch.cat([mask_bt, mask_bt.new_ones(len(active), 1)], dim=1)


def _take(output: Output, token: int, end_id: int, limit: int) -> bool:
    """Append a token to a row that is not done; tell whether the row is done now."""
    if token == end_id:
        output.ended = True
        return True
    output.ids.append(token)
    return len(output.ids) >= limit


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of prompts that all end in the last column."""
    width = max(len(ids) for ids in prompts)
    ids_bt = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts])
    mask_bt = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    return ids_bt, mask_bt
