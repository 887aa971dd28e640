"""Parameters of a profile's base model and adapter, counted on a model without memory.

The model is built from its published configuration on torch's meta device and the adapter attached by the
code that a site runs, so the counts are those of the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from fedmedlora_core.architectures import architecture
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import LoadedBase
from fedmedlora_core.learning.lora import LoraTerms, attach
from fedmedlora_core.profile import Profile
from fedmedlora_core.tasks.tagging import tag_names

__all__ = ["ModelShape", "shape_of"]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a base model with an adapter.

    Args:
        parameters: Values of the base model, without a new output layer.
        linear: Those in linear layers that four bits can store: all but the output layer.
        adapter: Values of the adapter, frozen and trained.
        trained: Values that train and travel.
        layers: Blocks of the model.
        hidden: Width of a block's input.
        inner: Width inside the block's perceptron.
        kv: Width of keys, and of values, in a token's cache; 0 for a model that writes nothing.
        read: Widths of the inputs of one block's adapted modules, added up.
        outputs: Width of the output layer: vocabulary, or tags.
    """

    parameters: int
    linear: int
    adapter: int
    trained: int
    layers: int
    hidden: int
    inner: int
    kv: int
    read: int
    outputs: int


def shape_of(profile: Profile, config: dict[str, Any] | None = None) -> ModelShape:
    """Count a profile's model; `config` is that of the folder for a profile that names no model."""
    if config is None:
        config = architecture(profile.base.architecture) if profile.base else {}
    labels = label_set(profile.labels.entities, profile.labels.modifiers)
    causal = profile.kind == "causal"
    options = {} if causal else {"num_labels": len(tag_names(labels))}
    settings = AutoConfig.for_model(**{**config, **options})
    with torch.device("meta"):
        kind: Any = AutoModelForCausalLM if causal else AutoModelForTokenClassification
        model = kind.from_config(settings)
    head = model.get_output_embeddings() if causal else model.classifier
    parameters = sum(p.numel() for p in model.parameters()) - (0 if causal else _size(head))
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear, shape = sum(m.weight.numel() for m in linears), profile.adapter
    terms = LoraTerms(shape.rank, shape.alpha, shape.targets, shape.mode)
    with torch.device("meta"):
        adapted = attach(LoadedBase(model, None, "", profile.kind), terms, seed=0)
    own = {n: p for n, p in adapted.named_parameters() if ".lora_" in n or ".modules_to_save." in n}
    read = sum(p.shape[1] for n, p in own.items() if ".lora_A." in n)
    return ModelShape(
        parameters=parameters,
        linear=linear,
        adapter=sum(p.numel() for p in own.values()),
        trained=sum(p.numel() for p in own.values() if p.requires_grad),
        layers=settings.num_hidden_layers,
        hidden=settings.hidden_size,
        inner=settings.intermediate_size,
        kv=_cache_width(settings) if causal else 0,
        read=read // settings.num_hidden_layers,
        outputs=settings.vocab_size if causal else len(tag_names(labels)),
    )


def _size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _cache_width(settings: Any) -> int:
    """Width of the keys that a token leaves in one layer's cache."""
    head = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    return int(settings.num_key_value_heads * head)
