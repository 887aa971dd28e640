"""Attacks on the secrets of a session: what a coordinator, alone or with colluders, could compute.

Each returns whether the victim's vector (or what a lying site wanted) came out exactly.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from fedmedlora_core.aggregation import WeightRule
from fedmedlora_crypto.errors import (
    AlreadyAgreedError,
    DuplicateKeyError,
    LateFlightError,
    MalformedKeyError,
    MaskReusedError,
    SealedBoxError,
    ShareCommitmentError,
    ShortOpeningsError,
)
from fedmedlora_crypto.keys import AgreementKey, derive_key
from fedmedlora_crypto.secagg import (
    HYBRID_SUITE,
    MASKED_SUITE,
    SUITES,
    aggregator,
    dealing,
    masks,
    party,
    roster,
)
from fedmedlora_crypto.secagg.messages import SELF_SEED, decode_keys, decode_shares
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_crypto.xof import Keystream, Vector, add_keystreams
from fedmedlora_testkit.adversary.registry import SecretAttack, attack
from fedmedlora_testkit.secagg import SID, Ward, opened_seed, plain_sum, take_off, vectors_of

MASK_KEY_AT = slice(68, 100)
HYBRID = SUITES[HYBRID_SUITE]


# -- a re-encoded or copied key, n = 3, c = 1: party 1 colludes and advertises 3's mask key, 2 is the victim.
# Its pair mask with 1 is subtracted and the one with 3 added, so equal masks cancel; the self mask is opened.


def trusting_read(terms: Any, payloads: Any) -> Any:
    """The rule for U1 without the checks of the keys."""
    return {i: decode_keys(payloads[i], sid=terms.sid, party=i) for i in sorted(payloads)}, {}


def raw_exchange(self: AgreementKey, peer_public: bytes, *, party: int | None = None) -> bytes:
    """X25519 as the library does it: the top bit is ignored and non-canonical numbers are reduced."""
    return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))


def copied_key(*, reencode: bool) -> bool:
    """Run a whole round in which 1 advertises 3's mask key, and strip 2's upload."""
    ward = Ward(3, suite=MASKED_SUITE)
    ward.advertise()
    stolen = bytearray(ward.keys[3][MASK_KEY_AT])
    stolen[31] |= 0x80 if reencode else 0
    ward.keys[1] = ward.keys[1][:68] + bytes(stolen) + ward.keys[1][100:]
    vars(ward.parties[1])["_sent_keys"] = ward.keys[1]
    ward.view = reference_view(SID, ward.keys)
    ward.share()
    vectors = vectors_of(range(1, 4))
    ward.upload(vectors)
    ward.agree()
    ward.open()
    binding = ward.terms.binding(ward.view)
    stolen_vector = take_off(
        ward.masked[2], (masks.self_mask(binding, 2, opened_seed(ward, ward.opened, 2)), 1)
    )
    return np.array_equal(stolen_vector, vectors[2])


KEYS_UNCHECKED = (
    (party, "read_keys", trusting_read),
    (aggregator, "read_keys", trusting_read),
    (roster, "check_public_key", lambda *_, **__: None),
    (AgreementKey, "exchange", raw_exchange),
    (masks, "pair_info", lambda label, binding, *_: label + binding.sid + binding.view),
)
for _id, _what, _reencode, _error in (
    ("reencoded-key", "advertises another site's key in another encoding", True, MalformedKeyError),
    ("copied-key", "advertises another site's key", False, DuplicateKeyError),
):
    attack(
        SecretAttack(
            _id,
            f"with one colluder: {_what} (n = 3)",
            "G35",
            _error,
            partial(copied_key, reencode=_reencode),
            KEYS_UNCHECKED,
            "coordinator and 1 site",
        )
    )


# -- both seeds of one party, n = 4: everybody answers for U3 with 2 in it and then for U3 without it


def pair_streams(ward: Ward, victim: int, seed: bytes, peers: tuple[int, ...]) -> list[tuple[Keystream, int]]:
    """The pair masks of a party whose s is known."""
    binding, suite = ward.terms.binding(ward.view), ward.terms.layout
    key = masks.mask_agreement_key(suite, seed, sid=SID)
    streams = []
    for peer in peers:
        public = decode_keys(ward.keys[peer], sid=SID, party=peer, suite=suite).mask_key
        dealt = decode_shares(ward.shares[peer], sid=SID, party=peer, suite=suite)
        secret = masks.pair_secret(binding, (victim, key), seed, dealt)
        streams.append(masks.pair_mask(binding, (victim, key), (peer, public), secret=secret))
    return streams


def both_seeds() -> bool:
    """Ask the honest parties a second time, with the victim declared dropped."""
    ward = Ward(4, suite=HYBRID_SUITE).run_to_upload()
    ward.agree()
    ward.open()
    first, second = dict(ward.opened), {}
    for i in (1, 3, 4):
        ward.parties[i].agree((1, 3, 4))
    for i in (1, 3, 4):
        second[i] = ward.parties[i].open((1, 3, 4), (1, 3, 4))
    binding = ward.terms.binding(ward.view)
    self_stream = (masks.self_mask(binding, 2, opened_seed(ward, first, 2)), 1)
    pairs = pair_streams(ward, 2, opened_seed(ward, second, 2), (1, 3, 4))
    return np.array_equal(take_off(ward.masked[2], self_stream, *pairs), vectors_of([2])[2])


def forgetful_agree(self: Party, survivors: Any) -> None:
    """Agree as often as asked, to whatever is asked."""
    self._survivors, self._step = tuple(sorted(survivors)), party.Step.AGREED


def forgetful_open(self: Party, survivors: Any, signers: Any) -> bytes:
    """Open as often as asked, and erase nothing."""
    kept = copy.deepcopy(self._held)
    message = self._opening()
    self._held = kept
    return message.encode(self._terms.sid)


attack(
    SecretAttack(
        "second-agreement",
        "asks for both seeds of one site under two survivor sets of one session",
        "G34",
        AlreadyAgreedError,
        both_seeds,
        ((Party, "agree", forgetful_agree), (Party, "open", forgetful_open)),
    )
)


# -- the late flight of an aborted attempt


def late_flight() -> bool:
    """Let attempt 2 give the sum without 4, then ask for the openings of attempt 1, which was aborted."""
    vectors = vectors_of(range(1, 5))
    first = Ward(4, suite=HYBRID_SUITE).run_to_upload(vectors)
    first.agree()
    for one in first.parties.values():
        one.erase()  # before they advertise for attempt 2
    second = Ward(4, suite=HYBRID_SUITE, sid=bytes(32)).run_to_upload(vectors, late=(4,))
    second.agree()
    second.open()
    without = second.total()
    second.unmask(without)
    first.open()
    whole = first.total()
    first.unmask(whole)
    return np.array_equal(whole - without, vectors[4])


attack(
    SecretAttack(
        "late-flight",
        "asks for the openings of an aborted attempt once the retry without one site is opened",
        "G37",
        LateFlightError,
        late_flight,
        ((Party, "erase", lambda self: None),),
    )
)


# -- one mask for two vectors


def second_mask() -> bool:
    """A site that was restarted masks its update of another round with the same masks."""
    ward = Ward(4, suite=HYBRID_SUITE)
    ward.advertise()
    ward.share()
    ward.parties[1].fix(ward.shares)
    one, two = np.arange(64, dtype=np.uint32), np.arange(64, dtype=np.uint32) ** 2
    first, second = one.copy(), two.copy()
    ward.parties[1].mask(first)
    ward.parties[1].mask(second)
    return np.array_equal(second - first, two - one)


def careless_mask(self: Party, vector: Vector, *, threads: int = 1) -> None:
    """Keep the masks for the next time."""
    add_keystreams(vector, self._streams, threads=threads)


attack(
    SecretAttack(
        "second-mask",
        "makes a restarted site mask a second vector in one session",
        "G38",
        MaskReusedError,
        second_mask,
        ((Party, "mask", careless_mask),),
    )
)


# -- the late upload of a site that was declared dropped


def kept_upload() -> bool:
    """Take the opened pair masks off the upload of a site that was declared dropped."""
    ward = Ward(4, suite=HYBRID_SUITE).run_to_upload(late=(2,))
    vector = vectors_of([2])[2]
    upload = vector.copy()
    ward.parties[2].mask(upload)
    ward.agree()
    ward.open()
    pairs = pair_streams(ward, 2, opened_seed(ward, ward.opened, 2), (1, 3, 4))
    guess = (masks.self_mask(ward.terms.binding(ward.view), 2, bytes(32)), 1)
    return np.array_equal(take_off(upload, *pairs, guess), vector)


attack(
    SecretAttack(
        "late-upload",
        "declares a site dropped, keeps its late upload and rebuilds its pair key",
        "G48",
        None,
        kept_upload,
        ((masks, "self_mask", lambda *_: Keystream(bytes(32))),),  # no self mask: one that everybody knows
    )
)


# -- a wrong wrap: while HPKE does not say who wrapped, the coordinator wraps secrets of its own for party 4


def forged_wraps() -> bool:
    """Replace all wraps for one party, and strip its upload with a key that no party has."""
    ward = Ward(4, suite=HYBRID_SUITE)
    ward.advertise()
    ward.share()
    binding = ward.terms.binding(ward.view)
    seed = b"chosen by the coordinator       "
    public = decode_keys(ward.keys[4], sid=SID, party=4, suite=HYBRID).mask_key
    shown = dict(ward.shares)
    for i in (1, 2, 3):
        wrapped = decode_shares(shown[i], sid=SID, party=i, suite=HYBRID).wrap(4)
        shown[i] = shown[i].replace(wrapped, masks.wrap_pair_secret(binding, seed, i, (4, public)))
    self_seed = vars(ward.parties[4])["_own"].self_seed  # opened anyway, since 4 survives
    ward.parties[4].fix(shown)
    vector = vectors_of([4])[4]
    masked = vector.copy()
    ward.parties[4].mask(masked)
    streams = [(masks.self_mask(binding, 4, self_seed), 1)]
    any_key = masks.mask_agreement_key(HYBRID, seed, sid=SID)
    for i in (1, 2, 3):
        peer = decode_keys(ward.keys[i], sid=SID, party=i, suite=HYBRID).mask_key
        secret = masks._own_pair_secret(binding, seed, i, 4)
        stream, sign = masks.pair_mask(binding, (i, BorrowedKey(any_key, peer)), (4, public), secret=secret)
        streams.append((stream, -sign))
    return np.array_equal(take_off(masked, *streams), vector)


class BorrowedKey(AgreementKey):
    """The coordinator's private key under a party's public key."""

    def __init__(self, key: AgreementKey, public: bytes) -> None:
        self._private, self._secrets = key._private, {}
        self.public = public

    def exchange(self, peer_public: bytes, *, party: int | None = None) -> bytes:
        return super().exchange(peer_public[:32], party=party)


attack(
    SecretAttack(
        "forged-wraps",
        "wraps secrets of its own for one site in the place of the others'",
        "R6.14.3",
        None,
        forged_wraps,
        (
            (
                masks,
                "derive_key",
                lambda secret, info: derive_key(secret[32:] if len(secret) == 64 else secret, info),
            ),
        ),
    )
)


# -- the weight of one site, from sums over the others and itself


def weight_difference() -> bool:
    """Subtract two published sums of weights that differ by one site, and read its number of notes."""
    rule = WeightRule(size_exponent=1.0, tau=0.0, weights="ladder", weight_scale=1, weight_max=1 << 20)
    sizes = (310, 477, 1203, 845)
    weights = [rule.weight_of(n_notes=size, loss=1.0) for size in sizes]
    return sum(weights) - sum(weights[:3]) == sizes[3]


attack(
    SecretAttack(
        "weight-difference",
        "subtracts sums of weights over rounds with and without one site",
        "G39",
        None,
        weight_difference,
        ((WeightRule, "weight_of", lambda self, *, n_notes, loss: n_notes),),  # what `exact` gives
    )
)


# -- a lying site


class _Yes:
    """A comparison that says yes."""

    @staticmethod
    def compare_digest(*_: bytes) -> bool:
        return True


def wrong_opening(liars: tuple[int, ...]) -> bool:
    """Return wrong shares; the aim is a wrong sum that nobody notices."""
    ward = Ward(4, suite=HYBRID_SUITE).run_to_upload()
    ward.agree()
    ward.open()
    for i in liars:
        at = len(ward.opened[i]) - 3 * 34 - 1  # the last byte of the share of 1's seed
        ward.opened[i] = ward.opened[i][:at] + bytes([ward.opened[i][at] ^ i]) + ward.opened[i][at + 1 :]
    total = ward.total()
    ward.unmask(total)
    return not np.array_equal(total, plain_sum(vectors_of(range(1, 5)).values()))


attack(
    SecretAttack(
        "wrong-opened-shares",
        "n - T + 1 sites return wrong shares to spoil the sum unseen",
        "R6.12.4",
        ShortOpeningsError,
        lambda: wrong_opening((1, 2)),
        ((aggregator, "hmac", _Yes),),
        "2 sites",
    )
)


def bent_inbox(bend: Any) -> bool:
    """A dealer that commits to, or wraps, something else than it deals; the aim is that nobody notices."""
    ward = Ward(4, suite=HYBRID_SUITE)
    ward.advertise()
    ward.share()
    message = decode_shares(ward.shares[1], sid=SID, party=1, suite=HYBRID)
    ward.parties[3].fix(ward.shares | {1: bend(ward.shares[1], message)})
    return True


attack(
    SecretAttack(
        "wrong-dealt-share",
        "a site deals another share than it committed to, to frame its holder later",
        "R6.10.4",
        ShareCommitmentError,
        lambda: bent_inbox(lambda payload, m: payload.replace(m.commitment(3, SELF_SEED), bytes(32))),
        ((dealing, "hmac", _Yes),),
        "1 site",
    )
)


def _flip(payload: bytes, part: bytes) -> bytes:
    return payload.replace(part, bytes([part[0] ^ 1]) + part[1:])


attack(
    SecretAttack(
        "wrong-wrap",
        "a site sends a wrap that does not open, so that its pair masks stay in the sum",
        "R6.14.4",
        SealedBoxError,
        lambda: bent_inbox(lambda payload, m: _flip(payload, m.wrap(3))),
        ((masks, "pair_secret", lambda *_: bytes(32)),),
        "1 site",
    )
)
