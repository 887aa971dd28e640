"""Fuzzing of every decoder: valid encodings, bent by bits, cuts and splices, must decode or raise one error.

`python -m fedmedlora_testkit.fuzzing [--seconds N] [NAME ...]` runs each decoder for that long. A part that
adds a decoder adds a row to `DECODERS`.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial

import numpy as np
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmedlora_audit import tiles
from fedmedlora_audit.blob import BlobTree, blob_leaves, verify_chunk
from fedmedlora_audit.bundle import Manifest, ManifestFile, open_manifest
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import open_checkpoint, parse_checkpoint
from fedmedlora_audit.cosignature import (
    checkpoint_of,
    open_cosigned,
    open_line,
    with_cosignatures,
    witness_keys,
)
from fedmedlora_audit.errors import AuditError, BundleError
from fedmedlora_audit.events import open_event, parse_event
from fedmedlora_audit.merkle import verify_consistency, verify_inclusion
from fedmedlora_audit.note import VerifierKey, parse_note
from fedmedlora_audit.trust import Trust
from fedmedlora_core.errors import CoreError, DataError
from fedmedlora_core.packing import WIRE_BITS, Packing
from fedmedlora_core.study import Study
from fedmedlora_crypto.ckks import PublicContext, SecretKey, generate
from fedmedlora_crypto.ckks.parameters import CIPHERTEXT_BYTES
from fedmedlora_crypto.ckks.stream import read_chunk as read_chunk_words
from fedmedlora_crypto.errors import PeerError
from fedmedlora_crypto.hybrid import HybridKey, check_hybrid_key, wrap
from fedmedlora_crypto.keys import check_public_key
from fedmedlora_crypto.sealed import open_box, seal
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, SUITES
from fedmedlora_crypto.secagg.messages import decode_keys, decode_opened, decode_shares
from fedmedlora_crypto.shamir import ShareValueError, parse_share
from fedmedlora_testkit.audit_attacks import retention
from fedmedlora_testkit.audit_log import witness_of
from fedmedlora_testkit.fuzzed import Decoder, cosignature_lines, head, log
from fedmedlora_testkit.fuzzing_answers import ANSWER_DECODERS
from fedmedlora_testkit.fuzzing_files import FILE_DECODERS
from fedmedlora_testkit.fuzzing_notes import NOTE_DECODERS
from fedmedlora_testkit.fuzzing_wire import WIRE_DECODERS
from fedmedlora_testkit.packed_attacks import PACKED_FILES, archive, honest, read_framed
from fedmedlora_testkit.secagg import SID, Ward
from fedmedlora_testkit.studies import make_study
from fedmedlora_testkit.tsa import open_as_recorded, recorded_stamp, trust_files


@cache
def sessions() -> dict[str, Ward]:
    """One whole session for each masked suite."""
    wards = {suite: Ward(4, suite=suite) for suite in (MASKED_SUITE, HYBRID_SUITE)}
    for ward in wards.values():
        ward.run_to(ward.open)
    return wards


def packed(bits: int) -> list[bytes]:
    return [b"".join(Packing(bits, 700).frames_of(np.arange(700, dtype=np.uint32)))]


@cache
def ckks_pair() -> tuple[PublicContext, SecretKey]:
    return generate()


@cache
def box_key() -> HybridKey:
    return HybridKey(bytes(32), label=b"x", kem_label=b"k", sid=SID)


def payloads(suite: str, kind: str) -> list[bytes]:
    return [getattr(sessions()[suite], kind)[2]]


def proofs(data: bytes, check: Callable[..., None], **fixed: object) -> None:
    """Cut bytes into hashes of 32 (and one shorter rest), as they come in a message."""
    check(proof=[data[at : at + 32] for at in range(0, len(data), 32)], **fixed)


def chunk_case() -> tuple[str, int, bytes, bytes]:
    data = bytes(range(256)) * 8200  # three chunks
    tree = BlobTree(blob_leaves(data), len(data))
    return tree.digest, len(data), data[: 1 << 20], b"".join(tree.proof(0))


def read_chunk(data: bytes) -> None:
    """A proof of 64 bytes, then the chunk."""
    digest, total, _, _ = CHUNK
    verify_chunk(digest=digest, total_bytes=total, index=0, data=data[64:], proof=[data[:32], data[32:64]])


CHUNK = chunk_case()


def consistency(data: bytes) -> None:
    tree = log().tree
    new, old = tree.size, 20
    proofs(
        data, verify_consistency, old_size=old, new_size=new, old_root=tree.root(old), new_root=tree.root()
    )


def inclusion(data: bytes) -> None:
    tree = log().tree
    proofs(data, verify_inclusion, leaf=log().entries[7].leaf, index=7, size=tree.size, root=tree.root())


def entry_tile_files() -> dict[str, bytes]:
    return tiles.entry_tiles([e.note for e in log().entries[:60]])


def entry_tile(data: bytes) -> object:
    """The entries of a log from one tile; the finding is returned, not raised."""
    found, error = tiles.read_entries({next(iter(entry_tile_files())): data}, 60)
    if error is not None:
        raise error
    return found


def manifest() -> bytes:
    files = (ManifestFile(path="charter.json", bytes=3, digest="0" * 64),)
    made = Manifest(origin=log().terms.origin, size=3, files=files)
    return log().log_signer.sign(made.text())


PEER = partial(Decoder, error=PeerError)
AUDIT = partial(Decoder, error=AuditError)

DECODERS: dict[str, Decoder] = {
    **{
        f"{kind}-{name}": PEER(
            partial(payloads, suite, kind), partial(decode, sid=SID, party=2, suite=SUITES[suite])
        )
        for name, suite in (("x25519", MASKED_SUITE), ("hybrid", HYBRID_SUITE))
        for kind, decode in (("keys", decode_keys), ("shares", decode_shares))
    },
    "keys-graph": PEER(
        lambda: [payload + bytes(32) for payload in payloads(HYBRID_SUITE, "keys")],
        partial(decode_keys, sid=SID, party=2, suite=SUITES[HYBRID_SUITE], graph=True),
    ),
    "ckks-context": PEER(lambda: [ckks_pair()[0].encode()], PublicContext.decode),
    "ckks-key": PEER(lambda: [ckks_pair()[1].encode()], SecretKey.decode),
    "ckks-chunk": PEER(lambda: [bytes(CIPHERTEXT_BYTES)], partial(read_chunk_words, values=1000, party=2)),
    **{
        f"packed-{bits}": Decoder(
            partial(packed, bits),
            Packing(bits, 700).read_bytes,
            CoreError,
        )
        for bits in WIRE_BITS
    },
    "opened": PEER(lambda: payloads(HYBRID_SUITE, "opened"), partial(decode_opened, sid=SID, party=2)),
    "public-key": PEER(lambda: [box_key().public[:32]], check_public_key),
    "hybrid-key": PEER(lambda: [box_key().public], check_hybrid_key),
    "box": PEER(
        lambda: [seal(bytes(32), b"x" * 66, context=b"c")],
        lambda data: open_box(bytes(32), data, context=b"c", party=1),
    ),
    "wrap": PEER(
        lambda: [wrap(bytes(32), box_key().public, b"i")], lambda data: box_key().unwrap(data, b"i", party=1)
    ),
    "share": Decoder(lambda: [bytes(33), b"\1" + bytes(32)], parse_share, ShareValueError),
    "note": AUDIT(lambda: [e.note for e in log().entries[:20]], parse_note),
    "event": AUDIT(lambda: [e.note for e in log().entries], parse_event),
    "event-of-the-coordinator": AUDIT(
        lambda: [e.note for e in log().entries if e.event.actor.id == "coordinator"],
        lambda data: open_event(data, VerifierKey.parse(log().terms.coordinator_vkey)),
    ),
    "vkey": AUDIT(
        lambda: [log().terms.log_vkey.encode()],
        lambda data: VerifierKey.parse(data.decode("utf-8", "replace")),
    ),
    "checkpoint": AUDIT(
        lambda: [head()], lambda data: open_checkpoint(data, VerifierKey.parse(log().terms.log_vkey))
    ),
    "checkpoint-text": AUDIT(
        lambda: [head().split(b"\n\n")[0] + b"\n"],
        lambda data: parse_checkpoint(data.decode("utf-8", "replace")),
    ),
    "trust": AUDIT(lambda: trust_files(log().terms), Trust.from_json),
    "stamp": AUDIT(lambda: [recorded_stamp()[0]], open_as_recorded),
    "event-of-retention": AUDIT(lambda: [retention.hold(log()), retention.pruned(log(), 0, 0)], parse_event),
    "cosigned-head": AUDIT(
        lambda: [with_cosignatures(head(), cosignature_lines())],
        lambda data: open_cosigned(
            data,
            VerifierKey.parse(log().terms.log_vkey),
            witness_keys(log().terms.members),
            origin=log().terms.origin,
        ),
    ),
    "cosignature": AUDIT(
        lambda: cosignature_lines()[:1],
        lambda data: open_line(data, witness_of(log().sites[0]).verifier, checkpoint_of(head())),
    ),
    "charter": AUDIT(lambda: [log().charter], CharterTerms.from_json),
    "study": Decoder(lambda: [make_study().canonical_json()], Study.from_canonical_json, CoreError),
    "manifest": AUDIT(
        lambda: [manifest()], lambda data: open_manifest(data, [VerifierKey.parse(log().terms.log_vkey)])
    ),
    "entry-tile": Decoder(lambda: list(entry_tile_files().values()), entry_tile, BundleError),
    "packed-bundle": Decoder(lambda: [archive(honest(PACKED_FILES))], read_framed, BundleError),
    "inclusion-proof": AUDIT(lambda: [b"".join(log().tree.inclusion_proof(7, log().tree.size))], inclusion),
    "consistency-proof": AUDIT(
        lambda: [b"".join(log().tree.consistency_proof(20, log().tree.size))], consistency
    ),
    "blob-chunk": AUDIT(lambda: [CHUNK[3] + CHUNK[2]], read_chunk),
    **WIRE_DECODERS,
    **FILE_DECODERS,
    **ANSWER_DECODERS,
    **{name: Decoder(seeds, decode, DataError) for name, (seeds, decode) in NOTE_DECODERS.items()},
}


@st.composite
def bent(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Draw a valid encoding with up to four changes: a bit, a cut, a splice, an insertion; or plain noise."""
    data = draw(st.sampled_from(list(seeds)))
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=400))
    for _ in range(draw(st.integers(1, 4))):
        data = _change(draw, data, seeds)
    return data


