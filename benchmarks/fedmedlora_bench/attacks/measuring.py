"""What the jobs of `releases` do: train on planted notes, and ask the adapter about them.

Everything an attacker does here needs the released adapter and the base model alone: losses of notes that it
supposes, and answers to prompts that it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedlora_bench.attacks.planted import Secret
from fedmedlora_bench.attacks.ranking import exposure
from fedmedlora_bench.attacks.releases import Exposures, Losses, Release, adapter_of
from fedmedlora_bench.attacks.victim import Victim, is_in, victim_of
from fedmedlora_bench.federation import federate, noise_of
from fedmedlora_bench.systems import train_alone
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.learning.decode import greedy
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.records import Note

__all__ = ["exposures", "losses", "note_losses", "read_out", "release"]

_CANARY_ALTERNATIVES = 16


def release(job: Release) -> tuple[Adapter, dict[str, Any]]:
    """Train as the job says, by the code that trains real studies."""
    victim = victim_of(job.setting, job.options)
    study, notes = victim.study(job.epsilon), victim.drawn(job.draw)
    made, learner = victim.prepared.made, victim.prepared.learner
    if job.way == "federated":
        adapter, _ = federate(study, learner, made.initial, notes)
    else:
        site = victim.site
        adapter = train_alone(
            study,
            made.base,
            made.initial,
            notes[site],
            name=site,
            learner=learner,
            noise_of=noise_of(study, site),
        )
    trained = notes.values() if job.way == "federated" else [notes[victim.site]]
    told: dict[str, Any] = {
        "adapter_digest": adapter.digest,
        "training_notes": sum(len(parts.train) for parts in trained),
    }
    if study.privacy is not None:
        told["privacy"] = study.privacy.model_dump(mode="json", exclude={"orders"})
    return adapter, told


def losses(job: Losses, work: Path) -> dict[str, Any]:
    """Losses of single sentences of every patient, and each canary's advantage over other labels."""
    victim = victim_of(job.setting, job.options)
    learner = _loaded(victim, adapter_of(job.release, work))
    draw = 0 if job.release is None else job.release.draw
    patients = [
        {
            "site": site,
            "patient": patient,
            "in": is_in(victim.seed, draw, patient),
            "losses": [float(loss) for note in notes for loss in note_losses(learner, [note])],
        }
        for site in victim.prepared.sites
        for patient, notes in victim.patients(site).items()
    ]
    canaries = [
        {
            "canary": canary.id,
            "in": is_in(victim.seed, draw, canary.id),
            "advantage": _advantage(learner, canary, victim.seed),
        }
        for canary in victim.canaries
    ]
    return {"patients": patients, "canaries": canaries}


def exposures(job: Exposures, work: Path) -> dict[str, Any]:
    """Exposure in bits and share extracted of every planted secret."""
    victim = victim_of(job.setting, job.options)
    learner = _loaded(victim, adapter_of(job.release, work))
    found = []
    for secret in victim.secrets:
        others = secret.alternatives(victim.options.alternatives)
        own, *rest = note_losses(learner, [secret.note(), *(secret.note(value) for value in others)])
        found.append(
            {
                "secret": secret.id,
                "kind": secret.kind,
                "repetitions": secret.repetitions,
                "alternatives": len(others),
                "exposure_bits": exposure(float(own), np.asarray(rest)),
                "extracted": read_out(learner, secret),
            }
        )
    return {"secrets": found}


def note_losses(learner: Learner, notes: Sequence[Note]) -> NDArray[np.float64]:
    """Summed loss of each training example of some notes, one forward pass each."""
    samples = learner.samples(notes, ("ner",))
    with torch.inference_mode():
        return np.asarray([float(learner.loss([sample])[0]) for sample in samples], dtype=np.float64)


def _advantage(learner: Learner, canary: Secret, seed: int) -> float:
    """How much likelier a canary's labels are than other labels of the same words, in nats."""
    draws = np.random.default_rng([seed, *canary.id.encode()])
    every = canary.alternatives(0)
    count = min(_CANARY_ALTERNATIVES, len(every))
    chosen = [every[index] for index in draws.choice(len(every), size=count, replace=False)]
    own, *rest = note_losses(learner, [canary.note(), *(canary.note(value) for value in chosen)])
    return float(np.mean(rest) - own)


def read_out(learner: Learner, secret: Secret) -> float:
    """Share of a secret that greedy decoding writes: its digits from the lead, its labels from the words.

    Digits are asked for where the model copies a text that ends before them, so it must know them by heart.
    """
    if secret.kind == "labels":
        answers = learner.answer([secret.note().without_gold()], "ner")
        found = {(start, end): kind for _, _, spans in answers.spans for start, end, kind in spans}
        wanted = [(entity.start, entity.end, entity.type) for entity in secret.note().entities]
        return sum(found.get((start, end)) == kind for start, end, kind in wanted) / len(wanted)
    if not isinstance(learner, GenerativeLearner):
        return 0.0  # a tagger writes no words
    return _continued(learner, secret)


def _continued(learner: GenerativeLearner, secret: Secret) -> float:
    """Share of digits, from the first on, that follow the lead in the answer."""
    note = Note("lead", "lead", secret.lead, (), (), secret.annotated)
    (sample,) = learner.samples([note], ("ner",))
    prompt = list(sample.ids[:-1])  # the answer so far, without its end
    wanted = learner.tokenizer(" " + " ".join(secret.value), add_special_tokens=False)["input_ids"]
    (output,) = greedy(
        learner.model,
        [prompt],
        end_id=-1,  # an end mark would be a wrong digit
        pad_id=learner.tokenizer.pad_token_id,
        limits=[len(wanted)],
        batch_size=1,
    )
    right = 0
    for found, expected in zip(output.ids, wanted, strict=False):
        if found != expected:
            break
        right += 1
    return right / len(wanted)


def _loaded(victim: Victim, folder: Path | None) -> Learner:
    learner = victim.prepared.learner
    adapter = victim.prepared.made.initial if folder is None else Adapter.load(folder)
    load_adapter(learner.model, adapter)
    return learner
