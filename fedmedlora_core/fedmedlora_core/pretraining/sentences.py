"""Everyday sentences with the spans that are in them, word by word."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from fedmedlora_core.pretraining import words
from fedmedlora_core.pretraining.nonsense import Nonsense
from fedmedlora_core.tasks.words import words_of

__all__ = ["Sentence", "SentenceWriter", "Span"]

_DIGITS = re.compile(r"\d+")
_BEFORE = ("count", "size", "color", "state")
_AFTER = ("state", "when", "cost")


@dataclass(frozen=True)
class Span:
    """Words ``start`` to ``end`` (exclusive) are a ``kind``."""

    start: int
    end: int
    kind: str


@dataclass
class Sentence:
    """Words, the spans among them, and which modifier spans belong to which head span."""

    words: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    heads: list[tuple[Span, list[Span]]] = field(default_factory=list)

    def extend(self, text: Iterable[str]) -> None:
        """Append words that belong to no span, cut as the tasks cut a note into words."""
        self.words.extend(word.text for word in words_of(" ".join(text)))

    def add(self, text: Iterable[str], kind: str) -> Span:
        """Append words that are a span and return the span."""
        start = len(self.words)
        self.extend(text)
        span = Span(start, len(self.words), kind)
        self.spans.append(span)
        return span

    def text(self) -> str:
        """Return the words separated by blanks."""
        return " ".join(self.words)

    def marked(self, kinds: Collection[str]) -> str:
        """Return the text with every span of one of ``kinds`` in a tag, blanks around the tags."""
        starts = {span.start: span.kind for span in self.spans if span.kind in kinds}
        ends = {span.end for span in self.spans if span.kind in kinds}
        out: list[str] = []
        for index, word in enumerate(self.words):
            if index in ends:
                out.append("</span>")
            if index in starts:
                out.append(f'<span class="{starts[index]}">')
            out.append(word)
        if len(self.words) in ends:
            out.append("</span>")
        return " ".join(out)

    def bracketed(self, head: Span) -> str:
        """Return the text with ``head`` between ``[`` and ``]``."""
        before, inside, after = (
            self.words[: head.start],
            self.words[head.start : head.end],
            self.words[head.end :],
        )
        return " ".join([*before, "[", *inside, "]", *after])

    def phrase(self, span: Span) -> str:
        """Return the words of ``span``."""
        return " ".join(self.words[span.start : span.end])


class SentenceWriter:
    """Writes sentences of one seeded generator."""

    def __init__(self, rng: random.Random, nonsense: Nonsense) -> None:
        """Draw from ``rng``; made-up words come from ``nonsense``."""
        self._rng = rng
        self._nonsense = nonsense

    def plain(self, longest: int) -> Sentence:
        """Return clauses without any named thing in a list of kinds, up to ``longest`` clauses."""
        sentence = Sentence()
        self._join(
            sentence, [lambda: sentence.extend(self._rng.choice(words.PLAIN).split())] * self._count(longest)
        )
        return self._restyle(sentence)

    def things(self, longest: int) -> Sentence:
        """Return up to ``longest`` clauses that name everyday things, some by a made-up name."""
        sentence = Sentence()
        self._join(sentence, [lambda: self._thing_clause(sentence)] * self._count(longest))
        return self._restyle(sentence)

    def defined(self, lexicon: dict[str, list[list[str]]], longest: int) -> Sentence:
        """Return clauses around the made-up phrases of ``lexicon`` (kind to phrases), and others."""
        sentence = Sentence()
        kinds = list(lexicon)

        def clause() -> None:
            rng = self._rng
            before, _, after = rng.choice(words.NEUTRAL).partition("{}")
            sentence.extend(before.split())
            if rng.random() < 0.75:
                kind = rng.choice(kinds)
                sentence.add(rng.choice(lexicon[kind]), kind)
            else:
                sentence.extend(self._nonsense.phrase())
            sentence.extend(after.split())
            if rng.random() < 0.3:
                sentence.extend([self._nonsense.word() for _ in range(rng.randint(1, 3))])

        self._join(sentence, [clause] * self._count(longest))
        return sentence

    def heads(self, longest: int) -> Sentence:
        """Return clauses that each name one head with up to four modifiers before and after it."""
        sentence = Sentence()
        self._join(sentence, [lambda: self._head_clause(sentence)] * self._count(longest))
        return sentence

    def _count(self, longest: int) -> int:
        return self._rng.randint(1, max(1, longest))

    def _join(self, sentence: Sentence, clauses: Sequence[Callable[[], None]]) -> None:
        rng = self._rng
        if rng.random() < 0.15:
            heading = rng.choice(words.HEADINGS) if rng.random() < 0.5 else self._nonsense.name().upper()
            sentence.extend([heading, ":"])
        for index, clause in enumerate(clauses):
            if index:
                sentence.extend([rng.choice((",", ",", "and", ";", ".", "but", "or", "with", "/"))])
            clause()
        if rng.random() < 0.6:
            sentence.extend(["."])

    def _thing_clause(self, sentence: Sentence) -> None:
        rng = self._rng
        if rng.random() < 0.12:
            sentence.extend(rng.choice(words.PLAIN).split())
            return
        kind = rng.choice(words.KINDS)
        clear = rng.random() < 0.6
        before, _, after = rng.choice(words.CONTEXTS[kind] if clear else words.NEUTRAL).partition("{}")
        sentence.extend(before.split())
        if rng.random() < 0.2:
            self._modifiers(sentence, 1)
        sentence.add(self._name(kind, clear=clear), kind)
        sentence.extend(after.split())

    def _name(self, kind: str, *, clear: bool) -> list[str]:
        """Return a listed name, or a made-up one where the clause or the ending tells its kind."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.35 and clear:
            return self._nonsense.phrase()
        if draw < 0.55:
            return [
                *self._nonsense.phrase(2)[1:],
                self._nonsense.syllables() + rng.choice(words.ENDINGS[kind]),
            ]
        return rng.choice(words.FILLERS[kind]).split()

    def _modifiers(self, sentence: Sentence, count: int) -> None:
        """Append modifiers as plain words: they are not among the kinds of a span task."""
        for kind in self._rng.sample(_BEFORE, count):
            sentence.extend(self._modifier(kind))

    def _modifier(self, kind: str) -> list[str]:
        rng = self._rng
        text = rng.choice(words.MODIFIERS[kind])
        return _DIGITS.sub(lambda found: str(rng.randint(1, 10 ** len(found[0]) - 1 or 1)), text).split()

    def _head_clause(self, sentence: Sentence) -> None:
        rng = self._rng
        modifiers: list[Span] = []
        before, _, after = rng.choice(words.NEUTRAL[:10]).partition("{}")
        sentence.extend(word for word in before.split() if word != "no")
        for kind in _BEFORE:
            if rng.random() < 0.3:
                modifiers.append(sentence.add(self._modifier(kind), kind))
        if rng.random() < 0.1:
            sentence.extend([rng.choice(words.ADJECTIVES)])
        if rng.random() < 0.15:
            first = sentence.add(self._head_name(), "")
            # What stands before both belongs to both.
            sentence.heads.append((first, list(modifiers)))
            sentence.extend([rng.choice(("or", "and", ",", "/"))])
        head = sentence.add(self._head_name(), "")
        for kind in _AFTER:
            if rng.random() < 0.3:
                sentence.extend(rng.choice(((), (), (",",), ("was",), ("(",))))
                modifiers.append(sentence.add(self._modifier(kind), kind))
        sentence.extend(after.split())
        sentence.heads.append((head, modifiers))

    def _head_name(self) -> list[str]:
        if self._rng.random() < 0.4:
            return self._nonsense.phrase()
        return self._rng.choice(words.FILLERS[self._rng.choice(words.KINDS)]).split()

    def _restyle(self, sentence: Sentence) -> Sentence:
        """Give the sentence a hand of its own: capitals, lower case, swapped letters; spans stay."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.15:
            sentence.words = [word.lower() for word in sentence.words]
        elif draw < 0.20:
            sentence.words = [word.upper() for word in sentence.words]
        elif draw < 0.40:
            sentence.words[0] = sentence.words[0].capitalize()
        if rng.random() < 0.15:
            sentence.words = [
                self._nonsense.misspell(word) if rng.random() < 0.15 else word for word in sentence.words
            ]
        return sentence
