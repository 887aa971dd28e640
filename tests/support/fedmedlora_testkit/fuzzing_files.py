"""Readers of files that another party, or nobody in particular, has handed over: decoders for `fuzzing`."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.canary import Canaries, CanaryError
from fedmedlora_audit.canary.needles import Needles
from fedmedlora_audit.canary.stream import Stream
from fedmedlora_audit.errors import AuditError, BundleError
from fedmedlora_audit.evidence import EvidenceIndex, rows_of, sizes_of
from fedmedlora_audit.heads import judge_heads
from fedmedlora_audit.stamps import read_roots
from fedmedlora_audit.tiles import TILE_WIDTH, entry_tiles, read_remains
from fedmedlora_audit.trust import Trust
from fedmedlora_coordinator.backup import MANIFEST
from fedmedlora_coordinator.backup import SCHEMA as BACKUP_SCHEMA
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.restoring import extract
from fedmedlora_core.adapter import CONFIG_FILE, TRAINABLE_FILE, WEIGHTS_FILE, Adapter
from fedmedlora_core.architectures import architecture, check_architecture
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.study import Study
from fedmedlora_site.enrolment import Invitation
from fedmedlora_site.errors import EnrolmentError, PinError
from fedmedlora_site.pins import Card
from fedmedlora_testkit.fuzzed import Decode, Decoder, certificate, head, log
from fedmedlora_testkit.hiding import HIDING
from fedmedlora_testkit.studies import make_study

ADAPTER = Adapter(
    {"a.lora_A.weight": np.ones((2, 4), np.float32), "a.lora_B.weight": np.zeros((4, 2), np.float32)},
    ("a.lora_B.weight",),
    {"peft_type": "LORA", "r": 2},
)
MARKS = {
    "schema": "fedmedlora-canaries/1",
    "canaries": [{"id": "site-a-1", "marks": {"name": "Qorvandel Ystrium"}}],
}
PUBLISHED = "qwen3-4b"
ADAPTER_FILES = {"weights": WEIGHTS_FILE, "config": CONFIG_FILE, "trainable": TRAINABLE_FILE}
PACKED_FORMS = ("gzip", "gzip in gzip", "zlib", "zip member", "gzip cut off")
ENTRIES = 300  # more than one tile, so that a whole one can be gone


Read = TypeVar("Read")


def file(load: Callable[[Path], Read]) -> Callable[[bytes], Read]:
    """Read a file that holds the bytes."""

    def decode(data: bytes) -> Read:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(data)
            return load(path)

    return decode


def beside(name: str, files: dict[str, bytes], load: Callable[[Path], object]) -> Decode:
    """Read a folder one of whose files holds the bytes."""

    def decode(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            for other, content in (files | {name: data}).items():
                path = Path(folder) / other
                path.parent.mkdir(exist_ok=True, parents=True)
                path.write_bytes(content)
            return load(Path(folder))

    return decode


def seeds_of(make: Callable[[Path], object]) -> Sequence[bytes]:
    """The bytes of a file that is written by the product."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "file")
        return [(Path(folder) / "file").read_bytes()]


