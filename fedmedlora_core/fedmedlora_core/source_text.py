"""The characters of a source file as they are, and an error that names the line where they are none.

Every importer reads its files here: UTF-8, no newline translated, lines parted by line feeds alone, so that
offsets and line numbers mean the same everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fedmedlora_core.errors import DataError


def read_text(path: Path, name: str) -> str:
    """Read a file.

    Args:
        path: The file.
        name: What errors call it: its path below the folder of the import.

    Raises:
        DataError: It cannot be read, or is not UTF-8 (with the line of the first bad byte).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(error.strerror or "cannot be read", file=name) from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError("is not valid UTF-8", file=name, line=line) from None


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder and of those below it, in no order.

    Raises:
        DataError: A folder cannot be read, or one is a link. (`Path.rglob` passes over both in silence: half
            an import.)
    """

    def refuse(error: OSError) -> None:
        raise DataError(error.strerror or "cannot be read", file=str(error.filename)) from None

    for root, folders, names in os.walk(folder, onerror=refuse):
        for path in map(Path(root).joinpath, [*folders, *names]):
            if path.is_file():
                yield path
            elif path.is_symlink():
                raise DataError("is a link to a folder or to nothing; give the folder itself", file=str(path))


def files_matching(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """The files whose names fit, of a folder and of those below it, in the order of their paths.

    Raises:
        DataError: A name would fit if it were in small letters (half an import); or a folder cannot be read.
    """
    found = []
    for path in files_below(folder):
        if names.search(path.name):
            found.append(path)
        elif names.search(path.name.lower()):
            raise DataError("its ending has capitals; write it in small letters", file=str(path))
    return sorted(found)


def files_named(folder: Path, suffix: str) -> list[Path]:
    """The files with an ending, of a folder and of those below it, in the order of their paths.

    Raises:
        DataError: There is none; see `files_matching`.
    """
    files = files_matching(folder, re.compile(rf"{re.escape(suffix)}$"))
    if not files:
        raise DataError(f"holds no {suffix} files", file=str(folder))
    return files


def lines_of(text: str) -> list[str]:
    """The lines of a file of annotations, without what ends them and without a byte order mark before them.

    Windows editors write such a mark; no offset counts in these files, so it stands for nothing.
    """
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def is_storable(text: str) -> bool:
    """Whether a text is whole Unicode; JSON can smuggle in halves of characters, which no file can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
