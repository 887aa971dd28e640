"""Everything a site holds on its disk, opened and checked together before anything is done with it.

One agent at a time works on a folder: it takes a lock, because two agents with one signing key would write
two versions of one event.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedmedlora_audit.chain import Author, event_time
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import StepRefused
from fedmedlora_audit.law import State
from fedmedlora_audit.note import NoteSigner, VerifierKey
from fedmedlora_core.policy import SitePolicy
from fedmedlora_core.study import INITIAL_FOLDER, Study
from fedmedlora_site.acceptance import check_members, load_accepted
from fedmedlora_site.bases import Bases
from fedmedlora_site.blobs import UploadFolder
from fedmedlora_site.clipping import ClippingRecord
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.custody import Custody
from fedmedlora_site.durable import make_folder
from fedmedlora_site.errors import FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.journal import Journal, Refusal
from fedmedlora_site.key_ring import KeyRing
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.markers import Markers
from fedmedlora_site.mirror import Mirror
from fedmedlora_site.outbox import Outbox
from fedmedlora_site.pins import Pins
from fedmedlora_site.spending import Spending, ledger_of
from fedmedlora_site.vault import Vault
from fedmedlora_site.witness import Witness


@dataclass(frozen=True, repr=False)
class Holdings:
    """A site's durable state, open."""

    folder: SiteFolder
    config: SiteConfig
    keys: Keystore
    ring: KeyRing
    study: Study
    terms: CharterTerms
    policy: SitePolicy
    mirror: Mirror
    witness: Witness
    outbox: Outbox
    markers: Markers
    journal: Journal
    clipping: ClippingRecord
    uploads: UploadFolder
    vault: Vault
    personal: Vault
    bases: Bases
    custody: Custody | None = None
    spending: Spending | None = None

    def __repr__(self) -> str:
        """Name the site and nothing else."""
        return f"Holdings({self.site!r})"

    @property
    def site(self) -> str:
        """This site's id."""
        return self.config.site.id

    @classmethod
    def open(cls, root: Path) -> Holdings:
        """Open a site's folder; pins and policy are compared with the charter again.

        Raises:
            FolderError: Something in the folder is missing or does not fit together.
            AcceptanceError: The pins have changed since the study was accepted.
            PolicyRefusal: The policy has changed and refuses the study now.
            ConfigError: A file has an unknown key or a bad value.
        """
        folder = SiteFolder.open(root)
        config = SiteConfig.load(folder.config)
        study, terms = load_accepted(folder)
        policy = SitePolicy.load(folder.policy)
        check_members(study, Pins.load(folder.pins), config.site.id)
        policy.judge(study)
        keys = Keystore.load(folder.keys, config.site.id)
        make_folder(folder.run)
        author = Author(config.site.id, "site", keys.event_signer, terms.origin)
        first = VerifierKey.parse(terms.members[config.site.id].event_vkey)
        ring, mirror = KeyRing(folder.keys, keys), Mirror(folder.mirror, terms, config.site.id)
        ring.settle(mirror.state.book)
        held = cls(
            folder=folder,
            config=config,
            keys=keys,
            ring=ring,
            study=study,
            terms=terms,
            policy=policy,
            mirror=mirror,
            witness=Witness(
                folder.witness,
                lambda size: witness_signer(ring, mirror.state, config.site.id, size),
                terms.origin,
                lambda: int(time.time()),
            ),
            outbox=Outbox(folder.outbox, author, first=first, ring=ring),
            markers=Markers(folder.markers),
            journal=Journal(folder.journal, create=True, repair=True),
            clipping=ClippingRecord(folder.clipping, repair=True),
            uploads=UploadFolder(folder.uploads),
            vault=Vault(folder.updates, keys.storage_key),
            personal=Vault(folder.personal, keys.storage_key),
            bases=Bases(study, folder.study / INITIAL_FOLDER, folder.adapters),
            custody=Custody.load(folder, study, terms, config.site.id),
            spending=Spending.of(
                study,
                policy.privacy,
                ledger_of(folder, config),
                keys,
                folder.notes,
                device=config.trainer.rounding,
            ),
        )
        if held.spending is not None:  # the charges that were signed stand in the ledger
            held.spending.untold(signed.event for signed in held.outbox.events())
        if held.mirror.own_seq > held.outbox.last_seq:
            raise FolderError(
                f"{folder.outbox}: the log holds newer events of this site; an old backup must not run"
            )
        return held

    def record_refusal(
        self, *, step: str, reason: str, round_number: int | None, sid: str | None, sentence: str
    ) -> None:
        """Write a refusal into the journal; durable when this returns."""
        saw = self.mirror.saw
        self.journal.record(
            Refusal(
                time=event_time(datetime.now(UTC)),
                step=step,
                reason=reason,
                round=round_number,
                sid=sid,
                sentence=sentence,
                size=saw.size,
                root=saw.root,
            )
        )

    def tell_refusal(self) -> bool:
        """Sign a refusal that an earlier process journalled and died before saying.

        The log must not lack what an auditor reads in this journal (J1).

        Returns:
            Whether there was one.
        """
        refusal = next((r for r in self.journal.refusals if not self.outbox.has_told(r)), None)
        if refusal is None or self.mirror.size == 0:
            return False
        data = {"step": refusal.step, "reason": refusal.reason, "sid": refusal.sid}
        self.outbox.sign(
            type="step.refused",
            data=StepRefused.model_validate(data),
            saw=self.mirror.saw,
            time=datetime.now(UTC),
            round=refusal.round,
        )
        return True

    def update_name(self, round_number: int) -> str:
        """Name under which the vault keeps a round's encoded update."""
        return f"update-{round_number:05d}"

    def update_id(self, round_number: int) -> str:
        """Name of a round's update in the markers: unique across studies."""
        return f"{self.terms.digest}/{round_number}"


def witness_signer(ring: KeyRing, state: State, site: str, size: int) -> NoteSigner | None:
    """Return what cosigns the head of a size, by the log up to there; None once this site has left."""
    # R2.5.5
    key = state.book.witnesses_at(size).get(site)
    return None if key is None else ring.need(key)


class FolderLock:
    """Held while an agent works on a folder; released when its process ends, however it ends.

    Args:
        path: The lock file.
        held: What to say when another process holds it.
    """

    def __init__(self, path: Path, held: str = "another agent is running on this folder") -> None:
        """Take the lock.

        Raises:
            FolderError: Another agent holds it.
        """
        make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise FolderError(f"{path.parent.parent}: {held}") from None

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
