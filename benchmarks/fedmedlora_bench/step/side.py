"""One side of the comparison in processes of its own: our training step, or a bare PEFT loop.

Ours is the loop that sites run. The bare one is what a reader would write with transformers and PEFT: the
model's own switch for gradient checkpointing, its own loss, Accelerate's wrapper for several processes. Both
load the model by the same code and take steps on the same tokens. A peak cannot be taken back, so neither
shares a process with the other.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fedmedlora_bench.cost.plain import bare_step
from fedmedlora_bench.cost.subjects import learner_of, terms_of
from fedmedlora_bench.ie.setting import profile_of
from fedmedlora_bench.resident import forget_peak, peak, resident
from fedmedlora_bench.step.sharding import shard_layers
from fedmedlora_core.errors import CoreError
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.generative import PromptSample
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.recomputing import recomputed
from fedmedlora_core.learning.team import Team, join_team
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import TrainingLoop

__all__ = ["WARM_UP", "Place", "SideFigures", "measure_side"]

WARM_UP = 2
_ANSWERS = 0.6
"""Part of a sequence that the loss counts, as `cost.estimates` assumes."""

Side = Literal["ours", "bare"]
Step = Callable[[Sequence[PromptSample]], float]


@dataclass(frozen=True)
class Place:
    """What one process does; crosses to it as JSON.

    Args:
        side: Whose loop.
        profile: Canonical JSON of the profile.
        folder: Of the base model.
        device: Where this process computes.
        number: Of this process, from 0.
        size: Number of processes.
        meeting: File where they meet.
        shard: Spread the frozen layers over them.
        steps: Steps that count.
    """

    side: Side
    profile: str
    folder: str
    device: str
    number: int
    size: int
    meeting: str
    shard: bool
    steps: int


@dataclass(frozen=True)
class SideFigures:
    """What one process found.

    Args:
        loaded_bytes: Held once the model was loaded, and spread if it was.
        peak_bytes: Most at once while training: of the GPU's allocator, else resident without libraries.
        reserved_bytes: Most that the allocator took from the GPU; 0 on a processor.
        step_seconds: Median of a step.
        first_loss: Of the first step.
        device: Name of the GPU, or "cpu".
    """

    loaded_bytes: int
    peak_bytes: int
    reserved_bytes: int
    step_seconds: float
    first_loss: float
    device: str


def main() -> None:
    """Measure in this process and print the figures."""
    try:
        found = measure_side(Place(**json.loads(sys.argv[1])))
    except CoreError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


def measure_side(place: Place) -> SideFigures:
    """Load, take the steps, and say what they took."""
    profile, before = profile_of(place.profile), resident()
    learner = learner_of(profile, Path(place.folder), device=place.device)
    terms = replace(terms_of(profile), accumulation=1)
    team = join_team(place.number, place.size, Path(place.meeting), device=place.device)
    if place.shard:
        shard_layers(learner.model, size=place.size)
    gpu = place.device != "cpu"
    loaded = torch.cuda.memory_allocated() if gpu else resident() - before
    rows = terms.batch_size * place.size
    batches = _batches(learner, rows, profile.training.max_tokens, place.steps + WARM_UP)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    losses, seconds = _train(place, learner, terms, team, batches)
    return SideFigures(
        loaded_bytes=loaded,
        peak_bytes=torch.cuda.max_memory_allocated() if gpu else peak() - before,
        reserved_bytes=torch.cuda.max_memory_reserved() if gpu else 0,
        step_seconds=statistics.median(seconds[WARM_UP:]),
        first_loss=losses[0],
        device=torch.cuda.get_device_name() if gpu else "cpu",
    )


def _batches(learner: Learner, rows: int, tokens: int, count: int) -> list[list[PromptSample]]:
    """Sequences of random tokens, all as long as the profile allows: the most that a step can take."""
    drawn = np.random.default_rng(0)
    base: Any = learner.model.get_base_model()
    words = int(base.config.vocab_size)
    start = round(tokens * (1 - _ANSWERS))
    return [
        [PromptSample("ner", tuple(drawn.integers(words, size=tokens).tolist()), start) for _ in range(rows)]
        for _ in range(count)
    ]


def _train(
    place: Place, learner: Learner, terms: TrainTerms, team: Team, batches: Sequence[Sequence[PromptSample]]
) -> tuple[list[float], list[float]]:
    """Take the steps; returns losses and seconds."""
    losses, seconds = [], []
    alone = place.device == "cpu" and place.size == 1
    clock = time.process_time if alone else time.perf_counter
    with ExitStack() as stack:
        stack.enter_context(reproducible(0))
        step = _ours(learner, terms, team, stack) if place.side == "ours" else _bare(learner, terms, team)
        for batch in batches:
            begin = clock()
            losses.append(step(batch))
            if place.device != "cpu":
                torch.cuda.synchronize()
            seconds.append(clock() - begin)
    return losses, seconds


def _ours(learner: Learner, terms: TrainTerms, team: Team, stack: ExitStack) -> Step:
    """The loop of a site."""
    loop = TrainingLoop(learner, terms, team)
    stack.enter_context(fused(learner.model))
    stack.enter_context(recomputed(learner.model, wanted=terms.recompute))
    return lambda batch: loop.step(batch, terms.learning_rate)


def _bare(learner: Learner, terms: TrainTerms, team: Team) -> Step:
    """The loop of a reader."""
    model: Any = learner.model
    if terms.recompute:
        model.config.use_cache = False
        _switch_on_recomputing(model.get_base_model())
        model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(parameters, lr=terms.learning_rate, weight_decay=terms.weight_decay)
    if team.size > 1:
        from accelerate import Accelerator

        model, optimizer = Accelerator(cpu=str(model.device) == "cpu").prepare(model, optimizer)
    pad, clip = learner.tokenizer.pad_token_id, terms.gradient_clip
    return lambda batch: bare_step(model, team.share(batch), optimizer, parameters, clip=clip, pad_id=pad)


def _switch_on_recomputing(base: Any) -> None:
    """The model's own switch, which transformers has renamed."""
    options = {"use_reentrant": False}
    if hasattr(base, "activation_checkpointing_enable"):
        base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


if __name__ == "__main__":
    main()
