"""Canonical bytes, sealed boxes and the error classes."""

import hashlib
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto import errors
from fedmedlora_crypto.encoding import Reader, digest_fields, encode_fields, encode_index
from fedmedlora_crypto.errors import CryptoError, MalformedError, PeerError, QuorumError, SealedBoxError
from fedmedlora_crypto.sealed import TAG_BYTES, open_box, seal

REFUSAL_WORDS = {
    *(
        "not_in_roster",
        "wrong_key",
        "wrong_charter",
        "wrong_base",
        "wrong_sid",
        "wrong_order",
        "wrong_digest",
    ),
    *(
        "short_roster",
        "short_inbox",
        "short_survivors",
        "not_included",
        "bad_share",
        "duplicate",
        "both_seeds",
    ),
    *(
        "late",
        "spent",
        "consent_spent",
        "log_forked",
        "policy",
        "bad_aggregate",
        "wrong_sum",
        "no_evidence",
        "not_finite",
        "training_failed",
    ),
}
FIELDS = st.lists(st.binary(max_size=8), max_size=5)


@given(FIELDS, FIELDS)
def test_encode_fields_is_injective(one: list[bytes], two: list[bytes]) -> None:
    # R6.1.1
    assert (encode_fields(*one) == encode_fields(*two)) == (one == two)


def test_digest_fields_known_answer() -> None:
    expected = hashlib.sha256(b"\0\0\0\1L" + b"\0\0\0\2ab" + b"\0\0\0\0").digest()
    assert digest_fields(b"L", b"ab", b"") == expected


def test_reader_short_and_long_refused() -> None:
    reader = Reader(b"\1\2\3", party=4)
    assert reader.number(2) == 0x0102
    with pytest.raises(MalformedError, match="long") as caught:
        reader.end()
    assert caught.value.party == 4
    with pytest.raises(MalformedError, match="short"):
        reader.take(2)
    assert reader.take(1) == b"\3"
    reader.end()
    assert encode_index(258) == b"\1\2"


@given(plaintext=st.binary(max_size=100), context=st.binary(max_size=20))
def test_box_opens_under_its_key_and_context(plaintext: bytes, context: bytes) -> None:
    box = seal(b"k" * 32, plaintext, context=context)
    assert len(box) == len(plaintext) + TAG_BYTES
    assert open_box(b"k" * 32, box, context=context, party=1) == plaintext


@given(st.integers(0, 25), st.integers(1, 255))
def test_altered_box_refused(at: int, change: int) -> None:
    box = bytearray(seal(b"k" * 32, b"plaintext!", context=b"c"))
    box[at] ^= change
    with pytest.raises(SealedBoxError) as caught:
        open_box(b"k" * 32, bytes(box), context=b"c", party=3)
    assert caught.value.party == 3


@pytest.mark.parametrize(("key", "context"), [(b"j" * 32, b"c"), (b"k" * 32, b"d")])
def test_box_under_other_key_or_context_refused(key: bytes, context: bytes) -> None:
    # R6.5.2
    with pytest.raises(SealedBoxError):
        open_box(key, seal(b"k" * 32, b"p", context=b"c"), context=context, party=1)


@given(st.binary(max_size=40))
def test_any_bytes_as_box_raise_only_sealed_box_error(data: bytes) -> None:
    with pytest.raises(SealedBoxError):
        open_box(b"k" * 32, data, context=b"c", party=1)


def error_classes() -> list[type[CryptoError]]:
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    return [value for value in found if issubclass(value, CryptoError)]


@pytest.mark.parametrize("kind", error_classes())
def test_every_error_has_a_reason_of_the_log_and_a_fault(kind: type[CryptoError]) -> None:
    assert kind.reason in REFUSAL_WORDS
    assert kind.__doc__
    faults = (errors.PeerError, errors.QuorumError, errors.StateError, errors.TermsError)
    assert kind is CryptoError or issubclass(kind, faults)


def test_errors_carry_who_and_how_many() -> None:
    assert PeerError("bad", party=3).party == 3
    assert PeerError("bad").party is None
    short = QuorumError(2, 3)
    assert (short.have, short.need, str(short)) == (2, 3, "2 parties, the threshold is 3")
