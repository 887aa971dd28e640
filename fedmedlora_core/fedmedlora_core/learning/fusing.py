"""Train an adapter on a small model with one product per module each way instead of three and four.

Shapes: T tokens, D output width, K input width, R rank. A module with weight W_DK computes

    y = W x + s B A x       three products and a sum forward, twice that back
    y = F x, F = W + s B A  one product forward

Back, the gradient of x is one product with F, and those of B and A go through the rank,

    dB = s dy' (A x)        dA = s (B' dy)' x

so the gradient of the whole F is never made: about 2 T D K + 2 T R (D + K) + R D K multiplications in few
large products. What is gained beside the multiplications is the time between small ones. F is kept from
forward to backward, so it is meant for small models. Both forms differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch.nn import functional

__all__ = ["fused"]

_LARGEST = 4_000_000
"""Values of a weight above which no folded copy is kept."""


@contextmanager
def fused(model: PeftModel, *, gradients: bool = True) -> Iterator[tuple[Linear, ...]]:
    """Compute the adapted modules of a block in one product each, where the model is small.

    A module keeps its own products if its adapter has dropout or a bias, is one of several, or if the weight
    is not float32: the sum would lose the adapter's small values.

    Args:
        model: A model with an adapter.
        gradients: Whether the modules give gradients of B and A; not if somebody else makes them row by row.

    Yields:
        The modules that are computed so.
    """
    chosen = [module for module in model.modules() if isinstance(module, Linear) and _can_fold(module)]
    forward = partial(_forward, _Folded if gradients else _FoldedInputs)
    try:
        for module in chosen:
            module.forward = partial(forward, module)  # type: ignore[method-assign]
        yield tuple(chosen)
    finally:
        for module in chosen:
            # The instance's own forward goes; the class's comes back into view.
            del module.forward


class _Folded(torch.autograd.Function):
    """y = (W + s B A) x + b, with gradients of x, A and B only: W and b are frozen."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Fold, multiply, and keep what the gradients need."""
        folded = torch.addmm(weight, up, down, alpha=scale)
        ctx.save_for_backward(inputs, folded, down, up)
        ctx.scale = scale
        return functional.linear(inputs, folded, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the inputs, and of A and B through the rank."""
        inputs, folded, down, up = ctx.saved_tensors
        (grad,) = grads
        wants_inputs, _, _, wants_down, wants_up, _ = ctx.needs_input_grad
        of_inputs = grad @ folded if wants_inputs else None
        rows, seen = grad.reshape(-1, grad.shape[-1]), inputs.reshape(-1, inputs.shape[-1])
        of_up = (rows.t() @ (seen @ down.t())).mul_(ctx.scale) if wants_up else None
        of_down = ((rows @ up).t() @ seen).mul_(ctx.scale) if wants_down else None
        return of_inputs, None, None, of_down, of_up, None


class _FoldedInputs(_Folded):
    """The same, with the gradient of x only: B and A are known to the graph, and get none from it."""

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of the inputs."""
        _, folded, _, _ = ctx.saved_tensors
        of_inputs = grads[0] @ folded if ctx.needs_input_grad[0] else None
        return of_inputs, None, None, None, None, None


def _forward(function: type[_Folded], module: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Compute one adapted module in one product."""
    name, base = module.active_adapters[0], module.base_layer
    down, up = module.lora_A[name].weight, module.lora_B[name].weight
    found: torch.Tensor = function.apply(  # type: ignore[no-untyped-call]
        inputs, base.weight, base.bias, down, up, module.scaling[name]
    )
    return found


def _can_fold(module: Any) -> bool:
    """Tell whether one product is the same function as the module's own, and its copy is small."""
    if len(module.active_adapters) != 1 or module.merged or module.disable_adapters:
        return False
    name = module.active_adapters[0]
    if name not in module.lora_A or name in getattr(module, "lora_variant", {}):
        return False
    base, down, up = module.base_layer, module.lora_A[name], module.lora_B[name]
    plain = type(base) is torch.nn.Linear and up.bias is None
    plain = plain and isinstance(module.lora_dropout[name], torch.nn.Identity)
    if not plain or base.weight.requires_grad or base.weight.numel() > _LARGEST:
        return False
    return all(part.dtype == torch.float32 for part in (base.weight, down.weight, up.weight))
