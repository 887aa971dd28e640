"""The frozen layers of a model spread over processes (FSDP), for a base that does not fit one GPU.

Each process keeps its part of a layer's frozen weights; torch gathers a layer when it computes and lets it go
afterwards. The adapter stays whole in every process, so its gradients are added up once a step as without.
Every process has to compute the same layers in the same order, so all of them need equally many examples.
"""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = ["shard_layers"]


def shard_layers(model: PeftModel, *, size: int) -> int:
    """Spread the layers over the processes of the default group; returns how many layers there were."""
    kind = model.device.type
    mesh = init_device_mesh(kind, (size,))
    base: Any = model.get_base_model()
    layers = [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params={p for p in layer.parameters() if p.requires_grad})
    return len(layers)
