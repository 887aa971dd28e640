"""Which words of a hospital's notes an update gives away: plain, masked, summed, and with noise.

The update is what a site would upload after one step (its clipped gradient), after a round that is one step
of AdamW, and after a whole round of AdamW; it goes through the study's own encoding and, where it says so,
through the masks of `fedmedlora_crypto`. The attacker reads what a curious coordinator has: the base adapter,
the plain or masked words, and the weight that stands in them.

A token counts if it is no part of the prompt that all notes share. Beside the attack stands a guesser that
has never seen the update and ranks tokens by how often other hospitals write them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedlora_bench.attacks.spans import Layer0, Projection, invert_first_adam_step, token_scores
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import RingVector, clip_update
from fedmedlora_core.errors import CodecError, ConfigError
from fedmedlora_core.global_step import GlobalStep, SiteWeights
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter, read_vector
from fedmedlora_core.study import Study
from fedmedlora_crypto.secagg.reference import repeatable_source, run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream

__all__ = ["attack", "clipped_gradient", "decoded", "encoded", "masked", "shared_tokens", "tokens_of"]

Floats = NDArray[np.float64]
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_CLIP = 1.0
"""L2 norm to which a step's gradient is clipped, as in the shipped profiles."""


def clipped_gradient(learner: Learner, adapter: Adapter, batch: Sequence[Any]) -> NDArray[np.float32]:
    """Gradient of one step on a batch, flattened as updates are, clipped to norm 1."""
    load_adapter(learner.model, adapter)
    parameters = [p for p in learner.model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    loss, counted = learner.loss(batch)
    mean: Any = loss / counted
    mean.backward()
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():  # written into the parameters, so that one function flattens both
        for parameter in parameters:
            gradient = parameter.grad
            parameter.copy_(torch.zeros_like(parameter) if gradient is None else gradient)
            parameter.grad = None
    flat = read_vector(learner.model)
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    norm = float(np.linalg.norm(flat))
    return np.asarray(flat * np.float32(min(1.0, _CLIP / max(norm, 1e-30))), dtype=np.float32)


def encoded(study: Study, layout: Adapter, update: NDArray[np.float32], *, label: str) -> RingVector:
    """A site's upload before masks: clipped, weighed with 1 share of the largest weight, and rounded."""
    kept, _ = clip_update(update.copy(), clip_value=study.clip_value, clip_norm=study.clip_norm)
    words = Keystream(hashlib.sha256(f"attack|rounding|{label}".encode()).digest())
    weights = SiteWeights(study.aggregation.weight_max)
    return GlobalStep(study, layout).encode(kept, weights, 0, words, round_number=1)


def decoded(study: Study, layout: Adapter, vector: RingVector) -> NDArray[np.float32]:
    """What a curious coordinator reads in a vector, whether that is an upload or a sum.

    A masked upload has no weight that makes sense; the attacker then divides by the largest one.
    """
    codec = study.codec()
    try:
        mean, _, _ = codec.decode(vector.copy(), extras=study.extras)
    except CodecError:
        forced = vector.copy()
        forced[layout.dimension] = study.aggregation.weight_max
        mean, _, _ = codec.decode(forced, extras=study.extras)
    return mean


def masked(study: Study, vectors: Mapping[int, RingVector], *, label: str) -> tuple[RingVector, RingVector]:
    """Party 1's masked upload and the opened sum of a real session of all these parties."""
    n = len(vectors)
    terms = SessionTerms(
        sid=hashlib.sha256(f"attack|{label}".encode()).digest(),
        n=n,
        threshold=(n + n // 3) // 2 + 1,
        colluding=n // 3,
    )
    # Real masks under keys that repeat with the experiment; a site's own are drawn by its system.
    sources = {i: repeatable_source(f"attack|{label}|{i}".encode()) for i in vectors}
    done = run_round(terms, vectors, randomness=sources)
    return done.masked[1], done.total


def attack(
    learner: Learner,
    adapter: Adapter,
    sent: NDArray[np.float32],
    *,
    adam_rate: float | None = None,
    rounding: float = 0.0,
) -> tuple[Floats, bool]:
    """Score every token of the vocabulary by what was sent; higher speaks for "was there" (`token_scores`).

    Args:
        learner: For the base model, which everybody has.
        adapter: The adapter that the round started from.
        sent: float32 `(d,)`: what the attacker has.
        adam_rate: Take the vector for the change of one first step of AdamW at this rate.
        rounding: Of the encoding; 0 for a vector that was not encoded.
    """
    values = {
        name: np.asarray(tensor, dtype=np.float64)
        for name, tensor in adapter.with_vector(sent).tensors.items()
        if name in adapter.trainable
    }
    if adam_rate is not None:
        values = {name: invert_first_adam_step(v, rate=adam_rate) for name, v in values.items()}
    projections = tuple(
        Projection(
            a=np.asarray(adapter.tensors[_name(adapter, projection, "A")], dtype=np.float64),
            gradient_a=values.get(_name(adapter, projection, "A")),
            gradient_b=values.get(_name(adapter, projection, "B")),
        )
        for projection in _PROJECTIONS
    )
    return token_scores(Layer0(_inputs(learner), projections), rounding=rounding)


def shared_tokens(samples: Sequence[Any]) -> set[int]:
    """Tokens of every example: the prompt's own words and marks."""
    return set.intersection(*(set(sample.ids) for sample in samples))


def tokens_of(samples: Sequence[Any], without: set[int]) -> Counter[int]:
    """How often each token stands in the prompts and answers of some examples."""
    counts = Counter(token for sample in samples for token in sample.ids)
    return Counter({token: count for token, count in counts.items() if token not in without})


def _inputs(learner: Learner) -> Floats:
    """x_VK: what each token gives to the first layer's projections."""
    model: Any = learner.model.get_base_model()
    body = getattr(model, "model", None)
    if body is None or not hasattr(body, "layers") or not hasattr(body.layers[0], "input_layernorm"):
        raise ConfigError("the span check knows models of LLaMA's shape only; choose another --base")
    with torch.inference_mode():
        found = body.layers[0].input_layernorm(body.embed_tokens.weight)
    return np.asarray(found.detach().cpu().double().numpy(), dtype=np.float64)


def _name(adapter: Adapter, projection: str, half: str) -> str:
    """Name of a tensor of the first layer."""
    end = f".layers.0.self_attn.{projection}.lora_{half}.weight"
    return next(name for name in adapter.tensors if name.endswith(end))
