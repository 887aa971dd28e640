"""A causal model that writes answers: loss on the answer alone, and prediction by greedy decoding.

Shapes, as suffixes of names: b batch, t tokens, n answer positions of the whole batch, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import LabelSet
from fedmedlora_core.learning.decode import greedy
from fedmedlora_core.learning.learner import Answers, OnDone, means_by_row
from fedmedlora_core.records import Note
from fedmedlora_core.tasks.examples import Example, Task, examples_of, read_output
from fedmedlora_core.tasks.templates import Template, template_for
from fedmedlora_core.tasks.windows import MAX_WORDS
from fedmedlora_core.training_terms import AnswerFormat

__all__ = ["GenerativeLearner", "PromptSample"]

_SPECIAL_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True)
class PromptSample:
    """Token ids of a prompt followed by its answer and the end mark.

    `finds` says whether the answer names anything; most heads of relations have no tail.
    """

    task: Task
    ids: tuple[int, ...]
    answer_start: int
    finds: bool = True

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.ids)

    @property
    def counted(self) -> int:
        """Answer tokens, the end mark among them."""
        return len(self.ids) - self.answer_start


class GenerativeLearner:
    """A causal model with an adapter.

    Args:
        model: From `lora.attach`.
        tokenizer: The base model's tokenizer.
        labels: Label set of the study.
        max_tokens: Longest prompt with answer, in tokens.
        batch_size: Prompts decoded together.
        max_words: Longest window of a note, in words.
        answers: How the model is asked to write what it found.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: Any,
        labels: LabelSet,
        *,
        max_tokens: int,
        batch_size: int = 96,
        max_words: int = MAX_WORDS,
        answers: AnswerFormat = "inline",
    ) -> None:
        """Choose the template that the tokenizer can write."""
        self.model = model
        self.tokenizer = tokenizer
        self.labels = labels
        self.left_out = 0
        self.template: Template = template_for(tokenizer.get_vocab(), answers)
        self._nothing = self.template.relation_target(())
        self._max_tokens = max_tokens
        self._batch_size = batch_size
        self._max_words = max_words
        end = self.template.end
        self._end_id = tokenizer.eos_token_id if end is None else tokenizer.convert_tokens_to_ids(end)
        if self._end_id is None:
            raise ConfigError("the base model's tokenizer has no end-of-text token")
        config = model.get_base_model().config
        # These models change logits after the output layer, so theirs are computed by their own forward.
        self._own_head = any(getattr(config, name, None) for name in _SPECIAL_HEADS)

    def samples(self, notes: Sequence[Note], tasks: Sequence[Task]) -> list[PromptSample]:
        """Tokenise the training examples of some notes; what is longer than `max_tokens` is left out."""
        examples = self._examples(notes, tasks)
        prompts = self._prompt_ids(examples)
        answers = self._encode([example.target for example in examples], special=False)
        found = [
            PromptSample(
                example.task, (*prompt, *answer, self._end_id), len(prompt), example.target != self._nothing
            )
            for example, prompt, answer in zip(examples, prompts, answers, strict=True)
        ]
        kept = [sample for sample in found if sample.length <= self._max_tokens]
        self.left_out = len(found) - len(kept)
        return kept

    def loss(self, batch: Sequence[PromptSample]) -> tuple[torch.Tensor, int]:
        """Summed cross-entropy over the answer tokens of a batch, and how many there are."""
        logits_nv, wanted_n = self._answers(batch)
        return functional.cross_entropy(logits_nv, wanted_n, reduction="sum"), len(wanted_n)

    def row_losses(self, batch: Sequence[PromptSample]) -> torch.Tensor:
        """Mean cross-entropy of each example over its own answer tokens; no row depends on another."""
        logits_nv, wanted_n = self._answers(batch)
        return means_by_row(functional.cross_entropy(logits_nv, wanted_n, reduction="none"), batch)

    def _answers(self, batch: Sequence[PromptSample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at the answer positions of a batch, row after row, and the tokens that belong there.

        Padding is on the right, where causal attention never looks, so no attention mask is needed.
        """
        device = self.model.device
        width = max(sample.length for sample in batch)
        ids_bt = torch.full((len(batch), width), self.tokenizer.pad_token_id, dtype=torch.long)
        rows: list[int] = []
        columns: list[int] = []
        for row, sample in enumerate(batch):
            ids_bt[row, : sample.length] = torch.tensor(sample.ids)
            places = range(sample.answer_start - 1, sample.length - 1)
            rows += [row] * len(places)
            columns += places
        row_n, column_n = torch.tensor(rows), torch.tensor(columns)
        wanted_n = ids_bt[row_n, column_n + 1].to(device)
        logits_nv = self._logits(ids_bt.to(device), row_n.to(device), column_n.to(device))
        return logits_nv.float(), wanted_n

    def answer(self, notes: Sequence[Note], task: Task, on_done: OnDone | None = None) -> Answers:
        """Find entities ("ner"), or the relations of each note's own entities ("re")."""
        examples = self._examples([note if task == "re" else note.without_gold() for note in notes], [task])
        prompts = self._prompt_ids(examples)
        outputs = greedy(
            self.model,
            prompts,
            end_id=self._end_id,
            pad_id=self.tokenizer.pad_token_id,
            limits=[self._limit(example, len(ids)) for example, ids in zip(examples, prompts, strict=True)],
            batch_size=self._batch_size,
            on_done=on_done,
        )
        found, malformed = [], 0
        for example, output in zip(examples, outputs, strict=True):
            text = self.tokenizer.decode(
                output.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            parsed = read_output(example, notes[example.note_index], self.template, text)
            malformed += parsed.malformed or not output.ended
            found.append((example.note_index, example.head, parsed.spans))
        return Answers(tuple(found), malformed)

    def _examples(self, notes: Sequence[Note], tasks: Sequence[Task]) -> list[Example]:
        """Prompts with gold targets, in the words of this model's template."""
        return examples_of(notes, self.labels, self.template, tasks, max_words=self._max_words)

    def _prompt_ids(self, examples: Sequence[Example]) -> list[list[int]]:
        """Tokenise prompts, with the model's beginning mark where it has one."""
        found = self._encode([example.prompt for example in examples], special=True)
        end = self.tokenizer.eos_token_id
        return [ids[:-1] if ids and ids[-1] == end else ids for ids in found]

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Tokenise texts; an empty list gives an empty list."""
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=special,
            # A template without control tokens needs none: a note with the characters of one is text.
            split_special_tokens=self.template.end is None,
            verbose=False,
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def _limit(self, example: Example, prompt_tokens: int) -> int:
        """Most tokens an answer may have."""
        wanted = self.template.most_tokens(prompt_tokens, relations=example.task == "re")
        return max(1, min(wanted, self._positions() - prompt_tokens))

    def _positions(self) -> int:
        """Longest sequence that the base model can attend over."""
        return int(getattr(self.model.get_base_model().config, "max_position_embeddings", 1 << 20))

    def _logits(self, ids_bt: torch.Tensor, row_n: torch.Tensor, column_n: torch.Tensor) -> torch.Tensor:
        """Logits at the answer positions only: the output layer is a large share of a small model's cost."""
        model: Any = self.model.get_base_model()
        if self._own_head:
            whole: torch.Tensor = model(input_ids=ids_bt, use_cache=False).logits
            return whole[row_n, column_n]
        hidden_btd = model.base_model(input_ids=ids_bt, use_cache=False).last_hidden_state
        logits_nv: torch.Tensor = model.get_output_embeddings()(hidden_btd[row_n, column_n])
        return logits_nv
