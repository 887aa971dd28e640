"""Switching single checks of the auditor off: for tests alone, the product has no such switch.

Every finding passes one place, so a check that is off finds nothing there. Form (E1) is also what makes an
event readable at all: with E1 off a reader is in its place that takes any spelling and drops fields it does
not know, as a careless verifier would; with G32 off, low-order keys are keys.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from pydantic import ValidationError

from fedmedlora_audit import note as note_module
from fedmedlora_audit import opening, verify
from fedmedlora_audit.events import Event, UnverifiedEvent
from fedmedlora_audit.note import parse_note


@contextmanager
def without(*checks: str) -> Iterator[None]:
    """Judge without these checks inside the block."""
    find = verify._Audit.find

    def found(
        audit: Any, check: str, sentence: str, index: int | None = None, file: str | None = None
    ) -> None:
        if check not in checks:
            find(audit, check, sentence, index, file)

    with ExitStack() as off:
        off.enter_context(patch.object(verify._Audit, "find", found))
        if "E1" in checks:
            off.enter_context(patch.object(opening, "parse_event", _careless))
        if "G32" in checks:
            off.enter_context(patch.object(note_module, "LOW_ORDER_KEYS", frozenset()))
        yield


def _careless(note: bytes) -> UnverifiedEvent:
    """Read an event as a reader without E1 would."""
    table = json.loads(parse_note(note).text)
    try:
        return UnverifiedEvent(Event.model_validate_json(json.dumps(table)), parse_note(note))
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] != "extra_forbidden":
                raise
            *path, last = problem["loc"]
            part = table
            for step in path:
                part = part[step]
            del part[last]
    return UnverifiedEvent(Event.model_validate_json(json.dumps(table)), parse_note(note))
