"""Reading one object of a charter: every field that is missing or wrong is named (AUDIT "Charter")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fedmedlora_audit.errors import CharterError

_ID: Final = re.compile(r"[a-z0-9-]{1,32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Fields:
    """Reads one object of the charter.

    Args:
        values: The object.
        where: Its place in the charter, for errors.

    Every reader raises `CharterError`, which names the field, where it is missing or of another form.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        """Take an object; nothing is read yet."""
        self.values, self.where = values, where

    def section(self, name: str) -> Fields:
        """Read a table."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise CharterError(f"{self.where}.{name} is missing")
        return Fields(value, f"{self.where}.{name}")

    def rows(self, name: str) -> list[Fields]:
        """Read a list of tables."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise CharterError(f"{self.where}.{name} is a list of tables")
        return [Fields(row, f"{self.where}.{name}[{place}]") for place, row in enumerate(value)]

    def text(self, name: str) -> str:
        """Read a text that is not empty."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise CharterError(f"{self.where}.{name} is a text")
        return value

    def identifier(self, name: str) -> str:
        """Read an id."""
        value = self.text(name)
        if not _ID.fullmatch(value):
            raise CharterError(f"{self.where}.{name} is an id of a-z, 0-9 and dashes")
        return value

    def digest(self, name: str) -> str:
        """Read a SHA-256 in hex."""
        value = self.text(name)
        if not _DIGEST.fullmatch(value):
            raise CharterError(f"{self.where}.{name} is 64 hex characters")
        return value

    def number(self, name: str) -> int:
        """Read a whole number from 0 to 2**53 - 1."""
        value = self.values.get(name)
        if not _is_number(value):
            raise CharterError(f"{self.where}.{name} is a whole number")
        return int(self.values[name])

    def numbers(self, name: str) -> tuple[int, ...]:
        """Read a list of whole numbers that is not empty."""
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            raise CharterError(f"{self.where}.{name} is a list of whole numbers")
        return tuple(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
