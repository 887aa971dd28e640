"""The signing keys of a site that change while a study runs, and what a kill at any moment leaves of them.

A new key is drawn into a file beside the old one (`event.seed.next`) and durable before anything is signed.
Both stay until this site's mirror holds the `key.rotated` that brings the new one in; then the new file takes
the old one's place, and the old private key is gone. Which key signs what is not remembered here: it follows
from the outbox and the mirror, so there is nothing that a kill could leave half done.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final, Literal

from fedmedlora_audit.member_keys import KeyBook
from fedmedlora_audit.note import ALG_ED25519, WITNESS_ALGORITHMS, NoteSigner, VerifierKey
from fedmedlora_site.durable import sync_folder, write_atomic
from fedmedlora_site.errors import FolderError
from fedmedlora_site.keystore import EVENT_SEED, SECRET_BYTES, WITNESS_SEEDS, Keystore, read_secret

Kind = Literal["event", "witness"]
KINDS: Final[tuple[Kind, ...]] = ("event", "witness")
NEXT: Final = ".next"


class KeyRing:
    """The signing keys that lie in a site's folder, the next ones included.

    Args:
        folder: The site's `keys/`.
        keys: The keys in use when the folder was opened.

    Raises:
        FolderError: A file of a next key is damaged or readable by others.
    """

    def __init__(self, folder: Path, keys: Keystore) -> None:
        """Read the next keys, where there are any."""
        self._site = keys.site
        self._algorithms = {"event": ALG_ED25519, "witness": WITNESS_ALGORITHMS[keys.witness_kind]}
        self._paths = {"event": folder / EVENT_SEED, "witness": folder / WITNESS_SEEDS[keys.witness_kind]}
        self._signers = [keys.event_signer, keys.witness_signer]
        self._drawn: dict[str, NoteSigner] = {}
        for kind in KINDS:
            if self._next_path(kind).exists():
                self._hold(kind, read_secret(self._next_path(kind)))

    def signer(self, key: VerifierKey) -> NoteSigner | None:
        """Return what signs with this key, or None if it does not lie here."""
        return next((signer for signer in self._signers if signer.verifier == key), None)

    def need(self, key: VerifierKey) -> NoteSigner:
        """Return what signs with this key.

        Raises:
            FolderError: It does not lie here: keys of another study, or of before a rotation.
        """
        found = self.signer(key)
        if found is None:
            raise FolderError(
                f"{self._paths['event'].parent}: does not hold the key {key.key_id} that this site signs "
                "with by charter and log; was the folder restored?"
            )
        return found

    def drawn(self, kind: Kind) -> NoteSigner:
        """Return the next key of a kind: the one that an earlier try has drawn, or a fresh one, durable."""
        if kind not in self._drawn:
            seed = secrets.token_bytes(SECRET_BYTES)
            write_atomic(self._next_path(kind), seed)
            self._hold(kind, seed)
        return self._drawn[kind]

    def settle(self, book: KeyBook) -> None:
        """Put every next key that the log has taken in into the old one's place; the old one is gone then.

        Args:
            book: The keys by the log of this site's mirror.
        """
        for kind in KINDS:
            drawn = self._drawn.get(kind)
            if drawn is not None and book.key_of(self._site, kind) == drawn.verifier:
                self._next_path(kind).replace(self._paths[kind])
                sync_folder(self._paths[kind].parent)
                del self._drawn[kind]

    def _hold(self, kind: Kind, seed: bytes) -> None:
        signer = NoteSigner.from_seed(self._site, seed, algorithm=self._algorithms[kind])
        self._drawn[kind] = signer
        self._signers.append(signer)

    def _next_path(self, kind: Kind) -> Path:
        return self._paths[kind].with_name(self._paths[kind].name + NEXT)
