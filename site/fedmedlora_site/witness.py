"""This site as a witness of the log: it signs heads that continue everything it has seen (AUDIT "Witnesses").

The mirror has verified a head before it comes here: the log's signature, the root over all entries, the
law. A witness adds two promises that the mirror cannot make, since a folder can be lost: it never signs a
head smaller than its last one, nor two roots of one size. What it signed last lies in a file that is durable
before the cosignature leaves the site. That file is not part of a backup: with an old one a site could be led
to sign a second history.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedmedlora_audit.cosignature import checkpoint_of, cosign
from fedmedlora_audit.errors import CheckpointError
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import NoteSigner
from fedmedlora_site.durable import make_folder, write_atomic
from fedmedlora_site.errors import FolderError, ForkError

_SCHEMA: Final = "fedmedlora-witness/1"
SignerOf = Callable[[int], NoteSigner | None]
Cosignature = tuple[bytes, bytes]
"""(head as the log signed it, this site's signature line)."""


class Witness:
    """What this site has cosigned in one study's log.

    Args:
        path: Its file; the folder is made when missing.
        signer: Returns what signs the head of a size, or None if this site has left: keys change.
        origin: The log's origin.
        clock: Seconds since 1970.

    Raises:
        FolderError: The file is damaged or of another log.
    """

    def __init__(self, path: Path, signer: SignerOf, origin: str, clock: Callable[[], int]) -> None:
        """Read what earlier processes promised."""
        self._path = path
        self._signer_of = signer
        self._origin = origin
        self._clock = clock
        self._size, self._root, self._time = 0, "", 0
        self._unsent: list[Cosignature] = []
        self._compared = False
        if path.is_file():
            self._load()

    @property
    def size(self) -> int:
        """Entries under the newest head that this site has cosigned; 0 before the first."""
        return self._size

    @property
    def unsent(self) -> tuple[Cosignature, ...]:
        """Cosignatures that the coordinator has not acknowledged, oldest first."""
        return tuple(self._unsent)

    def compare(self, tree: Tree) -> None:
        """Compare the mirror with the newest head that was cosigned, as soon as it is long enough.

        Raises:
            ForkError: The log is not the one that this site has cosigned.
        """
        if self._compared or tree.size < self._size:
            return
        if self._size and tree.root(self._size).hex() != self._root:
            raise ForkError("log_forked", f"the log is another than the one cosigned at size {self._size}")
        self._compared = True

    def sign(self, note: bytes) -> None:
        """Cosign a head; the promise is durable when this returns, and the line waits in `unsent`.

        Args:
            note: A head that the mirror has verified and holds.

        Raises:
            ForkError: This site has cosigned another root of the same size.
        """
        head = checkpoint_of(note)
        # R5.6.4: one history, and no head below the last one.
        if head.origin != self._origin or head.size < self._size:
            return  # an older head again, from a mirror that was fetched anew: cosigned long ago
        if head.size == self._size:
            if head.root.hex() != self._root:
                raise ForkError("log_forked", f"another head of size {head.size} was cosigned before")
            return
        signer = self._signer_of(head.size)
        if signer is None:
            return
        time = max(self._clock(), self._time)  # a clock that was set back does not order heads anew
        line = cosign(head, signer, time=time)
        self._size, self._root, self._time = head.size, head.root.hex(), time
        self._unsent.append((note, line))
        self._store()

    def acknowledged(self, cosignature: Cosignature) -> None:
        """Forget a cosignature that the coordinator has; one that is sent twice does no harm."""
        self._unsent.remove(cosignature)

    def _store(self) -> None:
        table = {
            "schema": _SCHEMA,
            "origin": self._origin,
            "size": self._size,
            "root": self._root,
            "time": self._time,
            "unsent": [[note.decode(), line.decode()] for note, line in self._unsent],
        }
        make_folder(self._path.parent)
        write_atomic(self._path, json.dumps(table).encode())

    def _load(self) -> None:
        try:
            table = json.loads(self._path.read_bytes())
            if (table["schema"], table["origin"]) != (_SCHEMA, self._origin):
                raise ValueError
            self._size, self._root, self._time = int(table["size"]), str(table["root"]), int(table["time"])
            self._unsent = [(str(note).encode(), str(line).encode()) for note, line in table["unsent"]]
            for note, _ in self._unsent:
                checkpoint_of(note)
        except (ValueError, KeyError, TypeError, CheckpointError):
            raise FolderError(
                f"{self._path}: what this site has cosigned is damaged or of another log"
            ) from None
