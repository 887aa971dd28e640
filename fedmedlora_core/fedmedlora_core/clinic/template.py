"""Sentence templates: literal words, slots for entities and their modifiers, and parts that may be left out.

A slot `{p}` is an entity (p problem, x treatment, t test, d drug; a digit tells them apart), `{p.severity}`
a modifier of it, `{p.negation=no|denies}` one with its words given, `{p,p2.negation=no}` one of two entities.
What stands in `[ ]` is left out half of the time.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from fedmedlora_core.errors import ConfigError

SLOT_TYPES = {"p": "problem", "x": "treatment", "t": "test", "d": "drug"}

_PIECE = re.compile(r"(\{[^}]*\}|[^\s\[\]{}]+|\[|\])")
_SLOT = re.compile(r"^\{([pxtd]\d?(?:,[pxtd]\d?)*)(?:\.([a-z]+)(?:=([^}]+))?)?\}$")


@dataclass(frozen=True, slots=True)
class Word:
    """A literal word."""

    text: str
    optional: int  # number of the bracket it stands in, 0 for none


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for an entity (`modifier` None) or for a modifier of one or more entities."""

    heads: tuple[str, ...]
    modifier: str | None
    choices: tuple[str, ...]
    optional: int

    @property
    def entity_type(self) -> str:
        """Type of the (first) entity."""
        return SLOT_TYPES[self.heads[0][0]]


@dataclass(frozen=True, slots=True)
class Template:
    """A clause: its pieces in order."""

    pieces: tuple[Word | Slot, ...]
    n_optional: int


@functools.cache
def parse_template(line: str) -> Template:
    """Read one template.

    Raises:
        ConfigError: A slot or bracket is malformed, or a modifier can be there without its entity.
    """
    pieces: list[Word | Slot] = []
    bracket, brackets = 0, 0
    if _PIECE.sub("", line).strip():
        raise ConfigError("template: a brace stands alone")
    for text in _PIECE.findall(line):
        if text in "[]":
            if (text == "[") == bool(bracket):
                raise ConfigError("template: brackets do not match")
            brackets += text == "["
            bracket = brackets if text == "[" else 0
        elif text.startswith("{"):
            pieces.append(_parse_slot(text, bracket))
        else:
            pieces.append(Word(text, bracket))
    if bracket:
        raise ConfigError("template: brackets do not match")
    _check_heads(pieces)
    return Template(tuple(pieces), brackets)


def _parse_slot(text: str, bracket: int) -> Slot:
    """Read one slot."""
    match = _SLOT.match(text)
    if match is None:
        raise ConfigError(f"template: slot {text} is malformed")
    heads, modifier, choices = match.groups()
    slot = Slot(
        tuple(heads.split(",")), modifier, tuple(choices.split("|")) if choices else (), optional=bracket
    )
    if modifier is None and len(slot.heads) > 1:
        raise ConfigError(f"template: slot {text} is malformed")
    return slot


def _check_heads(pieces: list[Word | Slot]) -> None:
    """Check that every modifier's entities are there whenever the modifier is."""
    slots = [piece for piece in pieces if isinstance(piece, Slot)]
    where = {slot.heads[0]: slot.optional for slot in slots if slot.modifier is None}
    if len(where) != sum(slot.modifier is None for slot in slots):
        raise ConfigError("template: an entity slot occurs twice")
    for slot in slots:
        for head in slot.heads:
            if head not in where or where[head] not in (0, slot.optional):
                raise ConfigError(f"template: {head} can be missing while a modifier of it is there")
