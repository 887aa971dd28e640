"""The model card: what the base model is, what it was trained on, what it can do before tuning."""

from __future__ import annotations

from fedmedlora_core.pretraining.report import TaskScore
from fedmedlora_core.pretraining.sampler import SHARES
from fedmedlora_core.pretraining.training import Progress, Schedule

__all__ = ["render_card"]

_CARD = """# Base model of the demonstration

A LLaMA-architecture language model of {parameters:,} parameters (4 layers of 128, vocabulary
{vocabulary}, bfloat16 weights), small enough to be tuned with LoRA on a laptop processor. It ships
with the package and is trained again by

    python -m fedmedlora_core.pretraining --out DIR --seed {seed}

## What it was trained on

Exercises drawn by a seeded sampler, no text of any other origin:

{shares}

The answers are made-up words and everyday things (animal, food, tool, place, vehicle, person) with
everyday modifiers (color, size, count, when, cost, state). No clinical sentence is among them, and
no name of the clinical schema is ever a kind to mark or to list. The byte-pair trainer of the
*tokenizer* has seen a list of general clinical words, the words of the synthetic hospitals and the
names of the schema, so that clinical text is not cut into letters; single pieces of that vocabulary
also occur, in random order, in the made-up words that are to be copied.

## What it can do before tuning

Copy a sentence, mark the everyday kinds, list everyday modifiers of a bracketed head. Asked for
kinds it does not know, it copies the sentence unmarked: before tuning it finds no clinical entity.

| exercise (unseen) | tokens right | whole answers right |
|---|---|---|
{scores}

## Training

{steps} steps of about {tokens} tokens ({total:.1f} million in all), one thread, {cpu:.0f} processor
seconds. Muon on the matrices of the layers and AdamW on the rest, learning rate {rate}, {warmup}
steps of warm-up, linear decay over the last {decay:.0%}; for the first 30 % more copying and
shorter sentences. Seed {seed}.

## Not for clinical use

It knows nothing. It is there to show and test federated tuning, not to read anybody's notes.
"""

_TASKS = {
    "copy": "copy a string of made-up words, numbers and symbols",
    "unmarked": "copy a sentence when none of the listed kinds occurs in it",
    "defined": "mark phrases of kinds that the prompt itself defines",
    "spans": "mark everyday things of the listed kinds",
    "relations": "list the everyday modifiers of a bracketed head",
    "prose": "everyday sentences",
}


def render_card(
    scores: dict[str, TaskScore],
    *,
    seed: int,
    schedule: Schedule,
    last: Progress,
    parameters: int,
    vocabulary: int,
) -> str:
    """Return the text of ``MODEL_CARD.md``."""
    shares = "\n".join(f"* {share:.0%} {_TASKS[task]}" for task, share in SHARES.items())
    rows = "\n".join(
        f"| {_TASKS[task]} | {score.token_accuracy:.3f} | {score.exact:.2f} |"
        for task, score in scores.items()
        if task != "prose"
    )
    return _CARD.format(
        parameters=parameters,
        vocabulary=vocabulary,
        seed=seed,
        shares=shares,
        scores=rows,
        steps=schedule.steps,
        tokens=schedule.tokens_per_step,
        total=last.n_tokens / 1e6,
        cpu=last.cpu_seconds,
        rate=schedule.learning_rate,
        warmup=schedule.warmup,
        decay=schedule.decay_part,
    )
