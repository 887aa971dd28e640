"""A token classifier: masked loss over the tags that a note can answer, prediction over the same tags.

Shapes, as suffixes of names: b batch, t tokens, n words with a tag in the whole batch, l tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.learner import Answers, OnDone, means_by_row
from fedmedlora_core.learning.merging import merged
from fedmedlora_core.learning.tag_paths import best_paths
from fedmedlora_core.records import Entity, Note
from fedmedlora_core.tasks.examples import Task
from fedmedlora_core.tasks.inline import TypedSpan
from fedmedlora_core.tasks.tagging import OUTSIDE, TagExample, read_tags, tag_examples, tag_names
from fedmedlora_core.tasks.windows import MAX_WORDS
from fedmedlora_core.tasks.words import Word

__all__ = ["TagSample", "TaggingLearner"]


@dataclass(frozen=True)
class TagSample:
    """Token ids, and for each word its first token, its gold tag and the tags it may have.

    Args:
        task: The task that the example belongs to.
        ids: Token ids with the model's own marks.
        places: Token of each word of the note.
        words: The words, in the same order.
        gold: Tag number of each word.
        allowed: For each tag, whether this example may use it.
    """

    task: Task
    ids: tuple[int, ...]
    places: tuple[int, ...]
    words: tuple[Word, ...]
    gold: tuple[int, ...]
    allowed: tuple[bool, ...]

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.ids)

    @property
    def counted(self) -> int:
        """Words with a tag."""
        return len(self.places)

    @property
    def finds(self) -> bool:
        """Whether any word has a tag other than outside."""
        return any(self.gold)


class TaggingLearner:
    """A token classifier with an adapter.

    Args:
        model: From `lora.attach`, its output layer one row for each of `tag_names(labels)`.
        tokenizer: The base model's tokenizer (a fast one: it must know words).
        labels: Label set of the study.
        max_tokens: Longest input in tokens; words beyond it are neither trained nor tagged.
        batch_size: Inputs tagged together in prediction.
        max_words: Longest window of a note, in words.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: Any,
        labels: LabelSet,
        *,
        max_tokens: int,
        batch_size: int = 32,
        max_words: int = MAX_WORDS,
    ) -> None:
        """Number the tags."""
        self.model = model
        self.tokenizer = tokenizer
        self.labels = labels
        self.left_out = 0
        self._max_tokens = max_tokens
        self._batch_size = batch_size
        self._max_words = max_words
        self._names = tag_names(labels)
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def samples(self, notes: Sequence[Note], tasks: Sequence[Task]) -> list[TagSample]:
        """Tokenise the training examples of some notes."""
        encoded = self._encode(tag_examples(notes, self.labels, tasks, max_words=self._max_words))
        kept = [sample for sample in encoded if sample.places]
        self.left_out = len(encoded) - len(kept)
        return kept

    def loss(self, batch: Sequence[TagSample]) -> tuple[torch.Tensor, int]:
        """Summed cross-entropy over the words of a batch, among each example's own tags, and their number."""
        logits_nl, gold_n = self._answers(batch)
        return functional.cross_entropy(logits_nl, gold_n, reduction="sum"), len(gold_n)

    def row_losses(self, batch: Sequence[TagSample]) -> torch.Tensor:
        """Mean cross-entropy of each example over its own words; no row depends on another."""
        logits_nl, gold_n = self._answers(batch)
        return means_by_row(functional.cross_entropy(logits_nl, gold_n, reduction="none"), batch)

    def _answers(self, batch: Sequence[TagSample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the words of a batch, row after row, and their gold tags."""
        logits_nl = self._logits(batch)
        return logits_nl, torch.tensor(
            [tag for sample in batch for tag in sample.gold], device=logits_nl.device
        )

    def answer(self, notes: Sequence[Note], task: Task, on_done: OnDone | None = None) -> Answers:
        """Find entities ("ner"), or the relations of each note's own entities ("re")."""
        asked = [note if task == "re" else note.without_gold() for note in notes]
        examples = tag_examples(asked, self.labels, [task], max_words=self._max_words)
        samples = self._encode(examples)
        order = sorted(range(len(samples)), key=lambda index: samples[index].length)
        found: list[tuple[int, Entity | None, tuple[TypedSpan, ...]]] = [(0, None, ())] * len(samples)
        with torch.inference_mode(), reproducible(0), merged(self.model):
            for first in range(0, len(order), self._batch_size):
                rows = order[first : first + self._batch_size]
                for row, spans in zip(rows, self._tag([samples[row] for row in rows]), strict=True):
                    found[row] = (examples[row].note_index, examples[row].head, spans)
                if on_done is not None:
                    on_done(first + len(rows), len(order))
        return Answers(tuple(found), 0)

    def _tag(self, batch: Sequence[TagSample]) -> list[tuple[TypedSpan, ...]]:
        """Spans of each input of a batch."""
        if not any(sample.places for sample in batch):
            return [() for _ in batch]
        paths = best_paths(self._logits(batch), [len(sample.places) for sample in batch], self._names)
        return [
            tuple(read_tags(sample.words, [self._names[tag] for tag in path]))
            for sample, path in zip(batch, paths, strict=True)
        ]

    def _logits(self, batch: Sequence[TagSample]) -> torch.Tensor:
        """Logits of every word of a batch; tags that its example may not use are minus infinity."""
        device = self.model.device
        width = max(sample.length for sample in batch)
        ids_bt = torch.full((len(batch), width), self.tokenizer.pad_token_id, dtype=torch.long)
        mask_bt = torch.zeros((len(batch), width), dtype=torch.long)
        for row, sample in enumerate(batch):
            ids_bt[row, : sample.length] = torch.tensor(sample.ids)
            mask_bt[row, : sample.length] = 1
        logits_btl = self.model.get_base_model()(
            input_ids=ids_bt.to(device), attention_mask=mask_bt.to(device)
        ).logits
        row_n = torch.tensor([row for row, sample in enumerate(batch) for _ in sample.places], device=device)
        place_n = torch.tensor([place for sample in batch for place in sample.places], device=device)
        allowed_bl = torch.tensor([sample.allowed for sample in batch], device=device)
        logits_nl: torch.Tensor = logits_btl[row_n, place_n].float()
        return logits_nl.masked_fill(~allowed_bl[row_n], float("-inf"))

    def _encode(self, examples: Sequence[TagExample]) -> list[TagSample]:
        """Tokenise word by word; a word is tagged at its first token."""
        if not examples:
            return []
        encoded = self.tokenizer(
            [list(example.texts) for example in examples],
            is_split_into_words=True,
            truncation=True,
            max_length=self._max_tokens,
        )
        return [self._sample(example, encoded, row) for row, example in enumerate(examples)]

    def _sample(self, example: TagExample, encoded: Any, row: int) -> TagSample:
        """Align one tokenised input with its words."""
        places: dict[int, int] = {}
        for place, index in enumerate(encoded.word_ids(row)):
            if index is not None and example.words[index] is not None:
                places.setdefault(index, place)
        kept = [(place, word, index) for index, place in places.items() if (word := example.words[index])]
        types = set(example.types)
        return TagSample(
            task="ner" if example.head is None else "re",
            ids=tuple(encoded["input_ids"][row]),
            places=tuple(place for place, _, _ in kept),
            words=tuple(word for _, word, _ in kept),
            gold=tuple(self._numbers[example.tags[index]] for _, _, index in kept),
            allowed=tuple(name == OUTSIDE or name[2:] in types for name in self._names),
        )
