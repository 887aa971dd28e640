"""Cosignatures: the bytes of c2sp.org/tlog-cosignature, whose they are, and what a quorum needs."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import (
    checkpoint_of,
    cosign,
    is_cosigned_after,
    open_cosigned,
    open_line,
    with_cosignatures,
)
from fedmedlora_audit.errors import CheckpointError, NoteError
from fedmedlora_audit.note import ALG_COSIGNATURE, ALG_COSIGNATURE_MLDSA, NoteSigner, VerifierKey

LOG = NoteSigner.from_seed("log.example", b"l" * 32)
HEAD = Checkpoint("log.example", 7, bytes(range(32)))
NOTE = sign_checkpoint(HEAD, LOG)
TIME = 1_772_323_200
WITNESSES = {
    site: NoteSigner.from_seed(site, site.encode().ljust(32, b"."), algorithm=ALG_COSIGNATURE)
    for site in ("site-a", "site-b", "site-c")
}
KEYS = {site: signer.verifier for site, signer in WITNESSES.items()}


def line_of(site: str, head: Checkpoint = HEAD, time: int = TIME) -> bytes:
    return cosign(head, WITNESSES[site], time=time)


def opened(*lines: bytes) -> dict[str, int]:
    head = open_cosigned(with_cosignatures(NOTE, lines), LOG.verifier, KEYS, origin="log.example")
    assert head.checkpoint == HEAD
    return dict(head.times)


def test_a_line_holds_key_id_time_and_signature_over_the_specified_message() -> None:
    dash, name, encoded = line_of("site-a").decode().rstrip("\n").split(" ")
    blob = base64.b64decode(encoded)
    assert (dash, name) == ("\u2014", "site-a")
    assert blob[:4].hex() == KEYS["site-a"].key_id
    assert int.from_bytes(blob[4:12], "big") == TIME
    message = f"cosignature/v1\ntime {TIME}\nlog.example\n7\n{base64.b64encode(HEAD.root).decode()}\n"
    key = Ed25519PrivateKey.from_private_bytes(b"site-a".ljust(32, b".")).public_key()
    key.verify(blob[12:], message.encode())


def test_an_ml_dsa_witness_signs_the_structure_of_the_specification() -> None:
    signer = NoteSigner.from_seed("site-q", b"q" * 32, algorithm=ALG_COSIGNATURE_MLDSA)
    line = cosign(HEAD, signer, time=TIME)
    blob = base64.b64decode(line.split(b" ")[2])
    public = MLDSA44PrivateKey.from_seed_bytes(b"q" * 32).public_key()
    identifier = hashlib.sha256(b"site-q\n\x06" + public.public_bytes_raw()).digest()[:4]
    assert (blob[:4], len(blob)) == (identifier, 4 + 8 + 2420)
    message = b"subtree/v1\n\0" + b"\x06site-q" + TIME.to_bytes(8, "big") + b"\x0blog.example"
    message += bytes(8) + (7).to_bytes(8, "big") + HEAD.root
    public.verify(blob[12:], message)
    assert open_line(line, VerifierKey.parse(signer.vkey), HEAD) == TIME


@pytest.mark.parametrize(
    "other", [Checkpoint("log.example", 8, HEAD.root), Checkpoint("log.example", 7, bytes(32))]
)
def test_an_ml_dsa_cosignature_of_another_head_or_time_does_not_hold(other: Checkpoint) -> None:
    signer = NoteSigner.from_seed("site-q", b"q" * 32, algorithm=ALG_COSIGNATURE_MLDSA)
    with pytest.raises(CheckpointError, match="does not hold"):
        open_line(cosign(other, signer, time=TIME), signer.verifier, HEAD)
    with pytest.raises(CheckpointError, match="does not hold"):
        open_line(with_time(cosign(HEAD, signer, time=TIME), TIME + 1), signer.verifier, HEAD)


def test_every_known_witness_counts_once_with_its_time() -> None:
    assert opened() == {}
    assert opened(line_of("site-a"), line_of("site-b", time=TIME + 5)) == {"site-a": TIME, "site-b": TIME + 5}


def test_lines_of_unknown_keys_are_left_alone() -> None:
    stranger = NoteSigner.generate("site-x", algorithm=ALG_COSIGNATURE)
    namesake = NoteSigner.generate("site-a", algorithm=ALG_COSIGNATURE)
    lines = (cosign(HEAD, stranger, time=TIME), cosign(HEAD, namesake, time=TIME), line_of("site-c"))
    assert opened(*lines) == {"site-c": TIME}


@pytest.mark.parametrize(
    "other",
    [
        Checkpoint("log.example", 8, HEAD.root),
        Checkpoint("log.example", 7, bytes(32)),
        Checkpoint("other.example", 7, HEAD.root),
    ],
)
def test_a_cosignature_of_another_head_does_not_hold(other: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="does not hold") as caught:
        opened(line_of("site-a", other), line_of("site-b"))
    assert caught.value.check == "C3"


def test_a_changed_time_does_not_hold() -> None:
    line = line_of("site-a")
    changed = with_time(line, TIME + 1)
    assert changed != line
    with pytest.raises(CheckpointError, match="does not hold"):
        opened(changed)


def with_time(line: bytes, time: int) -> bytes:
    blob = bytearray(base64.b64decode(line.split(b" ")[2]))
    blob[4:12] = time.to_bytes(8, "big")
    return b" ".join([*line.split(b" ")[:2], base64.b64encode(blob)]) + b"\n"


def test_two_lines_of_one_witness_are_refused() -> None:
    with pytest.raises(CheckpointError, match="twice"):
        opened(line_of("site-a"), line_of("site-a", time=TIME + 1))


def test_the_log_has_to_have_signed_the_head() -> None:
    forged = sign_checkpoint(HEAD, NoteSigner.generate("log.example"))
    with pytest.raises(CheckpointError):
        open_cosigned(forged + line_of("site-a"), LOG.verifier, KEYS, origin="log.example")
    with pytest.raises(CheckpointError, match="another log"):
        open_cosigned(NOTE, LOG.verifier, KEYS, origin="log.example/2")


def test_a_quorum_is_counted_in_members_and_dated_by_their_lower_median() -> None:
    lines = [line_of("site-a", time=TIME + 9), line_of("site-b"), line_of("site-c", time=TIME + 2)]
    head = open_cosigned(with_cosignatures(NOTE, lines), LOG.verifier, KEYS, origin="log.example")
    head.need_quorum(3)
    assert head.median_time == TIME + 2
    with pytest.raises(CheckpointError, match="has 3 of 4") as caught:
        head.need_quorum(4)
    assert caught.value.check == "C3"
    with pytest.raises(CheckpointError, match="no cosignature"):
        _ = open_cosigned(NOTE, LOG.verifier, KEYS, origin="log.example").median_time


def test_note_keys_and_witness_keys_do_not_stand_for_each_other() -> None:
    with pytest.raises(NoteError, match="signs notes"):
        cosign(HEAD, LOG, time=TIME)
    noted = LOG.sign(HEAD.body).split(b"\n\n", 1)[1]
    with pytest.raises(CheckpointError, match="known witness key"):
        open_line(noted, KEYS["site-a"], HEAD)


@pytest.mark.parametrize("line", [b"", b"\n", b"no line\n", line_of("site-a") * 2, line_of("site-a")[:-1]])
def test_a_bare_line_is_exactly_one_signature_line(line: bytes) -> None:
    assert open_line(line_of("site-a"), KEYS["site-a"], HEAD) == TIME
    with pytest.raises(CheckpointError):
        open_line(line, KEYS["site-a"], HEAD)


def test_a_note_that_is_no_head_is_refused() -> None:
    assert checkpoint_of(NOTE) == HEAD
    for note in (b"", b"text\n\n" + line_of("site-a"), NOTE.replace(b"\n7\n", b"\nseven\n")):
        with pytest.raises(CheckpointError):
            checkpoint_of(note)


def test_heads_are_cosigned_before_an_opening_and_after_a_round() -> None:
    assert is_cosigned_after("survivors.fixed")
    assert is_cosigned_after("round.aborted")
    assert not is_cosigned_after("unmask.request")
