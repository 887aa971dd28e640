"""What is left of an event once its typed values are masked, and the patterns that must not occur in it (P1).

Patterns on raw events say nothing: digests, sizes and times of a clean log are full of what looks like
record numbers. So everything that a type explains is masked first: field names, enums and integers of the
closed schema, digests, key ids, times, and the ids, keys and origin that the trust file names. What is left
in a clean log is a run id and the name of the software. There a date, a number of six digits or more, an
address or a word of a patient's file is a finding.

What this cannot see: a person's name in letters alone, where an id may stand; and a message that somebody
hides in numbers on purpose. The patterns follow the identifiers of 45 CFR 164.514(b)(2).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from fedmedlora_audit.errors import EventError, NoteError
from fedmedlora_audit.event_data import KeyRotated
from fedmedlora_audit.events import KINDS, Event
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.trust import Trust

_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TYPED: Final = re.compile(
    r"[0-9a-f]{64}|u-[0-9a-f]{16}|[1-9]e-[1-9][0-9]?"
    r"|[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z"
)
"""Digests, pseudonyms, the delta of a privacy budget, times."""
_VERSION: Final = re.compile(r"(?<![0-9.])[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")

PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "a number of six digits or more, or a date": re.compile(r"[0-9](?:[ ./:_-]?[0-9]){5}"),
    "a network address": re.compile(
        r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|://|\bwww\.|(?:[0-9a-f]{1,4}::?){4}", re.I
    ),
    "an e-mail address": re.compile(r"@"),
    "a word of a patient's file": re.compile(
        r"(?<![a-z])(?:mrn|ssn|dob|nhs|npi|patient|born|geb|phone|tel|fax|mr|mrs|herr|frau)(?![a-z])", re.I
    ),
    "free text": re.compile(r"\s|[^\x21-\x7e]|\\"),
}
"""What must not occur in the residue of an event, by what it looks like."""


class Residue:
    """Looks for identifiers in what the types of an event do not explain.

    Args:
        trust: Names the ids, keys and origin that every party has agreed to.
    """

    def __init__(self, trust: Trust) -> None:
        """Collect what is known before the log is opened."""
        keys = [trust.log_vkey, trust.coordinator_vkey]
        keys += [key for m in trust.members.values() for key in (m.event_vkey, m.witness_vkey)]
        key_ids = {VerifierKey.parse(key).key_id for key in keys}
        self._members = frozenset(trust.members)
        self._known = {*vocabulary(), trust.origin, *trust.members, *keys, *key_ids}

    def learn(self, data: KeyRotated) -> None:
        """Take in a key that the log brings in later: what it is and that it is one, check K2 says."""
        try:
            key = VerifierKey.parse(data.vkey)
        except NoteError:
            return
        if key.name in self._members:
            self._known |= {data.vkey, key.key_id, data.possession, data.consent or ""}

    def texts(self, text: str) -> Iterator[str]:
        """Every string of an event's canonical JSON that no type explains."""
        # Without a backslash every second piece between quotation marks is a string: faster than a pattern.
        strings = _STRING.findall(text) if "\\" in text else text.split('"')[1::2]
        for found in strings:
            if found not in self._known and not _TYPED.fullmatch(found):
                yield found

    def check(self, note: bytes) -> None:
        """Search one event.

        Args:
            note: The signed note of an event of the closed schema.

        Raises:
            EventError: Of check P1; says what was found, never its text.
        """
        for text in self.texts(note.split(b"\n", 1)[0].decode()):
            for name, pattern in PATTERNS.items():
                if pattern.search(_VERSION.sub("", text)):
                    raise EventError(f"a text outside of all types holds {name}", check="P1")
            self._known.add(text)  # the run id stands in every event: judge it once


@cache
def vocabulary() -> frozenset[str]:
    """Every field name and every word of an enum of the closed schema."""
    models: list[type[BaseModel]] = [Event, *(kind.data for kind in KINDS.values())]
    return frozenset(KINDS) | {word for model in models for word in _words(model)}


def _words(model: type[BaseModel]) -> Iterator[str]:
    for name, entry in model.model_fields.items():
        yield entry.alias or name
        yield from _words_of_type(entry.annotation)


def _words_of_type(annotation: Any) -> Iterator[str]:
    """Words of the enums in a field's type, models inside it included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _words(annotation)
    elif get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    else:
        for part in get_args(annotation):
            yield from _words_of_type(part)
