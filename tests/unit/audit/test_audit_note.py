"""Signed notes: one spelling, one signer, no weak keys."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit.errors import NoteError
from fedmedlora_audit.note import (
    ALG_COSIGNATURE,
    ALG_ED25519,
    LOW_ORDER_KEYS,
    NoteSigner,
    VerifierKey,
    key_id,
    parse_note,
    verify_bytes,
)

SIGNER = NoteSigner.from_seed("site-a", bytes(range(32)))
KEY = VerifierKey.parse(SIGNER.vkey)
NOTE = SIGNER.sign("one line\n")

# c2sp.org/signed-note v1.0.0, the example of the specification.
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZ"
    "XsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

# The example in the documentation of golang.org/x/mod/sumdb/note; Ed25519 is deterministic.
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
).encode()

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


def _decompress(encoding: bytes) -> tuple[int, int]:
    """Decode a point as lenient libraries do: y is reduced, not refused."""
    number = int.from_bytes(encoding, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % _P
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x * x % _P != square:
        raise ValueError("not on the curve")
    return (_P - x) % _P if x & 1 != sign else x, y


def _double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = _D * x * x * y * y % _P
    return (
        2 * x * y * pow(1 + product, -1, _P) % _P,
        (y * y + x * x) * pow(1 - product, -1, _P) % _P,
    )


def test_low_order_list_is_complete_and_each_is_of_order_at_most_eight() -> None:
    assert len(LOW_ORDER_KEYS) == 14
    for encoding in LOW_ORDER_KEYS:
        assert _double(_double(_double(_decompress(encoding)))) == (0, 1)


@pytest.mark.parametrize("encoding", sorted(LOW_ORDER_KEYS), ids=bytes.hex)
def test_vkey_low_order_refused(encoding: bytes) -> None:
    vkey = f"evil+{key_id('evil', 1, encoding)}+{base64.b64encode(bytes([1]) + encoding).decode()}"
    with pytest.raises(NoteError, match="low-order"):
        VerifierKey.parse(vkey)


def test_low_order_key_without_the_refusal_verifies_any_message() -> None:
    """The attack that the refusal stops: under the identity key one signature fits two messages."""
    identity = bytes([1]) + bytes(31)
    signature = identity + bytes(32)  # R = identity, s = 0
    for message in (b"yes", b"no"):
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)


def test_spec_example_key_parses() -> None:
    key = VerifierKey.parse(SPEC_VKEY)
    assert (key.name, key.key_id, key.algorithm) == ("example.com/foo", "530d903a", ALG_ED25519)
    assert key.vkey == SPEC_VKEY
    assert key.open(SPEC_NOTE) == "This is an example message.\n"


def test_go_example_is_reproduced_byte_for_byte() -> None:
    signer = NoteSigner.from_seed("PeterNeumann", GO_SEED)
    assert signer.key_id == "c74f20a3"
    assert signer.sign(GO_TEXT) == GO_NOTE


def test_sign_and_open_round_trip() -> None:
    assert KEY.open(NOTE) == "one line\n"
    assert NOTE.startswith("one line\n\n\u2014 site-a ".encode())
    assert KEY.open(SIGNER.sign("a\n\nb\n")) == "a\n\nb\n"
    assert "PrivateKey" not in repr(SIGNER)
    assert NoteSigner.generate("x").key_id != NoteSigner.generate("x").key_id


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200))
def test_any_text_round_trips(text: str) -> None:
    assert KEY.open(SIGNER.sign(text + "\n")) == text + "\n"


def test_every_single_bit_of_a_note_matters() -> None:
    for place in range(len(NOTE)):
        for bit in range(8):
            changed = bytearray(NOTE)
            changed[place] ^= 1 << bit
            with pytest.raises(NoteError):
                KEY.open(bytes(changed))


@given(st.binary(max_size=300))
def test_any_bytes_never_crash(junk: bytes) -> None:
    with pytest.raises(NoteError):
        KEY.open(junk)


def test_second_signature_line_refused_as_g45() -> None:
    # R5.1.1
    other = NoteSigner.generate("site-b").sign("one line\n").split(b"\n\n")[1]
    with pytest.raises(NoteError) as caught:
        KEY.open(NOTE + other)
    assert caught.value.check == "G45"
    KEY.verify(parse_note(NOTE + other))  # what a checkpoint may carry


def test_signature_doubled_refused() -> None:
    line = NOTE.split(b"\n\n")[1]
    with pytest.raises(NoteError, match="found 2"):
        KEY.verify(parse_note(NOTE + line))


def test_non_canonical_base64_refused_as_g45() -> None:
    # R5.1.1
    head, line = NOTE.decode().rsplit(" ", 1)
    encoded = line.rstrip("\n")
    assert not encoded.endswith("=="), "68 bytes end in one padding character"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(encoded[-2])
    changed = encoded[:-2] + alphabet[last ^ 1] + "="
    assert base64.b64decode(changed) == base64.b64decode(encoded)
    with pytest.raises(NoteError) as caught:
        KEY.open(f"{head} {changed}\n".encode())
    assert caught.value.check == "G45"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text only\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 site-a\n",
        b"text\n\n- site-a AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 site-a AAAA\n",
        b"text\n\n\xe2\x80\x94 si+te AAAAAAAAAAAA\n",
        NOTE[:-1],
        NOTE + b"\n",
        b"\t" + NOTE,
        b"\xff" + NOTE,
        NOTE.replace(b"\n", b"\r\n"),
    ],
)
def test_malformed_notes_refused(note: bytes) -> None:
    with pytest.raises(NoteError):
        KEY.open(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a+b",
        SIGNER.vkey.replace("site-a", "site-b"),
        SIGNER.vkey.replace("site-a", "site a"),
        SIGNER.vkey[:-4],
        SIGNER.vkey.replace("+A", "+C"),
        SIGNER.vkey + "=",
    ],
)
def test_malformed_vkeys_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(vkey)


def test_wrong_signer_refused() -> None:
    with pytest.raises(NoteError, match="expected one signature"):
        VerifierKey.parse(NoteSigner.generate("site-a").vkey).open(NOTE)


def test_witness_key_signs_and_opens_no_notes() -> None:
    witness = NoteSigner.from_seed("site-a", bytes(32), algorithm=ALG_COSIGNATURE)
    assert VerifierKey.parse(witness.vkey).algorithm == ALG_COSIGNATURE
    with pytest.raises(NoteError):
        witness.sign("text\n")
    with pytest.raises(NoteError):
        VerifierKey.parse(witness.vkey).open(NOTE)


def test_sign_refuses_texts_that_are_no_notes() -> None:
    for text in ("no newline", "tab\there\n", ""):
        with pytest.raises(NoteError):
            SIGNER.sign(text)


def test_raw_signature_round_trip() -> None:
    verify_bytes(KEY, b"statement", SIGNER.sign_bytes(b"statement"))
    with pytest.raises(NoteError):
        verify_bytes(KEY, b"statement2", SIGNER.sign_bytes(b"statement"))
