"""The aggregation strategies that scenario `strategies` compares, by name.

They are those of the study schema, each as `study new --strategy` sets it on the profile; what the profile
does anyway is the reference. FedSA-LoRA is not among them: it ends in one adapter for each site, and what is
compared here is the one adapter that a federation releases.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedmedlora_core.strategies import STRATEGIES as NAMED

__all__ = ["LOSS_AWARE", "REFERENCE", "STRATEGIES", "TYPE_AWARE"]

REFERENCE = "fedmedlora"
"""Plain size weights: what every other strategy is compared with, and `federated` of all other scenarios."""
LOSS_AWARE = "fedmedlora+"
"""The paper's data-aware weights: size and validation loss."""
TYPE_AWARE = "types"
"""Data-aware weights of our own: a classifier's row is averaged over the sites that annotate its type."""

STRATEGIES: Mapping[str, Mapping[str, object]] = {
    REFERENCE: NAMED[REFERENCE],
    **{name: {**NAMED[REFERENCE], **changes} for name, changes in NAMED.items() if name not in ("ffa", "sa")},
}
"""Name to profile changes; the reference comes first."""
