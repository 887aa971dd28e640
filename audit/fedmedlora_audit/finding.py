"""One thing that a check found wrong (AUDIT "Verifier")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: Id of the broken check.
        sentence: What is wrong.
        index: Index of the event to blame, if any.
        file: Path of the file to blame, if any.
    """

    check: str
    sentence: str
    index: int | None = None
    file: str | None = None
