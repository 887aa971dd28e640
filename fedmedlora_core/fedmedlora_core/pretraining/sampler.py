"""The tasks of the pretraining: copy, mark spans, list spans, list what belongs to a bracketed head.

Nothing here is clinical: the answers are made of made-up words and everyday things, the kinds are six
everyday ones or made-up names. What the model takes to the clinical tasks is the *form*: copy a sentence
exactly, put a tag around the phrases of the listed kinds, leave the others alone, answer in text order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmedlora_core.pretraining import words
from fedmedlora_core.pretraining.nonsense import Nonsense
from fedmedlora_core.pretraining.sentences import Sentence, SentenceWriter
from fedmedlora_core.tasks.words import words_of

__all__ = ["EXTRA_COPY_SHARE", "SHARES", "Sample", "Sampler"]

SHARES: dict[str, float] = {
    "copy": 0.14,
    "unmarked": 0.12,
    "defined": 0.12,
    "spans": 0.30,
    "relations": 0.26,
    "prose": 0.06,
}
"""How often each task is drawn once the warm-up of copying is over."""

EXTRA_COPY_SHARE = 0.35
"""The part of the draws turned into copying at the start, when the model has to find out how to copy."""

_RELATIONS = tuple(words.MODIFIERS)
_LIST_PART = 0.15
_LONGEST_COPY = 36


@dataclass(frozen=True)
class Sample:
    """One exercise: the loss is on ``target`` only."""

    task: str
    prompt: str
    target: str


class Sampler:
    """An endless, reproducible supply of exercises.

    Args:
        seed: The same seed and pieces give the same exercises.
        pieces: Vocabulary pieces that made-up words are built from (``copyable_pieces``).
    """

    def __init__(self, seed: int, pieces: Sequence[str]) -> None:
        """Seed one generator for everything."""
        self._rng = random.Random(seed)  # noqa: S311 - reproducible exercises, no secret
        self._nonsense = Nonsense(self._rng, pieces)
        self._writer = SentenceWriter(self._rng, self._nonsense)
        self._tasks: dict[str, Callable[[float], Sample]] = {
            "copy": self._copy,
            "unmarked": self._unmarked,
            "defined": self._defined,
            "spans": self._spans,
            "relations": self._relations,
            "prose": self._prose,
        }

    def draw(self, *, extra_copy: float = 0.0, length: float = 1.0) -> Sample:
        """Return the next exercise.

        Args:
            extra_copy: Probability of a copying exercise instead of a draw by ``SHARES``.
            length: 0 to 1, the curriculum: how long a sentence may be, from short to full.
        """
        if self._rng.random() < extra_copy:
            return self._tasks[self._rng.choice(("copy", "copy", "unmarked"))](length)
        task = self._rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
        return self._tasks[task](length)

    def of_task(self, task: str) -> Sample:
        """Return the next exercise of one task at full length."""
        return self._tasks[task](1.0)

    def _clauses(self, length: float) -> int:
        return max(1, round(4 * length))

    def _random_words(self, length: float) -> list[str]:
        rng = self._rng
        count = rng.randint(2, max(4, int(_LONGEST_COPY * length * rng.choice((0.4, 0.6, 1.0)))))
        pool = [self._nonsense.word() for _ in range(count)]
        if rng.random() < 0.3:
            # Few different words, often repeated: the copy must follow the place, not the word.
            pool = [rng.choice(pool[: max(2, count // 3)]) for _ in range(count)]
        return [word.text for word in words_of(" ".join(pool))]

    def _copy(self, length: float) -> Sample:
        text = " ".join(self._random_words(length))
        return Sample("copy", f"<|copy|> <|in|> {text} <|out|>", f" {text} <|end|>")

    def _unmarked(self, length: float) -> Sample:
        """None of the listed kinds occurs: the answer is the sentence as it is."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.6:
            text = " ".join(self._random_words(length))
        elif draw < 0.7:
            text = self._writer.plain(self._clauses(length)).text()
        elif draw < 0.85:
            text = self._writer.heads(self._clauses(length) // 2).text()
        else:
            text = self._writer.things(self._clauses(length)).text()
        kinds = [self._nonsense.kind() for _ in range(rng.randint(1, 6))]
        return Sample("unmarked", f"<|html|> {' '.join(kinds)} <|in|> {text} <|out|>", f" {text} <|end|>")

    def _answer(self, task: str, kinds: Sequence[str], listing: str, sentence: Sentence) -> Sample:
        if self._rng.random() < _LIST_PART:
            found = [f"{span.kind}: {sentence.phrase(span)}" for span in sentence.spans if span.kind in kinds]
            target = " ; ".join(found) or "none"
            return Sample(task, f"<|list|> {listing} <|in|> {sentence.text()} <|out|>", f" {target} <|end|>")
        prompt = f"<|html|> {listing} <|in|> {sentence.text()} <|out|>"
        return Sample(task, prompt, f" {sentence.marked(kinds)} <|end|>")

    def _defined(self, length: float) -> Sample:
        """Mark phrases of kinds that the prompt itself defines: look up, do not remember."""
        rng = self._rng
        lexicon = {
            self._nonsense.kind(): [self._nonsense.phrase(3) for _ in range(rng.randint(1, 3))]
            for _ in range(rng.randint(1, 3))
        }
        sentence = self._writer.defined(lexicon, self._clauses(length))
        listing = " ; ".join(
            f"{kind}: {' , '.join(' '.join(phrase) for phrase in phrases)}"
            for kind, phrases in lexicon.items()
        )
        return self._answer("defined", list(lexicon), listing, sentence)

    def _spans(self, length: float) -> Sample:
        """Mark the everyday things of the listed kinds, and only of those."""
        rng = self._rng
        kinds = [kind for kind in words.KINDS if rng.random() < 0.65] or [rng.choice(words.KINDS)]
        listed = list(kinds)
        if rng.random() < 0.15:
            listed.insert(rng.randint(0, len(listed)), self._nonsense.kind())
        return self._answer("spans", kinds, " ".join(listed), self._writer.things(self._clauses(length)))

    def _relations(self, length: float) -> Sample:
        """List what belongs to the bracketed head, in text order, or ``none``."""
        rng = self._rng
        sentence = self._writer.heads(1 + self._clauses(length) // 2)
        head, modifiers = rng.choice(sentence.heads)
        listed = [kind for kind in _RELATIONS if rng.random() < 0.75]
        if rng.random() < 0.08 or not listed:
            listed = [self._nonsense.kind() for _ in range(rng.randint(2, 8))]
        elif rng.random() < 0.15:
            listed.insert(rng.randint(0, len(listed)), self._nonsense.kind())
        found = [f"{span.kind}: {sentence.phrase(span)}" for span in modifiers if span.kind in listed]
        prompt = f"<|re|> {' '.join(listed)} <|in|> {sentence.bracketed(head)} <|out|>"
        return Sample("relations", prompt, f" {' ; '.join(found) or 'none'} <|end|>")

    def _prose(self, length: float) -> Sample:
        writer = self._writer.things if self._rng.random() < 0.6 else self._writer.plain
        return Sample("prose", "<|txt|>", f" {writer(self._clauses(length)).text()} <|end|>")
