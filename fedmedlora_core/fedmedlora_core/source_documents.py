"""Documents as a corpus has them: its own names for spans, links and events, before any mapping.

Every importer makes these and nothing else; what becomes of them is decided once, in `importing`. An importer
has checked, when it hands one over, that every span's text is the text that the file claims, and that every
id that is named exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """A span as the corpus has it; `pieces` has one entry unless the span is discontinuous.

    `is_mismatch`: the corpus shows another text than the one at these offsets, and the mapping accepts that.
    """

    id: str
    type: str
    pieces: tuple[tuple[int, int], ...]
    is_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class SourceLink:
    """A relation as the corpus has it, between span ids; `roles` are the names of its ends, if any."""

    type: str
    first: str
    second: str
    roles: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event as the corpus has it: its trigger and arguments are span ids, `roles` the arguments' roles."""

    type: str
    trigger: str
    arguments: tuple[str, ...]
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document with a corpus' own labels; every id that is named exists.

    Args:
        name: Its name, unique in an import.
        text: The text that its offsets count in.
        spans: Its spans.
        links: Its relations.
        events: Its events.
        lines: Annotation lines (or elements) by kind.
        aside: What the format has and a note cannot hold, by name; counted, never read further.
        patient_id: Whose document it is, where the format says so.
        annotated: The corpus' names of what was looked for, where the format says so.
        file: The file that its annotations are in, for errors.
        line: The line in which it begins there.
        text_file: The file whose characters the offsets count, below the folder of the import; None where the
            text was put together by the format's rule.
    """

    name: str
    text: str
    spans: tuple[SourceSpan, ...] = ()
    links: tuple[SourceLink, ...] = ()
    events: tuple[SourceEvent, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    aside: Mapping[str, int] = field(default_factory=dict)
    patient_id: str | None = None
    annotated: frozenset[str] | None = None
    file: str | None = None
    line: int | None = None
    text_file: str | None = None

    def __repr__(self) -> str:
        """Show sizes, never the text."""
        return f"SourceDocument({len(self.text)} characters, {len(self.spans)} spans)"
