import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fedmedlora_core.pretraining import words
from fedmedlora_core.pretraining.tokenizer import (
    CONTROL_TOKENS,
    TAG_STRINGS,
    VOCABULARY_SIZE,
    save_tokenizer,
    token_id,
    train_tokenizer,
)

BASE_MODEL = Path(words.__file__).parent.parent / "base_model"
TOKENIZER = train_tokenizer(1)


@given(st.text(max_size=60).filter(lambda text: "<|" not in text))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_control_tokens_and_tags_are_one_token_each() -> None:
    for text in (*CONTROL_TOKENS, *TAG_STRINGS):
        assert len(TOKENIZER.encode(text).ids) == 1
    assert TOKENIZER.get_vocab_size() == VOCABULARY_SIZE


def test_a_copied_span_has_the_pieces_of_the_prompt() -> None:
    prompt = TOKENIZER.encode("<|html|> problem <|in|> no chest pain . <|out|>").tokens
    target = TOKENIZER.encode(' no <span class="problem"> chest pain </span> . <|end|>').tokens
    inside = prompt[prompt.index("<|in|>" if "<|in|>" in prompt else " <|in|>") + 1 : -1]
    copied = [piece for piece in target[:-1] if piece not in (*TAG_STRINGS, "problem")]
    assert copied == inside


@given(st.lists(st.sampled_from(words.CLINICAL_WORDS), min_size=1, max_size=12))
def test_prompt_and_target_join_without_a_merge(chosen: list[str]) -> None:
    prompt, target = f"<|re|> kind <|in|> {' '.join(chosen)} <|out|>", f" {' '.join(chosen)} <|end|>"
    joined = TOKENIZER.encode(prompt + target).ids
    assert joined == TOKENIZER.encode(prompt).ids + TOKENIZER.encode(target).ids


def test_the_same_seed_gives_the_same_file_and_it_is_the_shipped_one(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(1), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (BASE_MODEL / name).read_bytes()


def test_every_label_of_the_schema_is_a_kind_a_prompt_can_name() -> None:
    for label in words.LABEL_WORDS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert len(TOKENIZER.encode(f" {label}").ids) <= 3


def test_an_unknown_token_name_is_refused() -> None:
    with pytest.raises(KeyError, match="nonesuch"):
        token_id(Tokenizer.from_str(TOKENIZER.to_str()), "<|nonesuch|>")
