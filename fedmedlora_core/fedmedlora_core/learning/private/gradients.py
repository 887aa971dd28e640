"""The gradient of every row of a batch, by the hooks of Opacus (Yousefpour et al. 2021).

Opacus keeps the input of every linear module that trains, and multiplies it row by row with the gradient of
its output. What trains in an adapter are such modules: the halves of LoRA, and a token classifier's output
layer. Each must see its rows in the first dimension; a module that gets tokens in one heap (an expert of a
mixture, say) knows no rows, and is refused.

Where `fusing` computes an adapted module in one product, the halves of LoRA are not called, and the whole
module is hooked instead: its input x and the gradient of its output dy give the rows of both halves,

    dB = s dy' (A x)        dA = s (B' dy)' x

With gradient checkpointing a layer runs twice; its hooks keep what they see only in the second run, so that
nothing is kept twice and the memory that checkpointing saves stays saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch.utils.checkpoint import set_checkpoint_early_stop
from transformers.modeling_layers import GradientCheckpointingLayer

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.recomputing import recomputed

__all__ = ["RowGradients", "row_gradients"]


class RowGradients:
    """Gradients of single rows of a learner whose modules are hooked; from `row_gradients`.

    Attributes:
        parameters: What trains; gradients come in this order.
        alone: Whether a row must be computed by itself, as the model computes in fewer bits than float32:
            the padding and the kernels of a batch then round a row by what lies beside it, and whoever is
            added would move the sum by more than the clip.
    """

    def __init__(self, learner: Learner, hooks: Any) -> None:
        """Take over hooks that are in place."""
        self.parameters = [p for p in learner.model.parameters() if p.requires_grad]
        self.alone = any(p.dtype is not torch.float32 for p in learner.model.parameters())
        self._learner = learner
        self._hooks = hooks

    def of(self, batch: Sequence[Any], weights: Sequence[float] | None = None) -> list[torch.Tensor]:
        """Gradients of each example's mean loss: for each parameter a tensor with one row an example.

        Args:
            batch: Examples; not empty.
            weights: Factor on each example's loss; 1 where none is given.

        Raises:
            ConfigError: A module does not see its input row by row (the study's).
        """
        self._hooks.set_grad_sample_to_none()
        losses = self._learner.row_losses(batch)
        if weights is not None:
            losses = losses * torch.tensor(weights, device=losses.device)
        with self._hooks.going_back():
            losses.sum().backward()  # type: ignore[no-untyped-call]
        found: list[torch.Tensor] = []
        for parameter in self.parameters:
            rows = parameter.grad_sample  # type: ignore[attr-defined]
            if not isinstance(rows, torch.Tensor) or rows.shape != (len(batch), *parameter.shape):
                raise ConfigError("privacy: this base model has an adapted module that sees no single rows")
            found.append(rows.detach())
            parameter.grad = None
        self._hooks.set_grad_sample_to_none()
        return found


@contextmanager
def row_gradients(learner: Learner, *, recompute: bool = False) -> Iterator[RowGradients]:
    """Hook a learner's trainable modules for the duration of a block.

    Args:
        learner: Model with adapter; what trains in this round is marked already.
        recompute: Gradient checkpointing.

    Raises:
        ConfigError: Opacus is not installed; something other than linear modules trains; the base model
            cannot compute its layers again.
    """
    model = learner.model
    with (
        warnings.catch_warnings(),
        recomputed(model, wanted=recompute),
        set_checkpoint_early_stop(False),
        fused(model, gradients=False) as folded,
    ):
        # The first layer's input comes from frozen embeddings: its hook needs no gradient of it.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        hooked = _modules(model, folded)
        hooks = _hooks(model, hooked, recompute=recompute)
        try:
            yield RowGradients(learner, hooks)
        finally:
            hooks.cleanup()


def _modules(model: PeftModel, folded: Sequence[LoraLinear]) -> list[torch.nn.Module]:
    """The modules to hook: those that are folded, and every other one with parameters that train.

    Raises:
        ConfigError: One of them is not linear: its rows are not known here.
    """
    inside = {id(part) for module in folded for part in module.modules()}
    found: list[torch.nn.Module] = [module for module in folded if any(_train(module.parameters()))]
    for module in model.modules():
        if id(module) in inside or not any(_train(module.parameters(recurse=False))):
            continue
        if type(module) is not torch.nn.Linear:
            raise ConfigError(f"privacy: a module of type {type(module).__name__} cannot train privately")
        found.append(module)
    return found


def _train(parameters: Iterable[torch.nn.Parameter]) -> Iterator[bool]:
    return (parameter.requires_grad for parameter in parameters)


def _folded_rows(
    module: Any, activations: Sequence[torch.Tensor], grads: torch.Tensor
) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Rows of the gradients of B and A, of a module that is computed in one product."""
    name = module.active_adapters[0]
    down, up, scale = module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
    inputs_btk = activations[0].reshape(len(activations[0]), -1, down.shape[1])
    grads_btd = grads.reshape(len(grads), -1, up.shape[0])
    found = {}
    if up.requires_grad:
        found[up] = torch.bmm(grads_btd.transpose(1, 2), inputs_btk @ down.t()).mul_(scale)
    if down.requires_grad:
        found[down] = torch.bmm((grads_btd @ up).transpose(1, 2), inputs_btk).mul_(scale)
    return found


def _hooks(model: PeftModel, hooked: Sequence[torch.nn.Module], *, recompute: bool) -> Any:
    """Put the hooks in place."""
    try:
        from opacus.grad_sample import GradSampleHooks
    except ImportError:
        raise ConfigError(
            'a study with privacy needs the library opacus: pip install "fedmedlora[dp]"'
        ) from None

    class Hooks(GradSampleHooks):  # type: ignore[misc]
        """Opacus' hooks (it has no types); what is computed again keeps its input only then."""

        GRAD_SAMPLERS: ClassVar[dict[type, Any]] = {
            **GradSampleHooks.GRAD_SAMPLERS,
            LoraLinear: _folded_rows,
        }
        _back = False

        def iterate_submodules(self, module: torch.nn.Module) -> Iterator[torch.nn.Module]:
            yield from hooked

        @contextmanager
        def going_back(self) -> Iterator[None]:
            self._back = True
            try:
                yield
            finally:
                self._back = False

        def capture_activations_hook(self, module: Any, inputs: Any, output: Any) -> None:
            if not torch.is_grad_enabled() or (id(module) in again and not self._back):
                return
            module.activations = [*getattr(module, "activations", []), [inputs[0].detach()]]
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter._forward_counter += 1

    again = {
        id(module)
        for layer in model.modules()
        if recompute and isinstance(layer, GradientCheckpointingLayer)
        for module in layer.modules()
    }
    return Hooks(model, loss_reduction="sum", strict=True)
