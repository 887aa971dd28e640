"""Secure aggregation: parties, aggregator and the protocol on one page (`run_round`)."""

from fedmedlora_crypto.secagg.aggregator import Aggregator, Unmasking
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import MASKED_SUITE, PLAIN_SUITE, SUITES, SessionTerms, quorum

__all__ = [
    "MASKED_SUITE",
    "PLAIN_SUITE",
    "SUITES",
    "Aggregator",
    "Party",
    "SessionTerms",
    "Unmasking",
    "quorum",
    "run_round",
]
