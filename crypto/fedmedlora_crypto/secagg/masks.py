"""The derivations that a party and the aggregator have in common (PROTOCOL §6.2 to §6.6, §6.14).

Both sides compute the same keys, masks and commitments from the same seeds; they do it here.
"""

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import digest_fields, encode_fields, encode_index
from fedmedlora_crypto.hybrid import HybridKey, wrap
from fedmedlora_crypto.keys import AgreementKey, Binding, derive_key, pair_info, party_info
from fedmedlora_crypto.secagg.messages import SharesMessage
from fedmedlora_crypto.secagg.suites import Suite
from fedmedlora_crypto.xof import Keystream


def mask_agreement_key(suite: Suite, seed: bytes, *, sid: bytes) -> AgreementKey:
    """Return the pair-mask key of the seed s_u; the aggregator rebuilds it for a party that dropped out."""
    if suite.hybrid:
        return HybridKey(seed, label=labels.MASK_KEY_SEED, kem_label=labels.MASK_KEM_SEED, sid=sid)
    return AgreementKey(seed, label=labels.MASK_KEY_SEED, sid=sid)


def share_agreement_key(suite: Suite, seed: bytes, *, sid: bytes) -> AgreementKey:
    """Return the key under which shares are sealed for a party."""
    if suite.hybrid:
        return HybridKey(seed, label=labels.SHARE_KEY_SEED, kem_label=labels.SHARE_KEM_SEED, sid=sid)
    return AgreementKey(seed, label=labels.SHARE_KEY_SEED, sid=sid)


def seed_commitment(sid: bytes, party: int, seed: bytes) -> bytes:
    """Return H(b_u), bound to session and party (R6.2.2)."""
    return digest_fields(labels.SELF_SEED_COMMITMENT, sid, encode_index(party), seed)


def share_commitment(binding: Binding, *, dealer: int, holder: int, kind: int, share: bytes) -> bytes:
    """Return the commitment to one share, bound to everything that says which share it is (R6.6.3).

    A share has 256 bits of entropy for anybody who could not rebuild the secret anyway, so the plain hash
    hides it.
    """
    return digest_fields(
        labels.SHARE_COMMITMENT,
        binding.sid,
        binding.view,
        encode_index(dealer),
        encode_index(holder),
        bytes([kind]),
        share,
    )


def self_mask(binding: Binding, party: int, seed: bytes) -> Keystream:
    """Return PRG(b_u)."""
    return Keystream(derive_key(seed, party_info(labels.SELF_MASK, binding, party)))


def pair_mask(
    binding: Binding, own: tuple[int, AgreementKey], peer: tuple[int, bytes], *, secret: bytes = b""
) -> tuple[Keystream, int]:
    """Return PRG(k_uv) and the sign of `own`: + towards larger indices, - towards smaller (R6.4.4).

    Args:
        binding: Session, view and suite.
        own: Index and mask key of one party.
        peer: Index and public mask key of the other.
        secret: a_uv in a hybrid suite. The X25519 secret stays in the key: it is what says who wrapped
            (R6.14.3).
    """
    (party, key), (peer_party, peer_public) = own, peer
    info = pair_info(labels.PAIR_MASK, binding, (party, key.public), peer)
    stream = Keystream(derive_key(key.exchange(peer_public, party=peer_party) + secret, info))
    return stream, 1 if party < peer_party else -1


def wrap_pair_secret(binding: Binding, seed: bytes, party: int, peer: tuple[int, bytes]) -> bytes:
    """Wrap a_uv for the party with the larger index; v can open it, and so can whoever rebuilds s_v."""
    secret = _own_pair_secret(binding, seed, party, peer[0])
    return wrap(secret, peer[1], _pair_wrap_info(binding, party, peer[0]))


def pair_secret(
    binding: Binding, own: tuple[int, AgreementKey], seed: bytes, dealt_by_peer: SharesMessage
) -> bytes:
    """Return a_uv from the side of either party, or of the aggregator in its place; empty without hybrid.

    Args:
        binding: Session, view and suite.
        own: Index and mask key of one party.
        seed: That party's s_u.
        dealt_by_peer: The shares message of the other.

    Raises:
        SealedBoxError: The peer with the smaller index did not wrap it properly (R6.14.4).
    """
    party, key = own
    peer = dealt_by_peer.party
    if not isinstance(key, HybridKey):
        return b""
    if party < peer:
        return _own_pair_secret(binding, seed, party, peer)
    return key.unwrap(dealt_by_peer.wrap(party), _pair_wrap_info(binding, peer, party), party=peer)


def _own_pair_secret(binding: Binding, seed: bytes, party: int, peer: int) -> bytes:
    return derive_key(seed, party_info(labels.PAIR_SECRET, binding, party) + encode_index(peer))


def _pair_wrap_info(binding: Binding, low: int, high: int) -> bytes:
    return encode_fields(labels.PAIR_WRAP, binding.sid, binding.view, encode_index(low), encode_index(high))
