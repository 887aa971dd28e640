"""Secure aggregation: parties, aggregator and the protocol on one page (`run_round`)."""

from fedmedlora_crypto.secagg.aggregator import Aggregator, Unmasking
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms, quorum
from fedmedlora_crypto.secagg.suites import CKKS_SUITE, HYBRID_SUITE, MASKED_SUITE, PLAIN_SUITE, SUITES

__all__ = [
    "CKKS_SUITE",
    "HYBRID_SUITE",
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
