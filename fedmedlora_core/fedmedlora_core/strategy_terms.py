"""What a charter says about strategy: which values travel, their weights, and the server's optimiser.

Every table and key that a study does not use is left out of its file and of its canonical JSON, so that a
study from before a strategy existed has the digest it always had.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedmedlora_core.config import Section
from fedmedlora_core.secure_aggregation import Hex32, NotNegative, Positive

AdapterMode = Literal["ffa", "ab", "alternating", "sa"]
Decay = Annotated[int, Field(ge=0, le=999)]
"""A factor below 1, in thousandths."""


class AdapterTerms(Section):
    """Shape of the LoRA adapter, and which of its values travel.

    Attributes:
        mode: "ffa" freezes A (exact under averaging); "ab" trains both; "alternating" trains B in odd rounds
            and A in even ones; "sa" shares A and leaves B at each site.
        dimension: Values that all parties hold; in mode "sa" without B.
        halves: In mode "alternating": the values that travel in a round that trains A, and in one that
            trains B. In every other mode all of `dimension` travel.
    """

    rank: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[int, Field(ge=1, le=65536)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    mode: AdapterMode
    initial_digest: Hex32
    dimension: Positive
    halves: tuple[Positive, Positive] | None = None

    @model_validator(mode="after")
    def _halves_fit_mode(self) -> AdapterTerms:
        if (self.mode == "alternating") != (self.halves is not None):
            raise ValueError("adapter.halves belongs to mode 'alternating', and only to it")
        if self.halves is not None and (
            max(self.halves) > self.dimension or sum(self.halves) < self.dimension
        ):
            raise ValueError("adapter.halves together hold every value of the adapter")
        return self


class ServerTerms(Section):
    """The server's optimiser; without this table the next base is base + rate * average.

    Attributes:
        optimiser: "momentum" (FedAvgM, Hsu et al. 2019) or "adam" (FedAdam, Reddi et al. 2021).
        beta1_milli: Decay of the mean of past averages, in thousandths.
        beta2_milli: Decay of the mean of their squares; of "adam" only.
        adaptivity_micro: Added to the root of that mean, in millionths of a value; of "adam" only.
    """

    optimiser: Literal["momentum", "adam"]
    beta1_milli: Decay = 900
    beta2_milli: Decay | None = None
    adaptivity_micro: Positive | None = None

    @model_validator(mode="after")
    def _numbers_fit_optimiser(self) -> ServerTerms:
        adaptive = [number is not None for number in (self.beta2_milli, self.adaptivity_micro)]
        if self.optimiser == "adam" and not all(adaptive):
            raise ValueError("optimiser 'adam' needs beta2_milli and adaptivity_micro")
        if self.optimiser == "momentum" and any(adaptive):
            raise ValueError("beta2_milli and adaptivity_micro belong to optimiser 'adam'")
        return self


class AggregationTerms(Section):
    """Weights and the server's step (`fedmedlora_core.aggregation`).

    Attributes:
        server: The server's optimiser, or None for plain averaging.
        type_weights: "mentions": an encoder's output rows of a label type are averaged over the sites that
            annotate it, by their mentions (`fedmedlora_core.type_weights`). None: as all other values.
    """

    rule: Literal["fedmedlora", "fedmedlora+"]
    size_exponent_milli: NotNegative = 1000
    tau_milli: NotNegative = 0
    weights: Literal["ladder", "exact"] = "ladder"
    weight_scale: Positive
    weight_max: Positive
    server_learning_rate_milli: Positive = 1000
    server: ServerTerms | None = None
    type_weights: Literal["mentions"] | None = None

    @model_validator(mode="after")
    def _rule_fits_numbers(self) -> AggregationTerms:
        if self.rule == "fedmedlora" and self.tau_milli != 0:
            raise ValueError("rule 'fedmedlora' ignores the loss: tau_milli must be 0")
        if self.rule == "fedmedlora+" and self.tau_milli == 0:
            raise ValueError("rule 'fedmedlora+' weighs by the loss: tau_milli must be above 0")
        return self
