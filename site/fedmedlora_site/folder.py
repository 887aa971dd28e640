"""Where a site keeps what: one folder, one layout (documented for operators in docs/OPERATIONS.md).

The folder holds secrets (`keys/`), the hospital's notes (`data/`) and the run's durable state (`run/`).
Nothing in it is ever sent anywhere as a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.secure_aggregation import CKKS_CONTEXT_FILE
from fedmedlora_site.errors import FolderError


@dataclass(frozen=True)
class SiteFolder:
    """The paths of one site's folder.

    Args:
        root: The folder that `site enroll` made.
    """

    root: Path

    @classmethod
    def open(cls, root: Path) -> SiteFolder:
        """Open an enrolled site's folder.

        Raises:
            FolderError: The folder is not one that `site enroll` made (the operator's).
        """
        folder = cls(root)
        if not folder.config.is_file():
            raise FolderError(f"{root}: is not a site folder; make one with `site enroll`")
        return folder

    @property
    def config(self) -> Path:
        """`site.toml`: name, addresses, model, trainer."""
        return self.root / "site.toml"

    @property
    def policy(self) -> Path:
        """`policy.toml`: what this site takes part in; no study can override it."""
        return self.root / "policy.toml"

    @property
    def pins(self) -> Path:
        """`pins.toml`: the keys of the coordinator and of every other member."""
        return self.root / "pins.toml"

    @property
    def card(self) -> Path:
        """`card.toml`: this site's own public keys, to hand to the others."""
        return self.root / "card.toml"

    @property
    def keys(self) -> Path:
        """Private keys, made here, mode 0600."""
        return self.root / "keys"

    @property
    def tls(self) -> Path:
        """The certificate issued to this site and the federation's CA."""
        return self.root / "tls"

    @property
    def certificate(self) -> Path:
        """This site's certificate in use; which key is in use follows from it."""
        return self.tls / "cert.pem"

    @property
    def ca(self) -> Path:
        """The federation's CA, pinned at enrolment."""
        return self.tls / "ca.pem"

    @property
    def tls_key(self) -> Path:
        """The TLS key."""
        return self.keys / "tls.key"

    @property
    def next_tls_key(self) -> Path:
        """The TLS key that a renewal is asked for with, until its certificate is here."""
        return self.keys / "tls.key.next"

    @property
    def renewal_lock(self) -> Path:
        """Held by the one process that renews."""
        return self.run / "renewal.lock"

    @property
    def notes(self) -> Path:
        """The imported notes."""
        return self.root / "data" / "notes.jsonl"

    @property
    def study(self) -> Path:
        """The accepted study package."""
        return self.root / "study"

    @property
    def charter(self) -> Path:
        """Canonical JSON of the accepted study: exactly the bytes whose hash this site signs."""
        return self.study / "charter.json"

    @property
    def ckks_context(self) -> Path:
        """The public CKKS context of the accepted study, where it has one."""
        return self.study / CKKS_CONTEXT_FILE

    @property
    def ckks_secret(self) -> Path:
        """The secret CKKS key, at sites that may decrypt."""
        return self.keys / "ckks.key"

    @property
    def run(self) -> Path:
        """Durable state of the run."""
        return self.root / "run"

    @property
    def mirror(self) -> Path:
        """The site's own copy of the log and its head."""
        return self.run / "mirror"

    @property
    def outbox(self) -> Path:
        """Own events, signed and synced before they are sent."""
        return self.run / "outbox"

    @property
    def witness(self) -> Path:
        """What this site has cosigned; not to be restored from a backup."""
        return self.run / "witness.json"

    @property
    def journal(self) -> Path:
        """Every refusal, written before the refusal is sent."""
        return self.run / "journal.jsonl"

    @property
    def clipping(self) -> Path:
        """What the clip took from this site's updates and from the study's."""
        return self.run / "clipping.jsonl"

    @property
    def markers(self) -> Path:
        """Sessions seen, consents given, updates released."""
        return self.root / "markers.jsonl"

    @property
    def ledger(self) -> Path:
        """What trainings have cost the patients of these notes, unless `site.toml` names another file."""
        return self.root / "ledger.jsonl"

    @property
    def ledger_head(self) -> Path:
        """How long the ledger was when this folder last wrote to it; not to be restored from a backup."""
        return self.root / "ledger.head"

    @property
    def noise_key(self) -> Path:
        """The key of a private training's noise, while that training runs."""
        return self.run / "noise.key"

    @property
    def updates(self) -> Path:
        """Encrypted updates, kept until their round is over."""
        return self.run / "updates"

    @property
    def personal(self) -> Path:
        """What this site trains for itself (adapter mode "sa"), encrypted; to be backed up."""
        return self.run / "personal"

    @property
    def uploads(self) -> Path:
        """Payloads that were signed: every resume sends exactly these bytes."""
        return self.run / "uploads"

    @property
    def downloads(self) -> Path:
        """Published sums on their way to this site: a cut download goes on from here."""
        return self.run / "downloads"

    @property
    def adapters(self) -> Path:
        """The global adapter after each closed round, computed here."""
        return self.run / "adapters"

    @property
    def live(self) -> Path:
        """What the running agent alone knows, for `status --watch` and `health`; worth nothing after it."""
        return self.run / "live.json"

    @property
    def lock(self) -> Path:
        """Held by the one agent that runs on this folder."""
        return self.run / "agent.lock"
