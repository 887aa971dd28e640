"""A whole session on one page: every party, no network (PROTOCOL §6; this is its figure).

`run_round` is documentation, the oracle of the integration tests and the generator of the test vectors.
The real coordinator and sites do the same calls with a log, signatures, disks and a wire between them.
"""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import digest_fields, encode_index
from fedmedlora_crypto.secagg.aggregator import Aggregator, Unmasking
from fedmedlora_crypto.secagg.dealing import Randomness
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import WORD_BYTES, Keystream, Vector

STEPS = ("advertise", "share", "upload", "survivors", "unmask")


@dataclass(frozen=True, repr=False)
class Round:
    """Everything that was sent in a round, and its result; no repr, since opened shares are secret."""

    total: Vector  # the sum of the vectors of U3, modulo 2**32
    view: bytes
    u1: tuple[int, ...]
    u2: tuple[int, ...]
    u3: tuple[int, ...]
    left_out: dict[int, str]
    keys: dict[int, bytes]
    shares: dict[int, bytes]
    masked: dict[int, Vector]
    opened: dict[int, bytes]
    unmasking: Unmasking


def run_round(
    terms: SessionTerms,
    vectors: Mapping[int, Vector],
    *,
    dropped: Mapping[str, Collection[int]] | None = None,
    randomness: Mapping[int, Randomness] | None = None,
    contributions: Mapping[int, bytes] | None = None,
    threads: int = 1,
) -> Round:
    """Run one session of secure aggregation (PROTOCOL §6).

    Args:
        terms: Constants of the session.
        vectors: The encoded vector of each party that reported ready; they are not changed.
        dropped: For each of `STEPS` the parties that fall silent at it, before they send.
        randomness: The source of each party; system randomness where it has none.
        contributions: With a graph, what each party committed to for this attempt (PROTOCOL §6.15).
        threads: Worker threads for masks.

    Raises:
        QuorumError: Fewer than T parties are left at some step.
    """
    gone = {step: set((dropped or {}).get(step, ())) for step in STEPS}
    source, given = randomness or {}, contributions or {}
    parties = {
        i: Party(terms, i, contribution=given.get(i, b""), randomness=source.get(i, secrets.token_bytes))
        for i in sorted(vectors)
    }
    aggregator = Aggregator(terms)

    # advertise: each party sends fresh keys; the coordinator fixes U1.
    advertised = {i: party.advertise() for i, party in parties.items() if i not in gone["advertise"]}
    u1, left_out = aggregator.admit(advertised)
    keys = {i: advertised[i] for i in u1}
    view = reference_view(terms.sid, keys)

    # share: each party deals shares of its two seeds to its neighbours in U1; the coordinator fixes U2.
    shares = {i: parties[i].share(keys, view) for i in u1 if i not in gone["share"]}
    graph = aggregator.graph(keys)
    for i, payload in shares.items():
        aggregator.check_shares(i, payload, holders=graph.holders_of(i), view=view)

    # upload: each party opens its inbox, masks with exactly U2 and uploads; the coordinator fixes U3 and
    # adds.
    masked = {i: vectors[i].copy() for i in shares if i not in gone["upload"]}
    for i, vector in masked.items():
        parties[i].fix({x: shares[x] for x in parties[i].neighbours_in(shares)}, shares)
        parties[i].mask(vector, threads=threads)
    survivors = tuple(masked)
    total = np.zeros_like(next(iter(vectors.values())))
    for vector in masked.values():
        total += vector

    # survivors: each party agrees to one U3, once.
    signers = [i for i in survivors if i not in gone["survivors"]]
    for i in signers:
        parties[i].agree(survivors)

    # unmask: with T agreements each party opens one share of each neighbour; the masks come off the sum.
    opened = {i: parties[i].open(survivors, signers) for i in signers if i not in gone["unmask"]}
    unmasking = aggregator.unmask(total, keys, shares, survivors, opened, threads=threads)
    return Round(total, view, u1, tuple(shares), survivors, left_out, keys, shares, masked, opened, unmasking)


def repeatable_source(seed: bytes) -> Randomness:
    """Return a source that repeats itself for a seed: for vectors and tests, never for a site."""
    stream, drawn = Keystream(hashlib.sha256(seed).digest()), 0

    def draw(count: int) -> bytes:
        nonlocal drawn
        start, drawn = drawn, drawn + -(-count // WORD_BYTES)
        return stream.words(start, drawn - start).astype("<u4").tobytes()[:count]

    return draw


def reference_view(sid: bytes, keys: Mapping[int, bytes]) -> bytes:
    """Return a stand-in for the view, which in a real session is derived from the log's list of U1."""
    parts = [piece for i in sorted(keys) for piece in (encode_index(i), keys[i])]
    return digest_fields(labels.REFERENCE_VIEW, sid, *parts)
