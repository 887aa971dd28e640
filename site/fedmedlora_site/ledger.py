"""The site's privacy ledger: what trainings have cost the patients of its notes (PROTOCOL R4.13.5).

A charge is on the disk before its training takes a step, and nothing is ever taken back: a training that was
killed, refused or thrown away stays spent. One JSON object a line, integers and digests only; it says nothing
of notes or sizes. Each line holds the hash of the one before, so that no line can be changed, moved or left
out alone. Beside every site folder lies the head of the ledger as that folder last wrote it: a ledger
that is shorter (an old backup, a disk that is not mounted) is refused.

The file may be shared: all folders of a hospital with notes of the same patients name one ledger, and an
exclusive lock is held from reading it until the charge is written. A torn last line is what a crash leaves of
an append that was never answered; it is dropped. Who owns the disk can still forge a whole ledger: what he
cannot change are the charges that stand, signed, in the logs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from fedmedlora_core.config import Section
from fedmedlora_core.privacy_terms import Delta, Unit
from fedmedlora_core.secure_aggregation import Hex32, Identifier, Positive
from fedmedlora_site.durable import append, drop_torn_line, write_atomic
from fedmedlora_site.errors import FolderError

_LABEL: Final = b"fedmedlora/ledger/1\0"
FIRST_PREV: Final = hashlib.sha256(_LABEL).hexdigest()
"""What the first line names as the hash before it."""


class Charge(Section):
    """What one training may cost each unit.

    Attributes:
        study: Id of the study.
        charter: Digest of its charter.
        site: The site that trained; one of a hospital's.
        round: The round.
        job: Name of the training, from the site's secret and a digest of all that decides its result.
        unit: Whose presence is hidden.
        delta: The charter's.
        noise_milli: Noise multiplier, in thousandths.
        sampling_micro: Probability with which a unit is drawn into a step, in millionths.
        steps: Steps of the training.
        time: When it was written.
    """

    study: Identifier
    charter: Hex32
    site: Identifier
    round: Positive
    job: Hex32
    unit: Unit
    delta: Delta
    noise_milli: Positive
    sampling_micro: Annotated[int, Field(ge=1, le=1_000_000)]
    steps: Positive
    time: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]

    @property
    def mechanism(self) -> tuple[int, int]:
        """(noise_milli, sampling_micro): what charges that can be added up have in common."""
        return self.noise_milli, self.sampling_micro


class Ledger:
    """The charges of one ledger file.

    Args:
        path: The file; made by the first charge.
        head: Where this site folder keeps the ledger's head.
    """

    def __init__(self, path: Path, head: Path) -> None:
        """Keep the paths; read nothing yet."""
        self.path = path
        self._head = head

    def charges(self) -> tuple[Charge, ...]:
        """Read all charges, oldest first; a torn last line is passed over and left where it is.

        Raises:
            FolderError: A line was changed, or the ledger is shorter than this folder has seen it.
        """
        self._refuse_link()
        if not self.path.parent.is_dir():
            raise FolderError(f"{self.path}: its folder does not exist; is the disk there?")
        # The head first: a ledger that grows meanwhile is never shorter than an older head.
        return _Book(self.path, self._read_head()).charges

    @contextmanager
    def writing(self) -> Iterator[LedgerWriter]:
        """Hold the ledger alone, its torn last line dropped, to read it and add to it.

        Raises:
            FolderError: See `charges`; or the folder of the ledger does not exist.
        """
        self._refuse_link()
        try:
            lock = os.open(
                self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as exc:
            raise FolderError(f"{self.path}: cannot be locked ({exc.strerror}); is its disk there?") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.is_file():
                drop_torn_line(self.path)
            yield LedgerWriter(self.path, self._head, _Book(self.path, self._read_head()))
        finally:
            os.close(lock)

    def _refuse_link(self) -> None:
        """Refuse a link: writing the ledger again puts a copy in its place, and the two would count apart."""
        if self.path.is_symlink():
            raise FolderError(f"{self.path}: is a link; name the file itself (privacy.ledger in site.toml)")

    def _read_head(self) -> tuple[int, str]:
        """Size of the ledger and hash of its last line when this folder last wrote."""
        try:
            found = json.loads(self._head.read_bytes())
            return int(found["size"]), str(found["hash"])
        except FileNotFoundError:
            return 0, FIRST_PREV
        except (ValueError, KeyError, TypeError):
            raise FolderError(
                f"{self._head}: damaged; compare the ledger with the logs of its studies"
            ) from None


class LedgerWriter:
    """A ledger that is held alone; made by `Ledger.writing`."""

    def __init__(self, path: Path, head: Path, book: _Book) -> None:
        """Take the ledger as it stands."""
        self._path, self._head, self._book = path, head, book

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, oldest first."""
        return self._book.charges

    def add(self, charge: Charge) -> None:
        """Write a charge; durable when this returns, and if it raises the training must not begin."""
        line, digest = _line_of(charge, self._book.last)
        append(self._path, line)
        self._book.take(charge, digest)
        self._write_head()

    def renew(self) -> None:
        """Write the whole ledger again, before a charge of an earlier process is relied upon.

        An append that reported an error may stand in the file and yet only in the memory of the machine.
        """
        write_atomic(self._path, self._path.read_bytes())
        self._write_head()

    def _write_head(self) -> None:
        head = {"hash": self._book.last, "size": len(self._book.charges)}
        write_atomic(self._head, json.dumps(head).encode() + b"\n")


class _Book:
    """The whole lines of a ledger, checked."""

    def __init__(self, path: Path, head: tuple[int, str]) -> None:
        self.charges: tuple[Charge, ...] = ()
        self.last = FIRST_PREV
        size, seen = head
        found = size == 0
        for number, line in enumerate(_whole_lines(path), start=1):
            self.take(*_parse(line, self.last, f"{path}:{number}"))
            found |= (number, self.last) == (size, seen)
        if not found:
            raise FolderError(
                f"{path}: holds {len(self.charges)} charge(s), and not the {size} that this site folder has "
                "seen in it; an older copy must not be used, for what was spent stays spent"
            )

    def take(self, charge: Charge, digest: str) -> None:
        """Add a line that follows the last one."""
        self.charges, self.last = (*self.charges, charge), digest


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise FolderError(f"{path}: cannot be read ({exc.strerror or type(exc).__name__})") from None


def _line_of(charge: Charge, prev: str) -> tuple[bytes, str]:
    """A charge as a line, and the line's hash."""
    fields: dict[str, Any] = {**charge.model_dump(mode="json"), "prev": prev}
    digest = hashlib.sha256(_LABEL + _canonical(fields)).hexdigest()
    return _canonical({**fields, "hash": digest}) + b"\n", digest


def _parse(line: bytes, prev: str, place: str) -> tuple[Charge, str]:
    """Read a line back: it must be exactly what `_line_of` writes after `prev`."""
    try:
        fields = json.loads(line)
        charge = Charge.model_validate({k: v for k, v in fields.items() if k not in ("prev", "hash")})
        written, digest = _line_of(charge, prev)
    except (ValueError, ValidationError, AttributeError, RecursionError):
        raise FolderError(f"{place}: is no charge; the site must not train without its ledger") from None
    if written != line + b"\n":
        raise FolderError(f"{place}: does not follow from the line before it; the ledger was changed")
    return charge, digest


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
