"""The bundle: everything a reviewer needs to judge a study from files alone (AUDIT "Bundle").

Files: ``charter.json`` (canonical), ``checkpoint`` (the log's signed head), ``tile/...`` (hashes and
entries), any further files the exporter adds, and ``manifest``: path, size and digest of every other file,
signed as a note by the exporter - the coordinator or a member.

Rules:
    * The manifest is complete: one file more, less or other is a finding that names the file (B1).
    * Only ordinary files: no links, nothing outside the folder.
    * A bundle lies in a folder or, packed, in one file (`packed_bundle`); the same files are the same bundle.

What this does not do: judge what the files say (`verify`).
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import rfc8785
from pydantic import Field, ValidationError

from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.errors import BundleError, NoteError
from fedmedlora_audit.event_data import Closed, Count, Digest
from fedmedlora_audit.events import Entry
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import NoteSigner, VerifierKey, parse_note
from fedmedlora_audit.packed_bundle import MAX_FILE_BYTES, PACKED, pack, unpack
from fedmedlora_audit.tiles import entry_tiles, hash_tiles

CHARTER: Final = "charter.json"
CHECKPOINT: Final = "checkpoint"
MANIFEST: Final = "manifest"


@dataclass(frozen=True, slots=True)
class DeletedEntry:
    """An entry that was deleted under `retention.pruned`: its leaf hash is left, 32 bytes."""

    leaf: bytes


class ManifestFile(Closed):
    """One file of a bundle."""

    path: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=200)
    ]
    bytes: Count
    digest: Digest


class Manifest(Closed):
    """The list of a bundle's files, sorted by path."""

    schema_: Literal["flbundle/1"] = Field(default="flbundle/1", alias="schema")
    origin: Annotated[str, Field(min_length=1, max_length=128)]
    size: Count
    files: tuple[ManifestFile, ...]

    def text(self) -> str:
        """Return the text that the exporter signs."""
        return rfc8785.dumps(json.loads(self.model_dump_json(by_alias=True))).decode() + "\n"


