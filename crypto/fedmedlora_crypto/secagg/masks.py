"""The derivations that a party and the aggregator have in common (PROTOCOL §6.3 to §6.6).

Both sides compute the same pair masks, the same commitments and the same keys from the same seeds; they do
it here.
"""

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import digest_fields, encode_fields, encode_index
from fedmedlora_crypto.keys import AgreementKey, Binding, derive_key, pair_info, party_info
from fedmedlora_crypto.xof import Keystream


def mask_agreement_key(seed: bytes, *, sid: bytes) -> AgreementKey:
    """Return the pair-mask key of the seed s_u; the aggregator rebuilds it for a party that dropped out."""
    return AgreementKey(seed, label=labels.MASK_KEY_SEED, sid=sid)


def share_agreement_key(seed: bytes, *, sid: bytes) -> AgreementKey:
    """Return the key under which shares are sealed for a party."""
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
    binding: Binding, own: tuple[int, AgreementKey], peer: tuple[int, bytes]
) -> tuple[Keystream, int]:
    """Return PRG(k_uv) and the sign of `own`: + towards larger indices, - towards smaller."""
    (party, key), (peer_party, peer_public) = own, peer
    info = pair_info(labels.PAIR_MASK, binding, (party, key.public), peer)
    stream = Keystream(derive_key(key.exchange(peer_public, party=peer_party), info))
    return stream, 1 if party < peer_party else -1


def share_box_key(
    binding: Binding, own: tuple[int, AgreementKey], peer: tuple[int, bytes], *, dealer: int
) -> bytes:
    """Return the key of the one box that `dealer`, one of the two, seals for the other (R6.5.1)."""
    party, key = own
    info = pair_info(labels.SHARE_BOX, binding, (party, key.public), peer) + encode_index(dealer)
    return derive_key(key.exchange(peer[1], party=peer[0]), info)


def share_box_context(binding: Binding, *, dealer: int, holder: int) -> bytes:
    """Return the associated data of a box: label, session, view, sender, receiver (R6.5.2)."""
    return encode_fields(
        labels.SHARE_BOX, binding.sid, binding.view, encode_index(dealer), encode_index(holder)
    )
