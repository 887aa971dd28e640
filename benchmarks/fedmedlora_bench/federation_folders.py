"""The folders of a federation on one machine: a coordinator's and each site's, with the study accepted.

What the operators' commands leave before the first round, without the calls of enrolment: keys, certificates
of the coordinator's authority, pins, a study of an adapter without a model, a few notes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmedlora_coordinator import setup as coordinator_setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.enrolment_tables import record_certificate
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.settings import Timing
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.profile import Profile, compose_study
from fedmedlora_core.records import Entity, Note, write_notes
from fedmedlora_core.study import (
    INITIAL_FOLDER,
    STUDY_FILE,
    AuditTerms,
    LogTerms,
    Member,
    ModelTerms,
    Study,
    StudyInfo,
)
from fedmedlora_site.acceptance import accept
from fedmedlora_site.config import SCHEMA, PerformanceSection, SiteConfig, SiteSection, TrainerSection
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, CoordinatorPins, PinnedKeys, Pins
from fedmedlora_site.tls_identity import certificate_request

__all__ = ["FederationPlan", "Folders", "make_folders"]


@dataclass(frozen=True)
class FederationPlan:
    """What is to be made.

    Attributes:
        members: Ids of the sites.
        rounds: Rounds of the study.
        dimension: Values of the adapter; even.
        wire_bits: Width of the ring.
        addresses: host:port of federation and enrolment.
        timing: The coordinator's patience; the product's own when None.
        vote: Whether every second round's adapter is voted on.
        quorum: Whether T members cosign heads.
    """

    members: tuple[str, ...]
    rounds: int
    dimension: int
    wire_bits: int = 24
    addresses: tuple[str, str] = ("127.0.0.1:1", "127.0.0.1:2")
    timing: Timing | None = None
    vote: bool = False
    quorum: bool = False


@dataclass(frozen=True)
class Folders:
    """Where everything lies.

    Attributes:
        root: Holds the coordinator's folder and one of each site.
        study: The study that all have agreed to.
        certificates: What each site shows, PEM.
    """

    root: Path
    study: Study
    certificates: dict[str, bytes]

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.root / "coordinator"

    def site(self, site: str) -> Path:
        """One site's folder."""
        return self.root / site

    def at(self, root: Path) -> Folders:
        """The same folders after they were copied to another place."""
        return Folders(root, self.study, self.certificates)


def make_folders(root: Path, plan: FederationPlan) -> Folders:
    """Make the folders under an empty one."""
    made = coordinator_setup.init(
        root / "coordinator",
        name="federation.example",
        address=plan.addresses[0],
        enrolment_address=plan.addresses[1],
        timing=plan.timing,
    )
    keys = {site: Keystore.generate(site) for site in plan.members}
    adapter = _adapter(plan.dimension)
    study = _study(plan, made, keys, adapter)
    folder = Folder(root / "coordinator")
    for package in (root / "package", folder.study):
        study.write(package / STUDY_FILE)
        adapter.save(package / INITIAL_FOLDER)
    authority = Authority.load(folder)
    now = dt.datetime.now(dt.UTC)
    certificates = {
        site: authority.issue_site(_request(site, own), site, now=now) for site, own in keys.items()
    }
    _enter(folder, certificates, now)
    pins = _pins(study)
    for site, own in keys.items():
        _make_site(root / site, site, own, plan.addresses[0])
        pins.write(root / site / "pins.toml")
        (root / site / "tls" / "ca.pem").write_bytes(authority.pem)
        (root / site / "tls" / "cert.pem").write_bytes(certificates[site])
        accept(root / site, root / "package")
    return Folders(root, study, certificates)


def _enter(folder: Folder, certificates: dict[str, bytes], now: dt.datetime) -> None:
    """Put the certificates into the register, as enrolment does: no other one gets in."""
    database = enrolment_database(folder)
    Register(database).close()
    engine = database.open_shared()
    with transaction(engine, "entering certificates") as connection:
        for site, pem in certificates.items():
            record_certificate(connection, site, pem, now)
    engine.dispose()


def _adapter(dimension: int) -> Adapter:
    """An adapter without a model: one frozen tensor and one to train."""
    tensors = {
        "layer.lora_A.weight": np.ones((2, 3), dtype=np.float32),
        "layer.lora_B.weight": np.zeros((dimension // 2, 2), dtype=np.float32),
    }
    return Adapter(tensors, ("layer.lora_B.weight",), {"peft_type": "LORA", "r": 2})


def _study(
    plan: FederationPlan, made: coordinator_setup.Initialised, keys: dict[str, Keystore], adapter: Adapter
) -> Study:
    vote = {"secure_aggregation__vote": {"every_rounds": 2}} if plan.vote else {}
    profile = Profile.load("tiny").override(
        training__rounds=plan.rounds, secure_aggregation__wire_bits=plan.wire_bits, **vote
    )
    members = [
        Member(
            id=site,
            event_vkey=own.event_signer.vkey,
            witness_vkey=own.witness_signer.vkey,
            annotated=("problem",),
        )
        for site, own in keys.items()
    ]
    return compose_study(
        profile,
        info=StudyInfo(id="bench", title="A benchmark's federation", seed=7),
        log=LogTerms(
            origin="federation.example/log", log_vkey=made.log_vkey, coordinator_vkey=made.coordinator_vkey
        ),
        model=ModelTerms(kind="causal", name="none", digest="0" * 64),
        members=members,
        initial_digest=adapter.digest,
        dimension=adapter.dimension,
        audit=AuditTerms(quorum=True) if plan.quorum else None,
    )


def _pins(study: Study) -> Pins:
    members = {m.id: PinnedKeys(event_vkey=m.event_vkey, witness_vkey=m.witness_vkey) for m in study.members}
    coordinator = CoordinatorPins(log_vkey=study.log.log_vkey, coordinator_vkey=study.log.coordinator_vkey)
    return Pins(coordinator=coordinator, members=members)


def _make_site(folder: Path, site: str, keys: Keystore, address: str) -> None:
    for inner in ("data", "tls", "run"):
        (folder / inner).mkdir(parents=True, mode=0o700)
    keys.save(folder / "keys")
    SiteConfig(
        schema=SCHEMA,
        site=SiteSection(id=site, coordinator_address=address),
        trainer=TrainerSection(kind="rehearsal"),
        performance=PerformanceSection(mask_threads=1),
    ).write(folder / "site.toml")
    (folder / "policy.toml").write_text("", encoding="utf-8")
    card = Card(id=site, event_vkey=keys.event_signer.vkey, witness_vkey=keys.witness_signer.vkey)
    card.write(folder / "card.toml")
    text, entity = "Reports chest pain .", Entity("T1", "problem", 8, 18)
    notes = [
        Note(f"{site}-{i}", f"{site}-{i}", text, (entity,), (), frozenset({"problem"})) for i in range(4)
    ]
    write_notes(folder / "data" / "notes.jsonl", notes)


def _request(site: str, keys: Keystore) -> x509.CertificateSigningRequest:
    """A request for a certificate, as a site's enrolment makes it."""
    key = serialization.load_pem_private_key(keys.tls_key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a TLS key is an EC key")
    return certificate_request(key, site)
