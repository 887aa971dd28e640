"""How a task is written for a causal model: with control tokens, or as an instruction in words.

A template turns typed values into prompt and target strings and reads answers back; it knows nothing of
models. `TinyTemplate` is for the base model of this project, whose tokenizer has control tokens;
`PlainTemplate` says the same in words, for any other causal model; `JsonTemplate` asks any model for a JSON
list in place of a copy.

Example of `TinyTemplate`:

    <|html|> problem drug <|in|> no chest pain <|out|> no <span class="problem"> chest pain </span> <|end|>
    <|re|> severity negation <|in|> no [ chest pain ] <|out|> negation: no <|end|>

An answer of `JsonTemplate`, for entities and for the modifiers of one head alike:

    [{"entity": "problem", "text": "chest pain"}]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from fedmedlora_core.tasks.inline import (
    Parsed,
    TypedSpan,
    close_tag,
    markable,
    marked_words,
    open_tag,
    parse_marked,
)
from fedmedlora_core.tasks.json_list import ListedEntity, align, listable, read_json, write_json
from fedmedlora_core.tasks.relations import ListedModifier
from fedmedlora_core.tasks.windows import Window
from fedmedlora_core.tasks.words import words_of
from fedmedlora_core.training_terms import AnswerFormat

__all__ = ["CONTROL_TOKENS", "JsonTemplate", "PlainTemplate", "Template", "TinyTemplate", "template_for"]

CONTROL_TOKENS = ("<|html|>", "<|re|>", "<|in|>", "<|out|>", "<|end|>")
"""Control tokens that a tokenizer must have for `TinyTemplate`."""

_NONE = "none"
_LIST_TOKENS = 96
"""Longest list of modifiers as `type: words`, in tokens."""
# A note may hold the very characters of a tag or of a model's special token; a blank inside defuses them and
# changes no offset, because copies are aligned on non-blank characters.
_LOOKS_LIKE_TAG = re.compile(r"<(?=[|/s\[])")
_ITEM = re.compile(r"([a-z][a-z0-9_]*): (.*)", re.DOTALL)


class Template(Protocol):
    """Writes prompts and targets and reads lists of modifiers.

    `end` is the string that ends an answer, or None where the tokenizer's own end mark does.
    """

    end: str | None

    def entity_prompt(self, text: str, window: Window, types: Sequence[str]) -> str:
        """Ask for the entities of `types` in a window."""
        ...

    def entity_target(self, text: str, window: Window, spans: Iterable[TypedSpan]) -> str:
        """Write the answer to `entity_prompt`, without the end mark."""
        ...

    def read_entities(self, output: str, text: str, window: Window, types: Sequence[str]) -> Parsed:
        """Read an answer to `entity_prompt` back into spans of the note."""
        ...

    def relation_prompt(self, text: str, window: Window, head: TypedSpan, types: Sequence[str]) -> str:
        """Ask for the modifiers of one head entity."""
        ...

    def relation_target(self, listed: Sequence[ListedModifier]) -> str:
        """Write the answer to `relation_prompt`, without the end mark."""
        ...

    def read_list(self, output: str) -> tuple[list[ListedModifier], bool]:
        """Read an answer to `relation_prompt`; the flag says that a part was unreadable."""
        ...

    def most_tokens(self, prompt_tokens: int, *, relations: bool) -> int:
        """Most tokens that an answer to a prompt of this length is given."""
        ...


class _Inline:
    """What the two templates with inline mark-up have in common."""

    def read_entities(self, output: str, text: str, window: Window, types: Sequence[str]) -> Parsed:
        """Read an answer to `entity_prompt` back into spans of the note."""
        return parse_marked(output, text, window, types)

    def most_tokens(self, prompt_tokens: int, *, relations: bool) -> int:
        """Most tokens of an answer: a copy with tags, or a short list."""
        return _LIST_TOKENS if relations else prompt_tokens + prompt_tokens // 2 + 24


class TinyTemplate(_Inline):
    """Control tokens, and words separated by single blanks."""

    end: str | None = "<|end|>"

    def entity_prompt(self, text: str, window: Window, types: Sequence[str]) -> str:
        """Ask for the entities of `types` in a window."""
        return _fields("<|html|>", *types, "<|in|>", *_words(text, window.start, window.end), "<|out|>")

    def entity_target(self, text: str, window: Window, spans: Iterable[TypedSpan]) -> str:
        """Write the answer to `entity_prompt`, without the end mark."""
        return "".join(f" {piece.text}" for piece in marked_words(text, window, spans))

    def relation_prompt(self, text: str, window: Window, head: TypedSpan, types: Sequence[str]) -> str:
        """Ask for the modifiers of one head entity, which stands in square brackets."""
        before = _round_brackets(_words(text, window.start, head[0]))
        inside = _round_brackets(_words(text, head[0], head[1]))
        after = _round_brackets(_words(text, head[1], window.end))
        return _fields("<|re|>", *types, "<|in|>", *before, "[", *inside, "]", *after, "<|out|>")

    def relation_target(self, listed: Sequence[ListedModifier]) -> str:
        """Write the answer to `relation_prompt`, without the end mark."""
        items = (f"{item.type}: {' '.join(_round_brackets(item.words.split(' ')))}" for item in listed)
        return " " + (" ; ".join(items) or _NONE)

    def read_list(self, output: str) -> tuple[list[ListedModifier], bool]:
        """Read an answer to `relation_prompt`; the flag says that a part was unreadable."""
        # Words of a note are separated by blanks, so "type:" never occurs inside the words of an item.
        return _read_items(re.split(r" ; (?=[a-z][a-z0-9_]*: )", output.strip()))


class PlainTemplate(_Inline):
    """An instruction in words, the text as it is in the note, tags without blanks, one modifier a line."""

    end: str | None = None

    def entity_prompt(self, text: str, window: Window, types: Sequence[str]) -> str:
        """Ask for the entities of `types` in a window."""
        return (
            f"Copy the text and put {open_tag('TYPE')} and {close_tag()} around each clinical entity.\n"
            f"Types: {', '.join(types)}\nText: {_defuse(text[window.start : window.end])}\nCopy:"
        )

    def entity_target(self, text: str, window: Window, spans: Iterable[TypedSpan]) -> str:
        """Write the answer to `entity_prompt`, without the end mark."""
        tags: dict[int, list[str]] = {}
        chosen = markable(text, window, spans)
        for start, end, label in chosen:
            tags.setdefault(start, []).append(open_tag(label))
            # Closing tags stand before the opening tags of the same place.
            tags.setdefault(end, []).insert(0, close_tag())
        parts, position = [" "], window.start
        for place in sorted(tags):
            parts += [_defuse(text[position:place]), *tags[place]]
            position = place
        return "".join([*parts, _defuse(text[position : window.end])])

    def relation_prompt(self, text: str, window: Window, head: TypedSpan, types: Sequence[str]) -> str:
        """Ask for the modifiers of one head entity, which stands in double square brackets."""
        marked = _marked(text, window, head)
        return (
            f"List what the text says about the {head[2]} in [[ ]], one 'type: words' a line, or '{_NONE}'.\n"
            f"Types: {', '.join(types)}\nText: {marked}\nList:"
        )

    def relation_target(self, listed: Sequence[ListedModifier]) -> str:
        """Write the answer to `relation_prompt`, without the end mark."""
        return "\n" + ("\n".join(f"{item.type}: {item.words}" for item in listed) or _NONE)

    def read_list(self, output: str) -> tuple[list[ListedModifier], bool]:
        """Read an answer to `relation_prompt`; the flag says that a part was unreadable."""
        return _read_items(line.strip() for line in output.strip().split("\n"))


def _marked(text: str, window: Window, head: TypedSpan) -> str:
    """A window with its head in double square brackets."""
    before, inside = text[window.start : head[0]], text[head[0] : head[1]]
    return f"{_defuse(before)}[[ {_defuse(inside)} ]]{_defuse(text[head[1] : window.end])}"


class JsonTemplate:
    """An instruction in words, the text as it is in the note, one JSON list."""

    end: str | None = None

    def entity_prompt(self, text: str, window: Window, types: Sequence[str]) -> str:
        """Ask for the entities of `types` in a window."""
        return (
            "List each clinical entity of the text, in order, as a JSON list of objects with the keys"
            f' "entity" (its type) and "text" (its words).\nTypes: {", ".join(types)}\n'
            f"Text: {_defuse(text[window.start : window.end])}\nJSON:"
        )

    def entity_target(self, text: str, window: Window, spans: Iterable[TypedSpan]) -> str:
        """Write the answer to `entity_prompt`, without the end mark."""
        chosen = listable(text, window, spans)
        items = (ListedEntity(label, " ".join(text[start:end].split())) for start, end, label in chosen)
        return " " + write_json(items)

    def read_entities(self, output: str, text: str, window: Window, types: Sequence[str]) -> Parsed:
        """Read an answer to `entity_prompt` back into spans of the note."""
        items, malformed = read_json(output)
        parsed = align(items, text, window, types)
        return Parsed(parsed.spans, parsed.malformed or malformed)

    def relation_prompt(self, text: str, window: Window, head: TypedSpan, types: Sequence[str]) -> str:
        """Ask for the modifiers of one head entity, which stands in double square brackets."""
        marked = _marked(text, window, head)
        return (
            f"List what the text says about the {head[2]} in [[ ]] as a JSON list of objects with the keys"
            f' "entity" (its type) and "text" (its words).\nTypes: {", ".join(types)}\nText: {marked}\nJSON:'
        )

    def relation_target(self, listed: Sequence[ListedModifier]) -> str:
        """Write the answer to `relation_prompt`, without the end mark."""
        return " " + write_json(ListedEntity(item.type, item.words) for item in listed)

    def read_list(self, output: str) -> tuple[list[ListedModifier], bool]:
        """Read an answer to `relation_prompt`; the flag says that a part was unreadable."""
        items, malformed = read_json(output)
        return [ListedModifier(item.type, item.words) for item in items], malformed

    def most_tokens(self, prompt_tokens: int, *, relations: bool) -> int:
        """Most tokens of an answer: the keys and quotes of a dense sentence are longer than its words."""
        return 2 * prompt_tokens + 64


def template_for(vocabulary: Collection[str], answers: AnswerFormat = "inline") -> Template:
    """Choose the template of a format that a tokenizer's vocabulary can write."""
    if answers == "json":
        return JsonTemplate()
    return TinyTemplate() if all(token in vocabulary for token in CONTROL_TOKENS) else PlainTemplate()


def _fields(*parts: str) -> str:
    """Join the parts of a prompt with single blanks."""
    return " ".join(parts)


def _words(text: str, start: int, end: int) -> list[str]:
    """Words of a piece of a note."""
    return [word.text for word in words_of(text, start, end)]


def _round_brackets(words: list[str]) -> list[str]:
    """Keep square brackets free for the head."""
    return [{"[": "(", "]": ")"}.get(word, word) for word in words]


def _defuse(text: str) -> str:
    """Put a blank after a `<` that could begin a tag or a special token."""
    return _LOOKS_LIKE_TAG.sub("< ", text)


def _read_items(parts: Iterable[str]) -> tuple[list[ListedModifier], bool]:
    """Read `type: words` items; `none` alone is the empty list."""
    listed, malformed = [], False
    texts = list(parts)
    if texts == [_NONE]:
        return [], False
    for part in texts:
        match = _ITEM.fullmatch(part)
        if match is None:
            malformed = True
        else:
            listed.append(ListedModifier(match[1], match[2]))
    return listed, malformed
