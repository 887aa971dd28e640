from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedmedlora_core.pretraining.__main__ import main
from fedmedlora_core.pretraining.batches import batches, encode, to_batch
from fedmedlora_core.pretraining.model import build_model
from fedmedlora_core.pretraining.nonsense import copyable_pieces
from fedmedlora_core.pretraining.report import score_tasks
from fedmedlora_core.pretraining.sampler import Sample, Sampler
from fedmedlora_core.pretraining.tokenizer import token_id, train_tokenizer
from fedmedlora_core.pretraining.training import Progress, Schedule, answer_logits, pretrain

TOKENIZER = train_tokenizer(1)
PIECES = copyable_pieces(list(TOKENIZER.get_vocab()))
SHORT = Schedule(steps=3, warmup=1, tokens_per_step=512)


def test_the_rate_ramps_up_stays_and_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, warmup=50, decay_part=0.4)
    factors = [schedule.factor(step) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert factors[49:600] == [1.0] * 551
    assert factors[999] == pytest.approx(1 / 400)
    assert factors[600:] == sorted(factors[600:], reverse=True)


def test_batches_keep_to_the_step_count_and_the_token_budget() -> None:
    made = list(batches(Sampler(1, PIECES), TOKENIZER, steps=70, tokens=1024))
    assert len(made) == 70
    assert max(batch.n_tokens for batch in made) <= 1024


def test_the_loss_is_on_the_answer_only() -> None:
    rows = encode(TOKENIZER, [Sample("copy", "<|copy|> <|in|> a b <|out|>", " a b <|end|>")] * 2)
    batch = to_batch(rows, token_id(TOKENIZER, "<|pad|>"))
    logits, labels = answer_logits(build_model(TOKENIZER, 1), batch)
    assert TOKENIZER.decode(labels.tolist(), skip_special_tokens=False).split() == [
        "a",
        "b<|end|>",
        "a",
        "b<|end|>",
    ]
    assert logits.shape[0] == labels.shape[0]


def test_padding_does_not_change_the_loss_of_a_row() -> None:
    short = Sample("copy", "<|copy|> <|in|> a <|out|>", " a <|end|>")
    long = Sample("copy", "<|copy|> <|in|> a b c d e f <|out|>", " a b c d e f <|end|>")
    model, pad = build_model(TOKENIZER, 1), token_id(TOKENIZER, "<|pad|>")
    alone, _ = answer_logits(model, to_batch(encode(TOKENIZER, [short]), pad))
    padded, _ = answer_logits(model, to_batch(encode(TOKENIZER, [short, long]), pad))
    torch.testing.assert_close(padded[: len(alone)], alone)


def test_the_same_seed_gives_the_same_weights() -> None:
    seen: list[Progress] = []
    first = pretrain(TOKENIZER, seed=4, schedule=SHORT, on_step=lambda progress, _: seen.append(progress))
    second = pretrain(TOKENIZER, seed=4, schedule=SHORT)
    other = pretrain(TOKENIZER, seed=5, schedule=SHORT)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)
    assert [progress.step for progress in seen] == [1, 2, 3]


def test_an_untrained_model_scores_near_zero() -> None:
    scores = score_tasks(build_model(TOKENIZER, 1), TOKENIZER, count=8, tasks=("copy", "spans"))
    assert scores["copy"].exact == 0.0
    assert scores["spans"].token_accuracy < 0.1


def test_the_command_writes_a_model_that_transformers_loads(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--seed", "2", "--steps", "2", "--exercises", "3"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "<|re|> kind <|in|> no [ x ] <|out|>"
    assert tokenizer(text)["input_ids"] == train_tokenizer(2).encode(text).ids
    assert model.num_parameters() < 1_000_000
    assert "Seed 2." in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
