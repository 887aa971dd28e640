"""Train the base model again: ``python -m fedmedlora_core.pretraining --out DIR --seed N``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import LlamaForCausalLM

from fedmedlora_core.pretraining.card import render_card
from fedmedlora_core.pretraining.model import save_model
from fedmedlora_core.pretraining.report import score_tasks
from fedmedlora_core.pretraining.tokenizer import train_tokenizer
from fedmedlora_core.pretraining.training import Progress as Step
from fedmedlora_core.pretraining.training import Schedule, pretrain


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fedmedlora_core.pretraining", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=Schedule.steps)
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        default=0,
        metavar="N",
        help="also save to DIR/step-N, DIR/step-2N, ...",
    )
    parser.add_argument(
        "--exercises", type=int, default=200, metavar="N", help="unseen exercises of each task for the card"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train with a progress bar, score on unseen exercises, and write the model with its card."""
    arguments = _arguments(argv)
    console = Console(stderr=True)
    schedule = Schedule(steps=arguments.steps)
    tokenizer = train_tokenizer(arguments.seed)
    columns = (
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("pretraining", total=schedule.steps, loss=float("nan"))
        last: list[Step] = []

        def on_step(step: Step, model: LlamaForCausalLM) -> None:
            bar.update(task, completed=step.step, loss=step.loss)
            last[:] = [step]
            if arguments.checkpoint_every and step.step % arguments.checkpoint_every == 0:
                save_model(model, tokenizer, arguments.out / f"step-{step.step}")
                model.eval()  # type: ignore[no-untyped-call]
                scores = score_tasks(model, tokenizer)
                model.train()
                cells = "  ".join(
                    f"{name} {s.token_accuracy:.3f}/{s.exact:.2f}" for name, s in scores.items()
                )
                console.print(
                    f"step {step.step}  {step.cpu_seconds:.0f} CPU s  {step.n_tokens} tokens  {cells}"
                )

        model = pretrain(tokenizer, seed=arguments.seed, schedule=schedule, on_step=on_step)
    save_model(model, tokenizer, arguments.out)
    scores = score_tasks(model, tokenizer, count=arguments.exercises)
    card = render_card(
        scores,
        seed=arguments.seed,
        schedule=schedule,
        last=last[0],
        parameters=model.num_parameters(),
        vocabulary=tokenizer.get_vocab_size(),
    )
    (arguments.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    console.print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