@cache
def adapter_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        ADAPTER.save(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def adapter_case(name: str) -> tuple[Callable[[], Sequence[bytes]], Decode]:
    """An adapter's folder with one of its files bent."""
    return lambda: [adapter_files()[name]], beside(name, adapter_files(), Adapter.load)


def mapping_file() -> bytes:
    return (resources.files("fedmedlora_core.mappings") / "chia.toml").read_bytes()


def card() -> Card:
    keys = log().terms.members["site-a"]
    return Card(id="site-a", event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)


def invitation() -> bytes:
    pem = certificate()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    table = {
        "schema": "fedmedlora-invitation/1",
        "site": "site-a",
        "token": "t" * 43,
        "coordinator_address": "localhost:7443",
        "enrolment_address": "localhost:7444",
        "ca_fingerprint": sha256(der).hexdigest(),
        "ca_pem": pem.decode(),
        "log_vkey": log().terms.log_vkey,
        "coordinator_vkey": log().terms.coordinator_vkey,
        "expires": "2027-01-01T00:00:00Z",
    }
    return json.dumps(table, indent=1).encode()


def invited(path: Path) -> object:
    """Read an invitation and judge what it holds, as enrolment does."""
    return Invitation.load(path).check(datetime(2026, 1, 1, tzinfo=UTC))


def evidence() -> bytes:
    session = next(iter(log().state.sids.values()))
    rows = rows_of(session, sizes_of(log().state, log().entries))
    terms = log().terms
    index = EvidenceIndex(origin=terms.origin, charter=terms.digest, round=1, sid=session.sid, files=rows)
    return index.to_json()


def backup() -> bytes:
    """An archive in the form of a backup; what its files say is not read here."""
    files = {"coordinator.toml": b"schema = 1\n", "keys/log.key": b"k" * 32, "stamps/4.tsr": b""}
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    files[MANIFEST] = json.dumps({"schema": BACKUP_SCHEMA, "files": digests}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def restored(path: Path) -> None:
    """Unpack a backup; whatever it holds, nothing lies outside the folder and all of it is small."""
    root = path.parent / "restored"
    root.mkdir()
    try:
        extract(path, root)
    finally:
        found = {child.name for child in path.parent.iterdir()}
        size = sum(child.stat().st_size for child in root.rglob("*") if child.is_file())
        if found != {path.name, root.name} or size > path.stat().st_size:
            raise AssertionError("a backup wrote outside its folder, or more than it holds")


def journal() -> bytes:
    row = {"step": "plan", "reason": "policy", "round": 1}
    return b"".join(json.dumps(row | {"round": number}).encode() + b"\n" for number in (1, 2, None))


def judged(folder: Path) -> object:
    """Compare a site's files with a log, as `audit verify --heads` does; what is wrong is a finding."""
    trust = Trust.from_terms(log().terms, genesis=log().entries[0].leaf)
    return judge_heads(folder, trust, log().tree, [entry.event for entry in log().entries])


def remains(data: bytes) -> object:
    """The entries of a log whose first tile was deleted: the tile of hashes that is left of it is bent."""
    notes = [b"note %d" % number for number in range(ENTRIES)]
    files = entry_tiles(notes)
    first = next(iter(files))
    files.pop(first)
    return read_remains(files | {first.replace("/entries/", "/0/", 1): data}, ENTRIES)


def marks(path: Path) -> Canaries:
    return Canaries.load([path])


@cache
def needles() -> Needles:
    return Needles(file(marks)(json.dumps(MARKS).encode()))


def searched(data: bytes) -> object:
    """Search bytes for marks, through every compressed stream that begins in them."""
    stream = Stream(needles())
    stream.feed(data)
    stream.close()
    return stream.hits


CONFIG = partial(Decoder, error=ConfigError)
AUDIT = partial(Decoder, error=AuditError)

FILE_DECODERS: dict[str, Decoder] = {
    "study-file": CONFIG(lambda: seeds_of(make_study().write), file(Study.load)),
    "card": Decoder(lambda: seeds_of(card().write), file(Card.load), PinError),
    "invitation": Decoder(lambda: [invitation()], file(invited), EnrolmentError),
    **{f"adapter-{label}": CONFIG(*adapter_case(name)) for label, name in ADAPTER_FILES.items()},
    "label-mapping": CONFIG(lambda: [mapping_file()], file(load_mapping)),
    "base-model": CONFIG(
        lambda: [json.dumps(architecture(PUBLISHED)).encode()],
        beside("config.json", {}, partial(check_architecture, PUBLISHED)),
    ),
    "evidence": Decoder(lambda: [evidence()], EvidenceIndex.from_json, BundleError),
    "backup": Decoder(lambda: [backup()], file(restored), (StoreError, OSError)),
    "fetched-journal": Decoder(lambda: [journal()], beside("site-a/journal.jsonl", {}, judged), ()),
    "fetched-head": Decoder(lambda: [head()], beside("site-a/checkpoint", {}, judged), ()),
    "remains": Decoder(lambda: [bytes(32) * TILE_WIDTH], remains, ()),
    "authority-roots": AUDIT(lambda: [certificate(), certificate() * 2], read_roots),
    "canary-marks": Decoder(lambda: [json.dumps(MARKS).encode()], file(marks), CanaryError),
    "searched": Decoder(lambda: [HIDING[form]("Qorvandel Ystrium") for form in PACKED_FORMS], searched, ()),
    "bundle-folder": Decoder(lambda: [head()], beside("checkpoint", {}, read_files), ()),
}
