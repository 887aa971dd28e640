"""Made-up words, numbers and acronyms: what the model has to copy without knowing it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from fedmedlora_core.pretraining import words

__all__ = ["Nonsense", "copyable_pieces"]

_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiouy"
_COPYABLE = re.compile(r"[A-Za-z0-9µ°≥'./%+-]+")
_LABELS = frozenset(words.LABEL_WORDS)


def copyable_pieces(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Return the pieces of a byte-level vocabulary that may stand in a made-up word, sorted.

    Without them the rare clinical pieces would keep the embeddings they were initialised with.
    """
    pieces = {piece.removeprefix("Ġ") for piece in vocabulary}
    return tuple(sorted(piece for piece in pieces if _COPYABLE.fullmatch(piece)))


class Nonsense:
    """Draws of one seeded generator: words, phrases and names of kinds that mean nothing."""

    def __init__(self, rng: random.Random, pieces: Sequence[str]) -> None:
        """Draw from ``rng``; ``pieces`` are the vocabulary pieces mixed into the words."""
        self._rng = rng
        self._pieces = pieces

    def syllables(self) -> str:
        """Return a pronounceable made-up word of one to four syllables."""
        rng = self._rng
        word = "".join(
            rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))
        )
        if rng.random() < 0.5:
            word += rng.choice(_CONSONANTS)
        return word

    def joined_pieces(self) -> str:
        """Return one to three vocabulary pieces run together."""
        return "".join(self._rng.choice(self._pieces) for _ in range(self._rng.choice((1, 1, 2, 2, 3))))

    def number(self) -> str:
        """Return a count, a decimal, a ratio or a date."""
        rng = self._rng
        return rng.choice(
            (
                str(rng.randint(0, 99)),
                str(rng.randint(0, 9999)),
                f"{rng.randint(0, 99)}.{rng.randint(0, 9)}",
                f"{rng.randint(50, 220)}/{rng.randint(30, 120)}",
                f"{rng.randint(1, 12):02}/{rng.randint(1, 28):02}/{rng.randint(80, 99)}",
                f"{rng.randint(1, 40)}-{rng.randint(41, 900)}",
            )
        )

    def acronym(self) -> str:
        """Return two to four letters, mostly capitals."""
        rng = self._rng
        text = "".join(rng.choice(_CONSONANTS + _VOWELS) for _ in range(rng.choice((2, 3, 3, 4))))
        return text.upper() if rng.random() < 0.7 else text

    def name(self) -> str:
        """Return a word that could be a name: letters, maybe capitalised."""
        rng = self._rng
        draw = rng.random()
        word = self.joined_pieces() if draw < 0.45 else self.syllables() if draw < 0.85 else self.acronym()
        return word.capitalize() if rng.random() < 0.08 else word

    def word(self) -> str:
        """Return any word to copy: a name, a number or a symbol."""
        draw = self._rng.random()
        if draw < 0.76:
            return self.name()
        return self.number() if draw < 0.90 else self._rng.choice(words.SYMBOLS)

    def phrase(self, longest: int = 4) -> list[str]:
        """Return one to ``longest`` names, short ones more often."""
        count = min(longest, self._rng.choice((1, 1, 1, 2, 2, 3, 4)))
        return [self.name() for _ in range(count)]

    def kind(self) -> str:
        """Return a made-up name of a kind, sometimes of two words; never one of the clinical schema."""
        rng = self._rng
        while True:
            parts = [self.syllables() if rng.random() < 0.5 else self.joined_pieces().lower()]
            if rng.random() < 0.2:
                parts.append(self.syllables())
            name = "_".join(parts)
            if re.fullmatch(r"[a-z][a-z0-9_]*", name) and name not in _LABELS and name not in words.KINDS:
                return name

    def misspell(self, word: str) -> str:
        """Swap two neighbouring letters of a longer word."""
        if len(word) < 4 or not word.isalpha():
            return word
        at = self._rng.randrange(len(word) - 1)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
