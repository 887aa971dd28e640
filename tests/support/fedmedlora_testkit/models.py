"""Small random base models and notes, for tests that need a model but not what it knows."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from fedmedlora_core.records import Entity, Note, Relation

CONTROL_TOKENS = ("<|html|>", "<|re|>", "<|in|>", "<|out|>", "<|end|>", "<|pad|>")
TAG_STRINGS = (' <span class="', '">', " </span>")
FINDINGS = ("fever", "cough", "chest pain", "nausea", "rash", "back pain")
DRUGS = ("aspirin", "heparin", "insulin", "warfarin")


def write_causal(folder: Path, *, control_tokens: bool = True, seed: int = 0) -> Path:
    """Write a random LLaMA with a byte-level tokenizer; without control tokens it is an ordinary model."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if control_tokens:
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in TAG_STRINGS])
    names = CONTROL_TOKENS if control_tokens else ("<|end|>", "<|pad|>")
    tokenizer.add_special_tokens([AddedToken(n, normalized=False, special=True, lstrip=True) for n in names])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|pad|>"}\n'
    )
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=tokenizer.token_to_id("<|pad|>"),
        eos_token_id=tokenizer.token_to_id("<|end|>"),
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Write a random BERT with a character tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(33, 127)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizerFast"}\n')
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder


def make_notes(count: int, *, first: int = 0) -> list[Note]:
    """Write short notes with problems, drugs, negations and strengths, all of them annotated."""
    notes = []
    for index in range(first, first + count):
        finding, drug = FINDINGS[index % len(FINDINGS)], DRUGS[index % len(DRUGS)]
        negated = index % 2 == 0
        text = f"{'No' if negated else 'Has'} {finding} . Takes {drug} {index % 9 + 1} mg daily ."
        entities = [
            _entity("T1", "problem", text, finding),
            _entity("T2", "drug", text, drug),
            _entity("T3", "strength", text, f"{index % 9 + 1} mg"),
        ]
        relations = [Relation("T2", "strength", "T3")]
        if negated:
            entities.append(Entity("T4", "negation", 0, 2))
            relations.append(Relation("T1", "negation", "T4"))
        notes.append(
            Note(
                document_id=f"n{index}",
                patient_id=f"p{index}",
                text=text,
                entities=tuple(entities),
                relations=tuple(relations),
                annotated=frozenset({"problem", "drug", "strength", "negation"}),
            )
        )
    return notes


def _entity(name: str, label: str, text: str, words: str) -> Entity:
    start = text.index(words)
    return Entity(name, label, start, start + len(words))
