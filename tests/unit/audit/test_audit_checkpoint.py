"""Checkpoints: three lines, the log's key, one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from fedmedlora_audit.errors import CheckpointError
from fedmedlora_audit.merkle import EMPTY_ROOT, leaf_hash
from fedmedlora_audit.note import NoteSigner, VerifierKey

ORIGIN = "example.org/fedmedlora/study-1"
LOG = NoteSigner.from_seed(ORIGIN, bytes(31) + b"\x01")
KEY = VerifierKey.parse(LOG.vkey)
GOOD = Checkpoint(ORIGIN, 7, leaf_hash(b"x"))


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_round_trip(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert parse_checkpoint(checkpoint.body) == checkpoint
    assert open_checkpoint(sign_checkpoint(checkpoint, LOG), KEY, origin=ORIGIN) == checkpoint


def test_further_signature_lines_are_left_alone() -> None:
    note = sign_checkpoint(GOOD, LOG)
    witness = NoteSigner.generate("site-a").sign(GOOD.body).split(b"\n\n")[1]
    assert open_checkpoint(note + witness, KEY) == GOOD


@pytest.mark.parametrize("place", range(0, 200, 3))
def test_changed_byte_refused(place: int) -> None:
    note = bytearray(sign_checkpoint(GOOD, LOG))
    note[place % len(note)] ^= 1
    with pytest.raises(CheckpointError):
        open_checkpoint(bytes(note), KEY)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "origin\n7\n",
        f"\n7\n{'A' * 43}=\n",
        f"o\n07\n{'A' * 43}=\n",
        f"o\n-7\n{'A' * 43}=\n",
        f"o\n7\n{'A' * 42}B=\n",
        "o\n7\nAAAA\n",
        "o\n7\n*\n",
        f"o\n7\n{'A' * 43}=\nextension\n",
        f"o\n\u0667\n{'A' * 43}=\n",
        f"o\n7\n{'A' * 43}=",
    ],
)
def test_malformed_bodies_refused(body: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(body)


def test_other_log_or_signer_refused() -> None:
    with pytest.raises(CheckpointError, match="another log"):
        open_checkpoint(sign_checkpoint(Checkpoint("elsewhere", 0, EMPTY_ROOT), LOG), KEY, origin=ORIGIN)
    with pytest.raises(CheckpointError, match="expected one signature"):
        open_checkpoint(sign_checkpoint(GOOD, NoteSigner.generate(ORIGIN)), KEY)
