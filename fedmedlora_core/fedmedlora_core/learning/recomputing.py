"""Gradient checkpointing: keep a layer's input, and compute the layer again in the backward pass.

Memory falls from all activations to one input a layer and one layer's activations, for about a third more
time. The gradients are the same to the bit: the same operations run on the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from peft import PeftModel
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from fedmedlora_core.errors import ConfigError

__all__ = ["recomputed"]


@contextmanager
def recomputed(model: PeftModel, *, wanted: bool) -> Iterator[None]:
    """Recompute the activations of the base model's layers for the duration of a block.

    The layers are told that they train, since they recompute only then; what lies inside them is not, so that
    no dropout of the base model wakes up.

    Raises:
        ConfigError: The base model's code cannot do it (the study's).
    """
    with _recomputed(model) if wanted else nullcontext():
        yield


@contextmanager
def _recomputed(model: PeftModel) -> Iterator[None]:
    base: Any = model.get_base_model()
    layers: list[Any] = [
        module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    if not layers or not base.supports_gradient_checkpointing:
        raise ConfigError(f"gradient_checkpointing: {type(base).__name__} cannot compute its layers again")
    before = [layer.training for layer in layers]
    # On the layers themselves: the model's switch for all of them has another name in every release.
    again = partial(checkpoint, use_reentrant=False)
    try:
        for layer in layers:
            layer._gradient_checkpointing_func = again
            layer.gradient_checkpointing = layer.training = True
        yield
    finally:
        for layer, was_training in zip(layers, before, strict=True):
            layer.gradient_checkpointing = False
            layer.training = was_training
