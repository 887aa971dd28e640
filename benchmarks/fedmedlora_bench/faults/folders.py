"""The folders of one simulated federation: a coordinator's and each site's, enrolled, with the study accepted."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmedlora_bench.faults.schedule import Setup
from fedmedlora_coordinator import setup as coordinator_setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.folder import Folder
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
from fedmedlora_site.config import SCHEMA, NetworkSection, SiteConfig, SiteSection, TrainerSection
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, CoordinatorPins, PinnedKeys, Pins

__all__ = ["DIMENSION", "Folders", "make_folders"]

DIMENSION = 32
TIMING = Timing(
    grace_seconds=10, ready_grace_seconds=10, abort_seconds=30, step_seconds=300, training_seconds=3000
)


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


def make_folders(root: Path, setup: Setup) -> Folders:
    """Make the folders as the operators' commands leave them before the first round."""
    made = coordinator_setup.init(
        root / "coordinator", name="faults.example", address="h:1", enrolment_address="h:2", timing=TIMING
    )
    keys = {site: Keystore.generate(site) for site in setup.members}
    adapter = _adapter()
    study = _study(setup, made, keys, adapter)
    package = root / "package"
    study.write(package / STUDY_FILE)
    adapter.save(package / INITIAL_FOLDER)
    folder = Folder(root / "coordinator")
    study.write(folder.study / STUDY_FILE)
    adapter.save(folder.study / INITIAL_FOLDER)
    authority = Authority.load(folder)
    now = dt.datetime.now(dt.UTC)
    certificates = {site: authority.issue_site(_request(site), site, now=now) for site in setup.members}
    for site in setup.members:
        _make_site(root, study, site, keys[site])
    return Folders(root, study, certificates)


def _adapter() -> Adapter:
    """A small adapter without a model: one frozen tensor and one to train."""
    tensors = {
        "layer.lora_A.weight": np.ones((2, 3), dtype=np.float32),
        "layer.lora_B.weight": np.zeros((DIMENSION // 2, 2), dtype=np.float32),
    }
    return Adapter(tensors, ("layer.lora_B.weight",), {"peft_type": "LORA", "r": 2})


def _study(
    setup: Setup, made: coordinator_setup.Initialised, keys: dict[str, Keystore], adapter: Adapter
) -> Study:
    vote = {"secure_aggregation__vote": {"every_rounds": 2}} if setup.vote else {}
    profile = Profile.load("tiny").override(
        training__rounds=setup.rounds, secure_aggregation__wire_bits=32, **vote
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
        info=StudyInfo(id="faults", title="Fault schedules", seed=7),
        log=LogTerms(
            origin="faults.example/log", log_vkey=made.log_vkey, coordinator_vkey=made.coordinator_vkey
        ),
        model=ModelTerms(kind="causal", name="none", digest="0" * 64),
        members=members,
        initial_digest=adapter.digest,
        dimension=adapter.dimension,
        audit=AuditTerms(quorum=True) if setup.quorum else None,
    )


def _make_site(root: Path, study: Study, site: str, keys: Keystore) -> None:
    folder = root / site
    for inner in ("data", "tls", "run"):
        (folder / inner).mkdir(parents=True, mode=0o700)
    keys.save(folder / "keys")
    SiteConfig(
        schema=SCHEMA,
        site=SiteSection(id=site, coordinator_address="127.0.0.1:1"),
        trainer=TrainerSection(kind="rehearsal"),
        network=NetworkSection(),
    ).write(folder / "site.toml")
    (folder / "policy.toml").write_text("", encoding="utf-8")
    Card(id=site, event_vkey=keys.event_signer.vkey, witness_vkey=keys.witness_signer.vkey).write(
        folder / "card.toml"
    )
    members = {m.id: PinnedKeys(event_vkey=m.event_vkey, witness_vkey=m.witness_vkey) for m in study.members}
    coordinator = CoordinatorPins(log_vkey=study.log.log_vkey, coordinator_vkey=study.log.coordinator_vkey)
    Pins(coordinator=coordinator, members=members).write(folder / "pins.toml")
    text = "Reports chest pain ."
    entity = Entity("T1", "problem", 8, 18)
    notes = [
        Note(f"{site}-{i}", f"{site}-{i}", text, (entity,), (), frozenset({"problem"})) for i in range(4)
    ]
    write_notes(folder / "data" / "notes.jsonl", notes)
    accept(folder, root / "package")


def _request(site: str) -> x509.CertificateSigningRequest:
    """A request for a certificate, as a site's enrolment makes it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    key = ec.generate_private_key(ec.SECP256R1())
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
