"""Payloads: one encoding each; any other bytes raise PeerError and nothing else."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto.errors import MalformedError, PeerError, WrongSenderError, WrongSessionError
from fedmedlora_crypto.secagg.messages import (
    KeysMessage,
    OpenedMessage,
    SharesMessage,
    decode_keys,
    decode_opened,
    decode_shares,
)
from fedmedlora_testkit.secagg import SID, Ward

Message = KeysMessage | SharesMessage | OpenedMessage
Decoder = Callable[..., Message]
DECODERS: dict[str, Decoder] = {"keys": decode_keys, "shares": decode_shares, "opened": decode_opened}
HEADER = 36


def payloads() -> dict[str, bytes]:
    ward = Ward(4)
    ward.run_to(ward.open)
    return {"keys": ward.keys[2], "shares": ward.shares[2], "opened": ward.opened[2]}


GOOD = payloads()
KINDS = sorted(GOOD)


@pytest.mark.parametrize("kind", KINDS)
def test_good_payload_round_trips(kind: str) -> None:
    # R6.1.2
    assert DECODERS[kind](GOOD[kind], sid=SID, party=2).encode(SID) == GOOD[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_header_of_another_kind_session_sender_refused(kind: str) -> None:
    # R6.1.3
    decode, good = DECODERS[kind], GOOD[kind]
    with pytest.raises(WrongSessionError) as session:
        decode(good, sid=bytes(32), party=2)
    assert session.value.party == 2
    with pytest.raises(WrongSenderError) as sender:
        decode(good, sid=SID, party=3)
    assert sender.value.party == 3
    for other in KINDS:
        if other != kind:
            with pytest.raises(MalformedError, match="kind"):
                decode(GOOD[other], sid=SID, party=2)
    with pytest.raises(MalformedError, match="version"):
        decode(good[:1] + b"\2" + good[2:], sid=SID, party=2)


def decodes_canonically(decode: Decoder, data: bytes) -> None:
    """Either PeerError, or the bytes are the encoding of what was read."""
    try:
        message = decode(data, sid=SID, party=2)
    except PeerError as error:
        assert error.party == 2
        return
    assert message.encode(SID) == data


@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=300), headed=st.booleans())
def test_any_bytes_raise_only_peer_error(kind: str, data: bytes, headed: bool) -> None:
    # R6.1.2
    decodes_canonically(DECODERS[kind], GOOD[kind][:HEADER] + data if headed else data)


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_mutated_payload_raises_only_peer_error(kind: str, data: st.DataObject) -> None:
    # R6.1.2
    good = GOOD[kind]
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 8))
    decodes_canonically(DECODERS[kind], good[:at] + data.draw(st.binary(max_size=8)) + good[at + cut :])


@given(kind=st.sampled_from(KINDS), size=st.integers(0, 2000))
def test_truncated_or_extended_payload_refused(kind: str, size: int) -> None:
    good = GOOD[kind]
    if size == len(good):
        return
    data = good[:size] if size < len(good) else good + bytes(size - len(good))
    with pytest.raises(MalformedError):
        DECODERS[kind](data, sid=SID, party=2)


def indices(payload: bytes, values: list[int]) -> bytes:
    """Replace the list of four indices behind header and view."""
    at = HEADER + 32 + 2
    return payload[:at] + b"".join(v.to_bytes(2, "big") for v in values) + payload[at + 8 :]


@pytest.mark.parametrize("values", [[0, 2, 3, 4], [1, 1, 2, 3], [2, 1, 3, 4], [1, 2, 4, 3]])
@pytest.mark.parametrize("kind", ["shares", "opened"])
def test_indices_that_do_not_ascend_refused(kind: str, values: list[int]) -> None:
    assert indices(GOOD[kind], [1, 2, 3, 4]) == GOOD[kind]
    with pytest.raises(MalformedError, match="ascend"):
        DECODERS[kind](indices(GOOD[kind], values), sid=SID, party=2)


def test_dealer_missing_from_its_holders_refused() -> None:
    with pytest.raises(MalformedError, match="among its holders"):
        decode_shares(indices(GOOD["shares"], [1, 3, 4, 5]), sid=SID, party=2)


def test_unknown_kind_of_share_refused() -> None:
    at = HEADER + 32 + 2 + 8
    with pytest.raises(MalformedError, match="kind of share"):
        decode_opened(GOOD["opened"][:at] + b"\3" + GOOD["opened"][at + 1 :], sid=SID, party=2)


def test_repr_of_opened_shares_is_silent() -> None:
    # R6.13.2
    message = decode_opened(GOOD["opened"], sid=SID, party=2)
    assert "shares" not in repr(message)
    assert message.shares[0].hex() not in repr(message)
    assert repr(message.shares[0]) not in repr(message)
