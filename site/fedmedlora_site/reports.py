"""What a site can show: its own status, a bundle from its mirror, a trust file from its pins.

All three read only: they may run beside an agent that works on the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from fedmedlora_audit.bundle import write_bundle
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import StampError
from fedmedlora_audit.law import duties, waiting
from fedmedlora_audit.stamps import read_roots
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.witnessing import HEADS
from fedmedlora_core.study import Study
from fedmedlora_site.acceptance import check_members, load_accepted
from fedmedlora_site.clipping import ClippingRecord
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.durable import write_atomic
from fedmedlora_site.errors import FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.journal import Journal
from fedmedlora_site.key_ring import KeyRing
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.mirror import Mirror
from fedmedlora_site.pins import Pins
from fedmedlora_site.tls_identity import TlsIdentity


@dataclass(frozen=True)
class _Opened:
    folder: SiteFolder
    config: SiteConfig
    study: Study
    terms: CharterTerms
    mirror: Mirror


def _certificate_until(folder: SiteFolder) -> str | None:
    """End of the certificate in use; None for one that cannot be read, which `site run` explains."""
    try:
        return f"{TlsIdentity.load(folder).ends:%Y-%m-%dT%H:%M:%SZ}"
    except FolderError:
        return None


def status(root: Path) -> dict[str, Any]:
    """Say where this site stands; nothing in it is a size, a score or text of a note.

    Args:
        root: The site's folder.

    Raises:
        FolderError: The folder is not a site's, or is damaged.
    """
    folder = SiteFolder.open(root)
    config = SiteConfig.load(folder.config)
    found: dict[str, Any] = {
        "site": config.site.id,
        "coordinator": config.site.coordinator_address,
        "notes": folder.notes.is_file(),
        "pinned": sorted(Pins.load(folder.pins).members),
        "refusals": len(Journal(folder.journal).refusals),
        "certificate_until": _certificate_until(folder),
    }
    if not folder.charter.is_file():
        return {**found, "study": None}
    opened = _open(root)
    state = opened.mirror.state
    owed = duties(state, config.site.id) if opened.mirror.size else None
    return {
        **found,
        "study": opened.study.study.id,
        "charter": opened.study.digest,
        "rounds": opened.terms.rounds,
        "rounds_closed": len(state.closed_rounds),
        "round": None if state.round is None else state.round.number,
        "step": waiting(state).step,
        "owed": None if owed is None else owed.step,
        "base": state.base,
        "log_size": opened.mirror.size,
        "log_root": opened.mirror.root.hex(),
        **_clipped(ClippingRecord(folder.clipping)),
        "released": state.released,
        "run_closed": state.run_closed,
        **_members(opened),
    }


def _members(opened: _Opened) -> dict[str, Any]:
    """Who has left, and the ids of the keys that this site signs with by now."""
    book, site = opened.mirror.state.book, opened.config.site.id
    return {
        "left": sorted(book.left),
        "event_key": book.key_of(site, "event").key_id,
        "witness_key": book.key_of(site, "witness").key_id,
    }


def _clipped(record: ClippingRecord) -> dict[str, Any]:
    """This site's own share of clipped values and the study's mean, in thousandths, by round."""
    return {"clipped_permille": record.own, "clipped_permille_study": record.study}


def export_bundle(root: Path, out: Path) -> None:
    """Write this site's own mirror of the log as a bundle, its manifest signed by this site.

    Heads that a quorum cosigned go along, so that nobody needs the coordinator to judge what was opened;
    those of the time that this site was away are missing, and the verifier says so.

    Args:
        root: The site's folder.
        out: Folder to write; must not exist or be empty. Or ``FILE.tar.gz``, for one packed file.

    Raises:
        FolderError: There is no log here yet.
        BundleError: The target is in use.
    """
    opened = _open(root)
    head, site = _need_log(opened), opened.config.site.id
    keys = Keystore.load(opened.folder.keys, site)
    heads = opened.mirror.cosigned_heads()
    write_bundle(
        out,
        charter=opened.study.canonical_json(),
        entries=opened.mirror.entries,
        checkpoint=heads.pop(opened.mirror.size, head),
        signer=KeyRing(opened.folder.keys, keys).need(opened.mirror.state.book.events[site]),
        extra={f"{HEADS}{size}": note for size, note in heads.items()},
    )


def write_trust(root: Path, out: Path, *, tsa_certificates: Path | None = None) -> None:
    """Write the trust file for a reviewer: from this site's own pins, never from the coordinator.

    Args:
        root: The site's folder.
        out: File to write.
        tsa_certificates: PEM file of the time-stamping authority that counts, got from the authority itself;
            None if time stamps are not to be judged.

    Raises:
        FolderError: There is no log here yet, or the PEM file holds no certificate.
        AcceptanceError: The accepted charter names other keys than the pins.
    """
    opened = _open(root)
    _need_log(opened)
    check_members(opened.study, Pins.load(opened.folder.pins), opened.config.site.id)
    roots = () if tsa_certificates is None else _certificates(tsa_certificates)
    trust = Trust.from_terms(opened.terms, genesis=opened.mirror.entries[0].leaf, tsa_roots=roots)
    write_atomic(out, trust.to_json(), mode=0o644)


def _certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return read_roots(path.read_bytes())
    except (OSError, StampError):
        raise FolderError(f"{path}: holds no PEM certificate of a time-stamping authority") from None


def _open(root: Path) -> _Opened:
    folder = SiteFolder.open(root)
    config = SiteConfig.load(folder.config)
    study, terms = load_accepted(folder)
    return _Opened(folder, config, study, terms, Mirror(folder.mirror, terms, config.site.id, repair=False))


def _need_log(opened: _Opened) -> bytes:
    if opened.mirror.head is None or opened.mirror.size == 0:
        raise FolderError(f"{opened.folder.root}: this site has not seen the log yet; run it first")
    return opened.mirror.head
