"""What a charter says about differential privacy: the unit, the mechanism's constants and the budget.

Sampling rate, steps and noise are constants of the study, equal at all sites, so that nothing that is logged
about them says how large a site is (PROTOCOL §4.13). A study without the table has none of it, and its
canonical JSON is that of a study from before the table existed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedmedlora_core.config import Section
from fedmedlora_core.secure_aggregation import Positive

Unit = Literal["patient", "document"]
"""Who is protected: everything that a patient contributed, or a single document."""
Delta = Annotated[str, Field(pattern=r"^[1-9]e-[1-9][0-9]?$")]
"""A probability as text, such as "1e-5": no float in anything that is signed."""
Order = Annotated[int, Field(ge=2, le=4096)]
ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 128, 192, 256, 512, 1024)
"""Integer Renyi orders that a study's accountants try unless it lists its own."""


class PrivacyTerms(Section):
    """DP-SGD at every site (Abadi et al. 2016), with Poisson sampling by unit.

    Attributes:
        unit: Whose presence is hidden: "patient" (all notes of one) or "document".
        delta: Of (epsilon, delta), for the study as a whole.
        epsilon_milli: What all rounds of the study together may cost a unit, in thousandths.
        noise_milli: Noise multiplier: standard deviation of the noise over `clip_micro`, in thousandths.
        clip_micro: Largest L2 norm of what one unit contributes to a step, in millionths.
        sampling_micro: Probability with which a unit is drawn into a step, in millionths.
        steps: Steps of the optimiser in a round.
        batch_units: What a step's noisy sum is divided by: a constant, since the true number is a site's own.
        orders: Renyi orders that are minimised over, rising.
    """

    unit: Unit
    delta: Delta
    epsilon_milli: Positive
    noise_milli: Positive
    clip_micro: Positive
    sampling_micro: Annotated[int, Field(ge=1, le=1_000_000)]
    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_units: Positive
    orders: Annotated[tuple[Order, ...], Field(min_length=1)] = ORDERS

    @model_validator(mode="after")
    def _orders_rise(self) -> PrivacyTerms:
        if list(self.orders) != sorted(set(self.orders)):
            raise ValueError("privacy.orders rise, and none stands there twice")
        return self

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the clip."""
        return self.noise_milli / 1000

    @property
    def sampling_rate(self) -> float:
        """Probability with which a unit is drawn into a step."""
        return self.sampling_micro / 1_000_000

    @property
    def clip(self) -> float:
        """Largest L2 norm of what one unit contributes to a step."""
        return self.clip_micro / 1_000_000
