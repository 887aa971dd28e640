"""Attacks that work against the protocol with one check taken out, and are refused with it.

In each, a malicious coordinator with at most c colluding parties reads one honest party's vector exactly.
The check is disabled by replacing the one piece of the library that makes it; nothing else is changed.
"""

import copy

import numpy as np
import pytest

from fedmedlora_crypto.errors import (
    AlreadyAgreedError,
    AlreadyOpenedError,
    DuplicateKeyError,
    MalformedKeyError,
    ShortInboxError,
)
from fedmedlora_crypto.keys import AgreementKey, Binding
from fedmedlora_crypto.secagg import masks, party, roster
from fedmedlora_crypto.secagg.messages import decode_keys
from fedmedlora_crypto.xof import Vector
from fedmedlora_testkit.adversary.secrets import copied_key, raw_exchange, trusting_read
from fedmedlora_testkit.secagg import SID, Ward, opened_seed, take_off, vectors_of


def lower_threshold(victim: party.Party, threshold: int) -> None:
    """Take T from somewhere else than the charter, for this party, from here on."""
    terms = copy.copy(victim._terms)
    object.__setattr__(terms, "threshold", threshold)
    victim._terms = terms


# short inbox, n = 4, c = 1, T = 3: party 1 is the victim, 4 colludes


def short_inbox(ward: Ward, *, checked: bool) -> Vector:
    """Show the victim an inbox that holds only itself and the colluder; everybody else plays on honestly."""
    ward.advertise()
    ward.share()
    colluder_key = vars(ward.parties[4])["_own"].mask_key
    if not checked:
        lower_threshold(ward.parties[1], 2)
    ward.parties[1].fix({i: ward.shares[i] for i in (1, 4)})
    upload = vectors_of(range(1, 5))[1]
    ward.parties[1].mask(upload)
    for i in (2, 3, 4):
        ward.parties[i].fix(ward.shares)
        ward.parties[i].mask(np.zeros(64, dtype=np.uint32))
        ward.parties[i].agree((1, 2, 3, 4))
    # the victim never agrees, and T = 3 others are enough
    opened = {i: ward.parties[i].open((1, 2, 3, 4), (2, 3, 4)) for i in (2, 3, 4)}
    binding = ward.terms.binding(ward.view)
    victim_key = decode_keys(ward.keys[1], sid=SID, party=1).mask_key
    pair, sign = masks.pair_mask(binding, (4, colluder_key), (1, victim_key))
    return take_off(upload, (masks.self_mask(binding, 1, opened_seed(ward, opened, 1)), 1), (pair, -sign))


def test_short_inbox_reads_the_victim_without_the_check() -> None:
    stolen = short_inbox(Ward(4), checked=False)
    assert np.array_equal(stolen, vectors_of(range(1, 5))[1])


def test_short_inbox_is_refused_with_the_check() -> None:
    # R6.10.2
    with pytest.raises(ShortInboxError):
        short_inbox(Ward(4), checked=True)


# re-encoded or copied key, n = 3, c = 1: party 1 colludes and advertises 3's mask key, 2 is the victim. The
# pair mask with 1 is subtracted and the one with 3 added, so equal masks cancel; the self mask is opened.


def unbound_pair_info(label: bytes, binding: Binding, *_: object) -> bytes:
    """A derivation that forgets the ids and the public keys."""
    return label + binding.sid + binding.view


def disable_key_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "read_keys", trusting_read)
    monkeypatch.setattr(roster, "check_public_key", lambda *_, **__: None)
    monkeypatch.setattr(AgreementKey, "exchange", raw_exchange)


@pytest.mark.parametrize("reencode", [True, False])
def test_copied_key_reads_the_victim_without_the_checks(
    monkeypatch: pytest.MonkeyPatch, reencode: bool
) -> None:
    disable_key_checks(monkeypatch)
    monkeypatch.setattr(masks, "pair_info", unbound_pair_info)
    assert copied_key(reencode=reencode)


@pytest.mark.parametrize("reencode", [True, False])
def test_copied_key_is_useless_while_derivation_binds_ids(
    monkeypatch: pytest.MonkeyPatch, reencode: bool
) -> None:
    # R6.3.4: the second line of defence holds alone
    disable_key_checks(monkeypatch)
    assert not copied_key(reencode=reencode)


@pytest.mark.parametrize(("reencode", "error"), [(True, MalformedKeyError), (False, DuplicateKeyError)])
def test_copied_key_is_refused_with_the_checks(
    monkeypatch: pytest.MonkeyPatch, reencode: bool, error: type[Exception]
) -> None:
    # R6.3.1, R6.8.2: the first line holds alone too, at every party and at the aggregator
    monkeypatch.setattr(masks, "pair_info", unbound_pair_info)
    with pytest.raises(error):
        copied_key(reencode=reencode)


# both seeds of one party, n = 4: everybody answers for U3 with 2 in it and then for U3 without it


def both_seeds(ward: Ward, *, checked: bool) -> Vector:
    """Ask the honest parties a second time, with the victim declared dropped."""
    ward.advertise()
    ward.share()
    ward.upload()
    # the check taken out: a party's state is what it was before it agreed, and nothing was erased
    again = ward.parties if checked else copy.deepcopy(ward.parties)
    ward.agree()
    ward.open()
    first = dict(ward.opened)
    second = {}
    for i in (1, 3, 4):
        again[i].agree((1, 3, 4))
    for i in (1, 3, 4):
        second[i] = again[i].open((1, 3, 4), (1, 3, 4))
    binding = ward.terms.binding(ward.view)
    key = masks.mask_agreement_key(ward.terms.layout, opened_seed(ward, second, 2), sid=SID)
    peers = [(i, decode_keys(ward.keys[i], sid=SID, party=i).mask_key) for i in (1, 3, 4)]
    pairs = [masks.pair_mask(binding, (2, key), peer) for peer in peers]
    return take_off(ward.masked[2], (masks.self_mask(binding, 2, opened_seed(ward, first, 2)), 1), *pairs)


def test_both_seeds_read_the_victim_without_the_check() -> None:
    assert np.array_equal(both_seeds(Ward(4), checked=False), vectors_of(range(1, 5))[2])


def test_both_seeds_are_refused_with_the_check() -> None:
    # R6.11.1, R6.12.1
    with pytest.raises(AlreadyAgreedError):
        both_seeds(Ward(4), checked=True)
    ward = Ward(4)
    ward.run_to(ward.open)
    with pytest.raises(AlreadyOpenedError):
        ward.parties[1].open((1, 3, 4), (1, 3, 4))


# one mask for two vectors: the difference of two uploads is the difference of the vectors


def test_second_vector_under_one_mask_gives_the_difference_away() -> None:
    # R6.10.5
    ward = Ward(4)
    ward.run_to(ward.share)
    ward.parties[1].fix(ward.shares)
    twin = copy.deepcopy(ward.parties[1])
    one, two = np.arange(64, dtype=np.uint32), np.arange(64, dtype=np.uint32) ** 2
    first, second = one.copy(), two.copy()
    ward.parties[1].mask(first)
    twin.mask(second)
    assert np.array_equal(second - first, two - one)