def write_bundle(
    target: Path,
    *,
    charter: bytes,
    entries: Sequence[Entry | DeletedEntry] | Sequence[Entry] | Sequence[bytes],
    checkpoint: bytes,
    signer: NoteSigner,
    extra: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle; it appears whole or not at all.

    Args:
        target: Where to: a folder that does not exist or is empty, or a file ``NAME.tar.gz`` that does not
            exist.
        charter: Canonical JSON of the study.
        entries: All entries of the log (or their notes), in order; of deleted ones, the hash.
        checkpoint: The signed head over exactly these entries.
        signer: The exporter's event key.
        extra: Further files, path -> bytes, such as proofs or the released adapter's configuration.

    Raises:
        BundleError: The head is not over these entries, the target is in use, or a file has no place in a
            packed bundle (the caller's mistake).
        CharterError: The charter is not one.
        CheckpointError: The head is not the log's.
    """
    terms = CharterTerms.from_json(charter)
    head = open_checkpoint(checkpoint, VerifierKey.parse(terms.log_vkey), origin=terms.origin)
    notes, tree = _notes_and_tree(entries)
    if (head.size, head.root) != (tree.size, tree.root()):
        raise BundleError(f"the head over {head.size} entries is not over the {tree.size} entries given")
    files = {CHARTER: charter, CHECKPOINT: checkpoint, **hash_tiles(tree), **entry_tiles(notes)}
    for path, content in (extra or {}).items():
        if path in files or path == MANIFEST or path.startswith("tile/"):
            raise BundleError("a further file takes the name of a file of the bundle", file=path)
        files[path] = content
    rows = [ManifestFile(path=p, bytes=len(c), digest=blob_digest(c)) for p, c in sorted(files.items())]
    manifest = Manifest(origin=terms.origin, size=tree.size, files=tuple(rows))
    files[MANIFEST] = signer.sign(manifest.text())
    if target.name.endswith(PACKED):
        _write_file(target, pack(files))
    else:
        _write_folder(target, files)


def _notes_and_tree(
    entries: Sequence[Entry | DeletedEntry] | Sequence[Entry] | Sequence[bytes],
) -> tuple[list[bytes | None], Tree]:
    notes: list[bytes | None] = []
    tree = Tree()
    for entry in entries:
        if isinstance(entry, DeletedEntry):
            notes.append(None)
            tree.append(entry.leaf)
        else:
            note = entry.note if isinstance(entry, Entry) else entry
            notes.append(note)
            tree.append(leaf_hash(note))
    return notes, tree


def _write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BundleError(f"{directory} exists already and is not empty")
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    for path, content in files.items():
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    staging.chmod(0o755)
    if directory.exists():
        directory.rmdir()
    staging.rename(directory)


def _write_file(target: Path, content: bytes) -> None:
    if target.exists():
        raise BundleError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    number, staging = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(staging).chmod(0o644)
        Path(staging).rename(target)
    finally:
        Path(staging).unlink(missing_ok=True)


def need_bundle(path: Path) -> None:
    """Check that a bundle is there, packed or not; what it is worth is for its reader to say.

    Raises:
        BundleError: There is neither a folder nor a file (the caller's mistake).
    """
    if not (path.is_dir() or path.is_file()):
        raise BundleError("there is no such bundle", file=str(path))


def read_files(path: Path) -> tuple[dict[str, bytes], list[BundleError]]:
    """Read every file of a bundle by its path; what may not be there is named instead.

    Raises:
        BundleError: There is no such bundle, or it is packed and its file is refused as a whole.
    """
    need_bundle(path)
    return (unpack(path), []) if path.is_file() else _read_folder(path)


def _read_folder(directory: Path) -> tuple[dict[str, bytes], list[BundleError]]:
    files: dict[str, bytes] = {}
    problems: list[BundleError] = []
    for folder, subfolders, names in os.walk(directory):
        for name in sorted([*subfolders, *names]):
            path = Path(folder) / name
            label = str(PurePosixPath(path.relative_to(directory)))
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                problems.append(BundleError("not an ordinary file", file=label))
            elif path.is_file():
                if path.stat().st_size > MAX_FILE_BYTES:
                    problems.append(BundleError(f"larger than {MAX_FILE_BYTES} bytes", file=label))
                else:
                    files[label] = path.read_bytes()
    return files, problems


def open_manifest(note: bytes, keys: Sequence[VerifierKey]) -> tuple[Manifest, VerifierKey]:
    """Open a manifest signed by one of these keys; returns it and the exporter's key.

    Raises:
        BundleError: Nobody among them signed it, or it is malformed.
    """
    try:
        lines = parse_note(note).lines
        signer = next(
            (key for key in keys if (key.name, key.key_id) == (lines[0].name, lines[0].key_id)), None
        )
        if signer is None:
            raise BundleError("the manifest is signed by nobody the auditor trusts", file=MANIFEST)
        text = signer.open(note)
        manifest = Manifest.model_validate_json(text)
    except NoteError as error:
        raise BundleError(error.sentence, file=MANIFEST) from None
    except ValidationError:
        raise BundleError("the manifest is malformed", file=MANIFEST) from None
    paths = [row.path for row in manifest.files]
    if manifest.text() != text or paths != sorted(set(paths)):
        raise BundleError("the manifest is not canonical", file=MANIFEST)
    return manifest, signer


def compare_files(manifest: Manifest, files: Mapping[str, bytes]) -> list[BundleError]:
    """Compare a bundle's files with its manifest; returns one finding per file that differs."""
    problems = []
    promised = {row.path: row for row in manifest.files}
    for path in sorted(promised.keys() | files.keys() - {MANIFEST}):
        row, content = promised.get(path), files.get(path)
        if row is None:
            problems.append(BundleError("not in the manifest", file=path))
        elif content is None:
            problems.append(BundleError("missing", file=path))
        elif (len(content), blob_digest(content)) != (row.bytes, row.digest):
            problems.append(BundleError("changed since the export", file=path))
    return problems
