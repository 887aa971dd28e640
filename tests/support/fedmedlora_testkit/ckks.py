"""CKKS keys, charters, uploads and sums for tests."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from fedmedlora_core.study import Study
from fedmedlora_crypto.ckks import PublicContext, SecretKey, SlotTerms, Workers, add_chunks, generate
from fedmedlora_site.custody import encode_sum, ring_values


@cache
def key_pair() -> tuple[PublicContext, SecretKey]:
    """One key pair for all tests: making it is slow, and what is tested is who uses it for what."""
    return generate()


def ckks_table(custody: str = "holder", holder: str = "site-a") -> dict[str, str]:
    """The charter's table for `key_pair`."""
    named = holder if custody == "holder" else ""
    return {"custody": custody, "holder": named, "context": key_pair()[0].digest}


def ckks_overrides(custody: str = "holder", holder: str = "site-a") -> dict[str, Any]:
    """What a profile has to change for a CKKS study."""
    return {
        "secure_aggregation__mode": "ckks",
        "secure_aggregation__ckks": ckks_table(custody, holder),
    }


def slots_of(study: Study) -> SlotTerms:
    """How the study's integers stand in slots."""
    return SlotTerms(study.codec().ring_bits, len(study.members))


def encrypted(study: Study, vector: np.ndarray[Any, Any]) -> bytes:
    """One site's upload."""
    with Workers(slots_of(study), key_pair()[0], chunks=1) as workers:
        return b"".join(workers.encrypt(vector))


def decrypted(study: Study, uploads: Iterable[tuple[int, bytes]], *, threshold: int) -> bytes:
    """The ring sum of uploads of one chunk, as a key holder sends it."""
    context, secret = key_pair()
    slots, values = slots_of(study), ring_values(study, 1)
    found = add_chunks(slots, list(uploads), values=values, threshold=threshold)
    with Workers(slots, context, secret=secret, chunks=1) as workers:
        (opened,) = workers.open([found])
    return b"".join(encode_sum(study, 1, opened.words))
