"""Which advertised keys may be used: the coordinator's rule, repeated by every party (PROTOCOL §6.8).

The rule depends on the payloads alone, so whoever holds them finds the same U1: parties are read in the
order of their indices; one whose payload is malformed, whose contribution to the graph is not the one it
committed to, whose key is of low order, or whose key an earlier one has already advertised is left out, and
nobody else is.
"""

from collections.abc import Mapping

from fedmedlora_crypto.errors import DuplicateKeyError, KeyRefusedError, MalformedKeyError, PeerError
from fedmedlora_crypto.hybrid import check_hybrid_key
from fedmedlora_crypto.keys import PUBLIC_KEY_BYTES, check_public_key
from fedmedlora_crypto.secagg.graph import Graph, ring_order
from fedmedlora_crypto.secagg.messages import KeysMessage, decode_keys
from fedmedlora_crypto.secagg.session import SessionTerms


def read_keys(
    terms: SessionTerms, payloads: Mapping[int, bytes]
) -> tuple[dict[int, KeysMessage], dict[int, KeyRefusedError]]:
    """Sort the advertised keys into usable and refused ones (R6.8.1).

    Returns:
        The messages of the usable parties and, for the others, the error that refuses each; both in index
        order.
    """
    usable: dict[int, KeysMessage] = {}
    refused: dict[int, KeyRefusedError] = {}
    seen: set[bytes] = set()
    for party in sorted(payloads):
        try:
            message = _read_one(terms, party, payloads[party], seen)
        except KeyRefusedError as refusal:
            refused[party] = refusal
        else:
            usable[party] = message
            seen.update(_parts(message))
    return usable, refused


def graph_of(terms: SessionTerms, keys: Mapping[int, KeysMessage]) -> Graph:
    """Return the graph among U1, which everybody computes from the same keys (R6.15.7)."""
    members = tuple(sorted(keys))
    if terms.graph is None:
        return Graph(members)
    ring = ring_order(terms.sid, terms.n, {i: keys[i].contribution for i in members})
    return Graph(members, ring, terms.graph.reach, terms.graph.window_survivors)


def _read_one(terms: SessionTerms, party: int, payload: bytes, seen: set[bytes]) -> KeysMessage:
    if not terms.holds(party):
        raise MalformedKeyError("not a member of the charter", party=party)
    try:
        message = decode_keys(
            payload, sid=terms.sid, party=party, suite=terms.layout, graph=terms.graph is not None
        )
    except PeerError as error:
        raise MalformedKeyError(str(error), party=party) from None
    if terms.commitments is not None:
        terms.commitments.check(party, message.contribution)
    for key in (message.share_key, message.mask_key):
        (check_hybrid_key if terms.layout.hybrid else check_public_key)(key, party=party)
    # R6.8.2: a copied key could only serve to make two parties' pair masks equal.
    parts = _parts(message)
    if len(set(parts)) < len(parts) or seen.intersection(parts):
        raise DuplicateKeyError("public key is advertised twice", party=party)
    return message


def _parts(message: KeysMessage) -> list[bytes]:
    """Return each public key in a message; a hybrid key counts as two, so neither half can be copied."""
    keys = (message.share_key, message.mask_key)
    return [part for key in keys for part in (key[:PUBLIC_KEY_BYTES], key[PUBLIC_KEY_BYTES:]) if part]
