"""The shared derivations: what they are bound to, signs, and that no key is used twice."""

import numpy as np
import pytest

from fedmedlora_crypto.keys import Binding
from fedmedlora_crypto.secagg import MASKED_SUITE, SUITES, masks
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED
from fedmedlora_testkit.secagg import SID, Ward

VIEW = b"v" * 32
BINDING = Binding(SID, VIEW, MASKED_SUITE)
LOW = masks.mask_agreement_key(SUITES[MASKED_SUITE], b"l" * 32, sid=SID)
HIGH = masks.mask_agreement_key(SUITES[MASKED_SUITE], b"h" * 32, sid=SID)


def test_seed_commitment_binds_session_party_and_seed() -> None:
    # R6.2.2
    made = {
        masks.seed_commitment(sid, party, seed)
        for sid in (SID, VIEW)
        for party in (1, 2)
        for seed in (bytes(32), b"s" * 32)
    }
    assert len(made) == 8


def test_share_commitment_binds_everything_that_says_which_share() -> None:
    # R6.6.3
    made = {
        masks.share_commitment(Binding(sid, view, "s"), dealer=dealer, holder=holder, kind=kind, share=share)
        for sid in (SID, VIEW)
        for view in (SID, VIEW)
        for dealer in (1, 2)
        for holder in (1, 2)
        for kind in (SELF_SEED, MASK_KEY)
        for share in (bytes(33), b"\0" * 32 + b"\1")
    }
    assert len(made) == 64


def test_pair_masks_cancel() -> None:
    # R6.4.4
    one, plus = masks.pair_mask(BINDING, (1, LOW), (2, HIGH.public))
    two, minus = masks.pair_mask(BINDING, (2, HIGH), (1, LOW.public))
    assert (plus, minus) == (1, -1)
    assert np.array_equal(one.words(0, 100), two.words(0, 100))


def test_self_masks_differ_by_party_and_view() -> None:
    seed = b"s" * 32
    words = {
        masks.self_mask(Binding(SID, view, MASKED_SUITE), party, seed).words(0, 4).tobytes()
        for view in (SID, VIEW)
        for party in (1, 2)
    }
    assert len(words) == 4


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_no_mask_key_is_used_for_two_vectors_but_by_the_pair_it_belongs_to(suite: str) -> None:
    # R6.4.2: over two sessions every self key is used once and every pair key twice, with +1 and -1
    uses: dict[bytes, list[int]] = {}
    for sid in (SID, SID[::-1]):
        ward = Ward(4, suite=suite, sid=sid)
        ward.advertise()
        ward.share()
        for party in ward.parties.values():
            party.fix(ward.shares)
            for stream, sign in vars(party)["_streams"]:
                uses.setdefault(stream._key, []).append(sign)
    signs = sorted(map(sorted, uses.values()))
    assert signs == [[-1, 1]] * 12 + [[1]] * 8
