"""The search of a folder: every file's name and bytes, and every value of every SQLite table.

A mark is never shown: a find names the file, the place inside it, the canary, the kind of mark and how it
was written. A name that holds a mark is withheld.
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fedmedlora_audit.canary.marks import Canaries, CanaryError
from fedmedlora_audit.canary.needles import Needles, told_once
from fedmedlora_audit.canary.stream import PIECE, Place, Stream

WITHHELD: Final = "[withheld]"
_SQLITE: Final = b"SQLite format 3\x00"


class Found(NamedTuple):
    """One mark in one place of one file.

    Attributes:
        file: Path below the folder; parts that hold a mark are withheld.
        place: "" for the file's own bytes, "name", "table …", or the compressed streams that lead there.
        canary: Id of the canary.
        mark: Kind of mark.
        spelling: How it was written.
    """

    file: str
    place: str
    canary: str
    mark: str
    spelling: str


class Unread(NamedTuple):
    """What could not be searched, and why."""

    file: str
    reason: str


@dataclass
class Report:
    """What a search looked at and found.

    Attributes:
        files: Files that were searched.
        bytes: Their bytes as they lie on the disk.
        found: Every find, sorted.
        not_searched: What could not be read to its end.
    """

    files: int = 0
    bytes: int = 0
    found: list[Found] = field(default_factory=list)
    not_searched: list[Unread] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """found, incomplete (nothing found, but not all could be read) or clean."""
        if self.found:
            return "found"
        return "incomplete" if self.not_searched else "clean"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "verdict": self.verdict,
            "files": self.files,
            "bytes": self.bytes,
            "found": [item._asdict() for item in self.found],
            "not_searched": [item._asdict() for item in self.not_searched],
        }


def scan_folder(
    folder: Path,
    canaries: Canaries,
    *,
    skip: Iterable[Path] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Search every file below a folder for the marks of canaries (AUDIT "Canaries").

    Args:
        folder: The folder, or a single file.
        canaries: What to look for.
        skip: Files and folders that are left out.
        on_progress: Called after each file with (files, bytes) so far.

    Returns:
        The report. Links are not followed: their names and targets are searched as text.

    Raises:
        CanaryError: There is no such folder, or no file in it: an empty search would show nothing.
    """
    if not folder.exists():
        raise CanaryError(f"{folder}: there is nothing to search")
    search = _Search(folder, Needles(canaries), frozenset(_own_place(path) for path in skip))
    for path in search.paths():
        search.look_at(path)
        if on_progress is not None:
            on_progress(search.report.files, search.report.bytes)
    if not search.report.files:
        raise CanaryError(f"{folder}: holds no file to search")
    search.report.found.sort()
    search.report.not_searched.sort()
    return search.report


class _Search:
    """One search: goes from file to file and writes the report."""

    def __init__(self, folder: Path, needles: Needles, skip: frozenset[Path]) -> None:
        self._folder = folder
        self._needles = needles
        self._skip = skip
        self.report = Report()

    def paths(self) -> Iterator[Path]:
        """Everything below the folder but what is skipped, in order; names of folders are searched here."""
        if not self._folder.is_dir():
            yield self._folder
            return
        for root, folders, files in os.walk(self._folder, onerror=self._cannot_list):
            here = Path(root)
            folders[:] = sorted(name for name in folders if _own_place(here / name) not in self._skip)
            for name in folders:
                self._look_at_name(here / name)
                if (here / name).is_symlink():
                    self._look_at_link(here / name)
            yield from (here / name for name in sorted(files) if _own_place(here / name) not in self._skip)

    def _cannot_list(self, error: OSError) -> None:
        self._unread(Path(str(error.filename)), error.strerror or "cannot be listed")

    def look_at(self, path: Path) -> None:
        """Search one file."""
        self._look_at_name(path)
        try:
            if path.is_symlink():
                self._look_at_link(path)
            elif stat.S_ISREG(path.stat().st_mode):
                self._look_into(path)
        except OSError as error:
            self._unread(path, error.strerror or "cannot be read")

    def _look_at_name(self, path: Path) -> None:
        self._find(path, {Place("name", hit) for hit in self._needles.search(os.fsencode(path.name))})

    def _look_at_link(self, path: Path) -> None:
        target = os.fsencode(path.readlink())
        self._find(path, {Place("link", hit) for hit in self._needles.search(target)})

    def _look_into(self, path: Path) -> None:
        stream = Stream(self._needles)
        begin = b""
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                begin = begin or piece[: len(_SQLITE)]
                self.report.bytes += len(piece)
                stream.feed(piece)
        self.report.files += 1
        self._end(path, stream)
        if begin == _SQLITE:
            self._look_into_tables(path)

    def _look_into_tables(self, path: Path) -> None:
        """Search the values of a database: in its file a long one lies in pieces, and a number in binary."""
        try:
            database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
            try:
                database.text_factory = bytes
                tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in tables:
                    stream = Stream(self._needles, self._table_name(name))
                    quoted = bytes(name).replace(b'"', b'""').decode()
                    for piece in _pieces(database.execute(f'SELECT * FROM "{quoted}"')):  # noqa: S608 # quoted # nosec B608
                        stream.feed(piece)
                    self._end(path, stream)
            finally:
                database.close()
        except (sqlite3.Error, UnicodeDecodeError):
            self._unread(path, "a database whose tables cannot be read; its bytes were searched")

    def _table_name(self, name: bytes) -> str:
        shown = WITHHELD if self._needles.search(name) else name.decode("utf-8", "replace")
        return f"table {shown}"

    def _end(self, path: Path, stream: Stream) -> None:
        stream.close()
        self._find(path, stream.hits)
        for place in stream.cut_off:
            self._unread(path, f"{place}: a compressed stream that is too long to follow")

    def _find(self, path: Path, places: set[Place]) -> None:
        for place in {item.place for item in places}:
            hits = told_once({item.hit for item in places if item.place == place})
            self.report.found += [Found(self._shown(path), place, *hit) for hit in hits]

    def _unread(self, path: Path, reason: str) -> None:
        self.report.not_searched.append(Unread(self._shown(path), reason))

    def _shown(self, path: Path) -> str:
        """The path below the folder, without parts that hold a mark."""
        below = path.relative_to(self._folder).parts if path != self._folder else (path.name,)
        return "/".join(WITHHELD if self._needles.search(os.fsencode(part)) else part for part in below)


def _own_place(path: Path) -> Path:
    """Where a path itself lies, also if it is a link."""
    return path.parent.resolve() / path.name


def _pieces(rows: Iterable[tuple[object, ...]]) -> Iterator[bytes]:
    """The values of rows, a zero byte after each, many rows at a time."""
    piece = bytearray()
    for row in rows:
        for value in row:
            piece += _bytes_of(value) + b"\x00"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _bytes_of(value: object) -> bytes:
    """A value of a table as text in bytes."""
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
