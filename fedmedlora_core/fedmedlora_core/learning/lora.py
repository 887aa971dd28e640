"""LoRA adapters on a base model: attach, read, write (Hu et al. 2021; FFA-LoRA, Sun et al. 2024).

Shapes: D output width, K input width, R rank. A module with weight W_DK computes

    y = W x + (alpha / R) * B_DR A_RK x

In mode "ffa" A is drawn once from the study's seed and frozen, so the mean of the sites' products equals the
product of their means and half as many values travel; in mode "ab" both train. In mode "alternating" both
train, but only one in a round (`train_only`), so that every single round is exact in the same way. In mode
"sa" the study's adapter is A alone: B trains at each site and stays there (`train_personal`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import Half, is_personal, trains
from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.base import LoadedBase, reproducible
from fedmedlora_core.strategy_terms import AdapterMode

__all__ = [
    "LoraTerms",
    "attach",
    "load_adapter",
    "load_vector",
    "read_adapter",
    "read_personal",
    "read_vector",
    "train_only",
    "train_personal",
]

_TASK_TYPES = {"causal": "CAUSAL_LM", "token_classification": "TOKEN_CLS"}
_CLASSIFIER_NAMES = ("classifier", "score")


@dataclass(frozen=True)
class LoraTerms:
    """Shape of an adapter.

    Args:
        rank: R >= 1.
        alpha: Numerator of the scale alpha / R.
        targets: Names of the linear modules to adapt, or ("all-linear",).
        mode: "ffa" (A frozen), "ab" (both train), "alternating" (both, one in a round) or "sa" (A is
            shared, B is each site's own).
    """

    rank: int
    alpha: int
    targets: tuple[str, ...]
    mode: AdapterMode


def attach(base: LoadedBase, terms: LoraTerms, seed: int) -> PeftModel:
    """Put a new adapter on a base model; B is zero, so nothing it computes changes yet.

    Args:
        base: The base model; it is changed in place and must carry no adapter.
        terms: Shape of the adapter.
        seed: Seed of the A matrices (and of a token classifier's output layer).

    Raises:
        ConfigError: A target names no linear module of this model (the operator's).
    """
    _check_targets(base.model, terms.targets)
    targets: str | list[str] = "all-linear" if terms.targets == ("all-linear",) else sorted(terms.targets)
    classifiers = [n for n in _CLASSIFIER_NAMES if base.kind != "causal" and hasattr(base.model, n)]
    config = LoraConfig(
        task_type=_TASK_TYPES[base.kind],
        r=terms.rank,
        lora_alpha=terms.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=targets,
        modules_to_save=classifiers or None,
    )
    with reproducible(seed):
        for name in classifiers:
            # The output layer is new: it must come from the study's seed, not from the loading process.
            layer = getattr(base.model, name)
            torch.nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
        with warnings.catch_warnings():
            # PEFT asks transformers under a name that newer versions deprecate; nothing of ours is meant.
            warnings.simplefilter("ignore", FutureWarning)
            model = cast(PeftModel, get_peft_model(base.model, config))
    frozen = {"ffa": ".lora_A.", "sa": ".lora_B."}.get(terms.mode)
    for name, parameter in model.named_parameters():
        if frozen is not None and frozen in name:
            parameter.requires_grad_(False)
    return model.eval()


@contextmanager
def train_only(model: PeftModel, half: Half | None) -> Iterator[None]:
    """Freeze the half of an adapter that a round does not train; None freezes nothing (PROTOCOL §4.10)."""
    frozen = [p for name, p in _trainable(model) if not trains(name, half)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def read_adapter(model: PeftModel, *, base_name: str = "") -> Adapter:
    """Copy the adapter of a model.

    Args:
        model: A model with an adapter from `attach`.
        base_name: Name of the base model that the PEFT folder will give; never a local path.
    """
    parameters = _parameters(model)
    return Adapter(
        tensors={name: _to_numpy(parameter) for name, parameter in parameters.items()},
        trainable=tuple(sorted(name for name, parameter in parameters.items() if parameter.requires_grad)),
        config=_plain_config(model, base_name),
    )


def load_adapter(model: PeftModel, adapter: Adapter) -> None:
    """Write all tensors of an adapter, frozen and trainable, into a model.

    Raises:
        ConfigError: Names, shapes or the trainable part differ from the model's (the study's or operator's).
    """
    parameters = _parameters(model)
    trainable = tuple(sorted(name for name, parameter in parameters.items() if parameter.requires_grad))
    if set(parameters) != set(adapter.tensors) or trainable != adapter.trainable:
        raise ConfigError("the adapter does not fit the base model: other modules, or another LoRA mode")
    for name, parameter in parameters.items():
        if tuple(parameter.shape) != adapter.tensors[name].shape:
            raise ConfigError(f"the adapter does not fit the base model: {name} has another shape")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(adapter.tensors[name])))


def read_vector(model: PeftModel) -> FloatVector:
    """Flatten the trainable values in name order into float32: what travels."""
    trainable = [_to_numpy(parameter).ravel() for _, parameter in _trainable(model)]
    return np.concatenate(trainable) if trainable else np.zeros(0, dtype=np.float32)


def load_vector(model: PeftModel, vector: FloatVector) -> None:
    """Write a flat vector into the trainable values of a model; the inverse of `read_vector`.

    Raises:
        ValueError: The length differs (the caller's mistake).
    """
    trainable = _trainable(model)
    expected = sum(parameter.numel() for _, parameter in trainable)
    if vector.shape != (expected,):
        raise ValueError(f"expected {expected} values, got shape {vector.shape}")
    start = 0
    with torch.no_grad():
        for _, parameter in trainable:
            stop = start + parameter.numel()
            parameter.copy_(torch.from_numpy(np.array(vector[start:stop])).view_as(parameter))
            start = stop


@contextmanager
def train_personal(model: PeftModel, mode: AdapterMode) -> Iterator[None]:
    """In mode "sa", train B as well, which is no part of the study's adapter (PROTOCOL §4.11)."""
    own = [p for name, p in _parameters(model).items() if is_personal(name, mode)]
    for parameter in own:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in own:
            parameter.requires_grad_(False)


def read_personal(model: PeftModel, mode: AdapterMode) -> FloatVector | None:
    """Flatten what is this site's own in name order; None where a mode leaves nothing to a site."""
    own = [_to_numpy(p).ravel() for name, p in _parameters(model).items() if is_personal(name, mode)]
    return np.concatenate(own) if own else None


def _check_targets(model: torch.nn.Module, targets: tuple[str, ...]) -> None:
    """Refuse a target that names no linear module: PEFT accepts it as long as another one matches."""
    if targets == ("all-linear",):
        return
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
            raise ConfigError(f"adapter target '{target}' names no linear module of the base model ({known})")


def _parameters(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """Adapter parameters by the name under which PEFT saves them, in name order."""
    found = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name or ".modules_to_save." in name:
            found[name.replace(".modules_to_save.default.", ".").replace(".default.", ".")] = parameter
    return dict(sorted(found.items()))


def _trainable(model: PeftModel) -> list[tuple[str, torch.nn.Parameter]]:
    """Trainable adapter parameters in name order."""
    return [(name, parameter) for name, parameter in _parameters(model).items() if parameter.requires_grad]


def _to_numpy(parameter: torch.Tensor) -> NDArray[np.float32]:
    """Copy a parameter to a float32 array."""
    return np.array(parameter.detach().to("cpu", torch.float32).numpy(), dtype=np.float32)


def _plain_config(model: PeftModel, base_name: str) -> dict[str, Any]:
    """The part of PEFT's configuration that any PEFT version needs to load the adapter."""
    config: Any = model.peft_config["default"]
    return {
        "peft_type": "LORA",
        "task_type": str(getattr(config.task_type, "value", config.task_type)),
        "base_model_name_or_path": base_name,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(config.target_modules),
        "modules_to_save": sorted(set(config.modules_to_save)) if config.modules_to_save else None,
    }
