"""The characters of a source file as they are, and an error that names the line where they are none.

Every importer reads its files here: UTF-8, no newline translated, lines parted by line feeds alone, so that
offsets and line numbers mean the same everywhere.
"""

from __future__ import annotations

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


def lines_of(text: str) -> list[str]:
    """The lines of a file, without the line feeds and carriage returns that end them."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def is_storable(text: str) -> bool:
    """Whether a text is whole Unicode; JSON can smuggle in halves of characters, which no file can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
