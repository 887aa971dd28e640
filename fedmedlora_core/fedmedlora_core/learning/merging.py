"""Fold an adapter into the weights while a model answers, and restore the weights to the bit afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear

__all__ = ["merged"]

_LARGEST = 200_000_000
"""Parameters above which nothing is folded: the kept copy would cost more memory than the time is worth."""


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """Compute with W + (alpha / R) B A in one product for the duration of a block.

    Only float32 models are folded, because a half-precision sum would lose the adapter's small values. The
    weights are put back from a copy: subtracting the product again would leave rounding errors in the base
    model, and the next round of training would no longer start from the study's bytes.
    """
    base: Any = model.get_base_model()
    parameters = list(base.parameters())
    small = sum(p.numel() for p in parameters) <= _LARGEST
    if not small or any(p.dtype != torch.float32 for p in parameters):
        yield
        return
    layers: list[Any] = [module for module in base.modules() if isinstance(module, Linear)]
    kept = [layer.base_layer.weight.data for layer in layers]
    try:
        for layer in layers:
            folded = layer.base_layer.weight.data
            for name in layer.active_adapters:
                folded = folded + layer.get_delta_weight(name)
            layer.base_layer.weight.data = folded
            layer.merged_adapters.extend(layer.active_adapters)
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()