def _change(draw: st.DrawFn, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Keep the bytes before a place and replace what follows."""
    at = draw(st.integers(0, max(0, len(data) - 1)))
    some = draw(st.integers(1, 40))
    other = draw(st.sampled_from(list(seeds)))
    tails: dict[str, Callable[[], bytes]] = {
        "bit": lambda: bytes([data[at] ^ 1 << some % 8]) + data[at + 1 :] if data else b"",
        "byte": lambda: draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"\x7f", b"\n"])) + data[at + 1 :],
        "cut": lambda: b"",
        "drop": lambda: data[at + some :],
        "insert": lambda: draw(st.binary(max_size=40)) + data[at:],
        "splice": lambda: other[draw(st.integers(0, max(0, len(other) - 1))) :],
        "repeat": lambda: data[at : at + some] * 2 + data[at:],
    }
    return data[:at] + tails[draw(st.sampled_from(sorted(tails)))]()


def run(name: str, examples: int) -> None:
    """Try a decoder on that many bent encodings; any other error than its own comes through."""
    decoder = DECODERS[name]
    seeds = decoder.seeds()
    for seed in seeds[:5]:
        decoder.decode(seed)

    errors = decoder.error if isinstance(decoder.error, tuple) else (decoder.error,)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bent(seeds))
    def attempt(data: bytes) -> None:
        with warnings.catch_warnings(), suppress(*errors):
            # The library warns of a serial number that is not positive, and reads the certificate.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            decoder.decode(data)

    attempt()


def error_of(decoder: Decoder) -> str:
    """Name what a decoder may raise."""
    errors = decoder.error if isinstance(decoder.error, tuple) else (decoder.error,)
    return " or ".join(error.__name__ for error in errors) or "no error"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz decoders by name, all of them without names, each for the given time."""
    parser = argparse.ArgumentParser(
        description="fuzz every decoder", epilog="example: --seconds 60 event trust"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("names", nargs="*", choices=[[], *DECODERS], metavar="NAME")
    chosen = parser.parse_args(arguments)
    for name in chosen.names or DECODERS:
        end, count = time.monotonic() + chosen.seconds, 0
        while time.monotonic() < end:
            run(name, 300)
            count += 300
        error = error_of(DECODERS[name])
        print(f"{name}: {count} inputs in {chosen.seconds:.0f} s, nothing but {error}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
