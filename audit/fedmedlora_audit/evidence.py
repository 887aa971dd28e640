"""Evidence of a published sum, as a folder of files (AUDIT "Evidence").

The log names every payload behind a sum by digest: the keys of U1, the shares of U2, the uploads of U3, the
shares that were opened, and the sum itself. Exported, they lie in one folder a round::

    round-00001/evidence.json          what is there, in canonical JSON
    round-00001/blobs/<digest>         the payload
    round-00001/blobs/<digest>.leaves  the leaf hash of each of its chunks, 32 bytes each

Rules:
    * Nothing here is believed: a payload counts only if its leaf hashes give the digest in the log, and a
      chunk only if it has its leaf hash. So single chunks can be judged without reading the rest.
    * The manifest needs no signature; it is an index, and the log is the authority.

What this does not do: add anything up. That needs arithmetic and keys, so `fedmedlora audit verify
--evidence` hands the verifier a `SumJudge` that does it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import rfc8785
from pydantic import ValidationError

from fedmedlora_audit.blob import BlobTree, chunk_count
from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.event_data import Closed, Count, Digest, Id, Round
from fedmedlora_audit.events import Entry
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.law import Session, State
from fedmedlora_audit.merkle import CHUNK_BYTES, leaf_hash

CHECK: Final = "A3"
INDEX: Final = "evidence.json"
BLOBS: Final = "blobs"
Role = Literal["keys", "shares", "masked-update", "opened-shares", "ring-sum"]


class EvidenceRow(Closed):
    """One payload: in which role, whose, and its name."""

    role: Role
    id: Id
    digest: Digest
    bytes: Count


class EvidenceIndex(Closed):
    """What one folder holds: the evidence of one session's sum, sorted by role and author."""

    schema_: Literal["flevidence/1"] = "flevidence/1"
    origin: str
    charter: Digest
    round: Round
    sid: Digest
    files: tuple[EvidenceRow, ...]

    def to_json(self) -> bytes:
        """Return canonical JSON."""
        table = json.loads(self.model_dump_json())
        return rfc8785.dumps({"schema": table.pop("schema_"), **table}) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "EvidenceIndex":
        """Read an index.

        Raises:
            BundleError: It is malformed, or not in canonical form.
        """
        try:
            table = json.loads(data)
            index = cls.model_validate_json(json.dumps({"schema_": table.pop("schema"), **table}))
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, ValidationError):
            raise BundleError("the index is malformed", check=CHECK, file=INDEX) from None
        if index.to_json() != data:
            raise BundleError("the index is not canonical", check=CHECK, file=INDEX)
        return index


def rows_of(session: Session, sizes: Mapping[str, int]) -> tuple[EvidenceRow, ...]:
    """Return every payload that proves a session's published sum, as the log names them.

    Args:
        session: A session whose sum is published.
        sizes: Size of each payload by digest, from the signed events (`sizes_of`).
    """
    late = {site for kind, site in session.late if kind == "unmask.response"}  # such a one has no payload
    opened = {site: digest for site, digest in session.responses.items() if site not in late}
    lists: tuple[tuple[Role, Mapping[str, str]], ...] = (
        ("keys", session.u1),
        ("masked-update", session.u3),
        ("opened-shares", opened),
        ("ring-sum", {"coordinator": session.ring}),
        ("shares", session.u2),
    )
    return tuple(
        EvidenceRow(role=role, id=site, digest=digest, bytes=sizes[digest])
        for role, digests in lists
        for site, digest in sorted(digests.items())
    )


def sizes_of(state: State, entries: Sequence[Entry]) -> dict[str, int]:
    """Return the size of each payload that an entry names, by digest; the first word stands.

    R3.2.2: an answer that came late says nothing here. Nobody holds it against the bytes, so it could give
    another's payload, or a later one of its own, a size that makes honest evidence look false.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        event = entry.event
        session = state.sids.get(event.sid or "")
        if session is not None and (event.type, event.actor.id) in session.late:
            continue
        for item in event.objects:
            sizes.setdefault(item.digest, item.bytes)
    return sizes


class EvidenceBlob:
    """One payload of an evidence folder; every chunk is checked as it is read."""

    def __init__(self, folder: Path, row: EvidenceRow) -> None:
        """Find the payload and check its leaf hashes against the digest.

        Raises:
            BundleError: A file is missing, or is not that of the digest; the error names it.
        """
        self._path = folder / BLOBS / row.digest
        self._name = f"{folder.name}/{BLOBS}/{row.digest}"
        self.total_bytes = row.bytes
        try:
            recorded = self._path.with_suffix(".leaves").read_bytes()
            size = self._path.stat().st_size
        except OSError:
            raise self._error(f"{row.role} of {row.id}: missing") from None
        self._leaves = [recorded[at : at + 32] for at in range(0, len(recorded), 32)]
        if (len(recorded), size) != (32 * self.chunks, row.bytes):
            raise self._error(f"{row.role} of {row.id}: has another size than the log names")
        if BlobTree(self._leaves, row.bytes).digest != row.digest:
            raise self._error(f"{row.role} of {row.id}: is not the payload that the log names")

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return chunk_count(self.total_bytes)

    def chunk(self, index: int) -> bytes:
        """Return one chunk.

        Raises:
            BundleError: It was damaged since the export.
        """
        with self._path.open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            data = file.read(min(CHUNK_BYTES, self.total_bytes - index * CHUNK_BYTES))
        if leaf_hash(data) != self._leaves[index]:
            raise self._error(f"chunk {index} is damaged")
        return data

    def read(self) -> bytes:
        """Return the whole payload (for small ones: keys, shares)."""
        return b"".join(self.chunk(index) for index in range(self.chunks))

    def _error(self, sentence: str) -> BundleError:
        return BundleError(sentence, check=CHECK, file=self._name)


def evidence_folders(directory: Path) -> Iterator[Path]:
    """Yield the folders of single rounds: the directory itself, or those in it.

    Raises:
        BundleError: There is no such directory.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory} is no folder", check=CHECK)
    if (directory / INDEX).is_file():
        yield directory
        return
    for folder in sorted(directory.iterdir()):
        if folder.is_dir():
            yield folder


@dataclass(frozen=True, slots=True)
class SumsJudged:
    """What became of check A3.

    Attributes:
        findings: Everything wrong, in the sums or in the evidence.
        sums: How many published sums were recomputed.
        unproven: How many sums of closed rounds there was no evidence for.
        sentence: What was recomputed, and how surely a wrong value would have been found.
    """

    findings: tuple[Finding, ...]
    sums: int
    unproven: int
    sentence: str


SumJudge = Callable[[State, Sequence[Entry]], SumsJudged]
"""Recomputes sums from evidence, given what the log says; never raises for bad evidence."""
