"""The parts of a study that say how a site trains and how a model is asked.

Every key that was added after the first studies were signed is optional and left out of the canonical JSON
when it is not set, so the digest of a charter that does not use it never changes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedmedlora_core.config import Section
from fedmedlora_core.secure_aggregation import NotNegative, Positive

AnswerFormat = Literal["inline", "json"]
"""How a causal model writes what it found; see `fedmedlora_core.tasks.templates`."""


class TrainingTerms(Section):
    """Local training of one round, equal at all sites.

    Attributes:
        rounds: Rounds of the study.
        local_epochs: Passes over a site's examples in a round.
        batch_size: Examples that are computed together.
        learning_rate_micro: Highest learning rate, in millionths.
        warmup_steps: Steps of linear warm-up in each round.
        max_tokens: Longest prompt with answer.
        weight_decay_micro: Of AdamW, in millionths.
        gradient_clip_micro: Largest L2 norm of a step's gradient, in millionths.
        relation_cap_percent: Bounds the RE examples of an epoch by the NER examples; 0 takes all of them.
        relation_filled_percent: Least share of these that have a tail; drawn as they come when left out.
        schedule: "linear" (also when left out) falls over the whole study, "cosine" in each round anew.
        warmup_percent: Warm-up as a share of a round's steps, instead of `warmup_steps`.
        gradient_accumulation_steps: Batches whose gradients are added up before a step.
        gradient_checkpointing: Computes the layers' activations twice instead of keeping them.
        quantisation: Width of the frozen base model's linear layers; float when left out.
        compute_dtype: Type of the frozen base model; float32 when left out. The adapter is always float32.
        proximal_micro: mu of FedProx, in millionths; left out, training is not held to the round's base.
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    learning_rate_micro: Positive
    warmup_steps: NotNegative = 0
    max_tokens: Annotated[int, Field(ge=16, le=1 << 20)]
    weight_decay_micro: NotNegative = 0
    gradient_clip_micro: Positive = 1_000_000
    relation_cap_percent: NotNegative = 0
    relation_filled_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    schedule: Literal["linear", "cosine"] | None = None
    warmup_percent: Annotated[int, Field(ge=0, le=90)] | None = None
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4096)] | None = None
    gradient_checkpointing: bool | None = None
    quantisation: Literal["nf4"] | None = None
    compute_dtype: Literal["bf16"] | None = None
    proximal_micro: Positive | None = None

    @model_validator(mode="after")
    def _one_warm_up(self) -> TrainingTerms:
        if self.warmup_percent is not None and self.warmup_steps:
            raise ValueError("warmup_percent and warmup_steps say the same thing twice: keep one of them")
        return self

    @model_validator(mode="after")
    def _quantised_computes_in_bf16(self) -> TrainingTerms:
        if self.quantisation is not None and self.compute_dtype is None:
            raise ValueError('quantisation needs compute_dtype = "bf16": four bits are stored, not computed')
        return self

    @property
    def is_large(self) -> bool:
        """Whether the charter stores the base model in less than float32, as only large ones need."""
        return self.compute_dtype is not None


class PromptTerms(Section):
    """How a causal model is asked; a study without the table asks for inline mark-up.

    Attributes:
        format: "inline" for a copy of the text with tags (relations as `type: words`), "json" for a JSON list
            of `{"entity": type, "text": words}`.
    """

    format: AnswerFormat = "inline"
