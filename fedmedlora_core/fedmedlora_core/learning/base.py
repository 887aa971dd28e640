"""Load a frozen base model from a local folder: safetensors only, no remote code, digest checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.devices import nf4_settings
from fedmedlora_core.learning.digest import base_digest

__all__ = ["BaseKind", "LoadedBase", "load_base", "quiet", "reproducible"]

BaseKind = Literal["causal", "token_classification"]


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory.

    Args:
        model: The transformers model; its parameters do not train.
        tokenizer: Its tokenizer, with a padding token.
        digest: Digest of the folder it came from.
        kind: What the model is.
    """

    model: Any
    tokenizer: Any
    digest: str
    kind: BaseKind


def load_base(
    folder: Path,
    *,
    kind: BaseKind,
    expected_digest: str | None = None,
    tags: tuple[str, ...] = (),
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    nf4: bool = False,
) -> LoadedBase:
    """Load a base model from a local folder.

    Args:
        folder: A transformers model folder with safetensors weights.
        kind: "causal" for prompts and answers, "token_classification" for tags.
        expected_digest: Digest that the study names; None to accept any.
        tags: Tag names of a token classifier, in order; its new output layer has one row for each.
        device: Where the model computes.
        dtype: Type in which it computes; weights stored in another are converted.
        nf4: Store the linear layers in four bits a weight (QLoRA); needs a CUDA GPU.

    Raises:
        ConfigError: The folder holds no such model, another one than the study names, or one that needs code
            of its own; four bits are wanted where they cannot be had (the operator's).
    """
    settings = nf4_settings(device) if nf4 else None
    digest = base_digest(folder)
    if expected_digest is not None and digest != expected_digest:
        raise ConfigError(
            f"{folder}: is another base model than the study names"
            f" (expected {expected_digest[:12]}…, found {digest[:12]}…)"
        )
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with reproducible(0), quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **options)  # a local folder # nosec B615
            if settings is not None:
                options |= {"quantization_config": settings, "device_map": {"": device}}
            model = _load_model(folder, kind, tags, dtype, options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
        reason = str(exc).strip().split("\n")[0][:200]
        raise ConfigError(f"{folder}: the base model cannot be loaded as '{kind}': {reason}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False)
    placed = model if nf4 else model.to(device)
    return LoadedBase(placed.eval(), tokenizer, digest, kind)


def _load_model(
    folder: Path, kind: BaseKind, tags: tuple[str, ...], dtype: torch.dtype, options: dict[str, Any]
) -> Any:
    """Load the model of a kind with the output layer it needs."""
    common = {**options, "use_safetensors": True, "dtype": dtype}
    if kind == "causal":
        return AutoModelForCausalLM.from_pretrained(folder, **common)  # a local folder # nosec B615
    names = dict(enumerate(tags))
    return AutoModelForTokenClassification.from_pretrained(  # a local folder # nosec B615
        folder, num_labels=len(tags), id2label=names, label2id={v: k for k, v in names.items()}, **common
    )


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Compute on one thread from a fixed seed, and give both back afterwards.

    One thread because sums split over threads differ in their last bits from run to run, and because on a
    shared machine waiting threads cost several times what they save; work is spread over sites instead.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from announcing the new output layer and from drawing progress bars."""
    log: Any = transformers_logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
