"""`coordinator evidence`: the payloads behind one published sum, for a reviewer (AUDIT "Evidence")."""

import secrets
import shutil
from pathlib import Path

from fedmedlora_audit.blob import blob_leaves
from fedmedlora_audit.evidence import BLOBS, INDEX, EvidenceIndex, EvidenceRow, rows_of, sizes_of
from fedmedlora_audit.law import Session, State
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import Folder, sync_folder
from fedmedlora_coordinator.reports import replayed, require_study
from fedmedlora_coordinator.setup import load_storage_key
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg.suites import CKKS_SUITE


def export_evidence(root: Path, round_number: int, out: Path) -> Path:
    """Write the evidence of a round's published sum while it is kept; the folder appears whole or not at all.

    Args:
        root: The coordinator's folder; it may be being served.
        round_number: The round.
        out: Folder that gets one folder per round.

    Returns:
        The round's folder.

    Raises:
        ConfigError: The round has no published sum, its evidence is gone, or the folder is there already
            (the operator's).
        StoreError: The store is damaged.
    """
    folder = Folder(root)
    folder.require()
    running = require_study(folder)
    state, entries = replayed(folder, running)
    session = _published(state, round_number)
    index = EvidenceIndex(
        origin=running.terms.origin,
        charter=running.terms.digest,
        round=round_number,
        sid=session.sid,
        files=rows_of(session, sizes_of(state, entries)),
    )
    target = out / f"round-{round_number:05d}"
    if target.exists():
        raise ConfigError(f"{target}: is there already")
    blobs = BlobStore(folder.blobs, storage_key=load_storage_key(folder))
    staging = out / f".{target.name}.{secrets.token_hex(4)}"
    try:
        (staging / BLOBS).mkdir(parents=True, mode=0o700)
        for row in {row.digest: row for row in index.files}.values():  # two rows can name one payload
            _write(staging / BLOBS / row.digest, row, blobs)
        (staging / INDEX).write_bytes(index.to_json())
        staging.rename(target)
        sync_folder(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _published(state: State, round_number: int) -> Session:
    current = state.rounds.get(round_number)
    found = [s for s in (current.sessions if current else ()) if s.published is not None]
    if not found:
        raise ConfigError(f"round {round_number} has no published sum")
    if found[-1].suite == CKKS_SUITE:
        raise ConfigError("a sum of ciphertexts is not proven by its uploads: there is nothing to export")
    if found[-1].evidence == "shredded":
        raise ConfigError(f"the evidence of round {round_number} was shredded (evidence.after_round)")
    return found[-1]


def _write(path: Path, row: EvidenceRow, blobs: BlobStore) -> None:
    if blobs.size(row.digest) != row.bytes:
        raise StoreError(f"the {row.role} of {row.id} are not in the store")
    with path.open("xb") as file:
        for chunk in blobs.chunks(row.digest):
            file.write(chunk)
    with path.open("rb") as file:
        path.with_suffix(".leaves").write_bytes(b"".join(blob_leaves(file)))
