"""The file of marks: which canary patients a hospital keeps among its notes (AUDIT "Canaries").

    {"schema": "fedmedlora-canaries/1",
     "canaries": [{"id": "site-a-1", "marks": {"name": "…", "record": "…"}}]}

The file never leaves the hospital: who knows the marks can avoid them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedmedlora_audit.errors import AuditError

MIN_MARK: Final = 8
"""Shortest mark, in characters without blanks and dashes: shorter ones occur by chance."""
MIN_HEX_MARK: Final = 10
"""Shortest mark of nothing but digits and a to f: digests are full of short ones."""
MAX_MARK: Final = 128

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Mark = Annotated[str, Field(max_length=MAX_MARK)]


class CanaryError(AuditError):
    """The file of marks, or the folder to search, is not one: nothing was searched (the operator's)."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence; it never holds a mark."""
        super().__init__(sentence, check="P1")


class Canary(BaseModel):
    """One invented patient.

    Args:
        id: How reports call it.
        marks: Kind of mark to its text; a kind is a word such as name or record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    marks: Annotated[Mapping[Name, Mark], Field(min_length=1)]

    def __repr__(self) -> str:
        """Show the id, never a mark."""
        return f"Canary({self.id}, {len(self.marks)} marks)"

    __str__ = __repr__


class _File(BaseModel):
    """The content of a file of marks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["fedmedlora-canaries/1"] = Field(alias="schema")
    canaries: Annotated[tuple[Canary, ...], Field(min_length=1)]


def squeezed(text: str) -> str:
    """The text in small letters without what people put between groups of digits."""
    return "".join(character for character in text.lower() if character not in " \t\r\n:-")


def occurs_in_digests(text: str) -> bool:
    """Whether a text in small letters is so short and plain that hexadecimal digests hold it by chance."""
    return len(text) < MIN_HEX_MARK and set(text) <= set("0123456789abcdef")


@dataclass(frozen=True)
class Canaries:
    """The canary patients to look for.

    Args:
        canaries: At least one; ids and marks occur once.
    """

    canaries: tuple[Canary, ...]

    def __post_init__(self) -> None:
        """Refuse marks that a search could not rely on.

        Raises:
            CanaryError: A mark is short or occurs twice, an id occurs twice or gives a mark away.
        """
        ids = [canary.id for canary in self.canaries]
        if not ids or len(set(ids)) != len(ids):
            raise CanaryError("a file of marks names at least one canary, and each once")
        marks = [squeezed(text) for canary in self.canaries for text in canary.marks.values()]
        texts = [text.lower() for canary in self.canaries for text in canary.marks.values()]
        if any(len(mark) < MIN_MARK for mark in marks) or any(map(occurs_in_digests, texts)):
            raise CanaryError(
                f"a mark has at least {MIN_MARK} letters or digits, {MIN_HEX_MARK} if it has only "
                "digits and a to f: a shorter one occurs by chance"
            )
        if len(set(marks)) != len(marks):
            raise CanaryError("a mark occurs twice: a find could not be told apart")
        words = [word for canary in self.canaries for word in (canary.id, *canary.marks)]
        if any(mark in squeezed(word) for mark in marks for word in words):
            raise CanaryError("the id of a canary or of a mark holds a mark: reports would show it")

    @classmethod
    def load(cls, files: Iterable[Path]) -> "Canaries":
        """Read files of marks, one hospital's or several.

        Raises:
            CanaryError: A file cannot be read or is not a file of marks; the message shows no mark.
        """
        found: list[Canary] = []
        for path in files:
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                found += _File.model_validate(content).canaries
            except OSError as error:
                raise CanaryError(f"{path}: {error.strerror or 'cannot be read'}") from None
            except ValidationError as error:
                where = ".".join(
                    str(part) for part in error.errors(include_input=False)[0]["loc"] if isinstance(part, int)
                )
                raise CanaryError(
                    f"{path}: not a file of marks (entry {where or 'of the top level'})"
                ) from None
            except (ValueError, RecursionError):
                raise CanaryError(f"{path}: is not JSON") from None
        return cls(tuple(found))
