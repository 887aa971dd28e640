"""Train a wide adapter on a small model with one product per module instead of three.

Shapes: T tokens, D output width, K input width, R rank. A module with weight W_DK computes

    y = W x + s B A x       three products, forward and back about 2 T D K + T R (2 K + 3 D) multiplications
    y = (W + s B A) x       one product,    forward and back about 3 T D K

so for R above about a fifth of the width the second form is cheaper. It needs the gradient of the whole W for
a moment, so it is meant for small models. The two differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch.nn import functional

__all__ = ["fused"]

_LARGEST = 16_000_000
"""Values of a weight above which its whole gradient is not made."""


@contextmanager
def fused(model: PeftModel) -> Iterator[None]:
    """Compute the adapted modules of a block in one product each, where that is cheaper.

    A module keeps its three products if its adapter is narrow, has dropout or a bias, is one of several, or
    if the weight is not float32: the sum would lose the adapter's small values.
    """
    chosen = [module for module in model.modules() if isinstance(module, Linear) and _is_cheaper(module)]
    try:
        for module in chosen:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
        yield
    finally:
        for module in chosen:
            # The instance's own forward goes; the class's comes back into view.
            del module.forward


def _forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Compute one adapted module in one product."""
    name = module.active_adapters[0]
    up, down = module.lora_B[name].weight, module.lora_A[name].weight
    weight = torch.addmm(module.base_layer.weight, up, down, alpha=module.scaling[name])
    return functional.linear(inputs, weight, module.base_layer.bias)


def _is_cheaper(module: Any) -> bool:
    """Tell whether one product is the cheaper form of this module, and the same function."""
    if len(module.active_adapters) != 1 or module.merged or module.disable_adapters:
        return False
    name = module.active_adapters[0]
    if name not in module.lora_A or name in getattr(module, "lora_variant", {}):
        return False
    weight, down, up = module.base_layer.weight, module.lora_A[name], module.lora_B[name]
    plain = type(module.base_layer) is torch.nn.Linear and up.bias is None
    plain = plain and isinstance(module.lora_dropout[name], torch.nn.Identity)
    alike = all(part.dtype == torch.float32 for part in (weight, down.weight, up.weight))
    if not plain or not alike or weight.numel() > _LARGEST:
        return False
    wide, narrow = weight.shape
    rank = down.weight.shape[0]
    return bool(rank * (2 * narrow + 3 * wide) > narrow * wide)
