"""Memory and bytes of a profile by arithmetic, with every assumption in one place.

Memory is of weights, adapter, optimiser, activations and cache; the libraries' own part - about half a
gigabyte with CUDA - comes on top, and so does what an allocator holds back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedmedlora_bench.cost.shapes import ModelShape
from fedmedlora_core.codec import EXTRAS, choose_wire_bits
from fedmedlora_core.packing import Packing
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import threshold_for

__all__ = ["Workload", "inference_bytes", "traffic", "training_bytes"]

NF4_BYTES = 0.5 + 4 / 64
"""A weight in four bits, and its part of the float32 scale that 64 of them share."""
FLOAT_BYTES = 4
OPTIMISER_BYTES = 12
"""A trained value's gradient and the two moments of AdamW."""
LOGIT_BYTES = 16
"""A logit as computed, as float32, its softmax and its gradient."""
HIDDEN_COPIES = 10
"""Vectors of a block's width that the backward pass of one token needs: norms, attention, residuals."""
INNER_COPIES = 4
"""The same of its perceptron's width."""


@dataclass(frozen=True)
class Workload:
    """What is computed at a time.

    Args:
        rows: Sequences.
        tokens: Tokens in each of them.
        answers: Part of the tokens that the loss counts, or that are written.
    """

    rows: int
    tokens: int
    answers: float = 0.6


def base_bytes(shape: ModelShape, profile: Profile) -> int:
    """Bytes of the frozen weights as the profile stores them."""
    wide = _value_bytes(profile)
    if profile.training.quantisation is None:
        return shape.parameters * wide
    return int(shape.linear * NF4_BYTES) + (shape.parameters - shape.linear) * wide


def training_bytes(shape: ModelShape, profile: Profile, load: Workload) -> int:
    """Peak of one training step."""
    wide, tokens = _value_bytes(profile), load.rows * load.tokens
    block = wide * (HIDDEN_COPIES * shape.hidden + INNER_COPIES * shape.inner)
    block += 0 if wide == FLOAT_BYTES else FLOAT_BYTES * shape.read  # inputs of the adapter, as float32
    kept = block * shape.layers
    if profile.training.gradient_checkpointing:
        kept = block + wide * shape.hidden * shape.layers
    logits = LOGIT_BYTES * shape.outputs * load.answers
    return base_bytes(shape, profile) + _adapter_bytes(shape) + int(tokens * (kept + logits))


def inference_bytes(shape: ModelShape, profile: Profile, load: Workload) -> int:
    """Peak while prompts are answered: weights, cache of all tokens, first pass of the prompts."""
    wide, tokens = _value_bytes(profile), load.rows * load.tokens
    cache = 2 * shape.kv * shape.layers * wide * tokens
    prompt = tokens * (1 - load.answers) * wide * (HIDDEN_COPIES * shape.hidden + INNER_COPIES * shape.inner)
    logits = load.rows * shape.outputs * FLOAT_BYTES
    weights = base_bytes(shape, profile) + shape.adapter * FLOAT_BYTES
    return weights + cache + int(prompt) + logits


def traffic(shape: ModelShape, profile: Profile, *, sites: int) -> dict[str, Any]:
    """Bytes of one site in one round, up and down apart, against a whole model at four bytes a value.

    Up is the masked upload. Down is the published sum, from which each site computes the next adapter. The
    check of the sum that a study of at most 16 members demands (PROTOCOL §4.6) is counted by itself: it
    fetches K of n chunks of each upload and of the sum, whatever is summed.
    """
    bits = profile.secure_aggregation.wire_bits or choose_wire_bits(
        n=sites, weight_max=profile.aggregation.weight_max
    )
    upload = Packing(bits, shape.trained + 1 + EXTRAS).total_bytes
    colluding = sites // 3
    checkers = sites - threshold_for(sites, colluding) + colluding + 1
    check = upload * (sites + 1) * checkers // sites
    full = shape.parameters * FLOAT_BYTES
    return {
        "sites": sites,
        "wire_bits": bits,
        "full_model_bytes": full,
        "up_bytes": upload,
        "down_bytes": upload,
        "check_bytes": check,
        "up_reduction": 1 - upload / full,
        "down_reduction": 1 - upload / full,
        "down_with_check_reduction": 1 - (upload + check) / full,
    }


def _adapter_bytes(shape: ModelShape) -> int:
    return shape.adapter * FLOAT_BYTES + shape.trained * OPTIMISER_BYTES


def _value_bytes(profile: Profile) -> int:
    return 2 if profile.training.compute_dtype == "bf16" else FLOAT_BYTES
