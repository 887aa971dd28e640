"""The trainer's process: `python -m fedmedlora_site.trainer`, the only part of a site that imports torch.

It reads one JSON job a line from standard input - a round to train, two adapters to compare on held-out
notes, or one whose finds in them are counted - and answers with JSON lines: progress, then a result or an
error. The trained update goes into the site's vault, encrypted; the line says only that it is there. Errors
name what failed, never a note's text. A state of the unfinished training lies there too, so that a killed
training goes on where it was. With several GPUs this process starts one more for each (`crew`). It dies with
the agent that started it.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError, CoreError, NonFiniteError
from fedmedlora_core.labels import label_set
from fedmedlora_core.records import check_structure, iter_checked
from fedmedlora_core.splits import Splits, split_as_study
from fedmedlora_core.study import Study
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.checkpoints import VaultCheckpoints
from fedmedlora_site.crew import SHORT_EXIT, Crew, Place
from fedmedlora_site.evaluation import COUNT, EVALUATE, CountingJob, EvaluationJob, counts_line
from fedmedlora_site.personal import load_start, personal_name
from fedmedlora_site.shortage import OUT_OF_MEMORY, is_shortage
from fedmedlora_site.training import UPDATE_NAME, TrainingJob
from fedmedlora_site.vault import Vault

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Serve jobs until standard input ends."""
    die_with_parent(os.getppid())
    answers = _private_stdout()
    worker = Worker(Place.parse(sys.argv[1:]))
    for line in sys.stdin:
        job = json.loads(line)
        if EVALUATE in job:
            worker.serve(EvaluationJob(**job[EVALUATE]), answers)
        elif COUNT in job:
            worker.serve(CountingJob(**job[COUNT]), answers)
        else:
            task = TrainingJob(**job)
            worker.gather(task, line)
            worker.serve(task, answers)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies.

    Other systems than Linux have no such call; there the end of standard input ends the process after the
    round it is in.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _private_stdout() -> TextIO:
    """Keep standard output for answers: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return answers


class Worker:
    """Trains rounds; keeps the base model and the notes between them.

    Args:
        place: Which of the processes that train together this one is.
    """

    def __init__(self, place: Place) -> None:
        """Load nothing yet."""
        self._place = place
        self._crew: Crew | None = None
        self._team: Any = None
        self._charter = b""
        self._learner: Any = None
        self._notes_stamp: tuple[str, int, int] | None = None
        self._splits: Splits | None = None

    def gather(self, job: TrainingJob, line: str) -> None:
        """Hand a training to the other processes; the first time, start them."""
        if self._place.number or job.processes == 1:
            return
        if self._crew is None:
            self._crew = Crew(job.processes, "fedmedlora_site.trainer")
            self._place = self._crew.place
        self._crew.send(line)

    def serve(self, job: TrainingJob | EvaluationJob | CountingJob, answers: TextIO) -> None:
        """Do one job and write its answer."""
        try:
            result = self._result(job, answers)
        except NonFiniteError as exc:
            _say(answers, "error", {"reason": "not_finite", "message": str(exc)})
        except (CoreError, ValueError) as exc:
            message = str(exc) if isinstance(exc, CoreError) else type(exc).__name__
            _say(answers, "error", {"reason": "training_failed", "message": message})
        except Exception as exc:  # noqa: BLE001 - the agent must hear of it; the text could quote a note
            short, what = is_shortage(exc), type(exc).__name__
            if self._place.number:  # the others would wait for this one
                raise SystemExit(SHORT_EXIT if short else 1) from None
            message = f"the trainer got no more memory ({what})" if short else what
            reason = OUT_OF_MEMORY if short else "training_failed"
            _say(answers, "error", {"reason": reason, "message": message})
        else:
            _say(answers, "result", result)

    def _result(self, job: TrainingJob | EvaluationJob | CountingJob, answers: TextIO) -> dict[str, Any]:
        if isinstance(job, EvaluationJob):
            return self._evaluate(job)
        return self._count(job) if isinstance(job, CountingJob) else self._train(job, answers)

    def _prepare(self, job: TrainingJob | EvaluationJob | CountingJob) -> tuple[Study, Splits]:
        """Load base model and notes, unless they are there from the job before."""
        charter = Path(job.charter).read_bytes()
        study = Study.from_canonical_json(charter)
        from fedmedlora_core.learning.devices import device_for  # loads torch
        from fedmedlora_core.learning.site_round import learner_for

        if charter != self._charter:
            place = self._place
            # Every process asks for the last one's GPU, so that all of them refuse or none does.
            device_for(job.device, study.training, place=place.size - 1)
            device = device_for(job.device, study.training, place=place.number)
            self._learner = learner_for(study, Path(job.base_model), device=device)
            self._charter = charter
        return study, self._split(Path(job.notes), study)

    def _joined(self) -> Any:
        """The processes that train together; met when first needed."""
        from fedmedlora_core.learning.team import join_team

        if self._team is None:
            place, device = self._place, str(self._learner.model.device)
            self._team = join_team(place.number, place.size, place.meeting, device=device)
        return self._team

    def _evaluate(self, job: EvaluationJob) -> dict[str, Any]:
        study, splits = self._prepare(job)
        from fedmedlora_core.learning.site_round import held_out_losses

        adapters = [Adapter.load(Path(job.before)), Adapter.load(Path(job.after))]
        losses = held_out_losses(self._learner, study, adapters, validation=splits.validation)
        before, after = (loss if math.isfinite(loss) else None for loss in losses)  # JSON has no infinity
        return {"before": before, "after": after}

    def _count(self, job: CountingJob) -> dict[str, Any]:
        study, splits = self._prepare(job)
        from fedmedlora_core.learning.validation import count_on_notes

        if not splits.validation:
            raise ConfigError("validation counts need validation notes")
        return counts_line(
            count_on_notes(self._learner, study, Adapter.load(Path(job.adapter)), splits.validation)
        )

    def _train(self, job: TrainingJob, answers: TextIO) -> dict[str, Any]:
        study, splits = self._prepare(job)
        from fedmedlora_core.learning.site_round import train_round
        from fedmedlora_core.learning.terms import Saving

        key = Path(job.storage_key).read_bytes()
        own = Vault(Path(job.personal), key) if job.personal else None
        progress = _Progress(answers, study.training.local_epochs)
        vault = Vault(Path(job.vault), key)
        checkpoints = VaultCheckpoints(vault, job.checkpoint_seconds)
        update = train_round(
            self._learner,
            study,
            Adapter.load(Path(job.adapter)),
            train=splits.train,
            validation=splits.validation,
            round_number=job.round,
            seed=job.seed,
            personal=None if own is None else load_start(own, job.personal_from),
            on_step=progress.step,
            team=self._joined(),
            checkpoints=checkpoints,
            noise=Keystream(Path(job.noise_key).read_bytes()) if job.noise_key else None,
            saving=Saving(job.micro_batch, job.gradient_checkpointing),
        )
        if self._place.number == 0:
            # R4.11.3: first what stays; a kill between the two repeats the training from where it began.
            if own is not None and update.personal is not None:
                own.store_floats(personal_name(job.round), update.personal)
            vault.store_floats(UPDATE_NAME, update.delta)
            checkpoints.clear()
        loss = float(update.validation_loss)
        return {"n_notes": update.n_notes, "loss": loss, "mentions": dict(update.mentions)}

    def _split(self, path: Path, study: Study) -> Splits:
        found = path.stat()
        stamp = (str(path), found.st_mtime_ns, found.st_size)
        if self._splits is None or stamp != self._notes_stamp:
            labels = label_set(study.labels.entities, study.labels.modifiers)
            notes = (note.restricted_to(labels.types) for note in iter_checked(path, check_structure))
            self._splits = split_as_study(notes, study)
            self._notes_stamp = stamp
        return self._splits


class _Progress:
    """Says how far a round is, at most once a percent: finer steps would count the examples."""

    def __init__(self, answers: TextIO, epochs: int) -> None:
        self._answers = answers
        self._epochs = epochs
        self._said = -1

    def step(self, step: int, steps: int, loss: float) -> None:
        """Report one step of the optimiser."""
        percent = 100 * step // steps
        if percent != self._said:
            epoch = min(self._epochs, 1 + (step - 1) * self._epochs // steps)
            _say(self._answers, "progress", {"epoch": epoch, "epochs": self._epochs, "percent": percent})
            self._said = percent


def _say(answers: TextIO, kind: str, content: dict[str, Any]) -> None:
    answers.write(json.dumps({kind: content}) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
