"""Train the byte-level tokenizer of the base model: nothing is unknown, a mark or tag is one token."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from fedmedlora_core.pretraining import words
from fedmedlora_core.tasks.words import words_of

__all__ = [
    "CONTROL_TOKENS",
    "TAG_STRINGS",
    "VOCABULARY_SIZE",
    "save_tokenizer",
    "token_id",
    "train_tokenizer",
]

CONTROL_TOKENS: tuple[str, ...] = (
    "<|copy|>",
    "<|html|>",
    "<|list|>",
    "<|re|>",
    "<|txt|>",
    "<|in|>",
    "<|out|>",
    "<|end|>",
    "<|pad|>",
)
TAG_STRINGS: tuple[str, ...] = (' <span class="', '">', " </span>")
VOCABULARY_SIZE = 1536

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxz", "aeiou"


def _syllables(rng: random.Random) -> str:
    """Return a made-up word, so that common letter pairs get a piece of their own."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))


def _texts(phrases: Iterable[str]) -> list[str]:
    """Write phrases as a prompt shows them: words and symbols separated by blanks, a blank in front."""
    return ["".join(f" {word.text}" for word in words_of(phrase.replace("{}", " "))) for phrase in phrases]


def _corpus(seed: int) -> list[str]:
    """Return the weighted texts the byte-pair trainer counts, in a fixed order."""
    rng = random.Random(seed)  # noqa: S311 - reproducible text, no secret
    everyday = [*words.PLAIN, *words.ADJECTIVES, *words.KINDS, *words.MODIFIERS, *words.NEUTRAL]
    for table in (words.FILLERS, words.CONTEXTS, words.MODIFIERS):
        everyday.extend(chain.from_iterable(table.values()))
    clinical, hospital = words.CLINICAL_WORDS, words.HOSPITAL_WORDS
    labels = (*words.LABEL_WORDS, *words.KINDS)
    counted: list[tuple[list[str], int]] = [
        (_texts(everyday), 4),
        (_texts(clinical), 2),
        (_texts(hospital), 6),
        # Long parts of words also stand inside a word, without the blank.
        ([word for word in hospital if len(word) > 3 and word.islower()], 2),
        (_texts(word.capitalize() for word in clinical), 1),
        (_texts(word.upper() for word in clinical if len(word) <= 4), 1),
        # Both places where a label is read or written: after a blank in the prompt, after a quote in the tag.
        ([f" {label}" for label in labels], 12),
        (list(labels), 12),
        ([f" {number}" for number in range(100)], 2),
        ([" " + _syllables(rng) for _ in range(400)], 1),
        ([f" {text}" for text in (*words.HEADINGS, *words.SYMBOLS)], 12),
    ]
    return [text for texts, count in counted for text in texts for _ in range(count)]


def train_tokenizer(seed: int) -> Tokenizer:
    """Train the byte-pair merges and add control tokens and tag strings; the same seed gives the same file.

    A control token swallows the blank to its left, and every word carries the blank before it: so
    ``"drug <|in|> chest pain"`` is ``" drug"``, ``"<|in|>"``, ``" chest"``, ``" pain"``.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(CONTROL_TOKENS) - len(TAG_STRINGS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in TAG_STRINGS])
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True, lstrip=True) for text in CONTROL_TOKENS]
    )
    if tokenizer.get_vocab_size() != VOCABULARY_SIZE:
        raise ValueError(f"vocabulary has {tokenizer.get_vocab_size()} entries, expected {VOCABULARY_SIZE}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that transformers reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": 512,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that must exist.

    Raises:
        KeyError: The tokenizer does not have it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return int(found)
