"""The aggregation strategies that scenario `strategies` compares, by name.

A strategy is what it changes in a profile, as keys of `Profile.override`; the study composed from that
decides everything else. A strategy that the study schema gains is added here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["REFERENCE", "STRATEGIES"]

REFERENCE = "fedmedlora"
"""Plain size weights: what every other strategy is compared with, and `federated` of all other scenarios."""

_BY_LOSS = {"aggregation__rule": "fedmedlora+", "aggregation__tau_milli": 1000}

STRATEGIES: Mapping[str, Mapping[str, object]] = {
    REFERENCE: {"aggregation__rule": "fedmedlora", "aggregation__tau_milli": 0},
    "fedmedlora+": {**_BY_LOSS, "aggregation__weights": "ladder"},
    "fedmedlora+ exact": {**_BY_LOSS, "aggregation__weights": "exact"},
}
"""Name to profile changes; the reference comes first."""
