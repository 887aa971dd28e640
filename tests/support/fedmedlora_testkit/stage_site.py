"""The folder of the one real site on a stage, and the study that everybody there has agreed to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_core.records import write_notes
from fedmedlora_core.secure_aggregation import CKKS_CONTEXT_FILE, CkksTerms
from fedmedlora_core.study import AuditTerms, LogTerms, Study
from fedmedlora_site.acceptance import accept
from fedmedlora_site.config import SCHEMA, NetworkSection, SiteConfig, SiteSection, TrainerSection
from fedmedlora_site.durable import create_private
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, CoordinatorPins, PinnedKeys, Pins
from fedmedlora_testkit.audit_log import ORIGIN, seed_of
from fedmedlora_testkit.ckks import key_pair
from fedmedlora_testkit.rehearsal import plain_notes, small_adapter
from fedmedlora_testkit.studies import make_study

OWN = "site-a"
OTHERS = ("site-b", "site-c", "site-d")
SITES = (OWN, *OTHERS)
ADAPTER = small_adapter(32)


def staged_study(*, quorum: bool = False, **overrides: Any) -> Study:
    """A study whose members' keys come from `seed_of`, so that the test can play everybody."""
    vkeys = {
        site: (
            NoteSigner.from_seed(site, seed_of(site)).vkey,
            NoteSigner.from_seed(site, seed_of(site + "/w"), algorithm=ALG_COSIGNATURE).vkey,
        )
        for site in (OWN, *OTHERS)
    }
    log = LogTerms(
        origin=ORIGIN,
        log_vkey=NoteSigner.from_seed(ORIGIN, seed_of("log")).vkey,
        coordinator_vkey=NoteSigner.from_seed("coordinator", seed_of("coordinator")).vkey,
    )
    return make_study(
        initial_digest=ADAPTER.digest,
        dimension=ADAPTER.dimension,
        vkeys=vkeys,
        log=log,
        overrides={"training__rounds": 4, **overrides},
        audit=AuditTerms(quorum=True) if quorum else None,
    )


def make_site(root: Path, study: Study, own: str = OWN, *, seeds: tuple[bytes, bytes] | None = None) -> Path:
    """Make the folder of the real site, enrolled and with the study accepted.

    Args:
        root: Gets the folder, and the study package beside it.
        study: The study.
        own: The site.
        seeds: Of its event key and its witness key; those of `seed_of` when None.
    """
    event_seed, witness_seed = seeds or (seed_of(own), seed_of(own + "/w"))
    folder = root / own
    for inner in ("data", "tls", "run"):
        (folder / inner).mkdir(parents=True, mode=0o700)
    drawn = Keystore.generate(own)
    keys = Keystore(
        own,
        drawn.tls_key_pem,
        event_seed,
        witness_seed,
        drawn.storage_key,
        drawn.round_secret,
    )
    keys.save(folder / "keys")
    SiteConfig(
        schema=SCHEMA,
        site=SiteSection(id=own, coordinator_address="127.0.0.1:1"),
        trainer=TrainerSection(kind="rehearsal"),
        network=NetworkSection(reconnect_first_seconds=0.01, reconnect_most_seconds=0.02),
    ).write(folder / "site.toml")
    (folder / "policy.toml").write_text("")
    card = Card(id=own, event_vkey=keys.event_signer.vkey, witness_vkey=keys.witness_signer.vkey)
    card.write(folder / "card.toml")
    coordinator = CoordinatorPins(log_vkey=study.log.log_vkey, coordinator_vkey=study.log.coordinator_vkey)
    members = {m.id: PinnedKeys(event_vkey=m.event_vkey, witness_vkey=m.witness_vkey) for m in study.members}
    Pins(coordinator=coordinator, members=members).write(folder / "pins.toml")
    write_notes(folder / "data" / "notes.jsonl", plain_notes(own))
    study.write(root / "package" / "study.toml")
    ADAPTER.save(root / "package" / "initial")
    if study.secure_aggregation.ckks is not None:
        give_key(root, folder, study.secure_aggregation.ckks)
    accept(folder, root / "package")
    return folder


def give_key(root: Path, folder: Path, ckks: CkksTerms) -> None:
    """Put the public context into the package and what the custody says into the site's folder."""
    context, secret = key_pair()
    (root / "package" / CKKS_CONTEXT_FILE).write_bytes(context.encode())
    policy = f'ckks_key_holder = "{ckks.holder}"\nckks_shared_key_allowed = true\n'
    (folder / "policy.toml").write_text(policy)
    if ckks.holder in ("", OWN):
        create_private(folder / "keys" / "ckks.key", secret.encode())
